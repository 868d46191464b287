/*
 * One binary, several programs: which one is decided by the name it was started under. Before
 * anything else the process is put into a known state, whatever started it: all signals blocked
 * and back to their default (SIGCHLD ignored at exec would lose every exit status), fds 0 to 2
 * open.
 */
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "boot/boot.h"
#include "keeper/pass.h"
#include "ledger/gauge.h"
#include "ledger/roles.h"
#include "loader.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

int manager_main(int argc, char **argv);
int logger_main(int argc, char **argv);
int gauge_main(int argc, char **argv);

/* Those that say that a process is broken still end it (the watch's and systemd's ABRT). */
static const int fatal[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS };

static void know_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t all;

	sigfillset(&all);
	for (size_t i = 0; i < ARRAY_LEN(fatal); i++)
		sigdelset(&all, fatal[i]);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int s = 1; s < NSIG; s++)
		sigaction(s, &dfl, NULL);
}

/* The loader calls the user database, which may start processes: it runs like any program. */
static int run_loader(int argc, char **argv)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return loader_main(argc, argv);
}

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} roles[] = {
	{ ROLE_MANAGER, manager_main },	    { ROLE_LOGGER, logger_main },
	{ ROLE_GAUGE, gauge_main },	    { LOADER_NAME, run_loader },
	{ ROLE_PREFLIGHT, preflight_main },
};

static const char help[] =
	"Usage: reeved [-c FILE] [--check [--offline]] [--user|--system] [--log-level LEVEL]\n"
	"\n"
	"Supervise the groups of worker processes that FILE describes, in the foreground.\n"
	"\n"
	"  -c, --config FILE   the configuration (default: /etc/reeve/reeve.conf;\n"
	"                      with --user $XDG_CONFIG_HOME/reeve/reeve.conf)\n"
	"      --check         check the configuration, say what is wrong, and exit\n"
	"      --offline       with --check: nothing that depends on this host\n"
	"      --user          directories of the calling user (default unless root)\n"
	"      --system        directories of the system (default for root)\n"
	"      --log-level L   error, warn, info or debug\n"
	"      --run FD        what reevectl run starts: one command, given behind --\n"
	"      --run-terminal  with --run: the command gets the terminal\n"
	"  -V, --version       print the version and exit\n"
	"  -h, --help          print this and exit\n"
	"\n"
	"reevectl(1) controls a running daemon. Manuals: reeved(8), reeve.conf(5).\n";

enum { OPT_CHECK = 256, OPT_OFFLINE, OPT_USER, OPT_SYSTEM, OPT_LEVEL, OPT_RUN, OPT_RUN_TERMINAL };
#define OPTIONS_SAID -1

static const struct option long_options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "check", no_argument, NULL, OPT_CHECK },
	{ "offline", no_argument, NULL, OPT_OFFLINE },
	{ "user", no_argument, NULL, OPT_USER },
	{ "system", no_argument, NULL, OPT_SYSTEM },
	{ "log-level", required_argument, NULL, OPT_LEVEL },
	{ "run", required_argument, NULL, OPT_RUN },
	{ "run-terminal", no_argument, NULL, OPT_RUN_TERMINAL },
	{ "version", no_argument, NULL, 'V' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int usage(const char *what, const char *detail)
{
	fprintf(stderr, "reeved: %s%s%s\nTry 'reeved --help'.\n", what, detail ? ": " : "",
		detail ? detail : "");
	return EXIT_USAGE;
}

static int parse_level(const char *word)
{
	static const char *const words[] = { "error", "warn", "info", "debug" };

	if (strcmp(word, "warning") == 0) /* as the lines of the log say */
		word = "warn";

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(word, words[i]) == 0)
			return (int)i;
	}
	return -1;
}

static int parse_fd(const char *text, int *ret)
{
	long long n;

	if (str_to_int(text, 3, INT_MAX, &n) < 0)
		return usage("--run takes the number of a descriptor", text);
	*ret = (int)n;
	return 0;
}

/* Relative to where the caller stands now: the daemon itself moves to /. */
static char *absolute(const char *path)
{
	auto_free char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);
	char *out = NULL;

	if (path[0] == '/')
		return strdup(path);
	if (!cwd || asprintf(&out, "%s/%s", cwd, path) < 0)
		return NULL;
	return out;
}

