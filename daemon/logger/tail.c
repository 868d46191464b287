/* Owns what clients see of the rings: lines as they were read, or the last ones of a stream whose
 * destination cannot be read back. */
#include "logger/client.h"

#include "base/clock.h"
#include "base/mem.h"
#include "logger/marks.h"
#include "logger/ring.h"

#include <string.h>

#define LINES_TURN 512
#define TIME_LEN   27

void tail_rewind(const struct logger *lg, struct tail *t, int64_t lines)
{
	uint64_t oldest = logbook_oldest(&lg->lb, t->stream);
	struct span in;
	size_t at, all;

	ring_span(&lg->lb, t->stream, oldest, ring_total(&lg->lb, t->stream), &in);
	all = at = in.len[0] + in.len[1];
	t->history_to = 0;
	for (int64_t found = -1; at > 0; at--) {
		char c = at > in.len[0] ? in.data[1][at - in.len[0] - 1] : in.data[0][at - 1];

		if (c != '\n')
			continue;
		if (t->history_to == 0)
			t->history_to = oldest + at;
		if (++found == lines)
			break;
	}
	/* The oldest bytes may be the end of a line whose beginning is gone. */
	if (at == 0 && oldest > 0) {
		struct unit u;

		if (format_unit(&in, 0, false, &u))
			at = u.take;
	}
	t->cursor = t->history_to ? oldest + at : oldest + all;
	t->history_to = MAX_OF(t->history_to, t->cursor);
}

/* The client was slower than the ring: the rest of a line whose beginning is gone goes too. */
static void skip_lost(struct logger *lg, struct client *c, struct tail *t)
{
	uint64_t oldest = logbook_oldest(&lg->lb, t->stream);
	struct span in;
	struct unit u;

	if (t->cursor >= oldest)
		return;
	ring_span(&lg->lb, t->stream, oldest, ring_total(&lg->lb, t->stream), &in);
	if (format_unit(&in, 0, false, &u))
		oldest += u.take;
	c->lost += oldest - t->cursor;
	t->cursor = oldest;
}

static void cut_span(const struct span *in, size_t from, size_t len, struct reply_line *l)
{
	for (int i = 0, n = 0; i < 2 && len > 0; i++) {
		size_t take;

		if (from >= in->len[i]) {
			from -= in->len[i];
			continue;
		}
		take = MIN_OF(len, in->len[i] - from);
		l->text[n] = in->data[i] + from;
		l->len[n++] = take;
		len -= take;
		from = 0;
	}
}

/* The time of the line at the cursor; 0 if only its bytes are known. */
static int64_t time_of(struct logger *lg, const struct client *c, const struct tail *t)
{
	const struct stream *st = stream_get(lg, t->stream);
	int64_t us = st && st->marks ? marks_find(st->marks, t->cursor) : 0;

	if (t->cursor < t->history_to)
		return 0;
	return us ? us : c->now_us;
}

static const char *time_text(struct client *c, int64_t us)
{
	if (us == 0)
		return NULL;
	if (us != c->stamp_us)
		clock_format(us, c->stamp);
	c->stamp_us = us;
	return c->stamp;
}

static uint64_t end_of(struct logger *lg, const struct client *c, const struct tail *t)
{
	return c->follow ? ring_total(&lg->lb, t->stream) : t->history_to;
}

/* Lines up to a time, at most n; how many were given. */
static int give_run(struct logger *lg, struct client *c, struct tail *t, int64_t until_us, int n,
		    bool *ret_full)
{
	const struct logbook_stream *s = logbook_stream(&lg->lb, t->stream);
	uint64_t to = end_of(lg, c, t), end_at = atomic_load(&s->end_at);
	bool end = t->cursor < end_at && end_at <= to;
	struct span in;
	struct unit u;
	size_t at = 0;
	int given = 0;

	ring_span(&lg->lb, t->stream, t->cursor, end ? end_at : to, &in);
	while (given < n && t->when_us <= until_us && !*ret_full && format_unit(&in, at, end, &u)) {
		struct reply_line l = { .worker = s->label,
					.worker_len = strnlen(s->label, LOGBOOK_LABEL),
					.at = time_text(c, t->when_us),
					.at_len = TIME_LEN,
					.err = t->stream >= LOGBOOK_ERR,
					.partial = u.take == u.text };

		if (c->follow) {
			l.stream = t->stream;
			l.end = t->cursor + u.take;
		}
		cut_span(&in, at, u.text, &l);
		at += u.take;
		t->cursor += u.take;
		given++;
		*ret_full = !client_add(c, &l);
		t->when_us = time_of(lg, c, t);
	}
	return given;
}

/* Of the same time each one is first in its turn. */
static bool comes_before(const void *arg, uint32_t a, uint32_t b)
{
	const struct client *c = arg;
	int64_t x = c->tails[a].when_us, y = c->tails[b].when_us;

	if (x != y)
		return x < y;
	return (a + c->n_tails - c->turn_tail) % c->n_tails <
	       (b + c->n_tails - c->turn_tail) % c->n_tails;
}

/* Tails that have bytes, by the time of their next line. */
static struct heap order_tails(struct logger *lg, struct client *c)
{
	struct heap h = { .at = c->order, .before = comes_before, .arg = c };

	c->turn_tail = c->n_tails ? (c->turn_tail + 1) % c->n_tails : 0;
	for (uint32_t i = 0; i < c->n_tails; i++) {
		struct tail *t = &c->tails[i];

		skip_lost(lg, c, t);
		if (t->cursor >= end_of(lg, c, t))
			continue;
		t->when_us = time_of(lg, c, t);
		heap_push(&h, i);
	}
	return h;
}

/* The first one gives until another one has older lines. */
static int64_t time_of_second(const struct client *c, const struct heap *h)
{
	int64_t us = INT64_MAX;

	for (uint32_t i = 1; i < h->n && i <= 2; i++)
		us = MIN_OF(us, c->tails[h->at[i]].when_us);
	return us;
}

bool tail_give(struct logger *lg, struct client *c)
{
	struct heap h = order_tails(lg, c);
	int left = LINES_TURN;
	bool full = false;

	while (h.n > 0 && left > 0 && !full) {
		struct tail *t = &c->tails[h.at[0]];
		int n = give_run(lg, c, t, time_of_second(c, &h), left, &full);

		left -= n;
		if (n == 0 || t->cursor >= end_of(lg, c, t))
			heap_pop(&h);
		else
			heap_settle(&h);
	}
	return h.n > 0;
}
