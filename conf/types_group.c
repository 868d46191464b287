/* Types of a group that are lists of things: exit codes, limits, stop steps, sockets. */
#include "key.h"

#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SOCKETS_MAX 64

/* The int* and its count stand side by side in conf.h. */
struct codes {
	int *codes;
	size_t n;
};
_Static_assert(offsetof(struct conf_restart, n_success_codes) ==
		       offsetof(struct conf_restart, success_codes) + offsetof(struct codes, n),
	       "codes and count are neighbours");

static int read_codes(struct reading *r, struct value v, void *field)
{
	struct codes *c = field;
	size_t n = value_kind(v) == VALUE_LIST ? value_count(v) : 0;
	auto_free int *codes = NULL;
	int err = 0;

	if (value_kind(v) != VALUE_LIST)
		return say_wrong_kind(r, v);
	if (n > 256)
		return say_bad(r, v, NULL, "more than 256 codes");
	codes = calloc(n + 1, sizeof(*codes));
	if (!codes)
		return -ENOMEM;
	r->in_list = true;
	r->list = v;
	for (r->at = 0; r->at < n; r->at++) {
		struct value e = value_at(v, r->at);
		bool good = value_kind(e) == VALUE_INT && value_int(e) >= 0 && value_int(e) <= 255;

		if (good)
			codes[r->at] = (int)value_int(e);
		else
			err = say_bad(r, e, "", "an exit code is 0 to 255");
	}
	r->in_list = false;
	if (err < 0)
		return err;
	free(c->codes);
	c->codes = give_ptr(&codes);
	c->n = n;
	return 0;
}

static json_t *write_codes(const struct conf_key *k, const void *field, enum write_form form)
{
	const struct codes *c = field;
	json_t *array = json_array();

	for (size_t i = 0; i < c->n; i++)
		json_array_append_new(array, json_integer(c->codes[i]));
	return array;
}

static bool equal_codes(const struct conf_key *k, const void *a, const void *b)
{
	const struct codes *x = a, *y = b;

	return x->n == y->n && (x->n == 0 || memcmp(x->codes, y->codes, x->n * sizeof(int)) == 0);
}

static void fini_codes(const struct conf_key *k, void *field)
{
	free(((struct codes *)field)->codes);
}

const struct conf_type type_codes = { 0, read_codes, write_codes, equal_codes, fini_codes };

static const struct {
	const char *name;
	int resource;
	bool bytes; /* "64M" is allowed */
} resources[] = {
	{ "as", RLIMIT_AS, true },
	{ "core", RLIMIT_CORE, true },
	{ "cpu", RLIMIT_CPU, false },
	{ "data", RLIMIT_DATA, true },
	{ "fsize", RLIMIT_FSIZE, true },
	{ "locks", RLIMIT_LOCKS, false },
	{ "memlock", RLIMIT_MEMLOCK, true },
	{ "msgqueue", RLIMIT_MSGQUEUE, true },
	{ "nice", RLIMIT_NICE, false },
	{ "nofile", RLIMIT_NOFILE, false },
	{ "nproc", RLIMIT_NPROC, false },
	{ "rss", RLIMIT_RSS, true },
	{ "rtprio", RLIMIT_RTPRIO, false },
	{ "rttime", RLIMIT_RTTIME, false },
	{ "sigpending", RLIMIT_SIGPENDING, false },
	{ "stack", RLIMIT_STACK, true },
};

const char *limit_name(int resource)
{
	for (size_t i = 0; i < ARRAY_LEN(resources); i++)
		if (resources[i].resource == resource)
			return resources[i].name;
	return "?";
}

static int find_resource(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(resources); i++)
		if (strcmp(resources[i].name, name) == 0)
			return (int)i;
	return -1;
}

/* "unlimited", "1024", "64M" of len bytes. */
static int parse_limit(const char *text, size_t len, bool bytes, rlim_t *ret)
{
	char buf[32];
	int64_t n;

	if (len == 0 || len >= sizeof(buf))
		return -EINVAL;
	snprintf(buf, sizeof(buf), "%.*s", (int)len, text);
	if (strcmp(buf, "unlimited") == 0) {
		*ret = RLIM_INFINITY;
		return 0;
	}
	if (size_parse(buf, &n) < 0 || (!bytes && strspn(buf, "0123456789") != len))
		return -EINVAL;
	*ret = (rlim_t)n;
	return 0;
}

static int read_limit(struct reading *r, struct value v, int row, struct conf_limit *l)
{
	const char *text, *colon;
	bool bytes = resources[row].bytes;
	int err;

	l->resource = resources[row].resource;
	if (value_kind(v) == VALUE_INT && value_int(v) >= 0) {
		l->soft = l->hard = (rlim_t)value_int(v);
		return 0;
	}
	if (value_kind(v) == VALUE_INT)
		return say_bad(r, v, "", "a limit is 0 or more, or \"unlimited\"");
	if (value_kind(v) != VALUE_STRING)
		return say_bad(r, v, "", "neither a number nor a string");
	text = value_text(v);
	colon = strchr(text, ':');
	err = parse_limit(text, colon ? (size_t)(colon - text) : strlen(text), bytes, &l->soft);
	l->hard = l->soft;
	if (err == 0 && colon)
		err = parse_limit(colon + 1, strlen(colon + 1), bytes, &l->hard);
	if (err < 0)
		return say_bad(r, v, "", "neither a number%s, \"unlimited\" nor \"soft:hard\"",
			       bytes ? ", a size" : "");
	if (l->soft > l->hard)
		return say_bad(r, v, "", "the soft limit is above the hard one");
	return 0;
}

