/*
 * logs: the last lines of workers, and with -f what comes. Lines look as in a text log. What a
 * worker wrote is escaped before it meets a terminal (SE10); with --json it is passed on as it is.
 *
 * When the connection breaks (a new logger), following goes on from a little earlier. A line has
 * one time while it is followed and another in the file, so what was seen lately is known by its
 * text: each such line is left out once.
 */
#include "ctl.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/names.h"

#include <stdio.h>
#include <string.h>

#define SEEN_MS	 2000  /* how far back what was seen is known, at least */
#define SEEN_MAX 20000 /* and how many lines of it */

/* Lines seen from a time on: text → how often. */
struct seen {
	json_t *lines;
	char start[32];
	int64_t since_ms; /* our own clock, when it was begun */
};

struct follow {
	char open[128]; /* worker and stream whose line has no end yet; "" = none */
	char began[32]; /* when the first call was made, if it wanted no history; else "" */
	struct seen now, before;
	json_t *skip;	/* lines that come once more after a break, or NULL */
	char broke[32]; /* when it broke */
};

static int base64_digit(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

/* Appends what text means; stops at padding or garbage. */
static void base64_decode(const char *text, struct str *out)
{
	uint32_t bits = 0;
	int n = 0, d;

	while ((d = base64_digit(*text++)) >= 0) {
		bits = bits << 6 | (uint32_t)d;
		n += 6;
		if (n >= 8) {
			n -= 8;
			str_add_bytes(out, (char[]){ (char)(bits >> n) }, 1);
		}
	}
}

static void add_escaped(struct ctl *c, const char *text, size_t len)
{
	auto_free char *safe = malloc(4 * len + 8);

	if (!safe)
		return;
	str_escape(text, len, safe, 4 * len + 8);
	str_add(&c->out, safe);
}

static void print_prefix(struct ctl *c, const json_t *l)
{
	const char *at = get_text(l, "at", NULL);

	if (at) {
		out_color(c, DIM, at);
		str_add(&c->out, " ");
	}
	out_color(c, BOLD, get_text(l, "worker", "?"));
	str_add(&c->out, strcmp(get_text(l, "stream", "out"), "err") == 0 ? "! " : " ");
}

static void print_line(struct ctl *c, const json_t *l, struct follow *f)
{
	const char *line = get_text(l, "line", NULL), *bytes = get_text(l, "bytes", "");
	char who[sizeof(f->open)];
	auto_str raw = { 0 };

	snprintf(who, sizeof(who), "%s %s", get_text(l, "worker", "?"),
		 get_text(l, "stream", "out"));
	if (f->open[0] && strcmp(f->open, who) != 0)
		str_add(&c->out, "\n");
	if (strcmp(f->open, who) != 0)
		print_prefix(c, l);
	if (line) {
		add_escaped(c, line, strlen(line));
	} else {
		base64_decode(bytes, &raw);
		add_escaped(c, raw.data ? raw.data : "", raw.len);
	}
	if (get_bool(l, "partial")) {
		memcpy(f->open, who, sizeof(f->open));
	} else {
		f->open[0] = '\0';
		str_add(&c->out, "\n");
	}
}

static void count_line(json_t *lines, const char *key, json_int_t by)
{
	json_int_t n = json_integer_value(json_object_get(lines, key)) + by;

	if (n > 0)
		json_object_set_new(lines, key, json_integer(n));
	else
		json_object_del(lines, key);
}

static void seen_begin(struct seen *s)
{
	*s = (struct seen){ .lines = json_object(), .since_ms = clock_mono_ms() };
}

/* Two halves, so that the older one can be forgotten as a whole. */
static void seen_note(struct follow *f, const char *key, const char *at)
{
	if (clock_mono_ms() - f->now.since_ms > SEEN_MS ||
	    json_object_size(f->now.lines) >= SEEN_MAX) {
		json_decref(f->before.lines);
		f->before = f->now;
		seen_begin(&f->now);
	}
	count_line(f->now.lines, key, 1);
	if (!f->now.start[0] || strcmp(at, f->now.start) < 0)
		snprintf(f->now.start, sizeof(f->now.start), "%s", at);
}

/* After a break: once more from the time of the oldest line that is known, or from the beginning.
 */
static void resume(struct ctl *c, struct follow *f)
{
	const char *since = f->before.start[0] ? f->before.start
			    : f->now.start[0]  ? f->now.start
					       : f->began;
	const char *key;
	json_t *n;

	if (f->open[0] && !c->set.json)
		str_add(&c->out, "\n");
	f->open[0] = '\0';
	clock_format(clock_real_us(), f->broke);
	json_decref(f->skip);
	f->skip = f->before.lines ? json_deep_copy(f->before.lines) : json_object();
	json_object_foreach(f->now.lines, key, n)
	{
		count_line(f->skip, key, json_integer_value(n));
	}
	if (!since[0])
		return; /* the same call again */
	json_object_set_new(c->sent, "since", json_string(since));
	json_object_del(c->sent, "lines");
}

/* Note the line; false if it was seen before the break. */
static bool is_new(struct follow *f, const json_t *l)
{
	const char *at = get_text(l, "at", "");
	const char *text = get_text(l, "line", get_text(l, "bytes", ""));
	auto_str key = { 0 };

	if (get_bool(l, "partial"))
		return true; /* after a break the line comes whole */
	str_addf(&key, "%s %s %s", get_text(l, "worker", ""), get_text(l, "stream", ""), text);
	if (key.failed)
		return true;
	if (f->skip && strcmp(at, f->broke) <= 0 && json_object_get(f->skip, key.data)) {
		count_line(f->skip, key.data, -1);
		return false;
	}
	seen_note(f, key.data, at);
	return true;
}

static int on_lines(struct ctl *c, json_t *parameters, bool last, void *data)
{
	int64_t lost = get_int(parameters, "lost_bytes", 0);
	struct follow *f = data;
	const json_t *l;
	size_t i;

	if (!parameters) {
		resume(c, f);
		return CODE_OK;
	}
	json_array_foreach(json_object_get(parameters, "lines"), i, l)
	{
		if (c->set.follow && !is_new(f, l))
			continue;
		if (c->set.json)
			out_json(c, l);
		else
			print_line(c, l, f);
	}
	if (lost > 0 && c->set.json)
		str_addf(&c->out, "{\"lost_bytes\":%lld}\n", (long long)lost);
	else if (lost > 0)
		str_addf(&c->out, "%s-- %lld bytes lost --\n", f->open[0] ? "\n" : "",
			 (long long)lost);
	if (last && f->open[0] && !c->set.json)
		str_add(&c->out, "\n");
	out_flush(c);
	return CODE_OK;
}

/* "5m" back from now, or a time as it is. */
static int add_since(json_t *p, const char *since)
{
	int64_t back_ms;
	char text[32];

	if (duration_parse(since, &back_ms) == 0 && back_ms != DURATION_NEVER) {
		clock_format(clock_real_us() - back_ms * 1000, text);
		json_object_set_new(p, "since", json_string(text));
		return CODE_OK;
	}
	if (strlen(since) < 10 || since[4] != '-') {
		fail("--since %s: a span back (\"5m\") or a time (2026-01-31T12:00:00Z) is needed",
		     since);
		return CODE_USAGE;
	}
	json_object_set_new(p, "since", json_string(since));
	return CODE_OK;
}

static int add_streams(json_t *p, const char *text)
{
	json_t *list = json_array();

	json_object_set_new(p, "streams", list);
	while (*text) {
		size_t len = strcspn(text, ",");

		if (len != 3 || (memcmp(text, "out", 3) != 0 && memcmp(text, "err", 3) != 0)) {
			fail("--stream %s: out, err or out,err", text);
			return CODE_USAGE;
		}
		json_array_append_new(list, json_stringn(text, len));
		text += len + (text[len] == ',');
	}
	return CODE_OK;
}

int cmd_logs(struct ctl *c)
{
	struct follow f = { 0 };
	json_t *p = json_object();
	int code = CODE_OK;

	if (c->n_args > 0)
		with_targets(c, p);
	if (c->set.follow)
		json_object_set_new(p, "follow", json_true());
	if (c->set.lines >= 0)
		json_object_set_new(p, "lines", json_integer(c->set.lines));
	if (c->set.since)
		code = add_since(p, c->set.since);
	if (code == CODE_OK && c->set.stream)
		code = add_streams(p, c->set.stream);
	if (code != CODE_OK) {
		json_decref(p);
		return code;
	}
	seen_begin(&f.now);
	if (c->set.lines == 0)
		clock_format(clock_real_us(), f.began);
	code = ctl_stream(c, "Logs", p, on_lines, &f);
	json_decref(f.now.lines);
	json_decref(f.before.lines);
	json_decref(f.skip);
	return code;
}
