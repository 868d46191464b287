/*
 * Sends the signals the manager asks for. This process is the reaper: between "the row has no exit
 * record" and kill() the number cannot have been given to anybody else (SH16). Each request is
 * carried out exactly once, also over the death of the manager that made it.
 */
#include "keeper/keeper.h"

#include "base/failpoint.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

bool kill_allowed(const struct keeper *k, pid_t pid)
{
	return pid > 1 && pid != getpid() && pid != getpgrp() &&
	       pid != k->roles[ROLE_IS_MANAGER].pid && pid != k->roles[ROLE_IS_LOGGER].pid &&
	       !role_left_behind(k, pid);
}

int kill_one(struct keeper *k, pid_t pid, int signal, int to)
{
	if (!kill_allowed(k, pid))
		return EPERM;
	if (signal < 1 || signal > SIGRTMAX)
		return EINVAL;
	/* Until its setsid() the child is in the manager's group: then it is signalled alone, and
	 * the signal waits behind its blocked mask (SP10). */
	if (to == CONF_TO_PGRP && getpgid(pid) == pid)
		return kill(-pid, signal) < 0 ? errno : 0;
	return kill(pid, signal) < 0 ? errno : 0;
}

static void serve(struct keeper *k, uint32_t row)
{
	struct ledger_life *life;
	const uint32_t room = sizeof(life->kill) / sizeof(life->kill[0]);
	uint32_t want, done;

	if (row >= LEDGER_ROWS)
		return;
	life = ledger_life(&k->ledger, row);
	want = atomic_load_explicit(&life->kill_want, memory_order_acquire);
	done = atomic_load_explicit(&life->kill_done, memory_order_relaxed);
	/* A child that has no pid yet is on its way: the request stays until it has one. */
	if (want == done || !atomic_load(&k->ledger.pids[row]))
		return;
	for (; done != want; done++) {
		pid_t pid = (pid_t)atomic_load(&k->ledger.pids[row]);
		int err;

		FAIL_HERE(KILL_SEND);
		err = !ledger_life_live(&k->ledger, row)
			      ? ESRCH
			      : kill_one(k, pid, life->kill[done % room].signal,
					 life->kill[done % room].to);

		FAIL_HERE(KILL_SENT);
		atomic_store(&life->kill_errno, err);
		atomic_store_explicit(&life->kill_done, done + 1, memory_order_release);
		if (err) {
			ledger_ring_put(&k->ledger.h->to_manager, row);
			bell_ring(k->bells[1]);
		}
	}
}

void kill_scan(struct keeper *k)
{
	uint32_t n = atomic_load(&k->ledger.h->lives_high);

	for (uint32_t row = 0; row < n && row < LEDGER_ROWS; row++) {
		if (atomic_load(&ledger_life(&k->ledger, row)->use) != LIFE_FREE)
			serve(k, row);
	}
}

void kill_requests(struct keeper *k)
{
	bool scan = false;
	uint32_t row;

	while ((row = ledger_ring_take(&k->ledger.h->to_keeper, &scan)) != LEDGER_NONE)
		serve(k, row);
	if (scan)
		kill_scan(k);
}
