/* Owns the guesses of what was meant by a value, or by a key that is none. */
#include "mend.h"

#include "base/mem.h"
#include "base/names.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

int mend_bool(const char *word)
{
	static const char *const words[] = { "no",	"yes",	  "off",      "on",
					     "false",	"true",	  "n",	      "y",
					     "f",	"t",	  "0",	      "1",
					     "disable", "enable", "disabled", "enabled" };

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strcasecmp(words[i], word) == 0)
			return i % 2;
	return -1;
}

struct unit {
	const char *names; /* each between blanks */
	double value;
};

static const struct unit times[] = {
	{ " ms msec msecs millisecond milliseconds ", 1 },
	{ " s sec secs second seconds ", 1000 },
	{ " m min mins minute minutes ", 60000 },
	{ " h hr hour hours ", 3600000 },
	{ " d day days ", 86400000 },
};
static const struct unit sizes[] = {
	{ " b byte bytes ", 1 },	   { " k kb kib ", 1024 },
	{ " m mb mib ", 1048576 },	   { " g gb gib ", 1073741824 },
	{ " t tb tib ", 1099511627776.0 },
};

/* The sum of "1.5 h 30 min" in the units' smallest; -1 = it is none. A number alone counts `bare`.
 */
static double amount(const char *text, const struct unit *units, size_t n, double bare)
{
	double sum = 0;

	for (bool first = true; *text; first = false) {
		char word[20], *end;
		double number = strtod(text, &end), unit = 0;
		size_t len, blanks = strspn(end, " ");

		if (!isdigit((unsigned char)*text) || (text[0] == '0' && text[1] == 'x'))
			return -1;
		len = strspn(end + blanks, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
		if (len > 14)
			return -1;
		snprintf(word, sizeof(word), " %.*s ", (int)len, end + blanks);
		for (char *c = word; *c; c++)
			*c = (char)tolower((unsigned char)*c);
		for (size_t i = 0; i < n && len > 0; i++)
			if (strstr(units[i].names, word))
				unit = units[i].value;
		if (len == 0 && first && !end[blanks])
			unit = bare;
		if (unit == 0)
			return -1;
		sum += number * unit;
		text = end + blanks + len;
		text += strspn(text, " ");
	}
	return sum;
}

/* "off" and 0 of a duration that can be "never", where 0 is out of bounds. */
static bool is_never(const struct conf_key *k, struct value v)
{
	const char *text = value_text(v);

	if (!(k->flags & KEY_NEVER))
		return false;
	if (value_kind(v) == VALUE_BOOL)
		return !value_bool(v);
	if (value_kind(v) == VALUE_INT)
		return value_int(v) == 0 && k->min > 0;
	return value_kind(v) == VALUE_STRING &&
	       ((mend_bool(text) == 0 && (strcmp(text, "0") != 0 || k->min > 0)) ||
		(k->min > 0 && amount(text, times, ARRAY_LEN(times), 1000) == 0) ||
		strncasecmp(text, "infini", 6) == 0 || strcasecmp(text, "unlimited") == 0 ||
		strcasecmp(text, "none") == 0);
}

static const char *mend_duration(const struct conf_key *k, struct value v, char *buf, size_t size)
{
	enum value_kind kind = value_kind(v);
	double ms = -1;
	char text[48];

	if (is_never(k, v)) {
		snprintf(buf, size, "\"never\"");
		return buf;
	}
	if (kind == VALUE_INT || kind == VALUE_FLOAT)
		ms = value_float(v) * 1000;
	else if (kind == VALUE_STRING && value_text(v)[0])
		ms = amount(value_text(v), times, ARRAY_LEN(times), 1000);
	if (ms < 0 || !isfinite(ms))
		return NULL;
	ms = fmin(fmax(rint(ms), (double)k->min), (double)k->max);
	snprintf(buf, size, "\"%s\"", duration_format((int64_t)ms, text));
	return buf;
}

static const char *mend_size(const struct conf_key *k, struct value v, char *buf, size_t size)
{
	double bytes = -1;
	char text[32];

	if (value_kind(v) == VALUE_INT || value_kind(v) == VALUE_FLOAT)
		bytes = value_float(v);
	else if (value_kind(v) == VALUE_STRING && value_text(v)[0])
		bytes = amount(value_text(v), sizes, ARRAY_LEN(sizes), 1);
	if (bytes < 0 || !isfinite(bytes))
		return NULL;
	bytes = fmin(fmax(rint(bytes), (double)k->min), (double)k->max);
	snprintf(buf, size, "\"%s\"", size_format((int64_t)bytes, text));
	return buf;
}

/* The number itself, or the nearest one within bounds. */
static const char *mend_number(const struct conf_key *k, struct value v, char *buf, size_t size)
{
	bool whole = k->how != &type_float;
	double f = 0;
	char *end = NULL;

	if (value_kind(v) == VALUE_STRING)
		f = strtod(value_text(v), &end);
	else if (value_kind(v) == VALUE_INT || value_kind(v) == VALUE_FLOAT)
		f = value_float(v);
	else
		return NULL;
	if ((end && (*end || end == value_text(v))) || !isfinite(f) || (whole && f != rint(f)))
		return NULL;
	snprintf(buf, size, "%.15g", fmin(fmax(f, (double)k->min), (double)k->max));
	return buf;
}

static const char *mend_truth(const struct conf_key *k, struct value v, char *buf, size_t size)
{
	int yes = value_kind(v) == VALUE_STRING ? mend_bool(value_text(v))
		  : value_kind(v) == VALUE_INT	? value_int(v) != 0
						: -1;

	if (yes < 0)
		return NULL;
	snprintf(buf, size, "%s", yes ? "true" : "false");
	return buf;
}

/* A plain value where a list of such is meant. */
static const char *mend_wrap(const struct conf_key *k, struct value v, char *buf, size_t size)
{
	char shown[MEND_SIZE - 8];

	if (value_kind(v) != VALUE_STRING || strlen(value_text(v)) > sizeof(shown) / 2)
		return NULL;
	if (k->how == &type_env && !strchr(value_text(v), '='))
		return NULL;
	snprintf(buf, size, "[ %s ]", value_show(v, shown, sizeof(shown)));
	return buf;
}

static const char *mend_quote(const struct conf_key *k, struct value v, char *buf, size_t size)
{
	if (value_kind(v) != VALUE_INT || value_int(v) < 0)
		return NULL;
	snprintf(buf, size, "\"%lld\"", value_int(v));
	return buf;
}

/* Only `restart.when` is a boolean elsewhere. */
static const char *mend_word(const struct conf_key *k, struct value v, char *buf, size_t size)
{
	if (k->words != CONF_WORDS_WHEN || value_kind(v) != VALUE_BOOL)
		return NULL;
	snprintf(buf, size, "\"%s\"", value_bool(v) ? "always" : "never");
	return buf;
}

static const struct {
	const struct conf_type *type;
	const char *(*mend)(const struct conf_key *k, struct value v, char *buf, size_t size);
} mends[] = {
	{ &type_bool, mend_truth },	   { &type_int, mend_number },
	{ &type_workers, mend_number },	   { &type_float, mend_number },
	{ &type_duration, mend_duration }, { &type_size, mend_size },
	{ &type_word, mend_word },	   { &type_user, mend_quote },
	{ &type_owner, mend_quote },	   { &type_strings, mend_wrap },
	{ &type_env_files, mend_wrap },	   { &type_inherit, mend_wrap },
	{ &type_extra_groups, mend_wrap }, { &type_who, mend_wrap },
	{ &type_env, mend_wrap },	   { &type_preload, mend_wrap },
};

const char *mend_value(const struct conf_key *k, struct value v, char *buf, size_t size)
{
	for (size_t i = 0; i < ARRAY_LEN(mends); i++)
		if (mends[i].type == k->how)
			return mends[i].mend(k, v, buf, size);
	return NULL;
}

const char *mend_list(struct value list, size_t at, const char *text, char *buf, size_t size)
{
	auto_str out = { 0 };
	char shown[MEND_SIZE];

	for (size_t i = 0; i < value_count(list); i++) {
		struct value e = value_at(list, i);

		if (i != at && value_kind(e) == VALUE_STRING &&
		    strlen(value_text(e)) > sizeof(shown) / 4)
			return NULL;
		str_addf(&out, "%s %s", i ? "," : "[",
			 i == at ? text : value_show(e, shown, sizeof(shown)));
	}
	if (out.failed || out.len + 3 > size)
		return NULL;
	snprintf(buf, size, "%s ]", out.data ? out.data : "[");
	return buf;
}

bool mend_takes(const struct reading *r, const struct conf_key *k, struct value v)
{
	union {
		struct conf_daemon daemon;
		struct conf_group group;
		struct conf_socket socket;
		struct conf_step step;
	} scratch;
	struct reading quiet = *r;
	int err;

	memset(&scratch, 0, sizeof(scratch));
	quiet.report = NULL;
	quiet.lines = NULL;
	quiet.key = k;
	quiet.base = &scratch;
	err = k->how->read(&quiet, v, key_field(k, &scratch));
	if (k->how->fini)
		k->how->fini(k, key_field(k, &scratch));
	return err == 0;
}

/* What other supervisors call it. */
static const struct {
	const char *word, *key;
} words[] = {
	{ "numprocs", "group.workers" },
	{ "processes", "group.workers" },
	{ "instances", "group.workers" },
	{ "replicas", "group.workers" },
	{ "directory", "group.cwd" },
	{ "working_directory", "group.cwd" },
	{ "environment", "group.env" },
	{ "environment_file", "group.env_file" },
	{ "exec", "group.command" },
	{ "exec_start", "group.command" },
	{ "cmd", "group.command" },
	{ "depends_on", "group.after" },
	{ "requires", "group.after" },
	{ "autorestart", "group.restart.when" },
	{ "stopsignal", "group.stop.signal" },
	{ "stopwaitsecs", "group.stop.timeout" },
	{ "startsecs", "group.settle" },
	{ "stdout_logfile", "group.log.file" },
};

/* log_max_size and log-max-size for log.max_size */
static bool same_path(const char *path, const char *name)
{
	for (; *path && *name; path++, name++)
		if (*path != *name && !(strchr("._", *path) && strchr("_-", *name)))
			return false;
	return !*path && !*name;
}

/* A leaf of an inner block, whose name was written one level too far out. */
static const struct conf_key *find_inner(const char *prefix, const char *name,
					 const struct reading *r, struct value v)
{
	size_t n, len = strlen(prefix);
	const struct conf_key *keys = conf_keys(&n), *found = NULL;
	size_t n_found = 0;

	for (size_t i = 0; i < n; i++) {
		const char *inner = keys[i].path + len;

		if (strncmp(keys[i].path, prefix, len) != 0 || !strchr(inner, '.') ||
		    (keys[i].flags & KEY_ELEMENT))
			continue;
		if (same_path(inner, name))
			return &keys[i];
		if (strcmp(key_last(&keys[i]), name) == 0 && mend_takes(r, &keys[i], v)) {
			found = &keys[i];
			n_found++;
		}
	}
	return n_found == 1 ? found : NULL;
}

/* The nearest name beside it, if its type takes the value. */
static const struct conf_key *find_beside(const char *prefix, const char *name,
					  const struct reading *r, struct value v)
{
	size_t n, len = strlen(prefix), n_list = 0;
	const struct conf_key *keys = conf_keys(&n), *k;
	const char *list[128], *near;
	char path[128], buf[MEND_SIZE];

	for (size_t i = 0; i < n && n_list < ARRAY_LEN(list); i++)
		if (strncmp(keys[i].path, prefix, len) == 0 && !strchr(keys[i].path + len, '.'))
			list[n_list++] = keys[i].path + len;
	near = str_nearest(name, list, n_list);
	snprintf(path, sizeof(path), "%.60s%.60s", prefix, near ? near : "");
	k = near ? key_find(path) : NULL;
	return k && (value_kind(v) == VALUE_BAD || mend_takes(r, k, v) ||
		     mend_value(k, v, buf, sizeof(buf)))
		       ? k
		       : NULL;
}

const struct conf_key *mend_key(const char *prefix, const char *name, const struct reading *r,
				struct value v)
{
	const struct conf_key *k;

	for (size_t i = 0; i < ARRAY_LEN(words) && strcmp(prefix, "group.") == 0; i++)
		if (strcmp(words[i].word, name) == 0)
			return key_find(words[i].key);
	k = find_inner(prefix, name, r, v);
	return k ? k : find_beside(prefix, name, r, v);
}
