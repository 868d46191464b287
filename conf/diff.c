/* Owns the reasons of a reload: which key of which group differs, and what the change asks for. */
#include "dump.h"

#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct differing {
	struct conf_change *items;
	size_t n;
	bool failed;
	const char *group;
};

static void add(struct differing *d, enum conf_change_kind kind, const char *key,
		const char *format, ...) __attribute__((format(printf, 4, 5)));

static void add(struct differing *d, enum conf_change_kind kind, const char *key,
		const char *format, ...)
{
	struct conf_change *c;
	va_list ap;

	if ((d->n & (d->n - 1)) == 0) { /* grows by doubling */
		void *items = realloc(d->items, (d->n ? d->n * 2 : 1) * sizeof(*d->items));

		if (!items) {
			d->failed = true;
			return;
		}
		d->items = items;
	}
	c = &d->items[d->n++];
	*c = (struct conf_change){ .kind = kind };
	snprintf(c->group, sizeof(c->group), "%s", d->group);
	snprintf(c->key, sizeof(c->key), "%s", key);
	va_start(ap, format);
	vsnprintf(c->reason, sizeof(c->reason), format, ap);
	va_end(ap);
}

/* One thing of a set by name: it came, it went, or it is not the same. */
static void add_named(struct differing *d, const struct conf_key *k, const char *name, size_t len,
		      const char *what)
{
	char key[128];

	snprintf(key, sizeof(key), "%s.%.*s", key_short(k), (int)MIN_OF(len, (size_t)90), name);
	add(d, k->change, key, "%s %s", key, what);
}

static const char *find_entry(char *const *env, const char *entry)
{
	size_t len = strcspn(entry, "=") + 1;

	for (; env && *env; env++)
		if (strncmp(*env, entry, len) == 0)
			return *env;
	return NULL;
}

/* Values are secrets (SE11): only names are told. */
static void diff_env(struct differing *d, const struct conf_key *k, const void *a, const void *b)
{
	char *const *from = *(char **const *)a, *const *to = *(char **const *)b;

	for (char *const *e = from; e && *e; e++)
		if (!find_entry(to, *e))
			add_named(d, k, *e, strcspn(*e, "="), "removed");
	for (char *const *e = to; e && *e; e++) {
		const char *old = find_entry(from, *e);

		if (!old)
			add_named(d, k, *e, strcspn(*e, "="), "added");
		else if (strcmp(old, *e) != 0)
			add_named(d, k, *e, strcspn(*e, "="), "changed");
	}
}

/* Limits and sockets, through their written form: { name: value } for both. */
static json_t *by_name(const struct conf_key *k, const void *field)
{
	json_t *j = k->how->write(k, field, WRITE_CANONICAL), *object, *value;
	size_t i;

	if (!json_is_array(j))
		return j;
	object = json_object();
	json_array_foreach(j, i, value)
		json_object_set(object, json_string_value(json_object_get(value, "name")), value);
	json_decref(j);
	return object;
}

static void diff_named(struct differing *d, const struct conf_key *k, const void *a, const void *b)
{
	json_t *from = by_name(k, a), *to = by_name(k, b), *value;
	const char *name;
	size_t before = d->n;

	json_object_foreach(from, name, value)
	{
		if (!json_object_get(to, name))
			add_named(d, k, name, strlen(name), "removed");
	}
	json_object_foreach(to, name, value)
	{
		json_t *old = json_object_get(from, name);

		if (!old)
			add_named(d, k, name, strlen(name), "added");
		else if (!json_equal(old, value))
			add_named(d, k, name, strlen(name), "changed");
	}
	if (d->n == before)
		add(d, k->change, key_short(k), "%s: another order", key_short(k));
	json_decref(from);
	json_decref(to);
}

/* Short scalar values are shown; everything else is only "changed". */
static const char *shown(const struct conf_key *k, const void *field, char *buf, size_t size)
{
	json_t *j = k->how->write(k, field, WRITE_DUMP);
	auto_str out = { 0 };
	bool short_scalar;

	if (json_is_string(j)) {
		str_add(&out, json_string_value(j));
	} else if (j && !json_is_array(j) && !json_is_object(j)) {
		dump_value(j, 0, &out);
	}
	short_scalar = out.data && out.len > 0 && out.len < size;
	if (short_scalar)
		str_escape(out.data, out.len, buf, size);
	json_decref(j);
	return short_scalar ? buf : NULL;
}

