/* What this host says about a group. Warnings, since a program or directory may come later; only
 * what can never work is an error. */
#include "check.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* A template as the first worker would see it. */
static char *first(const struct conf_group *g, const char *text)
{
	struct conf_worker w = { g->name, 0 };
	auto_str out = { 0 };

	conf_expand(text, &w, &out);
	return give_ptr(&out.data);
}

static bool inherits_path(const struct conf_group *g)
{
	for (char **p = g->inherit_env; p && *p; p++)
		if (fnmatch(*p, "PATH", 0) == 0)
			return true;
	return false;
}

/* The PATH that workers will have; NULL = a file read at the start may change it. */
static char *path_of(const struct conf_group *g)
{
	const char *path = CONF_BASE_PATH;

	for (char **e = g->env; e && *e; e++)
		if (strncmp(*e, "PATH=", 5) == 0)
			return first(g, *e + 5);
	if (g->env_files && g->env_files[0])
		return NULL;
	if (inherits_path(g) && getenv("PATH"))
		path = getenv("PATH");
	return strdup(path);
}

/* NULL = it can be executed. Whose permission it needs is the worker's affair. */
static const char *cannot_execute(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return strerror(errno);
	if (S_ISDIR(st.st_mode))
		return "is a directory";
	if (!S_ISREG(st.st_mode))
		return "is no regular file";
	return st.st_mode & 0111 ? NULL : "is not executable";
}

static bool in_path(const char *name, char *path)
{
	char *rest = path, *dir;

	while ((dir = strsep(&rest, ":"))) {
		char file[4200];

		snprintf(file, sizeof(file), "%s/%s", dir, name);
		if (dir[0] == '/' && !cannot_execute(file))
			return true;
	}
	return false;
}

static void check_program(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	auto_free char *program = first(g, g->command[0]);
	auto_free char *path = path_of(g);
	auto_free char *shown = path ? strdup(path) : NULL;
	const char *why;

	if (!program)
		return;
	if (program[0] == '/') {
		why = cannot_execute(program);
		if (why)
			load_problem(l, i, "group.command", true, "command: %.300s: %s", program,
				     why);
	} else if (path && !in_path(program, path)) {
		load_problem(l, i, "group.command", true,
			     "command: %.100s is in none of the directories of PATH=%.300s",
			     program, shown ? shown : "");
	}
}

/* An entry: its interpreter, or the module itself. */
static void check_code(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	const char *why;

	if (conf_entry_is_native(g->entry)) {
		if (access(g->entry, F_OK) < 0)
			load_problem(l, i, "group.entry", true, "entry: %.300s: %s", g->entry,
				     strerror(errno));
		return;
	}
	why = cannot_execute(g->python);
	if (why)
		load_problem(l, i, "group.python", true, "python: %.300s: %s", g->python, why);
}

static void check_directory(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	auto_free char *cwd = first(g, g->cwd);
	struct stat st;

	if (!cwd)
		return;
	if (stat(cwd, &st) < 0)
		load_problem(l, i, "group.cwd", true, "cwd: %.300s: %s", cwd, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		load_problem(l, i, "group.cwd", true, "cwd: %.300s is no directory", cwd);
}

static bool is_below(const char *path, const char *dir)
{
	return strncmp(path, dir, strlen(dir)) == 0;
}

/* A terminal or device is meant as `to`; anything but a regular file cannot be rotated (LG07). */
static void check_log(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	auto_free char *file = first(g, g->log.file);
	const char *what = "a device", *mended = "file = \"/var/log/reeve/%g.log\";";
	struct stat st;

	if (!file || g->log.to != CONF_LOG_FILE)
		return;
	if ((is_below(file, "/dev/") && !is_below(file, "/dev/shm/")) || is_below(file, "/proc/"))
		mended = strcmp(file, "/dev/null") == 0 ? "to = \"null\";" : "to = \"stdout\";";
	else if (stat(file, &st) < 0 || S_ISREG(st.st_mode))
		return;
	else
		what = S_ISDIR(st.st_mode)    ? "a directory"
		       : S_ISFIFO(st.st_mode) ? "a FIFO"
		       : S_ISSOCK(st.st_mode) ? "a socket"
					      : "a device";
	load_problem(l, i, "group.log.file", false,
		     "log.file = \"%.300s\" is %s, not a regular file; write: %s", file, what,
		     mended);
}

/*
 * Who writes an environment decides what a worker loads (LD_PRELOAD, PYTHONPATH …), so it must be
 * nobody but root, the daemon's user and the worker's own (SE04).
 */
static void check_env_file(struct loading *l, size_t i, const char *file)
{
	const struct conf_group *g = &l->conf->groups[i];
	auto_free char *path = first(g, file + (*file == '-'));
	struct stat st;

	if (!path)
		return;
	if (stat(path, &st) < 0) {
		if (*file != '-')
			load_problem(l, i, "group.env_file", true, "env_file: %.300s: %s", path,
				     strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		load_problem(l, i, "group.env_file", false, "env_file: %.300s is no regular file",
			     path);
	} else if ((st.st_uid != 0 && st.st_uid != geteuid() && st.st_uid != g->user.uid) ||
		   (st.st_mode & S_IWOTH)) {
		load_problem(
			l, i, "group.env_file", false,
			"env_file: %.300s can be written by somebody else than root, the "
			"daemon's user and the worker's (uid %u, mode %04o); write: chmod o-w, "
			"chown root",
			path, (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
	}
}

static void check_files(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];

	for (char **f = g->env_files; f && *f; f++)
		check_env_file(l, i, *f);
	if (g->stdin_path) {
		auto_free char *path = first(g, g->stdin_path);
		struct stat st;

		if (path && stat(path, &st) < 0)
			load_problem(l, i, "group.stdin", true, "stdin: %.300s: %s", path,
				     strerror(errno));
		else if (path && S_ISDIR(st.st_mode))
			load_problem(l, i, "group.stdin", true,
				     "stdin: %.300s is a directory, which cannot be read", path);
	}
}

static void check_limits(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];

	for (size_t k = 0; k < g->n_limits && geteuid() != 0; k++) {
		const struct conf_limit *want = &g->limits[k];
		struct rlimit have;

		if (getrlimit((__rlimit_resource_t)want->resource, &have) < 0 ||
		    want->hard <= have.rlim_max)
			continue;
		load_problem(l, i, "group.limits", true,
			     "limits.%s: the hard limit here is %llu and only root can raise it",
			     limit_name(want->resource), (unsigned long long)have.rlim_max);
	}
}

void check_host(struct loading *l, size_t i)
{
	if (l->conf->groups[i].command)
		check_program(l, i);
	else
		check_code(l, i);
	check_directory(l, i);
	check_log(l, i);
	check_files(l, i);
	check_limits(l, i);
}
