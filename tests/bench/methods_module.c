/*
 * The module of methods.py: load touches BENCH_HEAP_MIB of heap, run writes the clock to fd 1. With
 * BENCH_MARKS it is the worker of the `method` benches: a mark with its first statement, then
 * nothing.
 */
#include "lib/reeve.h"
#include "tests/bench/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int load(void **ret_data)
{
	const char *text = getenv("BENCH_HEAP_MIB");
	size_t bytes = text ? (size_t)atoi(text) << 20 : 0;
	volatile char *heap = malloc(bytes + 1);

	if (!heap)
		return -ENOMEM;
	for (size_t i = 0; i < bytes; i += 4096)
		heap[i] = 1;
	*ret_data = (void *)(uintptr_t)heap;
	return 0;
}

static const char *own_env(const struct reeve_ctx *ctx, const char *name)
{
	size_t len = strlen(name);

	for (const char *const *at = ctx->env; *at; at++)
		if (strncmp(*at, name, len) == 0 && (*at)[len] == '=')
			return *at + len + 1;
	return NULL;
}

static int mark(const struct reeve_ctx *ctx, long long now)
{
	struct mark m = { .at_ns = (uint64_t)now,
			  .pid = (uint32_t)getpid(),
			  .index = (uint16_t)ctx->index,
			  .kind = MARK_UP };
	int fd = open(own_env(ctx, "BENCH_MARKS"), O_WRONLY | O_CLOEXEC), r;

	if (fd < 0)
		return -1;
	r = write(fd, &m, sizeof(m)) == (ssize_t)sizeof(m) ? 0 : -1;
	close(fd);
	return r;
}

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int stay(const struct reeve_ctx *ctx)
{
	const char *method = own_env(ctx, "BENCH_METHOD");
	bool seeds = method && strcmp(method, "fork") == 0;

	while (!*ctx->stop) {
		struct pollfd stop = { ctx->stop_fd, POLLIN, 0 };

		poll(&stop, 1, seeds && ctx->index == 0 ? 1 : -1);
		if (ctx->fork_point(ctx) == 1 && mark(ctx, now_ns()) < 0)
			return 1;
	}
	return 0;
}

static int run(void *data, const struct reeve_ctx *ctx)
{
	long long now;

	if (own_env(ctx, "BENCH_MARKS")) {
		ctx->fork_point(ctx);
		return mark(ctx, now_ns()) < 0 ? 1 : stay(ctx);
	}
	now = now_ns();
	return write(1, &now, sizeof(now)) == (ssize_t)sizeof(now) ? 0 : 1;
}

const struct reeve_module reeve_module = {
	.abi = REEVE_ABI,
	.size = sizeof(reeve_module),
	.flags = REEVE_FORK_SAFE | REEVE_THREADS | REEVE_SLOT_RESTART,
	.name = "bench",
	.version = "1",
	.load = load,
	.run = run,
};
