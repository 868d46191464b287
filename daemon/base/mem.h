/*
 * Ownership helpers. Every auto_* variable is initialised where it is declared; leaving a
 * function with the ownership is spelled give_*.
 */
#ifndef REEVE_BASE_MEM_H
#define REEVE_BASE_MEM_H

#include <stdlib.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))

static inline void drop_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void drop_ptr(void *p)
{
	free(*(void **)p);
}

/* The caller must keep errno-free code: functions return 0 or -errno (see style). */
#define auto_fd	  __attribute__((cleanup(drop_fd))) int
#define auto_free __attribute__((cleanup(drop_ptr)))

static inline int give_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

static inline void *give_ptr(void *pp)
{
	void *v = *(void **)pp;

	*(void **)pp = NULL;
	return v;
}

/* Close *fd if it is open and mark it closed. */
static inline void close_fd(int *fd)
{
	drop_fd(fd);
	*fd = -1;
}

#endif
