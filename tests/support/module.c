/*
 * The module of the tests: a puppet under any start method.
 *
 * Without MODULE_RUN its workers do what template_conformance.py asks for. MODULE_RUN: "exit:N",
 * "signal:N" (100 if it does not kill), "end:N" (one scale for both: 0 stays and is a seed, from 1
 * on the exit codes from 0 on, from 257 on the signals from 1 on), "wait" (until asked to end; then
 * 0), "rand" (two numbers, then wait), "cancel" (a thread), "crash", "hang", "fork" (a copy at a
 * fork point), "say" (everything that it was told, then wait), "life" (what ../chaos/life.py does
 * as `run`). MODULE_LOAD, what load does: "thread:NAME", "open:PATH", "lock:PATH", "cancel" (a
 * thread), "fail". MODULE_FORK, what before_fork does: "thread:NAME", "open:PATH".
 */
#include "lib/reeve.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static void wait_for_ever(void)
{
	for (;;)
		pause();
}

static void *rest(void *runs)
{
	sem_post(runs);
	wait_for_ever();
	return NULL;
}

/* The C library sets up a signal of its own for this, once. */
static int cancel_thread(void)
{
	static sem_t runs;
	pthread_t thread;
	int r;

	sem_init(&runs, 0, 0);
	r = pthread_create(&thread, NULL, rest, &runs);
	if (r == 0)
		r = pthread_cancel(thread);
	return r ? -r : -pthread_join(thread, NULL);
}

/*
 * The name is set by us, not by the thread: it has it when load returns. And it holds no lock of
 * the C library or of a sanitizer by then: only what rests may be forked beside.
 */
static int start_thread(const char *name)
{
	static sem_t runs;
	pthread_t thread;
	int r;

	sem_init(&runs, 0, 0);
	r = pthread_create(&thread, NULL, rest, &runs);
	if (r)
		return -r;
	while (sem_wait(&runs) < 0)
		;
	return -pthread_setname_np(thread, name);
}

static int misbehave(const char *what)
{
	const char *arg = what ? strchr(what, ':') : NULL;
	int fd;

	if (!what || !*what)
		return 0;
	if (strcmp(what, "cancel") == 0)
		return cancel_thread();
	if (!arg)
		return -EOWNERDEAD;
	if (strncmp(what, "thread", 6) == 0)
		return start_thread(arg + 1);
	fd = open(arg + 1, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	return strncmp(what, "lock", 4) == 0 && flock(fd, LOCK_EX) < 0 ? -errno : 0;
}

static int load(void **ret_data)
{
	static char data[] = "loaded";

	*ret_data = data;
	return misbehave(getenv("MODULE_LOAD"));
}

static int before_fork(void *data)
{
	return misbehave(getenv("MODULE_FORK"));
}

static int after_fork(void *data, const struct reeve_ctx *ctx)
{
	const char *what = getenv("MODULE_AFTER");

	return what && strcmp(what, "fail") == 0 ? -EBUSY : 0;
}

static const char *own_env(const struct reeve_ctx *ctx, const char *name)
{
	size_t len = strlen(name);

	for (const char *const *at = ctx->env; *at; at++)
		if (strncmp(*at, name, len) == 0 && (*at)[len] == '=')
			return *at + len + 1;
	return NULL;
}

static int wait_for_stop(const struct reeve_ctx *ctx)
{
	struct pollfd stop = { ctx->stop_fd, POLLIN, 0 };

	while (!*ctx->stop)
		if (poll(&stop, 1, -1) < 0 && errno != EINTR)
			return 3;
	return 0;
}

static int conform(const struct reeve_ctx *ctx)
{
	const char *says = own_env(ctx, "SAYS");
	char line[32] = "";
	ssize_t n;

	printf("%s %d\n", says ? says : "-", rand());
	fflush(stdout);
	n = read(0, line, sizeof(line) - 1);
	return n > 0 ? atoi(line) : 0;
}

/* Exit code 100 if it goes on. A host of threads blocks most. */
static int die_by(int number)
{
	sigset_t one;

	sigemptyset(&one);
	sigaddset(&one, number);
	signal(number, SIG_DFL);
	pthread_sigmask(SIG_UNBLOCK, &one, NULL);
	raise(number);
	return 100;
}

/* Where MODULE_RUN is another one in a copy, that one counts. */
static int end_by(const struct reeve_ctx *ctx)
{
	int number;

	while ((number = atoi(own_env(ctx, "MODULE_RUN") + 4)) == 0 && !*ctx->stop) {
		struct pollfd look = { ctx->stop_fd, POLLIN, 0 };

		poll(&look, 1, 10);
		ctx->fork_point(ctx);
	}
	return number <= 256 ? (number ? number - 1 : 0) : die_by(number - 256);
}

static int say_all(const struct reeve_ctx *ctx)
{
	printf("%s %u/%u %u.%u %s fds %zu %s argv %d %s\n", ctx->worker, ctx->index, ctx->count,
	       ctx->generation, ctx->incarnation, ctx->group, ctx->n_fds,
	       ctx->n_fds ? ctx->fds[0].name : "-", ctx->argc, ctx->argc ? ctx->argv[0] : "-");
	fflush(stdout);
	ctx->status(ctx, "everything was said");
	ctx->progress(ctx, 1, 2);
	ctx->jobs(ctx, 3);
	ctx->busy(ctx, false);
	ctx->beat(ctx);
	return wait_for_stop(ctx);
}

static int say_rand(const struct reeve_ctx *ctx)
{
	printf("rand %d %ld %ld\n", rand(), random(), lrand48());
	fflush(stdout);
	return wait_for_stop(ctx);
}

static int copy_yourself(const struct reeve_ctx *ctx)
{
	int r = ctx->fork_point(ctx);

	if (r < 0)
		return 9;
	printf("%s is %s, data %s\n", ctx->worker, r ? "a copy" : "the seed", own_env(ctx, "SAYS"));
	fflush(stdout);
	while (!*ctx->stop) {
		struct pollfd look = { ctx->stop_fd, POLLIN, 0 };

		poll(&look, 1, 20);
		if (ctx->fork_point(ctx) == 1) {
			printf("%s is a late copy\n", ctx->worker);
			fflush(stdout);
		}
	}
	return 0;
}

/* One entry of a puppet's journal, with one write. */
static int note(const struct reeve_ctx *ctx, const char *word, const char *text)
{
	char line[256];
	struct timespec now;
	const char *path = own_env(ctx, "CHAOS_JOURNAL");
	int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
	ssize_t n;

	if (fd < 0)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &now);
	n = snprintf(line, sizeof(line), "%lld %d %s %s\n",
		     now.tv_sec * 1000000LL + now.tv_nsec / 1000, (int)getpid(), word, text);
	n = write(fd, line, n);
	close(fd);
	return n < 0 ? -1 : 0;
}

