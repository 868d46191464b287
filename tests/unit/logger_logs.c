/* `logs`: connections handed to the real logger role, as the manager does it. */
#include "logger_rig.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One client: what it got so far, "worker stream text|" a line ("+" behind partial ones). */
struct reader {
	int fd;
	struct str in;	/* bytes not parsed yet */
	struct str got; /* lines */
	uint64_t lost;
	int lines, no_time;
	bool ended, failed;
	char last_at[64];
};

/* buffer: bytes that wait in the socket; 0 = as usual */
static struct reader begin_with(struct rig *r, const char *request, int buffer)
{
	struct reader c = { 0 };
	int ends[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	if (buffer)
		setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	cr_assert_eq(fd_send(r->logs[0], request, strlen(request), &ends[1], 1), 0);
	close(ends[1]);
	c.fd = ends[0];
	return c;
}

static struct reader begin(struct rig *r, const char *request)
{
	return begin_with(r, request, 0);
}

static void end(struct reader *c)
{
	close(c->fd);
	str_fini(&c->in);
	str_fini(&c->got);
}

static void take_line(struct reader *c, json_t *l)
{
	const char *at = json_string_value(json_object_get(l, "at"));
	const char *text = json_string_value(json_object_get(l, "line"));
	const char *bytes = json_string_value(json_object_get(l, "bytes"));

	cr_assert_neq(!text, !bytes, "exactly one of line and bytes");
	c->lines++;
	c->no_time += !at;
	if (at)
		snprintf(c->last_at, sizeof(c->last_at), "%s", at);
	str_addf(&c->got, "%s %s %s%s%s|", json_string_value(json_object_get(l, "worker")),
		 json_string_value(json_object_get(l, "stream")),
		 text ? "" : "base64:", text ? text : bytes,
		 json_is_true(json_object_get(l, "partial")) ? "+" : "");
}

static void take_reply(struct reader *c, const char *text, size_t len)
{
	json_error_t e;
	json_t *o = json_loadb(text, len, 0, &e), *p, *lines, *l;
	size_t i;

	cr_assert_not_null(o, "no JSON: %s: %.200s", e.text, text);
	p = json_object_get(o, "parameters");
	lines = json_object_get(p, "lines");
	c->failed |= json_object_get(o, "error") != NULL;
	cr_assert(c->failed || json_is_array(lines));
	c->lost += (uint64_t)json_integer_value(json_object_get(p, "lost_bytes"));
	json_array_foreach(lines, i, l) take_line(c, l);
	c->ended |= !json_is_true(json_object_get(o, "continues"));
	json_decref(o);
}

/* Read until `lines` lines came, or the end; false when it takes too long. */
static bool read_lines(struct reader *c, int lines)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };

	while (c->lines < lines && !c->ended) {
		char buf[65536], *nul;
		ssize_t n;

		if (poll(&p, 1, RIG_LIMIT_MS) != 1)
			return false;
		n = recv(c->fd, buf, sizeof(buf), 0);
		if (n <= 0)
			return false;
		str_add_bytes(&c->in, buf, (size_t)n);
		while ((nul = memchr(c->in.data, '\0', c->in.len))) {
			size_t len = (size_t)(nul - c->in.data);

			take_reply(c, c->in.data, len);
			str_eat(&c->in, len + 1);
		}
	}
	return true;
}

static void expect(struct rig *r, const char *request, const char *want)
{
	struct reader c = begin(r, request);

	cr_assert(read_lines(&c, 1000000), "%s: no end", request);
	cr_expect(c.ended);
	cr_expect_eq(c.lost, 0);
	cr_expect_str_eq(c.got.data ? c.got.data : "", want, "%s: %s", request, c.got.data);
	end(&c);
}

static void say_bytes(struct rig *r, uint32_t stream, const char *text, size_t len)
{
	int fd = rig_open(r, stream);

	cr_assert_eq(write(fd, text, len), (ssize_t)len);
	close(fd);
	cr_assert_eq(rig_drain(r, stream, false, RIG_LIMIT_MS), 0);
}

static void say(struct rig *r, uint32_t stream, const char *text)
{
	say_bytes(r, stream, text, strlen(text));
}

