/* Reads, compares and writes whole blocks by the rows of the key table; knows no key by name. */
#include "key.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PATH_SIZE 128

static bool below(const struct conf_key *k, const char *prefix)
{
	return strncmp(k->path, prefix, strlen(prefix)) == 0;
}

/* Rows of the block itself; those of list elements only where the prefix names the list. */
static bool belongs(const struct conf_key *k, const char *prefix, bool element)
{
	return below(k, prefix) && ((k->flags & KEY_ELEMENT) != 0) == element;
}

static bool is_element_prefix(const char *prefix)
{
	const struct conf_key *k = key_find_block(prefix);

	return k && (k->flags & KEY_ELEMENT);
}

static int read_key(struct reading *r, const struct conf_key *k, struct value v)
{
	int err;

	if (!(k->flags & KEY_ELEMENT) && ((k->flags & KEY_EARLY) != 0) != r->early)
		return 0;
	r->key = k;
	err = k->how->read(r, v, key_field(k, r->base));
	if (err == 0 && r->lines && !(k->flags & KEY_ELEMENT)) {
		r->lines[key_row(k)] = r->defaults ? -value_line(v) : value_line(v);
		r->files[key_row(k)] = r->file;
	}
	return err;
}

static int read_member(struct reading *r, const char *prefix, const char *name, struct value v)
{
	char path[PATH_SIZE];
	const struct conf_key *k;
	int n = snprintf(path, sizeof(path) - 1, "%s%s", prefix, name);

	k = (size_t)n < sizeof(path) - 1 ? key_find(path) : NULL;
	if (k)
		return read_key(r, k, v);
	if ((size_t)n < sizeof(path) - 1) {
		path[n] = '.';
		path[n + 1] = '\0';
		k = key_find_block(path);
	}
	if (!k)
		return r->early ? 0 : say_unknown_key(r, v, prefix, name);
	if (value_kind(v) == VALUE_BLOCK)
		return block_read(r, v, path);
	if (r->early || value_kind(v) == VALUE_BAD)
		return -EINVAL;
	return say_no_block(r, v, path, name);
}

int block_read(struct reading *r, struct value v, const char *prefix)
{
	struct value_walk w = { .of = v };
	int err = 0;

	while (value_next(&w)) {
		int e = read_member(r, prefix, w.name, w.value);

		if (e == -ENOMEM)
			return e;
		if (e < 0)
			err = e;
	}
	return err;
}

static int read_preset(struct reading *r, const struct conf_key *k)
{
	json_t *j;
	int err;

	if (!k->preset[0] || k->preset[0] == '(') /* "(…)": worked out elsewhere, told in words */
		return 0;
	j = json_loads(k->preset, JSON_DECODE_ANY, NULL);
	r->key = k;
	err = j ? k->how->read(r, value_of_json(j), key_field(k, r->base)) : -ENOMEM;
	json_decref(j);
	return err;
}

int block_presets(struct reading *r, const char *prefix)
{
	bool element = is_element_prefix(prefix);
	size_t n;
	const struct conf_key *keys = conf_keys(&n);
	int err = 0;

	r->preset = true;
	for (size_t i = 0; i < n && err == 0; i++)
		if (belongs(&keys[i], prefix, element))
			err = read_preset(r, &keys[i]);
	r->preset = false;
	return err;
}

void block_fini(const char *prefix, void *base)
{
	bool element = is_element_prefix(prefix);
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++)
		if (belongs(&keys[i], prefix, element) && keys[i].how->fini)
			keys[i].how->fini(&keys[i], key_field(&keys[i], base));
}

bool key_equal(const struct conf_key *k, const void *a, const void *b)
{
	const void *x = key_field_const(k, a), *y = key_field_const(k, b);

	if (k->flags & KEY_SHORTHAND)
		return true;
	if (k->how->equal)
		return k->how->equal(k, x, y);
	return memcmp(x, y, k->how->size) == 0;
}

bool block_equal(const char *prefix, const void *a, const void *b)
{
	bool element = is_element_prefix(prefix);
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++)
		if (belongs(&keys[i], prefix, element) && !key_equal(&keys[i], a, b))
			return false;
	return true;
}

json_t *block_write(const char *prefix, const void *base, enum write_form form)
{
	bool element = is_element_prefix(prefix);
	json_t *object = json_object();
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++) {
		const struct conf_key *k = &keys[i];
		json_t *j;

		if (!belongs(k, prefix, element) || (k->flags & KEY_SHORTHAND))
			continue;
		j = k->how->write(k, key_field_const(k, base), form);
		if (j)
			json_object_set_new(object, k->path + strlen(prefix), j);
	}
	return object;
}
