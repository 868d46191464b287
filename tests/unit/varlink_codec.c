/* The Varlink codec: limits, envelopes, typed parameters, the writer. */
#include "lib/varlink.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static int parse(const char *text, struct vl_request *r, struct vl_fault *f)
{
	return vl_request_parse(text, strlen(text), r, f);
}

Test(varlink_codec, call_with_everything)
{
	struct vl_request r;
	struct vl_fault f;

	cr_assert_eq(parse("{\"method\":\"a.B\",\"parameters\":{\"x\":1},\"more\":true,"
			   "\"oneway\":false,\"future\":[]}",
			   &r, &f),
		     0);
	cr_expect_str_eq(r.method, "a.B");
	cr_expect_eq(json_integer_value(json_object_get(r.parameters, "x")), 1);
	cr_expect(r.more && !r.oneway && !r.upgrade);
	vl_request_fini(&r);
	cr_expect_null(r.root);
}

struct bad {
	char text[96];
	int err;
	char value[40];
};

ParameterizedTestParameters(varlink_codec, refused)
{
	static struct bad rows[] = {
		{ "", -EBADMSG, "message is no JSON object" },
		{ "GET / HTTP/1.1\r\n\r\n", -EBADMSG, "message is no JSON object" },
		{ "[]", -EBADMSG, "message is no JSON object" },
		{ "{\"method\":\"a.B\"} x", -EBADMSG, "message is no JSON object" },
		{ "{\"method\":\"a.B\",\"method\":\"a.C\"}", -EBADMSG,
		  "message is no JSON object" },
		{ "{\"method\":\"a.B\",\"x\":1e400}", -EBADMSG, "message is no JSON object" },
		{ "{\"method\":\"a.B\",\"x\":99999999999999999999}", -EBADMSG,
		  "message is no JSON object" },
		{ "{\"method\":\"a.\\ud800\"}", -EBADMSG, "message is no JSON object" },
		{ "{\"method\":\"a.\\u0000\"}", -EBADMSG, "message is no JSON object" },
		{ "{\"method\":\"a.\xff\"}", -EBADMSG, "message is no JSON object" },
		{ "{}", -EINVAL, "method" },
		{ "{\"method\":7}", -EINVAL, "method" },
		{ "{\"method\":\"a.B\",\"parameters\":[]}", -EINVAL, "parameters" },
		{ "{\"method\":\"a.B\",\"more\":1}", -EINVAL, "more" },
	};

	return cr_make_param_array(struct bad, rows, ARRAY_LEN(rows));
}

ParameterizedTest(struct bad *bad, varlink_codec, refused)
{
	struct vl_request r;
	struct vl_fault f;

	cr_expect_eq(parse(bad->text, &r, &f), bad->err, "%s", bad->text);
	cr_expect_str_eq(f.error, VL_ERROR_INVALID_PARAMETER);
	cr_expect_str_eq(f.value, bad->value, "%s: %s", bad->text, f.value);
}

/* The parser recurses: what is deep must not reach it, what only looks deep must. */
Test(varlink_codec, depth)
{
	char text[4096] = "{\"method\":\"a.B\",\"parameters\":{\"x\":";
	size_t at = strlen(text);
	struct vl_request r;
	struct vl_fault f;

	memset(text + at, '[', 30);
	memset(text + at + 30, ']', 30);
	strcpy(text + at + 60, "}}");
	cr_assert_eq(parse(text, &r, &f), 0);
	vl_request_fini(&r);
	memset(text + at, '[', 31);
	memset(text + at + 31, ']', 31);
	strcpy(text + at + 62, "}}");
	cr_assert_eq(parse(text, &r, &f), -EBADMSG);
	cr_expect_str_eq(f.value, "message nested too deeply");
	cr_assert_eq(parse("{\"method\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[\"}", &r, &f),
		     0);
	vl_request_fini(&r);
}

