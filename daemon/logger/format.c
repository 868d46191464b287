/*
 * Owns the three formats. Invariant: format_batch() of exactly the bytes that a batch took, with
 * FORMAT_TAKEN, the same flags, label and stamp, and without a limit, gives the same output: a
 * successor relies on it.
 */
#include "logger/format.h"

#include "base/clock.h"
#include "base/mem.h"
#include "ledger/logbook.h"
#include "logger/record.h"

#include <stdio.h>
#include <string.h>

static size_t span_len(const struct span *s)
{
	return s->len[0] + s->len[1];
}

/* Where the first newline at or after `from` is, looking at no more than max bytes. */
static bool find_newline(const struct span *s, size_t from, size_t max, size_t *ret)
{
	size_t skip = 0;

	for (int i = 0; i < 2; skip += s->len[i], i++) {
		size_t at, n;
		const char *nl;

		if (from >= skip + s->len[i])
			continue;
		at = from - skip;
		n = MIN_OF(s->len[i] - at, max);
		nl = memchr(s->data[i] + at, '\n', n);
		if (nl) {
			*ret = skip + (size_t)(nl - s->data[i]);
			return true;
		}
		max -= n;
		from += n;
		if (max == 0)
			break;
	}
	return false;
}

static char *put_span(const struct span *s, size_t from, size_t len, char *out)
{
	size_t skip = s->len[0];

	if (from < skip) {
		size_t n = MIN_OF(len, skip - from);

		memcpy(out, s->data[0] + from, n);
		out += n;
		from += n;
		len -= n;
	}
	if (len > 0)
		memcpy(out, s->data[1] + (from - skip), len);
	return out + len;
}

static unsigned char byte_at(const struct span *s, size_t at)
{
	return (unsigned char)(at < s->len[0] ? s->data[0][at] : s->data[1][at - s->len[0]]);
}

/* LOGBOOK_LINE bytes from `from` on, without the beginning of a character that goes on behind. */
static size_t piece_len(const struct span *s, size_t from)
{
	for (size_t n = 1; n <= 3; n++) {
		unsigned char c = byte_at(s, from + LOGBOOK_LINE - n);

		if (c >= 0xc0) {
			size_t all = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

			return all > n ? LOGBOOK_LINE - n : LOGBOOK_LINE;
		}
		if (c < 0x80)
			break;
	}
	return LOGBOOK_LINE;
}

bool format_unit(const struct span *in, size_t from, bool end, struct unit *ret)
{
	size_t left = span_len(in) - from, n;

	if (left == 0)
		return false;
	if (find_newline(in, from, LOGBOOK_LINE, &n)) {
		*ret = (struct unit){ n - from, n - from + 1, false };
	} else if (left >= LOGBOOK_LINE) {
		n = piece_len(in, from);
		*ret = (struct unit){ n, n, true };
	} else if (end) {
		*ret = (struct unit){ left, left, false };
	} else {
		return false;
	}
	return true;
}

static bool next_unit(const struct format *f, size_t from, struct unit *ret)
{
	size_t left = span_len(&f->in) - from;

	if (format_unit(&f->in, from, f->flags & FORMAT_END, ret))
		return true;
	if (!(f->flags & FORMAT_TAKEN) || left == 0)
		return false;
	*ret = (struct unit){ left, left, true };
	return true;
}

/* What stands before a whole and before a partial line. */
struct prefix {
	char text[2][80 + LOGBOOK_LABEL];
	size_t len[2];
};

static void make_prefix(const struct format *f, struct prefix *p)
{
	bool err = f->flags & FORMAT_ERR;
	char stamp[32];

	clock_format(f->stamp_us, stamp);
	for (int i = 0; i < 2; i++) {
		char *to = p->text[i];
		int n;

		if (f->flags & FORMAT_JSON)
			n = snprintf(to, sizeof(p->text[i]),
				     "{\"time\":\"%s\",\"worker\":\"%.*s\",\"stream\":\"%s\",",
				     stamp, (int)LOGBOOK_LABEL - 1, f->label, err ? "err" : "out");
		else
			n = snprintf(to, sizeof(p->text[i]), "%s %.*s%s%s ", stamp,
				     (int)LOGBOOK_LABEL - 1, f->label, err ? "!" : "",
				     i == 1 ? "+" : "");
		p->len[i] = (size_t)n;
	}
}

#define HEAD_MAX (sizeof(struct prefix) + 128)

/* What stands before the first line. */
static char *put_head(const struct format *f, const struct prefix *p, char *out)
{
	unsigned long long lost = f->lost;

	if (f->flags & FORMAT_BREAK)
		*out++ = '\n';
	if (lost == 0)
		return out;
	if (f->flags & (FORMAT_TEXT | FORMAT_JSON))
		out = mempcpy(out, p->text[0], p->len[0]);
	if (f->flags & FORMAT_JSON)
		out += sprintf(out, "\"lost_bytes\":%llu,\"line\":\"-- %llu bytes lost --\"}\n",
			       lost, lost);
	else
		out += sprintf(out, "-- %llu bytes lost --\n", lost);
	return out;
}

size_t format_head_len(const struct format *f)
{
	char head[HEAD_MAX];
	struct prefix p;

	make_prefix(f, &p);
	return (size_t)(put_head(f, &p, head) - head);
}

