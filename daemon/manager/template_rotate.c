/*
 * Which templates a group should have, level-triggered: one that serves; beside it a next one while
 * code or age or a leak asks for it; the old one until its last worker is gone. A next one that
 * cannot be loaded is dropped and said, and the old one goes on.
 */
#include "manager/template.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "manager/worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool can_fork(const struct worker *w)
{
	return w && w->forker && w->forker->fd >= 0 && w->slot->template.ready_ms &&
	       worker_pid(w) > 0;
}

/* Of two that can, the better one: the code of now, not on its way out, the younger. */
static const struct worker *better(const struct worker *a, const struct worker *b)
{
	uint32_t now = a->group->row->generation;
	bool a_now = a->slot->w.generation == now, b_now = b->slot->w.generation == now;

	if (a_now != b_now)
		return a_now ? a : b;
	if (!a->slot->template.recycle != !b->slot->template.recycle)
		return a->slot->template.recycle ? b : a;
	return a->slot->template.ready_ms >= b->slot->template.ready_ms ? a : b;
}

static struct worker *serving_template(const struct group *g)
{
	const struct worker *best = NULL;

	for (size_t i = 0; i < ARRAY_LEN(g->templates); i++) {
		const struct worker *t = g->templates[i];

		if (can_fork(t) && t->slot->w.state == WS_READY && t->slot->w.wanted_up)
			best = best ? better(best, t) : t;
	}
	return (struct worker *)best;
}

static struct worker *serving_seed(const struct group *g)
{
	const struct worker *best = NULL;

	for (uint32_t i = 0; i < g->n_workers; i++) {
		const struct worker *w = g->workers[i];

		if (can_fork(w) &&
		    (w->slot->w.state == WS_READY || w->slot->w.state == WS_STARTING) &&
		    (!best || (best->slot->w.generation != g->row->generation &&
			       w->slot->w.generation == g->row->generation)))
			best = w;
	}
	return (struct worker *)best;
}

struct worker *template_serving(const struct group *g)
{
	if (!group_forks(g->conf))
		return NULL;
	return g->conf->start_method == CONF_START_FORK ? serving_seed(g) : serving_template(g);
}

bool template_renews(const struct group *g)
{
	const struct worker *t;

	if (!g->conf || g->conf->start_method != CONF_START_FORKSERVER)
		return true;
	t = serving_template(g);
	return t && t->slot->w.generation == g->row->generation;
}

bool template_held(const struct group *g)
{
	return g->conf && g->conf->start_method == CONF_START_FORKSERVER &&
	       g->row->template_failed == g->row->generation;
}

/* --- starts of workers ----------------------------------------------------------------------- */

static bool by_exec(const struct worker *w)
{
	const struct conf_group *c = w->group->conf;

	return !group_forks(c) || w->slot->kind != SLOT_WORKER || w->slot->by_spawn_next ||
	       (c->start_method == CONF_START_FORK && w->slot->index == 0);
}

/* It will hardly come. */
static bool troubled(const struct worker *t)
{
	return t && (t->slot->w.state == WS_QUARANTINED || t->slot->w.state == WS_BACKOFF ||
		     t->slot->w.state == WS_STUCK);
}

static bool seed_may_come(const struct group *g)
{
	const struct worker *seed = g->n_workers > 0 ? g->workers[0] : NULL;
	const struct worker_state *s = seed ? &seed->slot->w : NULL;
	int64_t patience = g->conf->template.load_timeout_ms;

	if (!seed || !worker_wanted(seed) || s->state == WS_QUARANTINED || s->state == WS_DONE ||
	    s->state == WS_STUCK || s->state == WS_BACKOFF)
		return false;
	if (s->state != WS_STARTING && s->state != WS_READY)
		return true;
	return patience == DURATION_NEVER || clock_mono_ms() - s->started_ms < patience;
}

bool template_comes(const struct group *g)
{
	for (size_t i = 0; i < ARRAY_LEN(g->templates); i++) {
		const struct worker *t = g->templates[i];

		if (troubled(t) && (g->conf->template.fallback == CONF_FALLBACK_SPAWN ||
				    t->slot->w.state == WS_QUARANTINED))
			return false;
	}
	return true;
}

