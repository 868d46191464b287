/*
 * Show and Tree: everything about some workers, read from /proc when it is asked for. Environment
 * and arguments are for admins only (SE11).
 */
#include "manager/methods.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "manager/proc.h"
#include "manager/template.h"
#include "manager/threads.h"
#include "manager/tree.h"
#include "manager/watchdog.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define MEMBERS_MAX 1024
#define FDS_MAX	    256
#define ENV_MAX	    (256u << 10)

/*
 * Arguments, environment and memory maps are read under the lock of the process's memory; who is in
 * an uninterruptible wait may hold it, and we would wait with it (SH12).
 */
static bool may_look(char state)
{
	return state != 'D';
}

/* Strings separated by NULs, as in /proc/PID/{environ,cmdline}. */
static void write_strings(struct str *out, const char *key, pid_t pid, const char *file)
{
	auto_free char *buf = malloc(ENV_MAX);
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	n = buf ? fd_read_at(AT_FDCWD, path, buf, ENV_MAX) : -1;
	if (n < 0)
		return;
	/* a title written over the arguments is filled up with NULs */
	while (n > 1 && buf[n - 1] == '\0' && buf[n - 2] == '\0')
		n--;
	vl_write_open(out, key, '[');
	for (char *p = buf; p < buf + n; p += strlen(p) + 1)
		vl_write_bytes(out, NULL, p, strlen(p));
	vl_write_close(out, ']');
}

static void write_process(const struct job *j, struct str *out, const struct worker *w,
			  const struct tree_member *p, bool spare)
{
	char state[2] = { p->state, '\0' };

	vl_write_open(out, NULL, '{');
	vl_write_int(out, "pid", p->pid);
	vl_write_int(out, "ppid", p->ppid);
	vl_write_text(out, "worker", w ? w->name : "");
	vl_write_bytes(out, "name", p->comm, strnlen(p->comm, sizeof(p->comm)));
	if (j->admin && may_look(p->state))
		write_strings(out, "argv", p->pid, "cmdline");
	vl_write_text(out, "state", state);
	vl_write_int(out, "uid", p->uid);
	vl_write_int(out, "threads", p->threads);
	vl_write_bool(out, "main", p->main && !spare);
	vl_write_bool(out, "orphan", !p->main && w && p->ppid == w->m->ledger.h->keeper_pid);
	vl_write_real(out, "cpu_s", (double)p->cpu_us / 1e6);
	if (spare)
		vl_write_bool(out, "spare", true);
	vl_write_int(out, "rss_bytes", p->rss_kb * 1024);
	if (j->memory)
		memory_write_process(j, out, p->pid, p->starttime);
	vl_write_close(out, '}');
}

static void write_tree(struct job *j, struct worker *w, uint32_t row, bool spare)
{
	auto_free struct tree_member *members = NULL;
	ssize_t n = row == LEDGER_NONE ? 0 : tree_list(w->m, row, MEMBERS_MAX, &members);

	for (ssize_t i = 0; i < n; i++)
		write_process(j, &j->out, w, &members[i], spare);
}

static void write_members(struct job *j, struct worker *w)
{
	write_tree(j, w, w->slot->life[0], false);
	write_tree(j, w, spare_row(w), true);
}

static const struct {
	const char *name;
	int resource;
} limit_names[] = {
	{ "as", RLIMIT_AS },
	{ "core", RLIMIT_CORE },
	{ "cpu", RLIMIT_CPU },
	{ "data", RLIMIT_DATA },
	{ "fsize", RLIMIT_FSIZE },
	{ "memlock", RLIMIT_MEMLOCK },
	{ "msgqueue", RLIMIT_MSGQUEUE },
	{ "nice", RLIMIT_NICE },
	{ "nofile", RLIMIT_NOFILE },
	{ "nproc", RLIMIT_NPROC },
	{ "rtprio", RLIMIT_RTPRIO },
	{ "sigpending", RLIMIT_SIGPENDING },
	{ "stack", RLIMIT_STACK },
};

