/*
 * Owns the canonical form: one JSON object, keys by their short path. "base" holds a whole group;
 * each group only what differs from it, so that thousands of alike groups stay small. It is read
 * with the same readers as a file, told that all is finished.
 */
#include "json.h"
#include "key.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define VERSION 1

static json_t *write_path(const char *prefix, const void *base)
{
	return block_write(prefix, base, WRITE_CANONICAL);
}

/* Drop from group what base says as well; null stands for "base says it, this group does not". */
static void subtract(json_t *group, json_t *base)
{
	const char *name;
	json_t *value;
	void *next;

	json_object_foreach(base, name, value)
	{
		if (!json_object_get(group, name))
			json_object_set_new(group, name, json_null());
	}
	json_object_foreach_safe(group, next, name, value)
	{
		if (json_equal(value, json_object_get(base, name)))
			json_object_del(group, name);
	}
}

static json_t *write_group(const struct conf_group *g, json_t *base)
{
	json_t *j = write_path("group.", g);

	if (base)
		subtract(j, base);
	json_object_set_new(j, "name", json_string(g->name));
	json_object_set_new(j, "file", json_string(g->file));
	json_object_set_new(j, "line", json_integer(g->line));
	return j;
}

json_t *conf_to_json_value(const struct conf *c)
{
	json_t *root = json_object(), *groups = json_array(), *base = NULL;

	if (c->n_groups > 0)
		base = write_path("group.", &c->groups[0]);
	json_object_set_new(root, "version", json_integer(VERSION));
	json_object_set_new(root, "path", json_string(c->path));
	json_object_set_new(root, "daemon", write_path("daemon.", &c->daemon));
	for (size_t i = 0; i < c->n_groups; i++)
		json_array_append_new(groups, write_group(&c->groups[i], base));
	if (base)
		json_object_set_new(root, "base", base);
	json_object_set_new(root, "groups", groups);
	return root;
}

char *conf_to_json(const struct conf *c)
{
	json_t *root = conf_to_json_value(c);
	char *text = json_dumps(root, JSON_COMPACT);

	json_decref(root);
	return text;
}

/* Read every row below prefix from the object, or else from base. */
static int read_rows(const char *prefix, json_t *object, json_t *base, void *to, struct diag *d)
{
	struct conf_load_options options = { .offline = true };
	struct reading r = { .options = &options, .canonical = true, .no_host = true, .base = to };
	size_t n;
	const struct conf_key *keys = conf_keys(&n);
	int err = block_presets(&r, prefix);

	for (size_t i = 0; i < n && err == 0; i++) {
		json_t *j;

		if (strncmp(keys[i].path, prefix, strlen(prefix)) != 0 ||
		    (keys[i].flags & (KEY_ELEMENT | KEY_SHORTHAND)))
			continue;
		j = json_object_get(object, keys[i].path + strlen(prefix));
		if (!j)
			j = json_object_get(base, keys[i].path + strlen(prefix));
		if (!j || json_is_null(j))
			continue;
		r.key = &keys[i];
		err = keys[i].how->read(&r, value_of_json(j), key_field(&keys[i], to));
		if (err < 0)
			diag_set(d, err, "the canonical form's %s cannot be read", keys[i].path);
	}
	return err;
}

static int read_group(json_t *j, json_t *base, struct conf_group *g, struct diag *d)
{
	const char *name = json_string_value(json_object_get(j, "name"));
	const char *file = json_string_value(json_object_get(j, "file"));
	int err;

	if (!name || strlen(name) > CONF_GROUP_NAME_MAX)
		return diag_set(d, -EINVAL, "the canonical form has a group without a name");
	g->n_steps = 1;
	g->name = strdup(name);
	g->file = strdup(file ? file : "");
	g->line = (int)json_integer_value(json_object_get(j, "line"));
	if (!g->name || !g->file)
		return diag_set(d, -ENOMEM, "no memory");
	err = read_rows("group.", j, base, g, d);
	if (err == 0 && !g->inherit_env)
		g->inherit_env = calloc(1, sizeof(*g->inherit_env));
	if (err == 0 &&
	    ((!g->entry && (!g->command || !g->command[0])) || !g->user.name || !g->log.file))
		err = diag_set(d, -EINVAL, "the canonical form of %s is not complete", name);
	return err;
}

static int read_all(json_t *root, struct conf *c, struct diag *d)
{
	json_t *groups = json_object_get(root, "groups"), *base = json_object_get(root, "base");
	const char *path = json_string_value(json_object_get(root, "path"));
	int err;

	if (!json_is_array(groups) || !path)
		return diag_set(d, -EINVAL, "not the canonical form of a configuration");
	c->path = strdup(path);
	c->groups = calloc(json_array_size(groups) + 1, sizeof(*c->groups));
	if (!c->path || !c->groups)
		return diag_set(d, -ENOMEM, "no memory");
	err = read_rows("daemon.", json_object_get(root, "daemon"), NULL, &c->daemon, d);
	if (err == 0 && (!c->daemon.runtime_dir || !c->daemon.control.socket))
		err = diag_set(d, -EINVAL, "the canonical form has no runtime_dir");
	for (size_t i = 0; i < json_array_size(groups) && err == 0; i++) {
		c->n_groups++;
		err = read_group(json_array_get(groups, i), base, &c->groups[i], d);
	}
	return err;
}

int conf_from_json_value(json_t *root, struct conf **ret, struct diag *d)
{
	struct conf *c = calloc(1, sizeof(*c));
	int err = c ? read_all(root, c, d) : diag_set(d, -ENOMEM, "no memory");

	if (err < 0)
		conf_free(c);
	else
		*ret = c;
	return err;
}

int conf_from_json(const char *text, size_t len, struct conf **ret, struct diag *d)
{
	json_error_t e;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
	int err;

	if (!root)
		return diag_set(d, -EINVAL, "the canonical form is no JSON: %s (line %d)", e.text,
				e.line);
	err = conf_from_json_value(root, ret, d);
	json_decref(root);
	return err;
}
