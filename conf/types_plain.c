/* Types that are one number in memory: booleans, integers, durations, sizes, modes, words. */
#include "key.h"

#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static int read_bool(struct reading *r, struct value v, void *field)
{
	if (value_kind(v) != VALUE_BOOL)
		return say_wrong_kind(r, v);
	*(bool *)field = value_bool(v);
	return 0;
}

static json_t *write_bool(const struct conf_key *k, const void *field, enum write_form form)
{
	return json_boolean(*(const bool *)field);
}

const struct conf_type type_bool = { sizeof(bool), read_bool, write_bool, NULL, NULL };

static int read_int(struct reading *r, struct value v, void *field)
{
	const struct conf_key *k = r->key;
	long long n;

	if (value_kind(v) != VALUE_INT)
		return say_wrong_kind(r, v);
	n = value_int(v);
	if (n < k->min || n > k->max)
		return say_bad(r, v, NULL, "out of bounds");
	*(int *)field = (int)n;
	return 0;
}

static json_t *write_int(const struct conf_key *k, const void *field, enum write_form form)
{
	return json_integer(*(const int *)field);
}

const struct conf_type type_int = { sizeof(int), read_int, write_int, NULL, NULL };

static int read_float(struct reading *r, struct value v, void *field)
{
	const struct conf_key *k = r->key;
	double f;

	if (value_kind(v) != VALUE_INT && value_kind(v) != VALUE_FLOAT)
		return say_wrong_kind(r, v);
	f = value_float(v);
	if (!isfinite(f) || f < (double)k->min || f > (double)k->max)
		return say_bad(r, v, NULL, "out of bounds");
	*(double *)field = f;
	return 0;
}

static json_t *write_float(const struct conf_key *k, const void *field, enum write_form form)
{
	return json_real(*(const double *)field);
}

const struct conf_type type_float = { sizeof(double), read_float, write_float, NULL, NULL };

static int read_duration(struct reading *r, struct value v, void *field)
{
	const struct conf_key *k = r->key;
	enum value_kind kind = value_kind(v);
	int64_t ms;
	int err;

	if (kind == VALUE_INT) {
		if (value_int(v) < 0 || value_int(v) > k->max / 1000)
			return say_bad(r, v, NULL, "out of bounds");
		ms = value_int(v) * 1000;
	} else if (kind != VALUE_STRING) {
		return say_wrong_kind(r, v);
	} else if (strcmp(value_text(v), "never") == 0) {
		if (!(k->flags & KEY_NEVER))
			return say_bad(r, v, NULL, "\"never\" makes no sense here");
		*(int64_t *)field = DURATION_NEVER;
		return 0;
	} else {
		err = duration_parse(value_text(v), &ms);
		if (err == -ERANGE)
			return say_bad(r, v, NULL, "out of bounds");
		if (err < 0)
			return say_bad(r, v, NULL, "not a duration (\"250ms\" \"10s\" \"1m30s\")");
	}
	if (ms < k->min || ms > k->max)
		return say_bad(r, v, NULL, "out of bounds");
	*(int64_t *)field = ms;
	return 0;
}

static json_t *write_duration(const struct conf_key *k, const void *field, enum write_form form)
{
	char text[48];

	return json_string(duration_format(*(const int64_t *)field, text));
}

const struct conf_type type_duration = { sizeof(int64_t), read_duration, write_duration, NULL,
					 NULL };

static int read_size(struct reading *r, struct value v, void *field)
{
	const struct conf_key *k = r->key;
	int64_t bytes;

	if (value_kind(v) == VALUE_INT)
		bytes = value_int(v);
	else if (value_kind(v) != VALUE_STRING)
		return say_wrong_kind(r, v);
	else if (size_parse(value_text(v), &bytes) < 0)
		return say_bad(r, v, NULL, "not a size (\"64K\" \"50M\" \"1G\")");
	if (bytes != 0 && (bytes < k->min || bytes > k->max))
		return say_bad(r, v, NULL, "out of bounds");
	*(int64_t *)field = bytes;
	return 0;
}

static json_t *write_size(const struct conf_key *k, const void *field, enum write_form form)
{
	char text[32];
	int64_t bytes = *(const int64_t *)field;

	if (bytes == 0)
		return json_integer(0);
	return json_string(size_format(bytes, text));
}

const struct conf_type type_size = { sizeof(int64_t), read_size, write_size, NULL, NULL };

static int read_mode(struct reading *r, struct value v, void *field)
{
	const char *text;
	char mended[16];
	unsigned long mode;
	char *end;

	if (value_kind(v) == VALUE_INT && value_int(v) >= 0 && value_int(v) <= 7777) {
		snprintf(mended, sizeof(mended), "\"%04lld\"", value_int(v));
		return say_bad(r, v, mended, "an integer is decimal");
	}
	if (value_kind(v) != VALUE_STRING)
		return say_wrong_kind(r, v);
	text = value_text(v);
	mode = strtoul(text, &end, 8);
	if (text[0] < '0' || text[0] > '7' || *end || strlen(text) < 3 || strlen(text) > 5)
		return say_bad(r, v, NULL, "not an octal mode");
	if (mode > (unsigned long)r->key->max)
		return say_bad(r, v, NULL, "more than \"%04llo\"", (unsigned long long)r->key->max);
	*(mode_t *)field = (mode_t)mode;
	return 0;
}

