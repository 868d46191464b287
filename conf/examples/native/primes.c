/*
 * A module: workers that know which numbers are prime. load() makes the table, once in a template
 * or host; all workers then share its memory. Each answers one line for each line that a client
 * sends, on a socket that Reeve holds:
 *
 *     $ printf '97\n91\n' | nc -N 127.0.0.1 8090
 *     97 is prime, says primes:2
 *     91 is not, says primes:2
 */
#include "lib/reeve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT	 (64u << 20) /* a table of 8 MiB */
#define LINE_MAX 64

static int make_table(void **ret_data)
{
	unsigned char *composite = calloc(LIMIT / 8, 1);

	if (!composite)
		return -ENOMEM;
	composite[0] |= 3;
	for (size_t i = 2; i * i < LIMIT; i++)
		if (!(composite[i / 8] & 1u << i % 8))
			for (size_t k = i * i; k < LIMIT; k += i)
				composite[k / 8] |= (unsigned char)(1u << k % 8);
	*ret_data = composite;
	return 0;
}

static void drop_table(void *data)
{
	free(data);
}

static const char *judge(const unsigned char *composite, const char *line)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(line, &end, 10);
	if (errno || end == line || *end || n >= LIMIT)
		return "is beyond me";
	return composite[n / 8] & 1u << n % 8 ? "is not" : "is prime";
}

/* One client; it may think for two seconds about each line. */
static uint64_t serve(const struct reeve_ctx *ctx, const unsigned char *composite, int client)
{
	struct timeval patience = { .tv_sec = 2 };
	FILE *f = fdopen(client, "r");
	char line[LINE_MAX];
	uint64_t answered = 0;

	if (!f) {
		close(client);
		return 0;
	}
	setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	while (!*ctx->stop && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\r\n")] = '\0';
		if (dprintf(client, "%s %s, says %s\n", line, judge(composite, line), ctx->worker) <
		    0)
			break;
		answered++;
	}
	fclose(f);
	return answered;
}

static int run(void *data, const struct reeve_ctx *ctx)
{
	struct pollfd wait[2];
	uint64_t answered = 0;
	char status[80];

	/* in a copy that is made here everything in *ctx is another one's */
	if (ctx->fork_point(ctx) < 0)
		return 1;
	wait[0] = (struct pollfd){ ctx->stop_fd, POLLIN, 0 };
	wait[1] = (struct pollfd){ ctx->n_fds ? ctx->fds[0].fd : -1, POLLIN, 0 };
	/* all workers wake for a client, one gets it */
	if (ctx->n_fds)
		fcntl(wait[1].fd, F_SETFL, O_NONBLOCK);
	ctx->ready(ctx);
	while (!*ctx->stop) {
		int client;

		if (poll(wait, 2, -1) < 0 || !wait[1].revents)
			continue;
		client = accept4(wait[1].fd, NULL, NULL, SOCK_CLOEXEC);
		if (client < 0)
			continue; /* another worker was faster */
		ctx->busy(ctx, true);
		answered += serve(ctx, data, client);
		ctx->busy(ctx, false);
		snprintf(status, sizeof(status), "answered %llu", (unsigned long long)answered);
		ctx->status(ctx, status);
	}
	return 0;
}

const struct reeve_module reeve_module = {
	.abi = REEVE_ABI,
	.size = sizeof(reeve_module),
	.flags = REEVE_FORK_SAFE | REEVE_THREADS | REEVE_SLOT_RESTART,
	.name = "primes",
	.version = "1",
	.load = make_table,
	.run = run,
	.unload = drop_table,
};
