/*
 * A manager's parts with all that they need for real: the test's process is the keeper (its code
 * reaps, stores and signals), a child of it is the manager, what that one makes are the keeper's
 * children. Only the roles' own main loops are missing, so that a test decides what happens when.
 */
#ifndef REEVE_TEST_MANAGER_RIG_H
#define REEVE_TEST_MANAGER_RIG_H

#include "manager/manager.h"

#define RIG_DEADLINE_S 20

struct rig {
	char dir[64];	  /* private, removed in the end */
	char cgroup[200]; /* base for leaves; "" = run without */
	const char *said; /* why it could not run: skip the test */
	struct rig_shared *shared;
};

/* cgroups: make a base, if this host lets us. */
void rig_init(struct rig *r, bool cgroups);
/* Clean up only. */
void rig_drop(struct rig *r);
/* Clean up, then fail the test with what rig_check() complained of. */
void rig_fini(struct rig *r);
/* Runs body as the manager, with the groups of conf_text ("%s" in it is the directory) loaded, and
 * serves it until it ends. */
void rig_run(struct rig *r, const char *conf_text, void (*body)(struct manager *m));

/* In the body. The directory of the rig. */
const char *rig_dir(const struct manager *m);
void rig_complain(const struct manager *m, const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 4, 5), noreturn));
/* A variable `m` must be there. */
#define rig_check(condition, ...)                                                                  \
	do {                                                                                       \
		if (!(condition))                                                                  \
			rig_complain(m, __FILE__, __LINE__, #condition ": " __VA_ARGS__);          \
	} while (0)
/* Turn the loop until the condition holds; complains after RIG_DEADLINE_S. */
void rig_until(struct manager *m, bool (*condition)(struct manager *m, void *arg), void *arg,
	       const char *what);
/* Take a row for the next life of a worker, as worker.c does. */
uint32_t rig_row(struct worker *w);
/* Start it and wait until its exit record or its exec is there; the row. */
uint32_t rig_start(struct worker *w);
void rig_until_exit(struct manager *m, uint32_t row);
/* Worker 0 of the group. */
struct worker *rig_worker(struct manager *m, const char *group);
/* Wait for its end, which must be this exit code. */
void rig_code(struct manager *m, uint32_t row, int code);
/* Turn the loop until the keeper has the worker's pipes and we have let go of them. */
void rig_until_stored(struct worker *w);
/* Make a FIFO in the rig's directory. */
void rig_fifo(struct manager *m, const char *name);
/* Text of a file there; of a FIFO what its next writer writes. free() it. */
char *rig_text(struct manager *m, const char *name);
/* Another reading end of the worker's log pipe, from the keeper. */
int rig_pipe(struct worker *w, bool err);
/* Number of this process's descriptors. */
int rig_count_fds(void);

#endif
