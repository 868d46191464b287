/* The canonical form: what is not one is refused, whatever it is; unknown fields are passed over.
 */
#include "conf_rig.h"

#include "json.h"
#include "loader.h"

#include <jansson.h>

static const char full[] =
	"daemon: { control: { readers = [ \"root\" ]; owner = \"root:root\"; }; };\n"
	"groups: { a: { command = [ \"/a\", \"%i\" ]; user = \"4242:4242\"; extra_groups = [ \"7\" "
	"];"
	" env: { A = \"1\"; }; after = [ \"b\" ]; limits: { core = 0; };"
	" sockets = ( { name = \"s\"; listen = \"unix:///s\"; owner = \"1:1\"; } );"
	" stop: { steps = ( { signal = \"INT\"; }, { to = \"tree\"; } ); }; };\n"
	"b: { command = \"/b\"; log: { owner = \"root:root\"; }; }; };\n";

static struct conf *must_load(const char *text)
{
	struct conf *c = NULL;
	auto_str said = { 0 };

	cr_assert_eq(rig_load(text, &c, &said), 0, "%s", said.data);
	return c;
}

Test(conf_json, comes_back_equal)
{
	struct conf *c = must_load(full), *again = NULL;
	auto_free char *text = conf_to_json(c);
	auto_free char *second = NULL;
	struct conf_change *changes = NULL;
	struct diag d;

	cr_assert_eq(conf_from_json(text, strlen(text), &again, &d), 0, "%s", d.text);
	cr_expect_eq(conf_diff(c, again, &changes), 0, "%s", changes ? changes[0].reason : "");
	second = conf_to_json(again);
	cr_expect_str_eq(text, second);
	cr_expect_str_eq(again->groups[0].user.text, "4242:4242");
	cr_expect_eq(again->groups[0].n_steps, 2);
	cr_expect(again->groups[0].sockets[0].has_owner);
	cr_expect_eq(conf_group_hash(&c->groups[0]), conf_group_hash(&again->groups[0]));
	free(changes);
	conf_free(c);
	conf_free(again);
}

Test(conf_json, unknown_fields_are_passed_over)
{
	struct conf *c = must_load(full), *again = NULL;
	json_t *root = conf_to_json_value(c);
	struct diag d;

	json_object_set_new(root, "later", json_integer(1));
	json_object_set_new(json_object_get(root, "daemon"), "later", json_string("x"));
	json_object_set_new(json_object_get(root, "base"), "later.key", json_array());
	json_object_set_new(json_array_get(json_object_get(root, "groups"), 1), "later",
			    json_null());
	cr_expect_eq(conf_from_json_value(root, &again, &d), 0, "%s", d.text);
	json_decref(root);
	conf_free(c);
	conf_free(again);
}

static void try_text(const char *text, size_t len)
{
	struct conf *c = NULL;
	struct diag d = { .text = "" };
	int err = conf_from_json(text, len, &c, &d);

	cr_assert(err == 0 || d.text[0], "refused without a word: %.*s", (int)len, text);
	conf_free(c);
}

Test(conf_json, garbled_forms_are_refused)
{
	static const char *const bad[] = {
		"", "{}", "[]", "null", "{\"groups\":[]}", "1", "{\"groups\":[{}],\"path\":\"/x\"}"
	};
	struct conf *c = must_load(full);
	auto_free char *text = conf_to_json(c);
	size_t len = strlen(text);

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct conf *none = NULL;
		struct diag d = { .text = "" };

		cr_expect_eq(conf_from_json(bad[i], strlen(bad[i]), &none, &d), -EINVAL, "%s",
			     bad[i]);
		cr_expect(d.text[0]);
	}
	for (size_t cut = 0; cut < len; cut += 3)
		try_text(text, cut);
	conf_free(c);
}

/* Every field of every object becomes every other kind of value: refused or taken, never worse. */
static void mutate(json_t *root, json_t *at)
{
	static const char *const values[] = { "null", "true", "-1", "1e300", "\"\"",  "\"x\"",
					      "[]",   "[[]]", "{}", "[{}]",  "[null]" };
	const char *name;
	json_t *old;
	void *next;

	json_object_foreach_safe(at, next, name, old)
	{
		auto_free char *copy = strdup(name);
		json_t *kept = json_incref(old);

		for (size_t i = 0; i < ARRAY_LEN(values); i++) {
			char *text;

			json_object_set_new(at, copy, json_loads(values[i], JSON_DECODE_ANY, NULL));
			text = json_dumps(root, 0);
			try_text(text, strlen(text));
			free(text);
		}
		json_object_set_new(at, copy, kept);
		if (json_is_object(kept))
			mutate(root, kept);
	}
}

Test(conf_json, every_field_of_another_kind)
{
	struct conf *c = must_load(full);
	json_t *root = conf_to_json_value(c), *again;
	auto_free char *before = json_dumps(root, JSON_SORT_KEYS), *after = NULL;

	mutate(root, root);
	again = json_array_get(json_object_get(root, "groups"), 1);
	mutate(root, again);
	after = json_dumps(root, JSON_SORT_KEYS);
	cr_expect_str_eq(before, after);
	json_decref(root);
	conf_free(c);
}

/* What the loader's starter makes of results that are none. */
Test(conf_json, results_that_are_none)
{
	static const struct {
		const char *text;
		int status;
		const char *said;
	} rows[] = {
		{ "", 9, "SIGKILL" },
		{ "", 24, "CPU" },
		{ "", 1 << 8, "exit code 1" },
		{ "{\"problems\":[", 11, "SIGSEGV" },
		{ "[]", 0, "no result" },
		{ "{}", 0, "no result" },
		{ "{\"problems\":[],\"conf\":{}}", 0, "canonical" },
		{ "{\"problems\":[],\"conf\":null}", 78 << 8, "no result" },
		{ "{\"problems\":[{\"file\":1}],\"conf\":null}", 78 << 8, "error" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf_report report = { 0 };
		struct conf *c = NULL;
		auto_str said = { 0 };

		cr_expect_eq(loader_result(rows[i].text, strlen(rows[i].text), rows[i].status,
					   "/x.conf", &c, &report),
			     -EINVAL);
		conf_report_print(&report, &said);
		cr_expect(report.errors > 0 && strstr(said.data, rows[i].said), "%s: %s",
			  rows[i].text, said.data);
		conf_report_fini(&report);
	}
}
