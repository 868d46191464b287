/*
 * Manager and logger: started with the descriptors of their table and nothing else, replaced when
 * they die. Only a death before the first completed turn makes the next start wait, so a role that
 * works and is killed again and again is back at once, and one that cannot start does not spin.
 */
#include "keeper/keeper.h"

#include "keeper/trial.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define RETRY_FIRST_MS 10
#define RETRY_MAX_MS   5000
#define KILL_WAIT_MS   1000
/* So many tries are given to the first manager; in a shutdown a minute of them. Then: cold. */
#define HOPELESS      10
#define HOPELESS_WARM 20

static const int ignored[] = { SIGTERM, SIGINT,	 SIGQUIT, SIGHUP, SIGUSR1,
			       SIGUSR2, SIGTSTP, SIGTTIN, SIGTTOU };

/* Variables by which a service manager speaks to us alone (SP20). */
static const char *const ours[] = { "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=",
				    "LISTEN_FDS=",    "LISTEN_PID=",	"LISTEN_FDNAMES=" };

static bool is_ours(const char *variable)
{
	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		if (strncmp(variable, ours[i], strlen(ours[i])) == 0)
			return true;
	}
	return false;
}

static char **role_environ(void)
{
	size_t n = 0, at = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + 1, sizeof(*env));
	for (size_t i = 0; env && i < n; i++) {
		if (!is_ours(environ[i]))
			env[at++] = environ[i];
	}
	return env;
}

/* Runs in the child. */
static void role_exec(struct keeper *k, enum role_kind kind, char **argv, char **env, int table)
{
	struct sigaction ign = { .sa_handler = SIG_IGN };
	struct role_fd row;

	FAIL_HERE(ROLE_EXEC);
	/* who shall hand on our terminal stays in our session, out of reach of Ctrl-C all the same
	 */
	if (k->run.mode == RUN_TERMINAL && kind == ROLE_IS_MANAGER)
		setpgid(0, 0);
	else
		setsid();
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		sigaction(ignored[i], &ign, NULL);
	/* The manager has a last duty when we are killed (leftovers_mourn); it sees the end of its
	 * store socket. */
	if (kind != ROLE_IS_MANAGER)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != k->ledger.h->keeper_pid)
		_exit(127);
	fd_cloexec_from(3);
	fd_set_cloexec(table, false);
	lseek(table, sizeof(struct role_fd_table), SEEK_SET);
	while (read(table, &row, sizeof(row)) == sizeof(row))
		fd_set_cloexec(row.fd, false);
	execve("/proc/self/exe", argv, env);
	syscall(SYS_execveat, k->self_exe, "", argv, env, AT_EMPTY_PATH);
	_exit(127);
}

static pid_t launch(struct keeper *k, enum role_kind kind)
{
	char number[16];
	char *argv[] = { (char *)k->roles[kind].name,
			 number,
			 k->level_word,
			 k->log_to,
			 k->options->forced_level >= 0 ? "forced" : NULL,
			 NULL };
	auto_fd table = store_table(k, kind);
	auto_free char **env = role_environ();
	pid_t pid;

	if (table < 0)
		return table;
	if (!env)
		return -ENOMEM;
	snprintf(number, sizeof(number), "%d", table);
	trial_hold(k->upgrade.trial, true);
	pid = FAIL_OR(ROLE_FORK, fork());
	if (pid == 0)
		role_exec(k, kind, argv, env, table);
	if (pid > 0)
		k->roles[kind].pid = pid;
	trial_hold(k->upgrade.trial, false);
	return pid < 0 ? -errno : pid;
}

static void note(struct keeper *k, enum role_kind kind)
{
	struct ledger_header *h = k->ledger.h;
	const struct role *r = &k->roles[kind];

	if (kind == ROLE_IS_MANAGER) {
		atomic_store(&h->manager_pid, r->pid);
		atomic_store(&h->manager_starts, r->starts);
	} else {
		atomic_store(&h->logger_pid, r->pid);
		atomic_store(&h->logger_starts, r->starts);
	}
}

static void put_off(struct role *r)
{
	int64_t delay = (int64_t)RETRY_FIRST_MS << MIN_OF(r->early_deaths, 10u);

	r->early_deaths++;
	r->retry_ms = clock_mono_ms() + MIN_OF(delay, RETRY_MAX_MS);
}

void role_start(struct keeper *k, enum role_kind kind)
{
	struct role *r = &k->roles[kind];
	pid_t pid;

	/* What the dead one sent or asked for belongs to its successor. */
	if (kind == ROLE_IS_MANAGER)
		store_receive(k);
	else if (r->starts > 0 && store_fresh_logger(k) < 0)
		log_warn("%s: no sockets for it", r->name);
	if (kind == ROLE_IS_LOGGER)
		atomic_store(&k->book.h->write_began_ms, 0); /* the dead one's */
	r->turns_before = atomic_load(&k->ledger.h->turns);
	r->started_ms = clock_mono_ms();
	r->retry_ms = KEEPER_NEVER;
	r->judge_ms = r->abort_ms = KEEPER_NEVER;
	pid = launch(k, kind);
	if (pid < 0) {
		log_error("starting %s: %s", r->name, strerror(-pid));
		put_off(r);
		return;
	}
	FAIL_HERE(ROLE_FORKED);
	r->ended_well = false;
	r->starts++;
	note(k, kind);
	log_debug("%s is pid %d", r->name, (int)pid);
	if (kind == ROLE_IS_MANAGER) {
		snprintf(k->manager_word, sizeof(k->manager_word), "running");
		state_say(k, "running");
		if (r->starts > 1)
			kill_scan(k);
	}
}