static long own_number(const struct reeve_ctx *ctx, const char *name, long otherwise)
{
	const char *text = own_env(ctx, name);

	return text ? atol(text) : otherwise;
}

/*
 * Token, lock of the slot (held by not closing it), numbered lines: CHAOS_LINE_US apart, for ever
 * or CHAOS_LINES of them and then an exit code that says which life it was.
 */
static int leave_traces(const struct reeve_ctx *ctx)
{
	const char *epoch = own_env(ctx, "EPOCH"), *locks = own_env(ctx, "CHAOS_LOCKS");
	const long apart_us = own_number(ctx, "CHAOS_LINE_US", 4000);
	const unsigned long lines = own_number(ctx, "CHAOS_LINES", LONG_MAX);
	const struct timespec pause = { apart_us / 1000000, apart_us % 1000000 * 1000 };
	char text[256];
	int fd;

	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	snprintf(text, sizeof(text), "%s %s %u", epoch, ctx->worker, ctx->incarnation);
	if (note(ctx, "note", text) < 0)
		return 5;
	snprintf(text, sizeof(text), "%s/lock-%s", locks, ctx->worker);
	fd = open(text, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return 6;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		note(ctx, "double", ctx->worker);
	for (unsigned long n = 0; n < lines; n++) {
		dprintf(1, "row-%s.%u.%d %lu\n", epoch, ctx->incarnation, (int)getpid(), n);
		nanosleep(&pause, NULL);
	}
	return (int)(ctx->incarnation % 7 + 1);
}

static int run(void *data, const struct reeve_ctx *ctx)
{
	const char *what = own_env(ctx, "MODULE_RUN");

	if (strcmp(data, "loaded") != 0)
		return 8;
	if (!what || !*what)
		return conform(ctx);
	/* a seed is warm at once; "fork" has fork points of its own */
	if (strcmp(what, "fork") != 0 && ctx->fork_point(ctx) < 0)
		return 9;
	ctx->ready(ctx);
	if (strncmp(what, "exit:", 5) == 0)
		return atoi(what + 5);
	if (strncmp(what, "signal:", 7) == 0)
		return die_by(atoi(what + 7));
	if (strncmp(what, "end:", 4) == 0)
		return end_by(ctx);
	if (strcmp(what, "crash") == 0)
		*(volatile int *)(uintptr_t)(ctx->index * 8) = 1;
	if (strcmp(what, "cancel") == 0)
		return cancel_thread() < 0 ? 7 : 0;
	if (strcmp(what, "hang") == 0)
		wait_for_ever();
	if (strcmp(what, "rand") == 0)
		return say_rand(ctx);
	if (strcmp(what, "say") == 0)
		return say_all(ctx);
	if (strcmp(what, "life") == 0)
		return leave_traces(ctx);
	if (strcmp(what, "fork") == 0)
		return copy_yourself(ctx);
	return wait_for_stop(ctx);
}

static void unload(void *data)
{
	fflush(stdout);
}

extern const struct reeve_module reeve_module;
const struct reeve_module reeve_module = {
	.abi = REEVE_ABI,
	.size = sizeof(reeve_module),
#ifdef MODULE_FLAGS
	.flags = MODULE_FLAGS,
#else
	.flags = REEVE_FORK_SAFE | REEVE_THREADS | REEVE_SLOT_RESTART,
#endif
	.name = "module",
	.version = "1",
	.load = load,
	.before_fork = before_fork,
	.after_fork = after_fork,
	.run = run,
	.unload = unload,
};
