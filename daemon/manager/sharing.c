/*
 * start_method = "fork": a copy that has come to share little with its seed is made anew from what
 * the seed is by now. Owns the measurement that this needs: once a minute while a group has copies,
 * by the gauge; a minute lost with the manager is all that is not in the ledger. One copy of a
 * group at a time, and only while all of it is ready, so a copy that was made anew is looked at
 * before the next one is: if that did not help, no other is ended for it in this generation. Nor is
 * one ended before its seed has shown that it comes to fork points again.
 */
#include "manager/template.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "manager/gauge.h"
#include "model/sharing.h"

#include <stdlib.h>

#define PERIOD_MS 60000

struct sharer {
	struct gauge_request *request; /* under way, or NULL */
	int64_t asked_ms, next_ms;
	ev_timer timer;
};

static bool has_copies(const struct group *g)
{
	return g->conf && g->conf->start_method == CONF_START_FORK && g->n_workers > 1 &&
	       g->row->sharing_failed != g->row->generation;
}

static int64_t age_of(const struct worker *w)
{
	return clock_mono_ms() - w->slot->w.ready_ms;
}

/* The seed of a group in which nothing else is going on; NULL: not now. */
static const struct worker *warm_seed(const struct group *g)
{
	const struct worker *seed = has_copies(g) ? template_serving(g) : NULL;

	if (!seed || seed->slot->w.state != WS_READY || age_of(seed) < SHARING_PATIENCE_MS)
		return NULL;
	for (uint32_t i = 0; i < g->n_workers; i++) {
		const struct worker_state *s = g->workers[i] ? &g->workers[i]->slot->w : NULL;

		if (s && s->wanted_up && s->state != WS_DONE &&
		    (s->state != WS_READY || s->generation != g->row->generation))
			return NULL;
	}
	return seed;
}

static bool is_anew(const struct worker *w)
{
	return w->slot->forked_anew == w->slot->w.incarnation;
}

/* What is known of w without a measurement; false if none is worth it. */
static bool describe(const struct worker *w, const struct worker *seed, struct sharing *ret)
{
	if (!w || w == seed || w->slot->w.state != WS_READY || !w->slot->w.wanted_up ||
	    !worker_pid(w))
		return false;
	*ret = (struct sharing){ .age_ms = age_of(w),
				 .copy = worker_life(w)->handover != HAND_NONE,
				 .anew = is_anew(w) ? w->slot->anew_times : 0 };
	return sharing_asks(ret);
}

static void give_up(const struct worker *w, const struct sharing *s)
{
	struct ledger_group *row = w->group->row;

	if (s->copy)
		log_warn("%s: %d %% of its memory is its own, although it was forked anew: that "
			 "does not help, no other is until the group is renewed",
			 w->name, sharing_own(s));
	else
		log_warn("%s: was to be forked anew and was executed: the seed comes to no fork "
			 "point, no other is until the group is renewed",
			 w->name);
	FAIL_HERE(SHARING_FAIL);
	row->sharing_failed = row->generation;
	FAIL_HERE(SHARING_FAILED);
}

/* The cause of the restart first (stop_begin()), then the restart: a successor goes on with that.
 */
static void make_anew(struct worker *w, const struct sharing *s)
{
	log_info("%s: %d %% of its memory is its own: forked anew", w->name, sharing_own(s));
	FAIL_HERE(SHARING_NOTE);
	w->slot->anew_times = (uint8_t)MIN_OF(s->anew + 1, SHARING_ANEW_MAX);
	w->slot->forked_anew = w->slot->w.incarnation + 1;
	FAIL_HERE(SHARING_NOTED);
	w->slot->op_restart = w->slot->w.incarnation;
	FAIL_HERE(SHARING_ASKED);
	worker_post(w, WI_RENEW);
}

/* The siblings are copied at its first fork point, where it stands and waits. After that it may
 * come to none for the rest of its life: then who is ended would be executed. */
