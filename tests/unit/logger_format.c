/* The three formats: whole lines only, pieces of long ones, and the same bytes again on request. */
#include "logger/format.h"

#include "ledger/logbook.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define STAMP "2026-01-31T12:00:00.123456Z"

static struct format make(const char *a, const char *b, uint32_t flags)
{
	return (struct format){ .in = { { a, b }, { strlen(a), strlen(b) } },
				.flags = flags,
				.label = "web:3",
				.stamp_us = 1769860800123456 };
}

/* The output as one string; free it. */
static char *run(const struct format *f, size_t limit, bool force, struct batch *b)
{
	char *scratch = malloc(FORMAT_SCRATCH), *text;
	size_t at = 0;

	format_batch(f, limit, force, scratch, b);
	text = calloc(1, b->out_len + 1);
	for (int i = 0; i < b->n_iov; i++) {
		memcpy(text + at, b->iov[i].iov_base, b->iov[i].iov_len);
		at += b->iov[i].iov_len;
	}
	cr_assert_eq(at, b->out_len);
	free(scratch);
	return text;
}

static void expect(const struct format *f, size_t in_len, const char *want)
{
	struct batch b;
	char *text = run(f, SIZE_MAX, true, &b);

	cr_expect_eq(b.in_len, in_len, "%zu bytes taken, %zu expected", b.in_len, in_len);
	cr_expect_str_eq(text, want);
	free(text);
}

Test(logger_format, text_prefixes_each_whole_line)
{
	struct format f = make("one\ntw", "o\nunfinished", FORMAT_TEXT);

	expect(&f, 8, STAMP " web:3 one\n" STAMP " web:3 two\n");
}

Test(logger_format, text_of_a_separate_stderr)
{
	struct format f = make("oops\n", "", FORMAT_TEXT | FORMAT_ERR);

	expect(&f, 5, STAMP " web:3! oops\n");
}

Test(logger_format, the_end_of_a_life_ends_the_line)
{
	struct format f = make("a\nlast wo", "rds", FORMAT_TEXT | FORMAT_END);
	struct format raw = make("a\nlast wo", "rds", FORMAT_END);
	struct format whole = make("a\n", "", FORMAT_END);

	expect(&f, 12, STAMP " web:3 a\n" STAMP " web:3 last words\n");
	expect(&raw, 12, "a\nlast words\n");
	expect(&whole, 2, "a\n");
}

Test(logger_format, raw_takes_whole_lines_as_they_are)
{
	struct format f = make("a\0b\n\x1b[1mc", "\nd", 0);

	f.in.len[0] = 9;
	expect(&f, 10, "a"); /* up to the NUL, as a string */
	f = make("abc", "d", 0);
	expect(&f, 0, "");
}

Test(logger_format, lost_bytes_and_a_torn_line_go_first)
{
	struct format f = make("x\n", "", FORMAT_TEXT | FORMAT_BREAK);
	struct format raw = make("x\n", "", FORMAT_BREAK);

	f.lost = raw.lost = 4096;
	expect(&f, 2, "\n" STAMP " web:3 -- 4096 bytes lost --\n" STAMP " web:3 x\n");
	expect(&raw, 2, "\n-- 4096 bytes lost --\nx\n");
}

#define JSON "{\"time\":\"" STAMP "\",\"worker\":\"web:3\",\"stream\":\"out\","

Test(logger_format, json_has_an_object_a_line)
{
	struct format f = make("one\ntw", "o\n\nunfinished", FORMAT_JSON);
	struct format e = make("o\"o\\p\ts\x1b[0m\x7f \xc3\xa4\n", "", FORMAT_JSON | FORMAT_ERR);

	expect(&f, 9,
	       JSON "\"line\":\"one\"}\n" JSON "\"line\":\"two\"}\n" JSON "\"line\":\"\"}\n");
	expect(&e, 16,
	       "{\"time\":\"" STAMP "\",\"worker\":\"web:3\",\"stream\":\"err\","
	       "\"line\":\"o\\\"o\\\\p\\ts\\u001b[0m\\u007f \xc3\xa4\"}\n");
}

/* A worker's own JSON is text like any other: what it says of itself is not believed. */
Test(logger_format, json_of_a_worker_stays_a_string)
{
	struct format f = make("{\"worker\":\"db:0\"}\n", "", FORMAT_JSON);

	expect(&f, 18, JSON "\"line\":\"{\\\"worker\\\":\\\"db:0\\\"}\"}\n");
}

/* JSON has no way to say such bytes; base64 has. */
Test(logger_format, json_of_bytes_that_are_no_text)
{
	struct format f = make("caf\xe9\nok\n", "", FORMAT_JSON);
	struct format nul = make("a?b\n", "", FORMAT_JSON);

	expect(&f, 8, JSON "\"bytes\":\"Y2Fm6Q==\"}\n" JSON "\"line\":\"ok\"}\n");
	nul.in.data[0] = "a\0b\n";
	expect(&nul, 4, JSON "\"bytes\":\"YQBi\"}\n");
}

Test(logger_format, json_of_lost_bytes_and_a_torn_line)
{
	struct format f = make("x\n", "", FORMAT_JSON | FORMAT_BREAK);

	f.lost = 4096;
	expect(&f, 2,
	       "\n" JSON "\"lost_bytes\":4096,\"line\":\"-- 4096 bytes lost --\"}\n" JSON
	       "\"line\":\"x\"}\n");
	cr_expect_eq(format_head_len(&f), 1 + strlen(JSON) + 50);
}

