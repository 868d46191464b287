/*
 * Owns the answer to a hole in our own time: SIGSTOP, Ctrl-Z, a frozen cgroup, a machine that was
 * paused. While a deadline of a worker runs the tick wakes us every second, so a sleep that took
 * longer is a hole. Perhaps the workers did not run either, and nobody read what they said: each
 * has as much time left as it had before (DC10, NW09, SH27).
 */
#include "manager/template.h"
#include "manager/worker.h"

#include "base/clock.h"
#include "base/mem.h"
#include "manager/watchdog.h"

#define HOLE_MS	 1000 /* a busy machine alone does not hold us up that long */
#define GRACE_MS 200  /* for a look at everything before any deadline counts */

/* Its deadline is one for the worker, not the hour of a start. */
static bool is_timed(const struct worker_state *s)
{
	return s->deadline_ms != DURATION_NEVER &&
	       (s->state == WS_STARTING || s->state == WS_STOPPING || s->state == WS_KILLING ||
		s->state == WS_STUCK);
}

static void put_off(struct worker *w, int64_t ms)
{
	struct worker_state *s = &w->slot->w;

	handover_put_off(w); /* to its full length: the clock is one of the loop's */
	if (s->state == WS_READY && s->deadline_ms != DURATION_NEVER)
		watchdog_again(w);
	if (!is_timed(s))
		return;
	s->deadline_ms += ms;
	if (s->stop_cap_ms != DURATION_NEVER && s->stop_cap_ms != 0)
		s->stop_cap_ms += ms;
	worker_arm(w);
}

/* slept: for how long nothing was done, of which `planned` was meant. */
static void look(struct manager *m, int64_t now, int64_t slept, int64_t planned)
{
	if (slept - planned < HOLE_MS)
		return;
	log_info("did not run for %lld ms: every deadline is put off by that", (long long)slept);
	m->late_until_ms = now + GRACE_MS;
	for (uint32_t i = 0; i < m->ledger.h->slots_high; i++)
		if (m->by_slot[i])
			put_off(m->by_slot[i], slept);
}

/* Before any other callback of this turn. */
static void woke(struct ev_loop *loop, ev_check *c, int events)
{
	struct manager *m = c->data;
	int64_t now = clock_mono_ms();

	if (m->slept_ms)
		look(m, now, now - m->slept_ms, MANAGER_TICK_MS);
	m->woke_ms = now;
}

void pause_init(struct manager *m)
{
	ev_check_init(&m->woke, woke);
	ev_set_priority(&m->woke, EV_MAXPRI);
	m->woke.data = m;
	ev_check_start(m->loop, &m->woke);
}

void pause_sleep(struct manager *m)
{
	int64_t now = clock_mono_ms();

	/* callbacks take no time: it was in the middle of one */
	if (m->woke_ms)
		look(m, now, now - m->woke_ms, 0);
	m->slept_ms = ev_is_active(&m->tick) ? now : 0;
}
