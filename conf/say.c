/* Owns the wording of problems with values: what was found, what is allowed, the mended line. */
#include "key.h"

#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SIBLINGS_MAX 128

static void add_subject(struct str *out, const struct reading *r)
{
	if (r->subject && r->subject[0])
		str_addf(out, "%s: ", r->subject);
}

/* `text` goes to the report; the diag cuts what does not fit. */
static void put(struct reading *r, int line, struct str *text)
{
	report_add(r->report, false, r->file, line, "%s", text->data ? text->data : "");
	str_fini(text);
}

/* "allowed: duration, 0s to 1d" */
static void add_allowed(struct str *out, const struct conf_key *k)
{
	str_addf(out, "; allowed: %s", k->type);
	if (k->how == &type_mode) {
		str_addf(out, ", up to \"%04llo\"", (unsigned long long)k->max);
	} else if (k->max != 0 && k->how == &type_duration) {
		char low[48], high[48];

		str_addf(out, ", %s to %s", duration_format(k->min, low),
			 duration_format(k->max, high));
	} else if (k->max != 0 && k->how == &type_size) {
		char low[32], high[32];

		str_addf(out, ", %s to %s", size_format(k->min, low), size_format(k->max, high));
	} else if (k->max != 0) {
		str_addf(out, ", %lld to %lld", k->min, k->max);
	}
}

/* NULL = the key's example, "" = nothing can be proposed. */
static void add_mended(struct str *out, const struct reading *r, const char *mended)
{
	bool wrap = r->in_list && mended && mended[0] && mended[0] != '[';

	if (!mended)
		mended = r->key->example;
	if (!mended[0])
		return;
	str_addf(out, "; write: %s = %s%s%s;", r->member ? r->member : key_last(r->key),
		 wrap ? "[ " : "", mended, wrap ? " ]" : "");
}

int say_bad(struct reading *r, struct value v, const char *mended, const char *format, ...)
{
	struct str out = { 0 };
	char shown[160], line[256];
	va_list ap;

	if (!r->report || value_kind(v) == VALUE_BAD)
		return -EINVAL;
	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	add_subject(&out, r);
	str_addf(&out, "%s%s%s = %s: %s", key_short(r->key), r->member ? "." : "",
		 r->member ? r->member : "", value_show(v, shown, sizeof(shown)), line);
	add_allowed(&out, r->key);
	add_mended(&out, r, mended);
	put(r, value_line(v), &out);
	return -EINVAL;
}

int say_missing(struct reading *r, struct value v)
{
	struct str out = { 0 };

	if (!r->report)
		return -EINVAL;
	add_subject(&out, r);
	str_addf(&out, "%s is missing", key_short(r->key));
	add_mended(&out, r, NULL);
	put(r, value_line(v), &out);
	return -EINVAL;
}

/* The value as the key would want it, where a guess is possible. */
static const char *guess(const struct conf_key *k, struct value v, char *buf, size_t size)
{
	enum value_kind kind = value_kind(v);
	char shown[128];
	long long n;

	value_show(v, shown, sizeof(shown));
	if (k->how == &type_bool && kind == VALUE_INT)
		return value_int(v) ? "true" : "false";
	if (k->how == &type_bool && kind == VALUE_STRING) {
		const char *t = value_text(v);

		return strchr("tTyY1", t[0]) && t[0] ? "true" : "false";
	}
	if (k->how == &type_int && kind == VALUE_STRING &&
	    str_to_int(value_text(v), k->min, k->max, &n) == 0) {
		snprintf(buf, size, "%lld", n);
		return buf;
	}
	if ((k->how == &type_user || k->how == &type_owner) && kind == VALUE_INT) {
		snprintf(buf, size, "\"%s\"", shown);
		return buf;
	}
	if ((k->how == &type_strings || k->how == &type_env_files || k->how == &type_inherit ||
	     k->how == &type_extra_groups || k->how == &type_who) &&
	    kind == VALUE_STRING) {
		snprintf(buf, size, "[ %s ]", shown);
		return buf;
	}
	return NULL;
}

int say_wrong_kind(struct reading *r, struct value v)
{
	char buf[192];

	return say_bad(r, v, guess(r->key, v, buf, sizeof(buf)), "%s does not fit here",
		       value_kind_name(value_kind(v)));
}

/* The next components of all keys below prefix, each once. */
static size_t siblings(const char *prefix, char names[SIBLINGS_MAX][32],
		       const char *list[SIBLINGS_MAX])
{
	size_t n_keys, n = 0, len = strlen(prefix);
	const struct conf_key *keys = conf_keys(&n_keys);

	for (size_t i = 0; i < n_keys && n < SIBLINGS_MAX; i++) {
		const char *p = keys[i].path;

		if (strncmp(p, prefix, len) != 0)
			continue;
		p += len;
		snprintf(names[n], sizeof(names[n]), "%.*s", (int)strcspn(p, "."), p);
		if (n > 0 && strcmp(names[n], names[n - 1]) == 0)
			continue;
		list[n] = names[n];
		n++;
	}
	return n;
}

/* What other supervisors call it; only where no key here looks alike. */
static const char *other_word(const char *prefix, const char *name)
{
	static const struct {
		const char *word, *key;
	} words[] = {
		{ "numprocs", "workers" },
		{ "processes", "workers" },
		{ "instances", "workers" },
		{ "replicas", "workers" },
		{ "directory", "cwd" },
		{ "working_directory", "cwd" },
		{ "environment", "env" },
		{ "environment_file", "env_file" },
		{ "exec", "command" },
		{ "exec_start", "command" },
		{ "cmd", "command" },
		{ "depends_on", "after" },
		{ "autorestart", "restart.when" },
		{ "stopsignal", "stop.signal" },
		{ "stopwaitsecs", "stop.timeout" },
		{ "startsecs", "settle" },
		{ "stdout_logfile", "log.file" },
		{ "priority", "nice" },
	};

	for (size_t i = 0; i < ARRAY_LEN(words) && strcmp(prefix, "group.") == 0; i++)
		if (strcmp(words[i].word, name) == 0)
			return words[i].key;
	return NULL;
}

int say_unknown_key(struct reading *r, struct value v, const char *prefix, const char *name)
{
	char names[SIBLINGS_MAX][32], shown[96];
	const char *list[SIBLINGS_MAX], *near;
	size_t n = siblings(prefix, names, list);
	const char *inner = strchr(prefix, '.');
	struct str out = { 0 };

	near = other_word(prefix, name);
	if (!near)
		near = str_nearest(name, list, n);
	add_subject(&out, r);
	str_addf(&out, "unknown key \"%s%s\"", inner ? inner + 1 : "", name);
	if (near && value_kind(v) != VALUE_BAD) {
		str_addf(&out, "; the nearest is \"%s\"; write: %s = %s;", near, near,
			 value_show(v, shown, sizeof(shown)));
	} else if (near) {
		str_addf(&out, "; the nearest is \"%s\"", near);
	} else {
		str_add(&out, "; known here:");
		for (size_t i = 0; i < n; i++)
			str_addf(&out, " %s", list[i]);
	}
	put(r, value_line(v), &out);
	return -EINVAL;
}
