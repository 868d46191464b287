/*
 * Says which slot crashed before the process dies of it, as the signal would have it.
 * Since 0.2.0.
 */
#ifndef REEVE_LIB_RUNNER_CRASH_H
#define REEVE_LIB_RUNNER_CRASH_H

#include <signal.h>

/* Once, in the main thread. */
void crash_install(void);
/* This thread runs that slot now (the name is the caller's), and no longer. */
void crash_enter(const char *slot);
void crash_leave(void);
/* Take the signals of a crash out of a mask. */
void crash_unblock(sigset_t *mask);

#endif
