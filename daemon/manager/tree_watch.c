/*
 * Owns the watches of trees that are ending: an inotify of each leaf's cgroup.events, or a timer
 * where there is none. A look that finds a tree empty is life_look()'s.
 */
#include "manager/trees.h"

#include "base/mem.h"
#include "manager/cgroup.h"

#include <errno.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#define PAUSE_FIRST .02 /* between two looks at a tree that ends, in seconds */
#define PAUSE_STORM .001

void trees_look_in(struct trees *t, double pause)
{
	t->pause = pause;
	ev_timer_stop(t->m->loop, &t->timer);
	ev_timer_set(&t->timer, pause, 0.);
	ev_timer_start(t->m->loop, &t->timer);
}

struct watch *trees_find_watch(const struct trees *t, uint32_t row)
{
	for (struct watch *w = t->watches; w; w = w->next)
		if (w->life == row)
			return w;
	return NULL;
}

static bool same_life(const struct trees *t, const struct watch *w)
{
	const struct ledger_life *life = ledger_life(&t->m->ledger, w->life);

	return life->use != LIFE_FREE && life->incarnation == w->incarnation;
}

void tree_unwatch(struct manager *m, uint32_t row)
{
	struct trees *t = m->trees;

	for (struct watch **at = &t->watches; *at; at = &(*at)->next) {
		struct watch *w = *at;

		if (w->life != row)
			continue;
		*at = w->next;
		if (w->wd >= 0)
			inotify_rm_watch(t->inotify, w->wd);
		free(w);
		return;
	}
}

static void watch_leaf(struct trees *t, struct watch *w)
{
	char leaf[TREES_LEAF_BYTES], path[512];
	const char *base = t->m->ledger.h->cgroup_base;

	if (t->inotify < 0 || trees_leaf(t, w->life, leaf) < 0)
		return;
	if (snprintf(path, sizeof(path), "%s/%s/cgroup.events", base, leaf) < (int)sizeof(path))
		w->wd = inotify_add_watch(t->inotify, path, IN_MODIFY);
}

void tree_watch(struct manager *m, uint32_t row)
{
	struct trees *t = m->trees;
	struct watch *w = trees_find_watch(t, row);

	if (!w) {
		w = calloc(1, sizeof(*w));
		if (!w)
			return; /* the manager's tick looks at every life that is ending */
		w->life = row;
		w->incarnation = ledger_life(&m->ledger, row)->incarnation;
		w->wd = -1;
		watch_leaf(t, w);
		w->next = t->watches;
		t->watches = w;
	}
	/* it may have become empty before the watch was there */
	w->due = true;
	trees_look_in(t, 0.);
}

/* Look at all that are due. life_look() may change the list, so it runs after the walk. */
static void look_at_due(struct trees *t)
{
	struct pids empty = { 0 };

	evidence_stale(t->evidence);
	for (struct watch *w = t->watches; w; w = w->next) {
		if (!w->due)
			continue;
		w->due = false;
		if (!same_life(t, w))
			pids_add(&empty, (pid_t)w->life);
		else if (w->kill && trees_kill_again(t, w->life))
			t->pause = PAUSE_STORM;
		else if (tree_is_empty(t->m, w->life))
			pids_add(&empty, (pid_t)w->life);
	}
	for (size_t i = 0; i < empty.n; i++) {
		struct watch *w = trees_find_watch(t, (uint32_t)empty.at[i]);

		if (w && !same_life(t, w))
			tree_unwatch(t->m, w->life);
		else if (w)
			life_look(t->m, w->life);
	}
	pids_fini(&empty);
}

static void mark_due(struct trees *t, bool all)
{
	for (struct watch *w = t->watches; w; w = w->next)
		if (all || w->wd < 0 || w->kill)
			w->due = true;
}

static bool needs_timer(const struct trees *t)
{
	for (const struct watch *w = t->watches; w; w = w->next)
		if (w->due || w->wd < 0 || w->kill)
			return true;
	return t->n_removals > 0;
}

static void timer_fired(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct trees *t = timer->data;
	double pause = t->pause <= 0. ? PAUSE_FIRST : MIN_OF(t->pause * 1.5, TREES_PAUSE_S);

	if (t->pause > 0.) {
		mark_due(t, false);
		trees_retry_removals(t);
	}
	t->pause = pause;
	look_at_due(t);
	if (needs_timer(t) && !ev_is_active(&t->timer))
		trees_look_in(t, t->pause);
}

static void inotify_read(struct ev_loop *loop, ev_io *io, int events)
{
	struct trees *t = io->data;
	_Alignas(struct inotify_event) char text[4096];
	ssize_t n = read(t->inotify, text, sizeof(text));

	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *e = (const void *)(text + at);

		if (e->mask & IN_Q_OVERFLOW)
			mark_due(t, true);
		for (struct watch *w = t->watches; w; w = w->next)
			if (w->wd == e->wd && !(e->mask & IN_IGNORED))
				w->due = true;
		at += (ssize_t)(sizeof(*e) + e->len);
	}
	look_at_due(t);
}

/* The keeper reaped a child that is in no row: perhaps the last of a tree. */
void trees_news(struct manager *m)
{
	struct trees *t = m->trees;
	uint64_t reaped = m->ledger.h->strangers_reaped;

	if (reaped == t->strangers_reaped)
		return;
	t->strangers_reaped = reaped;
	evidence_stale(t->evidence);
	if (!t->watches)
		return;
	mark_due(t, false);
	look_at_due(t);
}

void trees_start_watching(struct trees *t)
{
	ev_init(&t->timer, timer_fired);
	t->timer.data = t;
	if (t->inotify < 0)
		return;
	ev_io_init(&t->io, inotify_read, t->inotify, EV_READ);
	t->io.data = t;
	ev_io_start(t->m->loop, &t->io);
}
