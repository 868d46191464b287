/*
 * run: becomes reeved with one command in place of a configuration. Nothing is left of this process
 * but its pid, its stdio and what it inherited: signals that come from the first moment on wait,
 * blocked, for the daemon, which reads them all (SH28).
 */
#include "ctl.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "conf.h"
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAEMON "reeved"
/* Of a tree whose main process has ended. */
#define GRACE	    "10s"
#define SHOWN_MAX   200
#define SHOWN_WORDS 32

/* Of a path that needs no quoting. */
#define PLAIN "/._-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static const char *const places[] = { "/run", "/dev/shm", "/tmp" };

/* Ours alone, and gone with the daemon. */
static int make_dir(char *ret, size_t size)
{
	const char *own = getenv("XDG_RUNTIME_DIR");
	int err = 0;

	if (geteuid() != 0 && own && own[0] == '/' && !own[strspn(own, PLAIN)]) {
		snprintf(ret, size, "%.40s/reeve-run.XXXXXX", own);
		if (mkdtemp(ret))
			return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		snprintf(ret, size, "%s/reeve-run.XXXXXX", places[i]);
		if (mkdtemp(ret))
			return 0;
		err = errno;
	}
	fail("no directory for the control socket: /run, /dev/shm, /tmp: %s", strerror(err));
	return -err;
}

static void add_number(struct str *out, rlim_t value)
{
	if (value == RLIM_INFINITY)
		str_add(out, "unlimited");
	else
		str_addf(out, "%llu", (unsigned long long)value);
}

static void add_limit(struct str *out, const char *name, __rlimit_resource_t resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return;
	str_addf(out, " %s = \"", name);
	add_number(out, limit.rlim_cur);
	str_add(out, ":");
	add_number(out, limit.rlim_max);
	str_add(out, "\";");
}

/* What we write into a memfd is a file to the limit of the command. */
static void raise_fsize(void)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY }, own;

	if (setrlimit(RLIMIT_FSIZE, &all) == 0 || getrlimit(RLIMIT_FSIZE, &own) < 0)
		return;
	own.rlim_cur = own.rlim_max;
	setrlimit(RLIMIT_FSIZE, &own);
}

/* A command without configuration is as we are. */
static void add_own(struct str *out)
{
	char oom[16] = "0";
	mode_t mask = umask(0);

	umask(mask);
	str_addf(out, "umask = \"%04o\"; nice = %d;", (unsigned)mask, getpriority(PRIO_PROCESS, 0));
	if (fd_read_at(AT_FDCWD, "/proc/self/oom_score_adj", oom, sizeof(oom)) > 0)
		str_addf(out, " oom_score_adj = %d;", atoi(oom));
	str_add(out, " limits: {");
	add_limit(out, "nofile", RLIMIT_NOFILE);
	add_limit(out, "fsize", RLIMIT_FSIZE);
	str_add(out, " };\n");
}

/* As `reevectl show` shows it, shortened; what is executed are the words themselves. */
static void add_shown(struct str *out, const char *word)
{
	size_t end = out->len + SHOWN_MAX;

	for (; *word && out->len < end; word++) {
		if (*word == '%')
			str_add(out, "%%");
		else if (*word == '"' || *word == '\\')
			str_addf(out, "\\%c", *word);
		else
			str_addf(out, *word >= ' ' && *word < 127 ? "%c" : "?", *word);
	}
}

static void add_command(struct str *out, const char **words)
{
	const char *slash = strrchr(words[0], '/');

	str_add(out, "  command = [ \"");
	add_shown(out, slash && words[0][0] != '/' ? slash + 1 : words[0]);
	for (size_t i = 1; words[i] && i < SHOWN_WORDS; i++) {
		str_add(out, "\", \"");
		add_shown(out, words[i]);
	}
	str_add(out, "\" ];\n");
}

