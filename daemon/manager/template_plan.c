/*
 * What is sent to a process that forks workers: HELLO, by which it learns what to load, and FORK,
 * which holds all of a worker that exec would have given it. Nothing is kept here.
 */
#include "manager/template.h"

#include "base/mem.h"
#include "manager/entry.h"
#include "manager/spawn.h"
#include "manager/spawn_job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int template_hello(struct worker *w, const char *mode, int fd)
{
	const struct conf_group *c = w->group->conf;
	struct channel_packet *p = malloc(sizeof(*p));
	char python[PATH_MAX];
	int r;

	if (!p)
		return -ENOMEM;
	channel_begin(p, CH_HELLO, 0);
	channel_add_versions(p);
	channel_add_text(p, CT_MODE, mode);
	channel_add_text(p, CT_GROUP, w->group->row->name);
	channel_add_u32(p, CT_COUNT, (uint32_t)group_workers_wanted(w->group));
	channel_add_u32(p, CT_GENERATION, w->slot->w.generation);
	if (c->entry)
		channel_add_text(p, CT_ENTRY, c->entry);
	for (char **name = c->preload; name && *name; name++)
		channel_add_text(p, CT_PRELOAD, *name);
	channel_add_text(p, CT_PRELOAD_ERRORS,
			 conf_word(CONF_WORDS_PRELOAD_ERRORS, (int)c->preload_errors));
	for (char **name = c->fork_allow_threads; name && *name; name++)
		channel_add_text(p, CT_ALLOW_THREAD, *name);
	entry_python_dir(python);
	channel_add_text(p, CT_PATH, python);
	r = channel_send(fd, p);
	free(p);
	return r;
}

/* Opened here: what the child of an exec does for itself nobody else may do for it. */
static int open_stdin(struct job *job, struct diag *d)
{
	const char *path = job->plan.stdin_path;
	int fd;

	if (!path)
		return 0;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fcntl(fd, F_SETFL, O_RDONLY) < 0) {
		int r = -errno;

		if (fd >= 0)
			close(fd);
		return diag_set(d, r, "opening %s: %s", path, strerror(-r));
	}
	job->plan.stdio[0] = job_hold(job, fd);
	return 0;
}

static void add_fds(struct channel_packet *p, const struct job *job, int leaf, int channel)
{
	int fds[CHILD_PASS_MAX + 5];
	int32_t map[CHILD_PASS_MAX + 5];
	size_t n = 0;

	fds[n] = channel;
	map[n++] = CHANNEL_FD_OWN;
	if (leaf >= 0) {
		fds[n] = leaf;
		map[n++] = CHANNEL_FD_CGROUP;
	}
	for (int i = 0; i < 3; i++) {
		fds[n] = job->plan.stdio[i];
		map[n++] = i;
	}
	for (int i = 0; i < job->plan.n_pass; i++) {
		fds[n] = job->plan.pass[i];
		map[n++] = 3 + i;
	}
	channel_add_fds(p, fds, map, n);
}

static int fork_packet(struct worker *w, struct job *job, int leaf, int channel, uint32_t number,
		       struct channel_packet *p, struct diag *d)
{
	const struct child_plan *plan = &job->plan;
	int r = open_stdin(job, d);

	if (r < 0)
		return r;
	channel_begin(p, CH_FORK, number);
	channel_add_text(p, CT_NAME, w->name);
	channel_add_u32(p, CT_INDEX, w->slot->index);
	channel_add_u32(p, CT_COUNT, (uint32_t)group_workers_wanted(w->group));
	channel_add_u32(p, CT_INCARNATION, plan->life->incarnation);
	channel_add_u32(p, CT_GENERATION, plan->life->generation);
	for (char **word = plan->argv; *word; word++)
		channel_add_text(p, CT_ARG, *word);
	for (char **pair = plan->envp; *pair; pair++)
		channel_add_text(p, CT_ENV, *pair);
	channel_add_text(p, CT_CWD, plan->cwd);
	channel_add_u32(p, CT_UMASK, plan->umask);
	/* what need not succeed was tried by the template, whose value the worker has */
	if (!plan->set_nice || !plan->may_fail_nice)
		channel_add_i32(p, CT_NICE, plan->nice);
	for (int i = 0; i < plan->n_limits; i++)
		channel_add_limit(p, (uint32_t)plan->limits[i].resource,
				  plan->limits[i].value.rlim_cur, plan->limits[i].value.rlim_max);
	add_fds(p, job, leaf, channel);
	if (p->error)
		return diag_set(d, p->error,
				"its arguments and environment are more than the %d KiB that a "
				"template takes",
				CHANNEL_BYTES_MAX / 1024);
	return 0;
}

int template_order(struct worker *w, uint32_t row, struct forker *f, int channel, uint32_t number,
		   struct diag *d)
{
	struct channel_packet *p = malloc(sizeof(*p));
	struct job *job = NULL;
	int leaf = -1, r;

	if (!p)
		return diag_set(d, -ENOMEM, "out of memory");
	*p = CHANNEL_PACKET_INIT;
	r = spawn_prepare(w, row, &job, &leaf, d);
	if (r == 0)
		r = fork_packet(w, job, leaf, channel, number, p, d);
	if (r == 0) {
		r = template_ask(f, p, number, w->row);
		if (r < 0)
			diag_set(d, r == -EPIPE || r == -ECONNRESET ? -EAGAIN : r,
				 "asking %s for a fork: %s", f->w->name, strerror(-r));
	}
	spawn_prepared(w, row, job, r < 0);
	free(p);
	return r == -EPIPE || r == -ECONNRESET ? -EAGAIN : r;
}