struct limits {
	struct conf_limit *items;
	size_t n;
};
_Static_assert(offsetof(struct conf_group, n_limits) ==
		       offsetof(struct conf_group, limits) + offsetof(struct limits, n),
	       "limits and count are neighbours");

/* Kept in the order of the table, one for each resource at most. */
static void put_limit(struct limits *set, const struct conf_limit *l)
{
	for (size_t i = 0; i < set->n; i++) {
		if (set->items[i].resource == l->resource) {
			set->items[i] = *l;
			return;
		}
	}
	set->items[set->n++] = *l;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(limit_name(((const struct conf_limit *)a)->resource),
		      limit_name(((const struct conf_limit *)b)->resource));
}

static int unknown_limit(struct reading *r, struct value v, const char *name)
{
	const char *names[ARRAY_LEN(resources)], *near;
	char small[64], shown[64];
	auto_str all = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(resources); i++) {
		names[i] = resources[i].name;
		str_addf(&all, " %s", names[i]);
	}
	snprintf(small, sizeof(small), "%s",
		 strncasecmp(name, "RLIMIT_", 7) == 0 ? name + 7 : name);
	for (char *c = small; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	near = find_resource(small) >= 0 ? small : str_nearest(small, names, ARRAY_LEN(names));
	value_show(v, shown, sizeof(shown));
	report_add(r->report, false, r->file, value_line(v),
		   "%s: limits.%.64s = %s: there is no such limit; allowed:%s%s%s%s%s%s",
		   r->subject, name, shown, all.data ? all.data : "", near ? "; write: " : "",
		   near ? near : "", near ? " = " : "", near ? shown : "", near ? ";" : "");
	return -EINVAL;
}

static int read_limits(struct reading *r, struct value v, void *field)
{
	struct limits *have = field, set;
	struct value_walk w = { .of = v };
	int err = 0;

	if (value_kind(v) != VALUE_BLOCK)
		return say_wrong_kind(r, v);
	set.items = calloc(ARRAY_LEN(resources), sizeof(*set.items));
	set.n = have->n;
	if (!set.items)
		return -ENOMEM;
	if (have->n > 0)
		memcpy(set.items, have->items, have->n * sizeof(*set.items));
	while (value_next(&w)) {
		int row = find_resource(w.name);
		struct conf_limit l;
		int e;

		r->member = w.name;
		e = row < 0 ? unknown_limit(r, w.value, w.name) : read_limit(r, w.value, row, &l);

		if (e == 0)
			put_limit(&set, &l);
		else
			err = e;
	}
	r->member = NULL;
	if (err < 0) {
		free(set.items);
		return err;
	}
	qsort(set.items, set.n, sizeof(*set.items), by_name);
	free(have->items);
	*have = set;
	return 0;
}

static void format_limit(rlim_t n, char ret[static 32])
{
	if (n == RLIM_INFINITY)
		snprintf(ret, 32, "unlimited");
	else
		snprintf(ret, 32, "%llu", (unsigned long long)n);
}

static json_t *write_limits(const struct conf_key *k, const void *field, enum write_form form)
{
	const struct limits *set = field;
	json_t *object = json_object();

	for (size_t i = 0; i < set->n; i++) {
		char soft[32], hard[32];

		format_limit(set->items[i].soft, soft);
		format_limit(set->items[i].hard, hard);
		json_object_set_new(object, limit_name(set->items[i].resource),
				    json_sprintf("%s:%s", soft, hard));
	}
	return object;
}

static bool equal_limits(const struct conf_key *k, const void *a, const void *b)
{
	const struct limits *x = a, *y = b;

	if (x->n != y->n)
		return false;
	for (size_t i = 0; i < x->n; i++)
		if (x->items[i].resource != y->items[i].resource ||
		    x->items[i].soft != y->items[i].soft || x->items[i].hard != y->items[i].hard)
			return false;
	return true;
}

static void fini_limits(const struct conf_key *k, void *field)
{
	free(((struct limits *)field)->items);
}

const struct conf_type type_limits = { 0, read_limits, write_limits, equal_limits, fini_limits };

