/* Real children: every exit into its row, exactly, and strangers reaped beside. */
#include "keeper/keeper.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint8_t identity[16] = { 1 };

static void begin(struct keeper *k)
{
	struct rlimit no_core = { 0, 0 };

	*k = (struct keeper){ .round_ms = KEEPER_NEVER, .signals = -1 };
	setrlimit(RLIMIT_CORE, &no_core);
	cr_assert_eq(ledger_create(identity, "/r", &k->ledger_fd, &k->ledger), 0);
	for (int i = 0; i < 3; i++)
		k->bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static uint32_t take_row(struct keeper *k, pid_t pid)
{
	uint32_t row = ledger_take_life(&k->ledger, LIFE_WORKER, 0);

	atomic_store(&k->ledger.pids[row], (uint32_t)pid);
	return row;
}

static void wait_zombie(pid_t pid)
{
	siginfo_t si;

	cr_assert_eq(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
}

/* SH25: all 256 codes. */
Test(keeper_reap, sh25_every_code)
{
	struct keeper k;
	uint32_t rows[256];

	begin(&k);
	for (int code = 0; code < 256; code++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(code);
		rows[code] = take_row(&k, pid);
		wait_zombie(pid);
	}
	while (reap_round(&k) > 0)
		;
	for (int code = 0; code < 256; code++) {
		const struct ledger_life *life = ledger_life(&k.ledger, rows[code]);

		cr_assert_eq(atomic_load(&life->exited), 1);
		cr_assert_eq(life->exit_how, CLD_EXITED);
		cr_assert_eq(life->exit_status, code);
	}
	cr_assert_eq(reap_round(&k), -ECHILD);
	cr_assert_eq(atomic_load(&k.ledger.h->strangers_reaped), 0);
}

/* SH25: the 31 classic signals. */
Test(keeper_reap, sh25_every_signal)
{
	struct keeper k;

	begin(&k);
	for (int sig = 1; sig < 32; sig++) {
		const struct ledger_life *life;
		struct rlimit no_core = { 0, 0 };
		struct pollfd bell = { k.bells[1], POLLIN, 0 };
		uint32_t row;
		pid_t pid;

		if (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU ||
		    sig == SIGCONT || sig == SIGCHLD || sig == SIGURG || sig == SIGWINCH)
			continue; /* do not end a process */
		pid = fork();
		if (pid == 0) {
			sigset_t none;

			setrlimit(RLIMIT_CORE, &no_core);
			signal(sig, SIG_DFL);
			sigemptyset(&none);
			sigprocmask(SIG_SETMASK, &none, NULL);
			raise(sig);
			_exit(0);
		}
		row = take_row(&k, pid);
		wait_zombie(pid);
		reap_hint(&k, pid);
		life = ledger_life(&k.ledger, row);
		cr_assert_eq(atomic_load(&life->exited), 1);
		cr_assert(life->exit_how == CLD_KILLED || life->exit_how == CLD_DUMPED);
		cr_assert_eq(life->exit_status, sig, "signal %d", sig);
		reap_tell(&k);
		cr_assert_eq(poll(&bell, 1, 0), 1);
		bell_clear(k.bells[1]);
	}
}

Test(keeper_reap, usage_is_recorded)
{
	struct keeper k;
	const struct ledger_life *life;
	uint32_t row;
	pid_t pid;

	begin(&k);
	pid = fork();
	if (pid == 0) {
		volatile char *p = malloc(20 << 20);

		for (size_t i = 0; i < 20 << 20; i += 4096)
			p[i] = 1;
		_exit(0);
	}
	row = take_row(&k, pid);
	wait_zombie(pid);
	reap_hint(&k, pid);
	life = ledger_life(&k.ledger, row);
	cr_assert_geq(life->maxrss_kb, 20 << 10);
	cr_assert_gt(life->minflt, 4000);
	cr_assert_gt(life->exit_ms, 0);
}

/* SH15, OR05: coalesced signals, strangers in between; each exit in its own row. */
Test(keeper_reap, sh15_many_at_once_with_strangers)
{
	enum { N = 300 };
	struct keeper k;
	uint32_t rows[N], n_news = 0;
	bool scan = false;
	int reaped = 0, n;

	begin(&k);
	for (int i = 0; i < N; i++) {
		pid_t pid = fork(), stranger;

		if (pid == 0)
			_exit(i % 200);
		rows[i] = take_row(&k, pid);
		stranger = fork();
		if (stranger == 0)
			_exit(255);
		wait_zombie(pid);
		wait_zombie(stranger);
	}
	while ((n = reap_round(&k)) > 0)
		reaped += n;
	cr_assert_eq(reaped, 2 * N);
	cr_assert_eq(atomic_load(&k.ledger.h->strangers_reaped), N);
	for (int i = 0; i < N; i++)
		cr_assert_eq(ledger_life(&k.ledger, rows[i])->exit_status, i % 200);
	while (ledger_ring_take(&k.ledger.h->to_manager, &scan) != LEDGER_NONE)
		n_news++;
	cr_assert_eq(n_news, N);
	cr_assert_not(scan);
}

/* A hint is only a hint: a pid that lives, or is not ours, is left alone; a round is then due. */
Test(keeper_reap, hints_may_be_wrong)
{
	struct keeper k;
	pid_t pid;

	begin(&k);
	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	reap_hint(&k, pid);
	reap_hint(&k, 1);
	cr_assert_neq(reap_due(&k), KEEPER_NEVER);
	reap_run(&k, 1000000);
	cr_assert_eq(reap_due(&k), KEEPER_NEVER);
	cr_assert_eq(kill(pid, SIGKILL), 0);
	wait_zombie(pid);
	reap_hint(&k, pid);
	cr_assert_eq(atomic_load(&k.ledger.h->strangers_reaped), 1);
}

Test(keeper_reap, requests_are_carried_out_once_and_in_order)
{
	struct keeper k;
	struct ledger_life *life;
	uint32_t row;
	pid_t pid;
	int pipe_fds[2];
	char byte;

	begin(&k);
	cr_assert_eq(pipe(pipe_fds), 0);
	pid = fork();
	if (pid == 0) {
		setsid();
		(void)!write(pipe_fds[1], "x", 1);
		for (;;)
			pause();
	}
	cr_assert_eq(read(pipe_fds[0], &byte, 1), 1);
	row = take_row(&k, pid);
	life = ledger_life(&k.ledger, row);
	cr_assert_eq(ledger_ask_kill(&k.ledger, row, SIGSTOP, CONF_TO_MAIN), 0);
	cr_assert_eq(ledger_ask_kill(&k.ledger, row, SIGCONT, CONF_TO_PGRP), 0);
	cr_assert_eq(ledger_ask_kill(&k.ledger, row, SIGKILL, CONF_TO_PGRP), 0);
	kill_requests(&k);
	cr_assert_eq(atomic_load(&life->kill_done), 3);
	cr_assert_eq(atomic_load(&life->kill_errno), 0);
	wait_zombie(pid);
	reap_hint(&k, pid);
	cr_assert_eq(life->exit_status, SIGKILL);
	/* It is gone: the number may be anybody's now. */
	cr_assert_eq(ledger_ask_kill(&k.ledger, row, SIGTERM, CONF_TO_MAIN), 0);
	kill_scan(&k);
	cr_assert_eq(atomic_load(&life->kill_done), 4);
	cr_assert_eq(atomic_load(&life->kill_errno), ESRCH);
}

Test(keeper_reap, never_signals_init_itself_or_roles)
{
	struct keeper k;

	begin(&k);
	k.roles[ROLE_IS_MANAGER].pid = 12345;
	cr_assert_not(kill_allowed(&k, 0));
	cr_assert_not(kill_allowed(&k, -1));
	cr_assert_not(kill_allowed(&k, 1));
	cr_assert_not(kill_allowed(&k, getpid()));
	cr_assert_not(kill_allowed(&k, getpgrp()));
	cr_assert_not(kill_allowed(&k, 12345));
	cr_assert(kill_allowed(&k, 12346));
}