Test(varlink_codec, length)
{
	char *text = malloc(VL_REQUEST_MAX + 8);
	struct vl_request r;
	struct vl_fault f;

	cr_assert_not_null(text);
	memset(text, ' ', VL_REQUEST_MAX + 1);
	memcpy(text, "{\"method\":\"a.B\"}", 16);
	cr_assert_eq(vl_request_parse(text, VL_REQUEST_MAX, &r, &f), 0);
	vl_request_fini(&r);
	cr_assert_eq(vl_request_parse(text, VL_REQUEST_MAX + 1, &r, &f), -EBADMSG);
	cr_expect_str_eq(f.value, "message too long");
	free(text);
}

/* --- parameters --- */

struct args {
	bool wait;
	int64_t timeout_ms;
	const char *group;
	const json_t *targets;
	int to;
};

static const char *const words[] = { "main", "pgrp", "tree", NULL };
static const struct vl_param table[] = {
	{ "wait", VL_BOOL, offsetof(struct args, wait), .preset = 1 },
	{ "timeout_ms", VL_INT, offsetof(struct args, timeout_ms), .preset = -1, .min = 0,
	  .max = 1000 },
	{ "group", VL_STRING, offsetof(struct args, group), .required = true, .max = 8 },
	{ "targets", VL_STRINGS, offsetof(struct args, targets) },
	{ "to", VL_WORD, offsetof(struct args, to), .words = words },
	{ .name = NULL },
};

static int read_params(const char *text, struct args *a, struct vl_fault *f, json_t **root)
{
	*root = json_loads(text, 0, NULL);
	cr_assert_not_null(*root);
	return vl_params_read(*root, table, a, f);
}

Test(varlink_codec, params_presets)
{
	struct args a;
	struct vl_fault f;
	json_t *root;

	cr_assert_eq(read_params("{\"group\":\"web\",\"to\":null}", &a, &f, &root), 0);
	cr_expect(a.wait && a.timeout_ms == -1 && !a.targets && a.to == 0);
	cr_expect_str_eq(a.group, "web");
	json_decref(root);
	cr_assert_eq(read_params("{\"group\":\"web\",\"to\":\"tree\",\"wait\":false,"
				 "\"timeout_ms\":1000,\"targets\":[\"a\"]}",
				 &a, &f, &root),
		     0);
	cr_expect(!a.wait && a.timeout_ms == 1000 && json_array_size(a.targets) == 1 && a.to == 2);
	json_decref(root);
}

ParameterizedTestParameters(varlink_codec, params_refused)
{
	static struct bad rows[] = {
		{ "{}", 0, "group" },
		{ "{\"group\":3}", 0, "group" },
		{ "{\"group\":\"123456789\"}", 0, "group" },
		{ "{\"group\":\"g\",\"wait\":\"yes\"}", 0, "wait" },
		{ "{\"group\":\"g\",\"timeout_ms\":1001}", 0, "timeout_ms" },
		{ "{\"group\":\"g\",\"timeout_ms\":-1}", 0, "timeout_ms" },
		{ "{\"group\":\"g\",\"timeout_ms\":1.0}", 0, "timeout_ms" },
		{ "{\"group\":\"g\",\"targets\":\"web\"}", 0, "targets" },
		{ "{\"group\":\"g\",\"targets\":[\"web\",7]}", 0, "targets" },
		{ "{\"group\":\"g\",\"to\":\"all\"}", 0, "to" },
		{ "{\"group\":\"g\",\"timout_ms\":1}", 0, "timout_ms" },
	};

	return cr_make_param_array(struct bad, rows, ARRAY_LEN(rows));
}

ParameterizedTest(struct bad *bad, varlink_codec, params_refused)
{
	struct args a;
	struct vl_fault f;
	json_t *root;

	cr_expect_eq(read_params(bad->text, &a, &f, &root), -EBADMSG, "%s", bad->text);
	cr_expect_str_eq(f.value, bad->value);
	json_decref(root);
}

/* --- writing --- */