Test(logger_logs, history_of_a_shared_file)
{
	struct conf_log log = rig_log();
	struct rig r;

	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "web.log");
	rig_stream(&r, 1, "web:1", &log, "web.log");
	rig_stream(&r, LOGBOOK_ERR + 1, "web:1", &log, "web.log");
	rig_start(&r);
	expect(&r, "{\"all\":true}", "");
	say(&r, 0, "a\nb\n");
	say(&r, 1, "c\n");
	say(&r, LOGBOOK_ERR + 1, "e \"q\" \\ \t\x1b[1m\n");
	say(&r, 0, "d\xff\nunfinished");
	expect(&r, "{\"all\":true}",
	       "web:0 out a|web:0 out b|web:1 out c|web:1 err e \"q\" \\ \t\x1b[1m|"
	       "web:0 out base64:ZP8=|");
	expect(&r, "{\"all\":true,\"lines\":2}",
	       "web:1 err e \"q\" \\ \t\x1b[1m|web:0 out base64:ZP8=|");
	expect(&r, "{\"all\":true,\"lines\":0}", "");
	expect(&r, "{\"streams\":[[1,1,0]]}", "web:1 out c|");
	expect(&r, "{\"streams\":[[1,0,1]]}", "web:1 err e \"q\" \\ \t\x1b[1m|");
	expect(&r, "{\"streams\":[[0,1,1]],\"lines\":2}", "web:0 out b|web:0 out base64:ZP8=|");
	expect(&r, "{\"streams\":[]}", "");
	expect(&r, "{\"all\":true,\"out\":false}", "web:1 err e \"q\" \\ \t\x1b[1m|");
	rig_fini(&r);
}

Test(logger_logs, over_rotated_files)
{
	struct conf_log log = rig_log();
	auto_str want = { 0 };
	struct reader c;
	struct rig r;
	int fd, first;
	char request[100];

	log.max_size_bytes = 20000;
	log.keep = 100;
	fd = rig_begin(&r, &log);
	for (int i = 0; i < 6000; i++)
		dprintf(fd, "number %d\n", i);
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	cr_assert_gt(atomic_load(&logbook_sink(&r.lb, 0)->rotations), 5);
	for (int i = 1000; i < 6000; i++)
		str_addf(&want, "web:0 out number %d|", i);
	expect(&r, "{\"all\":true,\"lines\":5000}", want.data);
	/* since: the time of one line in the middle, from its own file */
	c = begin(&r, "{\"all\":true,\"lines\":100000}");
	cr_assert(read_lines(&c, 3000));
	cr_assert_eq(sscanf(c.got.data, "web:0 out number %d|", &first), 1);
	cr_expect_eq(first, 0);
	end(&c);
	snprintf(request, sizeof(request), "{\"all\":true,\"since_us\":%lld}",
		 (long long)clock_real_us() + 1000000);
	expect(&r, request, "");
	close(fd);
	rig_fini(&r);
}

/* Lines of several files come in the order of time, and the last N are the last N of them all. */
Test(logger_logs, files_are_merged_by_time)
{
	struct conf_log log = rig_log();
	auto_str want = { 0 }, last = { 0 };
	char text[80], name[16], label[16];
	struct rig r;

	rig_init(&r);
	for (uint32_t i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "%u.log", i);
		snprintf(label, sizeof(label), "g%u:0", i);
		rig_stream(&r, i, label, &log, name);
	}
	rig_start(&r);
	for (uint32_t i = 0; i < 100; i++) {
		uint32_t who = i * 7 % 20;

		snprintf(text, sizeof(text), "%u\n%u again\n", i, i);
		say(&r, who, text);
		str_addf(&want, "g%u:0 out %u|g%u:0 out %u again|", who, i, who, i);
		if (i > 96)
			str_addf(&last, "g%u:0 out %u|g%u:0 out %u again|", who, i, who, i);
	}
	expect(&r, "{\"all\":true,\"lines\":1000}", want.data);
	expect(&r, "{\"all\":true,\"lines\":6}", last.data);
	expect(&r, "{\"streams\":[[0,1,1],[7,1,1],[14,1,1]],\"lines\":3}",
	       "g7:0 out 81 again|g14:0 out 82|g14:0 out 82 again|");
	rig_fini(&r);
}

/* Over rotated files of different ages, with lines longer than what is read at once. */
Test(logger_logs, rotated_files_are_merged_by_time)
{
	struct conf_log log = rig_log();
	auto_str want = { 0 };
	auto_free char *line = malloc(30000);
	struct rig r;

	cr_assert_not_null(line);
	rig_init(&r);
	log.max_size_bytes = 4000;
	log.keep = 100;
	rig_stream(&r, 0, "fast:0", &log, "fast.log");
	log.max_size_bytes = 200000;
	rig_stream(&r, 1, "slow:0", &log, "slow.log");
	rig_start(&r);
	for (int i = 0; i < 60; i++) {
		size_t len = i % 10 == 9 ? 20000 : 500;

		memset(line, 'a' + i % 26, len);
		line[len] = '\n';
		line[len + 1] = '\0';
		say(&r, i % 3 == 0, line);
		str_addf(&want, "%s:0 out %.*s|", i % 3 == 0 ? "slow" : "fast", (int)len, line);
	}
	cr_assert_gt(atomic_load(&logbook_sink(&r.lb, 0)->rotations), 2);
	expect(&r, "{\"all\":true,\"lines\":1000}", want.data);
	rig_fini(&r);
}

