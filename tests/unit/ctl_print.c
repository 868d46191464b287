/* What reevectl writes: widths, escapes, spans and sizes, exit codes of results. */
#include "ctl/ctl.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <string.h>

Test(ctl_print, spans)
{
	static const struct {
		double seconds;
		const char *text;
	} rows[] = { { 0, "0.0s" },   { 9.94, "9.9s" },	 { 10, "10s" },	 { 59.9, "59s" },
		     { 60, "1m" },    { 61, "1m1s" },	 { 3600, "1h" }, { 3661, "1h1m" },
		     { 86400, "1d" }, { 90000, "1d1h" }, { -5, "0.0s" } };
	char text[32];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		format_span(rows[i].seconds, text);
		cr_expect_str_eq(text, rows[i].text, "%g: %s", rows[i].seconds, text);
	}
	format_span(1e300, text);
}

Test(ctl_print, bytes)
{
	static const struct {
		int64_t bytes;
		const char *text;
	} rows[] = { { 0, "0B" },      { 1023, "1023B" },   { 1024, "1.0K" },
		     { 10240, "10K" }, { 1 << 20, "1.0M" }, { INT64_MAX, "8192P" } };
	char text[32];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		format_bytes(rows[i].bytes, text);
		cr_expect_str_eq(text, rows[i].text, "%s", text);
	}
}

Test(ctl_print, widths)
{
	cr_expect_eq(text_width("web"), 3);
	cr_expect_eq(text_width("gr\xc3\xbc\xc3\x9f"), 4);
	cr_expect_eq(text_width("\xe6\xbc\xa2\xe5\xad\x97"), 4); /* two wide characters */
	cr_expect_eq(text_width("e\xcc\x81"), 1);		 /* a combining accent */
	cr_expect_eq(text_width("\xf0\x9f\x98\x80"), 2);
	cr_expect_eq(text_width(""), 0);
}

Test(ctl_print, table)
{
	struct ctl c = { 0 };
	struct table t;

	table_begin(&t, 3);
	table_cell(&t, BOLD, "NAME");
	table_cell(&t, BOLD, "N");
	table_cell(&t, BOLD, "NOTE");
	table_cell(&t, PLAIN, "gr\xc3\xbc\xc3\x9f");
	table_numberf(&t, GOOD, "%d", 1234);
	table_cell(&t, PLAIN, "a\033[31mb\n");
	table_cell(&t, PLAIN, "x");
	table_number(&t, DIM, "7");
	table_cell(&t, PLAIN, "");
	table_print(&t, &c);
	cr_expect_str_eq(c.out.data,
			 "NAME     N  NOTE\n"
			 "gr\xc3\xbc\xc3\x9f  1234  a\\e[31mb\\n\n"
			 "x        7\n",
			 "%s", c.out.data);
	c.out.len = 0;
	c.color = true;
	table_print(&t, &c);
	cr_expect_not_null(strstr(c.out.data, "\033[32m1234\033[0m"));
	cr_expect_null(strstr(c.out.data, "\033[31m"));
	table_fini(&t);
	str_fini(&c.out);
}

static int code(const char *text)
{
	json_t *results = json_loads(text, 0, NULL);
	int n = code_of_results(results);

	cr_assert_not_null(results);
	json_decref(results);
	return n;
}

Test(ctl_print, codes_of_results)
{
	cr_expect_eq(code("[]"), CODE_OK);
	cr_expect_eq(code("[{\"ok\":true}]"), CODE_OK);
	cr_expect_eq(code("[{\"ok\":true},{\"ok\":false}]"), CODE_FAILED);
	cr_expect_eq(code("[{\"ok\":false,\"code\":\"NoSuchTarget\"}]"), CODE_NO_TARGET);
	cr_expect_eq(code("[{\"ok\":false,\"code\":\"Timeout\"},"
			  "{\"ok\":false,\"code\":\"NoSuchTarget\"}]"),
		     CODE_TIMEOUT);
	cr_expect_eq(code("[{\"ok\":false,\"code\":\"Timeout\"},"
			  "{\"ok\":false,\"code\":\"Failed\"}]"),
		     CODE_FAILED);
}

/* What a worker said is escaped wherever it is shown (SE10). */
Test(ctl_print, status_text_is_escaped)
{
	struct ctl c = { 0 };

	out_safe(&c, "x\033]0;evil\007\xff\xc2\x9b");
	cr_expect_str_eq(c.out.data, "x\\e]0;evil\\x07\\xff\\xc2\\x9b", "%s", c.out.data);
	str_fini(&c.out);
}

Test(ctl_print, describes_a_worker)
{
	json_t *w = json_loads("{\"state\":\"backoff\",\"status\":\"loading\",\"progress\":"
			       "{\"done\":1,\"total\":4},\"last_exit\":{\"signal\":\"SEGV\","
			       "\"cause\":\"oom\"}}",
			       0, NULL);
	struct str out = { 0 };

	cr_assert_not_null(w);
	describe_worker(w, &out);
	cr_expect_str_eq(out.data, "1/4; loading; last life ended by SEGV (oom)", "%s", out.data);
	str_fini(&out);
	json_decref(w);
}
