/* Reading JSON text in place. */
#include "lib/varlink_scan.h"

#include <criterion/criterion.h>
#include <string.h>

static struct vl_slice slice(const char *text)
{
	return (struct vl_slice){ text, strlen(text) };
}

static void expect(struct vl_slice got, const char *text)
{
	if (!text) {
		cr_expect_null(got.text);
		return;
	}
	cr_expect(vl_slice_is(got, text), "%.*s, not %s", (int)got.len, got.text, text);
}

Test(varlink_scan, fields)
{
	static const char *const keys[] = { "a", "b", "c", "d", "e", NULL };
	struct vl_slice f[5];

	cr_assert(vl_scan_fields(slice(" { \"a\" : 1 , \"x\":[1,{\"b\":2}],\"c\":\"}\\\"]\", "
				       "\"b\":{\"a\":5},\"e\":null} "),
				 keys, f));
	expect(f[0], "1");
	expect(f[1], "{\"a\":5}");
	expect(f[2], "\"}\\\"]\"");
	expect(f[3], NULL);
	expect(f[4], "null");
	cr_expect(vl_slice_null(f[3]) && vl_slice_null(f[4]) && !vl_slice_null(f[0]));
}

Test(varlink_scan, elements)
{
	struct vl_slice v;
	struct vl_scan s;

	cr_assert(vl_scan_open(&s, slice("[1, \"two\",[3], {\"four\":4},true]"), '['));
	cr_assert(vl_scan_element(&s, &v));
	expect(v, "1");
	cr_assert(vl_scan_element(&s, &v));
	expect(v, "\"two\"");
	cr_assert(vl_scan_element(&s, &v));
	expect(v, "[3]");
	cr_assert(vl_scan_element(&s, &v));
	expect(v, "{\"four\":4}");
	cr_assert(vl_scan_element(&s, &v));
	expect(v, "true");
	cr_expect_not(vl_scan_element(&s, &v));
	cr_expect_not(s.failed);
	cr_assert(vl_scan_open(&s, slice("[]"), '['));
	cr_expect_not(vl_scan_element(&s, &v));
	cr_expect_not(s.failed);
}

Test(varlink_scan, nonsense_fails)
{
	static const char *const bad[] = { "",	       "{",	    "{\"a\"",	   "{\"a\":",
					   "{\"a\":}", "{a:1}",	    "{\"a\":\"x}", "{\"a\":[1}",
					   "[1]",      "{\"a\" 1}", "{\"a\\\":1}", "x" };
	static const char *const keys[] = { "a", NULL };
	struct vl_slice f[1];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		bool whole = vl_scan_fields(slice(bad[i]), keys, f);

		cr_expect(!whole || !f[0].text, "%s", bad[i]);
	}
}

Test(varlink_scan, depth_is_bounded)
{
	char text[200] = "[", value[200];
	struct vl_slice v;
	struct vl_scan s;

	for (int depth = 32; depth <= 33; depth++) {
		memset(value, '[', (size_t)depth);
		memset(value + depth, ']', (size_t)depth);
		value[2 * depth] = '\0';
		strcpy(text + 1, value);
		strcat(text, "]");
		cr_assert(vl_scan_open(&s, slice(text), '['));
		cr_expect_eq(vl_scan_element(&s, &v), depth == 32);
	}
}

Test(varlink_scan, values)
{
	struct str out = { 0 };

	cr_expect_eq(vl_slice_int(slice("-42"), 7), -42);
	cr_expect_eq(vl_slice_int(slice("null"), 7), 7);
	cr_expect_eq(vl_slice_int((struct vl_slice){ NULL, 0 }, 7), 7);
	cr_expect_eq(vl_slice_real(slice("2.5"), 0), 2.5);
	cr_expect_eq(vl_slice_real(slice("\"x\""), -1), -1);
	vl_slice_text(slice("\"plain\""), &out);
	vl_slice_text(slice("\"\\u00fc\\n\\\"\""), &out);
	vl_slice_text(slice("17"), &out);
	vl_slice_text(slice("\"bad \\q\""), &out);
	cr_expect_str_eq(out.data, "plain\xc3\xbc\n\"");
	str_fini(&out);
}
