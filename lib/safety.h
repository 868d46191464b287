/*
 * Is it safe to fork this process? Looked at from inside, before each fork of a template: a copy
 * has one thread only, so what other threads held stays held; GPU contexts, io_uring and file locks
 * do not survive in a copy.
 *
 * Since 0.2.0. Sources: proc(5) (task, fd, fdinfo: lines "lock:"), fork(2).
 */
#ifndef REEVE_LIB_SAFETY_H
#define REEVE_LIB_SAFETY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SAFETY_CULPRITS 8
#define SAFETY_FDS	1024 /* that are remembered; a template with more is refused */

/* What a template remembers about itself. Zero-initialise. */
struct safety {
	char (*allowed)[64]; /* names of threads that may run; the caller's */
	size_t n_allowed;
	size_t n_fds; /* open when safety_remember() looked */
	struct safety_fd {
		int fd;
		dev_t dev;
		ino_t ino;
	} fds[SAFETY_FDS];
	bool remembered;
};

/* One sentence each: what is there and what to do about it. */
struct safety_report {
	size_t n;
	char text[SAFETY_CULPRITS][256];
};

/* What a template says about itself in READY and PONG. */
struct safety_figures {
	uint32_t tasks, fds;
	uint64_t rss_bytes;
};

/* Note what is open now; fds that appear later are culprits. 0 or -errno. */
int safety_remember(struct safety *s);
/*
 * Look for culprits. own[0..n_own): fds that belong to the protocol. Returns how many were found,
 * or -errno. thorough: also at what costs more (mapped devices); at READY.
 */
int safety_check(const struct safety *s, const int *own, size_t n_own, bool thorough,
		 struct safety_report *ret);
/*
 * The short answer: one thread, and as many fds as were remembered and n_own more. Good enough
 * where a look has found nothing and no code of others has run since. Two system calls.
 */
bool safety_unchanged(const struct safety *s, size_t n_own);
void safety_figures(struct safety_figures *ret);
/* Does this path belong to a GPU or another accelerator? */
bool safety_is_gpu(const char *path);

#endif
