/* Owns what clients see of the rings: lines as they were read, or the last ones of a stream whose
 * destination cannot be read back. */
#include "logger/client.h"

#include "base/clock.h"
#include "base/mem.h"
#include "logger/marks.h"
#include "logger/ring.h"

#include <string.h>

/* Lines of one stream before the next one has its turn. */
#define LINES_TURN 256
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

/* The time of the line at the cursor; NULL if only its bytes are known. */
static const char *time_of(struct logger *lg, struct client *c, const struct tail *t)
{
	const struct stream *st = stream_get(lg, t->stream);
	int64_t us = st && st->marks ? marks_find(st->marks, t->cursor) : 0;

	if (t->cursor < t->history_to)
		return NULL;
	if (us == 0)
		us = c->now_us;
	if (us != c->stamp_us)
		clock_format(us, c->stamp);
	c->stamp_us = us;
	return c->stamp;
}

/* True if the stream has more to give now. */
static bool give_stream(struct logger *lg, struct client *c, struct tail *t, bool *ret_full)
{
	const struct logbook_stream *s = logbook_stream(&lg->lb, t->stream);
	uint64_t to = c->follow ? ring_total(&lg->lb, t->stream) : t->history_to;
	uint64_t end_at = atomic_load(&s->end_at);
	bool end;
	struct span in;
	struct unit u;
	size_t at = 0;

	skip_lost(lg, c, t);
	if (t->cursor >= to)
		return false;
	end = t->cursor < end_at && end_at <= to;
	if (end)
		to = end_at;
	ring_span(&lg->lb, t->stream, t->cursor, to, &in);
	for (int n = 0; n < LINES_TURN && format_unit(&in, at, end, &u); n++) {
		struct reply_line l = { .worker = s->label,
					.worker_len = strnlen(s->label, LOGBOOK_LABEL),
					.at = time_of(lg, c, t),
					.at_len = TIME_LEN,
					.err = t->stream >= LOGBOOK_ERR,
					.partial = u.take == u.text };

		cut_span(&in, at, u.text, &l);
		at += u.take;
		t->cursor += u.take;
		if (!client_add(c, &l)) {
			*ret_full = true;
			return true;
		}
	}
	return at > 0;
}

bool tail_give(struct logger *lg, struct client *c)
{
	bool more = false, full = false;

	for (uint32_t n = 0; n < c->n_tails && !full; n++) {
		c->turn_tail = (c->turn_tail + 1) % c->n_tails;
		more |= give_stream(lg, c, &c->tails[c->turn_tail], &full);
	}
	return more;
}
