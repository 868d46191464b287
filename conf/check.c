/* Checks of what concerns more than one key of a group. What depends on the host is in
 * check_host.c, what concerns more than one group in check_order.c and check_claims.c. */
#include "check.h"

#include "base/mem.h"
#include "listen.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define RUNTIME_DIR_MAX 71 /* the names of notify sockets below it need the rest of sun_path */
#define EXEC_BYTES_MAX                                                                             \
	(2000 * 1024) /* execve(2): a quarter of the default stack limit of 8 MiB                  \
		       */

/* The delay before the n-th automatic start in a row (from 1), without jitter. */
static double delay_before(const struct conf_restart *r, int n)
{
	return fmin((double)r->delay_ms * pow(r->factor, n - 1), (double)r->max_delay_ms);
}

static void check_limit(struct loading *l, size_t i)
{
	const struct conf_restart *r = &l->conf->groups[i].restart;
	const char *at = load_written(l, i, "group.restart.limit") ? "group.restart.limit"
								   : "group.restart.delay";
	double last = delay_before(r, r->limit), sum = 0;
	char a[48], b[48];

	for (int n = 1; n <= r->limit; n++)
		sum += delay_before(r, n);
	if (last < (double)r->max_delay_ms)
		load_problem(l, i, at, true,
			     "restart.limit = %d is reached when the delay has grown to %s only, "
			     "so max_delay = %s is never used",
			     r->limit, duration_format((int64_t)last, a),
			     duration_format(r->max_delay_ms, b));
	if (sum * (1 - r->jitter) >= (double)r->window_ms)
		load_problem(
			l, i, "group.restart.window", true,
			"restart.limit = %d is never reached: so many starts take %s, more than "
			"window = %s",
			r->limit, duration_format((int64_t)sum, a),
			duration_format(r->window_ms, b));
}

static bool restart_written(const struct loading *l, size_t i)
{
	static const char *const keys[] = { "delay", "factor",	  "jitter",
					    "limit", "max_delay", "window" };
	char path[64];

	for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
		snprintf(path, sizeof(path), "group.restart.%s", keys[k]);
		if (load_written(l, i, path))
			return true;
	}
	return false;
}

static void check_restart(struct loading *l, size_t i)
{
	const struct conf_restart *r = &l->conf->groups[i].restart;
	char a[48], b[48];

	if (r->delay_ms > r->max_delay_ms)
		load_problem(
			l, i,
			load_written(l, i, "group.restart.max_delay") ? "group.restart.max_delay"
								      : "group.restart.delay",
			false,
			"restart.delay = %s is above max_delay = %s; write: max_delay = \"%s\";",
			duration_format(r->delay_ms, a), duration_format(r->max_delay_ms, b), a);
	else if (r->delay_ms == 0 && r->limit == 0 && r->when != CONF_WHEN_NEVER)
		load_problem(l, i, "group.restart.delay", false,
			     "restart.delay = 0 without a limit restarts without end and without "
			     "pause; write: limit = 10;");
	else if (r->limit > 0 && r->when != CONF_WHEN_NEVER && restart_written(l, i))
		check_limit(l, i);
}

static void check_ready(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	char a[48], b[48];

	if (g->ready == CONF_READY_NOTIFY && !g->notify)
		load_problem(l, i, "group.notify", false,
			     "ready = \"notify\" needs the NOTIFY_SOCKET; write: notify = true;");
	else if (g->watchdog_ms != DURATION_NEVER && !g->notify &&
		 g->start_method != CONF_START_THREADS)
		load_problem(l, i, "group.notify", false,
			     "watchdog needs the NOTIFY_SOCKET; write: notify = true;");
	if (g->ready == CONF_READY_EXEC && g->settle_ms >= g->start_timeout_ms)
		load_problem(l, i,
			     load_written(l, i, "group.settle") ? "group.settle"
								: "group.start_timeout",
			     false,
			     "settle = %s is not below start_timeout = %s: no worker could become "
			     "ready; write: start_timeout = \"%s\";",
			     duration_format(g->settle_ms, a),
			     duration_format(g->start_timeout_ms, b), "10m");
}

static void check_sockets(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	char why[200], mended[160];

	for (size_t s = 0; s < g->n_sockets; s++) {
		const struct conf_socket *k = &g->sockets[s];
		bool tcp = strncmp(k->listen, "tcp", 3) == 0;

		if (strncmp(k->listen, "unix:/", 6) != 0 && (k->has_owner || k->mode != 0666))
			load_problem(l, i, "group.sockets", false,
				     "sockets: %s: mode and owner belong to a unix path and limit "
				     "nothing at %s; leave them out",
				     k->name, k->listen);
		if (k->reuseport && !tcp)
			load_problem(l, i, "group.sockets", false,
				     "sockets: %s: reuseport is for tcp only; write: "
				     "reuseport = false;",
				     k->name);
		if (g->workers > 1 && conf_is_per_worker(k->listen) &&
		    listen_check(k->listen, g->workers - 1, why, sizeof(why), mended,
				 sizeof(mended)) < 0)
			load_problem(l, i, "group.sockets", false,
				     "sockets: %s: listen = \"%s\" of worker %d: %s; write: "
				     "workers = 1;",
				     k->name, k->listen, g->workers - 1, why);
	}
}

