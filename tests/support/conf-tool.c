/*
 * The configuration library without a daemon, for the golden tests:
 *   conf-tool [--user|--pid1|--offline] load FILE       dump, or the problems; warnings come first
 *   conf-tool [...] json FILE                           the canonical form
 *   conf-tool [...] roundtrip FILE                      dump and canonical form give the same back
 *   conf-tool [...] diff OLD NEW                        the changes, with reasons
 *   conf-tool [...] expand FILE GROUP INDEX             command, cwd, env, log file of one worker
 *   conf-tool [...] loader FILE                         through loader_main in a process of its own
 *   conf-tool keys                                      the table of keys with bounds,
 * tab-separated Exit code: 0, 1 = something else went wrong, 2 = usage, 78 = errors in the
 * configuration.
 */
#include "key.h"
#include "loader.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/names.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define EXIT_CONFIG 78

struct tool {
	struct conf_load_options options;
	char **argv;
	int argc;
};

static int load(struct tool *t, const char *path, struct conf **ret, FILE *to)
{
	struct conf_report report = { 0 };
	auto_str text = { 0 };
	int err = conf_load(path, &t->options, ret, &report);

	conf_report_print(&report, &text);
	fputs(text.data ? text.data : "", to);
	if (err == 0 && report.errors > 0)
		fprintf(to, "BUG: %zu errors and yet loaded\n", report.errors);
	if (err < 0 && report.errors == 0)
		fprintf(to, "BUG: not loaded (%s) and no error told\n", strerror(-err));
	conf_report_fini(&report);
	return err < 0 ? EXIT_CONFIG : 0;
}

static int run_load(struct tool *t)
{
	struct conf *c = NULL;
	int code = load(t, t->argv[0], &c, stdout);

	if (code == 0) {
		auto_str out = { 0 };

		conf_dump(c, &out);
		fputs(out.data, stdout);
	}
	conf_free(c);
	return code;
}

static int run_json(struct tool *t)
{
	struct conf *c = NULL;
	int code = load(t, t->argv[0], &c, stderr);

	if (code == 0) {
		auto_free char *text = conf_to_json(c);

		puts(text);
	}
	conf_free(c);
	return code;
}

static int show_changes(const struct conf *from, const struct conf *to)
{
	static const char *const kinds[] = { "add", "remove", "live", "renew", "daemon" };
	struct conf_change *changes = NULL;
	ssize_t n = conf_diff(from, to, &changes);

	for (ssize_t i = 0; i < n; i++)
		printf("%s: %s, %s\n", changes[i].group[0] ? changes[i].group : "daemon",
		       kinds[changes[i].kind], changes[i].reason);
	free(changes);
	return (int)n;
}

static int run_diff(struct tool *t)
{
	struct conf *a = NULL, *b = NULL;
	int code = load(t, t->argv[0], &a, stderr);

	if (code == 0)
		code = load(t, t->argv[1], &b, stderr);
	if (code == 0)
		show_changes(a, b);
	conf_free(a);
	conf_free(b);
	return code;
}

static int load_text(struct tool *t, const char *text, size_t len, struct conf **ret)
{
	char path[] = "/tmp/conf-tool-XXXXXX";
	int fd = mkstemp(path), code;

	if (fd < 0 || fd_write_all(fd, text, len) < 0)
		return 1;
	code = load(t, path, ret, stderr);
	close(fd);
	unlink(path);
	return code;
}

static int same_groups(const struct conf *a, const struct conf *b)
{
	for (size_t i = 0; i < a->n_groups && i < b->n_groups; i++) {
		if (conf_group_hash(&a->groups[i]) == conf_group_hash(&b->groups[i]))
			continue;
		printf("hash of %s differs\n", a->groups[i].name);
		return 1;
	}
	return 0;
}

/* Both ways out and in again must lead to the same; then the second dump equals the first. */
static int run_roundtrip(struct tool *t)
{
	struct conf *c = NULL, *from_dump = NULL, *from_json = NULL;
	auto_str dump = { 0 }, again = { 0 };
	auto_free char *json = NULL;
	struct diag d;
	int code = load(t, t->argv[0], &c, stderr);

	if (code != 0)
		return code;
	conf_dump(c, &dump);
	json = conf_to_json(c);
	code = load_text(t, dump.data, dump.len, &from_dump);
	if (code == 0 && (show_changes(c, from_dump) != 0 || same_groups(c, from_dump) != 0))
		code = 1;
	if (code == 0 && conf_from_json(json, strlen(json), &from_json, &d) < 0) {
		printf("%s\n", d.text);
		code = 1;
	}
	if (code == 0 && (show_changes(c, from_json) != 0 || same_groups(c, from_json) != 0))
		code = 1;
	if (code == 0) {
		conf_dump(from_json, &again);
		code = strcmp(dump.data, again.data) != 0;
	}
	conf_free(c);
	conf_free(from_dump);
	conf_free(from_json);
	return code;
}

