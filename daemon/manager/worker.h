/* Between worker.c, start.c, exit.c, group.c and main.c; the rest of the manager needs manager.h
 * only. */
#ifndef REEVE_MANAGER_WORKER_H
#define REEVE_MANAGER_WORKER_H

#include "manager/manager.h"

/* Up is wanted, and the phase allows it. */
bool worker_wanted(const struct worker *w);
/* How it becomes ready: a template says so on its channel. Only while its group is configured. */
enum conf_ready worker_ready_kind(const struct worker *w);
/* A successor goes on with a worker where its predecessor stopped. */
void worker_resume(struct worker *w);

/* A point in time that may be "never". */
static inline int64_t worker_later(int64_t at, int64_t ms)
{
	return at == DURATION_NEVER || ms == DURATION_NEVER ? DURATION_NEVER : at + ms;
}

/* start.c. Make the next life of a worker that has none; what fails is posted. */
void life_begin(struct worker *w);
/* What the slot, and the row, know of a life from its beginning. */
void life_prepare(struct worker *w, uint32_t row);
/* The random part of the name of its notify socket. */
void life_token(struct ledger_life *life);
/* Undo the part of a start that happened before a process was made. */
void life_drop_unborn(struct worker *w);
/* A start failed with this -errno for want of resources: tried again, never charged (SP08). */
bool worker_lacked_means(int err);
/* The start counts against daemon.start_concurrency, or no longer. worker_landed() is idempotent.
 */
void worker_took_off(struct worker *w);
void worker_landed(struct worker *w);

/* exit.c. The life ended before a process was made; err: errno of the failure, text: for users. */
void exit_unborn(struct worker *w, int err, const char *text);
/* The life was never let go (handover.h): its number is used again, nobody is charged. */
void exit_never_was(struct worker *w);
/* A predecessor was charging such a failure when it died: go on with it. False if it was not. */
bool exit_resume_unborn(struct worker *w);
/* Take over what was decided at the end of the life (slot.w_next); false if there is no such end.
 */
bool exit_take_over(struct worker *w);
/* The new state is set and its effect is had: let go of the life. */
void exit_release(struct worker *w);

/* group.c: the log book's plan for the worker's streams. */
void group_plan_stream(struct group *g, struct worker *w);
/* Its log counters begin anew. */
void group_mark_log(struct worker *w, bool err);
/* The slot is surplus and stopped: free it and the view. */
void group_forget_worker(struct worker *w);

#endif
