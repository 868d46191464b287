/*
 * Memory of many processes without a look at any of them in the loop: a helper (ledger/gauge.h)
 * measures, one request at a time, and is ended when it hangs in a process.
 * Since 0.2.0.
 */
#ifndef REEVE_MANAGER_GAUGE_H
#define REEVE_MANAGER_GAUGE_H

#include "ledger/gauge.h"
#include "manager/manager.h"
#include "manager/proc.h"

struct gauge_request;

/* Called once, from the loop, when all is measured that can be. */
typedef void gauge_done_fn(void *arg);

/* Measure these (the list is taken over, and emptied). NULL: out of memory. */
struct gauge_request *gauge_begin(struct manager *m, struct pids *pids, gauge_done_fn *done,
				  void *arg);
/* What was measured of it, NULL if nothing. Before `done` too: what is there by then. */
const struct gauge_row *gauge_find(const struct gauge_request *q, pid_t pid);
/* Done with it, or not interested any more. NULL is fine. */
void gauge_drop(struct gauge_request *q);

/* exit.c: the life of a helper has ended; false if it was none of ours. */
bool gauge_helper_ended(struct manager *m, uint32_t row);
void gauge_fini(struct manager *m);

#endif
