/*
 * Claims: a life whose process the manager did not clone but that became our child by adoption (a
 * template forked it and its parent has ended). The manager names the row and holds a pidfd; only
 * what is our own unreaped child is taken, and only then does its pid enter the ledger. So nobody
 * can make us reap for, or signal, a process that is not ours.
 */
#include "keeper/keeper.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* The pid behind a pidfd, as this pid namespace counts; 0 if it is gone. */
static pid_t pid_of(int pidfd)
{
	char path[48], text[512];
	const char *line;
	int pid;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	if (fd_read_at(AT_FDCWD, path, text, sizeof(text)) < 0)
		return 0;
	line = strstr(text, "Pid:");
	return line && sscanf(line, "Pid: %d", &pid) == 1 && pid > 0 ? pid : 0;
}

/* Ours and not reaped: then its number is its own until we reap it. */
static bool is_our_child(int pidfd)
{
	siginfo_t si;

	return waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG | WNOWAIT) == 0;
}

void claim_take(struct keeper *k, uint32_t row, int pidfd)
{
	struct ledger_life *life = ledger_life(&k->ledger, row);
	enum life_claim outcome = CLAIM_REFUSED;
	pid_t pid = pid_of(pidfd);

	if (atomic_load(&life->use) != LIFE_MADE || atomic_load(&life->claim) != CLAIM_NONE)
		return;
	if (pid > 0 && atomic_load(&k->ledger.pids[row]) == 0 && kill_allowed(k, pid) &&
	    ledger_find_pid(&k->ledger, pid) == LEDGER_NONE && is_our_child(pidfd)) {
		atomic_store_explicit(&k->ledger.pids[row], (uint32_t)pid, memory_order_release);
		outcome = CLAIM_TAKEN;
	}
	atomic_store_explicit(&life->claim, outcome, memory_order_release);
	ledger_ring_put(&k->ledger.h->to_manager, row);
	bell_ring(k->bells[1]);
	/* it may have ended while it was nobody's */
	reap_hint(k, outcome == CLAIM_TAKEN ? pid : 0);
}
