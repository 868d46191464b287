/*
 * Resolves everything a child needs into its plan: after this nothing is looked up any more. Owns
 * nothing: memory and descriptors are the job's.
 */
#include "manager/spawn_job.h"

#include "base/mem.h"
#include "manager/entry.h"
#include "manager/evidence.h"
#include "manager/notify.h"
#include "manager/sockets.h"
#include "manager/spawn.h"
#include "manager/template.h"
#include "manager/tree.h"
#include "manager/userns.h"
#include "manager/watchdog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void plan_reset(struct job *job, struct manager *m, const struct own_values *own)
{
	struct ledger_life *life = ledger_life(&m->ledger, job->row);

	words_clear(&job->env);
	words_clear(&job->argv);
	words_clear(&job->texts);
	job->n_held = 0;
	job->plan = (struct child_plan){ .life = life,
					 .header = m->ledger.h,
					 .incarnation = life->incarnation,
					 .parent = m->ledger.h->keeper_pid,
					 .stdio = { own->null_fd, own->null_fd, own->null_fd },
					 .cgroup_procs = -1,
					 .cwd = "/",
					 .umask = 0022 };
}

static int out_of_memory(struct diag *d)
{
	return diag_set(d, -ENOMEM, "out of memory");
}

/* Every leaf is made before the clone that puts the child into it. */
static int plan_leaf(struct job *job, struct manager *m, int *ret_leaf, struct diag *d)
{
	int fd = tree_make(m, job->row);

	*ret_leaf = -1;
	if (fd == -ENOTSUP)
		return 0;
	if (fd < 0)
		return diag_set(d, fd, "making its cgroup: %s", strerror(-fd));
	job->plan.life->in_cgroup = 1;
	*ret_leaf = job_hold(job, fd);
	return 0;
}

/* The process has a channel: it forks workers, or is to be able to. */
static bool speaks(const struct worker *w)
{
	return w->slot->kind != SLOT_WORKER ||
	       (w->slot->kind == SLOT_WORKER && w->group->conf->start_method == CONF_START_FORK);
}

static int plan_argv(struct job *job, const struct worker *w, const struct conf_worker *who,
		     struct diag *d)
{
	const struct conf_group *g = w->group->conf;
	auto_str text = { 0 };

	if (g->entry && handover_pending(job->plan.life))
		words_add(&job->argv, g->entry); /* what it is called; nothing is executed */
	else if (g->entry)
		entry_argv(&job->argv, g,
			   w->slot->kind == SLOT_HOST ? ENTRY_THREADS
			   : speaks(w)		      ? ENTRY_TEMPLATE
						      : ENTRY_SPAWN);
	for (char **word = g->command; word && *word; word++) {
		text.len = 0;
		conf_expand(*word, who, &text);
		if (text.failed)
			return out_of_memory(d);
		words_add(&job->argv, text.data);
	}
	return words_finish(&job->argv, &job->plan.argv, d);
}

/* A bare name is tried in each directory of the worker's own PATH, as its user and by the child,
 * so that no file system can hold us up. */
static int add_candidates(struct words *texts, const char *command, const char *path)
{
	char place[4096];
	int n = 0;

	if (strchr(command, '/')) {
		words_add(texts, command);
		return 1;
	}
	while (*path && n < CHILD_CANDIDATES) {
		size_t len = strcspn(path, ":");

		/* what is relative means something else in every working directory */
		if (*path == '/' && len + strlen(command) + 2 <= sizeof(place)) {
			snprintf(place, sizeof(place), "%.*s/%s", (int)len, path, command);
			words_add(texts, place);
			n++;
		}
		path += len;
		path += *path == ':';
	}
	return n;
}

static int plan_texts(struct job *job, const struct conf_group *g, const struct conf_worker *who,
		      struct diag *d)
{
	const char *path = env_get(&job->env, "PATH"), *command = job->plan.argv[0];
	auto_str text = { 0 };
	char **at;
	int n, r;

