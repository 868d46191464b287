/*
 * Owns the queue of workers that want to start. A worker leaves it when what it depends on is
 * there, its turn has come and fewer than daemon.start_concurrency starts are in flight; only a
 * few per loop turn, so that a mass start never keeps a client waiting (SP22).
 */
#include "manager/worker.h"

#include "base/clock.h"
#include "manager/template.h"
#include "manager/threads.h"

#include <stdio.h>
#include <string.h>

#define STARTS_PER_TURN 16

void admit_enqueue(struct worker *w)
{
	struct manager *m = w->m;

	if (w->queued_start)
		return;
	w->queued_start = true;
	w->next_start = NULL;
	*m->starts_tail = w;
	m->starts_tail = &w->next_start;
}

/* `after`: all wanted workers of that group are ready, or done well. */
static bool group_up(struct group *g)
{
	int wanted, ready;

	if (!g || !g->conf)
		return false;
	if (g->up_pass != g->m->admit_pass) { /* once per pass, however many wait for it */
		group_count(g, &wanted, &ready);
		g->up = wanted > 0 && ready == wanted;
		g->up_pass = g->m->admit_pass;
	}
	return g->up;
}

static const char *blocking_group(const struct worker *w)
{
	const struct conf_group *c = w->group->conf;

	/* only the first start waits (reference §4), and a template may load meanwhile */
	if (!c || w->slot->kind != SLOT_WORKER || w->slot->w.incarnation > 0)
		return NULL;
	for (char **a = c->after; a && *a; a++)
		if (!group_up(manager_find_group(w->m, *a)))
			return *a;
	return NULL;
}

bool admit_waits_for_turn(const struct worker *w)
{
	return w->slot->w.state == WS_WAITING && !blocking_group(w);
}

static bool budget_left(const struct manager *m)
{
	return m->starts_in_flight < (uint32_t)m->conf->daemon.start_concurrency;
}

/* Take the worker at *at out of the queue. */
static void unlink_start(struct manager *m, struct worker **at)
{
	struct worker *w = *at;

	*at = w->next_start;
	if (m->starts_tail == &w->next_start)
		m->starts_tail = at;
	w->queued_start = false;
}

void admit_run(struct manager *m)
{
	struct worker **at = &m->starts_head;
	int started = 0;

	m->starts_more = false;
	m->admit_pass++;
	while (*at) {
		struct worker *w = *at;

		if (w->slot->w.state != WS_WAITING) {
			unlink_start(m, at);
			worker_reconcile(w); /* a surplus one could not be freed in here */
		} else if (blocking_group(w) || spare_blocks(w) || threads_blocks(w)) {
			at = &w->next_start;
		} else if (!budget_left(m)) {
			break;
		} else if (started++ == STARTS_PER_TURN) {
			m->starts_more = true;
			break;
		} else {
			unlink_start(m, at);
			worker_post(w, WI_GO);
		}
		workers_drain(m);
	}
}

size_t admit_waiting_for(const struct worker *w, char ret[][80], size_t n)
{
	const struct conf_group *c = w->group->conf;
	size_t found = 0;

	if (w->slot->w.state != WS_WAITING || !c)
		return 0;
	for (char **a = c->after; a && *a && found < n && w->slot->w.incarnation == 0; a++)
		if (!group_up(manager_find_group(w->m, *a)))
			snprintf(ret[found++], 80, "%s", *a);
	if (found < n && w->slot->life[1] != LEDGER_NONE && spare_blocks(w))
		snprintf(ret[found++], 80, "spare");
	else if (found < n && template_waits_for(w))
		snprintf(ret[found++], 80, "%s/%s", w->group->row->name, template_waits_for(w));
	if (found < n && threads_blocks(w))
		snprintf(ret[found++], 80, "%s/host", w->group->row->name);
	if (found == 0 && n > 0)
		snprintf(ret[found++], 80, "start budget");
	return found;
}