static void write_conf(const struct ctl *c, const char *dir, struct str *out)
{
	int64_t limit = c->set.timeout_ms;

	str_addf(out,
		 "daemon: { runtime_dir = \"%s\"; cgroup = \"off\";\n"
		 "  log: { level = \"error\"; to = \"stderr\"; };\n",
		 dir);
	if (limit >= 0 && limit != DURATION_NEVER)
		str_addf(out, "  shutdown_timeout = \"%lldms\";\n", (long long)limit);
	str_add(out, "};\ngroups: { run: {\n");
	add_command(out, c->args);
	str_add(out,
		"  log: { to = \"stdout\"; format = \"raw\"; };\n"
		"  inherit_env = [ \"*\" ]; restart: { when = \"never\"; };\n"
		"  on_failure = \"shutdown\"; on_done = \"shutdown\"; exit_code = \"worker\";\n");
	if (limit >= 0 && limit != DURATION_NEVER)
		str_addf(out, "  stop: { timeout = \"%lldms\"; };\n", (long long)limit);
	else
		str_add(out, "  stop: { timeout = \"" GRACE "\"; };\n");
	add_own(out);
	str_add(out, "}; };\n");
}

/* The canonical form in a memfd that stays open over the exec; -errno after a message. */
static int make_conf(const struct ctl *c, const char *dir)
{
	const struct conf_load_options options = { .user = geteuid() != 0 };
	struct conf_report report = { 0 };
	struct conf *conf = NULL;
	auto_str text = { 0 };
	auto_free char *canonical = NULL;
	auto_fd fd = fd_memfd("reeve-run", 0);
	int err;

	write_conf(c, dir, &text);
	raise_fsize();
	err = text.failed ? -ENOMEM : fd < 0 ? fd : 0;
	if (err == 0)
		err = load_text("/reevectl-run", text.data, text.len, &options, &conf, &report);
	if (err == 0)
		canonical = conf_to_json(conf);
	if (err == 0)
		err = canonical ? fd_write_all(fd, canonical, strlen(canonical)) : -ENOMEM;
	if (err == 0)
		err = fd_set_cloexec(fd, false);
	if (err < 0) {
		auto_str said = { 0 };

		conf_report_print(&report, &said);
		fail("making the configuration: %s%s%s", strerror(-err), said.len ? ": " : "",
		     said.len ? said.data : "");
	}
	conf_report_fini(&report);
	conf_free(conf);
	return err < 0 ? err : give_fd(&fd);
}

/* The daemon of the same build or installation before any other. */
static void exec_daemon(char **argv)
{
	static const char *const beside[] = { DAEMON, "../sbin/" DAEMON, "../daemon/" DAEMON };
	char self[PATH_MAX], path[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		for (size_t i = 0; slash && i < ARRAY_LEN(beside); i++) {
			snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - self), self,
				 beside[i]);
			execv(path, argv);
		}
	}
	execv(REEVED_PATH, argv);
	execvp(DAEMON, argv);
	fail("executing " DAEMON ": %s", strerror(errno));
}

int cmd_run(struct ctl *c)
{
	char dir[64], number[16];
	auto_free char **argv = calloc(c->n_args + 6, sizeof(*argv));
	size_t n = 0;
	int fd;

	/* the number of the memfd has to be none that means something */
	if (!argv || fd_fill_stdio() < 0)
		return CODE_FAILED;
	if (c->set.terminal && !isatty(STDIN_FILENO)) {
		fail("-t: standard input is no terminal");
		return CODE_FAILED;
	}
	if (make_dir(dir, sizeof(dir)) < 0)
		return CODE_FAILED;
	fd = make_conf(c, dir);
	if (fd >= 0) {
		snprintf(number, sizeof(number), "%d", fd);
		argv[n++] = (char *)DAEMON;
		argv[n++] = (char *)"--run";
		argv[n++] = number;
		if (c->set.terminal)
			argv[n++] = (char *)"--run-terminal";
		argv[n++] = (char *)"--";
		memcpy(argv + n, c->args, c->n_args * sizeof(*argv));
		exec_daemon(argv);
		close(fd);
	}
	rmdir(dir);
	return CODE_FAILED;
}