bool template_blocks(const struct worker *w)
{
	const struct group *g = w->group;
	const struct worker *source;

	if (by_exec(w))
		return false;
	source = template_serving(g);
	if (source && source->slot->template.unsafe && source->slot->template.recycle)
		return template_comes(g); /* the next one is being loaded */
	if (source)
		return source->forker->n_owed >= TEMPLATE_PIPELINE;
	if (g->conf->start_method == CONF_START_FORK)
		return seed_may_come(g);
	return template_comes(g);
}

bool template_makes(const struct worker *w)
{
	const struct conf_group *c = w->group->conf;

	if (by_exec(w))
		return false;
	if (template_serving(w->group))
		return true;
	return c->start_method == CONF_START_FORKSERVER &&
	       c->template.fallback == CONF_FALLBACK_NONE;
}

const char *template_waits_for(const struct worker *w)
{
	if (w->slot->w.state != WS_WAITING || !template_blocks(w))
		return NULL;
	return w->group->conf->start_method == CONF_START_FORK ? "seed" : "template";
}

/* --- which there should be ------------------------------------------------------------------- */

static bool is_up(const struct worker *t)
{
	return t && (t->slot->w.wanted_up || t->slot->life[0] != LEDGER_NONE);
}

static void want(struct worker *t, bool up)
{
	if (!t)
		return;
	if (up && !t->slot->w.wanted_up)
		worker_forget(&t->slot->w);
	t->slot->w.wanted_up = up;
	t->surplus = !t->group->conf || t->group->conf->start_method != CONF_START_FORKSERVER;
	t->discard = t->discard && t->surplus;
	worker_reconcile(t);
}

/* Load with the configuration and code of now. */
static void load(struct group *g, size_t i)
{
	struct worker *t;

	if (!g->templates[i] && group_add_template(g, (uint32_t)i) < 0)
		return;
	t = g->templates[i];
	if (!t->slot->w.wanted_up && t->slot->life[0] != LEDGER_NONE)
		return; /* an old one is still there: its end comes first */
	want(t, true);
	if (t->slot->w.generation != g->row->generation && t->slot->life[0] != LEDGER_NONE &&
	    t->slot->w.state == WS_STARTING)
		worker_post(t, WI_RENEW);
}

static bool has_workers(const struct group *g, const struct worker *t)
{
	for (uint32_t i = 0; i < g->n_workers; i++) {
		const struct ledger_life *life = g->workers[i] ? worker_life(g->workers[i]) : NULL;

		if (life && life->handover != HAND_NONE && life->source_slot == t->row &&
		    life->source_incarnation == t->slot->w.incarnation)
			return true;
	}
	return false;
}

/* The one that does not serve any more: until its last worker is gone, so that a look at it shows
 * what these run; one that is renewed for its own sake at once. */
static void retire(struct group *g, struct worker *old)
{
	if (!is_up(old) || !old->slot->w.wanted_up)
		return;
	if (!old->slot->template.draining) {
		old->slot->template.draining = 1;
		log_info("%s: draining: the next one serves", old->name);
		g->m->changed = true;
	}
	if (old->forker && old->forker->n_owed > 0)
		return; /* it was asked before */
	if (old->slot->template.recycle || !has_workers(g, old))
		want(old, false);
}

static bool needed(const struct group *g)
{
	if (!g->conf || g->conf->start_method != CONF_START_FORKSERVER ||
	    g->m->ledger.h->phase != PHASE_RUN)
		return false;
	for (uint32_t i = 0; i < g->n_workers; i++)
		if (g->workers[i] && g->workers[i]->slot->w.wanted_up &&
		    g->workers[i]->slot->w.state != WS_DONE)
			return true;
	return false;
}

static void step_group(struct group *g)
{
	struct worker *serves;
	size_t other;
	bool next;

	if (!needed(g)) {
		for (size_t i = 0; i < ARRAY_LEN(g->templates); i++)
			if (g->templates[i] && (g->templates[i]->slot->w.wanted_up || !g->conf ||
						g->conf->start_method != CONF_START_FORKSERVER))
				want(g->templates[i], false);
		return;
	}
	serves = serving_template(g);
	if (!serves) {
		bool second = is_up(g->templates[1]) && !is_up(g->templates[0]);

		load(g, second);
		return;
	}
	other = 1 - serves->slot->index % ARRAY_LEN(g->templates);
	next = serves->slot->template.recycle ||
	       (serves->slot->w.generation != g->row->generation && !template_held(g));
	if (!next)
		retire(g, g->templates[other]);
	else if (g->templates[other] && g->templates[other]->slot->template.draining)
		want(g->templates[other], false); /* the third makes room for the next */
	if (next)
		load(g, other);
}

