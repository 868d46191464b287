/* Crashes. Owns one alternate stack a thread, so that a stack overflow can be reported, too. */
#include "lib/runner/crash.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STACK_BYTES 65536

static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP };
static const char *const names[] = { "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE",
				     "SIGABRT", "SIGSYS", "SIGTRAP" };

#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

/* In the executable's own thread-local storage: readable in a signal handler. */
static const char **slot_of_thread(void)
{
	static _Thread_local const char *slot;

	return &slot;
}

static void add(char *line, size_t *len, size_t size, const char *text)
{
	while (*text && *len < size)
		line[(*len)++] = *text++;
}

/* The action is the default one again by now (SA_RESETHAND): raised again it ends the process. */
static void on_crash(int number)
{
	const char *slot = *slot_of_thread(), *name = "a signal";
	char line[160];
	size_t len = 0;

	for (size_t i = 0; i < SIGNALS; i++)
		if (signals[i] == number)
			name = names[i];
	add(line, &len, sizeof(line) - 1, "reeve-runner: ");
	add(line, &len, sizeof(line) - 1, slot ? slot : "the host");
	add(line, &len, sizeof(line) - 1, " crashed: ");
	add(line, &len, sizeof(line) - 1, name);
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0)
		len = 0;
	raise(number);
}

void crash_install(void)
{
	struct sigaction action = { .sa_handler = on_crash,
				    .sa_flags = SA_RESETHAND | SA_NODEFER | SA_ONSTACK };

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < SIGNALS; i++)
		sigaction(signals[i], &action, NULL);
}

void crash_enter(const char *slot)
{
	stack_t stack = { .ss_sp = malloc(STACK_BYTES), .ss_size = STACK_BYTES };

	*slot_of_thread() = slot;
	if (stack.ss_sp)
		sigaltstack(&stack, NULL);
}

void crash_leave(void)
{
	stack_t none = { .ss_flags = SS_DISABLE }, was = { 0 };

	*slot_of_thread() = NULL;
	if (sigaltstack(&none, &was) == 0)
		free(was.ss_sp);
}

void crash_unblock(sigset_t *mask)
{
	for (size_t i = 0; i < SIGNALS; i++)
		sigdelset(mask, signals[i]);
}