/* One element of a list of blocks, by the rows below prefix. */
static int read_element(struct reading *r, struct value v, const char *prefix, void *element)
{
	struct reading inner = *r;
	size_t n;
	const struct conf_key *keys = conf_keys(&n);
	int err;

	if (value_kind(v) != VALUE_BLOCK)
		return say_bad(r, v, NULL, "%s where a block { ... } is meant",
			       value_kind_name(value_kind(v)));
	inner.base = element;
	inner.lines = NULL;
	inner.early = false;
	err = block_presets(&inner, prefix);
	if (err == 0)
		err = block_read(&inner, v, prefix);
	for (size_t i = 0; i < n && err == 0; i++) {
		if (strncmp(keys[i].path, prefix, strlen(prefix)) != 0 ||
		    !(keys[i].flags & KEY_REQUIRED) ||
		    value_kind(value_member(v, key_last(&keys[i]))))
			continue;
		inner.key = &keys[i];
		err = say_missing(&inner, v);
	}
	return err;
}

/* Offset 0 of the group: n_steps and steps are both set. */
static int read_steps(struct reading *r, struct value v, void *field)
{
	struct conf_group *g = field;
	struct conf_step steps[CONF_STEPS_MAX] = { 0 };
	size_t n = value_kind(v) == VALUE_LIST ? value_count(v) : 0;
	int err = 0;

	if (value_kind(v) != VALUE_LIST)
		return say_wrong_kind(r, v);
	if (n < 1 || n > CONF_STEPS_MAX)
		return say_bad(r, v, NULL, "1 to %d steps", CONF_STEPS_MAX);
	for (size_t i = 0; i < n; i++) {
		int e = read_element(r, value_at(v, i), "group.stop.steps.", &steps[i]);

		if (e == 0 && i + 1 < n && steps[i].wait_ms == DURATION_NEVER)
			e = say_bad(r, value_at(v, i), "",
				    "a step that waits for ever is the last one");
		err = e < 0 ? e : err;
	}
	if (err < 0)
		return err;
	memcpy(g->steps, steps, sizeof(steps));
	g->n_steps = (int)n;
	return 0;
}

static json_t *write_steps(const struct conf_key *k, const void *field, enum write_form form)
{
	const struct conf_group *g = field;
	json_t *array = json_array();

	for (int i = 0; i < g->n_steps; i++)
		json_array_append_new(array, block_write("group.stop.steps.", &g->steps[i], form));
	return array;
}

static bool equal_steps(const struct conf_key *k, const void *a, const void *b)
{
	const struct conf_group *x = a, *y = b;

	if (x->n_steps != y->n_steps)
		return false;
	for (int i = 0; i < x->n_steps; i++)
		if (!block_equal("group.stop.steps.", &x->steps[i], &y->steps[i]))
			return false;
	return true;
}

const struct conf_type type_steps = { 0, read_steps, write_steps, equal_steps, NULL };

struct sockets {
	struct conf_socket *items;
	size_t n;
};
_Static_assert(offsetof(struct conf_group, n_sockets) ==
		       offsetof(struct conf_group, sockets) + offsetof(struct sockets, n),
	       "sockets and count are neighbours");

static void free_sockets(struct conf_socket *items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		block_fini("group.sockets.", &items[i]);
	free(items);
}

static int same_name(struct reading *r, struct value v, const struct conf_socket *items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (items[i].name && items[n].name && strcmp(items[i].name, items[n].name) == 0)
			return say_bad(r, v, "", "two sockets are called \"%s\"", items[n].name);
	return 0;
}

static int read_sockets(struct reading *r, struct value v, void *field)
{
	struct sockets *have = field;
	size_t n = value_kind(v) == VALUE_LIST ? value_count(v) : 0;
	struct conf_socket *items;
	int err = 0;

	if (value_kind(v) != VALUE_LIST)
		return say_wrong_kind(r, v);
	if (n > SOCKETS_MAX)
		return say_bad(r, v, NULL, "more than %d sockets", SOCKETS_MAX);
	items = calloc(n + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	for (size_t i = 0; i < n && err != -ENOMEM; i++) {
		int e = read_element(r, value_at(v, i), "group.sockets.", &items[i]);

		if (e == 0)
			e = same_name(r, value_at(v, i), items, i);
		if (e == 0)
			items[i].per_worker =
				items[i].reuseport || conf_is_per_worker(items[i].listen);
		err = e < 0 ? e : err;
	}
	if (err < 0) {
		free_sockets(items, n);
		return err;
	}
	free_sockets(have->items, have->n);
	have->items = items;
	have->n = n;
	return 0;
}

static json_t *write_sockets(const struct conf_key *k, const void *field, enum write_form form)
{
	const struct sockets *s = field;
	json_t *array = json_array();

	for (size_t i = 0; i < s->n; i++)
		json_array_append_new(array, block_write("group.sockets.", &s->items[i], form));
	return array;
}

static bool equal_sockets(const struct conf_key *k, const void *a, const void *b)
{
	const struct sockets *x = a, *y = b;

	if (x->n != y->n)
		return false;
	for (size_t i = 0; i < x->n; i++)
		if (!block_equal("group.sockets.", &x->items[i], &y->items[i]))
			return false;
	return true;
}

static void fini_sockets(const struct conf_key *k, void *field)
{
	struct sockets *s = field;

	free_sockets(s->items, s->n);
}

const struct conf_type type_sockets = { 0, read_sockets, write_sockets, equal_sockets,
					fini_sockets };