static json_t *write_mode(const struct conf_key *k, const void *field, enum write_form form)
{
	char text[16];

	snprintf(text, sizeof(text), "%04o", (unsigned)*(const mode_t *)field);
	return json_string(text);
}

const struct conf_type type_mode = { sizeof(mode_t), read_mode, write_mode, NULL, NULL };

/* A word written with other capitals, or the nearest one. */
static const char *near_word(enum conf_words which, const char *text, char *buf, size_t size)
{
	const char *list[8], *near;
	size_t n = 0;

	while (n < ARRAY_LEN(list) && conf_word(which, (int)n)) {
		list[n] = conf_word(which, (int)n);
		if (strcasecmp(list[n], text) == 0) {
			snprintf(buf, size, "\"%s\"", list[n]);
			return buf;
		}
		n++;
	}
	near = str_nearest(text, list, n);
	if (!near)
		return NULL;
	snprintf(buf, size, "\"%s\"", near);
	return buf;
}

static int read_word(struct reading *r, struct value v, void *field)
{
	enum conf_words which = (enum conf_words)r->key->words;
	char buf[40];

	if (value_kind(v) != VALUE_STRING)
		return say_wrong_kind(r, v);
	for (int i = 0; conf_word(which, i); i++) {
		if (strcmp(conf_word(which, i), value_text(v)) == 0) {
			*(int *)field = i;
			return 0;
		}
	}
	return say_bad(r, v, near_word(which, value_text(v), buf, sizeof(buf)),
		       "not one of the words");
}

static json_t *write_word(const struct conf_key *k, const void *field, enum write_form form)
{
	return json_string(conf_word((enum conf_words)k->words, *(const int *)field));
}

/* The enums of conf.h are read and written through an int. */
_Static_assert(sizeof(enum conf_when) == sizeof(int), "enums have the size of int");
const struct conf_type type_word = { sizeof(int), read_word, write_word, NULL, NULL };

/* What was meant by "term", "TERM " or "15". */
static int guess_signal(const char *text)
{
	char name[16];
	long long n;
	size_t len = 0;

	if (str_to_int(text, 1, 64, &n) == 0)
		return n == 32 || n == 33 ? -1 : (int)n;
	for (; *text && len + 1 < sizeof(name); text++)
		if (!strchr(" \t\n", *text))
			name[len++] = (char)toupper((unsigned char)*text);
	name[len] = '\0';
	return signal_from_name(name);
}

static int read_signal(struct reading *r, struct value v, void *field)
{
	char name[12], mended[24];
	int n;

	if (value_kind(v) == VALUE_INT && value_int(v) >= 1 && value_int(v) <= 64 &&
	    value_int(v) != 32 && value_int(v) != 33) {
		snprintf(mended, sizeof(mended), "\"%s\"", signal_to_name((int)value_int(v), name));
		return say_bad(r, v, mended, "signals are written by name");
	}
	if (value_kind(v) != VALUE_STRING)
		return say_wrong_kind(r, v);
	n = signal_from_name(value_text(v));
	if (n < 0) {
		n = guess_signal(value_text(v));
		snprintf(mended, sizeof(mended), "\"%s\"", n > 0 ? signal_to_name(n, name) : "");
		return say_bad(r, v, n > 0 ? mended : NULL, "no such signal");
	}
	*(int *)field = n;
	return 0;
}

static json_t *write_signal(const struct conf_key *k, const void *field, enum write_form form)
{
	char name[12];

	return json_string(signal_to_name(*(const int *)field, name));
}

const struct conf_type type_signal = { sizeof(int), read_signal, write_signal, NULL, NULL };

/* "cpus" "cpus/2" "cpus*2" → a number; cpus is told by the host (host.c). */
static int read_workers(struct reading *r, struct value v, void *field)
{
	const char *text;
	long long by = 1, n;
	char op;

	if (value_kind(v) == VALUE_INT)
		return read_int(r, v, field);
	if (value_kind(v) != VALUE_STRING)
		return say_wrong_kind(r, v);
	text = value_text(v);
	op = text[0] ? text[strnlen(text, 4)] : '\0';
	if (strncmp(text, "cpus", 4) != 0 || (op && op != '/' && op != '*') ||
	    (op && str_to_int(text + 5, 1, 1024, &by) < 0))
		return say_bad(r, v, NULL, "neither a number nor from \"cpus\"");
	n = host_cpus();
	n = op == '/' ? (n + by - 1) / by : n * by;
	*(int *)field = (int)MIN_OF(n, r->key->max);
	return 0;
}

const struct conf_type type_workers = { sizeof(int), read_workers, write_int, NULL, NULL };
