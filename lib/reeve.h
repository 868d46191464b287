/*
 * For programs and modules that run under Reeve, or without it.
 *
 * Part 1, functions for any program (link libreeve): what sd_notify(3) has and a little more.
 * Outside Reeve every one of them does nothing and succeeds.
 * Part 2, struct reeve_module: a shared object that exports one is an `entry` of reeve.conf(5) and
 * runs under all start methods; reeve-runner loads it. It needs this header only.
 *
 * Unless told otherwise functions return 0 or -errno and may be called from one thread at a time.
 * Text is UTF-8. Since 0.2.0. See reeve-template(7), sd_notify(3), sd_listen_fds(3).
 */
#ifndef REEVE_H
#define REEVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define REEVE_PUBLIC __attribute__((visibility("default")))

/* --- 1. programs --------------------------------------------------------------------------- */

/* Ready to work (ready = "notify"). */
REEVE_PUBLIC int reeve_ready(void);
/*
 * Still alive (watchdog). To be called often, in the loop that must not hang: it is said four times
 * in the group's `watchdog`, else once a second, and never waits. -EAGAIN: nobody reads; call
 * again.
 */
REEVE_PUBLIC int reeve_beat(void);
/* One line for `reevectl status`; longer than 159 bytes is cut. */
REEVE_PUBLIC int reeve_status(const char *text);
/* How much of how much; any unit. */
REEVE_PUBLIC int reeve_progress(uint64_t done, uint64_t total);
/* Jobs finished since the last call (recycle.jobs). */
REEVE_PUBLIC int reeve_jobs(uint64_t finished);
/* Working on something, or waiting for work (scale, recycle.idle). */
REEVE_PUBLIC int reeve_busy(bool busy);

/*
 * Was this process asked to end? The first call of either function installs a handler for SIGTERM
 * and SIGINT where there is none yet; from then on these signals do not kill: end by yourself, with
 * any exit code. The fd (CLOEXEC, not to be read or closed) gets readable for good.
 * reeve_stop_fd() returns -errno if it cannot be made.
 */
REEVE_PUBLIC bool reeve_stopping(void);
REEVE_PUBLIC int reeve_stop_fd(void);

/* A descriptor that the daemon opened: `sockets` and `files` of the group. */
struct reeve_fd {
	const char *name; /* as the configuration names it; "" if it has none */
	int fd;		  /* open until you close it */
};
/* How many there are; the first `room` of them into ret. */
REEVE_PUBLIC size_t reeve_fds(struct reeve_fd *ret, size_t room);

/*
 * A point where copies of this process may be made (start_method = "fork"): everything is loaded
 * and warm, no other thread runs, no GPU is open. Returns 0 in the process that goes on as it was,
 * 1 in a fresh copy, which is another worker: its environment, directory, limits and log are its
 * own, descriptors other than the group's are closed, random generators of C have new seeds. The
 * first call waits until the siblings are made, later ones only serve what is asked for. -EPROTO:
 * the daemon said something that is not in the protocol. Without Reeve always 0.
 */
REEVE_PUBLIC int reeve_fork_point(void);

/* --- 2. modules ---------------------------------------------------------------------------- */

#define REEVE_ABI 1u

enum reeve_flags {
	REEVE_FORK_SAFE = 1,	/* may be forked after load: no threads, locks or devices by then */
	REEVE_THREADS = 2,	/* run may be called by several threads at once */
	REEVE_SLOT_RESTART = 4, /* run may be called again by another thread after it returned */
};

/* What run is given. Valid until it returns. Later versions append to it: look at size. */
struct reeve_ctx {
	uint32_t size;
	uint32_t index, count; /* of the worker in its group, workers of the group */
	uint32_t incarnation, generation;
	const char *group, *worker; /* "web", "web:3" */
	int argc;
	char *const *argv;
	const char *const *env; /* of this worker; with threads it is not the process's */
	const struct reeve_fd *fds;
	size_t n_fds;
	int stop_fd;		  /* readable for good when the worker is asked to end */
	const volatile int *stop; /* not 0 then */
	/*
	 * As the functions of part 1, for this worker. From the thread that run was called in. They
	 * are never NULL.
	 */
	int (*ready)(const struct reeve_ctx *ctx);
	int (*beat)(const struct reeve_ctx *ctx);
	int (*status)(const struct reeve_ctx *ctx, const char *text);
	int (*progress)(const struct reeve_ctx *ctx, uint64_t done, uint64_t total);
	int (*jobs)(const struct reeve_ctx *ctx, uint64_t finished);
	int (*busy)(const struct reeve_ctx *ctx, bool busy);
	/*
	 * Returns 0 in the worker that it was called in, 1 in a copy of it; from then on *ctx
	 * describes the copy. Other start methods than "fork": always 0.
	 */
	int (*fork_point)(const struct reeve_ctx *ctx);
	void *host; /* not yours */
};

/*
 * The one symbol that a module exports, as `const struct reeve_module reeve_module = { … }`. All
 * functions but run may be NULL. Those that return int: 0, or -errno, which ends what they are
 * called for.
 */
struct reeve_module {
	uint32_t abi;	/* REEVE_ABI */
	uint32_t size;	/* sizeof(struct reeve_module) */
	uint32_t flags; /* enum reeve_flags */
	const char *name, *version;
	/*
	 * Once in the process that loads the module: the template ("forkserver"), the host
	 * ("threads"), otherwise the worker. *ret_data is handed to all others.
	 */
	int (*load)(void **ret_data);
	int (*before_fork)(void *data); /* in the template, before each fork */
	/* In each worker that was forked, before run. What must not be shared is opened here. */
	int (*after_fork)(void *data, const struct reeve_ctx *ctx);
	/* The work. What it returns (0…255) is the worker's exit code. */
	int (*run)(void *data, const struct reeve_ctx *ctx);
	void (*unload)(void *data); /* in the process that called load, and in forked workers */
};

#ifdef __cplusplus
}
#endif

#endif
