/*
 * A tree is everything a life started. With cgroup v2 it is the leaf
 * BASE/w/GROUP/INDEX.INCARNATION; without, the evidence is, in this order: ppid chain, session and
 * process group, the marker REEVE_ID in the environment (unreadable = unknown, never a match). Both
 * give the same results to callers; where evidence fails the process is a stray (keeper).
 */
#ifndef REEVE_MANAGER_TREE_H
#define REEVE_MANAGER_TREE_H

#include "manager/manager.h"

int trees_init(struct manager *m);
void trees_fini(struct manager *m);

/* Path of the leaf relative to the cgroup base: "w/web/3.7". */
void tree_leaf(const struct manager *m, uint32_t life, char *ret, size_t size);
/* Make the leaf; an fd on its directory for CLONE_INTO_CGROUP, or -errno (-ENOTSUP: no cgroups). */
int tree_make(struct manager *m, uint32_t life);
/* Remove the leaf once empty; EBUSY is retried by the tick. Nothing without cgroups. */
void tree_remove(struct manager *m, uint32_t life);

/* The main process has ended (exit record there): is anything of its tree left? Cheap. Zombies do
 * not count. */
bool tree_is_empty(struct manager *m, uint32_t life);
/* Call life_look(m, life) when the tree has become empty; until tree_unwatch. Idempotent. */
void tree_watch(struct manager *m, uint32_t life);
/* The keeper rang: a child may be gone. Looks again at watched trees that have no better sign. */
void trees_news(struct manager *m);
void tree_unwatch(struct manager *m, uint32_t life);

/* Signal every member (also the main process if it lives). SIGKILL by cgroup.kill, else freeze,
 * kill each, thaw; else by evidence with pidfds, repeated by the watch until empty. Never our own
 * roles, never pids 0, 1, -1. TERM is followed by CONT for stopped members (SH10). Number
 * signalled. */
int tree_kill(struct manager *m, uint32_t life, int signal);

/* The life's main process is in its leaf, or is put there: 0 or -errno. The write costs
 * milliseconds. For processes that somebody else forked, where CLONE_INTO_CGROUP is not to be had.
 */
int tree_take(struct manager *m, uint32_t life, pid_t pid);
/* It cannot run: its leaf, or one above, is frozen. */
bool tree_frozen(struct manager *m, uint32_t life);
/* Undo a freeze of the leaf (cgroup.freeze by hand): in it no handler runs (SH11). */
void tree_thaw(struct manager *m, uint32_t life);

struct tree_member {
	pid_t pid, ppid, session, pgrp;
	uint64_t starttime;
	uid_t uid;
	char state; /* as in /proc/PID/stat: R S D Z T t */
	char comm[16];
	bool ignores_term; /* SigIgn or SigCgt has TERM and it has not ended */
	bool main;
	int threads;
	int depth; /* below the main process; orphans: 1 */
	int64_t rss_kb;
	uint64_t cpu_us;
};
/* Members, parents before children; free(*ret). Reads /proc of the members only; at most max. */
ssize_t tree_list(struct manager *m, uint32_t life, size_t max, struct tree_member **ret);
/* Processes under us that belong to no worker (no cgroups, scrubbed environment). */
ssize_t tree_strays(struct manager *m, size_t max, struct tree_member **ret);

/* Sampled sums over the tree, for status: memory in bytes, CPU in µs; 0 if unknown. */
void tree_usage(struct manager *m, uint32_t life, uint64_t *ret_memory, uint64_t *ret_cpu_us);
/* oom_kill count of the leaf grew since its birth. */
bool tree_saw_oom(struct manager *m, uint32_t life);

#endif
