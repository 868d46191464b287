/* Operations on cgroup v2 directories, relative to an open one. All return 0 or -errno. */
#ifndef REEVE_BASE_CGROUP_FS_H
#define REEVE_BASE_CGROUP_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The absolute path of the cgroup this process is in, by its "0::" line and the mount table. */
int cgroup_fs_own(char *ret, size_t size);
/* Enter a cgroup. Takes milliseconds (cgroup_threadgroup_rwsem): never while workers run. */
int cgroup_fs_join(int dir, const char *path);
/* False also if it is gone. Zombies do not count. */
bool cgroup_fs_populated(int dir, const char *path);
/* Waits up to wait_ms for it to be empty or gone; true if it is. */
bool cgroup_fs_wait_empty(int dir, const char *path, int64_t wait_ms);
/* Each process in it, not below; none that lives in another pid namespace. */
void cgroup_fs_each(int dir, const char *path, void (*fn)(pid_t pid, void *arg), void *arg);
/* SIGKILL to all in it and below: by cgroup.kill (5.14), else one by one. */
int cgroup_fs_kill(int dir, const char *path);
/* Freeze, kill each, thaw: what older kernels need. */
int cgroup_fs_kill_each(int dir, const char *path);
/* Move all processes of it and below to another cgroup. */
void cgroup_fs_move(int dir, const char *path, const char *to);
/* Remove it with all below that is empty. -EBUSY is tried again for up to wait_ms: a task leaves
 * its cgroup a moment after it was reaped (6.18: when it has been switched out). */
int cgroup_fs_remove(int dir, const char *path, int64_t wait_ms);

#endif
