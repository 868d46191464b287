/*
 * Owns the deadline of workers that are ready. A beat only moves it: the timer is not touched, and
 * finds when it fires that there is time left. Invariant: "it hangs" is one store, the cause of its
 * end; what follows is repeated by a successor.
 */
#include "manager/watchdog.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "manager/notify.h"
#include "manager/proc.h"
#include "manager/template.h"
#include "manager/threads.h"
#include "manager/tree.h"

#include <inttypes.h>

#define LATE_MS 1000 /* so late we were not busy, we did not run */

int64_t watchdog_period(const struct worker *w)
{
	const struct ledger_life *life = worker_life(w);

	if (w->slot->kind != SLOT_WORKER || !w->group->conf || !life)
		return DURATION_NEVER;
	return worker_watchdog(&w->slot->w, life->watchdog_told_ms, w->group->conf->watchdog_ms);
}

void watchdog_again(struct worker *w)
{
	worker_beat(&w->slot->w, watchdog_period(w), w->group->row->extend_max_ms, clock_mono_ms());
	worker_arm(w);
}

void watchdog_look(struct worker *w)
{
	if (w->slot->w.deadline_ms == DURATION_NEVER && watchdog_period(w) != DURATION_NEVER)
		watchdog_again(w);
}

int64_t watchdog_next(const struct worker *w, int64_t now)
{
	return worker_watch_next(&w->slot->w, watchdog_period(w), now);
}

void watchdog_beat(struct worker *w)
{
	struct worker_state *s = &w->slot->w;
	int64_t now = clock_mono_ms(), period = watchdog_period(w);

	w->slot->beat_ms = now;
	if (s->state != WS_READY)
		return;
	FAIL_HERE(WATCHDOG_BEAT);
	worker_beat(s, period, w->group->row->extend_max_ms, now);
	if (watchdog_next(w, now) < w->wake_ms)
		worker_arm(w);
}

void watchdog_own(struct worker *w, uint64_t usec)
{
	struct worker_state *s = &w->slot->w;
	int64_t before = s->watchdog_own_ms;
	uint32_t unsaid;

	worker_watchdog_own(s, usec);
	if (s->watchdog_own_ms != before && log_limit_pass(&w->watch_limit, 3, 3600000, &unsaid))
		log_info("%s: WATCHDOG_USEC=%" PRIu64 "%s", w->name, usec,
			 s->watchdog_own_ms == DURATION_NEVER ? ": it is not watched from now on"
							      : "");
	if (s->state == WS_READY)
		watchdog_again(w);
}

/* --- the verdict ----------------------------------------------------------------------------- */

static bool may_hang(const struct worker *w)
{
	const struct ledger_life *life = worker_life(w);

	return life && !life->exited &&
	       (w->slot->w.state == WS_READY || w->slot->w.state == WS_STARTING);
}

bool watchdog_is_due(const struct worker *w)
{
	/* of a maker it is the cause of a kill, which is repeated for being unheard, or by a slot
	 */
	return w->slot->kind == SLOT_WORKER && may_hang(w) && w->slot->w.cause == CAUSE_WATCHDOG;
}

static void hangs(struct worker *w)
{
	FAIL_HERE(WATCHDOG_SEEN);
	w->slot->w.cause = CAUSE_WATCHDOG;
	FAIL_HERE(WATCHDOG_NOTED);
	worker_post(w, WI_TIMEOUT);
}

void watchdog_trigger(struct worker *w)
{
	if (!may_hang(w) || w->slot->w.cause != CAUSE_NONE)
		return;
	log_warn("%s: WATCHDOG=trigger: ending it", w->name);
	hangs(w);
}

/* Who has the process that it runs in. */
static struct worker *body_of(struct worker *w)
{
	return threads_has(w) && w->group->host ? w->group->host : w;
}

/* Why its silence says nothing; NULL: it does. */
static const char *excuse(struct worker *w)
{
	const struct worker *body = body_of(w);
	struct proc_stat s;

	if (body != w && body->slot->w.state != WS_READY)
		return "its host is ending";
	if (tree_frozen(w->m, worker_life_row(body)))
		return "it is frozen";
	if (proc_stat(worker_pid(body), &s) == 0 && (s.state == 'T' || s.state == 't'))
		return "it is stopped";
	return NULL;
}

static int64_t last_sign(const struct worker *w)
{
	return MAX_OF(w->slot->beat_ms, w->slot->w.ready_ms);
}

static void judge(struct worker *w, int64_t now)
{
	const char *why = excuse(w);
	uint32_t unsaid;

	if (!why) {
		log_warn("%s: no sign of life for %" PRId64 " ms: it hangs, ending it", w->name,
			 now - last_sign(w));
		hangs(w);
		return;
	}
	if (log_limit_pass(&w->watch_limit, 3, 3600000, &unsaid))
		log_info("%s: no sign of life, but %s: one more period", w->name, why);
	watchdog_again(w);
}

/* What was said and not read yet counts. */
static void hear(struct worker *w)
{
	struct worker *body = body_of(w);

	notify_drain(w);
	if (body != w)
		template_drain(body);
}

/* The time by which we were late was not the worker's; if it was long, neither was the rest. */
static bool was_late(struct worker *w, int64_t period, int64_t now)
{
	struct worker_state *s = &w->slot->w;
	/* a beat may have moved the half since the timer was set */
	int64_t late = now - MAX_OF(w->wake_ms, s->deadline_ms - period / 2);

	if (late > LATE_MS) {
		log_info("%s: looked for a sign of life %" PRId64 " ms late: one more period",
			 w->name, late);
		watchdog_again(w);
		return true;
	}
	if (late > 0)
		s->deadline_ms += late;
	return false;
}

void watchdog_fired(struct worker *w)
{
	struct worker_state *s = &w->slot->w;
	int64_t period = watchdog_period(w), now = clock_mono_ms();

	hear(w);
	if (s->state != WS_READY || s->cause != CAUSE_NONE || worker_life(w)->exited)
		return;
	if (period == DURATION_NEVER) {
		s->deadline_ms = DURATION_NEVER;
		worker_arm(w);
		return;
	}
	/* a longer period came by a reload */
	s->deadline_ms = MAX_OF(s->deadline_ms, last_sign(w) + period);
	if (was_late(w, period, now))
		return;
	if (now < s->deadline_ms || now < w->m->late_until_ms)
		worker_arm(w);
	else
		judge(w, now);
}
