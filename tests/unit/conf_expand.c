/* Expansion: what is known at load, what is left for each worker, and that nothing else changes. */
#include "conf_rig.h"

#include "arith.h"
#include "expand.h"

static const struct expansion known = { "web", "/etc/reeve", "/run/reeve", "alice",
					"/home/al%ice" };

Test(conf_expand, table)
{
	static const struct {
		const char *text, *loaded, *worker; /* of web:3; loaded NULL = refused */
	} rows[] = {
		{ "", "", "" },
		{ "plain", "plain", "plain" },
		{ "%g-%i", "web-%i", "web-3" },
		{ "%n", "%n", "web:3" },
		{ "%d/x %t %u", "/etc/reeve/x /run/reeve alice", "/etc/reeve/x /run/reeve alice" },
		{ "%h", "/home/al%%ice", "/home/al%ice" },
		{ "%%", "%%", "%" },
		{ "%%i", "%%i", "%i" },
		{ "%%%i", "%%%i", "%3" },
		{ "%{8000+i}", "%{8000+i}", "8003" },
		{ "%{02d:1+i}", "%{02d:1+i}", "04" },
		{ "%{3d:i}|", "%{3d:i}|", "  3|" },
		{ "%{2*(3+4)}", "14", "14" },
		{ "%{10-2-3}", "5", "5" },
		{ "%{100/7%4}", "2", "2" },
		{ "%{1-2}", "-1", "-1" },
		{ "%{ i * 2 }", "%{ i * 2 }", "6" },
		{ "%", NULL, NULL },
		{ "%x", NULL, NULL },
		{ "50% off", NULL, NULL },
		{ "%{", NULL, NULL },
		{ "%{}", NULL, NULL },
		{ "%{i", NULL, NULL },
		{ "%{1+}", NULL, NULL },
		{ "%{1/0}", NULL, NULL },
		{ "%{1/i}", NULL, NULL },
		{ "%{1%(i+1)}", NULL, NULL },
		{ "%{999999999999999999}", NULL, NULL },
		{ "%{1000000000000*1000000000000}", NULL, NULL },
		{ "%{(((((((((((((((((((1)))))))))))))))))))}", NULL, NULL },
		{ "%{0d:i}", NULL, NULL },
		{ "%{21d:i}", NULL, NULL },
		{ "%{env:NO_SUCH_VARIABLE}", NULL, NULL },
		{ "%{-1}", NULL, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf_worker w = { "web", 3 };
		auto_str loaded = { 0 }, worker = { 0 };
		struct diag d;
		int err = expand_load(rows[i].text, &known, true, &loaded, &d);

		cr_expect_eq(err == 0, rows[i].loaded != NULL, "%s", rows[i].text);
		if (err < 0) {
			cr_expect(strstr(d.text, "%"), "%s: %s", rows[i].text, d.text);
			continue;
		}
		cr_expect_str_eq(loaded.data, rows[i].loaded);
		conf_expand(loaded.data, &w, &worker);
		cr_expect_str_eq(worker.data, rows[i].worker);
		cr_expect_eq(conf_is_per_worker(loaded.data),
			     strcmp(rows[i].worker, rows[i].loaded) != 0 &&
				     !strstr("%% %%i", rows[i].text) && !strstr(rows[i].text, "%h"),
			     "%s", rows[i].text);
	}
}

Test(conf_expand, names_that_mean_nothing)
{
	static const struct expansion nothing;
	static const char *const texts[] = { "%g", "%d", "%t", "%u", "%h", "%i", "%n", "%{i}" };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		auto_str out = { 0 };
		struct diag d;

		cr_expect_eq(expand_load(texts[i], &nothing, false, &out, &d), -EINVAL, "%s",
			     texts[i]);
	}
}

Test(conf_expand, environment_is_data)
{
	auto_str out = { 0 }, worker = { 0 };
	struct conf_worker w = { "web", 3 };
	struct diag d;

	setenv("REEVE_TEST_VALUE", "100% %i %{", 1);
	cr_assert_eq(expand_load("<%{env:REEVE_TEST_VALUE}>", &known, true, &out, &d), 0);
	conf_expand(out.data, &w, &worker);
	cr_expect_str_eq(worker.data, "<100% %i %{>");
	setenv("REEVE_TEST_VALUE", "\xff", 1);
	cr_expect_eq(expand_load("%{env:REEVE_TEST_VALUE}", &known, true, &out, &d), -EINVAL);
}

/* CF13: any text, quoted, comes back as it was, at load and for every worker. */
Test(conf_expand, CF13_quoted_text_comes_back)
{
	static const char alphabet[] = "%%%%{}i+n:0/dg\\ \"x";
	unsigned seed = 12345;

	for (int turn = 0; turn < 20000; turn++) {
		struct conf_worker w = { "web", turn };
		auto_str quoted = { 0 }, loaded = { 0 }, back = { 0 };
		char text[24];
		size_t len;
		struct diag d;

		seed = seed * 1103515245 + 12345;
		len = seed >> 16 & 15;
		for (size_t i = 0; i < len; i++) {
			seed = seed * 1103515245 + 12345;
			text[i] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
		}
		text[len] = '\0';
		str_add(&quoted, "");
		expand_quote(text, &quoted);
		cr_assert_eq(expand_load(quoted.data, &known, true, &loaded, &d), 0, "%s", text);
		cr_assert_str_eq(loaded.data, quoted.data);
		cr_assert(!conf_is_per_worker(loaded.data), "%s", text);
		conf_expand(loaded.data, &w, &back);
		cr_assert_str_eq(back.data, text);
	}
}

/* What passes the load is total: each worker's text can be made, and nothing is left of it. */
Test(conf_expand, random_texts_never_fail_later)
{
	static const char alphabet[] = "%%%{{}}i+*-/()019d:ngx";
	unsigned seed = 99, passed = 0;

	for (int turn = 0; turn < 200000; turn++) {
		struct conf_worker w = { "web", turn % CONF_WORKERS_MAX };
		auto_str loaded = { 0 }, back = { 0 };
		char text[16];
		size_t len;

		seed = seed * 1103515245 + 12345;
		len = seed >> 16 & 15;
		for (size_t i = 0; i < len; i++) {
			seed = seed * 1103515245 + 12345;
			text[i] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
		}
		text[len] = '\0';
		if (expand_load(text, &known, true, &loaded, NULL) < 0)
			continue;
		passed++;
		conf_expand(loaded.data, &w, &back);
		cr_assert(back.data && !back.failed);
	}
	cr_expect_gt(passed, 1000u);
}
