/* Owns the grammar of %{…}. Recursion is bounded by DEPTH_MAX, numbers by 10^12, so that nothing
 * written in a file can overflow or exhaust the stack. */
#include "arith.h"

#include <errno.h>

#define DEPTH_MAX 16
#define VALUE_MAX 1000000000000LL

struct reader {
	const char *p, *end;
	long long index;
	int depth;
	bool has_i, bad;
};

static long long sum(struct reader *r);

static char peek(struct reader *r)
{
	while (r->p < r->end && *r->p == ' ')
		r->p++;
	return r->p < r->end ? *r->p : '\0';
}

static long long bounded(struct reader *r, long long v)
{
	if (v > VALUE_MAX || v < -VALUE_MAX) {
		r->bad = true;
		return 0;
	}
	return v;
}

static long long number(struct reader *r)
{
	long long v = 0;

	for (; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++)
		v = bounded(r, v * 10 + (*r->p - '0'));
	return v;
}

static long long factor(struct reader *r)
{
	char c = peek(r);
	long long v = 0;

	if (++r->depth > DEPTH_MAX) {
		r->bad = true;
	} else if (c >= '0' && c <= '9') {
		v = number(r);
	} else if (c == 'i') {
		r->p++;
		r->has_i = true;
		v = r->index;
	} else if (c == '(') {
		r->p++;
		v = sum(r);
		if (peek(r) == ')')
			r->p++;
		else
			r->bad = true;
	} else {
		r->bad = true;
	}
	r->depth--;
	return v;
}

/* A divisor with i would be zero for some worker, perhaps after a `scale`. */
static long long divide(struct reader *r, char op, long long v)
{
	bool before = r->has_i;
	long long by;

	r->has_i = false;
	by = factor(r);
	if (by == 0 || r->has_i) {
		r->bad = true;
		by = 1;
	}
	r->has_i = before;
	return op == '/' ? v / by : v % by;
}

static long long product(struct reader *r)
{
	long long v = factor(r);
	char op;

	while (!r->bad && ((op = peek(r)) == '*' || op == '/' || op == '%')) {
		long long by;

		r->p++;
		if (op != '*') {
			v = divide(r, op, v);
		} else if (by = factor(r), __builtin_mul_overflow(v, by, &v)) {
			r->bad = true;
			v = 0;
		}
		v = bounded(r, v);
	}
	return v;
}

static long long sum(struct reader *r)
{
	long long v = product(r);
	char op;

	while (!r->bad && ((op = peek(r)) == '+' || op == '-')) {
		long long by;

		r->p++;
		by = product(r);
		v = bounded(r, op == '+' ? v + by : v - by);
	}
	return v;
}

/* "02d:" in front of the expression. */
static void read_width(struct reader *r, struct arith *a)
{
	const char *p = r->p;
	int width = 0;

	while (p < r->end && *p >= '0' && *p <= '9' && p - r->p < 3)
		width = width * 10 + (*p++ - '0');
	if (p == r->p || r->end - p < 2 || p[0] != 'd' || p[1] != ':')
		return;
	a->zero_pad = r->p[0] == '0';
	a->width = width;
	if (width < 1 || width > 20)
		r->bad = true;
	r->p = p + 2;
}

int arith_eval(const char *text, size_t len, long long index, struct arith *ret)
{
	struct reader r = { .p = text, .end = text + len, .index = index };
	struct arith a = { 0 };

	read_width(&r, &a);
	a.value = sum(&r);
	a.has_i = r.has_i;
	if (r.bad || peek(&r) != '\0' || r.p != r.end)
		return -EINVAL;
	*ret = a;
	return 0;
}
