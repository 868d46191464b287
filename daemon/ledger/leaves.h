/*
 * The cgroups of all workers, BASE/w/GROUP/INDEX.INCARNATION, as the ledger knows them: for those
 * who end everything at once, the keeper when it goes and the manager when the keeper was killed.
 * All of it does nothing, and says "no", where there are no cgroups.
 *
 * Since 0.2.0. Source: cgroups(7); cgroup.kill 5.14, else base/cgroup_fs.h.
 */
#ifndef REEVE_LEDGER_LEAVES_H
#define REEVE_LEDGER_LEAVES_H

#include "ledger/ledger.h"

#include <stdbool.h>

/* Some group leaves its orphans: their cgroups are neither killed nor waited for. */
bool leaves_any_left(const struct ledger *l);
/* SIGKILL to all of BASE/w but orphans left on purpose. False if there are no cgroups. */
bool leaves_kill(const struct ledger *l);
/* Waits up to wait_ms for BASE/w to be empty; true if it is, or if nobody can say. */
bool leaves_empty(const struct ledger *l, int64_t wait_ms);
/* Remove BASE/w and what is empty below it, for up to wait_ms. */
void leaves_remove(const struct ledger *l, int64_t wait_ms);

#endif
