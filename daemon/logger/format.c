/*
 * Owns the two formats. Invariant: format_batch() of exactly the bytes that a batch took, with the
 * same flags, label and stamp and without a limit, gives the same output: a successor relies on it.
 */
#include "logger/format.h"

#include "base/clock.h"
#include "base/mem.h"
#include "ledger/logbook.h"

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

bool format_unit(const struct span *in, size_t from, bool end, struct unit *ret)
{
	size_t left = span_len(in) - from, nl;

	if (left == 0)
		return false;
	if (find_newline(in, from, LOGBOOK_LINE, &nl))
		*ret = (struct unit){ nl - from, nl - from + 1, false };
	else if (left >= LOGBOOK_LINE)
		*ret = (struct unit){ LOGBOOK_LINE, LOGBOOK_LINE, true };
	else if (end)
		*ret = (struct unit){ left, left, false };
	else
		return false;
	return true;
}

/* The prefixes of a whole and of a partial line. */
struct prefix {
	char text[2][32 + LOGBOOK_LABEL + 4];
	size_t len[2];
};

static void make_prefix(const struct format *f, struct prefix *p)
{
	const char *err = f->flags & FORMAT_ERR ? "!" : "";
	char stamp[32];

	clock_format(f->stamp_us, stamp);
	for (int i = 0; i < 2; i++)
		p->len[i] =
			(size_t)snprintf(p->text[i], sizeof(p->text[i]), "%s %.*s%s%s ", stamp,
					 (int)LOGBOOK_LABEL - 1, f->label, err, i == 1 ? "+" : "");
}

/* What stands before the first line. */
static char *put_head(const struct format *f, const struct prefix *p, char *out)
{
	if (f->flags & FORMAT_BREAK)
		*out++ = '\n';
	if (f->lost > 0) {
		if (f->flags & FORMAT_TEXT)
			out = mempcpy(out, p->text[0], p->len[0]);
		out += sprintf(out, "-- %llu bytes lost --\n", (unsigned long long)f->lost);
	}
	return out;
}

size_t format_head_len(const struct format *f)
{
	char head[sizeof(struct prefix) + 64];
	struct prefix p;

	make_prefix(f, &p);
	return (size_t)(put_head(f, &p, head) - head);
}

static void text_batch(const struct format *f, size_t limit, bool force, char *scratch,
		       struct batch *ret)
{
	struct prefix p;
	struct unit u;
	char *out, *end;

	make_prefix(f, &p);
	out = put_head(f, &p, scratch);
	end = scratch + MIN_OF(limit, FORMAT_SCRATCH);
	while (format_unit(&f->in, ret->in_len, f->flags & FORMAT_END, &u)) {
		size_t prefix = p.len[u.partial];

		if (out + prefix + u.text + 1 > end && !(force && ret->in_len == 0))
			break;
		out = mempcpy(out, p.text[u.partial], prefix);
		out = put_span(&f->in, ret->in_len, u.text, out);
		*out++ = '\n';
		ret->in_len += u.take;
	}
	ret->iov[0] = (struct iovec){ scratch, (size_t)(out - scratch) };
	ret->n_iov = 1;
}

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
	if (n > 0 || !format_unit(&f->in, 0, f->flags & FORMAT_END, &u))
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
	if (f->flags & FORMAT_TEXT)
		text_batch(f, limit, force, scratch, ret);
	else
		raw_batch(f, limit, force, scratch, ret);
	if (ret->in_len == 0)
		ret->n_iov = 0;
	for (int i = 0; i < ret->n_iov; i++)
		ret->out_len += ret->iov[i].iov_len;
}
