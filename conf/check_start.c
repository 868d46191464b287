/*
 * Which keys go together with which start method. A combination whose promise could not be kept is
 * an error that says why; what stands in `defaults` need fit no group in particular.
 */
#include "check.h"

#include "base/mem.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define BIT(method) (1u << CONF_START_##method)

/* A macro for the same reason as in table.c. */
#define ROW(...)                                                                                   \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}

/* Keys that mean something to some methods only. */
static const struct {
	const char *key;
	unsigned methods;
	const char *why;
} needs[] = {
	ROW("group.preload", BIT(FORKSERVER), "modules are loaded ahead by a template only"),
	ROW("group.preload_errors", BIT(FORKSERVER), "only a template loads modules ahead"),
	ROW("group.fork_allow_threads", BIT(FORKSERVER) | BIT(FORK),
	    "it is about the threads of a process that is forked"),
	ROW("group.template.fallback", BIT(FORKSERVER), "it is for a template that cannot fork"),
	ROW("group.template.fork_timeout", BIT(FORKSERVER) | BIT(FORK), "nothing is forked"),
	ROW("group.template.load_timeout", BIT(FORKSERVER) | BIT(FORK) | BIT(THREADS),
	    "each worker loads by itself, within start_timeout"),
	ROW("group.template.max_age", BIT(FORKSERVER), "only a template is renewed by age"),
	ROW("group.template.max_forks", BIT(FORKSERVER),
	    "only a template is renewed by its number of forks"),
	ROW("group.template.spares", BIT(FORKSERVER), "only a template forks workers ahead"),
};

static const char *method_name(const struct conf_group *g)
{
	return conf_word(CONF_WORDS_START, g->start_method);
}

/* Behind the method's name: who has chosen it, if not the group. */
static const char *chosen_by(const struct loading *l, size_t i)
{
	if (l->by_env[i])
		return " (by REEVE_START_METHOD)";
	return load_written_here(l, i, "group.start_method") ? "" : " (not set in this group)";
}

static void say(struct loading *l, size_t i, const char *key, const char *what, const char *why,
		const char *mended)
{
	load_problem(l, i, key, false, "%s with start_method = \"%s\"%s: %s%s%s", what,
		     method_name(&l->conf->groups[i]), chosen_by(l, i), why,
		     mended[0] ? "; write: " : "", mended);
}

static void check_needs(struct loading *l, size_t i)
{
	unsigned bit = 1u << l->conf->groups[i].start_method;

	for (size_t n = 0; n < ARRAY_LEN(needs) && !l->by_env[i]; n++)
		if (!(needs[n].methods & bit) && load_asked_for(l, i, needs[n].key))
			say(l, i, needs[n].key, key_short(key_find(needs[n].key)), needs[n].why,
			    "start_method = \"forkserver\";");
}

/* A program that never asks for its channel; what it executes could, so it has to be named. */
static bool is_shell(const char *program)
{
	static const char *const shells[] = {
		"sh", "ash", "bash", "dash", "ksh", "zsh", "busybox"
	};
	const char *slash = strrchr(program, '/');

	for (size_t s = 0; s < ARRAY_LEN(shells); s++)
		if (strcmp(slash ? slash + 1 : program, shells[s]) == 0)
			return true;
	return false;
}

static void check_command(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	bool one = g->start_method !=
		   CONF_START_FORK; /* a seed and its copies have words of their own */

	if (!load_written_here(l, i, "group.start_method"))
		say(l, i, "group.start_method", "a command",
		    "only a program that speaks on its channel (reeve-template(7)) can be more "
		    "than "
		    "spawned, which its own group has to say",
		    "start_method = \"spawn\";");
	else if (is_shell(g->command[0]))
		say(l, i, "group.command", g->command[0],
		    "a shell does not speak on the channel (reeve-template(7)); name the program "
		    "itself, or an entry",
		    "start_method = \"spawn\";");
	else if (g->start_method == CONF_START_FORKSERVER &&
		 g->template.fallback == CONF_FALLBACK_SPAWN &&
		 load_written_here(l, i, "group.template.fallback"))
		say(l, i, "group.template.fallback", "template.fallback = \"spawn\"",
		    "this command is a template and no worker, so it cannot stand in for one",
		    "fallback = \"none\";");
	for (char **word = g->command; one && *word; word++) {
		if (!conf_is_per_worker(*word))
			continue;
		say(l, i, "group.command", *word,
		    "one process serves all workers; they have their number from its messages",
		    "start_method = \"spawn\";");
		return;
	}
}

/* pkg.mod; what is beyond ASCII Python itself knows. */
static bool is_module(const char *name)
{
	bool first = true;

	for (; *name; name++) {
		unsigned char c = (unsigned char)*name;

		if (c == '.' ? first : c < 0x80 && c != '_' && !(first ? isalpha(c) : isalnum(c)))
			return false;
		first = c == '.';
	}
	return !first;
}

