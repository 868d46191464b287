/* The log book as the manager uses it; the ring is filled here the way the logger does. */
#include "ledger/logbook.h"

#include "logger/ring.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct book {
	struct logbook lb;
	int fd, pipe[2];
};

static struct book open_book(void)
{
	struct logbook header;
	struct diag d;
	struct book b;

	cr_assert_eq(logbook_create(&b.fd, &header), 0);
	cr_assert_eq(header.bytes, 4096);
	logbook_fini(&header);
	cr_assert_eq(logbook_open(b.fd, &b.lb, &d), 0);
	cr_assert_eq(pipe2(b.pipe, O_CLOEXEC | O_NONBLOCK), 0);
	return b;
}

static void close_book(struct book *b)
{
	logbook_fini(&b->lb);
	close(b->fd);
	close(b->pipe[0]);
	close(b->pipe[1]);
}

/* Through the pipe into the ring; turns to the other half when one is full. */
static void feed(struct book *b, uint32_t stream, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t put = write(b->pipe[1], text, len);

		cr_assert_gt(put, 0);
		text += put;
		len -= (size_t)put;
		while (put > 0) {
			ssize_t n;

			if (ring_room(&b->lb, stream) == 0)
				cr_assert(ring_turn(&b->lb, stream));
			n = ring_fill(&b->lb, stream, b->pipe[0], ring_room(&b->lb, stream));
			cr_assert_gt(n, 0);
			put -= n;
		}
	}
}

static void consume(struct book *b, uint32_t stream)
{
	atomic_store(&logbook_stream(&b->lb, stream)->consumed, ring_total(&b->lb, stream));
}

Test(logbook_map, refuses_another_layout)
{
	struct book b = open_book();
	struct logbook other;
	struct diag d = { 0 };

	b.lb.h->version++;
	cr_expect_eq(logbook_open(b.fd, &other, &d), -EPROTO);
	cr_expect_not_null(strstr(d.text, "layout 2"));
	b.lb.h->version--;
	b.lb.h->stream_stride++;
	cr_expect_eq(logbook_open(b.fd, &other, &d), -EPROTO);
	close_book(&b);
}

Test(logbook_map, same_file_same_sink)
{
	struct book b = open_book();
	struct conf_log log = { .to = CONF_LOG_FILE, .keep = 5 };
	int one = logbook_sink_put(&b.lb, &log, "/var/log/a.log", false), two;
	bool scan = false;
	char long_path[1000];

	cr_expect_eq(one, 0);
	two = logbook_sink_put(&b.lb, &log, "/var/log/b.log", false);
	cr_expect_eq(two, 1);
	cr_expect_eq(logbook_news_take(&b.lb, &scan), 0 | LOGBOOK_NEWS_SINK);
	cr_expect_eq(logbook_news_take(&b.lb, &scan), 1 | LOGBOOK_NEWS_SINK);
	log.keep = 9;
	cr_expect_eq(logbook_sink_put(&b.lb, &log, "/var/log/a.log", false), 0);
	cr_expect_eq(logbook_sink(&b.lb, 0)->keep, 9);
	cr_expect_eq(logbook_news_take(&b.lb, &scan), 0 | LOGBOOK_NEWS_SINK);
	cr_expect_eq(logbook_sink_put(&b.lb, &log, "/var/log/a.log", false), 0);
	cr_expect_eq(logbook_news_take(&b.lb, &scan), LOGBOOK_NONE, "no change, no news");
	/* A row is free once the logger let go of it. */
	atomic_store(&logbook_sink(&b.lb, 0)->taken, 1);
	logbook_sink_drop(&b.lb, 0);
	cr_expect_eq(logbook_sink_put(&b.lb, &log, "/var/log/c.log", false), 2);
	atomic_store(&logbook_sink(&b.lb, 0)->taken, 0);
	cr_expect_eq(logbook_sink_put(&b.lb, &log, "/var/log/d.log", false), 0);
	memset(long_path, 'x', sizeof(long_path));
	long_path[0] = '/';
	long_path[999] = '\0';
	cr_expect_eq(logbook_sink_put(&b.lb, &log, long_path, false), -ENAMETOOLONG);
	log.to = CONF_LOG_JOURNAL;
	cr_expect_eq(logbook_sink_put(&b.lb, &log, "", false), -EINVAL);
	cr_expect_not(scan);
	close_book(&b);
}

