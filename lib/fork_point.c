/*
 * fork_point(): a seed serves the daemon's orders for copies of itself. Until the first call the
 * daemon's HELLO waits in the channel. A copy has a channel of its own; when the daemon says HELLO
 * on that one, the copy is a seed, too.
 */
#include "lib/reeve.h"

#include "lib/process.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define RUNTIME "native " REEVE_VERSION

/* The channel that the daemon speaks on: -1 without Reeve or with another start method. */
static int find_channel(const struct process *self)
{
	const char *text = getenv(CHANNEL_ENV);
	char *end;
	long n;

	if (self->worker_channel >= 0)
		return self->worker_channel;
	if (!text || !*text)
		return -1;
	n = strtol(text, &end, 10);
	return *end || n < 3 || n > 1 << 20 ? -1 : (int)n;
}

/* A copy becomes a seed only when the daemon says so: do not wait for it. */
static bool has_news(int channel)
{
	struct pollfd look = { channel, POLLIN, 0 };

	return poll(&look, 1, 0) > 0 && !(look.revents & POLLNVAL);
}

static uint64_t us_of_life(void)
{
	struct timespec cpu;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	return (uint64_t)cpu.tv_sec * 1000000 + (uint64_t)cpu.tv_nsec / 1000;
}

static int greet(struct process *self, int channel)
{
	struct channel_packet p;
	struct channel_message hello;
	int r = forker_hello(&self->forker, channel, RUNTIME, &p, &hello);

	if (r < 0)
		return r;
	channel_packet_fini(&p);
	self->greeted = true;
	return 0;
}

/* The first call: everything is warm. */
static int begin(struct process *self, int channel)
{
	struct channel_packet p;
	int r = self->greeted ? 0 : greet(self, channel);

	if (r < 0)
		return r;
	self->forker.served = 0;
	channel_begin(&p, CH_READY, 0);
	r = forker_ready_send(&self->forker, &p, us_of_life());
	self->seeding = r == 0;
	return r;
}

static int serve(struct process *self, bool first)
{
	for (;;) {
		bool wait = first && self->forker.served + 1 < self->forker.count;
		int r = forker_turn(&self->forker, wait);

		if (r == FORKER_WORKER)
			return 1;
		if (r == FORKER_PINGED)
			first = false;
		if (r == FORKER_QUIT) {
			/* no more copies; the seed itself is asked to end as every worker is */
			close(self->forker.channel);
			unsetenv(CHANNEL_ENV);
			self->worker_channel = -1;
			self->greeted = self->seeding = false;
		}
		if (r < 0 || r == FORKER_NOTHING || r == FORKER_QUIT)
			return r < 0 ? r : 0;
	}
}

int reeve_fork_point(void)
{
	struct process *self = process_self();
	bool first = !self->seeding;
	int channel, r;

	if (first) {
		channel = find_channel(self);
		if (channel < 0 || (self->worker_channel >= 0 && !has_news(channel)))
			return 0;
		r = begin(self, channel);
		if (r < 0)
			return r == -ECONNRESET ? 0 : r;
	}
	return serve(self, first);
}
