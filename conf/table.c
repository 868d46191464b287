/*
 * The table of keys, sorted by path. Loading, defaults, unknown-key errors, dump, the canonical
 * form, the differences of a reload and the check of the manual are all made from it.
 * A preset "(…)" is worked out by load.c and told here in words.
 */
#include "key.h"

#include "base/mem.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

#define DAEMON(field) offsetof(struct conf_daemon, field)
#define GROUP(field)  offsetof(struct conf_group, field)
#define SOCKET(field) offsetof(struct conf_socket, field)
#define STEP(field)   offsetof(struct conf_step, field)

#define SECOND 1000LL
#define DAY    (86400LL * SECOND)
#define YEAR   (365LL * DAY)
#define TERA   (1LL << 40)

#define DURATION      "duration"
#define DURATION_EVER "duration or \"never\""
#define MODE	      "octal mode as a string"
#define OWNER	      "\"user[:group]\""
#define WHO	      "[ \"user\", \"@unixgroup\" ]"
#define PATH	      "absolute path"
#define TARGETS	      "\"main\"|\"pgrp\"|\"tree\""
#define SIGNAL	      "signal name"

/* A macro because clang-format 14 crashes on long arrays of mixed rows. */
#define KEY(...)                                                                                   \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}

static const struct conf_key keys[] = {
	KEY("daemon.cgroup", "\"auto\"|\"off\"|\"require\"", "\"auto\"", "\"require\"",
	    "Use cgroup v2 where it is ours, never, or refuse to start without it.", CONF_DAEMON,
	    &type_word, DAEMON(cgroup), .words = CONF_WORDS_CGROUP),
	KEY("daemon.control.admins", WHO, "[]", "[ \"alice\", \"@wheel\" ]",
	    "Who may do everything, besides root and the daemon's own user.", CONF_LIVE, &type_who,
	    DAEMON(control.admins), DAEMON(control.who_admins), .flags = KEY_ACCESS),
	KEY("daemon.control.mode", MODE, "(\"0660\"; \"0666\" with operators or readers)",
	    "\"0660\"", "Mode of the control socket.", CONF_LIVE, &type_mode, DAEMON(control.mode),
	    .max = 0777, .flags = KEY_ACCESS),
	KEY("daemon.control.operators", WHO, "[]", "[ \"@operators\" ]",
	    "Who may do all but upgrade, shut down and reload the configuration.", CONF_LIVE,
	    &type_who, DAEMON(control.operators), DAEMON(control.who_operators),
	    .flags = KEY_ACCESS),
	KEY("daemon.control.owner", OWNER, "", "\"root:adm\"", "Owner of the control socket.",
	    CONF_LIVE, &type_owner, DAEMON(control.owner), .flags = KEY_ACCESS),
	KEY("daemon.control.readers", WHO, "[]", "[ \"@adm\" ]",
	    "Who may look, but see no environment and no arguments.", CONF_LIVE, &type_who,
	    DAEMON(control.readers), DAEMON(control.who_readers), .flags = KEY_ACCESS),
	KEY("daemon.control.socket", PATH, "\"%t/control.sock\"", "\"/run/reeve/control.sock\"",
	    "Path of the control socket.", CONF_DAEMON, &type_path, DAEMON(control.socket)),
	KEY("daemon.log.level", "\"error\"|\"warn\"|\"info\"|\"debug\"", "\"info\"", "\"debug\"",
	    "How much the daemon itself says.", CONF_LIVE, &type_word, DAEMON(log_level),
	    .words = CONF_WORDS_LEVEL),
	KEY("daemon.log.to", "\"auto\"|\"journal\"|\"stderr\"|path", "\"auto\"",
	    "\"/var/log/reeve/reeved.log\"", "Where the daemon's own messages go.", CONF_LIVE,
	    &type_log_to, DAEMON(log_to)),
	KEY("daemon.manager_watchdog", DURATION, "\"30s\"", "\"1m\"",
	    "A manager or logger that leaves work undone this long is replaced.", CONF_LIVE,
	    &type_duration, DAEMON(manager_watchdog_ms), .min = SECOND, .max = DAY),
	KEY("daemon.runtime_dir", PATH,
	    "(\"/run/reeve\"; a plain user: \"$XDG_RUNTIME_DIR/reeve\")", "\"/run/reeve\"",
	    "Sockets, lock and identity.", CONF_DAEMON, &type_path, DAEMON(runtime_dir),
	    .flags = KEY_EARLY),
	KEY("daemon.shutdown_timeout", DURATION_EVER, "\"never\"", "\"2m\"",
	    "Bound of the whole warm phase; else each group's own clock.", CONF_LIVE,
	    &type_duration, DAEMON(shutdown_timeout_ms), .min = 0, .max = YEAR, .flags = KEY_NEVER),
	KEY("daemon.start_concurrency", "integer", "64", "16", "Starts in flight at a time.",
	    CONF_LIVE, &type_int, DAEMON(start_concurrency), .min = 1, .max = 10000),
	KEY("daemon.stray_orphans", "\"kill\"|\"leave\"", "\"kill\"", "\"leave\"",
	    "Leftovers of this daemon's earlier life, and adopted processes of no worker.",
	    CONF_LIVE, &type_word, DAEMON(stray_orphans), .words = CONF_WORDS_STRAY),

	KEY("group.after", "[ group, ... ]", "[]", "[ \"db\" ]",
	    "The first start waits until those groups are ready or done.", CONF_LIVE, &type_strings,
	    GROUP(after)),
	KEY("group.autostart", "true|false", "true", "false", "Start with the daemon.", CONF_LIVE,
	    &type_bool, GROUP(autostart)),
	KEY("group.command", "[ \"program\", \"argument\", ... ] or one string split into words",
	    "", "[ \"/usr/bin/gunicorn\", \"app:app\" ]", "What a worker executes. No shell.",
	    CONF_RENEW, &type_command, GROUP(command), .flags = KEY_PER_WORKER),
	KEY("group.cwd", PATH, "\"/\"", "\"%d/app\"", "Working directory.", CONF_RENEW, &type_path,
	    GROUP(cwd), .flags = KEY_PER_WORKER),
	KEY("group.enabled", "true|false", "true", "false", "false leaves the group out.",
	    CONF_LIVE, &type_bool, GROUP(enabled), .flags = KEY_EARLY | KEY_SHORTHAND),
	KEY("group.entry", "\"pkg.mod:func\"|\"/path/mod.so\"", "", "\"app.worker:main\"",
	    "A Python function or a native module, in place of command.", CONF_RENEW, &type_entry,
	    GROUP(entry)),
	KEY("group.env", "{ NAME = \"value\"; } or [ \"NAME=value\" ]", "[]",
	    "{ PORT = \"8080\"; }", "Environment. A block merges by name, a list replaces.",
	    CONF_RENEW, &type_env, GROUP(env), .flags = KEY_PER_WORKER),
	KEY("group.env_file", "[ path, \"-path\" ]", "[]", "[ \"/etc/default/web\" ]",
	    "Files of NAME=value lines, read at each start; with - in front they may be missing.",
	    CONF_RENEW, &type_env_files, GROUP(env_files), .flags = KEY_PER_WORKER),
	KEY("group.exit_code", "\"fixed\"|\"worker\"", "\"fixed\"", "\"worker\"",
	    "The daemon's exit code after a shutdown by on_failure or on_done.", CONF_LIVE,
	    &type_word, GROUP(exit_code), .words = CONF_WORDS_EXIT_CODE),
	KEY("group.extra_groups", "[ unixgroup, ... ]", "(of the user database)", "[ \"video\" ]",
	    "Supplementary groups, in place of the user's own.", CONF_RENEW, &type_extra_groups,
	    GROUP(user.extra), .flags = KEY_ACCESS | KEY_EARLY),
	KEY("group.fork_allow_threads", "[ thread, ... ]", "[]", "[ \"QueueListener\" ]",
	    "Threads by name that do not keep a template from forking; workers lack them.",
	    CONF_RENEW, &type_strings, GROUP(fork_allow_threads)),
	KEY("group.inherit_env", "[ name or glob, ... ]", "(none; as pid 1 [ \"*\" ])",
	    "[ \"HTTP_*\" ]", "What workers get of the daemon's own environment.", CONF_RENEW,
	    &type_inherit, GROUP(inherit_env)),
	KEY("group.limits", "{ nofile = N | \"unlimited\" | \"soft:hard\"; ... }",
	    "(as the daemon was started; nofile soft 1024)", "{ nofile = \"4096:8192\"; }",
	    "Resource limits by their RLIMIT_ name in small letters.", CONF_RENEW, &type_limits,
	    GROUP(limits)),
	KEY("group.log.file", PATH,
	    "(\"/var/log/reeve/%g.log\"; a plain user: \"$XDG_STATE_HOME/reeve/log/%g.log\")",
	    "\"/var/log/web/%i.log\"", "File of to = \"file\".", CONF_LIVE, &type_path,
	    GROUP(log.file), .flags = KEY_PER_WORKER),
	KEY("group.log.format", "\"text\"|\"raw\"|\"json\"", "\"text\"", "\"json\"",
	    "With time and worker in front of each line, as written, or as JSON objects.",
	    CONF_LIVE, &type_word, GROUP(log.format), .words = CONF_WORDS_FORMAT),
	KEY("group.log.keep", "integer", "5", "10", "Rotated files that are kept.", CONF_LIVE,
	    &type_int, GROUP(log.keep), .min = 0, .max = 1000),
	KEY("group.log.max_size", "size, 0 = never", "\"50M\"", "\"10M\"",
	    "A file that would grow beyond is rotated.", CONF_LIVE, &type_size,
	    GROUP(log.max_size_bytes), .min = 4096, .max = TERA),
	KEY("group.log.mode", MODE, "\"0640\"", "\"0644\"", "Mode of log files.", CONF_LIVE,
	    &type_mode, GROUP(log.mode), .max = 0777, .flags = KEY_ACCESS),
	KEY("group.log.overflow", "\"drop\"|\"block\"", "\"drop\"", "\"block\"",
	    "When the destination fails or stalls: count and go on, or let the worker wait.",
	    CONF_LIVE, &type_word, GROUP(log.overflow), .words = CONF_WORDS_OVERFLOW),
	KEY("group.log.owner", OWNER, "", "\"www-data:adm\"", "Owner of log files.", CONF_LIVE,
	    &type_owner, GROUP(log.owner), .flags = KEY_ACCESS),
	KEY("group.log.stderr", "\"merge\"|\"separate\"|\"null\"", "\"merge\"", "\"separate\"",
	    "With stdout, apart from it, or nowhere.", CONF_LIVE, &type_word, GROUP(log.stderr_to),
	    .words = CONF_WORDS_STDERR),
	KEY("group.log.to", "\"file\"|\"journal\"|\"stdout\"|\"null\"",
	    "(\"file\"; as pid 1 \"stdout\")", "\"journal\"", "Where the output of workers goes.",
	    CONF_LIVE, &type_word, GROUP(log.to), .words = CONF_WORDS_LOG_TO),
	KEY("group.nice", "integer", "0", "5", "Nice level.", CONF_RENEW, &type_int, GROUP(nice),
	    .min = -20, .max = 19),
	KEY("group.no_new_privs", "true|false", "false", "true",
	    "No gain of privileges by set-id programs.", CONF_RENEW, &type_bool,
	    GROUP(no_new_privs)),
	KEY("group.notify", "true|false", "(true with ready = \"notify\" or watchdog)", "true",
	    "Give workers a NOTIFY_SOCKET.", CONF_RENEW, &type_bool, GROUP(notify)),
	KEY("group.on_done", "\"keep\"|\"shutdown\"", "\"keep\"", "\"shutdown\"",
	    "When all workers of the group are done.", CONF_LIVE, &type_word, GROUP(on_done),
	    .words = CONF_WORDS_ON_DONE),
	KEY("group.on_failure", "\"quarantine\"|\"shutdown\"|\"ignore\"", "\"quarantine\"",
	    "\"shutdown\"", "When the first worker is quarantined or done with a bad code.",
	    CONF_LIVE, &type_word, GROUP(on_failure), .words = CONF_WORDS_ON_FAILURE),
	KEY("group.oom_score_adj", "integer", "0", "500", "OOM score adjustment.", CONF_RENEW,
	    &type_int, GROUP(oom_score_adj), .min = -1000, .max = 1000),
	KEY("group.orphans", "\"kill\"|\"wait\"|\"leave\"", "\"kill\"", "\"wait\"",
	    "What becomes of descendants when the main process is gone.", CONF_LIVE, &type_word,
	    GROUP(orphans), .words = CONF_WORDS_ORPHANS),
	KEY("group.preload", "[ module or path, ... ]", "[]", "[ \"numpy\", \"app.models\" ]",
	    "What a template loads before it forks workers.", CONF_RENEW, &type_preload,
	    GROUP(preload)),
	KEY("group.preload_errors", "\"fail\"|\"warn\"", "\"fail\"", "\"warn\"",
	    "What a module that cannot be loaded does to the template.", CONF_RENEW, &type_word,
	    GROUP(preload_errors), .words = CONF_WORDS_PRELOAD_ERRORS),
	KEY("group.python", PATH, "\"/usr/bin/python3\"", "\"%d/venv/bin/python\"",
	    "The interpreter of an entry \"pkg.mod:func\"; one of a venv will do.", CONF_RENEW,
	    &type_path, GROUP(python)),
	KEY("group.ready", "\"exec\"|\"notify\"", "\"exec\"", "\"notify\"",
	    "When a worker counts as ready.", CONF_RENEW, &type_word, GROUP(ready),
	    .words = CONF_WORDS_READY),
	KEY("group.restart.delay", DURATION, "\"100ms\"", "\"1s\"", "First delay.", CONF_LIVE,
	    &type_duration, GROUP(restart.delay_ms), .min = 0, .max = DAY),
	KEY("group.restart.factor", "number", "2.0", "1.5", "Growth of the delay.", CONF_LIVE,
	    &type_float, GROUP(restart.factor), .min = 1, .max = 100),
	KEY("group.restart.jitter", "number", "0.1", "0.2",
	    "Share of the delay by which it is varied at random.", CONF_LIVE, &type_float,
	    GROUP(restart.jitter), .min = 0, .max = 1),
	KEY("group.restart.limit", "integer, 0 = none", "10", "5",
	    "More automatic starts of a worker within window: quarantined.", CONF_LIVE, &type_int,
	    GROUP(restart.limit), .min = 0, .max = CONF_WINDOW_MAX),
	KEY("group.restart.max_delay", DURATION, "\"30s\"", "\"1m\"", "Largest delay.", CONF_LIVE,
	    &type_duration, GROUP(restart.max_delay_ms), .min = 0, .max = DAY),
	KEY("group.restart.no_restart_codes", "[ exit code, ... ]", "[]", "[ 2, 64 ]",
	    "Exit codes after which a worker is not started again.", CONF_LIVE, &type_codes,
	    GROUP(restart.no_restart_codes)),
	KEY("group.restart.reset_after", DURATION, "\"10s\"", "\"1m\"",
	    "The first restart after a longer life is immediate.", CONF_LIVE, &type_duration,
	    GROUP(restart.reset_after_ms), .min = 0, .max = YEAR),
	KEY("group.restart.retry", DURATION_EVER, "\"5m\"", "\"never\"",
	    "A quarantined worker is tried once per this time.", CONF_LIVE, &type_duration,
	    GROUP(restart.retry_ms), .min = SECOND, .max = YEAR, .flags = KEY_NEVER),
	KEY("group.restart.success_codes", "[ exit code, ... ]", "[ 0 ]", "[ 0, 3 ]",
	    "Exit codes that are no failure.", CONF_LIVE, &type_codes,
	    GROUP(restart.success_codes)),
	KEY("group.restart.when", "\"always\"|\"failure\"|\"never\"", "\"always\"", "\"failure\"",
	    "After which exits a worker is started again.", CONF_LIVE, &type_word,
	    GROUP(restart.when), .words = CONF_WORDS_WHEN),
	KEY("group.restart.window", DURATION, "\"10m\"", "\"1h\"", "Window of limit.", CONF_LIVE,
	    &type_duration, GROUP(restart.window_ms), .min = SECOND, .max = YEAR),
	KEY("group.settle", DURATION, "\"1s\"", "\"3s\"",
	    "With ready = \"exec\": how long a worker has to live to be ready.", CONF_LIVE,
	    &type_duration, GROUP(settle_ms), .min = 0, .max = DAY),
	KEY("group.sockets", "( { name; listen; ... }, ... )", "[]",
	    "( { name = \"http\"; listen = \"tcp://0.0.0.0:8080\"; } )",
	    "Listening sockets that the daemon holds and passes on (LISTEN_FDS).", CONF_RENEW,
	    &type_sockets, GROUP(sockets)),
	KEY("group.sockets.backlog", "integer", "4096", "128", "Queue of connections.", CONF_RENEW,
	    &type_int, SOCKET(backlog), .min = 1, .max = 1 << 20, .flags = KEY_ELEMENT),
	KEY("group.sockets.listen",
	    "\"tcp://H:P\"|\"tcp6://[H]:P\"|\"unix:///path\"|\"unix:@name\"", "",
	    "\"tcp://0.0.0.0:8080\"", "The address; hosts are literal.", CONF_RENEW, &type_listen,
	    SOCKET(listen), .flags = KEY_ACCESS | KEY_ELEMENT | KEY_PER_WORKER | KEY_REQUIRED),
	KEY("group.sockets.mode", MODE, "\"0666\"", "\"0660\"", "Mode of a unix path.", CONF_RENEW,
	    &type_mode, SOCKET(mode), .max = 0777, .flags = KEY_ACCESS | KEY_ELEMENT),
	KEY("group.sockets.name", "name", "", "\"http\"", "Its name in LISTEN_FDNAMES.", CONF_RENEW,
	    &type_name, SOCKET(name), .flags = KEY_ELEMENT | KEY_REQUIRED),
	KEY("group.sockets.owner", OWNER, "", "\"www-data:www-data\"", "Owner of a unix path.",
	    CONF_RENEW, &type_owner, SOCKET(owner), .flags = KEY_ACCESS | KEY_ELEMENT),
	KEY("group.sockets.reuseport", "true|false", "false", "true",
	    "One socket per worker on the same address.", CONF_RENEW, &type_bool, SOCKET(reuseport),
	    .flags = KEY_ELEMENT),
	KEY("group.start_method", "\"spawn\"|\"forkserver\"|\"fork\"|\"threads\"",
	    "(\"spawn\", or REEVE_START_METHOD)", "\"forkserver\"", "How workers are made.",
	    CONF_RENEW, &type_word, GROUP(start_method), .words = CONF_WORDS_START),
	KEY("group.start_timeout", DURATION_EVER, "\"60s\"", "\"2m\"",
	    "From exec to ready; then the worker is stopped.", CONF_LIVE, &type_duration,
	    GROUP(start_timeout_ms), .min = 1, .max = YEAR, .flags = KEY_NEVER),
	KEY("group.stdin", "\"null\" or path", "\"null\"", "\"/srv/input\"", "Standard input.",
	    CONF_RENEW, &type_stdin, GROUP(stdin_path), .flags = KEY_PER_WORKER),
	KEY("group.stop.extend_max", DURATION, "\"5m\"", "\"1h\"",
	    "How far EXTEND_TIMEOUT_USEC may extend the stop.", CONF_LIVE, &type_duration,
	    GROUP(extend_max_ms), .min = 0, .max = YEAR),
	KEY("group.stop.signal", SIGNAL, "\"TERM\"", "\"INT\"", "Signal of the only step.",
	    CONF_LIVE, &type_signal, GROUP(steps[0].signal), .flags = KEY_SHORTHAND),
	KEY("group.stop.steps", "( { signal; to; wait; }, ... )", "",
	    "( { signal = \"TERM\"; wait = \"5s\"; }, { signal = \"INT\"; to = \"tree\"; } )",
	    "Steps of the stop; SIGKILL to the whole tree follows the last.", CONF_LIVE,
	    &type_steps, 0),
	KEY("group.stop.steps.signal", SIGNAL, "\"TERM\"", "\"INT\"", "Signal of the step.",
	    CONF_LIVE, &type_signal, STEP(signal), .flags = KEY_ELEMENT),
	KEY("group.stop.steps.to", TARGETS, "\"main\"", "\"tree\"", "Who gets the signal.",
	    CONF_LIVE, &type_word, STEP(to), .words = CONF_WORDS_TARGET, .flags = KEY_ELEMENT),
	KEY("group.stop.steps.wait", DURATION_EVER, "\"10s\"", "\"5s\"",
	    "Time until the next step, \"never\" only in the last.", CONF_LIVE, &type_duration,
	    STEP(wait_ms), .min = 0, .max = YEAR, .flags = KEY_ELEMENT | KEY_NEVER),
	KEY("group.stop.timeout", DURATION_EVER, "\"10s\"", "\"30s\"", "Time until SIGKILL.",
	    CONF_LIVE, &type_duration, GROUP(steps[0].wait_ms), .min = 0, .max = YEAR,
	    .flags = KEY_SHORTHAND | KEY_NEVER),
	KEY("group.stop.to", TARGETS, "\"main\"", "\"pgrp\"", "Who gets the signal.", CONF_LIVE,
	    &type_word, GROUP(steps[0].to), .words = CONF_WORDS_TARGET, .flags = KEY_SHORTHAND),
	KEY("group.template.fallback", "\"none\"|\"spawn\"", "\"none\"", "\"spawn\"",
	    "What starts workers while no template can fork.", CONF_RENEW, &type_word,
	    GROUP(template.fallback), .words = CONF_WORDS_FALLBACK),
	KEY("group.template.fork_timeout", DURATION, "\"5s\"", "\"2s\"",
	    "From the request of a fork to the worker's first message.", CONF_RENEW, &type_duration,
	    GROUP(template.fork_timeout_ms), .min = 100, .max = DAY),
	KEY("group.template.load_timeout", DURATION_EVER, "\"60s\"", "\"5m\"",
	    "From exec until everything is loaded; then it is killed.", CONF_RENEW, &type_duration,
	    GROUP(template.load_timeout_ms), .min = 100, .max = YEAR, .flags = KEY_NEVER),
	KEY("group.template.max_age", DURATION_EVER, "\"never\"", "\"6h\"",
	    "A template that is older is replaced by the next one.", CONF_RENEW, &type_duration,
	    GROUP(template.max_age_ms), .min = SECOND, .max = YEAR, .flags = KEY_NEVER),
	KEY("group.template.max_forks", "integer, 0 = no bound", "0", "10000",
	    "A template that has forked so often is replaced by the next one.", CONF_RENEW,
	    &type_int, GROUP(template.max_forks), .min = 0, .max = 1000000000),
	KEY("group.template.spares", "integer", "0", "1",
	    "So many workers are forked ahead of their next start.", CONF_LIVE, &type_int,
	    GROUP(template.spares), .min = 0, .max = CONF_WORKERS_MAX),
	KEY("group.umask", MODE, "\"0022\"", "\"0027\"", "File mode creation mask.", CONF_RENEW,
	    &type_mode, GROUP(umask), .max = 0777),
	KEY("group.user", OWNER, "(the daemon's)", "\"www-data\"", "Who the workers run as.",
	    CONF_RENEW, &type_user, GROUP(user), .flags = KEY_ACCESS | KEY_EARLY),
	KEY("group.watchdog", DURATION_EVER, "\"never\"", "\"30s\"",
	    "A ready worker that gives no sign of life (WATCHDOG=1) for so long is ended.",
	    CONF_LIVE, &type_duration, GROUP(watchdog_ms), .min = CONF_WATCHDOG_MIN_MS,
	    .max = CONF_WATCHDOG_MAX_MS, .flags = KEY_NEVER),
	KEY("group.workers", "integer, \"cpus\", \"cpus/2\" or \"cpus*2\"", "1", "4",
	    "How many alike workers.", CONF_LIVE, &type_workers, GROUP(workers), .min = 0,
	    .max = CONF_WORKERS_MAX),
};

const struct conf_key *conf_keys(size_t *ret_n)
{
	*ret_n = ARRAY_LEN(keys);
	return keys;
}

/* The first row that is not less than path. */
static size_t lower_bound(const char *path)
{
	size_t low = 0, high = ARRAY_LEN(keys);

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (strcmp(keys[mid].path, path) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct conf_key *key_find(const char *path)
{
	size_t i = lower_bound(path);

	return i < ARRAY_LEN(keys) && strcmp(keys[i].path, path) == 0 ? &keys[i] : NULL;
}

const struct conf_key *key_find_block(const char *prefix)
{
	size_t i = lower_bound(prefix);

	return i < ARRAY_LEN(keys) && strncmp(keys[i].path, prefix, strlen(prefix)) == 0 ? &keys[i]
											 : NULL;
}

const char *key_short(const struct conf_key *k)
{
	return strchr(k->path, '.') + 1;
}

const char *key_last(const struct conf_key *k)
{
	return strrchr(k->path, '.') + 1;
}

bool key_is_daemon(const struct conf_key *k)
{
	return k->path[0] == 'd';
}