Test(logbook_map, unused_sinks_are_swept)
{
	struct book b = open_book();
	struct conf_log log = { .to = CONF_LOG_FILE };

	for (int i = 0; i < 3; i++) {
		char path[32];

		snprintf(path, sizeof(path), "/var/log/%d", i);
		cr_assert_eq(logbook_sink_put(&b.lb, &log, path, false), i);
	}
	logbook_stream_set(&b.lb, 5, 0, "web:0", 0);
	logbook_stream_set(&b.lb, LOGBOOK_ERR + 5, 2, "web:0", STREAM_ERR);
	logbook_sinks_sweep(&b.lb);
	cr_expect(logbook_sink(&b.lb, 0)->used);
	cr_expect_not(logbook_sink(&b.lb, 1)->used);
	cr_expect(logbook_sink(&b.lb, 2)->used);
	logbook_stream_clear(&b.lb, 5);
	logbook_sinks_sweep(&b.lb);
	cr_expect_not(logbook_sink(&b.lb, 0)->used);
	close_book(&b);
}

Test(logbook_map, one_stdout_two_formats)
{
	struct book b = open_book();
	struct conf_log log = { .to = CONF_LOG_STDOUT, .format = CONF_FORMAT_TEXT };
	int text = logbook_sink_put(&b.lb, &log, "", false), raw;

	log.format = CONF_FORMAT_RAW;
	raw = logbook_sink_put(&b.lb, &log, "", false);
	cr_expect_neq(text, raw);
	cr_expect_eq(logbook_sink_put(&b.lb, &log, "", false), raw);
	close_book(&b);
}

Test(logbook_map, news_that_do_not_fit_ask_for_a_scan)
{
	struct book b = open_book();
	bool scan = false;
	uint32_t n = 0;

	for (uint32_t i = 0; i < LOGBOOK_RING + 10; i++)
		logbook_drain(&b.lb, i, false);
	while (logbook_news_take(&b.lb, &scan) != LOGBOOK_NONE)
		n++;
	cr_expect(scan);
	cr_expect_eq(n, LOGBOOK_RING);
	scan = false;
	cr_expect_eq(logbook_news_take(&b.lb, &scan), LOGBOOK_NONE);
	cr_expect_not(scan, "asked once");
	close_book(&b);
}

Test(logbook_map, drains_are_numbered)
{
	struct book b = open_book();
	uint32_t one = logbook_drain(&b.lb, 7, false), two = logbook_drain(&b.lb, 7, true);

	cr_expect_neq(one, two);
	cr_expect_not(logbook_drained(&b.lb, 7, one));
	atomic_store(&logbook_stream(&b.lb, 7)->drain_done, one);
	cr_expect(logbook_drained(&b.lb, 7, one));
	cr_expect_not(logbook_drained(&b.lb, 7, two));
	cr_expect(logbook_drained(&b.lb, LOGBOOK_STREAMS, 1),
		  "no such stream: nothing to wait for");
	close_book(&b);
}

Test(logbook_map, totals_and_data_over_both_halves)
{
	struct book b = open_book();
	static char data[4 * LOGBOOK_HALF];
	char copy[1000];
	uint64_t total;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 + i / 251);
	ring_attach(&b.lb, 3);
	cr_expect_eq(logbook_total(&b.lb, 3), 0);
	for (size_t at = 0; at + 4096 <= sizeof(data); at += 4096) {
		feed(&b, 3, data + at, 4096);
		consume(&b, 3);
		total = logbook_total(&b.lb, 3);
		cr_assert_eq(total, at + 4096);
		for (uint64_t from = logbook_oldest(&b.lb, 3); from + 1000 <= total; from += 9973) {
			cr_assert_eq(logbook_copy(&b.lb, 3, from, copy, 1000), 1000);
			cr_assert_arr_eq(copy, data + from, 1000);
		}
	}
	cr_expect_leq(total - logbook_oldest(&b.lb, 3), 2 * LOGBOOK_HALF);
	cr_expect_geq(total - logbook_oldest(&b.lb, 3), LOGBOOK_HALF);
	cr_expect_eq(logbook_copy(&b.lb, 3, 0, copy, 10), -ESTALE);
	cr_expect_eq(logbook_copy(&b.lb, 3, total, copy, 10), 0);
	close_book(&b);
}

Test(logbook_map, a_half_is_not_reused_before_it_is_consumed)
{
	struct book b = open_book();
	static char data[LOGBOOK_HALF];

	memset(data, 'x', sizeof(data));
	ring_attach(&b.lb, 0);
	for (size_t at = 0; at < 2 * sizeof(data); at += 4096)
		feed(&b, 0, data, 4096);
	cr_expect_eq(ring_room(&b.lb, 0), 0);
	cr_expect_not(ring_turn(&b.lb, 0));
	cr_expect_eq(ring_drop_old(&b.lb, 0), LOGBOOK_HALF);
	cr_expect(ring_turn(&b.lb, 0));
	close_book(&b);
}

