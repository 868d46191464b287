/* The environment of workers: order, what is left out, files, bounds. */
#include "manager/env.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char **finish(struct words *w)
{
	char **all = NULL;
	struct diag d = { 0 };

	cr_assert_eq(words_finish(w, &all, &d), 0, "%s", d.text);
	return all;
}

static size_t count(char **all)
{
	size_t n = 0;

	while (all[n])
		n++;
	return n;
}

Test(manager_env, the_last_value_wins_and_is_there_once)
{
	struct words w = { 0 };
	char **all;

	env_set(&w, "A", "1");
	env_put(&w, "B=x=y");
	env_set(&w, "A", "2");
	env_setf(&w, "N", "%d", 42);
	env_put(&w, "no value");
	all = finish(&w);
	cr_assert_eq(count(all), 3);
	cr_assert_str_eq(all[0], "A=2");
	cr_assert_str_eq(all[1], "B=x=y");
	cr_assert_str_eq(env_get(&w, "N"), "42");
	cr_assert_null(env_get(&w, "AB"));
	cr_assert_null(env_get(&w, ""));
	words_clear(&w);
	cr_assert_eq(count(finish(&w)), 0);
	words_fini(&w);
}

/* SP20: what belongs to the daemon itself is not handed on by a glob. */
Test(manager_env, sp20_inheriting)
{
	char *from[] = { "PATH=/x",	    "NOTIFY_SOCKET=/n", "LISTEN_FDS=1", "LISTEN_PID=1",
			 "WATCHDOG_USEC=1", "REEVE_ID=x",	"LC_ALL=C",	"LC_TIME=D",
			 "HOME=/h",	    "broken",		"=odd",		NULL };
	char *all[] = { "*", NULL }, *some[] = { "LC_*", "REEVE_ID", NULL }, *none[] = { NULL };
	struct words w = { 0 };

	env_inherit(&w, from, all, false);
	cr_assert_eq(count(finish(&w)), 4);
	cr_assert_not_null(env_get(&w, "LC_TIME"));
	cr_assert_null(env_get(&w, "LISTEN_FDS"));
	words_clear(&w);
	env_inherit(&w, from, some, false);
	cr_assert_eq(count(finish(&w)), 3);
	cr_assert_str_eq(env_get(&w, "REEVE_ID"), "x");
	words_clear(&w);
	env_inherit(&w, from, none, false);
	env_inherit(&w, from, NULL, false);
	cr_assert_eq(count(finish(&w)), 0);
	words_fini(&w);
}

/* As pid 1 everything is inherited, but whose home it is was settled by `user`. */
Test(manager_env, sp04_of_another_user)
{
	char *from[] = {
		"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/s", "PWD=/nowhere", NULL
	};
	char *all[] = { "*", NULL }, *named[] = { "HO*", "HOME", NULL };
	struct words w = { 0 };

	env_inherit(&w, from, all, true);
	cr_assert_eq(count(finish(&w)), 1);
	cr_assert_str_eq(env_get(&w, "PWD"), "/nowhere");
	words_clear(&w);
	env_inherit(&w, from, named, true);
	cr_assert_eq(count(finish(&w)), 1);
	cr_assert_str_eq(env_get(&w, "HOME"), "/root");
	words_fini(&w);
}

static int lines(struct words *w, const char *text, size_t len, struct diag *d)
{
	auto_free char *copy = malloc(len + 1);

	memcpy(copy, text, len);
	copy[len] = '\0';
	return env_add_lines(w, "/e", copy, len, d);
}

Test(manager_env, files)
{
	static const char text[] = "# comment\n\n ; too\n A=1\nB = no\n";
	static const char good[] =
		"A=1\r\n B=\"two words\" \nC='a\"b'\nD=\nE=x # y\nF=$A\nG=\"open";
	struct words w = { 0 };
	struct diag d = { 0 };

	cr_assert_eq(lines(&w, text, sizeof(text) - 1, &d), -EINVAL);
	cr_assert_eq(d.line, 5);
	cr_assert_str_eq(d.file, "/e");
	words_clear(&w);
	cr_assert_eq(lines(&w, good, sizeof(good) - 1, &d), 0, "%s", d.text);
	finish(&w);
	cr_assert_str_eq(env_get(&w, "A"), "1");
	cr_assert_str_eq(env_get(&w, "B"), "two words");
	cr_assert_str_eq(env_get(&w, "C"), "a\"b");
	cr_assert_str_eq(env_get(&w, "D"), "");
	cr_assert_str_eq(env_get(&w, "E"), "x # y");
	cr_assert_str_eq(env_get(&w, "F"), "$A");
	cr_assert_str_eq(env_get(&w, "G"), "\"open");
	words_fini(&w);
}

Test(manager_env, lines_that_are_refused)
{
	static const struct {
		const char *text;
		size_t len;
	} bad[] = { { "A", 1 },	     { "=x", 2 },	   { "1A=x", 4 },      { "A-B=x", 5 },
		    { "A=x\0y", 5 }, { "export A=1", 10 }, { "\xc3\xa4=1", 4 } };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct words w = { 0 };
		struct diag d = { 0 };

		cr_assert_eq(lines(&w, bad[i].text, bad[i].len, &d), -EINVAL, "%zu", i);
		cr_assert_eq(d.line, 1);
		words_fini(&w);
	}
}

