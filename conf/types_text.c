/* Types that are text: paths, names, listen addresses, lists of strings. */
#include "key.h"

#include "base/mem.h"
#include "listen.h"
#include "types_text.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

int text_expand(struct reading *r, struct value v, const char *text, char **ret)
{
	static const struct expansion nothing;
	auto_str out = { 0 };
	struct diag d;
	int err;

	if (r->canonical) {
		*ret = strdup(text);
		return *ret ? 0 : -ENOMEM;
	}
	err = expand_load(text, r->names ? r->names : &nothing,
			  (r->key->flags & KEY_PER_WORKER) != 0, &out, &d);
	if (err == -EINVAL)
		return say_bad(r, v, "", "%s", d.text);
	if (err < 0)
		return err;
	*ret = give_ptr(&out.data);
	return 0;
}

/* "//", "/./" and a slash at the end mean nothing, and would hide that two paths are the same. */
static void tidy_path(char *path)
{
	char *out = path;

	for (const char *p = path; *p;) {
		if (*p != '/') {
			*out++ = *p++;
			continue;
		}
		while (*p == '/' || (*p == '.' && p[-1] == '/' && (p[1] == '/' || !p[1])))
			p++;
		*out++ = '/';
	}
	if (out > path + 1 && out[-1] == '/')
		out--;
	*out = '\0';
}

/* Bytes of the longest name in a path. */
static size_t longest_name(const char *path)
{
	size_t longest = 0;

	for (const char *p = path; *p; p += *p == '/') {
		size_t n = strcspn(p, "/");

		longest = MAX_OF(longest, n);
		p += n;
	}
	return longest;
}

/* What stands behind "~/", "$HOME/" or "./". */
static const char *below_home(const char *text)
{
	static const char *const heads[] = { "~/", "$HOME/", "${HOME}/", "./" };

	for (size_t i = 0; i < ARRAY_LEN(heads); i++)
		if (strncmp(text, heads[i], strlen(heads[i])) == 0)
			return text + strlen(heads[i]);
	return text;
}

/* Somebody else's home or another variable is nothing that is known here; nor is a bare word a
 * path where a program of that name is meant. */
static bool is_mendable(const struct reading *r, const char *text)
{
	bool other = (text[0] == '~' || text[0] == '$') && below_home(text) == text;

	return !other && strlen(text) <= 200 &&
	       (strchr(text, '/') || strcmp(key_last(r->key), "python") != 0);
}

int path_read(struct reading *r, struct value v, const char *text, char **ret)
{
	auto_free char *path = NULL;
	char mended[300], relative[220];
	int err;

	if (r->canonical)
		return text_expand(r, v, text, ret);
	if (!text[0])
		return say_bad(r, v, NULL, "an empty path");
	err = text_expand(r, v, text, &path);
	if (err < 0)
		return err;
	if (path[0] != '/') {
		snprintf(relative, sizeof(relative), "%%%c/%.200s",
			 text[0] == '~' || text[0] == '$' ? 'h' : 'd', below_home(text));
		value_quote(relative, mended, sizeof(mended));
		return say_bad(r, v, is_mendable(r, text) ? mended : "",
			       "a relative path (%%d is the directory of this file)");
	}
	tidy_path(path);
	if (strlen(path) >= PATH_MAX)
		return say_bad(r, v, "", "longer than %d bytes", PATH_MAX - 1);
	if (!strchr(path, '%') && longest_name(path) > NAME_MAX)
		return say_bad(r, v, "", "a name in it is longer than %d bytes", NAME_MAX);
	*ret = give_ptr(&path);
	return 0;
}

void text_set(void *field, char *text)
{
	free(*(char **)field);
	*(char **)field = text;
}

static int read_path(struct reading *r, struct value v, void *field)
{
	char *path;
	int err;

	if (value_kind(v) != VALUE_STRING)
		return say_wrong_kind(r, v);
	err = path_read(r, v, value_text(v), &path);
	if (err == 0)
		text_set(field, path);
	return err;
}

json_t *text_write(const struct conf_key *k, const void *field, enum write_form form)
{
	const char *text = *(char *const *)field;

	return text ? json_string(text) : NULL;
}

bool text_equal(const struct conf_key *k, const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;

	return x && y ? strcmp(x, y) == 0 : !x && !y;
}

void text_fini(const struct conf_key *k, void *field)
{
	free(*(char **)field);
}

const struct conf_type type_path = { 0, read_path, text_write, text_equal, text_fini };

/* stdin: "null" is NULL. */
static int read_stdin(struct reading *r, struct value v, void *field)
{
	if (value_kind(v) != VALUE_STRING || strcmp(value_text(v), "null") != 0)
		return read_path(r, v, field);
	text_set(field, NULL);
	return 0;
}

static json_t *write_stdin(const struct conf_key *k, const void *field, enum write_form form)
{
	const char *text = *(char *const *)field;

	return json_string(text ? text : "null");
}

const struct conf_type type_stdin = { 0, read_stdin, write_stdin, text_equal, text_fini };

/* daemon.log.to: a word or a path. */
static int read_log_to(struct reading *r, struct value v, void *field)
{
	static const char *const known[] = { "auto", "journal", "stderr" };
	char *copy;
	int err;

	if (value_kind(v) != VALUE_STRING)
		return say_wrong_kind(r, v);
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (strcmp(known[i], value_text(v)) == 0) {
			copy = strdup(known[i]);
			if (!copy)
				return -ENOMEM;
			text_set(field, copy);
			return 0;
		}
	}
	if (!strchr("/%", value_text(v)[0]))
		return say_bad(r, v, NULL, "neither one of the words nor an absolute path");
	err = path_read(r, v, value_text(v), &copy);
	if (err < 0)
		return err;
	if (strlen(copy) > CONF_LOG_TO_MAX) {
		free(copy);
		return say_bad(r, v, "", "longer than %d bytes", CONF_LOG_TO_MAX);
	}
	text_set(field, copy);
	return 0;
}

