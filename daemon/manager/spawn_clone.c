/*
 * Owns the call that makes a child, and what is known here of its ways: the best one that may be
 * used, and which answers of the kernel or of a seccomp profile ruled out others.
 */
#include "manager/spawn_job.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

/* Answers that mean "not here": old kernels, and seccomp profiles that say EPERM (PI04). */
static bool refused(int r)
{
	return r == -ENOSYS || r == -EPERM || r == -EINVAL || r == -E2BIG || r == -EOPNOTSUPP;
}

static int join_later(struct job *job, int leaf)
{
	int fd = openat(leaf, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	job->plan.cgroup_procs = job_hold(job, fd);
	return 0;
}

static pid_t clone_once(const struct cloner *c, const struct ledger *l, struct job *job,
			enum clone_way way, int cgroup)
{
	struct ledger_life *life = job->plan.life;
	pid_t pid;

	job->shared = way == CLONE_WAY_SHARED;
	job->plan.reset_signals = job->shared ? c->ignored : UINT64_MAX;
	life->ctid = job->shared;
	pid = child_clone(way, &job->plan, job->stack, JOB_STACK_BYTES, cgroup, &l->pids[job->row],
			  &life->ctid);
	if (pid < 0)
		life->ctid = 0;
	return pid;
}

/* Try each way from the best known one on, each with and without birth in the leaf. */
static pid_t clone_any(struct cloner *c, const struct ledger *l, struct job *job,
		       enum clone_way first, int leaf)
{
	int r = -ENOSYS;

	for (enum clone_way way = first; way < CLONE_WAY_COUNT; way++) {
		bool into = leaf >= 0 && !c->no_into_cgroup;

		if (into)
			r = clone_once(c, l, job, way, leaf);
		if (into && !refused(r))
			return r;
		if (leaf >= 0 && job->plan.cgroup_procs < 0) {
			int joined = join_later(job, leaf);

			if (joined < 0)
				return joined;
		}
		r = clone_once(c, l, job, way, -1);
		if (refused(r))
			continue;
		if (r > 0 && into && !c->no_into_cgroup) {
			c->no_into_cgroup = true;
			log_info("clone into a cgroup is refused here: workers join theirs "
				 "themselves");
		}
		if (r > 0 && way != first && c->way < way) {
			c->way = way;
			log_info("clone3 is refused here: workers are made with %s",
				 way == CLONE_WAY_COPY ? "copied memory" : "clone(2)");
		}
		return r;
	}
	return r;
}

pid_t cloner_clone(struct cloner *c, const struct ledger *l, struct job *job, int leaf)
{
	const unsigned long all = ~0ul;
	unsigned long before;
	enum clone_way way = c->way;
	pid_t pid;

	/* the kernel gives the score to every process that shares memory, to us and to other
	 * children too; only a child with memory of its own can have another one */
	if (way == CLONE_WAY_SHARED && (job->plan.set_oom || (job->plan.set_ids && c->copy_ids)))
		way = CLONE_WAY_COPY;
	/* glibc's own call spares the two signals that it uses itself */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof(all));
	pid = clone_any(c, l, job, way, leaf);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(before));
	return pid;
}

static bool has_sanitizer(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
	__has_feature(memory_sanitizer)
	return true;
#endif
#endif
	return false;
}

/* Memory is shared where nothing instruments it, and where a core dump of the child does not take
 * us along (5.16: coredumps are limited to one thread group). */
static enum clone_way best_way(void)
{
	const char *preload = getenv("LD_PRELOAD");
	unsigned major = 0, minor = 0;
	struct utsname u;

	if (has_sanitizer() || (preload && strstr(preload, "vgpreload")))
		return CLONE_WAY_COPY;
	if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2 ||
	    major * 1000 + minor < 5016)
		return CLONE_WAY_COPY;
	return CLONE_WAY_SHARED;
}

/* Between setresuid() and exec a child is the user's and still shares our memory. The kernel lets
 * nobody trace it then, unless fs.suid_dumpable is 1 ("debug", proc(5)). */
static bool traceable_after_setuid(void)
{
	char text[16];

	return fd_read_at(AT_FDCWD, "/proc/sys/fs/suid_dumpable", text, sizeof(text)) <= 0 ||
	       atoi(text) == 1;
}

/* What a role ignores is settled before its parts are started. */
static uint64_t ignored_signals(void)
{
	struct sigaction action;
	uint64_t mask = 0;

	for (int s = 1; s <= SIGRTMAX; s++)
		if (sigaction(s, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
			mask |= 1ull << (s - 1);
	return mask;
}

void cloner_init(struct cloner *c)
{
	*c = (struct cloner){
		.way = best_way(),
		.ignored = ignored_signals(),
		.copy_ids = traceable_after_setuid(),
	};
}

bool cloner_describe(const struct cloner *c, char *ret, size_t size)
{
	static const char *const ways[] = {
		[CLONE_WAY_SHARED] = "clone3 with shared memory",
		[CLONE_WAY_COPY] = "clone3 with copied memory",
		[CLONE_WAY_COPY_PLAIN] = "clone with copied memory: clone3 is refused",
	};

	snprintf(ret, size, "%s%s%s", ways[c->way],
		 c->no_into_cgroup ? "; workers join their cgroup themselves" : "",
		 c->copy_ids ? "; copied for other users: fs.suid_dumpable is 1" : "");
	return c->way == CLONE_WAY_SHARED && !c->no_into_cgroup && !c->copy_ids;
}
