/* The command line of reevectl: one table of options, one of verbs. */
#include "ctl/ctl.h"

#include "base/mem.h"
#include "base/names.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <string.h>

static const char *args_room[32];

static int parse(struct ctl *c, const char *line)
{
	static char words[512];
	char *argv[32] = { (char *)"reevectl" };
	int argc = 1;

	memset(c, 0, sizeof(*c));
	c->set.timeout_ms = c->set.lines = -1;
	c->args = args_room;
	snprintf(words, sizeof(words), "%s", line);
	for (char *w = strtok(words, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	return options_parse(c, argc, argv);
}

static void silence(void)
{
	cr_redirect_stderr();
}

TestSuite(ctl_options, .init = silence);

Test(ctl_options, before_and_behind_the_verb)
{
	struct ctl c;

	cr_assert_eq(parse(&c, "--json -s /x stop --timeout=2s web --cold db:1 --no-wait"), 0);
	cr_expect_str_eq(c.verb->name, "stop");
	cr_expect_str_eq(c.set.socket, "/x");
	cr_expect(c.set.json && c.set.cold && c.set.no_wait);
	cr_expect_eq(c.set.timeout_ms, 2000);
	cr_assert_eq(parse(&c, "stop web --timeout 5"), 0);
	cr_expect_eq(c.set.timeout_ms, 5000);
	cr_assert_eq(parse(&c, "--json -s /x stop --timeout=2s web --cold db:1 --no-wait"), 0);
	cr_assert_eq(c.n_args, 2);
	cr_expect_str_eq(c.args[1], "db:1");
}

Test(ctl_options, no_verb_is_status)
{
	struct ctl c;

	cr_assert_eq(parse(&c, ""), 0);
	cr_expect_str_eq(c.verb->name, "status");
	cr_assert_eq(parse(&c, "--json"), 0);
	cr_expect_str_eq(c.verb->name, "status");
	cr_expect_not(c.verb_given);
}

Test(ctl_options, s_is_the_signal_behind_kill)
{
	struct ctl c;

	cr_assert_eq(parse(&c, "-s /sock kill -s USR1 web"), 0);
	cr_expect_str_eq(c.set.socket, "/sock");
	cr_expect_str_eq(c.set.signal, "USR1");
	cr_assert_eq(parse(&c, "kill --socket /sock -sHUP web"), 0);
	cr_expect_str_eq(c.set.socket, "/sock");
	cr_expect_str_eq(c.set.signal, "HUP");
	cr_assert_eq(parse(&c, "stop -s /sock web"), 0);
	cr_expect_str_eq(c.set.socket, "/sock");
}

Test(ctl_options, bundles_and_double_dash)
{
	struct ctl c;

	cr_assert_eq(parse(&c, "logs -fn5 web"), 0);
	cr_expect(c.set.follow && c.set.lines == 5);
	cr_assert_eq(parse(&c, "stop -- --json"), 0);
	cr_expect_not(c.set.json);
	cr_expect_str_eq(c.args[0], "--json");
}

Test(ctl_options, usage)
{
	static const char *const bad[] = {
		"frobnicate",
		"stop",
		"scale web",
		"scale web 1 2",
		"doctor web",
		"--nonsense",
		"-x",
		"stop --follow web",
		"logs -n many",
		"logs -n -1",
		"stop --timeout 5minutes a",
		"stop --timeout 0 a",
		"stop --timeout= a",
		"stop --timeout",
		"stop --cold=yes a",
		"status --for ready",
		"wait --fro ready w",
		"show --memory web",
		"tree --memory",
	};
	struct ctl c;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_eq(parse(&c, bad[i]), CODE_USAGE, "%s", bad[i]);
}

/* Every pointer for people of other tools leads to a verb that exists, and hides none of ours. */
Test(ctl_options, pointers)
{
	static const char *const theirs[] = { "update", "reread", "tail", "signal", "ps", "list" };
	static const char *const ours[] = {
		"reload", "plan", "logs", "kill -s", "status", "status"
	};

	for (size_t i = 0; i < ARRAY_LEN(theirs); i++)
		cr_expect_str_eq(verb_pointer(theirs[i]), ours[i]);
	for (size_t i = 0; i < n_verbs; i++) {
		cr_expect_null(verb_pointer(verbs[i].name), "%s", verbs[i].name);
		cr_expect(i == 0 || strcmp(verbs[i - 1].name, verbs[i].name) < 0, "sorted");
	}
}

static const char *read_manual(void)
{
	static char manual[1 << 16];
	const char *path = getenv("REEVECTL_MANUAL");
	FILE *f = path ? fopen(path, "r") : NULL;

	cr_assert_not_null(f);
	manual[fread(manual, 1, sizeof(manual) - 1, f)] = '\0';
	fclose(f);
	return manual;
}

/* Every verb and every option of the tables stands in reevectl(1). */
Test(ctl_options, manual_names_everything)
{
	struct str help = { 0 };
	const char *manual = read_manual();
	char word[64];

	for (size_t i = 0; i < n_verbs; i++) {
		snprintf(word, sizeof(word), "\n*%s*", verbs[i].name);
		cr_expect(strstr(manual, word), "%s", word);
		options_help(&verbs[i], &help);
	}
	options_help(NULL, &help);
	for (char *at = strstr(help.data, " --"); at; at = strstr(at + 3, " --")) {
		snprintf(word, sizeof(word), "%.*s", (int)strcspn(at + 1, " "), at + 1);
		cr_expect(strstr(manual, word), "%s", word);
	}
	str_fini(&help);
}

/* reevectl(1) says of options of several verbs which verbs these are. */
Test(ctl_options, manual_names_whose_options)
{
	static const struct {
		const char *head;
		unsigned option, but;
	} shared[] = {
		{ "\n*--timeout*", OPT(TIMEOUT), OPT(TERMINAL) },
		{ "\n*--no-wait*", OPT(NO_WAIT), 0 },
		{ "\n*--offline*", OPT(OFFLINE), 0 },
	};
	const char *manual = read_manual();

	for (size_t i = 0; i < ARRAY_LEN(shared); i++) {
		const char *at = strstr(manual, shared[i].head);
		auto_str want = { 0 };

		for (size_t v = 0; v < n_verbs; v++)
			if ((verbs[v].options & shared[i].option) &&
			    !(verbs[v].options & shared[i].but))
				str_addf(&want, " %s", verbs[v].name);
		cr_assert_not_null(at, "%s", shared[i].head);
		at = strstr(at, "\tOf: *");
		cr_assert_not_null(at, "%s", shared[i].head);
		at += strlen("\tOf: *");
		cr_expect(strncmp(at, want.data + 1, want.len - 1) == 0 && at[want.len - 1] == '*',
			  "%s:%s", shared[i].head + 1, want.data);
	}
}

/* --timeout of run is no waiting of ours. */
Test(ctl_options, help_of_run)
{
	auto_str run = { 0 }, stop = { 0 };

	options_help(verb_find("run"), &run);
	options_help(verb_find("stop"), &stop);
	cr_expect(strstr(run.data, "whole tree D after the first TERM") &&
		  !strstr(run.data, "exit code"));
	cr_expect(strstr(stop.data, "give up waiting after D"));
}