#define BIT(to) (1u << CONF_LOG_##to)

/* Keys of the log that mean something to some destinations only. */
static const struct {
	const char *key;
	unsigned to;
} log_keys[] = {
	{ "group.log.file", BIT(FILE) },
	{ "group.log.format", BIT(FILE) | BIT(STDOUT) },
	{ "group.log.keep", BIT(FILE) },
	{ "group.log.max_size", BIT(FILE) },
	{ "group.log.mode", BIT(FILE) },
	{ "group.log.overflow", BIT(FILE) | BIT(STDOUT) | BIT(JOURNAL) },
	{ "group.log.owner", BIT(FILE) },
	{ "group.log.stderr", BIT(FILE) | BIT(STDOUT) | BIT(JOURNAL) },
};

/* A dump names the default file, too. */
static bool is_default_file(const struct loading *l, const struct conf_group *g, const char *key)
{
	size_t n = l->log_dir ? strlen(l->log_dir) : 0;

	return strcmp(key, "group.log.file") == 0 && n > 0 && g->log.file &&
	       strncmp(g->log.file, l->log_dir, n) == 0 && g->log.file[n] == '/' &&
	       strncmp(g->log.file + n + 1, g->name, strlen(g->name)) == 0 &&
	       strcmp(g->log.file + n + 1 + strlen(g->name), ".log") == 0;
}

static void check_log_keys(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	const char *at = NULL;
	auto_str unused = { 0 };

	for (size_t k = 0; k < ARRAY_LEN(log_keys); k++) {
		const char *key = log_keys[k].key;

		if (log_keys[k].to & 1u << g->log.to || !load_asked_for(l, i, key) ||
		    is_default_file(l, g, key))
			continue;
		str_addf(&unused, "%s%s", at ? ", " : "", key_short(key_find(key)));
		at = at ? at : key;
	}
	if (at && unused.data)
		load_problem(l, i, at, true, "%s: without effect with to = \"%s\"", unused.data,
			     conf_word(CONF_WORDS_LOG_TO, g->log.to));
}

static size_t bytes_of(char *const *list)
{
	size_t n = 0;

	for (; list && *list; list++)
		n += strlen(*list) + 1 + sizeof(char *);
	return n;
}

static void check_exec_size(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];
	size_t n = bytes_of(g->command) + bytes_of(g->env);

	if (n > EXEC_BYTES_MAX)
		load_problem(l, i, "group.command", false,
			     "command and env take %zu bytes; a program can be given about %d; "
			     "write: env_file = [ ... ]; or pass a file's name",
			     n, EXEC_BYTES_MAX);
}

void check_group(struct loading *l, size_t i)
{
	check_restart(l, i);
	check_ready(l, i);
	check_sockets(l, i);
	check_log_keys(l, i);
	check_exec_size(l, i);
	check_start(l, i);
	if (!l->options->offline)
		check_host(l, i);
}

static void check_daemon(struct loading *l)
{
	const struct conf_daemon *d = &l->conf->daemon;
	const char *file = l->sources[0].path;

	if (strlen(d->runtime_dir) > RUNTIME_DIR_MAX)
		report_add(l->report, false, file, l->runtime_dir_line,
			   "daemon: runtime_dir = \"%.120s\": %zu bytes; the sockets in it leave "
			   "room for %d; "
			   "write: runtime_dir = \"/run/reeve\";",
			   d->runtime_dir, strlen(d->runtime_dir), RUNTIME_DIR_MAX);
	if (strlen(d->control.socket) > 107)
		report_add(l->report, false, file, l->runtime_dir_line,
			   "daemon: control.socket = \"%.120s\": a unix socket's path has at most "
			   "107 bytes; "
			   "for example: socket = \"/run/reeve/control.sock\";",
			   d->control.socket);
}

/* Valid, and nearly always a mistake in a path. Disabled groups are somebody's intention. */
static void check_empty(struct loading *l)
{
	if (l->conf->n_groups == 0 && l->n_found == 0 && l->report->errors == 0)
		report_add(l->report, true, l->sources[0].path, 0,
			   "no groups: nothing will run%s%.200s%s",
			   l->unmatched ? "; no file matches include = [ \"" : "",
			   l->unmatched ? l->unmatched : "", l->unmatched ? "\" ]" : "");
}

void check_all(struct loading *l)
{
	long long workers = 0;

	check_daemon(l);
	check_empty(l);
	for (size_t i = 0; i < l->conf->n_groups; i++)
		workers += l->conf->groups[i].workers;
	if (workers > CONF_WORKERS_MAX) {
		report_add(l->report, false, l->sources[0].path, 0,
			   "%lld workers in all groups; at most %d are possible", workers,
			   CONF_WORKERS_MAX);
		return;
	}
	check_order(l);
	check_claims(l);
}