/* A follower that fell behind gets the lines of several streams in the order of time. */
Test(logger_logs, followed_streams_are_merged_by_time)
{
	struct conf_log log = rig_log();
	auto_str want = { 0 };
	struct reader c;
	char text[1100];
	struct rig r;

	rig_init(&r);
	for (uint32_t i = 0; i < 3; i++) {
		snprintf(text, sizeof(text), "g%u:0", i);
		rig_stream(&r, i, text, &log, text);
	}
	rig_start(&r);
	c = begin_with(&r, "{\"all\":true,\"follow\":true}", 4608);
	snprintf(text, sizeof(text), "%0*d\n", 1000, 0);
	for (int i = 0; i < 100; i++)
		say(&r, 0, text);
	for (int i = 0; i < 40; i++) {
		snprintf(text, sizeof(text), "%d\n", i);
		say(&r, 1 + (uint32_t)i % 2, text);
		str_addf(&want, "g%d:0 out %d|", 1 + i % 2, i);
	}
	while (!c.got.data || !strstr(c.got.data, "g2:0 out 39|"))
		cr_assert(read_lines(&c, c.lines + 1));
	cr_expect_str_eq(strstr(c.got.data, "g1:0"), want.data);
	end(&c);
	rig_fini(&r);
}

Test(logger_logs, since)
{
	struct conf_log log = rig_log();
	char request[100];
	struct rig r;
	int64_t t;

	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "web.log");
	rig_start(&r);
	say(&r, 0, "before\n");
	t = clock_real_us();
	say(&r, 0, "after\nmore\n");
	snprintf(request, sizeof(request), "{\"all\":true,\"since_us\":%lld}", (long long)t);
	expect(&r, request, "web:0 out after|web:0 out more|");
	snprintf(request, sizeof(request), "{\"all\":true,\"since_us\":%lld,\"lines\":1}",
		 (long long)t);
	expect(&r, request, "web:0 out more|");
	rig_fini(&r);
}

Test(logger_logs, raw_files_and_rings)
{
	struct conf_log raw = rig_log(), null = rig_log();
	struct reader c;
	struct rig r;

	raw.format = CONF_FORMAT_RAW;
	null.to = CONF_LOG_NULL;
	rig_init(&r);
	rig_stream(&r, 0, "db:0", &raw, "raw");
	rig_stream(&r, 1, "db:1", &raw, "raw");
	rig_stream(&r, 2, "q:0", &null, "");
	rig_stream(&r, 3, "one:0", &raw, "one");
	rig_start(&r);
	say(&r, 0, "zero\n");
	say(&r, 1, "one\n");
	say(&r, 2, "a\nb\nc\n");
	say(&r, 3, "alone\n");
	/* Who wrote a line of a shared raw file cannot be told; of one worker the ring knows. */
	expect(&r, "{\"streams\":[[0,1,1],[1,1,1]]}", "db out zero|db out one|");
	expect(&r, "{\"streams\":[[1,1,1]]}", "db:1 out one|");
	expect(&r, "{\"streams\":[[3,1,1]]}", "one:0 out alone|");
	expect(&r, "{\"streams\":[[2,1,1]],\"lines\":2}", "q:0 out b|q:0 out c|");
	c = begin(&r, "{\"streams\":[[2,1,1]],\"lines\":1,\"follow\":true}");
	cr_assert(read_lines(&c, 1));
	cr_expect_eq(c.no_time, 1);
	say(&r, 2, "d\n");
	cr_assert(read_lines(&c, 2));
	cr_expect_eq(c.no_time, 1);
	cr_expect_str_eq(c.got.data, "q:0 out c|q:0 out d|");
	end(&c);
	rig_fini(&r);
}

