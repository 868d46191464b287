/*
 * Owns the histories of one reader. The last N lines of all are among the last N of each: these are
 * searched for, one log after the other, then merged from their oldest on; what is found beyond N
 * is passed over at the beginning. Memory is bounded whatever the number of logs is.
 */
#include "logger/merge.h"

#include "base/mem.h"
#include "logger/sink.h"

#include <errno.h>
#include <string.h>

#define MEMORY	   (4u << 20) /* of all blocks, about: each log has at least a page */
#define OPEN_LOGS  16	      /* of more logs none stays open: descriptors are for workers */
#define LINES_STEP 256

static bool comes_before(const void *arg, uint32_t a, uint32_t b)
{
	const struct merge *m = arg;
	int d = strcmp(m->logs[a].key, m->logs[b].key);

	return d ? d < 0 : a < b;
}

int merge_init(struct merge *m, uint32_t n, int64_t lines, int64_t since_us)
{
	*m = (struct merge){ .n = n, .wanted = lines, .since_us = since_us };
	m->logs = calloc(n + 1, sizeof(*m->logs));
	m->order = calloc(n + 1, sizeof(*m->order));
	m->heap = (struct heap){ .at = m->order, .before = comes_before, .arg = m };
	return m->logs && m->order ? 0 : -ENOMEM;
}

void merge_fini(struct merge *m)
{
	for (uint32_t i = 0; m->logs && i < m->n; i++)
		history_fini(&m->logs[i]);
	free(m->logs);
	free(m->order);
	*m = (struct merge){ .phase = MERGE_DONE };
}

int merge_open(struct merge *m, uint32_t i, const struct logbook_sink *row)
{
	return history_begin(&m->logs[i], row, m->wanted, m->since_us, MEMORY / m->n,
			     m->n <= OPEN_LOGS);
}

static void search(struct merge *m, history_wants *wants, void *arg)
{
	struct history *h = &m->logs[m->at];

	if (h->row && history_search(h, wants, arg))
		return;
	if (h->row && sink_has_heads(h->row))
		m->found += (uint64_t)h->found;
	if (++m->at < m->n)
		return;
	m->phase = MERGE_FILL;
	m->at = 0;
	if (m->wanted >= 0 && m->found > (uint64_t)m->wanted)
		m->skip = m->found - (uint64_t)m->wanted;
}

static void fill(struct merge *m, history_wants *wants, void *arg)
{
	struct history *h = &m->logs[m->at];
	struct history_line l;
	int r = h->row ? history_peek(h, wants, arg, &l) : 0;

	if (r == -EAGAIN)
		return;
	if (r > 0)
		heap_push(&m->heap, m->at);
	if (++m->at == m->n)
		m->phase = MERGE_GIVE;
}

static void give_lines(struct merge *m, history_wants *wants, merge_give *give, void *arg)
{
	for (int n = 0; n < LINES_STEP && m->heap.n > 0; n++) {
		uint32_t i = m->heap.at[0];
		struct history *h = &m->logs[i];
		struct history_line l;
		int r = history_peek(h, wants, arg, &l);
		bool more = true;

		if (r == -EAGAIN)
			return;
		if (r == 0) {
			history_fini(h);
			heap_pop(&m->heap);
			m->stale = false;
			continue;
		}
		if (m->stale) { /* its place may be another one with this line */
			m->stale = false;
			heap_settle(&m->heap);
			continue;
		}
		if (m->skip > 0 && sink_has_heads(h->row))
			m->skip--;
		else
			more = give(arg, i, &l);
		history_advance(h);
		m->stale = true;
		if (!more)
			return;
	}
	if (m->heap.n == 0)
		m->phase = MERGE_DONE;
}

bool merge_step(struct merge *m, history_wants *wants, merge_give *give, void *arg)
{
	if (m->n == 0)
		m->phase = MERGE_DONE;
	if (m->phase == MERGE_SEARCH)
		search(m, wants, arg);
	else if (m->phase == MERGE_FILL)
		fill(m, wants, arg);
	else if (m->phase == MERGE_GIVE)
		give_lines(m, wants, give, arg);
	return m->phase != MERGE_DONE;
}
