/*
 * Signals and the journal. A handler counts, writes one journal line with a single write(2) and
 * carries out its action; everything in it is async-signal-safe. These are the puppet's only
 * file-level variables: a handler gets no argument of ours.
 */
#include "puppet.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum action { ACT_COUNT, ACT_GO, ACT_EXIT, ACT_SLOW };

#define JOURNAL_FD 230 /* high, so that what a worker was given keeps its numbers */

static int journal = -1;
static volatile sig_atomic_t went, dying, counts[65];
static enum action actions[65];
static long values[65], naps_ms[65];

static size_t put_text(char *buf, size_t at, size_t size, const char *text)
{
	while (*text && at + 1 < size)
		buf[at++] = *text++;
	return at;
}

static size_t put_number(char *buf, size_t at, size_t size, long long n)
{
	char digits[24];
	int used = 0;
	if (n < 0) {
		at = put_text(buf, at, size, "-");
		n = -n;
	}
	do {
		digits[used++] = '0' + n % 10;
		n /= 10;
	} while (n);
	while (used && at + 1 < size)
		buf[at++] = digits[--used];
	return at;
}

/* "MICROSECONDS PID WORD TEXT", one write: lines of many processes never mix. */
void journal_write(const char *word, const char *text)
{
	char line[1024];
	if (journal < 0)
		return;
	size_t at = put_number(line, 0, sizeof(line) - 1, puppet_now_us());
	at = put_text(line, at, sizeof(line) - 1, " ");
	at = put_number(line, at, sizeof(line) - 1, getpid());
	at = put_text(line, at, sizeof(line) - 1, " ");
	at = put_text(line, at, sizeof(line) - 1, word);
	at = put_text(line, at, sizeof(line) - 1, " ");
	at = put_text(line, at, sizeof(line) - 1, text);
	line[at++] = '\n';
	if (write(journal, line, at) < 0)
		_exit(PUPPET_FAILED);
}

void journal_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		puppet_fail(path);
	journal = fcntl(fd, F_DUPFD_CLOEXEC, JOURNAL_FD);
	if (journal < 0)
		journal = fd; /* a low limit */
	else
		close(fd);
}

void journal_close(void)
{
	if (journal >= 0)
		close(journal);
	journal = -1;
}

int journal_fd(void)
{
	return journal;
}

bool signal_went(void)
{
	return went;
}

int signal_number(const char *name)
{
	if (!name)
		puppet_fail("signal");
	if (!strcmp(name, "RTMIN"))
		return SIGRTMIN;
	if (!strcmp(name, "IO"))
		return SIGIO;
	for (int n = 1; n < 32; n++)
		if (sigabbrev_np(n) && !strcmp(sigabbrev_np(n), name))
			return n;
	int n = atoi(name);
	if (n < 1 || n > 64)
		puppet_fail(name);
	return n;
}

