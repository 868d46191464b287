/*
 * What reeve/_serve.py calls of libreeve-template.so, through ctypes.PyDLL: with the GIL held. One
 * process has one life under Reeve, so there is one such object. The version of both has to be the
 * same. Errors are -errno. Since 0.2.0.
 */
#ifndef REEVE_LIB_PYTHON_SERVE_H
#define REEVE_LIB_PYTHON_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REEVE_EXPORT __attribute__((visibility("default")))

REEVE_EXPORT const char *reeve_template_version(void);

/* What a new worker was told, for Python to read without a call. */
struct reeve_template_told {
	uint32_t channel;
	uint32_t args_len, env_len;
	uint32_t whole; /* all variables; else what differs from those that are known */
	char texts[2 *
		   65536]; /* arguments, variables; NUL behind every one; NAME alone: unset it */
};

/*
 * Before READY of a template, and at each fork point of a seed: what workers are told, and the fds
 * that are open now are remembered. entry: the argument of an order without any. taken: see
 * struct birth_guest. told is written to in workers. -ENOSYS: this interpreter does not show its
 * functions.
 */
REEVE_EXPORT int reeve_template_open(int channel, bool seed, const char *entry, int channel_least,
				     const int *taken, size_t n_taken,
				     struct reeve_template_told *told);

/*
 * What os.environ of the next workers will hold at first, NAME=VALUE, NUL behind every one: these
 * do not have to be made anew. NULL: that is not known. 0 or -errno.
 */
REEVE_EXPORT int reeve_template_know(const char *env, size_t len);

/* See struct forker_guest; it must not raise. */
typedef int reeve_template_look(void *arg, uint32_t request, const int *fds, size_t n_fds);

/*
 * Serve what comes, or (wait false) one packet that is there. Returns enum forker_event: in a new
 * worker FORKER_WORKER, at the end FORKER_QUIT, FORKER_NOTHING when a signal handler has raised an
 * exception (it is set) or, without waiting, nothing was there; or -errno, -EPROTO with a reason.
 *
 * always: look has to be asked before each fork. early: nothing of Python has to run before BORN;
 * the worker comes back after GO.
 */
REEVE_EXPORT int reeve_template_serve(bool wait, reeve_template_look *look, bool always,
				      bool early);
/* After -EPROTO. */
REEVE_EXPORT const char *reeve_template_why(void);

/* In a worker that was not early. BORN if that was not said yet, GO, parent-death signal. Ends the
 * process if it is not to run. */
REEVE_EXPORT void reeve_template_finish(void);

/*
 * In a worker of any start method, when Python's own handler of this signal has been set: fd is
 * written to at the signal, by whichever thread gets it, before that handler. Returns what is not 0
 * from then on, as long as the process; NULL: no such signal. Again after the handler was set
 * again, and after a fork.
 */
REEVE_EXPORT const volatile int *reeve_template_wake(int number, int fd);

#endif