static void expand_line(const char *name, const char *text, const struct conf_worker *w)
{
	auto_str out = { 0 };

	conf_expand(text, w, &out);
	printf("%s %s\n", name, out.data);
}

static int run_expand(struct tool *t)
{
	struct conf *c = NULL;
	int code = load(t, t->argv[0], &c, stderr);
	const struct conf_group *g = code == 0 ? conf_find_group(c, t->argv[1]) : NULL;
	struct conf_worker w = { t->argv[1], atoi(t->argv[2]) };

	if (code == 0 && !g)
		code = 1;
	if (g) {
		for (char **a = g->command; a && *a; a++)
			expand_line("argument", *a, &w);
		for (char **e = g->env; *e; e++)
			expand_line("env", *e, &w);
		for (size_t i = 0; i < g->n_sockets; i++)
			expand_line("listen", g->sockets[i].listen, &w);
		expand_line("cwd", g->cwd, &w);
		expand_line("log", g->log.file, &w);
	}
	conf_free(c);
	return code;
}

/* What the daemon does: loader_main in a process of its own, the result through a pipe. */
static int run_loader(struct tool *t)
{
	struct conf_report report = { 0 };
	const char *argv[8];
	auto_free char *text = NULL;
	auto_str shown = { 0 };
	struct conf *c = NULL;
	int fds[2], status, argc = 0, err;
	size_t len = 0;
	pid_t pid;

	loader_argv(t->argv[0], &t->options, argv);
	while (argv[argc])
		argc++;
	if (pipe(fds) < 0)
		return 1;
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], 1);
		_exit(loader_main(argc, (char **)argv));
	}
	close(fds[1]);
	err = fd_read_all(fds[0], 256 << 20, &text, &len);
	close(fds[0]);
	if (pid < 0 || err < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	err = loader_result(text, len, status, t->argv[0], &c, &report);
	conf_report_print(&report, &shown);
	printf("%s", shown.data ? shown.data : "");
	printf("exit %d, %zu groups\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1,
	       c ? c->n_groups : 0);
	conf_report_fini(&report);
	conf_free(c);
	return err < 0 ? EXIT_CONFIG : 0;
}

/* As messages word them behind "allowed:". */
static void print_bounds(const struct conf_key *k)
{
	char low[48], high[48];

	if (k->max == 0)
		return;
	if (k->how == &type_mode)
		printf(", up to \"%04llo\"", (unsigned long long)k->max);
	else if (k->how == &type_duration)
		printf(", %s to %s", duration_format(k->min, low), duration_format(k->max, high));
	else if (k->how == &type_size)
		printf(", %s to %s", size_format(k->min, low), size_format(k->max, high));
	else
		printf(", %lld to %lld", k->min, k->max);
}

static int run_keys(struct tool *t)
{
	static const char *const kinds[] = { "add", "remove", "live", "renew", "daemon" };
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++) {
		printf("%s\t%s", keys[i].path, keys[i].type);
		print_bounds(&keys[i]);
		printf("\t%s\t%s\t%s\t%s\n", keys[i].preset, kinds[keys[i].change], keys[i].example,
		       keys[i].help);
	}
	return 0;
}

static const struct {
	const char *name;
	int args;
	int (*run)(struct tool *t);
} verbs[] = {
	{ "load", 1, run_load }, { "json", 1, run_json },     { "roundtrip", 1, run_roundtrip },
	{ "diff", 2, run_diff }, { "expand", 3, run_expand }, { "loader", 1, run_loader },
	{ "keys", 0, run_keys },
};

int main(int argc, char **argv)
{
	struct tool t = { 0 };
	int i = 1;

	for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
		t.options.user |= strcmp(argv[i], "--user") == 0;
		t.options.pid1 |= strcmp(argv[i], "--pid1") == 0;
		t.options.offline |= strcmp(argv[i], "--offline") == 0;
	}
	for (size_t v = 0; v < ARRAY_LEN(verbs) && i < argc; v++) {
		if (strcmp(argv[i], verbs[v].name) != 0 || argc - i - 1 != verbs[v].args)
			continue;
		t.argv = argv + i + 1;
		t.argc = argc - i - 1;
		return verbs[v].run(&t);
	}
	fprintf(stderr, "usage: see the top of conf-tool.c\n");
	return 2;
}
