/* What reaches the terminal: messages, colours, escaped text, spans and sizes for people. */
#include "ctl.h"

#include "base/fd.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void fail(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fputs("reevectl: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
}

void out_flush(struct ctl *c)
{
	if (c->out.len > 0)
		fd_write_all(STDOUT_FILENO, c->out.data, c->out.len);
	c->out.len = 0;
}

void out_color(struct ctl *c, enum color color, const char *text)
{
	static const char *const codes[COLOR_COUNT] = {
		[GOOD] = "\033[32m", [BAD] = "\033[31m", [WARN] = "\033[33m",
		[DIM] = "\033[2m",   [BOLD] = "\033[1m",
	};

	if (!c->color || !codes[color]) {
		str_add(&c->out, text);
		return;
	}
	str_add(&c->out, codes[color]);
	str_add(&c->out, text);
	str_add(&c->out, "\033[0m");
}

void out_safe(struct ctl *c, const char *text)
{
	size_t len = strlen(text);
	auto_free char *safe = malloc(4 * len + 8);

	if (!safe) {
		c->out.failed = true;
		return;
	}
	str_escape(text, len, safe, 4 * len + 8);
	str_add(&c->out, safe);
}

static int dump_to_str(const char *bytes, size_t len, void *data)
{
	str_add_bytes(data, bytes, len);
	return 0;
}

void out_json(struct ctl *c, const json_t *value)
{
	if (value)
		json_dump_callback(value, dump_to_str, &c->out,
				   JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15) |
					   JSON_ENSURE_ASCII);
	else
		str_add(&c->out, "null");
	str_add(&c->out, "\n");
}

/* Bytes of text that fit into a line of the terminal on stderr. */
static size_t fitting(const char *text)
{
	struct winsize size = { 0 };
	size_t len = strlen(text), columns = 79;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 10)
		columns = size.ws_col - 1u;
	if (len <= columns)
		return len;
	for (len = columns; len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80; len--)
		;
	return len;
}

void progress_line(struct ctl *c, const char *text)
{
	char line[512];
	int n;

	if (!c->progress || (!text && !c->line_open))
		return;
	text = text ? text : "";
	n = snprintf(line, sizeof(line), "\r\033[K%.*s", (int)fitting(text), text);
	fd_write_all(STDERR_FILENO, line, MIN_OF((size_t)n, sizeof(line) - 1));
	c->line_open = *text != '\0';
}

enum color state_color(const char *state)
{
	static const struct {
		const char *state;
		enum color color;
	} rows[] = {
		{ "ready", GOOD },   { "done", GOOD },	     { "backoff", BAD },
		{ "stuck", BAD },    { "quarantined", BAD }, { "starting", WARN },
		{ "waiting", WARN }, { "stopping", WARN },   { "killing", WARN },
		{ "stopped", DIM },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (strcmp(rows[i].state, state) == 0)
			return rows[i].color;
	return PLAIN;
}

void format_span(double seconds, char ret[static 32])
{
	static const struct {
		double seconds;
		char unit;
	} units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };
	size_t i = 0;
	long long big, small;

	if (seconds < 0)
		seconds = 0;
	if (seconds > 1e12)
		seconds = 1e12;
	if (seconds < 10) {
		snprintf(ret, 32, "%.1fs", seconds);
		return;
	}
	while (seconds < units[i].seconds)
		i++;
	big = (long long)(seconds / units[i].seconds);
	if (i == ARRAY_LEN(units) - 1) {
		snprintf(ret, 32, "%lld%c", big, units[i].unit);
		return;
	}
	small = (long long)((seconds - (double)big * units[i].seconds) / units[i + 1].seconds);
	snprintf(ret, 32, small ? "%lld%c%lld%c" : "%lld%c", big, units[i].unit, small,
		 units[i + 1].unit);
}

void format_bytes(int64_t bytes, char ret[static 32])
{
	static const char units[] = "BKMGTP";
	double value = (double)bytes;
	size_t i = 0;

	while (value >= 1024 && i + 2 < sizeof(units)) {
		value /= 1024;
		i++;
	}
	snprintf(ret, 32, i > 0 && value < 10 ? "%.1f%c" : "%.0f%c", value, units[i]);
}

/* --- JSON --- */

const char *get_text(const json_t *o, const char *key, const char *absent)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text ? text : absent;
}

int64_t get_int(const json_t *o, const char *key, int64_t absent)
{
	const json_t *v = json_object_get(o, key);

	return json_is_integer(v) ? json_integer_value(v) : absent;
}

double get_real(const json_t *o, const char *key, double absent)
{
	const json_t *v = json_object_get(o, key);

	return json_is_number(v) ? json_number_value(v) : absent;
}

bool get_bool(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}