/* A logger killed between any two stores of a switch or a drop leaves a row that reads the same. */
Test(logbook_map, half_done_steps_are_harmless)
{
	struct book b = open_book();
	struct logbook_stream *s = logbook_stream(&b.lb, 0);
	struct logbook_counters c;
	char copy[8];

	ring_attach(&b.lb, 0);
	feed(&b, 0, "one\ntwo\n", 8);
	consume(&b, 0);
	/* ring_turn cut short before lap */
	atomic_store(&s->pos[1], 0);
	atomic_store(&s->start[1], 8);
	cr_expect_eq(logbook_total(&b.lb, 0), 8);
	cr_expect_eq(logbook_copy(&b.lb, 0, 0, copy, 8), 8);
	cr_expect_arr_eq(copy, "one\ntwo\n", 8);
	feed(&b, 0, "x\n", 2);
	consume(&b, 0);
	cr_expect(ring_turn(&b.lb, 0));
	cr_expect_eq(logbook_total(&b.lb, 0), 10);
	feed(&b, 0, "three\n", 6);
	/* ring_drop_to cut short */
	atomic_store(&s->drop_sum, 6);
	atomic_store(&s->drop_to, 16);
	ring_attach(&b.lb, 0);
	logbook_counters(&b.lb, 0, 0, 0, &c);
	cr_expect_eq(c.in, 16);
	cr_expect_eq(c.dropped, 6);
	cr_expect_eq(c.written, 10);
	close_book(&b);
}

static void trim_to(bool small, size_t kept)
{
	struct book b = open_book();
	static char data[60000];
	char copy[8192];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)('a' + i % 23);
	ring_attach(&b.lb, 5);
	feed(&b, 5, data, sizeof(data));
	ring_trim(&b.lb, 5, small);
	cr_expect_eq(logbook_oldest(&b.lb, 5), 0, "not consumed: nothing is given up");
	consume(&b, 5);
	ring_trim(&b.lb, 5, small);
	cr_expect_eq(logbook_total(&b.lb, 5), sizeof(data));
	cr_expect_eq(logbook_oldest(&b.lb, 5), sizeof(data) - kept);
	cr_expect_eq(logbook_copy(&b.lb, 5, sizeof(data) - kept, copy, kept), (ssize_t)kept);
	cr_expect_arr_eq(copy, data + sizeof(data) - kept, kept);
	/* It goes on from there. */
	for (int i = 0; i < 3; i++) {
		feed(&b, 5, "more\n", 5);
		cr_expect_eq(logbook_copy(&b.lb, 5, sizeof(data) + (uint64_t)i * 5, copy, 100), 5);
		cr_expect_eq(logbook_copy(&b.lb, 5, sizeof(data) - 3, copy, 3), 3);
		cr_expect_arr_eq(copy, data + sizeof(data) - 3, 3);
	}
	consume(&b, 5);
	ring_trim(&b.lb, 5, small);
	cr_expect_eq(logbook_total(&b.lb, 5), sizeof(data) + 15);
	cr_expect_geq(logbook_copy(&b.lb, 5, sizeof(data) + 5, copy, 10), 10);
	cr_expect_arr_eq(copy, "more\nmore\n", 10);
	close_book(&b);
}

Test(logbook_map, a_stream_at_rest_keeps_its_newest_bytes)
{
	trim_to(true, LOGBOOK_REST);
	trim_to(false, 8192);
}

static void expect_tail(struct book *b, uint64_t from, size_t size, const char *want)
{
	char buf[64];
	size_t n = logbook_tail(&b->lb, 1, from, buf, size);

	cr_expect_eq(n, strlen(want));
	cr_expect_str_eq(buf, want);
}

Test(logbook_map, tail_gives_whole_lines_of_one_life)
{
	struct book b = open_book();

	ring_attach(&b.lb, 1);
	expect_tail(&b, 0, 64, "");
	feed(&b, 1, "old life\n", 9);
	feed(&b, 1, "first\nsecond\nthird", 18);
	expect_tail(&b, 9, 64, "first\nsecond\nthird");
	expect_tail(&b, 9, 18, "second\nthird"); /* the first does not fit whole */
	expect_tail(&b, 9, 13, "second\nthird");
	expect_tail(&b, 9, 12, "third");
	expect_tail(&b, 9, 4, "ird"); /* one long line: its end */
	expect_tail(&b, 27, 64, "");
	close_book(&b);
}
