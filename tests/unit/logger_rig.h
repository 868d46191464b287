/*
 * A keeper and a manager, as far as a logger can tell: a log book, pipes, doorbells, and the real
 * logger role as a process (tests/unit/logger_role.c) that can be killed and started again.
 * Every function fails the test by itself (aborts with a message) when the system refuses.
 */
#ifndef REEVE_TEST_LOGGER_RIG_H
#define REEVE_TEST_LOGGER_RIG_H

#include "ledger/logbook.h"
#include "ledger/roles.h"

#include <sys/types.h>

#define RIG_STREAMS 128

struct rig {
	char dir[64]; /* private, removed by rig_fini */
	struct logbook lb;
	int book, bell_logger, bell_manager, bell_keeper;
	int store[2], logs[2];
	int pipes[RIG_STREAMS]; /* slot rows 0..: O_RDWR|O_NONBLOCK, -1 = none */
	int errs[RIG_STREAMS];
	const char *program;
	int out;     /* the logger's stdout; -1 = ours */
	bool traced; /* it stops at exec and is ours to step */
	pid_t pid;
};

void rig_init(struct rig *r);
void rig_fini(struct rig *r);
/* exec the role with what is there; returns once its first turn is over. */
void rig_start(struct rig *r);
/* As rig_start, without waiting. */
void rig_exec(struct rig *r);
void rig_kill(struct rig *r);
/* Ask it to finish; its exit code. */
int rig_finish(struct rig *r);
void rig_ring(struct rig *r);

/* A configuration of a file log with the usual defaults. */
struct conf_log rig_log(void);
/* Make a stream (slot row or LOGBOOK_ERR + row) that goes to dir/name; its sink. */
uint32_t rig_stream(struct rig *r, uint32_t stream, const char *label, const struct conf_log *log,
		    const char *name);
/* A worker's end: O_WRONLY, blocking. */
int rig_open(struct rig *r, uint32_t stream);
/* All of these for worker web:0 and its file web.log: a worker's end. */
int rig_begin(struct rig *r, const struct conf_log *log);
/* Drain and wait for it; -ETIMEDOUT after ms. */
int rig_drain(struct rig *r, uint32_t stream, bool end_of_life, int ms);
/* Content of dir/name; free it. *ret_len may be NULL. NULL if there is none. */
char *rig_file(struct rig *r, const char *name, size_t *ret_len);
/* dir/name */
const char *rig_path(struct rig *r, const char *name, char buf[static 256]);

/* Write all of text; 4 KiB blocks of 100-byte lines, `bytes` in all. */
void rig_put(int fd, const char *text);
void rig_flood(int fd, size_t bytes);
/* Content of dir/name must be this; in the second form without the stamps. */
void rig_expect_file(struct rig *r, const char *name, const char *want);
void rig_expect_text(struct rig *r, const char *name, const char *want);
/* Look every 2 ms until it is true; fails the test after RIG_LIMIT_MS. */
#define RIG_LIMIT_MS 10000
void rig_wait(struct rig *r, bool (*cond)(struct rig *r), const char *what);
struct logbook_counters rig_counters(struct rig *r, uint32_t stream);

void rig_die(const char *what, int err) __attribute__((noreturn));

#endif
