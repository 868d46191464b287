/*
 * Reading /proc of single processes. A pid is only a number: what is read here is about whoever
 * has it at that moment; callers that act on it compare starttime afterwards (proc_signal).
 */
#ifndef REEVE_MANAGER_PROC_H
#define REEVE_MANAGER_PROC_H

#include "manager/tree.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_stat {
	pid_t pid, ppid, pgrp, session;
	char state;
	char comm[16];
	unsigned flags;
	uint64_t cpu_ticks, starttime;
	int64_t rss_pages;
};
#define PROC_EXITING	0x04u /* PF_EXITING: in do_exit(), not yet a zombie */
#define PROC_FORKNOEXEC 0x40u /* PF_FORKNOEXEC: forked and not exec'ed since */

/* 0, -ESRCH if there is none, or -errno. */
int proc_stat(pid_t pid, struct proc_stat *ret);
/* Pure part of it; text is NUL-terminated. -EINVAL. */
int proc_stat_parse(const char *text, size_t len, struct proc_stat *ret);

/* A growing list of pids. */
struct pids {
	pid_t *at;
	size_t n, room;
	bool failed;
};
void pids_fini(struct pids *p);
void pids_add(struct pids *p, pid_t pid);
bool pids_have(const struct pids *p, pid_t pid);

/* Children of all tasks of pid, appended. -ENOTSUP without CONFIG_PROC_CHILDREN. */
int proc_children(pid_t pid, struct pids *ret);
/* The same from an open /proc/PID/task/TID/children. */
int proc_children_read(int fd, struct pids *ret);
/* pid and ppid of everything, for kernels without it; free(*ret). Number or -errno. */
struct proc_pair {
	pid_t pid, ppid;
};
ssize_t proc_scan(struct proc_pair **ret);

/* Its REEVE_ID, "" if there is none; -EAGAIN if it is in exec and has no environment yet, other
 * -errno if it cannot be read. */
int proc_marker(pid_t pid, char *ret, size_t size);
/* uid, threads, and whether TERM is ignored or caught and pending. */
int proc_details(pid_t pid, struct tree_member *m);
/* Path of its cgroup v2 ("/a/b"); length or -errno. */
ssize_t proc_cgroup(pid_t pid, char *ret, size_t size);

/* Signal the process that has this pid and start time, no other; -ESRCH if it is gone. */
int proc_signal(pid_t pid, uint64_t starttime, int signal);

#endif
