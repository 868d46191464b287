/* The module of methods.py: load touches BENCH_HEAP_MIB of heap, run writes the clock to fd 1. */
#include "lib/reeve.h"

#include <errno.h>
#include <stdlib.h>
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

static int run(void *data, const struct reeve_ctx *ctx)
{
	struct timespec t;
	long long now;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = (long long)t.tv_sec * 1000000000 + t.tv_nsec;
	return write(1, &now, sizeof(now)) == (ssize_t)sizeof(now) ? 0 : 1;
}

const struct reeve_module reeve_module = {
	.abi = REEVE_ABI,
	.size = sizeof(reeve_module),
	.flags = REEVE_FORK_SAFE,
	.name = "bench",
	.version = "1",
	.load = load,
	.run = run,
};