static bool is_us(const char *path)
{
	struct stat a, b;

	return stat(path, &a) == 0 && stat("/proc/self/exe", &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

/* The name we were started under, since an upgrade may change where a symbolic link leads; else
 * the file that we are. */
static char *own_path(const char *argv0)
{
	auto_free char *path = argv0 && strchr(argv0, '/') ? absolute(argv0) : NULL;

	if (path && is_us(path))
		return give_ptr(&path);
	return realpath("/proc/self/exe", NULL);
}

static char *default_config(bool user)
{
	const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	char *out = NULL;

	if (!user)
		return strdup("/etc/reeve/reeve.conf");
	if (base && base[0] == '/')
		return asprintf(&out, "%s/reeve/reeve.conf", base) < 0 ? NULL : out;
	if (home && home[0] == '/')
		return asprintf(&out, "%s/.config/reeve/reeve.conf", home) < 0 ? NULL : out;
	return NULL;
}

/* As `reevectl run` starts us: --run FD [--run-terminal] -- COMMAND... */
static int finish_run(struct keeper_options *o, const char *file, char **words)
{
	if (file || o->check)
		return usage("--run goes with no configuration", NULL);
	if (!words[0])
		return usage("--run needs a command", NULL);
	o->command = words;
	o->config = strdup("reevectl run");
	return o->config ? 0 : EXIT_FAILURE;
}

static int finish_options(struct keeper_options *o, const char *file)
{
	if (o->offline && !o->check)
		return usage("--offline goes with --check", NULL);
	if (file && !file[0])
		return usage("the name of the configuration is empty", NULL);
	o->config = file ? absolute(file) : default_config(o->user);
	if (!o->config)
		return usage("no configuration: HOME is not set, use -c FILE", NULL);
	return 0;
}

static int show(const char *text)
{
	fputs(text, stdout);
	return OPTIONS_SAID;
}

/* 0, an exit code, or OPTIONS_SAID: there is nothing else to do. */
static int take_option(struct keeper_options *o, int c, const char *word, const char **file)
{
	switch (c) {
	case 'c':
		*file = optarg;
		return 0;
	case OPT_CHECK:
		o->check = true;
		return 0;
	case OPT_OFFLINE:
		o->offline = true;
		return 0;
	case OPT_USER:
	case OPT_SYSTEM:
		o->user = c == OPT_USER;
		return 0;
	case OPT_LEVEL:
		o->forced_level = parse_level(optarg);
		return o->forced_level < 0
			       ? usage("--log-level takes error, warn, info or debug, not", optarg)
			       : 0;
	case OPT_RUN:
		o->run = true;
		return parse_fd(optarg, &o->run_conf);
	case OPT_RUN_TERMINAL:
		o->run_terminal = true;
		return 0;
	case 'V':
		return show("reeved " REEVE_VERSION "\n");
	case 'h':
		return show(help);
	default:
		return usage(c == ':' ? "an argument is missing" : "unknown option", word);
	}
}

/* True = go on with *o, else exit with the code in *ret_code. */
static bool parse_options(int argc, char **argv, struct keeper_options *o, int *ret_code)
{
	const char *file = NULL;
	int c;

	o->forced_level = -1;
	o->user = geteuid() != 0;
	opterr = 0;
	*ret_code = 0;
	while (*ret_code == 0 && (c = getopt_long(argc, argv, ":c:hV", long_options, NULL)) != -1)
		*ret_code = take_option(o, c, argv[optind - 1], &file);
	if (*ret_code) {
		*ret_code = *ret_code == OPTIONS_SAID ? 0 : *ret_code;
		return false;
	}
	if (o->run)
		*ret_code = finish_run(o, file, argv + optind);
	else if (optind < argc)
		*ret_code = usage("too many arguments", argv[optind]);
	else
		*ret_code = finish_options(o, file);
	return *ret_code == 0;
}

int main(int argc, char **argv)
{
	struct keeper_options o = { 0 };
	const char *name;
	int code;

	know_signals();
	if (fd_fill_stdio() < 0)
		return EXIT_FAILURE;
	name = argc > 0 && strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	failpoint_init(argc, argv, name);
	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		if (!name || strcmp(name, roles[i].name) != 0)
			continue;
		/* exec by fd would leave the fd's number as the name. */
		prctl(PR_SET_NAME, name);
		return roles[i].main(argc, argv);
	}
	if (getenv(PASS_VARIABLE))
		return boot_adopt(argv);
	o.argv = argv;
	o.program = own_path(argv[0]);
	if (!o.program)
		code = EXIT_FAILURE;
	else if (parse_options(argc, argv, &o, &code))
		code = o.check ? boot_check(&o) : boot_run(&o);
	free(o.config);
	free(o.program);
	return code;
}
