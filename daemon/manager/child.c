/*
 * All code between clone and exec: raw system calls, no libc (tests/unit/check_child.py holds the
 * list of what may be called). With CLONE_VM the manager runs on in the same memory, thread-local
 * storage and errno included; so nothing here may write to either, and with a full stack or a bad
 * pointer nothing but this child may be lost. Steps are a table; the stage is written before each.
 */
#include "manager/child.h"

#include "base/failpoint.h"
#include "manager/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define KERNEL_SIGSET_BYTES 8
#define SIGNALS		    64

/* -errno or the result; errno is not touched where it may be shared. */
static inline long raw(long number, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
			 : "memory");
	return x0;
#else
	/* memory is copied on these: errno is the child's own */
	long ret = syscall(number, a, b, c, d, e);

	return ret < 0 ? -errno : ret;
#endif
}

#define RAW0(n)		    raw(n, 0, 0, 0, 0, 0)
#define RAW1(n, a)	    raw(n, (long)(a), 0, 0, 0, 0)
#define RAW2(n, a, b)	    raw(n, (long)(a), (long)(b), 0, 0, 0)
#define RAW3(n, a, b, c)    raw(n, (long)(a), (long)(b), (long)(c), 0, 0)
#define RAW4(n, a, b, c, d) raw(n, (long)(a), (long)(b), (long)(c), (long)(d), 0)

struct directory_entry { /* linux_dirent64 */
	uint64_t inode;
	int64_t offset;
	unsigned short length;
	unsigned char type;
	char name[];
};

