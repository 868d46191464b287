/* Pure: turns one datagram of the sd_notify protocol into values. Fuzzed (tests/fuzz). */
#include "manager/notify.h"

#include "base/mem.h"

#include <string.h>

struct field {
	const char *text;
	size_t len;
};

/* A whole unsigned decimal number; false for anything else, overflow included. */
static bool number(struct field f, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (f.len == 0)
		return false;
	for (size_t i = 0; i < f.len; i++) {
		uint64_t digit = (uint64_t)(f.text[i] - '0');

		if (f.text[i] < '0' || f.text[i] > '9' || v > (max - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*ret = v;
	return true;
}

static bool is_one(struct field f)
{
	return f.len == 1 && *f.text == '1';
}

static void take_ready(struct notify_message *m, struct field f)
{
	m->ready |= is_one(f);
}

static void take_stopping(struct notify_message *m, struct field f)
{
	m->stopping |= is_one(f);
}

static void take_reloading(struct notify_message *m, struct field f)
{
	m->reloading |= is_one(f);
}

static void take_watchdog(struct notify_message *m, struct field f)
{
	m->watchdog |= is_one(f);
	m->trigger |= f.len == strlen("trigger") && memcmp(f.text, "trigger", f.len) == 0;
}

static void take_watchdog_usec(struct notify_message *m, struct field f)
{
	m->has_watchdog_usec |= number(f, UINT64_MAX, &m->watchdog_usec);
}

static void take_status(struct notify_message *m, struct field f)
{
	m->has_status = true;
	m->status = f.text;
	m->status_len = f.len;
}

static void take_errno(struct notify_message *m, struct field f)
{
	uint64_t v;

	if (!number(f, 4095, &v))
		return;
	m->has_errno = true;
	m->error_number = (int)v;
}

static void take_mainpid(struct notify_message *m, struct field f)
{
	uint64_t v;

	if (!number(f, INT32_MAX, &v))
		return;
	m->has_mainpid = true;
	m->mainpid = (int64_t)v;
}

static void take_extend(struct notify_message *m, struct field f)
{
	uint64_t v;

	if (!number(f, UINT64_MAX, &v))
		return;
	m->has_extend = true;
	m->extend_usec = v;
}

static void take_progress(struct notify_message *m, struct field f)
{
	const char *slash = memchr(f.text, '/', f.len);
	uint64_t done, total;
	size_t n;

	if (!slash)
		return;
	n = (size_t)(slash - f.text);
	if (!number((struct field){ f.text, n }, INT64_MAX, &done) ||
	    !number((struct field){ slash + 1, f.len - n - 1 }, INT64_MAX, &total))
		return;
	m->has_progress = true;
	m->progress_done = done;
	m->progress_total = total;
}

static const struct {
	const char *name;
	void (*take)(struct notify_message *m, struct field f);
} fields[] = {
	{ "ERRNO", take_errno },
	{ "EXTEND_TIMEOUT_USEC", take_extend },
	{ "MAINPID", take_mainpid },
	{ "READY", take_ready },
	{ "RELOADING", take_reloading },
	{ "STATUS", take_status },
	{ "STOPPING", take_stopping },
	{ "WATCHDOG", take_watchdog },
	{ "WATCHDOG_USEC", take_watchdog_usec },
	{ "X_REEVE_PROGRESS", take_progress },
};

static void take_line(struct notify_message *m, const char *line, size_t len)
{
	const char *sign = memchr(line, '=', len);
	size_t name = sign ? (size_t)(sign - line) : 0;

	if (!sign || memchr(line, '\0', len))
		return;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (strlen(fields[i].name) == name && memcmp(fields[i].name, line, name) == 0) {
			fields[i].take(m, (struct field){ sign + 1, len - name - 1 });
			return;
		}
	}
}

void notify_parse(const char *text, size_t len, struct notify_message *ret)
{
	*ret = (struct notify_message){ 0 };
	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		size_t n = end ? (size_t)(end - text) : len;

		take_line(ret, text, n);
		n += end ? 1 : 0;
		text += n;
		len -= n;
	}
}