/* A seed stands at its first fork point until all of its siblings are copied. Those that run
 * already, of an earlier seed, need no copy: it is told to go on. */
static void release_seeds(struct group *g)
{
	for (uint32_t i = 0; i < g->n_workers; i++) {
		const struct worker *w = g->workers[i];

		if (w && worker_wanted(w) &&
		    (w->slot->w.state == WS_WAITING || w->slot->w.state == WS_STOPPED))
			return;
	}
	for (uint32_t i = 0; i < g->n_workers; i++) {
		struct worker *w = g->workers[i];

		/* one question at a time: an answer to another one would be an answer to none */
		if (!can_fork(w) || w->slot->template.released || w->forker->n_owed > 0 ||
		    w->forker->ping)
			continue;
		template_ping(w->forker);
		FAIL_HERE(SEED_RELEASE);
		w->slot->template.released = !w->forker->ping_due;
		FAIL_HERE(SEED_RELEASED);
	}
}

void templates_step(struct manager *m)
{
	for (size_t i = 0; i < m->n_groups; i++) {
		const struct group *g = m->groups[i];

		if (g->conf && g->conf->start_method == CONF_START_FORK)
			release_seeds(m->groups[i]);
		if (g->templates[0] || g->templates[1] ||
		    (g->conf && g->conf->start_method == CONF_START_FORKSERVER))
			step_group(m->groups[i]);
	}
}

/* --- ends ------------------------------------------------------------------------------------ */

void template_failed(struct worker *w)
{
	struct group *g = w->group;
	struct worker *serves = serving_template(g);

	if (w->slot->kind != SLOT_TEMPLATE || w->slot->template.ready_ms || !serves ||
	    serves == w || !w->slot->w.wanted_up || w->slot->w.generation != g->row->generation ||
	    serves->slot->w.generation == g->row->generation)
		return;
	g->row->template_failed = g->row->generation;
	/* where the old one is to go for its own sake another try has to be made, in its time */
	if (!serves->slot->template.recycle)
		w->slot->w.wanted_up = 0;
	log_error("%s: generation %u cannot be loaded%s%s: %s of generation %u goes on", w->name,
		  w->slot->w.generation, w->slot->error[0] ? ": " : "", w->slot->error,
		  serves->name, serves->slot->w.generation);
	g->m->changed = true;
}

/* --- recycling ------------------------------------------------------------------------------- */

static void recycle(struct worker *w, enum template_recycle why, const char *text)
{
	if (w->slot->kind != SLOT_TEMPLATE || w->slot->template.recycle)
		return;
	log_info("%s: %s: the next one is loaded", w->name, text);
	w->slot->template.recycle = (uint8_t)why;
	w->m->changed = true;
}

static void age_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	const struct forker *f = t->data;

	recycle(f->w, RECYCLE_AGE, "max_age is reached");
}

void template_age(struct forker *f)
{
	const struct conf_group *c = f->w->group->conf;
	int64_t age = c ? c->template.max_age_ms : 0, since = f->w->slot->template.ready_ms;

	if (age <= 0 || age == DURATION_NEVER || f->w->slot->kind != SLOT_TEMPLATE)
		return;
	ev_timer_stop(f->w->m->loop, &f->age);
	ev_timer_init(&f->age, age_fired,
		      (double)MAX_OF(since + age - clock_mono_ms(), 0) / 1000. + .001, 0.);
	f->age.data = f;
	ev_timer_start(f->w->m->loop, &f->age);
}

void template_forked(struct worker *w)
{
	const struct conf_group *c = w->group->conf;

	w->slot->template.forks++;
	if (c && c->template.max_forks > 0 &&
	    w->slot->template.forks >= (uint32_t)c->template.max_forks)
		recycle(w, RECYCLE_FORKS, "max_forks is reached");
}
