/* entry and preload: code that Reeve's own runtimes load. */
#include "types_text.h"

#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool is_letter(char c)
{
	return isalpha((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* "app.models": names with dots between them. Returns its length, 0 = it is none. */
static size_t dotted_name(const char *text)
{
	const char *s = text;

	for (;;) {
		if (!is_letter(*s))
			return 0;
		while (is_letter(*s) || isdigit((unsigned char)*s))
			s++;
		if (*s != '.')
			return (size_t)(s - text);
		s++;
	}
}

static bool is_function(const char *text)
{
	size_t n = dotted_name(text);

	return n > 0 && text[n] == ':' && dotted_name(text + n + 1) == strlen(text + n + 1) &&
	       text[n + 1];
}

static bool ends_with(const char *text, const char *tail)
{
	size_t n = strlen(text), t = strlen(tail);

	return n > t && strcmp(text + n - t, tail) == 0;
}

/* "app/main.py", "app.main.run()" or "app.main" → what was meant, between quotes; "" = no guess. */
static void guess_function(const char *text, char *ret, size_t size)
{
	char module[128], function[64] = "main", all[200];
	const char *colon = strchr(text, ':');
	char *dot;

	snprintf(module, sizeof(module), "%.*s", (int)(colon ? (size_t)(colon - text) : 120), text);
	if (colon)
		snprintf(function, sizeof(function), "%s", colon + 1);
	for (char *c = module; *c; c++)
		if (*c == '/')
			*c = '.';
	if (ends_with(module, "()"))
		module[strlen(module) - 2] = '\0';
	if (ends_with(function, "()"))
		function[strlen(function) - 2] = '\0';
	dot = strrchr(module, '.');
	if (dot && strcmp(dot, ".py") == 0) {
		*dot = '\0';
	} else if (dot && !colon) {
		*dot = '\0';
		snprintf(function, sizeof(function), "%s", dot + 1);
	}
	snprintf(all, sizeof(all), "%s:%s", module, function);
	ret[0] = '\0';
	if (is_function(all))
		snprintf(ret, size, "\"%s\"", all);
}

static int read_native(struct reading *r, struct value v, const char *text, char **ret)
{
	auto_free char *path = NULL;
	int err = path_read(r, v, text, &path);

	if (err < 0)
		return err;
	if (!ends_with(path, ".so") && !strstr(path, ".so."))
		return say_bad(r, v, "", "a path names a native module, which ends in .so");
	*ret = give_ptr(&path);
	return 0;
}

static int read_function(struct reading *r, struct value v, const char *text, char **ret)
{
	char mended[220];

	if (!is_function(text)) {
		guess_function(text, mended, sizeof(mended));
		return say_bad(r, v, mended[0] ? mended : NULL,
			       "neither module:function nor the path of a native module");
	}
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static bool is_path(const char *text)
{
	return strchr("/%", text[0]) || ends_with(text, ".so");
}

static int read_entry(struct reading *r, struct value v, void *field)
{
	char *text = NULL;
	int err;

	if (value_kind(v) != VALUE_STRING)
		return say_wrong_kind(r, v);
	if (value_text(v)[0] && is_path(value_text(v)))
		err = read_native(r, v, value_text(v), &text);
	else
		err = read_function(r, v, value_text(v), &text);
	if (err == 0)
		text_set(field, text);
	return err;
}

const struct conf_type type_entry = { 0, read_entry, text_write, text_equal, text_fini };

/* What a name means is the template's affair (another language has other names); a path is not. */
static int preload_item(struct reading *r, struct value v, const char *text, char **ret)
{
	if (!text[0])
		return say_bad(r, v, NULL, "an empty string");
	if (is_path(text))
		return path_read(r, v, text, ret);
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int read_preload(struct reading *r, struct value v, void *field)
{
	char **list;
	int err = list_read(r, v, preload_item, &list);

	if (err < 0)
		return err;
	list_fini(r->key, field);
	*(char ***)field = list;
	return 0;
}

const struct conf_type type_preload = { 0, read_preload, list_write, list_equal, list_fini };