/* ---- text and json: something stands before each line ---- */

/* The end of the scratch joins a line whose bytes are in two places. */
#define JOIN_AT (FORMAT_SCRATCH - LOGBOOK_LINE)
_Static_assert(HEAD_MAX + RECORD_MEMBER_MAX(LOGBOOK_LINE) + 256 < JOIN_AT, "one line fits");

static char *put_text(const struct format *f, size_t from, size_t len, char *out)
{
	out = put_span(&f->in, from, len, out);
	*out++ = '\n';
	return out;
}

static char *put_record(const struct format *f, size_t from, const struct unit *u, char *join,
			char *out)
{
	const struct span *in = &f->in;
	const char *text = join;

	if (from + u->text <= in->len[0])
		text = in->data[0] + from;
	else if (from >= in->len[0])
		text = in->data[1] + (from - in->len[0]);
	else
		put_span(in, from, u->text, join);
	out = record_put_member(text, u->text, out);
	return stpcpy(out, u->partial ? ",\"partial\":true}\n" : "}\n");
}

/* Is there room for the line, whatever it looks like? (Of text, exactly: what a former version of
 * this program began is finished as it was begun.) */
static bool has_room(const struct format *f, const struct unit *u, size_t prefix, size_t used)
{
	return f->flags & FORMAT_JSON ? used + prefix + RECORD_MEMBER_MAX(u->text) + 20 <= JOIN_AT
				      : used + prefix + u->text + 1 <= FORMAT_SCRATCH;
}

static void line_batch(const struct format *f, size_t limit, bool force, char *scratch,
		       struct batch *ret)
{
	struct prefix p;
	struct unit u;
	char *out;

	make_prefix(f, &p);
	out = put_head(f, &p, scratch);
	while (next_unit(f, ret->in_len, &u)) {
		size_t prefix = p.len[u.partial];
		char *next = out;

		if (!has_room(f, &u, prefix, (size_t)(out - scratch)))
			break;
		next = mempcpy(next, p.text[u.partial], prefix);
		next = f->flags & FORMAT_JSON
			       ? put_record(f, ret->in_len, &u, scratch + JOIN_AT, next)
			       : put_text(f, ret->in_len, u.text, next);
		if ((size_t)(next - scratch) > limit && !(force && ret->in_len == 0))
			break;
		out = next;
		ret->in_len += u.take;
	}
	ret->iov[0] = (struct iovec){ scratch, (size_t)(out - scratch) };
	ret->n_iov = 1;
}

/* ---- raw ---- */

/* End of the last whole line within the first max bytes; 0 if there is none. */
static size_t last_line_end(const struct span *s, size_t max)
{
	if (max > s->len[0]) {
		const char *nl = memrchr(s->data[1], '\n', max - s->len[0]);

		if (nl)
			return s->len[0] + (size_t)(nl - s->data[1]) + 1;
		max = s->len[0];
	}
	if (max > 0) {
		const char *nl = memrchr(s->data[0], '\n', max);

		if (nl)
			return (size_t)(nl - s->data[0]) + 1;
	}
	return 0;
}

/* How much of the input a raw batch takes. */
static size_t raw_len(const struct format *f, size_t limit, bool force)
{
	size_t all = span_len(&f->in), n;
	struct unit u;

	if ((f->flags & FORMAT_END) && all <= limit)
		return all;
	n = last_line_end(&f->in, MIN_OF(all, limit));
	if (n > 0 || !next_unit(f, 0, &u))
		return n;
	return force || u.take <= limit ? u.take : 0;
}

static void add_iov(struct batch *b, const char *data, size_t len)
{
	if (len > 0)
		b->iov[b->n_iov++] = (struct iovec){ (void *)data, len };
}

static bool ends_with_newline(const struct span *s, size_t len)
{
	return len > s->len[0] ? s->data[1][len - s->len[0] - 1] == '\n'
			       : s->data[0][len - 1] == '\n';
}

static void raw_batch(const struct format *f, size_t limit, bool force, char *scratch,
		      struct batch *ret)
{
	size_t head = (size_t)(put_head(f, NULL, scratch) - scratch), n;

	/* One more byte is kept for the newline of an unfinished line. */
	n = raw_len(f, limit > head + 1 ? limit - head - 1 : 0, force);
	add_iov(ret, scratch, head);
	add_iov(ret, f->in.data[0], MIN_OF(n, f->in.len[0]));
	if (n > f->in.len[0])
		add_iov(ret, f->in.data[1], n - f->in.len[0]);
	if (n > 0 && n == span_len(&f->in) && (f->flags & FORMAT_END) &&
	    !ends_with_newline(&f->in, n))
		add_iov(ret, "\n", 1);
	ret->in_len = n;
}

void format_batch(const struct format *f, size_t limit, bool force, char *scratch,
		  struct batch *ret)
{
	*ret = (struct batch){ 0 };
	if (f->flags & (FORMAT_TEXT | FORMAT_JSON))
		line_batch(f, limit, force, scratch, ret);
	else
		raw_batch(f, limit, force, scratch, ret);
	if (ret->in_len == 0)
		ret->n_iov = 0;
	for (int i = 0; i < ret->n_iov; i++)
		ret->out_len += ret->iov[i].iov_len;
}
