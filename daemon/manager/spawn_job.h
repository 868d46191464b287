/* Between spawn.c, which starts and follows, spawn_plan.c, which prepares, and spawn_clone.c. */
#ifndef REEVE_MANAGER_SPAWN_JOB_H
#define REEVE_MANAGER_SPAWN_JOB_H

#include "manager/child.h"
#include "manager/env.h"
#include "manager/manager.h"

#define JOB_HELD_MAX	8
#define JOB_STACK_BYTES (64u << 10)

/* One start. Its memory is the child's too until the child has exec'ed; then it is used again. */
struct job {
	struct job *next;
	uint32_t row, pid;
	bool shared;	/* memory and stack are in use until the life's ctid is 0 */
	bool late_said; /* past its deadline, asked to be killed */
	int64_t born_ms;
	void *stack; /* low end; a guard page lies below */
	struct child_plan plan;
	struct words env, argv, texts;
	int held[JOB_HELD_MAX]; /* descriptors made for this start, closed after the clone */
	int n_held;
};

/* Values of this process that workers must not inherit by accident. */
struct own_values {
	int nice, oom;
	bool partial_ids; /* not every user and group can be had here (userns.h) */
	int null_fd;
};

/* Fill job->plan for the start of a worker; d on failure. What was made is in job->held, the leaf
 * and the notify socket: spawn.c undoes them. *ret_leaf: fd of the leaf or -1. */
int spawn_plan_worker(struct job *job, struct worker *w, const struct own_values *own,
		      int *ret_leaf, struct diag *d);
int spawn_plan_helper(struct job *job, struct manager *m, const char *const *argv, int out_fd,
		      const struct own_values *own, int *ret_leaf, struct diag *d);

/* What is special about the command of `reevectl run` (spawn_command.c). */
int spawn_plan_command(struct job *job, const struct manager *m, struct diag *d);

/* Descriptors 1 and 2 of a life (spawn_output.c). *ret_journal: JOURNAL_STREAM or "". */
int spawn_output(struct job *job, struct worker *w, const struct own_values *own,
		 char ret_journal[static 48], struct diag *d);

/* How children are made here (spawn_clone.c). */
struct cloner {
	enum clone_way way;
	bool copy_ids;	     /* children that become another user get memory of their own */
	uint64_t ignored;    /* signals that we ignore: of ours only these survive into a child */
	bool no_into_cgroup; /* children join their leaf themselves */
};
void cloner_init(struct cloner *c);
/* Make the child of the job, born in its leaf (-1: none) where that can be. Pid or -errno. */
pid_t cloner_clone(struct cloner *c, const struct ledger *l, struct job *job, int leaf);
/* For doctor: false if something is not as it should be. */
bool cloner_describe(const struct cloner *c, char *ret, size_t size);

/* Keep fd until the clone; returns it. */
static inline int job_hold(struct job *job, int fd)
{
	job->held[job->n_held++] = fd;
	return fd;
}

#endif