static void write_limits(struct str *out, pid_t pid)
{
	vl_write_open(out, "limits", '[');
	for (size_t i = 0; pid && i < ARRAY_LEN(limit_names); i++) {
		struct rlimit r;

		if (prlimit(pid, (enum __rlimit_resource)limit_names[i].resource, NULL, &r) < 0)
			continue;
		vl_write_open(out, NULL, '{');
		vl_write_text(out, "name", limit_names[i].name);
		if (r.rlim_cur != RLIM_INFINITY)
			vl_write_int(out, "soft", (int64_t)r.rlim_cur);
		if (r.rlim_max != RLIM_INFINITY)
			vl_write_int(out, "hard", (int64_t)r.rlim_max);
		vl_write_close(out, '}');
	}
	vl_write_close(out, ']');
}

static void write_fds(struct str *out, pid_t pid)
{
	char path[64], what[512];
	struct dirent *e;
	int n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = pid ? opendir(path) : NULL;
	if (!dir)
		return;
	vl_write_open(out, "fds", '[');
	while ((e = readdir(dir)) && n < FDS_MAX) {
		ssize_t len = readlinkat(dirfd(dir), e->d_name, what, sizeof(what));

		if (e->d_name[0] == '.' || len < 0)
			continue;
		vl_write_open(out, NULL, '{');
		vl_write_int(out, "fd", atoi(e->d_name));
		vl_write_bytes(out, "what", what, (size_t)len);
		vl_write_close(out, '}');
		n++;
	}
	vl_write_close(out, ']');
	closedir(dir);
}

/* The last words, line by line. */
static void write_lines(struct str *out, const struct exit_record *rec)
{
	const char *p = rec->lines, *end = p + MIN_OF(rec->lines_len, EXIT_LINES);

	if (rec->lines_len == 0)
		return;
	vl_write_open(out, "lines", '[');
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		const char *stop = nl ? nl : end;

		vl_write_bytes(out, NULL, p, (size_t)(stop - p));
		p = stop + 1;
	}
	vl_write_close(out, ']');
}

static void write_exit(struct str *out, const struct exit_record *rec)
{
	vl_write_open(out, NULL, '{');
	vl_write_int(out, "incarnation", rec->incarnation);
	vl_write_int(out, "generation", rec->generation);
	if (rec->pid)
		vl_write_int(out, "pid", rec->pid);
	if (!rec->stage_errno)
		write_time(out, "started_at", rec->started_real_us);
	write_time(out, "at", rec->at_real_us);
	write_how(out, rec);
	vl_write_bool(out, "core", rec->core);
	vl_write_text(out, "cause", exit_cause_name(rec->cause));
	vl_write_real(out, "user_s", (double)rec->user_us / 1e6);
	vl_write_real(out, "system_s", (double)rec->system_us / 1e6);
	vl_write_int(out, "max_rss_bytes", rec->maxrss_kb * 1024);
	write_start_error(out, rec);
	write_lines(out, rec);
	vl_write_close(out, '}');
}

static void write_exits(struct str *out, const struct worker *w)
{
	const struct ledger_exits *x = ledger_exits(&w->m->ledger, w->row);
	uint32_t n = MIN_OF(w->slot->exits, EXITS_KEPT);

	vl_write_open(out, "exits", '[');
	for (uint32_t i = 1; i <= n; i++)
		write_exit(out, &x->records[(w->slot->exits - i) % EXITS_KEPT]);
	vl_write_close(out, ']');
}

static void write_log(struct str *out, const struct worker *w)
{
	struct logbook_counters c = { 0 }, e;
	struct conf_worker who = { w->group->row->name, (int)w->slot->index };
	const struct conf_group *g = w->group->conf;
	auto_str path = { 0 };

	for (uint32_t i = 0; i < 2; i++) {
		logbook_counters(&w->m->book, w->row + (i ? LOGBOOK_ERR : 0),
				 w->slot->log_from[i].total, w->slot->log_from[i].dropped, &e);
		c.in += e.in;
		c.written += e.written;
		c.dropped += e.dropped;
	}
	vl_write_int(out, "log_in_bytes", (int64_t)c.in);
	vl_write_int(out, "log_written_bytes", (int64_t)c.written);
	vl_write_int(out, "log_dropped_bytes", (int64_t)c.dropped);
	if (g && g->log.to == CONF_LOG_FILE) {
		conf_expand(g->log.file, &who, &path);
		vl_write_text(out, "log_to", path.data);
	} else if (g) {
		vl_write_text(out, "log_to", conf_word(CONF_WORDS_LOG_TO, (int)g->log.to));
	}
}