/* Mark what /proc/self/fd names CLOEXEC, 3 and above. */
static long mark_by_proc(void)
{
	_Alignas(struct directory_entry) char buffer[1024];
	long dir =
		RAW4(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	long n;

	if (dir < 0)
		return dir;
	while ((n = RAW3(SYS_getdents64, dir, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < n;) {
			const struct directory_entry *e = (const void *)(buffer + at);
			long fd = 0;

			for (const char *c = e->name; *c >= '0' && *c <= '9'; c++)
				fd = fd * 10 + (*c - '0');
			if (fd > 2)
				RAW3(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
			at += e->length;
		}
	}
	RAW1(SYS_close, dir);
	return n;
}

static long step_fds(struct child_plan *p)
{
	long r = RAW3(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);

	return r < 0 ? mark_by_proc() : r;
}

static long step_signals(struct child_plan *p)
{
	/* the kernel's struct sigaction: handler, flags, restorer, mask; all zero = default */
	const unsigned long preset[5] = { 0 };

	for (long s = 1; s <= SIGNALS; s++) {
		long r = 0;

		if (p->reset_signals >> (s - 1) & 1)
			r = RAW4(SYS_rt_sigaction, s, preset, 0, KERNEL_SIGSET_BYTES);
		if (r < 0 && s != SIGKILL && s != SIGSTOP)
			return r;
	}
	return 0;
}

/* From the background: SIGTTOU is blocked here. */
static long take_terminal(void)
{
	long r = RAW2(SYS_setpgid, 0, 0);
	int group = (int)RAW0(SYS_getpid);

	return r < 0 ? r : RAW3(SYS_ioctl, 0, TIOCSPGRP, &group);
}

static long step_session(struct child_plan *p)
{
	return p->terminal ? take_terminal() : RAW0(SYS_setsid);
}

/* Opened non-blocking, so that a FIFO without a writer cannot hang; blocking from then on. */
static long open_stdin(const char *path)
{
	long fd = RAW4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
	long r;

	if (fd < 0)
		return fd;
	r = RAW3(SYS_fcntl, fd, F_SETFL, O_RDONLY);
	return r < 0 ? r : fd;
}

/* Sources go above all targets first, so that no dup can close one that is still needed. */
static long lift(struct child_plan *p, int *fd)
{
	long floor = 3 + p->n_pass, r;

	if (*fd >= floor)
		return 0;
	r = RAW3(SYS_fcntl, *fd, F_DUPFD_CLOEXEC, floor);
	if (r >= 0)
		*fd = (int)r;
	return r < 0 ? r : 0;
}

static long step_stdio(struct child_plan *p)
{
	long r = 0;

	if (p->stdin_path) {
		r = open_stdin(p->stdin_path);
		p->stdio[0] = (int)r;
	}
	for (int i = 0; r >= 0 && i < p->n_pass; i++)
		r = lift(p, &p->pass[i]);
	for (int i = 0; r >= 0 && i < 3; i++)
		r = lift(p, &p->stdio[i]);
	if (r >= 0 && p->cgroup_procs >= 0)
		r = lift(p, &p->cgroup_procs);
	for (int i = 0; r >= 0 && i < 3; i++)
		r = RAW3(SYS_dup3, p->stdio[i], i, 0);
	return r;
}

/* Writes the decimal number, NUL-terminated. */
static void write_number(char *at, long number)
{
	char digits[CHILD_PID_DIGITS];
	int n = 0;

	do
		digits[n++] = (char)('0' + number % 10);
	while ((number /= 10) > 0 && n < CHILD_PID_DIGITS - 1);
	while (n > 0)
		*at++ = digits[--n];
	*at = '\0';
}

static long step_pass_fds(struct child_plan *p)
{
	long r = 0;

	for (int i = 0; r >= 0 && i < p->n_pass; i++)
		r = RAW3(SYS_dup3, p->pass[i], 3 + i, 0);
	for (int i = 0; i < CHILD_PID_TEXTS; i++)
		if (p->pid_texts[i])
			write_number(p->pid_texts[i], RAW0(SYS_getpid));
	return r;
}

static long step_cgroup(struct child_plan *p)
{
	return p->cgroup_procs >= 0 ? RAW3(SYS_write, p->cgroup_procs, "0", 1) : 0;
}

static long step_limits(struct child_plan *p)
{
	long r = 0;

	for (int i = 0; r >= 0 && i < p->n_limits; i++)
		r = RAW4(SYS_prlimit64, 0, p->limits[i].resource, &p->limits[i].value, 0);
	return r;
}

static bool forbidden(long r)
{
	return r == -EPERM || r == -EACCES;
}

static long step_nice(struct child_plan *p)
{
	long r = p->set_nice ? RAW3(SYS_setpriority, PRIO_PROCESS, 0, p->nice) : 0;

	return forbidden(r) && p->may_fail_nice ? 0 : r;
}

static long step_oom(struct child_plan *p)
{
	long fd, r;

	if (!p->set_oom)
		return 0;
	fd = RAW4(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return p->may_fail_oom ? 0 : fd;
	r = RAW3(SYS_write, fd, p->oom, p->oom_bytes);
	RAW1(SYS_close, fd);
	return forbidden(r) && p->may_fail_oom ? 0 : r;
}

static long step_groups(struct child_plan *p)
{
	return p->set_ids ? RAW2(SYS_setgroups, p->n_groups, p->groups) : 0;
}

static long step_gid(struct child_plan *p)
{
	gid_t id[3];
	long r;

	if (!p->set_ids)
		return 0;
	r = RAW3(SYS_setresgid, p->gid, p->gid, p->gid);
	if (r >= 0)
		r = RAW3(SYS_getresgid, &id[0], &id[1], &id[2]);
	if (r >= 0 && (id[0] != p->gid || id[1] != p->gid || id[2] != p->gid))
		r = -EPERM;
	return r;
}

static long step_uid(struct child_plan *p)
{
	uid_t id[3];
	long r;

	if (!p->set_ids)
		return 0;
	r = RAW3(SYS_setresuid, p->uid, p->uid, p->uid);
	if (r >= 0)
		r = RAW3(SYS_getresuid, &id[0], &id[1], &id[2]);
	if (r >= 0 && (id[0] != p->uid || id[1] != p->uid || id[2] != p->uid))
		r = -EPERM;
	return r;
}

static long step_umask(struct child_plan *p)
{
	return RAW1(SYS_umask, p->umask);
}

static long step_cwd(struct child_plan *p)
{
	return p->cwd ? RAW1(SYS_chdir, p->cwd) : 0;
}

static long step_no_new_privs(struct child_plan *p)
{
	return p->no_new_privs ? raw(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) : 0;
}

/* After the ids: a change of them clears it (prctl(2)). The parent is looked at in the next step.
 */
static long step_pdeath(struct child_plan *p)
{
	return raw(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

/* The last look: is this start still wanted, and is the keeper still there? */
static long step_check(struct child_plan *p)
{
	if (p->run_only &&
	    atomic_load_explicit(&p->header->phase, memory_order_acquire) != PHASE_RUN)
		return -ECANCELED;
	if (p->life->use != LIFE_MADE || p->life->incarnation != p->incarnation)
		return -ECANCELED;
	return RAW0(SYS_getppid) == p->parent ? 0 : -ECANCELED;
}

/* In a directory of PATH that is closed to us nothing is found, as a shell has it. */
static bool is_there(struct child_plan *p, int i)
{
	return !p->candidates[1] || RAW3(SYS_faccessat, AT_FDCWD, p->candidates[i], 0) == 0;
}

/* The candidates as execvp(3) tries them: the next one if there is none here, or it is not for us.
 */
static long step_exec(struct child_plan *p)
{
	const unsigned long none = 0;
	long r = -ENOENT, refused = 0;

	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, KERNEL_SIGSET_BYTES);
	for (int i = 0; p->candidates[i]; i++) {
		r = RAW3(SYS_execve, p->candidates[i], p->argv, p->envp);
		if (r == -ENOEXEC && p->script) {
			p->script[1] = (char *)p->candidates[i];
			r = RAW3(SYS_execve, p->script[0], p->script, p->envp);
		}
		if (r == -EACCES)
			refused = is_there(p, i) ? r : refused;
		else if (r != -ENOENT && r != -ENOTDIR)
			return r;
	}
	return refused ? refused : r == -EACCES ? -ENOENT : r;
}

static const struct {
	enum spawn_stage stage;
	long (*run)(struct child_plan *p);
} steps[] = {
	{ STAGE_FDS, step_fds },
	{ STAGE_SIGNALS, step_signals },
	{ STAGE_SESSION, step_session },
	{ STAGE_STDIO, step_stdio },
	{ STAGE_PASS_FDS, step_pass_fds },
	{ STAGE_CGROUP, step_cgroup },
	{ STAGE_LIMITS, step_limits },
	{ STAGE_NICE, step_nice },
	{ STAGE_OOM, step_oom },
	{ STAGE_GROUPS, step_groups },
	{ STAGE_GID, step_gid },
	{ STAGE_UID, step_uid },
	{ STAGE_UMASK, step_umask },
	{ STAGE_CWD, step_cwd },
	{ STAGE_NO_NEW_PRIVS, step_no_new_privs },
	{ STAGE_PDEATH, step_pdeath },
	{ STAGE_CHECK, step_check },
	{ STAGE_EXEC, step_exec },
};

#ifdef REEVE_FAILPOINTS
_Static_assert(sizeof(steps) / sizeof(steps[0]) == FP_CHILD_EXEC - FP_CHILD_FDS + 1,
	       "one point each");
#endif

int child_run(void *plan)
{
	struct child_plan *p = plan;

	for (unsigned long i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		long r;

		atomic_store_explicit(&p->life->stage, steps[i].stage, memory_order_release);
		r = FAIL_ERR_AT(CHILD_FDS, i);
		if (r == 0)
			r = steps[i].run(p);
		if (r < 0) {
			atomic_store_explicit(&p->life->stage_errno, (int32_t)-r,
					      memory_order_release);
			break;
		}
	}
	for (;;)
		RAW1(SYS_exit_group, CHILD_FAILED_CODE);
}

#if defined(__x86_64__)
/* clone3 onto another stack: the child cannot return into a frame that its parent goes on using. */
static long clone3_call(struct clone_args *args, int (*run)(void *), void *arg)
{
	register int (*fn)(void *) __asm__("r12") = run;
	register void *data __asm__("r13") = arg;
	long ret;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r13, %%rdi\n\t"
			 "call *%%r12\n\t"
			 "ud2\n"
			 "1:"
			 : "=a"(ret)
			 : "a"(SYS_clone3), "D"(args), "S"(sizeof(*args)), "r"(fn), "r"(data)
			 : "rcx", "r11", "memory");
	return ret;
}
#define HAVE_CLONE3_CALL 1
#elif defined(__aarch64__)
static long clone3_call(struct clone_args *args, int (*run)(void *), void *arg)
{
	register long x8 __asm__("x8") = SYS_clone3;
	register void *x0 __asm__("x0") = args;
	register long x1 __asm__("x1") = sizeof(*args);
	register int (*fn)(void *) __asm__("x9") = run;
	register void *data __asm__("x10") = arg;

	__asm__ volatile("svc #0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x29, xzr\n\t"
			 "mov x30, xzr\n\t"
			 "mov x0, x10\n\t"
			 "blr x9\n\t"
			 "brk #1\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(fn), "r"(data)
			 : "memory");
	return (long)x0;
}
#define HAVE_CLONE3_CALL 1
#else
#define HAVE_CLONE3_CALL 0
#endif

#if HAVE_CLONE3_CALL
static long clone_three(bool shared, struct child_plan *plan, void *stack, size_t stack_bytes,
			int cgroup, _Atomic uint32_t *pid_at, _Atomic int32_t *ctid)
{
	struct clone_args args = {
		/* exit_signal stays 0: with CLONE_PARENT the kernel takes the manager's own */
		.flags = CLONE_PARENT | CLONE_PARENT_SETTID,
		.parent_tid = (uintptr_t)pid_at,
		.stack = (uintptr_t)stack,
		.stack_size = stack_bytes,
	};

	if (shared) {
		/* handlers become defaults, what is ignored stays so */
		args.flags |= CLONE_VM | CLONE_CHILD_CLEARTID | CLONE_CLEAR_SIGHAND;
		args.child_tid = (uintptr_t)ctid;
	}
	if (cgroup >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup;
	}
	return clone3_call(&args, child_run, plan);
}
#endif

pid_t child_clone(enum clone_way way, struct child_plan *plan, void *stack, size_t stack_bytes,
		  int cgroup, _Atomic uint32_t *pid_at, _Atomic int32_t *ctid)
{
	int r;

#if HAVE_CLONE3_CALL
	if (way != CLONE_WAY_COPY_PLAIN)
		return (pid_t)clone_three(way == CLONE_WAY_SHARED, plan, stack, stack_bytes, cgroup,
					  pid_at, ctid);
#else
	if (way != CLONE_WAY_COPY_PLAIN)
		return -ENOSYS;
#endif
	if (cgroup >= 0)
		return -EOPNOTSUPP;
	r = clone(child_run, (char *)stack + stack_bytes,
		  CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD, plan, (pid_t *)(uintptr_t)pid_at,
		  NULL, NULL);
	return r < 0 ? -errno : r;
}