	if (!*command)
		return diag_set(d, -EINVAL, "the command is empty");
	n = add_candidates(&job->texts, command, path ? path : ENV_PATH);
	if (n == 0)
		return diag_set(d, -ENOENT, "%s: PATH names no directory", command);
	conf_expand(g->cwd ? g->cwd : "/", who, &text);
	str_add_bytes(&text, "", 1);
	if (g->stdin_path)
		conf_expand(g->stdin_path, who, &text);
	if (text.failed)
		return out_of_memory(d);
	words_add(&job->texts, text.data);
	words_add(&job->texts, text.data + strlen(text.data) + 1);
	r = words_finish(&job->texts, &at, d);
	if (r < 0)
		return r;
	memcpy(job->plan.candidates, at, (size_t)n * sizeof(*at));
	job->plan.candidates[n] = NULL;
	job->plan.cwd = at[n];
	job->plan.stdin_path = g->stdin_path ? at[n + 1] : NULL;
	return 0;
}

static int plan_sockets(struct job *job, struct worker *w, struct str *names, struct diag *d)
{
	int n = 0;

	if (w->group->conf->n_sockets > 0)
		n = sockets_for(w, job->plan.pass, names, d);
	if (n < 0)
		return n;
	job->plan.n_pass = n;
	return names->failed ? out_of_memory(d) : 0;
}

static void say_who(struct words *env, struct worker *w, uint32_t row)
{
	const struct ledger_life *life = ledger_life(&w->m->ledger, row);
	char marker[EVIDENCE_MARKER];

	evidence_marker(w->m, row, marker);
	env_set(env, "REEVE_GROUP", w->group->row->name);
	if (w->slot->kind == SLOT_WORKER)
		env_setf(env, "REEVE_INDEX", "%u", w->slot->index);
	env_set(env, "REEVE_WORKER", w->name);
	env_setf(env, "REEVE_INCARNATION", "%u", life->incarnation);
	env_setf(env, "REEVE_GENERATION", "%u", life->generation);
	env_setf(env, "REEVE_COUNT", "%d", group_workers_wanted(w->group));
	env_set(env, "REEVE_ID", marker);
}

struct said {
	char notify[112], journal[48];
	struct str names; /* of the passed sockets */
	int n_sockets;
};