Test(varlink_codec, writer_makes_json_of_any_bytes)
{
	auto_str out = { 0 };
	char all[256];
	json_t *root;

	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	vl_write_open(&out, NULL, '{');
	vl_write_bytes(&out, "all", all, sizeof(all));
	vl_write_text(&out, "utf8", "gr\xc3\xbc\xc3\x9f\n\"\\");
	vl_write_text(&out, "absent", NULL);
	vl_write_open(&out, "list", '[');
	vl_write_int(&out, NULL, -3);
	vl_write_real(&out, NULL, 1.5);
	vl_write_real(&out, NULL, 1.0 / 0.0);
	vl_write_bool(&out, NULL, true);
	vl_write_open(&out, NULL, '{');
	vl_write_close(&out, '}');
	vl_write_close(&out, ']');
	vl_write_close(&out, '}');
	cr_assert_not(out.failed);
	root = json_loads(out.data, 0, NULL);
	cr_assert_not_null(root, "%s", out.data);
	cr_expect_str_eq(json_string_value(json_object_get(root, "utf8")),
			 "gr\xc3\xbc\xc3\x9f\n\"\\");
	cr_expect_null(json_object_get(root, "absent"));
	cr_expect_eq(json_array_size(json_object_get(root, "list")), 5);
	json_decref(root);
}

static void expect_number(const char *text, bool real, int64_t i, double d)
{
	auto_str out = { 0 };

	if (real)
		vl_write_real(&out, NULL, d);
	else
		vl_write_int(&out, NULL, i);
	cr_expect_str_eq(out.data, text);
}

Test(varlink_codec, numbers_as_text)
{
	expect_number("0", false, 0, 0);
	expect_number("-1", false, -1, 0);
	expect_number("-9223372036854775808", false, INT64_MIN, 0);
	expect_number("9223372036854775807", false, INT64_MAX, 0);
	expect_number("0.000", true, 0, 0);
	expect_number("0.000", true, 0, -0.0001);
	expect_number("-0.001", true, 0, -0.0006);
	expect_number("1.000", true, 0, 0.9996);
	expect_number("12.345", true, 0, 12.345);
	expect_number("-7.050", true, 0, -7.05);
	expect_number("999999999999.999", true, 0, 999999999999.999);
	expect_number("0.000", true, 0, 0.0 / 0.0);
}

Test(varlink_codec, text_of_any_bytes)
{
	json_t *t = vl_text("a\xff\0b\xed\xa0\x80", 7);

	cr_assert_not_null(t);
	cr_expect_str_eq(json_string_value(t), "a\xef\xbf\xbd\xef\xbf\xbd"
					       "b\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
	json_decref(t);
	t = vl_text("", 0);
	cr_assert_not_null(t);
	json_decref(t);
}

Test(varlink_codec, fault_value_is_cut_at_a_character)
{
	char long_text[300] = "";
	struct vl_fault f;

	for (int i = 0; i < 140; i += 2)
		strcat(long_text, "\xc3\xbc");
	vl_fault_set(&f, VL_ERROR_METHOD_NOT_FOUND, "method", long_text);
	cr_expect_eq(strlen(f.value), 126);
	cr_expect(str_utf8_valid(f.value, strlen(f.value)));
}

Test(varlink_codec, reply_round_trip)
{
	auto_str out = { 0 };
	struct vl_reply r;
	struct vl_fault f;

	vl_put_reply(&out, NULL, true);
	cr_assert_eq(out.data[out.len - 1], '\0');
	cr_assert_eq(vl_reply_parse(out.data, out.len - 1, &r), 0);
	cr_expect(r.continues && !r.error && json_is_object(r.parameters));
	vl_reply_fini(&r);
	str_fini(&out);
	vl_fault_set(&f, VL_ERROR_INVALID_PARAMETER, "parameter", "a\"b");
	vl_put_fault(&out, &f);
	cr_assert_eq(vl_reply_parse(out.data, out.len - 1, &r), 0);
	cr_expect_str_eq(r.error, VL_ERROR_INVALID_PARAMETER);
	cr_expect_str_eq(json_string_value(json_object_get(r.parameters, "parameter")), "a\"b");
	vl_reply_fini(&r);
	cr_expect_eq(vl_reply_parse("{\"error\":5}", 11, &r), -EBADMSG);
}