static void nap(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

static void handler(int n, siginfo_t *info, void *context)
{
	int saved = errno;
	char text[128];
	size_t at = 0;
	const char *name = n < 32 ? sigabbrev_np(n) : NULL;
	counts[n]++;
	at = name ? put_text(text, at, 100, name) : put_number(text, at, 100, n);
	at = put_text(text, at, 100, " ");
	at = put_number(text, at, 100, counts[n]);
	at = put_text(text, at, 100, " from ");
	at = put_number(text, at, 100, info->si_pid);
	text[at] = '\0';
	journal_write("signal", text);
	if (actions[n] == ACT_GO)
		went = 1;
	if (actions[n] == ACT_EXIT)
		_exit(values[n]);
	if (actions[n] == ACT_SLOW && !dying) {
		dying = 1;
		nap(naps_ms[n]);
		journal_write("saved", "");
		_exit(values[n]);
	}
	errno = saved;
}

static void install(int n, struct sigaction a)
{
	sigemptyset(&a.sa_mask);
	a.sa_flags |= SA_NODEFER;
	if (sigaction(n, &a, NULL) < 0)
		puppet_fail("sigaction");
}

/* on=TERM,INT:count | :go | :exit:CODE | :slow:MS:CODE */
static void verb_on(struct puppet *p, char *arg, struct words body)
{
	char *names = puppet_piece(&arg, ':');
	char *what = puppet_piece(&arg, ':');
	for (char *name; (name = puppet_piece(&names, ','));) {
		int n = signal_number(name);
		char *rest = arg ? strdup(arg) : NULL, *cursor = rest;
		actions[n] = ACT_COUNT;
		if (what && !strcmp(what, "go"))
			actions[n] = ACT_GO;
		if (what && !strcmp(what, "exit"))
			actions[n] = ACT_EXIT;
		if (what && !strcmp(what, "slow")) {
			actions[n] = ACT_SLOW;
			naps_ms[n] = puppet_number(puppet_piece(&cursor, ':'));
		}
		if (actions[n] == ACT_EXIT || actions[n] == ACT_SLOW)
			values[n] = puppet_number(puppet_piece(&cursor, ':'));
		free(rest);
		install(n, (struct sigaction){ .sa_sigaction = handler, .sa_flags = SA_SIGINFO });
	}
}

static void verb_ignore(struct puppet *p, char *arg, struct words body)
{
	for (char *name; (name = puppet_piece(&arg, ','));)
		install(signal_number(name), (struct sigaction){ .sa_handler = SIG_IGN });
}

static void verb_default(struct puppet *p, char *arg, struct words body)
{
	for (char *name; (name = puppet_piece(&arg, ','));)
		install(signal_number(name), (struct sigaction){ .sa_handler = SIG_DFL });
}

static void verb_block(struct puppet *p, char *arg, struct words body)
{
	sigset_t set;
	sigemptyset(&set);
	for (char *name; (name = puppet_piece(&arg, ','));)
		sigaddset(&set, signal_number(name));
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Until a `go` signal, else for ever. */
static void verb_wait(struct puppet *p, char *arg, struct words body)
{
	sigset_t all, old;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	while (!went)
		sigsuspend(&old);
	went = 0;
	sigprocmask(SIG_SETMASK, &old, NULL);
}

static void verb_die(struct puppet *p, char *arg, struct words body)
{
	int n = signal_number(arg);
	struct rlimit none = { 0, 0 };
	sigset_t set;
	setrlimit(RLIMIT_CORE, &none);
	if (n != SIGKILL && n != SIGSTOP && n != 32 && n != 33)
		install(n, (struct sigaction){ .sa_handler = SIG_DFL });
	sigemptyset(&set);
	sigaddset(&set, n);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	kill(getpid(), n);
	/* Signals whose default is to do nothing get here. */
}

static void verb_stop(struct puppet *p, char *arg, struct words body)
{
	journal_write("stopping", "");
	kill(getpid(), SIGSTOP);
	journal_write("continued", "");
}

static void verb_journal(struct puppet *p, char *arg, struct words body)
{
	journal_open(arg);
}

static void verb_token(struct puppet *p, char *arg, struct words body)
{
	char text[64];
	snprintf(text, sizeof(text), "%s %s", p->index, p->incarnation);
	journal_write("start", text);
}

static void verb_note(struct puppet *p, char *arg, struct words body)
{
	journal_write("note", arg ? arg : "");
}

static void verb_sleep(struct puppet *p, char *arg, struct words body)
{
	nap(puppet_number(arg));
}

static void verb_kill(struct puppet *p, char *arg, struct words body)
{
	pid_t pid = puppet_number(puppet_piece(&arg, ':'));
	if (pid <= 1 || kill(pid, signal_number(arg)) < 0)
		journal_write("kill-error", strerrorname_np(pid <= 1 ? EINVAL : errno));
}

const struct verb signal_verbs[] = {
	{ "on", verb_on },	 { "ignore", verb_ignore },   { "default", verb_default },
	{ "block", verb_block }, { "wait", verb_wait },	      { "die", verb_die },
	{ "stop", verb_stop },	 { "journal", verb_journal }, { "token", verb_token },
	{ "note", verb_note },	 { "sleep", verb_sleep },     { "kill", verb_kill },
	{ NULL, NULL },
};
