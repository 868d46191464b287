/*
 * Owns groups and the set of their workers: the configuration says which there should be, the
 * ledger which there are. group_fit() closes the gap and may be called at any time.
 */
#include "manager/worker.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "manager/tree.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct group *manager_find_group(const struct manager *m, const char *name)
{
	size_t low = 0, high = m->n_groups;

	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = strcmp(name, m->groups[middle]->row->name);

		if (order == 0)
			return m->groups[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

struct worker *manager_find_worker(const struct manager *m, const char *group, uint32_t index)
{
	struct group *g = manager_find_group(m, group);

	return g && index < g->n_workers ? g->workers[index] : NULL;
}

int group_workers_wanted(const struct group *g)
{
	if (!g->conf)
		return 0;
	return g->row->scale >= 0 ? g->row->scale : g->conf->workers;
}

int group_room(const struct group *g)
{
	const struct manager *m = g->m;
	int64_t room = LEDGER_ROWS;

	for (size_t i = 0; i < m->n_groups; i++) {
		const struct group *other = m->groups[i];

		room -= (other->templates[0] != NULL) + (other->templates[1] != NULL) +
			(other->host != NULL);
		if (other != g)
			room -= MAX_OF((int64_t)other->n_workers, group_workers_wanted(other));
	}
	return (int)MAX_OF(room, 0);
}

void group_count(const struct group *g, int *ret_wanted, int *ret_ready)
{
	int wanted = 0, ready = 0;

	for (uint32_t i = 0; i < g->n_workers; i++) {
		const struct worker_state *s;

		if (!g->workers[i])
			continue;
		s = &g->workers[i]->slot->w;
		wanted += s->wanted_up;
		ready += s->wanted_up &&
			 (s->state == WS_READY || (s->state == WS_DONE && s->ended_well));
	}
	*ret_wanted = wanted;
	*ret_ready = ready;
}

static int grow(struct group *g, uint32_t n)
{
	struct worker **bigger;

	if (n <= g->n_workers)
		return 0;
	bigger = realloc(g->workers, n * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	memset(bigger + g->n_workers, 0, (n - g->n_workers) * sizeof(*bigger));
	g->workers = bigger;
	g->n_workers = n;
	return 0;
}

/* Where the group keeps the view of a slot. */
static struct worker **place_of(struct group *g, const struct ledger_slot *slot)
{
	if (slot->kind == SLOT_TEMPLATE)
		return &g->templates[slot->index % ARRAY_LEN(g->templates)];
	if (slot->kind == SLOT_HOST)
		return &g->host;
	return &g->workers[slot->index];
}

/* Somebody is left: a worker, or who makes workers. */
static bool populated(const struct group *g)
{
	return g->n_workers > 0 || g->templates[0] || g->templates[1] || g->host;
}

/* The view of a slot. */
static int add_view(struct group *g, uint32_t row)
{
	struct manager *m = g->m;
	struct ledger_slot *slot = ledger_slot(&m->ledger, row);
	struct worker *w;

	if (slot->kind == SLOT_WORKER && grow(g, slot->index + 1) < 0)
		return -ENOMEM;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->m = m;
	w->group = g;
	w->slot = slot;
	w->row = row;
	w->notify_fd = w->pipe_out = w->pipe_err = w->hand_fd = w->spare_fd = -1;
	ev_init(&w->timer, NULL);
	ledger_slot_name(&m->ledger, slot, w->name);
	m->by_slot[row] = w;
	*place_of(g, slot) = w;
	m->in_state[slot->w.state]++;
	return 0;
}

static int add_slot(struct group *g, enum slot_kind kind, uint32_t index)
{
	uint32_t row = ledger_take_slot(&g->m->ledger, g->index, kind, index);
	struct worker_state *s;

	if (row == LEDGER_NONE)
		return -ENOSPC;
	s = &ledger_slot(&g->m->ledger, row)->w;
	s->state = WS_STOPPED;
	s->wanted_up = kind == SLOT_WORKER && g->conf->autostart;
	s->deadline_ms = DURATION_NEVER;
	s->since_ms = clock_mono_ms();
	s->seed = (uint32_t)clock_real_us() ^ (row * 2654435761u) ^ 1u;
	return add_view(g, row);
}

int group_add_template(struct group *g, uint32_t index)
{
	return add_slot(g, SLOT_TEMPLATE, index);
}

int group_add_host(struct group *g)
{
	return add_slot(g, SLOT_HOST, 0);
}

int group_fit(struct group *g)
{
	uint32_t n = (uint32_t)group_workers_wanted(g);
	int r;

	for (uint32_t i = 0; i < n; i++) {
		if (i < g->n_workers && g->workers[i])
			continue;
		r = add_slot(g, SLOT_WORKER, i);
		if (r < 0)
			return r;
	}
	for (uint32_t i = 0; i < g->n_workers; i++) {
		struct worker *w = g->workers[i];

		if (!w)
			continue;
		if (w->surplus && i < n) /* wanted again before it was gone */
			w->slot->w.wanted_up = g->conf->autostart;
		w->surplus = i >= n;
		w->discard = false;
		if (w->surplus)
			w->slot->w.wanted_up = 0;
		worker_reconcile(w);
	}
	return 0;
}

static void drop_streams(struct worker *w)
{
	struct manager *m = w->m;

	for (int err = 0; err < 2; err++) {
		uint32_t stream = w->row + (err ? LOGBOOK_ERR : 0);

		if (!logbook_stream(&m->book, stream)->used)
			continue;
		FAIL_HERE(STREAM_CLEAR);
		logbook_stream_clear(&m->book, stream);
		FAIL_HERE(STREAM_CLEARED);
		store_drop(m->store, err ? RF_LOG_ERR : RF_LOG_OUT, w->row, "");
	}
	m->logger_news = true;
}

void group_forget_worker(struct worker *w)
{
	struct manager *m = w->m;
	struct group *g = w->group;

	/* what it said last is still on its way; the bell of the logger brings us back */
	if (w->draining || w->queued_start) {
		w->discard = false;
		return;
	}
	drop_streams(w);
	ev_timer_stop(m->loop, &w->timer);
	close_fd(&w->pipe_out);
	close_fd(&w->pipe_err);
	*place_of(g, w->slot) = NULL;
	while (g->n_workers > 0 && !g->workers[g->n_workers - 1])
		g->n_workers--;
	m->by_slot[w->row] = NULL;
	m->in_state[w->slot->w.state]--;
	FAIL_HERE(SLOT_FREE);
	ledger_free_slot(&m->ledger, w->row);
	FAIL_HERE(SLOT_FREED);
	free(w);
	m->changed = true;
	if (!populated(g) && !g->conf)
		m->groups_gone = true;
}

/* A journal takes the worker's own stream; the ring still keeps what goes through our pipe. */
static int sink_of(struct group *g, const struct conf_log *log, const char *path)
{
	struct conf_log plan = *log;

	if (plan.to == CONF_LOG_JOURNAL)
		plan.to = CONF_LOG_NULL;
	return logbook_sink_put(&g->m->book, &plan, path, true);
}

void group_mark_log(struct worker *w, bool err)
{
	const struct logbook *book = &w->m->book;
	uint32_t stream = w->row + (err ? LOGBOOK_ERR : 0);

	w->slot->log_from[err].total = logbook_total(book, stream);
	w->slot->log_from[err].dropped = logbook_stream(book, stream)->dropped;
}

/* Before it is used: whatever the row's stream counts so far was another worker's. */
static void set_stream(struct worker *w, bool err, uint32_t sink)
{
	uint32_t stream = w->row + (err ? LOGBOOK_ERR : 0);

	if (!logbook_stream(&w->m->book, stream)->used)
		group_mark_log(w, err);
	logbook_stream_set(&w->m->book, stream, sink, w->name, err ? STREAM_ERR : 0);
}

void group_plan_stream(struct group *g, struct worker *w)
{
	const struct conf_log *log = &g->conf->log;
	struct conf_worker who = { g->row->name, (int)w->slot->index };
	auto_str path = { 0 };
	int sink;

	conf_expand(log->file ? log->file : "", &who, &path);
	sink = sink_of(g, log, path.data ? path.data : "");
	if (sink < 0) {
		log_warn("%s: no log: %s", w->name, strerror(-sink));
		return;
	}
	FAIL_HERE(STREAM_SET);
	set_stream(w, false, (uint32_t)sink);
	if (log->stderr_to == CONF_STDERR_SEPARATE)
		set_stream(w, true, (uint32_t)sink);
	g->m->logger_news = true;
}

/* Live changes of `log` reach the workers that run. */
static void replan(struct group *g)
{
	for (uint32_t i = 0; i < g->n_workers; i++)
		if (g->workers[i] && logbook_stream(&g->m->book, g->workers[i]->row)->used)
			group_plan_stream(g, g->workers[i]);
	for (size_t i = 0; i < ARRAY_LEN(g->templates); i++)
		if (g->templates[i] && logbook_stream(&g->m->book, g->templates[i]->row)->used)
			group_plan_stream(g, g->templates[i]);
	if (g->host && logbook_stream(&g->m->book, g->host->row)->used)
		group_plan_stream(g, g->host);
}

static void take_policies(struct group *g)
{
	const struct conf_group *c = g->conf;
	struct ledger_group *row = g->row;
	uint64_t hash = conf_group_hash(c);

	if (row->hash != hash) {
		FAIL_HERE(GROUP_GENERATION);
		row->generation++;
		FAIL_HERE(GROUP_HASH);
		row->hash = hash;
	}
	if (row->scale >= 0 && row->workers_file != c->workers)
		row->scale = -1;
	FAIL_HERE(GROUP_POLICIES);
	row->configured = 1;
	row->orphans = (uint8_t)c->orphans;
	row->n_steps = (uint8_t)c->n_steps;
	memcpy(row->steps, c->steps, sizeof(row->steps));
	row->extend_max_ms = c->extend_max_ms;
}

/* The view of the group in a row; NULL without memory. */
static struct group *add_group(struct manager *m, uint32_t row)
{
	const char *name = ledger_group(&m->ledger, row)->name;
	struct group *g = calloc(1, sizeof(*g)), **bigger;
	size_t at;

	bigger = g ? realloc(m->groups, (m->n_groups + 1) * sizeof(*bigger)) : NULL;
	if (!bigger) {
		free(g);
		return NULL;
	}
	m->groups = bigger;
	g->m = m;
	g->index = row;
	g->row = ledger_group(&m->ledger, row);
	for (at = m->n_groups; at > 0 && strcmp(m->groups[at - 1]->row->name, name) > 0; at--)
		m->groups[at] = m->groups[at - 1];
	m->groups[at] = g;
	m->n_groups++;
	return g;
}

static struct group *find_or_add(struct manager *m, const char *name)
{
	struct group *g = manager_find_group(m, name);
	uint32_t row = g ? LEDGER_NONE : ledger_take_group(&m->ledger, name);

	return g || row == LEDGER_NONE ? g : add_group(m, row);
}

/* Groups that the ledger knows, with generation and scale, and their slots, as views. */
static int adopt(struct manager *m)
{
	const struct ledger_header *h = m->ledger.h;

	for (uint32_t i = 0; i < h->groups_high; i++) {
		const char *name = ledger_group(&m->ledger, i)->name;

		if (name[0] && !manager_find_group(m, name) && !add_group(m, i))
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < h->slots_high; i++) {
		struct ledger_slot *slot = ledger_slot(&m->ledger, i);
		struct group *g;

		if (!slot->used || m->by_slot[i])
			continue;
		g = manager_find_group(m, ledger_group(&m->ledger, slot->group)->name);
		if (!g || add_view(g, i) < 0)
			return -ENOMEM;
	}
	return 0;
}

int groups_room_for(const struct manager *m, const struct conf *next, struct diag *d)
{
	size_t added = 0;

	for (size_t i = 0; i < next->n_groups; i++)
		added += !manager_find_group(m, next->groups[i].name);
	if (m->n_groups + added <= LEDGER_GROUPS)
		return 0;
	return diag_set(
		d, -ENOSPC,
		"%zu new groups beside %zu that are there: the daemon keeps at most %u, and "
		"a removed one until its workers have ended; reload without the new groups "
		"first",
		added, m->n_groups, LEDGER_GROUPS);
}

int groups_build(struct manager *m)
{
	int r = adopt(m);

	for (size_t i = 0; i < m->n_groups; i++)
		m->groups[i]->conf = NULL;
	for (size_t i = 0; r == 0 && i < m->conf->n_groups; i++) {
		struct group *g = find_or_add(m, m->conf->groups[i].name);

		if (!g)
			return -ENOSPC;
		g->conf = &m->conf->groups[i];
		take_policies(g);
		replan(g);
	}
	for (size_t i = 0; r == 0 && i < m->n_groups; i++) {
		if (!m->groups[i]->conf)
			m->groups[i]->row->configured = 0;
		r = group_fit(m->groups[i]);
		if (r == -ENOSPC) {
			log_error("%s: no room for all its workers: the daemon keeps at most %u",
				  m->groups[i]->row->name, LEDGER_ROWS);
			r = 0;
		}
		if (!m->groups[i]->conf && !populated(m->groups[i]))
			m->groups_gone = true;
	}
	logbook_sinks_sweep(&m->book);
	return r;
}

void groups_prune(struct manager *m)
{
	size_t kept = 0;

	if (!m->groups_gone)
		return;
	m->groups_gone = false;
	for (size_t i = 0; i < m->n_groups; i++) {
		struct group *g = m->groups[i];

		if (g->conf || populated(g)) {
			m->groups[kept++] = g;
			continue;
		}
		FAIL_HERE(GROUP_FORGET);
		g->row->name[0] = '\0';
		ev_timer_stop(m->loop, &g->spare_timer);
		free(g->workers);
		free(g);
	}
	m->n_groups = kept;
	logbook_sinks_sweep(&m->book);
}
