/*
 * `reevectl run`: one command in place of a configuration. Our signals are the command's, our exit
 * code is its code. Both work without the manager: the command's pid and its exit record are in the
 * ledger, and this process is the one that may signal it.
 *
 * What somebody sends to us, the command's main process gets; what a terminal sends to everybody in
 * the foreground, its whole process group gets, which would have it without us. A second TERM or
 * INT is the cold stop: whoever starts a command by hand must be able to end it.
 */
#include "keeper/keeper.h"

#include "base/clock.h"
#include "base/mem.h"
#include "ledger/command.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

/* A second signal sooner than this is the first one, typed twice (SH04). */
#define SECOND_MS 250
/* What a shell says of a command that is not there, and of one that cannot be executed. */
#define CODE_ABSENT  127
#define CODE_NO_EXEC 126

/* Not the command's: what says that this process is broken, and what is our own affair. */
static const int kept[] = { SIGCHLD, SIGABRT, SIGBUS,  SIGFPE,	SIGILL,
			    SIGSEGV, SIGSYS,  SIGTRAP, SIGKILL, SIGSTOP };

static uint64_t bit_of(int signal)
{
	return 1ull << (signal - 1);
}

int run_begin(struct keeper *k, const struct conf *conf)
{
	struct run *r = &k->run;

	if (r->mode == RUN_NONE)
		return 0;
	r->limit_ms = conf->daemon.shutdown_timeout_ms;
	r->command = command_write(k->options->command);
	if (r->command < 0)
		return r->command;
	return r->mode == RUN_TERMINAL ? terminal_begin(k) : 0;
}

void run_end(struct keeper *k)
{
	terminal_end(k);
	close_fd(&k->run.command);
}

void run_signals(const struct keeper *k, sigset_t *set)
{
	if (k->run.mode == RUN_NONE)
		return;
	sigfillset(set);
	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		sigdelset(set, kept[i]);
}

static bool is_command(const struct keeper *k, uint32_t row)
{
	const struct ledger_life *life = ledger_life(&k->ledger, row);

	return atomic_load(&life->use) == LIFE_MADE && life->kind == LIFE_WORKER;
}

/* One life at a time: all others are helpers. */
pid_t run_pid(const struct keeper *k)
{
	uint32_t high = atomic_load(&k->ledger.h->lives_high);

	for (uint32_t row = 0; row < high && row < LEDGER_ROWS; row++) {
		if (is_command(k, row) && ledger_life_live(&k->ledger, row))
			return (pid_t)atomic_load(&k->ledger.pids[row]);
	}
	return 0;
}

static void forward(struct keeper *k, int signal, bool group)
{
	pid_t pid = run_pid(k);

	if (pid)
		kill_one(k, pid, signal, group ? CONF_TO_PGRP : CONF_TO_MAIN);
	else if (!k->run.ended)
		k->run.waiting |= bit_of(signal);
}

void run_look(struct keeper *k)
{
	if (!k->run.waiting || !run_pid(k))
		return;
	for (int s = 1; s <= SIGRTMAX; s++) {
		if (k->run.waiting & bit_of(s))
			forward(k, s, false);
	}
	k->run.waiting = 0;
}

/* TERM or INT: true if it is not to be forwarded. */
static bool stops(struct keeper *k, int signal)
{
	struct run *r = &k->run;
	int64_t now = clock_mono_ms(), *first = &r->asked_ms[signal == SIGINT];
	bool over = r->ended && !run_pid(k); /* it may have been restarted by hand */

	if (over || (*first && now - *first >= SECOND_MS)) {
		shutdown_enter(k, PHASE_COLD,
			       over ? "its main process has ended" : "asked a second time");
		return true;
	}
	if (*first) /* typed twice */
		return true;
	*first = now;
	if (r->limit_ms != DURATION_NEVER && r->cold_ms == KEEPER_NEVER)
		r->cold_ms = now + r->limit_ms;
	return false;
}

static void on_stop(struct keeper *k, int signal, bool typed)
{
	if (!stops(k, signal))
		forward(k, signal, typed);
}

/* A command in a session of its own has no shell above it, so that the kernel would ignore TSTP. */
static void on_tstp(struct keeper *k, int signal, bool typed)
{
	if (k->run.mode == RUN_TERMINAL) {
		forward(k, signal, typed);
		return;
	}
	if (run_pid(k))
		forward(k, SIGSTOP, true);
	signals_suspend(k, signal);
}

static void on_cont(struct keeper *k, int signal, bool typed)
{
	watch_late(k, clock_mono_ms());
	terminal_resume(k);
	forward(k, signal, true);
}

static const struct {
	int signal;
	void (*act)(struct keeper *k, int signal, bool typed);
} special[] = {
	{ SIGTERM, on_stop }, { SIGINT, on_stop },  { SIGTSTP, on_tstp },
	{ SIGTTIN, on_tstp }, { SIGTTOU, on_tstp }, { SIGCONT, on_cont },
};

bool run_signal(struct keeper *k, const struct signalfd_siginfo *s)
{
	int signal = (int)s->ssi_signo;
	bool typed = s->ssi_code == SI_KERNEL;

	if (k->run.mode == RUN_NONE || signal == SIGCHLD)
		return false;
	/* about a descriptor or a limit of ours (SIGPIPE, SIGXFSZ): the kernel signs with our pid
	 */
	if (s->ssi_pid == (uint32_t)getpid())
		return true;
	for (size_t i = 0; i < ARRAY_LEN(special); i++) {
		if (special[i].signal == signal) {
			special[i].act(k, signal, typed);
			return true;
		}
	}
	forward(k, signal, typed);
	return true;
}

void run_child(struct keeper *k)
{
	pid_t pid = k->run.mode == RUN_TERMINAL ? run_pid(k) : 0;
	siginfo_t si = { 0 };

	if (pid && waitid(P_PID, (id_t)pid, &si, WSTOPPED | WNOHANG) == 0 && si.si_pid == pid)
		terminal_stopped(k);
}

/* As a shell: 128+N by signal, 127 when there is no such command, 126 when it is no program. */
static int code_of(const struct ledger_life *life)
{
	int err = atomic_load(&life->stage_errno);

	if (life->exit_how != CLD_EXITED)
		return 128 + life->exit_status;
	if (err == ENOENT || err == ENOTDIR)
		return CODE_ABSENT;
	return err ? CODE_NO_EXEC : life->exit_status;
}

void run_ended(struct keeper *k, uint32_t row)
{
	if (k->run.mode == RUN_NONE || !is_command(k, row))
		return;
	k->run.ended = true;
	k->run.code = code_of(ledger_life(&k->ledger, row));
}

int run_code(const struct keeper *k, int code)
{
	return k->run.mode != RUN_NONE && k->run.ended ? k->run.code : code;
}

int64_t run_due(const struct keeper *k)
{
	return k->run.cold_ms;
}

void run_run(struct keeper *k, int64_t now)
{
	k->run.cold_ms = KEEPER_NEVER;
	shutdown_enter(k, PHASE_COLD, "--timeout is over");
}
