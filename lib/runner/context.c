/* What a module is told of its worker, where a worker is a process. */
#include "lib/runner/runner.h"

#include "lib/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int ctx_ready(const struct reeve_ctx *ctx)
{
	return reeve_ready();
}

static int ctx_beat(const struct reeve_ctx *ctx)
{
	return reeve_beat();
}

static int ctx_status(const struct reeve_ctx *ctx, const char *text)
{
	return reeve_status(text);
}

static int ctx_progress(const struct reeve_ctx *ctx, uint64_t done, uint64_t total)
{
	return reeve_progress(done, total);
}

static int ctx_jobs(const struct reeve_ctx *ctx, uint64_t finished)
{
	return reeve_jobs(finished);
}

static int ctx_busy(const struct reeve_ctx *ctx, bool busy)
{
	return reeve_busy(busy);
}

/* A copy describes itself: on_copy in template.c. */
static int ctx_fork_point(const struct reeve_ctx *ctx)
{
	return reeve_fork_point();
}

static uint32_t number_of(const char *name, uint32_t absent)
{
	const char *text = getenv(name);

	return text && *text ? (uint32_t)strtoul(text, NULL, 10) : absent;
}

static void fill(struct context *c, int argc, char *const *argv)
{
	size_t n = reeve_fds(c->fds, RUNNER_FDS);

	c->ctx.size = sizeof(c->ctx);
	c->ctx.group = c->group;
	c->ctx.worker = c->worker;
	c->ctx.argc = argc;
	c->ctx.argv = argv;
	c->ctx.env = (const char *const *)environ;
	c->ctx.fds = c->fds;
	c->ctx.n_fds = n < RUNNER_FDS ? n : RUNNER_FDS;
	c->ctx.stop_fd = reeve_stop_fd();
	c->ctx.stop = &process_self()->stopping;
	c->ctx.ready = ctx_ready;
	c->ctx.beat = ctx_beat;
	c->ctx.status = ctx_status;
	c->ctx.progress = ctx_progress;
	c->ctx.jobs = ctx_jobs;
	c->ctx.busy = ctx_busy;
	c->ctx.fork_point = ctx_fork_point;
	c->ctx.host = c;
}

void context_from_environment(struct context *c, int argc, char **argv)
{
	const char *worker = getenv("REEVE_WORKER"), *group = getenv("REEVE_GROUP");

	c->ctx.index = number_of("REEVE_INDEX", 0);
	c->ctx.count = number_of("REEVE_COUNT", 1);
	c->ctx.incarnation = number_of("REEVE_INCARNATION", 1);
	c->ctx.generation = number_of("REEVE_GENERATION", 1);
	snprintf(c->group, sizeof(c->group), "%s", group ? group : "module");
	snprintf(c->worker, sizeof(c->worker), "%s", worker ? worker : "module:0");
	fill(c, argc, argv);
}

void context_from_birth(struct context *c, const struct birth *b)
{
	size_t group = strcspn(b->name, ":");

	c->ctx.index = channel_u32(b->order, CT_INDEX, 0);
	c->ctx.count = channel_u32(b->order, CT_COUNT, 1);
	c->ctx.incarnation = channel_u32(b->order, CT_INCARNATION, 1);
	c->ctx.generation = channel_u32(b->order, CT_GENERATION, 1);
	memcpy(c->worker, b->name, sizeof(b->name));
	memcpy(c->group, b->name, group);
	c->group[group] = '\0';
	fill(c, b->argc, b->argv);
}
