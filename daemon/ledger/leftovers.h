/*
 * Processes known by the marker in their environment, REEVE_ID=IDENTITY/GROUP:INDEX/INCARNATION,
 * which every worker gets and its descendants inherit. An environment that cannot be read is
 * unknown and never a match; one that was wiped cannot be found this way.
 *
 * Since 0.1.0. Source: proc_pid_environ(5); pidfd_open(2) 5.3.
 */
#ifndef REEVE_LEDGER_LEFTOVERS_H
#define REEVE_LEDGER_LEFTOVERS_H

#include "ledger/ledger.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The group of a process that bears this identity, into ret; false if it bears none or another. */
bool leftovers_group_of(const char *identity, pid_t pid, char *ret, size_t size);
/* True if the group leaves its orphans. */
bool leftovers_are_left(const struct ledger *l, const char *group);

/* One pass over all processes: SIGKILL to those of this identity, except the groups that `spare`
 * (may be NULL) says true for. Number killed; call again until it is 0. */
int leftovers_kill(const char *identity, bool (*spare)(void *arg, const char *group), void *arg);

/*
 * The keeper is gone without a word (kill -9). Workers have a parent-death signal, their
 * descendants do not: the manager ends them, removes their cgroups, then ends itself. Bounded by a
 * second.
 */
void leftovers_mourn(const struct ledger *l);

/* Calls fn for each process number below /proc. */
void leftovers_each_process(void (*fn)(void *arg, pid_t pid), void *arg);

#endif