/* What the file says comes back as the worker said it, whatever the format was meanwhile. */
Test(logger_logs, json_files)
{
	struct conf_log log = rig_log();
	char odd[] = "a\"\\\t\x1b[1m\x7f \xc3\xa4\nNUL:?\n\xe9\n", path[256];
	struct rig r;
	FILE *file;

	*strchr(odd, '?') = '\0';
	log.format = CONF_FORMAT_JSON;
	log.max_size_bytes = 400;
	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "web.log");
	rig_stream(&r, LOGBOOK_ERR, "web:0", &log, "web.log");
	rig_stream(&r, 1, "web:1", &log, "web.log");
	atomic_store(&logbook_stream(&r.lb, LOGBOOK_ERR)->flags, STREAM_ERR);
	rig_start(&r);
	say_bytes(&r, 0, odd, sizeof(odd) - 1);
	say(&r, 1, "{\"line\":\"mine\"}\n");
	say(&r, LOGBOOK_ERR, "oops\n");
	expect(&r, "{\"all\":true}",
	       "web:0 out a\"\\\t\x1b[1m\x7f \xc3\xa4|web:0 out base64:TlVMOgA=|"
	       "web:0 out base64:6Q==|web:1 out {\"line\":\"mine\"}|web:0 err oops|");
	expect(&r, "{\"streams\":[[0,0,1],[1,1,1]]}",
	       "web:1 out {\"line\":\"mine\"}|web:0 err oops|");
	log.format = CONF_FORMAT_TEXT;
	rig_stream(&r, 1, "web:1", &log, "web.log");
	say(&r, 1, "text by now\n");
	expect(&r, "{\"streams\":[[0,0,1],[1,1,1]]}",
	       "web:1 out {\"line\":\"mine\"}|web:0 err oops|web:1 out text by now|");
	/* By another hand: nothing of it is taken for a member. */
	file = fopen(rig_path(&r, "web.log", path), "ae");
	fprintf(file,
		"{\"time\":\"2026-01-31T12:00:00.123456Z\",\"worker\":\"web:0\",\"stream\":\"out\","
		"\"line\":\"x\\\"}\n");
	fclose(file);
	expect(&r, "{\"all\":true,\"lines\":1}",
	       "web out {\"time\":\"2026-01-31T12:00:00.123456Z\",\"worker\":\"web:0\","
	       "\"stream\":\"out\",\"line\":\"x\\\"}|");
	rig_fini(&r);
}

/* LG07: over rotation, reopening and a kill of the logger's writer: each line once. */
Test(logger_logs, LG07_follow_over_rotation)
{
	struct conf_log log = rig_log();
	struct reader c;
	struct rig r;
	char *p;
	int fd;

	log.max_size_bytes = 5000;
	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "web.log");
	rig_start(&r);
	say(&r, 0, "line 0\nline 1\n");
	c = begin(&r, "{\"all\":true,\"follow\":true}");
	cr_assert(read_lines(&c, 2));
	fd = rig_open(&r, 0);
	for (int i = 2; i < 3000; i++) {
		dprintf(fd, "line %d\n", i);
		if (i % 100 == 0)
			cr_assert(read_lines(&c, i - 50));
		if (i % 500 == 0) {
			atomic_fetch_add(&r.lb.h->reopens, 1);
			rig_ring(&r);
		}
	}
	cr_assert(read_lines(&c, 3000));
	p = c.got.data;
	for (int i = 0; i < 3000; i++) {
		int n = -1, used = 0;

		cr_assert_eq(sscanf(p, "web:0 out line %d|%n", &n, &used), 1);
		cr_assert_eq(n, i);
		p += used;
	}
	cr_expect_eq(c.lost, 0);
	cr_expect_gt(atomic_load(&logbook_sink(&r.lb, 0)->rotations), 10);
	/* A worker that is new is followed too. */
	rig_stream(&r, 1, "web:1", &log, "web.log");
	rig_ring(&r);
	say(&r, 1, "new\n");
	cr_assert(read_lines(&c, 3001));
	cr_expect_not_null(strstr(c.got.data, "web:1 out new|"));
	end(&c);
	close(fd);
	rig_fini(&r);
}

/* A worker that was not started yet is followed from its first line on. */
Test(logger_logs, follow_what_is_not_there_yet)
{
	struct conf_log log = rig_log();
	struct reader c, other;
	struct rig r;

	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "web.log");
	rig_start(&r);
	c = begin(&r, "{\"streams\":[[7,1,1]],\"follow\":true}");
	other = begin(&r, "{\"streams\":[[0,1,1]],\"follow\":true}");
	say(&r, 0, "seen by the other\n");
	cr_assert(read_lines(&other, 1));
	rig_stream(&r, 7, "web:7", &log, "web.log");
	rig_ring(&r);
	say(&r, 7, "first\n");
	say(&r, 0, "end\n");
	cr_assert(read_lines(&c, 1));
	cr_assert(read_lines(&other, 2));
	cr_expect_str_eq(c.got.data, "web:7 out first|");
	cr_expect_str_eq(other.got.data, "web:0 out seen by the other|web:0 out end|");
	end(&c);
	end(&other);
	rig_fini(&r);
}

