/* The table of verbs, and where people who come from other tools find theirs. */
#include "ctl.h"

#include "base/mem.h"

#include <string.h>

#define ANY    ((size_t)-1)
#define CHANGE (OPT(NO_WAIT) | OPT(TIMEOUT))

/* A macro, since clang-format stretches long tables of braces beyond all bounds. */
#define VERB(...)                                                                                  \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}

const struct verb verbs[] = {
	VERB("check", "[FILE]", "say what is wrong in a configuration file", OPT(OFFLINE), 0, 1,
	     cmd_check),
	VERB("doctor", "", "what the system gives against what the configuration needs", 0, 0, 0,
	     cmd_doctor),
	VERB("dump", "[FILE]", "the configuration in force, or of FILE, complete and in order",
	     OPT(OFFLINE), 0, 1, cmd_dump),
	VERB("events", "[TARGET…]", "what happened to workers",
	     OPT(FOLLOW) | OPT(SINCE) | OPT(TIMEOUT), 0, ANY, cmd_events),
	VERB("help", "[VERB]", "this", 0, 0, 1, cmd_help),
	VERB("kill", "TARGET…", "send a signal", OPT(SIGNAL) | OPT(TO) | OPT(TIMEOUT), 1, ANY,
	     cmd_kill),
	VERB("logs", "[TARGET…]", "the last lines that workers wrote",
	     OPT(FOLLOW) | OPT(LINES) | OPT(SINCE) | OPT(STREAM), 0, ANY, cmd_logs),
	VERB("plan", "[FILE]", "what a reload would do, and why", OPT(OFFLINE) | OPT(TIMEOUT), 0, 1,
	     cmd_plan),
	VERB("ready", "[TARGET…]", "true if all is ready", OPT(TIMEOUT), 0, ANY, cmd_ready),
	VERB("reload", "[GROUP…]", "read the configuration again; with GROUP: renew its workers",
	     CHANGE | OPT(DRY_RUN), 0, ANY, cmd_reload),
	VERB("reset", "TARGET…", "leave quarantine, zero the counters", OPT(TIMEOUT), 1, ANY,
	     cmd_reset),
	VERB("restart", "TARGET…", "stop and start, or start what is stopped", CHANGE, 1, ANY,
	     cmd_restart),
	VERB("run", "[-t] -- COMMAND…", "supervise one command in the foreground, its whole tree",
	     OPT(TERMINAL) | OPT(TIMEOUT), 1, ANY, cmd_run),
	VERB("scale", "GROUP N", "change the number of workers", CHANGE, 2, 2, cmd_scale),
	VERB("show", "TARGET…", "everything about a worker", OPT(TIMEOUT), 1, ANY, cmd_show),
	VERB("shutdown", "", "end the daemon and all it supervises", CHANGE | OPT(COLD), 0, 0,
	     cmd_shutdown),
	VERB("start", "TARGET…", "start, also out of quarantine", CHANGE, 1, ANY, cmd_start),
	VERB("status", "[TARGET…]", "groups, and the workers that are not well",
	     OPT(WATCH) | OPT(ALL) | OPT(FAILED) | OPT(MEMORY) | OPT(TIMEOUT), 0, ANY, cmd_status),
	VERB("stop", "TARGET…", "stop, until the whole tree is gone", CHANGE | OPT(COLD), 1, ANY,
	     cmd_stop),
	VERB("tree", "[TARGET…]", "processes; with --graph the order of groups",
	     OPT(GRAPH) | OPT(TIMEOUT), 0, ANY, cmd_tree),
	VERB("upgrade", "", "replace the daemon's program by the one on disk, workers stay",
	     OPT(TIMEOUT), 0, 0, cmd_upgrade),
	VERB("version", "", "versions of reevectl and of the daemon", OPT(TIMEOUT), 0, 0,
	     cmd_version),
	VERB("wait", "TARGET… --for STATE", "wait until the workers are in a state",
	     OPT(FOR) | OPT(TIMEOUT), 1, ANY, cmd_wait),
};
const size_t n_verbs = ARRAY_LEN(verbs);

static const struct {
	const char *theirs, *ours;
} pointers[] = {
	{ "add", "reload" },
	{ "avail", "status" },
	{ "cat", "dump" },
	{ "config", "dump" },
	{ "daemon-reload", "reload" },
	{ "describe", "show" },
	{ "daemon-reexec", "upgrade" },
	{ "down", "stop" },
	{ "disable", "stop" },
	{ "enable", "start" },
	{ "exit", "shutdown" },
	{ "freeze", "kill -s STOP" },
	{ "info", "show" },
	{ "inspect", "show" },
	{ "is-active", "ready" },
	{ "journal", "logs" },
	{ "list", "status" },
	{ "log", "logs" },
	{ "ls", "status" },
	{ "monit", "status -w" },
	{ "pid", "show" },
	{ "ps", "status" },
	{ "quit", "shutdown" },
	{ "remove", "reload" },
	{ "reread", "plan" },
	{ "roll", "reload" },
	{ "signal", "kill -s" },
	{ "stats", "status" },
	{ "tail", "logs" },
	{ "terminate", "stop" },
	{ "test", "check" },
	{ "thaw", "kill -s CONT" },
	{ "top", "status -w" },
	{ "up", "start" },
	{ "update", "reload" },
	{ "validate", "check" },
	{ "watch", "status -w" },
};

const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < n_verbs; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

const char *verb_pointer(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(pointers); i++)
		if (strcmp(pointers[i].theirs, name) == 0)
			return pointers[i].ours;
	return NULL;
}
