/* command and env: what is executed, and with which environment. */
#include "types_text.h"

#include "base/mem.h"
#include "mend.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

bool conf_env_reserved(const char *name)
{
	static const char *const globs[] = { "NOTIFY_SOCKET", "LISTEN_*", "WATCHDOG_*", "REEVE_*" };

	for (size_t i = 0; i < ARRAY_LEN(globs); i++)
		if (fnmatch(globs[i], name, 0) == 0)
			return true;
	return false;
}

static int shell_needed(struct reading *r, struct value v, const char *text, char c)
{
	char mended[300];
	struct value_quoted {
		char text[200];
	} q;

	value_show(v, q.text, sizeof(q.text));
	snprintf(mended, sizeof(mended), "[ \"/bin/sh\", \"-c\", %s ]", q.text);
	return say_bad(r, v, strlen(value_text(v)) < 90 ? mended : "",
		       "there is no shell, and '%c' stands unquoted", c);
}

/* One word of the string form; *p is moved behind it. Quotes and backslash as in a shell. */
static int next_word(struct reading *r, struct value v, const char **p, struct str *word)
{
	const char *s = *p;
	char quote = '\0';

	for (; *s && (quote || !strchr(" \t\r\n", *s)); s++) {
		if (quote && *s == quote) {
			quote = '\0';
		} else if (!quote && (*s == '\'' || *s == '"')) {
			quote = *s;
			str_add(word, ""); /* '' is a word too */
		} else if (*s == '\\' && quote != '\'' && (!quote || s[1] == '"' || s[1] == '\\')) {
			if (!s[1])
				return say_bad(r, v, "", "a backslash at the end quotes nothing");
			str_add_bytes(word, ++s, 1);
		} else if (!quote && strchr("|><&;$`", *s)) {
			return shell_needed(r, v, *p, *s);
		} else {
			str_add_bytes(word, s, 1);
		}
	}
	if (quote)
		return say_bad(r, v, "", "the quote %c is never closed", quote);
	*p = s;
	return word->failed ? -ENOMEM : 0;
}

static int split(struct reading *r, struct value v, char ***ret)
{
	const char *p = value_text(v);
	char **words = NULL;
	size_t n = 0;
	int err = 0;

	while (err == 0 && *(p += strspn(p, " \t\r\n"))) {
		auto_str word = { 0 };
		char *text = NULL;

		err = next_word(r, v, &p, &word);
		if (err == 0)
			err = text_expand(r, v, word.data ? word.data : "", &text);
		if (err == 0)
			err = strings_push(&words, text);
		if (err == 0 && ++n > LIST_MAX)
			err = say_bad(r, v, "", "more than %d words", LIST_MAX);
	}
	if (err < 0)
		strings_free(words);
	else
		*ret = words;
	return err;
}

static int argument(struct reading *r, struct value v, const char *text, char **ret)
{
	return text_expand(r, v, text, ret);
}

/* The command with another program; "" where its first word cannot be told from the rest. */
static const char *with_program(struct value v, const char *program, const char *old, char *buf,
				size_t size)
{
	char text[MEND_SIZE], quoted[MEND_SIZE];
	const char *list;

	if (value_kind(v) == VALUE_LIST) {
		list = mend_list(v, 0, value_quote(program, quoted, sizeof(quoted)), buf, size);
		return list ? list : "";
	}
	if (strncmp(value_text(v), old, strlen(old)) != 0 || strlen(value_text(v)) > 200)
		return "";
	snprintf(text, sizeof(text), "%.200s%.200s", program, value_text(v) + strlen(old));
	return value_quote(text, buf, size);
}

static int read_command(struct reading *r, struct value v, void *field)
{
	char **words = NULL;
	char mended[MEND_SIZE];
	int err;

	if (value_kind(v) == VALUE_STRING)
		err = split(r, v, &words);
	else
		err = list_read(r, v, argument, &words);
	if (err < 0)
		return err;
	if (!words || !words[0] || !words[0][0]) {
		err = say_bad(r, v, NULL, "nothing to execute");
	} else if (words[0][0] != '/' && strchr(words[0], '/')) {
		bool home = strncmp(words[0], "~/", 2) == 0;
		const char *w = home || strncmp(words[0], "./", 2) == 0 ? words[0] + 2 : words[0];
		char program[220];

		snprintf(program, sizeof(program), "%%%c/%.200s", home ? 'h' : 'd', w);
		err = say_bad(r, v, with_program(v, program, words[0], mended, sizeof(mended)),
			      "the program's path is relative");
	}
	if (err < 0) {
		strings_free(words);
		return err;
	}
	strings_free(*(char ***)field);
	*(char ***)field = words;
	return 0;
}

/* A group with an entry has none, which is not the same as an empty one. */
static json_t *write_command(const struct conf_key *k, const void *field, enum write_form form)
{
	return *(char **const *)field ? list_write(k, field, form) : NULL;
}

const struct conf_type type_command = { 0, read_command, write_command, list_equal, list_fini };

