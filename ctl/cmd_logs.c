/*
 * logs: the last lines of workers, and with -f what comes. Lines look as in a text log. What a
 * worker wrote is escaped before it meets a terminal (SE10); with --json it is passed on as it is.
 *
 * When the connection breaks (a new logger), following goes on behind the places that were told
 * with the lines. As long as none were told it was history: that comes once more, and what was
 * shown of it is left out.
 */
#include "ctl.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/names.h"

#include <stdio.h>
#include <string.h>

struct follow {
	char open[128];	 /* worker and stream whose line has no end yet; "" = none */
	char born[24];	 /* of the log book that the places are of */
	json_t *places;	 /* stream → where it ends, as text; NULL while history comes */
	json_t *history; /* lines of it that were shown → how often */
	json_t *skip;	 /* of these: come once more after a break, or NULL */
	char first[32];	 /* time of the oldest of them */
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

/* "12:3456" */
static void take_place(struct follow *f, const char *text, size_t len)
{
	const char *colon = memchr(text, ':', len);

	if (colon)
		json_object_setn_new(f->places, text, (size_t)(colon - text),
				     json_stringn(colon + 1, len - (size_t)(colon + 1 - text)));
	else
		snprintf(f->born, sizeof(f->born), "%.*s", (int)len, text);
}

static void take_places(struct follow *f, const char *text)
{
	if (!f->places)
		f->places = json_object();
	while (*text) {
		size_t len = strcspn(text, ";");

		take_place(f, text, len);
		text += len + (text[len] == ';');
	}
}

static json_t *places_text(const struct follow *f)
{
	auto_str text = { 0 };
	const char *stream;
	json_t *total;

	str_add(&text, f->born);
	json_object_foreach(f->places, stream, total)
	{
		str_addf(&text, ";%s:%s", stream, json_string_value(total));
	}
	return text.failed ? NULL : json_string(text.data);
}

static void resume(struct ctl *c, struct follow *f)
{
	if (f->places) {
		json_object_set_new(c->sent, "after", places_text(f));
		json_object_del(c->sent, "lines");
		json_object_del(c->sent, "since");
		return;
	}
	json_decref(f->skip);
	f->skip = json_deep_copy(f->history);
	if (!f->first[0])
		return; /* the same call again */
	json_object_set_new(c->sent, "since", json_string(f->first));
	json_object_del(c->sent, "lines");
}

/* Note the line; false if it was shown before the break. */
static bool is_new(struct follow *f, const json_t *l)
{
	const char *at = get_text(l, "at", ""), *place = get_text(l, "place", NULL);
	const char *text = get_text(l, "line", get_text(l, "bytes", ""));
	auto_str key = { 0 };

	if (place && f->places)
		take_place(f, place, strlen(place));
	if (f->places)
		return true;
	str_addf(&key, "%s %s %s %s", at, get_text(l, "worker", ""), get_text(l, "stream", ""),
		 text);
	if (key.failed)
		return true;
	if (f->skip && json_object_get(f->skip, key.data)) {
		count_line(f->skip, key.data, -1);
		return false;
	}
	count_line(f->history, key.data, 1);
	if (at[0] && (!f->first[0] || strcmp(at, f->first) < 0))
		snprintf(f->first, sizeof(f->first), "%s", at);
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
	if (get_text(parameters, "places", NULL))
		take_places(f, get_text(parameters, "places", NULL));
	json_array_foreach(json_object_get(parameters, "lines"), i, l)
	{
		if (c->set.follow && !is_new(f, l))
			continue;
		json_object_del((json_t *)l, "place");
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
	f.history = json_object();
	code = ctl_stream(c, "Logs", p, on_lines, &f);
	json_decref(f.places);
	json_decref(f.history);
	json_decref(f.skip);
	return code;
}
