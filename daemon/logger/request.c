/* Owns the reading of a `logs` request (the packet is described in ledger/logbook.h). */
#include "logger/client.h"

#include "base/mem.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#define LINES_DEFAULT 10

int request_add_tail(struct client *c, uint32_t stream)
{
	if (c->n_tails == c->room_tails) {
		uint32_t n = c->room_tails * 2 + 8;
		struct tail *bigger = realloc(c->tails, n * sizeof(*bigger));
		uint32_t *order = realloc(c->order, n * sizeof(*order));

		c->tails = bigger ? bigger : c->tails;
		c->order = order ? order : c->order;
		if (!bigger || !order)
			return -ENOMEM;
		c->room_tails = n;
	}
	c->tails[c->n_tails++] = (struct tail){ .stream = stream };
	return 0;
}

uint64_t request_label_hash(const char *label, size_t len, bool err)
{
	uint64_t h = err ? 14695981039346656038ull ^ 0xff : 14695981039346656038ull;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)label[i]) * 1099511628211ull;
	return h;
}

static int compare_hashes(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int compare_rows(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* A stream that nobody uses has no lines. */
static int add_if_used(struct logger *lg, struct client *c, uint32_t stream)
{
	const struct logbook_stream *s = logbook_stream(&lg->lb, stream);

	return s && atomic_load(&s->used) ? request_add_tail(c, stream) : 0;
}

static int add_all(struct logger *lg, struct client *c)
{
	uint32_t out = c->out_on ? atomic_load(&lg->lb.h->out_high) : 0;
	uint32_t err = c->err_on ? atomic_load(&lg->lb.h->err_high) : 0;
	int r = 0;

	for (uint32_t i = 0; i < out && r == 0; i++)
		r = add_if_used(lg, c, i);
	for (uint32_t i = 0; i < err && r == 0; i++)
		r = add_if_used(lg, c, LOGBOOK_ERR + i);
	return r;
}

/* A worker that was never started has no stream yet: it is followed once it has. */
static int add_wanted(struct logger *lg, struct client *c, uint32_t stream)
{
	c->wanted[c->n_wanted++] = stream;
	return add_if_used(lg, c, stream);
}

static int add_named(struct logger *lg, struct client *c, json_t *rows)
{
	json_t *row;
	size_t i;

	if (!json_is_array(rows))
		return -EINVAL;
	c->wanted = calloc(2 * json_array_size(rows) + 1, sizeof(*c->wanted));
	if (!c->wanted)
		return -ENOMEM;
	json_array_foreach(rows, i, row)
	{
		json_int_t slot = json_integer_value(json_array_get(row, 0));
		int r = 0;

		if (json_array_size(row) != 3 || slot < 0 || slot >= LOGBOOK_ROWS)
			return -EINVAL;
		if (json_integer_value(json_array_get(row, 1)))
			r = add_wanted(lg, c, (uint32_t)slot);
		if (r == 0 && json_integer_value(json_array_get(row, 2)))
			r = add_wanted(lg, c, LOGBOOK_ERR + (uint32_t)slot);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Which destinations and which labels the streams have. */
static int index_tails(struct logger *lg, struct client *c)
{
	uint32_t n = 0;

	c->sinks = calloc(c->n_tails + 1, sizeof(*c->sinks));
	c->labels = calloc(c->n_tails + 1, sizeof(*c->labels));
	c->raw_labels = calloc(c->n_tails + 1, sizeof(*c->raw_labels));
	if (!c->sinks || !c->labels || !c->raw_labels)
		return -ENOMEM;
	for (uint32_t i = 0; i < c->n_tails; i++) {
		const struct logbook_stream *s = logbook_stream(&lg->lb, c->tails[i].stream);

		c->sinks[i] = atomic_load(&s->sink);
		c->labels[i] = request_label_hash(s->label, strlen(s->label),
						  c->tails[i].stream >= LOGBOOK_ERR);
	}
	c->n_labels = c->n_tails;
	qsort(c->labels, c->n_labels, sizeof(*c->labels), compare_hashes);
	qsort(c->sinks, c->n_tails, sizeof(*c->sinks), compare_rows);
	for (uint32_t i = 0; i < c->n_tails; i++) {
		if (i == 0 || c->sinks[i] != c->sinks[n - 1])
			c->sinks[n++] = c->sinks[i];
	}
	c->n_sinks = n;
	return merge_init(&c->merge, n, c->lines, c->since_us);
}

static int read_request(struct logger *lg, struct client *c, json_t *o)
{
	json_t *lines = json_object_get(o, "lines"), *rows = json_object_get(o, "streams");
	int r;

	c->all = json_is_true(json_object_get(o, "all"));
	c->out_on = !json_is_false(json_object_get(o, "out"));
	c->err_on = !json_is_false(json_object_get(o, "err"));
	c->follow = json_is_true(json_object_get(o, "follow"));
	c->since_us = json_integer_value(json_object_get(o, "since_us"));
	c->lines = c->since_us > 0 ? -1 : LINES_DEFAULT;
	if (json_is_integer(lines))
		c->lines = MAX_OF(json_integer_value(lines), 0);
	r = c->all ? add_all(lg, c) : add_named(lg, c, rows);
	if (r == 0)
		r = index_tails(lg, c);
	if (r == 0 && json_is_string(json_object_get(o, "after")))
		places_take(lg, c, json_string_value(json_object_get(o, "after")));
	return r;
}

int request_parse(struct logger *lg, struct client *c, const char *text, size_t len)
{
	json_t *o = json_loadb(text, len, 0, NULL);
	int r = json_is_object(o) ? read_request(lg, c, o) : -EINVAL;

	json_decref(o);
	return r;
}
