/*
 * Reaps every child. A life's exit record is in the ledger before its zombie is gone, so no status
 * is ever lost; who is in no row is a stranger and only counted. waitid(P_ALL) costs time in
 * proportion to the number of children, so the pid a signal names is looked at first and rounds
 * over all come at most every 5 ms, and once after the last signal (signals coalesce, SH15).
 */
#include "keeper/keeper.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUND_MS 5
/* Exits of one round before signals and requests get their turn. */
#define ROUND_MAX 256
/* Exits in a row that make a round worth a look at every row. */
#define SWEEP_AFTER 8

static int64_t micros(struct timeval t)
{
	return (int64_t)t.tv_sec * 1000000 + t.tv_usec;
}

static void write_exit(struct ledger_life *life, const siginfo_t *si, const struct rusage *ru)
{
	life->exit_how = si->si_code;
	life->exit_status = si->si_status;
	life->exit_ms = clock_mono_ms();
	life->exit_real_us = clock_real_us();
	life->user_us = micros(ru->ru_utime);
	life->system_us = micros(ru->ru_stime);
	life->maxrss_kb = ru->ru_maxrss;
	life->minflt = (uint64_t)ru->ru_minflt;
	life->majflt = (uint64_t)ru->ru_majflt;
	life->nvcsw = (uint64_t)ru->ru_nvcsw;
	life->nivcsw = (uint64_t)ru->ru_nivcsw;
	atomic_store_explicit(&life->exited, 1, memory_order_release);
}

static void reap(struct keeper *k, pid_t pid)
{
	siginfo_t si;

	atomic_fetch_add(&k->ledger.h->reaps_begun, 1);
	while (waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG) < 0 && errno == EINTR)
		;
	atomic_fetch_add(&k->ledger.h->reaps_done, 1);
}

static void take(struct keeper *k, const siginfo_t *si, const struct rusage *ru)
{
	uint32_t row;

	for (int i = 0; i < ROLE_COUNT; i++) {
		if (k->roles[i].pid == si->si_pid) {
			reap(k, si->si_pid);
			role_ended(k, (enum role_kind)i, si->si_code, si->si_status);
			return;
		}
	}
	if (si->si_pid == k->upgrade.helper) {
		reap(k, si->si_pid);
		upgrade_checked(k, si->si_code, si->si_status);
		return;
	}
	role_left_ended(k, si->si_pid);
	row = ledger_find_pid(&k->ledger, si->si_pid);
	if (row == LEDGER_NONE) {
		FAIL_HERE(REAP_STRANGER);
		reap(k, si->si_pid);
		atomic_fetch_add_explicit(&k->ledger.h->strangers_reaped, 1, memory_order_relaxed);
		/* Perhaps the last one of a tree that it waits for; a cgroup would tell. */
		k->news |= !k->cg.base[0];
		return;
	}
	FAIL_HERE(REAP_SEEN);
	write_exit(ledger_life(&k->ledger, row), si, ru);
	FAIL_HERE(REAP_RECORDED);
	run_ended(k, row);
	reap(k, si->si_pid);
	FAIL_HERE(REAP_REAPED);
	ledger_ring_put(&k->ledger.h->to_manager, row);
	FAIL_HERE(REAP_PUT);
	k->news = true;
}

/* One that has ended, not reaped yet: 1, 0 = none, -ECHILD. The raw call has the resource usage
 * as its fifth argument, also with WNOWAIT. */
static int peek(idtype_t type, pid_t pid, siginfo_t *si, struct rusage *ru)
{
	memset(si, 0, sizeof(*si));
	while (syscall(SYS_waitid, type, pid, si, WEXITED | WNOHANG | WNOWAIT, ru) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return si->si_pid != 0;
}

void reap_hint(struct keeper *k, pid_t hint)
{
	struct rusage ru;
	siginfo_t si;

	if (hint > 0 && peek(P_PID, hint, &si, &ru) == 1)
		take(k, &si, &ru);
	/* Not at once: a round is one long system call, on the processor that the manager, just
	 * woken, would have run on. */
	if (k->round_ms == KEEPER_NEVER)
		k->round_ms = MAX_OF(k->last_round_ms + ROUND_MS, clock_mono_ms() + 1);
}

/*
 * Many have ended at once: ask for each live row instead. waitid(P_ALL) walks the children up to
 * the first that has ended, so a thousand exits cost a thousand walks; waitid(P_PID) of one that
 * lives is a look into a table (Linux 5.13; before, a walk of its own: then the rounds go on).
 */
static int sweep_rows(struct keeper *k)
{
	uint32_t high = atomic_load_explicit(&k->ledger.h->lives_high, memory_order_acquire);
	struct rusage ru;
	siginfo_t si;
	int n = 0;

	for (uint32_t row = 0; row < high && row < LEDGER_ROWS; row++) {
		pid_t pid = (pid_t)atomic_load_explicit(&k->ledger.pids[row], memory_order_acquire);

		if (pid > 0 && ledger_life_live(&k->ledger, row) &&
		    peek(P_PID, pid, &si, &ru) == 1) {
			take(k, &si, &ru);
			n++;
		}
	}
	return n;
}

int reap_round(struct keeper *k)
{
	struct rusage ru;
	siginfo_t si;
	int n = 0, found = 0;

	while (n < ROUND_MAX && (found = peek(P_ALL, 0, &si, &ru)) == 1) {
		take(k, &si, &ru);
		if (++n % SWEEP_AFTER == 0 && k->pid_lookup_fast)
			n += sweep_rows(k);
	}
	return found == -ECHILD && n == 0 ? -ECHILD : n;
}

void reap_tell(struct keeper *k)
{
	if (k->news)
		bell_ring(k->bells[1]);
	k->news = false;
}

int64_t reap_due(const struct keeper *k)
{
	return k->round_ms;
}

void reap_run(struct keeper *k, int64_t now)
{
	int n = reap_round(k);

	k->last_round_ms = now;
	k->round_ms = n >= ROUND_MAX ? now : KEEPER_NEVER;
}
