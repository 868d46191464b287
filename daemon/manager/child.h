/*
 * What runs between clone and exec. The child shares the manager's memory (CLONE_VM) while the
 * manager runs on: it uses raw system calls only, writes only its own stack, its life row and the
 * places of its plan that say so, and looks nothing up: the parent resolved everything.
 */
#ifndef REEVE_MANAGER_CHILD_H
#define REEVE_MANAGER_CHILD_H

#include "ledger/ledger.h"

#include <sys/resource.h>
#include <sys/types.h>

#define CHILD_PASS_MAX	  64 /* sockets passed from fd 3 on */
#define CHILD_LIMITS_MAX  16
#define CHILD_CANDIDATES  64 /* places where a bare command is looked for */
#define CHILD_PID_DIGITS  12 /* room for a pid and the NUL */
#define CHILD_PID_TEXTS	  2
#define CHILD_FAILED_CODE 127

/* Everything the child needs; valid until it has exec'ed or ended. */
struct child_plan {
	struct ledger_life *life; /* stage and stage_errno are written here */
	const struct ledger_header *header;
	uint32_t incarnation;	/* the row must still say so */
	bool run_only;		/* only in PHASE_RUN */
	pid_t parent;		/* getppid() must say so */
	uint64_t reset_signals; /* set to their defaults; bit 0 is signal 1 */

	const char *stdin_path; /* opened by the child: a slow file system is its own problem */
	int stdio[3];		/* sources; [0] is used if there is no stdin_path */
	int pass[CHILD_PASS_MAX];
	int n_pass;
	int cgroup_procs; /* the leaf's cgroup.procs to be joined, or -1: born there */

	struct {
		int resource;
		struct rlimit value;
	} limits[CHILD_LIMITS_MAX];
	int n_limits;
	bool set_nice, set_oom;
	bool may_fail_nice, may_fail_oom; /* the default is wished for, not demanded */
	int nice;
	char oom[16];
	int oom_bytes;

	bool set_ids;
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t n_groups;
	mode_t umask;
	const char *cwd; /* NULL: where we are */
	bool no_new_privs;
	bool terminal; /* stdin is a terminal of this session: the child gets its foreground */

	char *pid_texts[CHILD_PID_TEXTS];	      /* for the child's own pid; NULL = none */
	const char *candidates[CHILD_CANDIDATES + 1]; /* paths tried in turn; NULL at the end */
	char **argv, **envp;
	char **script; /* argv of a shell with [1] to be the candidate that is no program; or NULL
			*/
};

/* The child's main. Never returns. */
int child_run(void *plan);

/* How a child is made. A refusal of the system moves on to the next way, for good. */
enum clone_way {
	CLONE_WAY_SHARED,     /* clone3, memory shared with the running manager */
	CLONE_WAY_COPY,	      /* clone3, memory copied: sanitizers, valgrind, kernels below 5.16 */
	CLONE_WAY_COPY_PLAIN, /* clone(2): no clone3, or it is forbidden */
	CLONE_WAY_COUNT
};

/*
 * Make the child on `stack` (its low end, 16-aligned), as a sibling (CLONE_PARENT). cgroup: fd of
 * the leaf to be born in, or -1. The kernel writes the pid to pid_at, and clears *ctid when the
 * child has exec'ed or ended, if memory is shared. Pid or -errno.
 */
pid_t child_clone(enum clone_way way, struct child_plan *plan, void *stack, size_t stack_bytes,
		  int cgroup, _Atomic uint32_t *pid_at, _Atomic int32_t *ctid);

#endif
