/*
 * Workers that hang: who is ready has to give a sign of life within the group's `watchdog`, by
 * WATCHDOG=1 on its notify socket, a thread by SLOT "beat". The deadline is that of WS_READY, so it
 * is in the ledger, stops with the state, and is gone in a worker that is being stopped.
 *
 * Nobody is ended who had not at least half of a period in one piece under our eyes, and a whole
 * one since its last sign (NW09). Since 0.2.0. Source: sd_notify(3), sd_watchdog_enabled(3).
 */
#ifndef REEVE_MANAGER_WATCHDOG_H
#define REEVE_MANAGER_WATCHDOG_H

#include "manager/manager.h"

/* What a life that is made now is told, in ledger_life.watchdog_told_ms; 0 = nothing. */
static inline int64_t watchdog_to_tell(const struct conf_group *c)
{
	return c->watchdog_ms == DURATION_NEVER ? 0 : c->watchdog_ms;
}

/* The period that w is held to; DURATION_NEVER = to none. */
int64_t watchdog_period(const struct worker *w);
/* Level: a ready worker that is to be watched has a deadline. Cheap. */
void watchdog_look(struct worker *w);
/* It has a full period from now, whatever was before: we cannot know how it fared. */
void watchdog_again(struct worker *w);
/* When its timer is to fire next. */
int64_t watchdog_next(const struct worker *w, int64_t now);
/* The timer fired, in WS_READY. */
void watchdog_fired(struct worker *w);
/* A sign of life. */
void watchdog_beat(struct worker *w);
/* WATCHDOG_USEC=, WATCHDOG=trigger. */
void watchdog_own(struct worker *w, uint64_t usec);
void watchdog_trigger(struct worker *w);
/* The worker was found to hang, and nothing has come of it yet: the manager died in between, or it
 * became ready with the same turn. False for hosts and templates: their kill is repeated. */
bool watchdog_is_due(const struct worker *w);

#endif
