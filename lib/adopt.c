/*
 * Adoption. Owns nothing. The middle process runs on our stack while we are suspended, as after
 * vfork(2): what it writes lies below the frame of clone_middle(), except for *result.
 */
#include "lib/adopt.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct middle {
	pid_t pid;
	int error; /* of fork(): -errno */
};

/* Returns in the worker only; the middle ends here and leaves word behind. */
static void __attribute__((noinline)) be_middle(volatile struct middle *m)
{
	pid_t pid = fork();

	if (pid == 0)
		return;
	m->pid = pid < 0 ? 0 : pid;
	m->error = pid < 0 ? -errno : 0;
	_exit(0);
}

/* The middle is no child that anybody else waits for: its exit signal is 0. */
static int reap(pid_t middle)
{
	while (waitpid(middle, NULL, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

#if defined(__x86_64__)
static inline __attribute__((always_inline)) long clone3_here(struct clone_args *args)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(SYS_clone3), "D"(args), "S"(sizeof(*args))
			 : "rcx", "r11", "memory", "cc");
	return ret;
}
#define HAVE_CLONE3_HERE 1
#elif defined(__aarch64__)
static inline __attribute__((always_inline)) long clone3_here(struct clone_args *args)
{
	register long x8 __asm__("x8") = SYS_clone3;
	register long x0 __asm__("x0") = (long)args;
	register long x1 __asm__("x1") = sizeof(*args);

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1) : "memory", "cc");
	return x0;
}
#define HAVE_CLONE3_HERE 1
#else
#define HAVE_CLONE3_HERE 0
#endif

#if HAVE_CLONE3_HERE
/* 0 in the worker, the reaped middle's pid, or -errno. Not inlined: its frame is what is shared. */
static long __attribute__((noinline))
clone_middle(int cgroup, uint64_t flags, volatile struct middle *m)
{
	struct clone_args args = { .flags = CLONE_VM | CLONE_VFORK | flags };
	long r;

	if (cgroup >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup;
	}
	r = clone3_here(&args);
	if (r == 0) {
		be_middle(m);
		return 0;
	}
	return r;
}
#else
static long clone_middle(int cgroup, uint64_t flags, volatile struct middle *m)
{
	return -ENOSYS;
}
#endif

/* Sandboxes answer EPERM to calls that they do not know. */
static bool is_missing(long error)
{
	return error == -ENOSYS || error == -EPERM || error == -EINVAL || error == -E2BIG ||
	       error == -EOPNOTSUPP;
}

/* 0 in the worker; the middle leaves word in a page that both share. */
static int fork_twice(volatile struct middle *m)
{
	volatile struct middle *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE,
					    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t middle;
	int r = 0;

	if (page == MAP_FAILED)
		return -errno;
	page->error = -ECHILD; /* killed before it could say anything */
	middle = fork();
	if (middle == 0) {
		be_middle(page);
		munmap((void *)(uintptr_t)page, sizeof(*page));
		return 0;
	}
	if (middle < 0)
		r = -errno;
	else
		reap(middle);
	m->pid = page->pid;
	m->error = page->error;
	munmap((void *)(uintptr_t)page, sizeof(*page));
	return r < 0 ? r : 1;
}

/* As clone_middle(), in our own cgroup where that one does not take it. */
static long fork_by_middle(int cgroup, uint64_t flags, volatile struct middle *m,
			   int *ret_cgroup_error)
{
	long r = clone_middle(cgroup, flags, m);

	*ret_cgroup_error = 0;
	if (r < 0 && cgroup >= 0 && r != -EAGAIN && r != -ENOMEM) {
		*ret_cgroup_error = (int)r;
		r = clone_middle(-1, flags, m);
	}
	if (r > 0)
		reap((pid_t)r);
	return r;
}

/*
 * Where SIGCHLD is ignored a child is reaped as soon as it dies. The middle inherits that: a worker
 * that dies before the middle does would be lost, with its status.
 */
static void keep_dead_children(struct sigaction *ret_before)
{
	const struct sigaction plain = { .sa_handler = SIG_DFL };

	sigaction(SIGCHLD, &plain, ret_before);
}

int adopt_fork(enum adopt_way way, int cgroup, struct adopt_result *ret)
{
	volatile struct middle m = { .error = -ECHILD };
	int cgroup_error = cgroup >= 0 ? -EOPNOTSUPP : 0;
	struct sigaction chld;
	sigset_t all, before;
	uint64_t flags = way == ADOPT_CLEAN ? CLONE_CLEAR_SIGHAND : 0;
	long r = -ENOSYS;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	keep_dead_children(&chld);
	if (way != ADOPT_DOUBLE)
		r = fork_by_middle(cgroup, flags, &m, &cgroup_error);
	if (r < 0 && is_missing(r)) {
		cgroup_error = cgroup >= 0 ? -EOPNOTSUPP : 0;
		flags = 0;
		r = fork_twice(&m);
	}
	if (r == 0) {
		*ret = (struct adopt_result){ .has_handlers = !flags };
		return 0;
	}
	sigaction(SIGCHLD, &chld, NULL);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (r < 0)
		return (int)r;
	if (m.error)
		return m.error;
	*ret = (struct adopt_result){ .pid = m.pid, .cgroup_error = cgroup_error };
	return 1;
}