static bool comes_back(const struct worker *seed)
{
	struct forker *f = seed->forker;

	if (seed->slot->template.returns)
		return true;
	if (f && f->fd >= 0 && seed->slot->template.released && !f->ping && f->n_owed == 0) {
		f->returns = true;
		template_ping(f);
	}
	return false;
}

static void judge(const struct group *g, const struct worker *seed, const struct sharer *r)
{
	struct sharing s, worst = { 0 };
	struct worker *w, *candidate = NULL;

	for (uint32_t i = 0; i < g->n_workers; i++) {
		const struct gauge_row *row;
		enum sharing_verdict verdict;

		w = g->workers[i];
		if (!describe(w, seed, &s))
			continue;
		row = gauge_find(r->request, worker_pid(w));
		if (!row || worker_life(w)->born_ms > r->asked_ms)
			continue;
		s.private_bytes = row->private_bytes;
		s.shared_bytes = row->shared_bytes;
		verdict = sharing_judge(&s);
		if (verdict == SHARING_USELESS) {
			give_up(w, &s);
			return;
		}
		if (verdict == SHARING_DECAYED && s.private_bytes > worst.private_bytes) {
			candidate = w;
			worst = s;
		}
	}
	if (candidate && comes_back(seed))
		make_anew(candidate, &worst);
}

static void measured(void *arg)
{
	struct manager *m = arg;
	struct sharer *r = m->sharer;

	for (size_t i = 0; i < m->n_groups; i++) {
		const struct worker *seed = warm_seed(m->groups[i]);

		if (seed)
			judge(m->groups[i], seed, r);
	}
	gauge_drop(r->request);
	r->request = NULL;
	FAIL_HERE(SHARING_LOOKED);
	m->changed = true; /* the next look is to be planned */
}

static void measure(struct manager *m, int64_t now)
{
	struct sharer *r = m->sharer;
	struct pids pids = { 0 };
	struct sharing s;

	for (size_t i = 0; i < m->n_groups; i++) {
		const struct group *g = m->groups[i];
		const struct worker *seed = warm_seed(g);

		for (uint32_t k = 0; seed && k < g->n_workers; k++)
			if (describe(g->workers[k], seed, &s))
				pids_add(&pids, worker_pid(g->workers[k]));
	}
	r->asked_ms = now;
	r->next_ms = now + PERIOD_MS;
	if (pids.n > 0)
		r->request = gauge_begin(m, &pids, measured, m);
	pids_fini(&pids);
}

static void fired(struct ev_loop *loop, ev_timer *t, int events)
{
	((struct manager *)t->data)->changed = true;
}

static struct sharer *sharer_of(struct manager *m)
{
	if (m->sharer)
		return m->sharer;
	m->sharer = calloc(1, sizeof(*m->sharer));
	if (m->sharer)
		m->sharer->next_ms = clock_mono_ms() + PERIOD_MS;
	return m->sharer;
}

void sharing_step(struct manager *m)
{
	struct sharer *r = m->sharer;
	bool any = false;
	int64_t now;

	for (size_t i = 0; i < m->n_groups && !any; i++)
		any = has_copies(m->groups[i]);
	if (!any || m->ledger.h->phase != PHASE_RUN) {
		if (r)
			ev_timer_stop(m->loop, &r->timer);
		return;
	}
	r = sharer_of(m);
	if (!r || r->request)
		return;
	now = clock_mono_ms();
	if (now >= r->next_ms)
		measure(m, now);
	if (r->request || ev_is_active(&r->timer))
		return;
	ev_timer_init(&r->timer, fired, (double)(r->next_ms - now) / 1000. + .001, 0.);
	r->timer.data = m;
	ev_timer_start(m->loop, &r->timer);
}

void sharing_fini(struct manager *m)
{
	if (!m->sharer)
		return;
	ev_timer_stop(m->loop, &m->sharer->timer);
	gauge_drop(m->sharer->request);
	free(m->sharer);
	m->sharer = NULL;
}