/* LG05: of the longest, all of it escaped; and what is cut is cut between two characters. */
Test(logger_format, json_of_long_lines)
{
	size_t n = LOGBOOK_LINE + 10;
	char *line = malloc(n + 2), *text;
	struct format f;
	struct batch b;

	memset(line, 1, n);
	strcpy(line + n, "\n");
	f = make(line, "", FORMAT_JSON);
	text = run(&f, SIZE_MAX, true, &b);
	cr_expect_eq(b.in_len, n + 1);
	cr_expect_eq(b.out_len, 2 * strlen(JSON "\"line\":\"\"}\n") + 15 + 6 * n);
	cr_expect_not_null(strstr(text, "\\u0001\",\"partial\":true}\n" JSON "\"line\":\"\\u0001"));
	free(text);
	memset(line, 'x', n);
	memcpy(line + LOGBOOK_LINE - 2, "\xe2\x82\xac", 3);
	text = run(&f, SIZE_MAX, true, &b);
	cr_expect_eq(b.in_len, n + 1);
	cr_expect_null(strstr(text, "\"bytes\""));
	cr_expect_not_null(
		strstr(text, "x\",\"partial\":true}\n" JSON "\"line\":\"\xe2\x82\xacxxx"));
	free(text);
	free(line);
}

/* LG05 */
Test(logger_format, long_lines_are_cut_and_marked)
{
	size_t n = LOGBOOK_LINE + 10;
	char *line = malloc(n + 2), *text;
	struct format f;
	struct batch b;

	memset(line, 'x', n);
	strcpy(line + n, "\n");
	f = make(line, "", FORMAT_TEXT);
	text = run(&f, SIZE_MAX, true, &b);
	cr_expect_eq(b.in_len, n + 1);
	cr_expect_eq(strncmp(text, STAMP " web:3+ x", 36), 0);
	cr_expect_not_null(strstr(text, "x\n" STAMP " web:3 xxxxxxxxxx\n"));
	free(text);
	/* Without its end: the piece now, the rest later. */
	f.in.len[0] = n;
	text = run(&f, SIZE_MAX, true, &b);
	cr_expect_eq(b.in_len, LOGBOOK_LINE);
	free(text);
	free(line);
}

Test(logger_format, the_limit_is_kept_at_line_ends)
{
	struct format f = make("aaaa\nbbbb\ncccc\n", "", 0),
		      t = make("aaaa\nbb\n", "", FORMAT_TEXT),
		      j = make("a\"\"a\nbb\n", "", FORMAT_JSON);
	struct batch b;

	free(run(&f, 11, false, &b));
	cr_expect_eq(b.in_len, 10);
	free(run(&f, 4, false, &b));
	cr_expect_eq(b.in_len, 0);
	cr_expect_eq(b.out_len, 0);
	free(run(&f, 4, true, &b));
	cr_expect_eq(b.in_len, 5);
	free(run(&t, 40, false, &b));
	cr_expect_eq(b.in_len, 5);
	free(run(&t, 10, false, &b));
	cr_expect_eq(b.in_len, 0);
	free(run(&j, strlen(JSON) + 17, false, &b));
	cr_expect_eq(b.in_len, 5);
	cr_expect_eq(b.out_len, strlen(JSON) + 17);
	free(run(&j, strlen(JSON) + 16, false, &b));
	cr_expect_eq(b.in_len, 0);
}

/* What a successor relies on: what a batch took gives the same bytes without a limit. */
Test(logger_format, a_batch_can_be_made_again)
{
	static char data[200000];
	uint32_t seed = 1;

	for (size_t i = 0; i < sizeof(data); i++) {
		seed = seed * 1103515245 + 12345;
		data[i] = (seed >> 16) % 40 == 0 ? '\n' : (char)(seed >> 16);
	}
	memset(data + 5000, 'y', 140000); /* lines longer than the bound */
	for (size_t i = 5000; i + 4 < 145000; i += 7)
		memcpy(data + i, "\xf0\x9f\x90\x9c\x01\xff", i < 80000 ? 5 : 6);
	for (size_t i = 0; i < 600; i++) {
		size_t from = i * 300, len = (i * 7919) % (sizeof(data) - from) + 1;
		size_t half = i * 31 % (len + 1);
		struct format f = { .in = { { data + from, data + from + half },
					    { half, len - half } },
				    .label = "web:3",
				    .lost = i % 3,
				    .stamp_us = 1769860800123456 };
		struct batch first, again;
		char *a, *b;

		f.flags = (uint32_t)i % 16 | (i % 5 < 2 ? FORMAT_JSON : 0);
		a = run(&f, i % 2 ? 3000 : SIZE_MAX, i % 4 < 2, &first);
		if (first.in_len < len)
			f.flags &= ~(uint32_t)FORMAT_END;
		f.flags |= FORMAT_TAKEN;
		f.in.len[0] = half < first.in_len ? half : first.in_len;
		f.in.len[1] = first.in_len - f.in.len[0];
		b = run(&f, SIZE_MAX, true, &again);
		cr_assert_eq(first.in_len, again.in_len, "case %zu", i);
		cr_assert_eq(first.out_len, again.out_len, "case %zu", i);
		cr_assert_arr_eq(a, b, first.out_len);
		free(a);
		free(b);
	}
}
