/*
 * The terminal of `reevectl run -t`, held as a shell holds it for a job: the command's process
 * group is in the foreground; when the command stops, so do we, with the terminal taken back for
 * whoever waits for us; at the end the modes and the foreground are as they were. The child itself
 * goes to the foreground before its exec (manager/child.c), so no read of its can come too early.
 * SIGTTOU is blocked in this process: we may do all this from the background.
 */
#include "keeper/keeper.h"

#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>

#define TTY STDIN_FILENO

static bool is_ours(void)
{
	return tcgetpgrp(TTY) == getpgrp();
}

/* A container's first process may have been given a terminal that controls nobody yet. */
static int make_ours(void)
{
	if (tcgetsid(TTY) == getsid(0))
		return 0;
	if (getsid(0) != getpid() && setsid() < 0)
		return -ENOTTY;
	return ioctl(TTY, TIOCSCTTY, 0) < 0 ? -errno : 0;
}

int terminal_begin(struct keeper *k)
{
	struct terminal *t = &k->run.term;
	int err = make_ours();

	if (err < 0)
		return err;
	/* In the background: as any program that reads, we wait until we are called. */
	if (!is_ours())
		signals_suspend(k, SIGTTIN);
	if (!is_ours())
		return -EBUSY;
	t->modes_known = tcgetattr(TTY, &t->modes) == 0;
	t->given = true;
	return 0;
}

/* At once, not when the output is written: a terminal held by Ctrl-S would hold us. */
static void take_back(struct terminal *t)
{
	if (t->modes_known)
		tcsetattr(TTY, TCSANOW, &t->modes);
	tcsetpgrp(TTY, getpgrp());
	t->given = false;
}

void terminal_end(struct keeper *k)
{
	if (k->run.term.given)
		take_back(&k->run.term);
}

/* The CONT that woke us is answered here. */
static void forget_cont(void)
{
	const struct timespec now = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCONT);
	sigtimedwait(&set, NULL, &now);
}

void terminal_stopped(struct keeper *k)
{
	struct terminal *t = &k->run.term;
	pid_t pid;

	if (t->given) {
		t->theirs_known = tcgetattr(TTY, &t->theirs) == 0;
		take_back(t);
	}
	signals_suspend(k, SIGTSTP);
	forget_cont();
	terminal_resume(k);
	pid = run_pid(k);
	if (pid)
		kill_one(k, pid, SIGCONT, CONF_TO_PGRP);
}

void terminal_resume(struct keeper *k)
{
	struct terminal *t = &k->run.term;
	pid_t pid = run_pid(k);

	if (k->run.mode != RUN_TERMINAL || t->given || !pid || !is_ours())
		return;
	if (t->theirs_known)
		tcsetattr(TTY, TCSANOW, &t->theirs);
	t->given = tcsetpgrp(TTY, getpgid(pid)) == 0;
}
