/* Loading text in tests of the configuration library. */
#ifndef REEVE_TESTS_CONF_RIG_H
#define REEVE_TESTS_CONF_RIG_H

#include "load.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Load text (offline) as /t/reeve.conf; what was said is added to *said (may be NULL). */
static inline int rig_load(const char *text, struct conf **ret, struct str *said)
{
	static const struct conf_load_options options = { .offline = true };
	struct conf_report report = { 0 };
	int err = load_text("/t/reeve.conf", text, strlen(text), &options, ret, &report);

	if (said)
		conf_report_print(&report, said);
	cr_assert_eq(err == 0, report.errors == 0, "the result and the report disagree");
	conf_report_fini(&report);
	return err;
}

/* What has to stand in a group for this key to be allowed in it, and to change nothing else. */
static inline const char *rig_needs(const char *name)
{
	static const char *const of_templates[] = { "fork_allow_threads", "preload", "python",
						    "template" };

	if (strcmp(name, "command") == 0 || strcmp(name, "entry") == 0)
		return "";
	for (size_t i = 0; i < ARRAY_LEN(of_templates); i++)
		if (strncmp(name, of_templates[i], strlen(of_templates[i])) == 0)
			return "entry = \"app:main\"; start_method = \"forkserver\"; ";
	return strcmp(name, "watchdog") ? "command = \"/bin/g\"; "
					: "command = \"/bin/g\"; notify = true; ";
}

/* The text that writes `value` at a key, with what has to stand around it. */
static inline void rig_write(const char *path, const char *value, struct str *out)
{
	const char *name = strchr(path, '.') + 1;
	bool daemon = path[0] == 'd';
	char block[64] = "", last[64];
	const char *dot = strrchr(name, '.');

	snprintf(last, sizeof(last), "%s", dot ? dot + 1 : name);
	if (dot)
		snprintf(block, sizeof(block), "%.*s", (int)(dot - name), name);
	str_add(out, daemon ? "daemon: { " : "groups: { db: { command = \"/bin/db\"; }; g: { ");
	if (!daemon)
		str_add(out, rig_needs(name));
	if (strcmp(block, "sockets") == 0)
		str_addf(out, "sockets = ( { %s%s%s = %s; } ); ",
			 strcmp(last, "name") ? "name = \"n\"; " : "",
			 strcmp(last, "listen") == 0 ? ""
			 : strcmp(last, "mode") == 0 || strcmp(last, "owner") == 0
				 ? "listen = \"unix:///run/n\"; "
				 : "listen = \"tcp://0.0.0.0:1\"; ",
			 last, value);
	else if (strcmp(block, "stop.steps") == 0)
		str_addf(out, "stop: { steps = ( { signal = \"HUP\"; }, { %s = %s; } ); }; ", last,
			 value);
	else if (dot)
		str_addf(out, "%s: { %s = %s; }; ", block, last, value);
	else
		str_addf(out, "%s = %s; ", name, value);
	str_add(out, daemon ? "};" : "}; };");
}

#endif
