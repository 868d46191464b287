/*
 * Failpoints: named places between two steps that change state, where a test can have the process
 * killed, held, or the step fail. They exist in builds with -Dfailpoints=true only; elsewhere the
 * macros are nothing and the calls they wrap are the calls.
 *
 * A test names a file in REEVE_FAILPOINTS (struct failpoint_file and one row per point, made by
 * the test from what `reeved --failpoints` lists) and changes it while the daemon runs; every role
 * maps it, so what is armed outlives the role it hits. Source: tests/chaos/failpoints.py.
 *
 * Since 0.2.0.
 */
#ifndef REEVE_BASE_FAILPOINT_H
#define REEVE_BASE_FAILPOINT_H

#include <stdint.h>

#ifdef REEVE_FAILPOINTS

#include <errno.h>
#include <stdatomic.h>

enum failpoint {
#define FAILPOINT(role, id, name) FP_##id,
#include "base/failpoint_list.h"
#undef FAILPOINT
	FP_COUNT
};

enum failpoint_action {
	FAIL_NOTHING,
	FAIL_KILL,	   /* SIGKILL to the process that is there */
	FAIL_ERRNO,	   /* the step fails with `value`; where nothing can fail: nothing */
	FAIL_PAUSE,	   /* until the action is another one */
	FAIL_KILL_MANAGER, /* SIGKILL to the manager, whoever is there; the step goes on */
	FAIL_KILL_LOGGER,
};

#define FAILPOINT_MAGIC 0x31746e696f706c66ull /* "flpoint1" */

/* T = the test writes it, D = the daemon. */
struct failpoint_row {
	char name[40];		   /* T */
	_Atomic uint32_t hits;	   /* D: how often a process came by */
	_Atomic int32_t action;	   /* T: enum failpoint_action */
	_Atomic int32_t value;	   /* T: errno */
	_Atomic int32_t skip;	   /* both: so many visits are let through first */
	_Atomic int32_t times;	   /* both: so many visits are acted on */
	_Atomic uint32_t happened; /* D: visits acted on; with PAUSE: before it waits */
};

struct failpoint_file {
	uint64_t magic;				 /* T */
	uint32_t rows, stride;			 /* T */
	_Atomic int64_t real_offset_us;		 /* T: the wall clock is so far off */
	_Atomic int32_t manager_pid, logger_pid; /* D */
	_Atomic int64_t mono_offset_us;		 /* T: the monotonic clock, ahead; it only grows */
	char reserve[24];
	struct failpoint_row row[];
};

/* Map the file, if one is named; with --failpoints list the points and exit. First thing in main.
 */
void failpoint_init(int argc, char **argv, const char *role);
/* 0, or -errno as armed. Async-signal-safe, leaves errno alone: also for the child before exec. */
int failpoint_meet(enum failpoint at);
/* The same for a call that says -1 and errno; true = fail. */
static inline int failpoint_fails(enum failpoint at)
{
	int r = failpoint_meet(at);

	if (r < 0)
		errno = -r;
	return r < 0;
}
int64_t failpoint_clock_offset_us(void);
int64_t failpoint_mono_offset_us(void);

/* A place where nothing can fail; a system call (-1 and errno); something with 0 or -errno. */
#define FAIL_HERE(id)	  ((void)failpoint_meet(FP_##id))
#define FAIL_OR(id, call) (failpoint_fails(FP_##id) ? -1 : (call))
#define FAIL_ERR(id)	  failpoint_meet(FP_##id)
/* One of a row of points, counted from the first. */
#define FAIL_ERR_AT(id, n) failpoint_meet((enum failpoint)(FP_##id + (n)))

#else

#define failpoint_init(argc, argv, role) ((void)0)
#define FAIL_HERE(id)			 ((void)0)
#define FAIL_OR(id, call)		 (call)
#define FAIL_ERR(id)			 0
#define FAIL_ERR_AT(id, n)		 0

#endif
#endif
