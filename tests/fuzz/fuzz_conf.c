/*
 * A configuration file of any bytes: scan, libconfig, key table, checks. What loads must come back
 * the same through the dump and through the canonical form.
 */
#include "load.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct conf_load_options options = { .offline = true };

static void must_be(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_conf: %s\n", what);
	abort();
}

static int load(const char *text, size_t len, struct conf **ret)
{
	struct conf_report report = { 0 };
	int err = load_text("/fuzz/reeve.conf", text, len, &options, ret, &report);
	auto_str shown = { 0 };

	conf_report_print(&report, &shown);
	must_be((err == 0) == (report.errors == 0), "the result and the report disagree");
	conf_report_fini(&report);
	return err;
}

static void must_equal(const struct conf *a, const struct conf *b, const char *what)
{
	struct conf_change *changes = NULL;
	ssize_t n = conf_diff(a, b, &changes);

	if (n > 0)
		fprintf(stderr, "%s: %s\n", changes[0].group, changes[0].reason);
	free(changes);
	must_be(n == 0, what);
}

static void check_dump(const struct conf *c)
{
	struct conf *again = NULL;
	auto_str out = { 0 };

	conf_dump(c, &out);
	must_be(load(out.data, out.len, &again) == 0, "the dump does not load");
	must_equal(c, again, "the dump loads to something else");
	conf_free(again);
}

static void check_json(const struct conf *c)
{
	auto_free char *text = conf_to_json(c);
	struct conf *again = NULL;
	struct diag d;

	must_be(text != NULL, "no canonical form");
	must_be(conf_from_json(text, strlen(text), &again, &d) == 0,
		"the canonical form does not load");
	must_equal(c, again, "the canonical form loads to something else");
	conf_free(again);
}

/* A template that loaded expands for every worker. */
static void check_expand(const struct conf *c)
{
	for (size_t i = 0; i < c->n_groups; i++) {
		const struct conf_worker w = { c->groups[i].name, c->groups[i].workers };

		for (char **a = c->groups[i].command; a && *a; a++) {
			auto_str out = { 0 };

			conf_expand(*a, &w, &out);
			must_be(out.data != NULL, "nothing expanded");
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf *c = NULL;

	if (size > 1 << 16 || load((const char *)data, size, &c) < 0)
		return 0;
	check_dump(c);
	check_json(c);
	check_expand(c);
	conf_free(c);
	return 0;
}