static void diff_plain(struct differing *d, const struct conf_key *k, const char *key,
		       const void *a, const void *b)
{
	char x[100], y[100];
	const char *from = shown(k, a, x, sizeof(x)), *to = shown(k, b, y, sizeof(y));

	if (from && to && strcmp(from, to) != 0)
		add(d, k->change, key, "%s: %s -> %s", key, from, to);
	else
		add(d, k->change, key, "%s changed", key);
}

/* One step is told in the words of the short form. */
static void diff_steps(struct differing *d, const struct conf_key *k, const void *a, const void *b)
{
	static const char *const shorthand[] = { "group.stop.signal", "group.stop.timeout",
						 "group.stop.to" };
	const struct conf_group *x = a, *y = b;

	if (x->n_steps != 1 || y->n_steps != 1) {
		add(d, k->change, key_short(k), "%s changed", key_short(k));
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(shorthand); i++) {
		const struct conf_key *s = key_find(shorthand[i]);
		const void *from = key_field_const(s, a), *to = key_field_const(s, b);

		if (memcmp(from, to, s->how->size) != 0)
			diff_plain(d, s, key_short(s), from, to);
	}
}

static void diff_rows(struct differing *d, const char *prefix, const void *a, const void *b)
{
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++) {
		const struct conf_key *k = &keys[i];
		const void *x = key_field_const(k, a), *y = key_field_const(k, b);

		if (strncmp(k->path, prefix, strlen(prefix)) != 0 || (k->flags & KEY_ELEMENT) ||
		    key_equal(k, a, b))
			continue;
		if (k->how == &type_env)
			diff_env(d, k, x, y);
		else if (k->how == &type_limits || k->how == &type_sockets)
			diff_named(d, k, x, y);
		else if (k->how == &type_steps)
			diff_steps(d, k, x, y);
		else
			diff_plain(d, k, key_short(k), x, y);
	}
}

ssize_t conf_diff(const struct conf *from, const struct conf *to, struct conf_change **ret)
{
	struct differing d = { .group = "" };
	size_t i = 0, j = 0;

	diff_rows(&d, "daemon.", &from->daemon, &to->daemon);
	while (i < from->n_groups || j < to->n_groups) {
		const struct conf_group *a = i < from->n_groups ? &from->groups[i] : NULL;
		const struct conf_group *b = j < to->n_groups ? &to->groups[j] : NULL;
		int c = !a ? 1 : !b ? -1 : strcmp(a->name, b->name);

		d.group = c <= 0 ? a->name : b->name;
		if (c < 0)
			add(&d, CONF_REMOVE, "", "removed");
		else if (c > 0)
			add(&d, CONF_ADD, "", "added");
		else
			diff_rows(&d, "group.", a, b);
		i += c <= 0;
		j += c >= 0;
	}
	if (d.failed) {
		free(d.items);
		return -ENOMEM;
	}
	*ret = d.items;
	return (ssize_t)d.n;
}

static uint64_t hash_text(uint64_t h, const char *text)
{
	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 0x100000001b3ull;
	return h;
}

/*
 * A sum over the keys, so that a key which a later version adds changes nothing while it is not
 * written: absent, empty and preset values do not count.
 */
uint64_t conf_group_hash(const struct conf_group *g)
{
	uint64_t sum = 0;
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++) {
		const struct conf_key *k = &keys[i];
		auto_str out = { 0 };
		json_t *j;

		if (key_is_daemon(k) || k->change != CONF_RENEW || (k->flags & KEY_ELEMENT))
			continue;
		j = k->how->write(k, key_field_const(k, g), WRITE_CANONICAL);
		if (j)
			dump_value(j, 0, &out);
		json_decref(j);
		if (out.data && strcmp(out.data, k->preset) != 0 && strcmp(out.data, "[ ]") != 0)
			sum += hash_text(hash_text(0xcbf29ce484222325ull, k->path), out.data);
	}
	return sum;
}