/* A follower sees the times of the file: it can go on from the last one after a break. */
Test(logger_logs, a_followed_line_has_the_time_of_the_file)
{
	struct conf_log log = rig_log();
	char *text, at[64];
	struct reader c;
	struct rig r;

	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "web.log");
	rig_start(&r);
	c = begin(&r, "{\"all\":true,\"follow\":true}");
	for (int i = 1; i <= 50; i++) {
		say(&r, 0, "line\n");
		cr_assert(read_lines(&c, i));
		text = rig_file(&r, "web.log", NULL);
		snprintf(at, sizeof(at), "%.27s", text + strlen(text) - 39);
		cr_assert_str_eq(c.last_at, at);
		free(text);
	}
	end(&c);
	rig_fini(&r);
}

/* An unfinished last line of a life is shown as such. */
Test(logger_logs, follow_shows_the_end_of_a_life)
{
	struct conf_log log = rig_log();
	struct reader c;
	struct rig r;

	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "web.log");
	rig_start(&r);
	c = begin(&r, "{\"all\":true,\"follow\":true}");
	say(&r, 0, "whole\nlast wor");
	cr_assert(read_lines(&c, 1));
	cr_expect_str_eq(c.got.data, "web:0 out whole|");
	cr_assert_eq(rig_drain(&r, 0, true, RIG_LIMIT_MS), 0);
	cr_assert(read_lines(&c, 2));
	cr_expect_str_eq(c.got.data, "web:0 out whole|web:0 out last wor+|");
	say(&r, 0, "next life\n");
	cr_assert(read_lines(&c, 3));
	cr_expect_not_null(strstr(c.got.data, "|web:0 out next life|"));
	end(&c);
	rig_fini(&r);
}

/* CT05: a client that does not read costs itself: others and the log go on, and it is told. */
Test(logger_logs, CT05_a_slow_client)
{
	struct conf_log log = rig_log();
	struct reader slow, gone;
	struct rig r;
	uint64_t lines;
	int fd;

	log.format = CONF_FORMAT_RAW;
	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "web.log");
	rig_start(&r);
	slow = begin(&r, "{\"all\":true,\"follow\":true}");
	gone = begin(&r, "{\"all\":true,\"follow\":true}");
	fd = rig_open(&r, 0);
	rig_flood(fd, 4 << 20);
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0, "the log did not go on");
	end(&gone);
	rig_flood(fd, 4 << 20);
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	rig_put(fd, "the last\n");
	while (!slow.got.data || !strstr(slow.got.data, "out the last|"))
		cr_assert(read_lines(&slow, slow.lines + 1));
	lines = (uint64_t)slow.lines;
	cr_expect_gt(slow.lost, 1 << 20);
	cr_expect_lt(lines, (8u << 20) / 100);
	end(&slow);
	close(fd);
	rig_fini(&r);
}

/* What nobody should send: bad requests, a flood, half a close. */
Test(logger_logs, bad_requests_and_odd_clients)
{
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"{\"streams\":3}",
		"{\"streams\":[[1,2]]}",
		"{}",
		"{\"streams\":[[99999999,1,1]]}",
	};
	struct conf_log log = rig_log();
	char junk[4096] = "x";
	struct reader c;
	struct rig r;

	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "web.log");
	rig_start(&r);
	for (size_t i = 1; i < ARRAY_LEN(bad); i++) {
		c = begin(&r, bad[i]);
		cr_assert(read_lines(&c, 1), "%s", bad[i]);
		cr_expect(c.failed, "%s", bad[i]);
		end(&c);
	}
	c = begin(&r, "{\"all\":true,\"follow\":true}");
	cr_assert_eq(shutdown(c.fd, SHUT_WR), 0);
	say(&r, 0, "still listening\n");
	cr_expect(read_lines(&c, 1));
	end(&c);
	c = begin(&r, "{\"all\":true,\"follow\":true}");
	for (int i = 0; i < 1000; i++) {
		if (send(c.fd, junk, sizeof(junk), MSG_NOSIGNAL) < 0)
			break;
		cr_assert_lt(i, 999, "a flood is not cut off");
	}
	end(&c);
	say(&r, 0, "alive\n");
	rig_fini(&r);
}
