/* Owns the list of problems of one load. Said once: the same words for the same line are dropped,
 * since one line of `defaults` is read for every group. */
#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void conf_report_fini(struct conf_report *r)
{
	free(r->items);
	*r = (struct conf_report){ 0 };
}

static bool known(const struct conf_report *r, const struct diag *d)
{
	for (size_t i = r->n; i-- > 0;)
		if (r->items[i].at.line == d->line && strcmp(r->items[i].at.text, d->text) == 0 &&
		    strcmp(r->items[i].at.file, d->file) == 0)
			return true;
	return false;
}

static struct conf_problem *room_for_one(struct conf_report *r)
{
	if ((r->n & (r->n - 1)) == 0) { /* grows by doubling */
		size_t size = r->n ? r->n * 2 : 1;
		void *items = realloc(r->items, size * sizeof(*r->items));

		if (!items)
			return NULL;
		r->items = items;
	}
	return &r->items[r->n];
}

/* Problems of one kind that are kept; errors must not drown in warnings. */
static size_t count_kind(const struct conf_report *r, bool warning)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n; i++)
		n += r->items[i].warning == warning;
	return n;
}

static void report_diag(struct conf_report *r, bool warning, const struct diag *d)
{
	size_t max = warning ? WARNINGS_MAX : PROBLEMS_MAX, have;
	struct conf_problem *p;

	if (!r)
		return;
	have = count_kind(r, warning);
	if (have < max && known(r, d))
		return;
	r->errors += !warning;
	p = have < max ? room_for_one(r) : NULL;
	if (!p)
		return;
	p->at = *d;
	p->warning = warning;
	r->n++;
	if (have + 1 == max)
		diag_at(&p->at, 0, d->file, 0, "more than %zu %s; the rest is not shown", max - 1,
			warning ? "warnings" : "errors");
}

void report_add(struct conf_report *r, bool warning, const char *file, int line, const char *format,
		...)
{
	struct diag d = { .line = line };
	va_list ap;

	if (!r)
		return;
	snprintf(d.file, sizeof(d.file), "%s", file ? file : "");
	va_start(ap, format);
	vsnprintf(d.text, sizeof(d.text), format, ap);
	va_end(ap);
	report_diag(r, warning, &d);
}

static int by_place(const void *a, const void *b)
{
	const struct diag *x = &((const struct conf_problem *)a)->at;
	const struct diag *y = &((const struct conf_problem *)b)->at;
	int c = strcmp(x->file, y->file);

	if (c == 0)
		c = (x->line > y->line) - (x->line < y->line);
	return c ? c : strcmp(x->text, y->text);
}

void report_sort(struct conf_report *r)
{
	if (r->n > 1)
		qsort(r->items, r->n, sizeof(*r->items), by_place);
}

void conf_report_print(const struct conf_report *r, struct str *out)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct diag *d = &r->items[i].at;

		if (d->file[0])
			str_addf(out, "%s:", d->file);
		if (d->line > 0)
			str_addf(out, "%d:", d->line);
		str_addf(out, "%s%s: %s\n", d->file[0] ? " " : "",
			 r->items[i].warning ? "warning" : "error", d->text);
	}
}