static int check_name(struct reading *r, struct value v, const char *name, size_t len)
{
	char text[300];

	snprintf(text, sizeof(text), "%.*s", (int)MIN_OF(len, sizeof(text) - 1), name);
	if (len == 0 || len > 255)
		return say_bad(r, v, NULL, "an environment name has 1 to 255 bytes");
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7f)
			return say_bad(r, v, NULL, "blank or control character in a name");
	if (!r->canonical && conf_env_reserved(text))
		return say_bad(r, v, "", "%s is set by Reeve for each worker", text);
	return 0;
}

/* Put K=v in, in place of an older K=. Takes ownership of entry. */
static int set_entry(char ***env, char *entry)
{
	size_t len = strcspn(entry, "=") + 1;

	for (char **e = *env; e && *e; e++) {
		if (strncmp(*e, entry, len) == 0) {
			free(*e);
			*e = entry;
			return 0;
		}
	}
	return strings_push(env, entry);
}

static int make_entry(struct reading *r, struct value v, const char *name, size_t len,
		      const char *text, char **ret)
{
	auto_free char *value = NULL;
	auto_str out = { 0 };
	int err = check_name(r, v, name, len);

	if (err == 0)
		err = text_expand(r, v, text, &value);
	if (err < 0)
		return err;
	str_add_bytes(&out, name, len);
	str_add(&out, "=");
	str_add(&out, value);
	if (out.failed)
		return -ENOMEM;
	*ret = give_ptr(&out.data);
	return 0;
}

/* The block form: merges with what is there. */
static int read_env_block(struct reading *r, struct value v, char ***env)
{
	struct value_walk w = { .of = v };
	char mended[200], shown[120];
	int err = 0;

	while (value_next(&w)) {
		char *entry = NULL;
		int e;

		r->member = w.name;
		if (value_kind(w.value) != VALUE_STRING) {
			value_show(w.value, shown, sizeof(shown));
			snprintf(mended, sizeof(mended), "\"%s\"", shown);
			e = say_bad(r, w.value, value_kind(w.value) < VALUE_STRING ? mended : "",
				    "%s; an environment holds strings",
				    value_kind_name(value_kind(w.value)));
		} else {
			e = make_entry(r, w.value, w.name, strlen(w.name), value_text(w.value),
				       &entry);
		}
		if (e == 0)
			e = set_entry(env, entry);
		if (e < 0)
			err = e;
		if (e == -ENOMEM)
			break;
	}
	r->member = NULL;
	return err;
}

static int env_item(struct reading *r, struct value v, const char *text, char **ret)
{
	const char *equals = strchr(text, '=');

	if (!equals)
		return say_bad(r, v, NULL, "not of the form \"NAME=value\"");
	return make_entry(r, v, text, (size_t)(equals - text), equals + 1, ret);
}

static int by_name(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;
	size_t n = strcspn(x, "="), m = strcspn(y, "=");
	int c = memcmp(x, y, MIN_OF(n, m));

	return c ? c : (n > m) - (n < m);
}

/* Sorted neighbours; a search for each would be quadratic. */
static int check_twice(struct reading *r, struct value v, char *const *env)
{
	size_t n = strings_count(env);
	auto_free char **sorted = malloc((n + 1) * sizeof(*sorted));
	int err = 0;

	if (!sorted)
		return -ENOMEM;
	memcpy(sorted, env, (n + 1) * sizeof(*sorted));
	if (n > 1)
		qsort(sorted, n, sizeof(*sorted), by_name);
	for (size_t i = 1; i < n; i++)
		if (by_name(&sorted[i - 1], &sorted[i]) == 0)
			err = say_bad(r, v, "", "\"%.*s\" is set twice in this list",
				      (int)strcspn(sorted[i], "="), sorted[i]);
	return err;
}

/* The list form: for any name, and replaces. */
static int read_env_list(struct reading *r, struct value v, char ***ret)
{
	int err = list_read(r, v, env_item, ret);

	return err < 0 ? err : check_twice(r, v, *ret);
}

static int read_env(struct reading *r, struct value v, void *field)
{
	bool block = value_kind(v) == VALUE_BLOCK;
	char ***have = field, **env;
	int err;

	if (!block && value_kind(v) != VALUE_LIST)
		return say_wrong_kind(r, v);
	env = block ? strings_copy(*have) : NULL;
	if (block && !env)
		return -ENOMEM;
	err = block ? read_env_block(r, v, &env) : read_env_list(r, v, &env);
	if (err < 0) {
		strings_free(env);
		return err;
	}
	strings_free(*have);
	*have = env;
	return 0;
}

/* The order of an environment means nothing. */
static bool equal_env(const struct conf_key *k, const void *a, const void *b)
{
	char *const *x = *(char **const *)a, *const *y = *(char **const *)b;
	size_t n = strings_count(x);

	if (n != strings_count(y))
		return false;
	for (size_t i = 0; i < n; i++) {
		size_t j = 0;

		while (j < n && strcmp(x[i], y[(i + j) % n]) != 0)
			j++;
		if (j == n)
			return false;
	}
	return true;
}

const struct conf_type type_env = { 0, read_env, list_write, equal_env, list_fini };