/* A monotonic time as people read it. */
static void write_moment(struct str *out, const char *key, int64_t mono_ms)
{
	write_time(out, key, clock_real_us() + (mono_ms - clock_mono_ms()) * 1000);
}

static void write_private(struct str *out, const struct worker *w, pid_t pid)
{
	auto_str config = { 0 };
	struct proc_stat s;

	if (pid && proc_stat(pid, &s) == 0 && may_look(s.state))
		write_strings(out, "env", pid, "environ");
	if (w->group->conf) {
		conf_dump_group(w->group->conf, &config);
		vl_write_text(out, "config", config.data ? config.data : "");
	}
}

static bool show_row(struct job *j, struct worker *w)
{
	struct str *out = &j->out;
	const struct worker_state *s = &w->slot->w;
	uint32_t row = w->slot->life[0];
	pid_t pid = worker_pid(w);
	char leaf[128];

	vl_write_open(out, NULL, '{');
	write_worker(out, "worker", w, j->memory);
	write_moment(out, "state_since", s->since_ms);
	if (s->deadline_ms != DURATION_NEVER && s->deadline_ms > clock_mono_ms())
		write_moment(out, "next_step_at", s->deadline_ms);
	if (w->slot->beat_ms)
		write_moment(out, "last_beat_at", w->slot->beat_ms);
	if (watchdog_period(w) != DURATION_NEVER)
		vl_write_int(out, "watchdog_ms", watchdog_period(w));
	write_exits(out, w);
	vl_write_open(out, "tree", '[');
	write_members(j, w);
	vl_write_close(out, ']');
	write_limits(out, pid);
	write_fds(out, pid);
	if (row != LEDGER_NONE && ledger_life(&w->m->ledger, row)->in_cgroup) {
		tree_leaf(w->m, row, leaf, sizeof(leaf));
		vl_write_text(out, "cgroup", leaf);
	}
	write_log(out, w);
	if (group_forks(w->group->conf) || w->slot->kind == SLOT_TEMPLATE)
		templates_write(out, w->group);
	if (j->admin)
		write_private(out, w, pid);
	vl_write_close(out, '}');
	return true;
}

static const struct job_kind show_kind = {
	.key = "details",
	.rows = 1,
	.per_look = 1,
	.prepare = memory_of_targets,
	.row = show_row,
};

void method_show(struct vl_call *c, const void *args)
{
	job_start(c, &show_kind, args);
}

static void write_after(struct str *out, const struct manager *m)
{
	vl_write_open(out, "after", '{');
	for (size_t i = 0; i < m->n_groups; i++) {
		const struct conf_group *g = m->groups[i]->conf;

		if (!g)
			continue;
		vl_write_open(out, g->name, '[');
		for (char **a = g->after; a && *a; a++)
			vl_write_text(out, NULL, *a);
		vl_write_close(out, ']');
	}
	vl_write_close(out, '}');
}

static bool tree_row(struct job *j, struct worker *w)
{
	write_members(j, w);
	return true;
}

/* Templates and hosts of the groups that are named, then what belongs to nobody. */
static void tree_others(struct job *j)
{
	const struct manager *m = j->control->m;
	auto_free struct tree_member *strays = NULL;
	ssize_t n = j->all ? tree_strays(j->control->m, MEMBERS_MAX, &strays) : 0;

	for (size_t i = 0; i < m->n_groups; i++)
		for (size_t k = 0; job_names_group(j, m->groups[i]) && k < GROUP_MAKERS; k++)
			if (group_maker(m->groups[i], k))
				write_members(j, group_maker(m->groups[i], k));
	for (ssize_t i = 0; i < n; i++)
		write_process(j, &j->out, NULL, &strays[i], false);
}

static void tree_rest(struct job *j, bool last)
{
	write_after(&j->out, j->control->m);
}

static const struct job_kind tree_kind = {
	.key = "processes",
	.per_look = 1,
	.prepare = memory_of_targets,
	.row = tree_row,
	.more_rows = tree_others,
	.rest = tree_rest,
};

void method_tree(struct vl_call *c, const void *args)
{
	job_start(c, &tree_kind, args);
}