/* A file that is none never holds us up. */
Test(manager_env, files_that_are_none)
{
	char dir[] = "/tmp/reeve-env-XXXXXX", path[64], optional[80];
	struct words w = { 0 };
	struct diag d = { 0 };
	FILE *big;

	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/x", dir);
	snprintf(optional, sizeof(optional), "-%s", path);
	cr_assert_eq(env_add_file(&w, path, geteuid(), &d), -ENOENT);
	cr_assert_eq(env_add_file(&w, optional, geteuid(), &d), 0);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_assert_eq(env_add_file(&w, optional, geteuid(), &d), -EINVAL);
	unlink(path);
	cr_assert_eq(env_add_file(&w, dir, geteuid(), &d), -EINVAL);
	cr_assert_eq(env_add_file(&w, "/dev/zero", geteuid(), &d), -EINVAL);
	big = fopen(path, "we");
	fprintf(big, "A=%0*d\n", (int)ENV_FILE_BYTES, 1);
	fclose(big);
	cr_assert_eq(env_add_file(&w, path, geteuid(), &d), -EFBIG);
	unlink(path);
	rmdir(dir);
	words_fini(&w);
}

/* SE04: who else can write it would choose what the worker loads. */
Test(manager_env, se04_files_of_others)
{
	char dir[] = "/tmp/reeve-env-XXXXXX", path[64];
	struct words w = { 0 };
	struct diag d = { 0 };

	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/x", dir);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	cr_assert_eq(env_add_file(&w, path, 4711, &d), 0, "%s", d.text);
	cr_assert_eq(chmod(path, 0666), 0);
	cr_assert_eq(env_add_file(&w, path, 4711, &d), -EPERM);
	cr_assert_not_null(strstr(d.text, "mode 0666"));
	if (geteuid() == 0) {
		cr_assert_eq(chown(path, 4711, 4712), 0);
		cr_assert_eq(chmod(path, 0644), 0);
		cr_assert_eq(env_add_file(&w, path, 4711, &d), 0, "the worker's own");
		cr_assert_eq(env_add_file(&w, path, 4712, &d), -EPERM);
	}
	unlink(path);
	rmdir(dir);
	words_fini(&w);
}

/* What the kernel would refuse with a bare E2BIG is named. */
Test(manager_env, bounds)
{
	struct words w = { 0 };
	struct diag d = { 0 };
	char **all, name[16];
	char *value = malloc(ENV_STRING_BYTES + 1);

	memset(value, 'x', ENV_STRING_BYTES);
	value[ENV_STRING_BYTES] = '\0';
	value[ENV_STRING_BYTES - 3] = '\0';
	env_set(&w, "V", value);
	cr_assert_eq(words_finish(&w, &all, &d), 0, "V= and the value just fit");
	value[ENV_STRING_BYTES - 3] = 'x';
	value[ENV_STRING_BYTES - 2] = '\0';
	env_set(&w, "V", value);
	cr_assert_eq(words_finish(&w, &all, &d), -E2BIG);
	cr_assert_not_null(strstr(d.text, "V=xxx"));
	words_clear(&w);
	for (int i = 0; i <= ENV_VARIABLES_MAX; i++) {
		snprintf(name, sizeof(name), "N%d", i);
		env_set(&w, name, "");
	}
	cr_assert_eq(words_finish(&w, &all, &d), -E2BIG);
	words_fini(&w);
	free(value);
}

/* SP04, SP21: base, inherited, files, env: each over the one before. */
Test(manager_env, order)
{
	char *from[] = { "HOME=/inherited", "LANG=xx", "SHELL=/inherited", "JUNK=1", NULL };
	char *patterns[] = { "HOME", "SHELL", NULL };
	char *env[] = { "SHELL=/own", "P=%{8000+i}", "W=%n%%", NULL };
	struct conf_group g = { .name = "web",
				.inherit_env = patterns,
				.env = env,
				.user = { .set = true,
					  .uid = 7,
					  .name = "jo",
					  .home = "/home/jo",
					  .shell = "/bin/dash" } };
	struct conf_worker who = { "web", 3 };
	struct words w = { 0 };
	struct diag d = { 0 };

	cr_assert_eq(env_of_group(&w, &g, &who, from, &d), 0);
	cr_assert_str_eq(env_get(&w, "HOME"), "/inherited");
	cr_assert_str_eq(env_get(&w, "SHELL"), "/own");
	cr_assert_str_eq(env_get(&w, "USER"), "jo");
	cr_assert_str_eq(env_get(&w, "LOGNAME"), "jo");
	cr_assert_str_eq(env_get(&w, "LANG"), "C.UTF-8");
	cr_assert_str_eq(env_get(&w, "P"), "8003");
	cr_assert_str_eq(env_get(&w, "W"), "web:3%");
	cr_assert_not_null(strstr(env_get(&w, "PATH"), "/usr/bin"));
	cr_assert_null(env_get(&w, "JUNK"));
	words_clear(&w);
	g.env_files = (char *[]){ "-/nowhere/%n", "/nowhere/%{02d:i}%%", NULL };
	cr_assert_eq(env_of_group(&w, &g, &who, from, &d), -ENOENT);
	cr_assert_not_null(strstr(d.text, "/nowhere/03%:"), "%s", d.text);
	g.env_files = NULL;
	words_clear(&w);
	g.user = (struct conf_user){ .set = true, .uid = 4711 };
	cr_assert_eq(env_of_group(&w, &g, &who, (char *[]){ NULL }, &d), 0);
	cr_assert_str_eq(env_get(&w, "USER"), "4711");
	cr_assert_str_eq(env_get(&w, "HOME"), "/");
	words_fini(&w);
}
