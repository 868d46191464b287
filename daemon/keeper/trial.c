/*
 * The first second of a new image, the one exception to "no handlers": if it crashes or hangs, the
 * old image is put back in the same process. The handlers run on a stack of their own, at whose
 * bottom stands all they need; the kernel tells them where that is. Before the keeper is complete
 * they pass on what they were given, unchanged; after that, what there is now.
 */
#include "keeper/trial.h"

#include "keeper/pass.h"

#include "base/mem.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

#define STACK_BYTES (256u * 1024u)
/* The longest turn of a loop that is well, on a busy machine. */
#define TRIAL_S 2

struct trial {
	struct pass pass;
	char *const *argv;
	pid_t pid;		/* a child between fork and exec has our handlers too */
	const struct keeper *k; /* NULL: not complete yet */
};

static const int crashes[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP, SIGALRM };

static void come_back(int signal, siginfo_t *si, void *context)
{
	const ucontext_t *uc = context;
	struct trial *g = uc->uc_stack.ss_sp;
	struct pass p;
	int old;

	if (!g || g->pid != getpid())
		_exit(128 + signal);
	p = g->pass;
	old = p.old;
	p.old = -1;
	p.signal = signal;
	if (g->k)
		pass_write(g->k, &p, NULL);
	pass_exec(&p, old, g->argv);
	_exit(128 + signal);
}

static void arm(int seconds)
{
	const struct itimerval t = { .it_value.tv_sec = seconds };

	setitimer(ITIMER_REAL, &t, NULL);
}

static void set_handlers(bool on)
{
	struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND };
	sigset_t alarm;

	sa.sa_sigaction = come_back;
	sigfillset(&sa.sa_mask);
	if (!on)
		sa = (struct sigaction){ .sa_handler = SIG_DFL };
	for (size_t i = 0; i < ARRAY_LEN(crashes); i++)
		sigaction(crashes[i], &sa, NULL);
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(on ? SIG_UNBLOCK : SIG_BLOCK, &alarm, NULL);
}

int trial_begin(const struct pass *p, char *const *argv, struct trial **ret)
{
	struct trial *g =
		mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const stack_t stack = { .ss_sp = g, .ss_size = STACK_BYTES };

	if (g == MAP_FAILED)
		return -errno;
	*g = (struct trial){ .pass = *p, .argv = argv, .pid = getpid() };
	if (pass_prepare(&g->pass) < 0 || sigaltstack(&stack, NULL) < 0) {
		free(g->pass.env);
		munmap(g, STACK_BYTES);
		return -errno;
	}
	set_handlers(true);
	arm(TRIAL_S);
	*ret = g;
	return 0;
}

void trial_complete(struct trial *g, const struct keeper *k)
{
	g->k = k;
}

void trial_go_on(struct trial *g)
{
	if (g)
		arm(TRIAL_S);
}

void trial_hold(struct trial *g, bool hold)
{
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	if (g)
		sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &alarm, NULL);
}

int trial_give_up(struct trial *g, const char *why)
{
	struct pass p = g->pass;
	char text[sizeof(((struct keeper_state *)0)->why)] = { 0 };
	int old = p.old, err = 0;

	p.old = -1;
	memcpy(text, why, strnlen(why, sizeof(text) - 1));
	trial_hold(g, true);
	if (g->k)
		err = pass_write(g->k, &p, text);
	else if (pwrite(p.state, text, sizeof(text), offsetof(struct keeper_state, why)) < 0)
		err = -errno;
	if (err == 0)
		err = pass_exec(&p, old, g->argv);
	trial_hold(g, false);
	return err;
}

void trial_end(struct trial **g)
{
	const stack_t none = { .ss_flags = SS_DISABLE };

	if (!*g)
		return;
	arm(0);
	set_handlers(false);
	sigaltstack(&none, NULL);
	pass_fini(&(*g)->pass);
	munmap(*g, STACK_BYTES);
	*g = NULL;
}