/* Libraries that start threads when they are loaded must not do so in a template (PY04). */
static void single_threaded(struct words *env)
{
	static const char *const names[] = {
		"OMP_NUM_THREADS",	  "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
		"BLIS_NUM_THREADS",	  "NUMEXPR_NUM_THREADS",  "RAYON_NUM_THREADS",
		"VECLIB_MAXIMUM_THREADS",
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		env_set(env, names[i], "1");
}

#define PID_ROOM "00000000000" /* the child writes its own */

/* What it is told once and held to, see worker_watchdog(). */
static void say_watchdog(struct words *env, const struct worker *w, struct ledger_life *life)
{
	life->watchdog_told_ms = watchdog_to_tell(w->group->conf);
	if (!life->watchdog_told_ms)
		return;
	env_setf(env, "WATCHDOG_USEC", "%" PRId64, life->watchdog_told_ms * 1000);
	env_set(env, "WATCHDOG_PID", PID_ROOM);
}

static int plan_env(struct job *job, struct worker *w, const struct said *said, struct diag *d)
{
	struct words *env = &job->env;
	int r;

	if (w->slot->kind == SLOT_TEMPLATE)
		single_threaded(env);
	say_who(env, w, job->row);
	if (job->plan.n_pass > said->n_sockets)
		env_setf(env, CHANNEL_ENV, "%d", 3 + said->n_sockets);
	if (*said->notify) {
		env_set(env, "NOTIFY_SOCKET", said->notify);
		say_watchdog(env, w, job->plan.life);
	}
	if (*said->journal)
		env_set(env, "JOURNAL_STREAM", said->journal);
	if (said->n_sockets > 0) {
		env_setf(env, "LISTEN_FDS", "%d", said->n_sockets);
		env_set(env, "LISTEN_FDNAMES", said->names.data ? said->names.data : "");
		env_set(env, "LISTEN_PID", PID_ROOM);
	}
	r = words_finish(env, &job->plan.envp, d);
	if (r < 0)
		return r;
	if (said->n_sockets > 0)
		job->plan.pid_texts[0] = (char *)env_get(env, "LISTEN_PID");
	if (job->plan.life->watchdog_told_ms)
		job->plan.pid_texts[1] = (char *)env_get(env, "WATCHDOG_PID");
	return 0;
}

static int plan_ids(struct child_plan *p, const struct conf_user *u, const struct own_values *own,
		    struct diag *d)
{
	int r;

	if (!u->set)
		return 0;
	if (u->uid == (uid_t)-1 || u->gid == (gid_t)-1)
		return diag_set(d, -EINVAL, "user or group id 4294967295 means \"no change\"");
	/* nothing to change, and nothing we could: a plain user's own groups stay */
	if (geteuid() != 0 && u->uid == geteuid() && u->gid == getegid())
		return 0;
	r = own->partial_ids ? userns_check(u->uid, u->gid, d) : 0;
	if (r < 0)
		return r;
	p->set_ids = true;
	p->uid = u->uid;
	p->gid = u->gid;
	p->groups = u->groups;
	p->n_groups = u->n_groups;
	return 0;
}

/* The daemon has raised it for itself. */
static void give_fsize_back(struct child_plan *p)
{
	if (!p->header->fsize_raised || p->n_limits == CHILD_LIMITS_MAX)
		return;
	for (int i = 0; i < p->n_limits; i++)
		if (p->limits[i].resource == RLIMIT_FSIZE)
			return;
	p->limits[p->n_limits].resource = RLIMIT_FSIZE;
	p->limits[p->n_limits++].value =
		(struct rlimit){ p->header->fsize_soft, p->header->fsize_hard };
}

static int plan_limits(struct child_plan *p, const struct conf_group *g, struct diag *d)
{
	if (g->n_limits > CHILD_LIMITS_MAX)
		return diag_set(d, -EINVAL, "more than %d limits", CHILD_LIMITS_MAX);
	for (size_t i = 0; i < g->n_limits; i++) {
		p->limits[i].resource = g->limits[i].resource;
		p->limits[i].value = (struct rlimit){ g->limits[i].soft, g->limits[i].hard };
	}
	p->n_limits = (int)g->n_limits;
	give_fsize_back(p);
	return 0;
}

static int plan_settings(struct child_plan *p, const struct conf_group *g,
			 const struct own_values *own, struct diag *d)
{
	int r = plan_ids(p, &g->user, own, d);

	if (r == 0)
		r = plan_limits(p, g, d);
	p->set_nice = g->nice != own->nice;
	p->may_fail_nice = g->nice == 0;
	p->nice = g->nice;
	p->set_oom = g->oom_score_adj != own->oom;
	p->may_fail_oom = g->oom_score_adj == 0;
	p->oom_bytes = snprintf(p->oom, sizeof(p->oom), "%d", g->oom_score_adj);
	p->umask = g->umask;
	p->no_new_privs = g->no_new_privs;
	return r;
}

/* What is read and looked up first; what must be undone after a failure comes last. */
static int plan_words(struct job *job, struct worker *w, struct diag *d)
{
	const struct conf_group *g = w->group->conf;
	struct conf_worker who = { w->group->row->name,
				   w->slot->kind == SLOT_WORKER ? (int)w->slot->index : 0 };
	int r = env_of_group(&job->env, g, &who, environ, d);

	if (r == 0 && w->m->command)
		job->plan.argv = w->m->command;
	else if (r == 0)
		r = plan_argv(job, w, &who, d);
	if (r == 0)
		r = plan_texts(job, g, &who, d);
	return r;
}

/* Behind the sockets, so that these are where sd_listen_fds(3) looks for them. */
static int plan_channel(struct job *job, struct worker *w, struct diag *d)
{
	int fd;

	if (job->plan.n_pass == CHILD_PASS_MAX)
		return diag_set(d, -E2BIG, "more than %d sockets", CHILD_PASS_MAX - 1);
	fd = template_channel(w, job->row, d);
	if (fd < 0)
		return fd;
	job->plan.pass[job->plan.n_pass++] = job_hold(job, fd);
	return 0;
}

int spawn_plan_worker(struct job *job, struct worker *w, const struct own_values *own,
		      int *ret_leaf, struct diag *d)
{
	struct said said = { 0 };
	bool worker = w->slot->kind == SLOT_WORKER;
	int r;

	plan_reset(job, w->m, own);
	job->plan.run_only = true;
	r = plan_words(job, w, d);
	if (r == 0)
		r = plan_settings(&job->plan, w->group->conf, own, d);
	if (r == 0 && w->slot->kind != SLOT_TEMPLATE)
		r = plan_sockets(job, w, &said.names, d);
	said.n_sockets = job->plan.n_pass;
	if (r == 0)
		r = plan_leaf(job, w->m, ret_leaf, d);
	if (r == 0)
		r = spawn_output(job, w, own, said.journal, d);
	if (r == 0 && speaks(w) && !handover_pending(job->plan.life))
		r = plan_channel(job, w, d);
	if (r == 0 && w->m->command)
		r = spawn_plan_command(job, w->m, d);
	if (r == 0 && worker && w->group->conf->notify) {
		/* that of a spare is made when it is let go */
		r = job->row == w->slot->life[0]
			    ? notify_open(w, job->row, said.notify, sizeof(said.notify))
			    : notify_path(w, job->row, said.notify, sizeof(said.notify));
		if (r == -ENAMETOOLONG)
			diag_set(d, r, "runtime_dir %s is too long for the path of a notify socket",
				 w->m->ledger.h->runtime_dir);
		else if (r < 0)
			diag_set(d, r, "making its notify socket: %s", strerror(-r));
	}
	if (r == 0)
		r = plan_env(job, w, &said, d);
	str_fini(&said.names);
	return r;
}

int spawn_plan_helper(struct job *job, struct manager *m, const char *const *argv, int out_fd,
		      const struct own_values *own, int *ret_leaf, struct diag *d)
{
	char marker[EVIDENCE_MARKER];
	int r;

	plan_reset(job, m, own);
	for (; *argv; argv++)
		words_add(&job->argv, *argv);
	for (char **e = environ; *e; e++)
		env_put(&job->env, *e);
	evidence_marker(m, job->row, marker);
	env_set(&job->env, "REEVE_ID", marker);
	r = words_finish(&job->argv, &job->plan.argv, d);
	if (r == 0)
		r = words_finish(&job->env, &job->plan.envp, d);
	if (r == 0)
		r = plan_leaf(job, m, ret_leaf, d);
	job->plan.candidates[0] = "/proc/self/exe";
	job->plan.stdio[1] = out_fd;
	job->plan.stdio[2] = STDERR_FILENO;
	return r;
}

/* Limits that are above ours: what a daemon without CAP_SYS_RESOURCE cannot give. */
static void limits_above_ours(const struct conf_group *g, struct str *ret)
{
	for (size_t i = 0; i < g->n_limits; i++) {
		const struct conf_limit *l = &g->limits[i];
		struct rlimit own;

		if (getrlimit((__rlimit_resource_t)l->resource, &own) < 0 ||
		    own.rlim_max >= l->hard)
			continue;
		str_addf(ret, "%s%s (the daemon's own hard limit is %llu)", ret->len ? ", " : "",
			 limit_name(l->resource), (unsigned long long)own.rlim_max);
	}
}

static void add_runtime(const struct conf_group *g, struct str *ret)
{
	char runner[PATH_MAX];

	if (conf_entry_is_native(g->entry))
		entry_runner(runner);
	str_add(ret, conf_entry_is_native(g->entry) ? runner : g->python);
}

/* What the stage was about, as the user wrote it. */
static void object_of(const struct conf_group *g, char *const *command,
		      const struct conf_worker *who, enum spawn_stage stage, struct str *ret)
{
	switch (stage) {
	case STAGE_STDIO:
		if (g->stdin_path)
			conf_expand(g->stdin_path, who, ret);
		break;
	case STAGE_LIMITS:
		limits_above_ours(g, ret);
		break;
	case STAGE_NICE:
		str_addf(ret, "to %d", g->nice);
		break;
	case STAGE_OOM:
		str_addf(ret, "to %d", g->oom_score_adj);
		break;
	case STAGE_GROUPS:
	case STAGE_GID:
	case STAGE_UID:
		str_addf(ret, "of %s (%u:%u)", g->user.name ? g->user.name : "user",
			 (unsigned)g->user.uid, (unsigned)g->user.gid);
		break;
	case STAGE_CWD:
		conf_expand(g->cwd ? g->cwd : "/", who, ret);
		break;
	case STAGE_EXEC:
		if (command)
			str_add(ret, command[0]);
		else if (g->command)
			conf_expand(g->command[0], who, ret);
		else
			add_runtime(g, ret);
		break;
	default:
		break;
	}
}

void spawn_failure_text(const struct worker *w, enum spawn_stage stage, int error, char *ret,
			size_t size)
{
	struct conf_worker who = { w->group->row->name, (int)w->slot->index };
	auto_str object = { 0 };

	if (w->group->conf)
		object_of(w->group->conf, w->m->command, &who, stage, &object);
	snprintf(ret, size, "%s%s%s: %s", spawn_stage_text(stage), object.len ? " " : "",
		 object.len ? object.data : "", strerror(error));
}
