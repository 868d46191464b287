/*
 * The fork of a template: the new process becomes the child of the nearest subreaper, not ours.
 *
 * A middle process (clone3 with CLONE_VM|CLONE_VFORK, born in the worker's cgroup) calls libc's
 * fork() and exits; we reap it. So the page tables are copied once, atfork handlers run, libc's
 * view of threads, locks and robust lists is right, and the worker is born where it belongs. Where
 * that is not possible (EPERM, ENOSYS, EINVAL, E2BIG, other processors): fork() twice.
 *
 * Since 0.2.0. Sources: clone(2): CLONE_INTO_CGROUP since Linux 5.7, CLONE_CLEAR_SIGHAND since 5.5;
 * PR_SET_CHILD_SUBREAPER(2const).
 */
#ifndef REEVE_LIB_ADOPT_H
#define REEVE_LIB_ADOPT_H

#include <stdbool.h>
#include <sys/types.h>

enum adopt_way {
	ADOPT_BEST,   /* the middle shares our memory if the kernel lets it */
	ADOPT_DOUBLE, /* fork() twice */
	/* as the best one, if possible without signal handlers: where the C library has none */
	ADOPT_CLEAN,
};

struct adopt_result {
	pid_t pid;	  /* of the worker: a hint, it may be gone already */
	int cgroup_error; /* 0, or -errno: the worker was born in our own cgroup */
	/* in the worker: it has its template's signal handlers; else only what is ignored is left
	 */
	bool has_handlers;
};

/*
 * Fork. Returns 0 in the worker, 1 in the caller, both with *ret filled, or -errno when there is no
 * worker. cgroup: a directory fd, or -1. All signals are blocked in the worker until it changes
 * its mask, and SIGCHLD has its default action there; the caller's mask and action come back. To be
 * called by a process with one thread.
 */
int adopt_fork(enum adopt_way way, int cgroup, struct adopt_result *ret);

#endif