bool role_is_up(const struct keeper *k, enum role_kind kind)
{
	const struct role *r = &k->roles[kind];

	if (kind == ROLE_IS_MANAGER)
		return atomic_load(&k->ledger.h->turns) != r->turns_before;
	return atomic_load(&k->book.h->started) == (uint32_t)r->pid;
}

static void say_death(struct role *r, bool up, int how, int status)
{
	uint32_t dropped;

	if (log_limit_pass(&r->deaths, 10, 10000, &dropped))
		log_warn("%s ended by %s %d%s; starting another", r->name,
			 how == CLD_EXITED ? "exit code" : "signal", status,
			 up ? "" : " before it was ready");
}

/* For the manager, or the next one: it tells who follows the events. */
static void record_death(struct keeper *k, enum role_kind kind, int how, int status)
{
	struct ledger_role_end *e =
		&k->ledger.h->role_ends[kind == ROLE_IS_MANAGER ? LEDGER_MANAGER : LEDGER_LOGGER];

	e->how = how;
	e->status = status;
	atomic_fetch_add(&e->count, 1);
	bell_ring(k->bells[1]);
}

static bool is_hopeless(const struct keeper *k, const struct role *manager)
{
	if (atomic_load(&k->ledger.h->phase) > PHASE_RUN)
		return manager->early_deaths >= HOPELESS_WARM;
	return manager->early_deaths >= HOPELESS && manager->turns_before == 0;
}

void role_ended(struct keeper *k, enum role_kind kind, int how, int status)
{
	struct role *r = &k->roles[kind];
	bool up = role_is_up(k, kind);

	log_debug("%s (pid %d) ended", r->name, (int)r->pid);
	FAIL_HERE(ROLE_ENDED);
	r->pid = 0;
	r->ended_well = how == CLD_EXITED && status == 0;
	note(k, kind);
	/* Its last words may be "gone", and its end seen before its bell. */
	if (kind == ROLE_IS_MANAGER)
		shutdown_look(k);
	if (k->replacing || k->done || k->gone_ms != KEEPER_NEVER) /* no successor, or at once */
		return;
	say_death(r, up, how, status);
	record_death(k, kind, how, status);
	if (up) {
		r->early_deaths = 0;
		r->retry_ms = 0;
	} else {
		put_off(r);
	}
	if (kind == ROLE_IS_MANAGER) {
		snprintf(k->manager_word, sizeof(k->manager_word), "restarting");
		if (!up)
			state_say(k, "running");
		if (is_hopeless(k, r)) {
			k->exit_code = EXIT_FAILURE;
			shutdown_enter(k, PHASE_COLD, "the manager cannot be started");
		}
	}
}

/* A role in an uninterruptible call cannot hold us up: it is reaped when it ends. */
static bool wait_ended(struct keeper *k, const struct role *r, siginfo_t *ret)
{
	int64_t end = clock_mono_ms() + KILL_WAIT_MS;
	bool ended;

	atomic_fetch_add(&k->ledger.h->reaps_begun, 1);
	do {
		*ret = (siginfo_t){ 0 };
		ended = waitid(P_PID, (id_t)r->pid, ret, WEXITED | WNOHANG) == 0 && ret->si_pid;
		if (!ended)
			poll(NULL, 0, 1);
	} while (!ended && clock_mono_ms() < end);
	atomic_fetch_add(&k->ledger.h->reaps_done, 1);
	return ended;
}

/* It hangs in a system call (a dead disk). With SIGKILL pending it will never run another
 * instruction of its own, so a successor may work beside it. */
static void leave_behind(struct keeper *k, enum role_kind kind)
{
	struct role *r = &k->roles[kind];

	log_error("%s (pid %d) does not end on SIGKILL: it hangs in a system call", r->name,
		  (int)r->pid);
	for (size_t i = 0; i < ARRAY_LEN(k->abandoned); i++) {
		if (k->abandoned[i] == 0) {
			k->abandoned[i] = r->pid;
			role_ended(k, kind, CLD_KILLED, SIGKILL);
			return;
		}
	}
}

void role_kill(struct keeper *k, enum role_kind kind)
{
	struct role *r = &k->roles[kind];
	siginfo_t si;

	if (r->pid <= 0)
		return;
	kill(r->pid, SIGKILL);
	if (wait_ended(k, r, &si))
		role_ended(k, kind, si.si_code, si.si_status);
	else
		leave_behind(k, kind);
}

void role_replace(struct keeper *k, enum role_kind kind)
{
	k->replacing = true;
	role_kill(k, kind);
	k->replacing = false;
	atomic_fetch_add(&k->ledger.h->role_changes, 1);
	role_start(k, kind);
}

bool role_left_behind(const struct keeper *k, pid_t pid)
{
	for (size_t i = 0; i < ARRAY_LEN(k->abandoned); i++) {
		if (pid > 0 && k->abandoned[i] == pid)
			return true;
	}
	return false;
}

void role_left_ended(struct keeper *k, pid_t pid)
{
	for (size_t i = 0; i < ARRAY_LEN(k->abandoned); i++) {
		if (k->abandoned[i] == pid)
			k->abandoned[i] = 0;
	}
}

int64_t roles_due(const struct keeper *k)
{
	return MIN_OF(k->roles[0].retry_ms, k->roles[1].retry_ms);
}

void roles_run(struct keeper *k, int64_t now)
{
	for (int i = 0; i < ROLE_COUNT; i++) {
		if (k->roles[i].pid == 0 && k->roles[i].retry_ms <= now)
			role_start(k, (enum role_kind)i);
	}
}
