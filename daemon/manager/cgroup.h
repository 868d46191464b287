/*
 * Leaves of cgroup v2 under the daemon's base, by path relative to it ("w/web/3.7"). Nothing here
 * writes cgroup.procs (8-16 ms): processes are born in their leaf or join it themselves.
 */
#ifndef REEVE_MANAGER_CGROUP_H
#define REEVE_MANAGER_CGROUP_H

#include "manager/proc.h"

/* Make the leaf and the group's directory above it; fd of its directory, or -errno. */
int cgroup_make(int base, const char *leaf);
/* Remove the leaf and cgroups the worker made in it; 0, -EBUSY while something lives there. */
int cgroup_remove(int base, const char *leaf);
/* A live (not zombie) process is in it or below: 1, 0 (also if it is gone), -errno. */
int cgroup_populated(int base, const char *leaf);
/* Processes in it and below, appended. */
int cgroup_pids(int base, const char *leaf, struct pids *ret);
int cgroup_freeze(int base, const char *leaf, bool frozen);
/* It was frozen by somebody. */
bool cgroup_frozen(int base, const char *leaf);
/* SIGKILL for everything in it, by cgroup.kill. -ENOENT before 5.14. */
int cgroup_kill(int base, const char *leaf);
/* Number behind `key` in a flat-keyed file, or the file's only number if key is NULL. */
int cgroup_value(int base, const char *leaf, const char *file, const char *key, uint64_t *ret);

/* How /proc/PID/cgroup shows the base; "" if that cannot be told. Our own path tells: the roles
 * live in BASE/daemon. */
void cgroup_prefix(char *ret, size_t size);
/* The process is in the leaf or below: by its own word, read while the pid is pinned or about to be
 * used. */
bool cgroup_has(const char *prefix, const char *leaf, pid_t pid);

#endif
