/* Every row of the key table: its preset and example are good, everything around them is not. */
#include "conf_rig.h"

#include "key.h"

Test(conf_table, is_sorted_and_complete)
{
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++) {
		cr_expect(i == 0 || strcmp(keys[i - 1].path, keys[i].path) < 0, "%s", keys[i].path);
		cr_expect(keys[i].how && keys[i].help[0] && keys[i].type[0] && keys[i].example[0],
			  "%s", keys[i].path);
		cr_expect_eq(key_find(keys[i].path), &keys[i]);
		cr_expect(keys[i].how->equal || keys[i].how->size > 0, "%s", keys[i].path);
	}
	cr_expect_null(key_find("group"));
	cr_expect_null(key_find("group.zzz"));
	cr_expect_null(key_find_block("zzz"));
}

static int try_value(const struct conf_key *k, const char *value, struct str *said)
{
	struct conf *c = NULL;
	auto_str text = { 0 };
	int err;

	rig_write(k->path, value, &text);
	err = rig_load(text.data, &c, said);
	conf_free(c);
	return err;
}

Test(conf_table, examples_and_presets_load)
{
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++) {
		auto_str said = { 0 };

		cr_expect_eq(try_value(&keys[i], keys[i].example, &said), 0, "%s = %s: %s",
			     keys[i].path, keys[i].example, said.data);
		if (keys[i].preset[0] && keys[i].preset[0] != '(')
			cr_expect_eq(try_value(&keys[i], keys[i].preset, NULL), 0, "%s = %s",
				     keys[i].path, keys[i].preset);
	}
}

/* CF12: a value of the wrong kind is an error that names the key, for every key. */
Test(conf_table, CF12_wrong_kinds_are_refused)
{
	static const struct {
		enum value_kind kind;
		const char *text;
	} values[] = {
		{ VALUE_BOOL, "true" },	    { VALUE_INT, "-7" },
		{ VALUE_FLOAT, "-0.5" },    { VALUE_STRING, "\"\"" },
		{ VALUE_STRING, "\"~~\"" }, { VALUE_LIST, "[ -1 ]" },
		{ VALUE_LIST, "( ( ) )" },  { VALUE_BLOCK, "{ zz = 1; }" },
	};
	size_t n, refused = 0;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++) {
		for (size_t v = 0; v < ARRAY_LEN(values); v++) {
			bool fits = (keys[i].how == &type_bool && values[v].kind == VALUE_BOOL) ||
				    (keys[i].how == &type_int && keys[i].min <= -7 &&
				     values[v].kind == VALUE_INT) ||
				    (v == 4 && keys[i].how == &type_command);
			auto_str said = { 0 };
			int err = try_value(&keys[i], values[v].text, &said);

			cr_expect_eq(err == 0, fits, "%s = %s", keys[i].path, values[v].text);
			cr_expect(fits || strstr(said.data, strrchr(keys[i].path, '.') + 1),
				  "%s is not named: %s", keys[i].path, said.data);
			refused += err < 0;
		}
	}
	cr_expect_gt(refused, n * 6);
}

/* CF12: a slip in the name of any key is an error that proposes the key. */
Test(conf_table, CF12_slips_in_names_are_refused)
{
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++) {
		const char *last = strrchr(keys[i].path, '.') + 1;
		char path[128], want[128];
		struct conf_key slip = keys[i];
		auto_str said = { 0 };

		snprintf(path, sizeof(path), "%sx", keys[i].path);
		snprintf(want, sizeof(want), "%s\"", last);
		slip.path = path;
		cr_expect_eq(try_value(&slip, keys[i].example, &said), -EINVAL, "%s", path);
		cr_expect(strstr(said.data, "unknown key") && strstr(said.data, want), "%s: %s",
			  path, said.data);
	}
}

/* CF07: both bounds are accepted, one beyond each is not, and nothing wraps. */
Test(conf_table, CF07_bounds_of_every_number)
{
	static const char *const beyond[] = {
		"2147483648", "4294967297", "99999999999", "-2147483649", "100000000000000000000",
		"4294967297L"
	};
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++) {
		const struct conf_key *k = &keys[i];
		char value[64];

		if (k->how != &type_int && k->how != &type_workers && k->how != &type_duration &&
		    k->how != &type_size)
			continue;
		for (size_t b = 0; b < ARRAY_LEN(beyond); b++)
			if (k->how != &type_size || b != 5)
				cr_expect_eq(try_value(k, beyond[b], NULL), -EINVAL, "%s = %s",
					     k->path, beyond[b]);
		if (k->how == &type_duration)
			continue;
		for (int side = 0; side < 2; side++) {
			/* the other group of the text has a worker too */
			long long max = k->how == &type_workers ? k->max - 1 : k->max;
			long long edge = side ? max : k->min, out = side ? edge + 1 : edge - 1;

			snprintf(value, sizeof(value), "%lldL", edge);
			cr_expect_eq(try_value(k, value, NULL), 0, "%s = %s", k->path, value);
			snprintf(value, sizeof(value), "%lldL", out);
			cr_expect_eq(try_value(k, value, NULL), -EINVAL, "%s = %s", k->path, value);
		}
	}
}

Test(conf_table, bounds_of_every_duration)
{
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++) {
		const struct conf_key *k = &keys[i];
		char value[64];

		if (k->how != &type_duration)
			continue;
		snprintf(value, sizeof(value), "\"%lldms\"", k->max + 1);
		cr_expect_eq(try_value(k, value, NULL), -EINVAL, "%s = %s", k->path, value);
		if (k->min > 0) {
			snprintf(value, sizeof(value), "\"%lldms\"", k->min - 1);
			cr_expect_eq(try_value(k, value, NULL), -EINVAL, "%s = %s", k->path, value);
		}
		cr_expect_eq(try_value(k, "\"never\"", NULL) == 0, (k->flags & KEY_NEVER) != 0,
			     "%s", k->path);
		cr_expect_eq(try_value(k, "-1", NULL), -EINVAL, "%s", k->path);
	}
}

Test(conf_table, words_end)
{
	for (int w = 0; w < CONF_WORDS_COUNT; w++) {
		int n = 0;

		while (conf_word((enum conf_words)w, n))
			n++;
		cr_expect(n > 0 && n < 8);
		cr_expect_null(conf_word((enum conf_words)w, n + 1));
		cr_expect_null(conf_word((enum conf_words)w, -1));
	}
	cr_expect_null(conf_word(CONF_WORDS_COUNT, 0));
	cr_expect_str_eq(conf_word(CONF_WORDS_READY, CONF_READY_NOTIFY), "notify");
	cr_expect_str_eq(conf_word(CONF_WORDS_LOG_TO, CONF_LOG_NULL), "null");
	cr_expect_str_eq(conf_word(CONF_WORDS_ON_FAILURE, CONF_FAIL_IGNORE), "ignore");
}
