/* SP02, SE07: what is a user, and what only looks like one. */
#include "conf_rig.h"

#include "users.h"

Test(conf_users, SP02_notations)
{
	static const struct {
		const char *text;
		long long uid, gid; /* uid -1 = refused; gid -1 = none given */
	} rows[] = {
		{ "root", 0, -1 },
		{ "0", 0, -1 },
		{ "root:0", 0, 0 },
		{ "0:root", 0, 0 },
		{ "4242:4343", 4242, 4343 },
		{ "4294967294:1", 4294967294, 1 },
		{ "", -1, 0 },
		{ ":", -1, 0 },
		{ "root:", -1, 0 },
		{ ":root", -1, 0 },
		{ "00", -1, 0 },
		{ "0x0", -1, 0 },
		{ "0day", -1, 0 },
		{ "-1", -1, 0 },
		{ "+0", -1, 0 },
		{ " root", -1, 0 },
		{ "root ", -1, 0 },
		{ "4294967295", -1, 0 },
		{ "4294967296", -1, 0 },
		{ "root:4294967295", -1, 0 },
		{ "root:-1", -1, 0 },
		{ "root:root:root", -1, 0 },
		{ "no such", -1, 0 },
		{ "no_such_user_", -1, 0 },
		{ "a/b", -1, 0 },
		{ "..", -1, 0 },
		{ "roo\xff", -1, 0 },
		{ "root\n", -1, 0 },
		{ "99999999999999999999", -1, 0 },
		{ "1.5", -1, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct user_entry e = { 0 };
		struct diag d = { .text = "" };
		bool has_group = false;
		gid_t gid = 0;
		int err = user_group_find(rows[i].text, true, &e, &has_group, &gid, &d);

		cr_expect_eq(err == 0, rows[i].uid >= 0, "\"%s\"", rows[i].text);
		if (err == 0) {
			cr_expect_eq(e.uid, (uid_t)rows[i].uid);
			cr_expect_eq(has_group, rows[i].gid >= 0);
			cr_expect(!has_group || gid == (gid_t)rows[i].gid);
		} else {
			cr_expect(d.text[0], "\"%s\" refused without a word", rows[i].text);
		}
		user_entry_fini(&e);
	}
}

Test(conf_users, SP03_supplementary_groups)
{
	static const struct conf_load_options options = { 0 };
	static const char text[] =
		"groups: { bare: { command = \"/bin/true\"; user = \"424242:7\"; };"
		" named: { command = \"/bin/true\"; user = \"root\"; };"
		" given: { command = \"/bin/true\"; user = \"root\"; extra_groups = [ \"5\", \"6\" "
		"]; };"
		" own: { command = \"/bin/true\"; }; };";
	struct conf_report report = { 0 };
	struct conf *c = NULL;
	const struct conf_group *g;

	cr_assert_eq(load_text("/t/x.conf", text, strlen(text), &options, &c, &report), 0);
	g = conf_find_group(c, "bare");
	cr_expect(g->user.set && g->user.uid == 424242 && g->user.gid == 7);
	cr_expect_eq(g->user.n_groups, 0u, "a bare uid has no supplementary groups");
	cr_expect_str_eq(g->user.home, "/");
	g = conf_find_group(c, "named");
	cr_expect(g->user.set && g->user.n_groups >= 1);
	cr_expect_str_eq(g->user.name, "root");
	g = conf_find_group(c, "given");
	cr_assert_eq(g->user.n_groups, 2u);
	cr_expect(g->user.groups[0] == 5 && g->user.groups[1] == 6);
	g = conf_find_group(c, "own");
	cr_expect(!g->user.set && g->user.uid == geteuid() && g->user.name);
	conf_report_fini(&report);
	conf_free(c);
}

Test(conf_users, names_that_only_reeve_sets)
{
	static const char *const free_names[] = {
		"LANG", "PATH", "LISTEN", "NOTIFY_SOCKETS", "REEVE", "MY_REEVE_ID", ""
	};
	static const char *const reserved[] = { "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID",
						"WATCHDOG_USEC", "REEVE_ID",   "REEVE_" };

	for (size_t i = 0; i < ARRAY_LEN(free_names); i++)
		cr_expect(!conf_env_reserved(free_names[i]), "%s", free_names[i]);
	for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
		cr_expect(conf_env_reserved(reserved[i]), "%s", reserved[i]);
}