const struct conf_type type_log_to = { 0, read_log_to, text_write, text_equal, text_fini };

/* The name of a socket goes into LISTEN_FDNAMES, where ':' separates. */
static int read_name(struct reading *r, struct value v, void *field)
{
	const char *text = value_text(v);
	char *copy;

	if (value_kind(v) != VALUE_STRING)
		return say_wrong_kind(r, v);
	if (!text[0] || strlen(text) > 63 || strspn(text, NAME_CHARS) != strlen(text))
		return say_bad(r, v, NULL, "a name is 1 to 63 letters, digits, '_', '-' or '.'");
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	text_set(field, copy);
	return 0;
}

const struct conf_type type_name = { 0, read_name, text_write, text_equal, text_fini };

static int read_listen(struct reading *r, struct value v, void *field)
{
	auto_free char *text = NULL;
	char why[200], mended[160] = "";
	int err;

	if (value_kind(v) != VALUE_STRING)
		return say_wrong_kind(r, v);
	err = text_expand(r, v, value_text(v), &text);
	if (err < 0)
		return err;
	if (!r->canonical && listen_check(text, 0, why, sizeof(why), mended, sizeof(mended)) < 0)
		return say_bad(r, v, mended[0] ? mended : NULL, "%s", why);
	text_set(field, give_ptr(&text));
	return 0;
}

const struct conf_type type_listen = { 0, read_listen, text_write, text_equal, text_fini };

/* Is there room for so many? If not it is said. */
static int list_check(struct reading *r, struct value v)
{
	if (value_kind(v) != VALUE_LIST)
		return say_wrong_kind(r, v);
	if (value_count(v) > LIST_MAX)
		return say_bad(r, v, "", "%zu elements; at most %d are possible", value_count(v),
			       LIST_MAX);
	return 0;
}

int list_read(struct reading *r, struct value v, list_item_fn *item, char ***ret)
{
	int err = list_check(r, v);
	char **list;
	size_t n = 0;

	if (err < 0)
		return err;
	list = calloc(value_count(v) + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	r->in_list = true;
	r->list = v;
	for (size_t i = 0; i < value_count(v); i++) {
		struct value e = value_at(v, i);
		char *text = NULL;
		int x;

		r->at = i;
		if (value_kind(e) != VALUE_STRING)
			x = say_bad(r, e, "", "%s in a list of strings",
				    value_kind_name(value_kind(e)));
		else
			x = item(r, e, value_text(e), &text);
		if (x == 0)
			list[n++] = text;
		else
			err = x;
		if (x == -ENOMEM)
			break;
	}
	r->in_list = false;
	if (err < 0)
		strings_free(list);
	else
		*ret = list;
	return err;
}

static void set_list(void *field, char **list)
{
	strings_free(*(char ***)field);
	*(char ***)field = list;
}

static int read_list(struct reading *r, struct value v, void *field, list_item_fn *item)
{
	char **list;
	int err = list_read(r, v, item, &list);

	if (err == 0)
		set_list(field, list);
	return err;
}

json_t *list_write(const struct conf_key *k, const void *field, enum write_form form)
{
	return strings_write(*(char **const *)field);
}

bool list_equal(const struct conf_key *k, const void *a, const void *b)
{
	return strings_equal(*(char **const *)a, *(char **const *)b);
}

void list_fini(const struct conf_key *k, void *field)
{
	strings_free(*(char ***)field);
}

static int copy_item(struct reading *r, struct value v, const char *text, char **ret)
{
	if (!text[0])
		return say_bad(r, v, NULL, "an empty string");
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int read_strings(struct reading *r, struct value v, void *field)
{
	return read_list(r, v, field, copy_item);
}

const struct conf_type type_strings = { 0, read_strings, list_write, list_equal, list_fini };

/* "-path" may be missing. */
static int env_file_item(struct reading *r, struct value v, const char *text, char **ret)
{
	auto_free char *path = NULL;
	auto_str out = { 0 };
	int err = path_read(r, v, text[0] == '-' ? text + 1 : text, &path);

	if (err < 0)
		return err;
	str_addf(&out, "%s%s", text[0] == '-' ? "-" : "", path);
	if (out.failed)
		return -ENOMEM;
	*ret = give_ptr(&out.data);
	return 0;
}

static int read_env_files(struct reading *r, struct value v, void *field)
{
	return read_list(r, v, field, env_file_item);
}

const struct conf_type type_env_files = { 0, read_env_files, list_write, list_equal, list_fini };

static int inherit_item(struct reading *r, struct value v, const char *text, char **ret)
{
	if (strchr(text, '='))
		return say_bad(r, v, NULL, "a name or glob, without '='");
	if (!strpbrk(text, "*?[") && conf_env_reserved(text))
		return say_bad(r, v, "", "%s is set by Reeve for each worker", text);
	return copy_item(r, v, text, ret);
}

static int read_inherit(struct reading *r, struct value v, void *field)
{
	return read_list(r, v, field, inherit_item);
}

const struct conf_type type_inherit = { 0, read_inherit, list_write, list_equal, list_fini };
