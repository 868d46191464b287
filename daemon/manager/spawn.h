/*
 * Making a process. The manager clones (CLONE_PARENT), so the child is the keeper's; the kernel
 * writes its pid into the ledger row before it runs. The parent resolves everything; between clone
 * and exec only child.c runs. Nothing here blocks, nothing here decides.
 */
#ifndef REEVE_MANAGER_SPAWN_H
#define REEVE_MANAGER_SPAWN_H

#include "manager/manager.h"

/* Where a child was, or failed, before exec; the child writes it into its life row. */
enum spawn_stage {
	STAGE_NONE,
	STAGE_FDS, /* "closing descriptors" … */
	STAGE_SIGNALS,
	STAGE_SESSION,
	STAGE_STDIO,
	STAGE_PASS_FDS,
	STAGE_CGROUP,
	STAGE_LIMITS,
	STAGE_NICE,
	STAGE_OOM,
	STAGE_GROUPS,
	STAGE_GID,
	STAGE_UID,
	STAGE_UMASK,
	STAGE_CWD,
	STAGE_NO_NEW_PRIVS,
	STAGE_PDEATH,
	STAGE_CHECK, /* phase, incarnation, parent re-read: not wanted any more */
	STAGE_EXEC,
	STAGE_PREPARE, /* in the parent: env file, socket, pipe, … */
	STAGE_COUNT
};
/* "changing directory to", "executing": for "web:3: changing directory to /srv: No such file". */
const char *spawn_stage_text(enum spawn_stage stage);
/* The whole of it for a failed start of w: "changing directory to /srv: No such file or directory",
 * with what the group's configuration says now. */
void spawn_failure_text(const struct worker *w, enum spawn_stage stage, int error, char *ret,
			size_t size);

int spawn_init(struct manager *m);
void spawn_fini(struct manager *m);

/*
 * Start the life in `row` (taken, fields slot/incarnation/generation/kind set) for w: leaf cgroup,
 * log pipes, notify socket, environment, sockets, clone. 0 = cloned; else nothing was made and
 * *d names stage and object. -EAGAIN -ENOMEM -EMFILE -ENFILE -ENOSPC mean want of resources.
 */
int spawn_worker(struct worker *w, uint32_t row, struct diag *d);
/* The same for a life that somebody else forks: everything but the clone is prepared in *ret, also
 * when it fails; spawn_prepared() takes it back, and undoes what was made if it is of no use. */
struct job;
int spawn_prepare(struct worker *w, uint32_t row, struct job **ret, int *ret_leaf, struct diag *d);
void spawn_prepared(struct worker *w, uint32_t row, struct job *job, bool failed);
/* A helper of our own binary (the loader): argv, stdout = out_fd, limits and deadline are its
 * caller's. Its end arrives as the exit record of its life row. */
int spawn_helper(struct manager *m, uint32_t row, const char *const *argv, int out_fd,
		 struct diag *d);
/* Lives cloned but not known to have exec'ed; called by a short timer of its own and by life_look.
 * Sets life.execed and calls worker_execed() for each that has. */
void spawn_poll(struct manager *m);
/* True once the life has exec'ed (successor: PF_FORKNOEXEC in /proc/PID/stat). */
bool spawn_has_execed(struct manager *m, uint32_t row);
/* For doctor: how children are made, in words; false if it is not the best way. */
bool spawn_describe(const struct manager *m, char *ret, size_t size);
/* worker.c: called by spawn.c. */
void worker_execed(struct worker *w);
/* A spawn hangs in exec for longer than this: said and the life is killed (SP13). */
#define SPAWN_DEADLINE_MS 30000

#endif
