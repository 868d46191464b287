/*
 * reeve-runner: runs modules (lib/reeve.h) under every start method. main.c reads the options,
 * module.c loads, context.c describes a worker to the module, template.c and threads.c speak with
 * the daemon.
 * Since 0.2.0.
 */
#ifndef REEVE_LIB_RUNNER_H
#define REEVE_LIB_RUNNER_H

#include "lib/birth.h"
#include "lib/reeve.h"

#include <limits.h>

#define RUNNER_RUNTIME "native " REEVE_VERSION
#define RUNNER_FDS     256

/* --- module.c ------------------------------------------------------------------------------ */

struct module {
	const struct reeve_module *m;
	void *data; /* from load */
};

/* dlopen and look whether it is one of ours; then load. 0 or -errno with a sentence in why. */
int module_open(struct module *ret, const char *path, char *why, size_t size);
/* A library that workers want to find loaded. */
int module_preload(const char *path, char *why, size_t size);
/* The whole work: run, unload; the exit code. */
int module_run(const struct module *m, const struct reeve_ctx *ctx);

/* --- context.c ----------------------------------------------------------------------------- */

struct context {
	struct reeve_ctx ctx;
	struct reeve_fd fds[RUNNER_FDS];
	char group[64], worker[64];
};

/* This process, as its environment describes it. */
void context_from_environment(struct context *c, int argc, char **argv);
/* This process, which was forked. */
void context_from_birth(struct context *c, const struct birth *b);

/* --- roles: exit codes ---------------------------------------------------------------------- */

int run_spawn(const char *entry, int argc, char **argv);
int run_template(int channel);
int run_threads(int channel);

/* One line on stderr, in one write. */
void runner_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Of the monotonic clock. */
uint64_t runner_now_us(void);

#endif