static void check_entry(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	bool native = conf_entry_is_native(g->entry);

	if (native && load_asked_for(l, i, "group.python"))
		load_problem(l, i, "group.python", true,
			     "python is not used: entry = \"%.200s\" is a native module", g->entry);
	for (char **p = g->preload; native && p && *p; p++)
		if (load_written_here(l, i, "group.preload") && (*p)[0] != '/')
			load_problem(l, i, "group.preload", false,
				     "preload: \"%.100s\" is no path, and the template of a native "
				     "module loads native modules; write: preload = [ "
				     "\"/path/%.100s.so\" ];",
				     *p, *p);
	for (char **p = g->preload; !native && p && *p; p++)
		if (load_written_here(l, i, "group.preload") && !is_module(*p))
			load_problem(
				l, i, "group.preload", false,
				"preload: \"%.100s\" is no name of a Python module (pkg.mod), and "
				"that is what the template of a Python function loads",
				*p);
}

/* What one process has once cannot differ from slot to slot. */
static void check_once(struct loading *l, size_t i, const char *key, const char *text,
		       const char *mended)
{
	char what[300];

	if (!text || !conf_is_per_worker(text))
		return;
	snprintf(what, sizeof(what), "%s \"%.200s\"", key_short(key_find(key)), text);
	say(l, i, key, what, "all slots are one process, which has this once", mended);
}

static void check_threads_texts(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	char what[96];

	check_once(l, i, "group.cwd", g->cwd, "cwd = \"/\";");
	check_once(l, i, "group.stdin", g->stdin_path, "stdin = \"null\";");
	if (g->log.to == CONF_LOG_FILE)
		check_once(l, i, "group.log.file", g->log.file,
			   "file = \"/var/log/reeve/%g.log\";");
	for (char **f = g->env_files; f && *f; f++)
		check_once(l, i, "group.env_file", *f, "");
	for (size_t s = 0; s < g->n_sockets; s++) {
		if (!g->sockets[s].per_worker)
			continue;
		snprintf(what, sizeof(what), "sockets: %s", g->sockets[s].name);
		say(l, i, "group.sockets", what,
		    "one socket for each worker, but all slots are one process, which has it once",
		    g->sockets[s].reuseport ? "reuseport = false;" : "");
	}
}

/* Files and cores are of the host, as the manual says; a worker's share of the others is none. */
static void check_threads_limits(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	char what[64], why[160];

	if (g->workers < 2 || !load_written_here(l, i, "group.limits"))
		return;
	for (size_t n = 0; n < g->n_limits; n++) {
		int resource = g->limits[n].resource;

		if (resource == RLIMIT_NOFILE || resource == RLIMIT_CORE)
			continue;
		snprintf(what, sizeof(what), "limits.%s", limit_name(resource));
		snprintf(why, sizeof(why),
			 "a limit is one process's, and its %d workers would share it instead of "
			 "having it each",
			 g->workers);
		say(l, i, "group.limits", what, why, "start_method = \"spawn\";");
	}
}

/* What speaks of a worker as a process, which a slot of a threads host is not. */
static void check_threads_process(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	const char *at = load_written(l, i, "group.stop.steps")	   ? "group.stop.steps"
			 : load_written(l, i, "group.stop.signal") ? "group.stop.signal"
								   : "group.stop.to";

	if (load_written_here(l, i, at) &&
	    (g->n_steps > 1 || g->steps[0].signal != SIGTERM || g->steps[0].to != CONF_TO_MAIN))
		say(l, i, at, "stop",
		    "a signal would reach all slots, which are one process; one slot is asked by a "
		    "message",
		    "stop = { timeout = \"10s\"; };");
	if (load_written_here(l, i, "group.notify") && g->notify && g->ready != CONF_READY_NOTIFY)
		say(l, i, "group.notify", "notify",
		    "slots speak over the host's channel, none has a socket of its own",
		    "ready = \"notify\";");
}

static void check_threads(struct loading *l, size_t i)
{
	check_threads_process(l, i);
	check_threads_texts(l, i);
	check_threads_limits(l, i);
}

/* Back to the preset, so that a change of what does not concern a group renews nothing in it. */
static void forget_unused(struct loading *l, size_t i)
{
	struct conf_group *g = &l->conf->groups[i];
	struct reading r = { .options = l->options, .no_host = true, .base = g };

	for (size_t n = 0; n < ARRAY_LEN(needs); n++)
		if (!(needs[n].methods & 1u << g->start_method))
			block_presets(&r, needs[n].key);
	if (!g->entry || conf_entry_is_native(g->entry))
		block_presets(&r, "group.python");
}

void check_start(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];

	check_needs(l, i);
	if (g->entry)
		check_entry(l, i);
	else if (g->start_method != CONF_START_SPAWN)
		check_command(l, i);
	if (g->start_method == CONF_START_FORKSERVER && g->template.spares > 0 && g->env_files &&
	    g->env_files[0])
		load_problem(l, i, "group.template.spares", false,
			     "template.spares = %d with env_file: it is read at each start, and a "
			     "spare has read it long before; write: spares = 0;",
			     g->template.spares);
	if (g->start_method == CONF_START_FORKSERVER && g->template.spares > g->workers)
		load_problem(l, i, "group.template.spares", true,
			     "template.spares = %d, but only %d worker%s can have a spare",
			     g->template.spares, g->workers, g->workers == 1 ? "" : "s");
	if (g->start_method == CONF_START_THREADS)
		check_threads(l, i);
	forget_unused(l, i);
}
