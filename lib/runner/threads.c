/*
 * A module as N threads of one process. The main thread speaks with the daemon and takes signals;
 * each slot is a thread of its own, which is never cancelled: it is asked to end and joined when it
 * has. The list of slots is the main thread's; a slot's thread touches its own slot only, and sends
 * its own news (a packet is atomic).
 */
#include "lib/runner/runner.h"

#include "lib/process.h"
#include "lib/runner/crash.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct slot {
	struct slot *next;
	struct host *host;
	pthread_t thread;
	struct reeve_ctx ctx;
	char name[64], group[64];
	uint32_t request;  /* of its START */
	const char *state; /* "started", then "ready" */
	int64_t beat_ms;   /* see process_beat_due() */
	volatile int stop;
	_Atomic bool ended; /* the thread is about to return */
	int code;	    /* valid with ended */
	bool joined;	    /* kept to be told of again, until its index is started anew */
	char **env;	    /* points into env_block */
	char *env_block;
};

struct host {
	int channel;
	int wake; /* eventfd: a slot has ended */
	struct module module;
	struct slot *slots;
	size_t running;
	struct reeve_fd fds[RUNNER_FDS];
	size_t n_fds;
	uint32_t generation, count;
	bool quitting;
	bool deaf; /* the daemon is gone */
};

/* --- in the slot's thread ------------------------------------------------------------------ */

static void begin_news(struct channel_packet *p, const struct slot *s, uint32_t request,
		       const char *state)
{
	channel_begin(p, CH_SLOT, request);
	channel_add_u32(p, CT_INDEX, s->ctx.index);
	channel_add_u32(p, CT_INCARNATION, s->ctx.incarnation);
	channel_add_text(p, CT_STATE, state);
}

/* News that the next news replaces are dropped while the daemon does not read. */
static int send_news(const struct slot *s, const struct channel_packet *p)
{
	return channel_send(s->host->channel, p);
}

static int slot_ready(const struct reeve_ctx *ctx)
{
	struct slot *s = ctx->host;
	struct channel_packet p;

	s->state = "ready";
	begin_news(&p, s, 0, "ready");
	return forker_send(s->host->channel, &p);
}

static const char *own_env(const struct slot *s, const char *name)
{
	size_t len = strlen(name);

	for (char **e = s->env; e && *e; e++)
		if (strncmp(*e, name, len) == 0 && (*e)[len] == '=')
			return *e + len + 1;
	return NULL;
}

static int slot_beat(const struct reeve_ctx *ctx)
{
	struct slot *s = ctx->host;
	struct channel_packet p;
	int r;

	if (!process_beat_due(own_env(s, "WATCHDOG_USEC"), &s->beat_ms))
		return 0;
	begin_news(&p, s, 0, "beat");
	r = send_news(s, &p);
	if (r < 0)
		s->beat_ms = 0;
	return r;
}

static int slot_status(const struct reeve_ctx *ctx, const char *text)
{
	const struct slot *s = ctx->host;
	struct channel_packet p;

	begin_news(&p, s, 0, s->state);
	channel_add(&p, CT_TEXT, text, strnlen(text, 240));
	return send_news(s, &p);
}

static int slot_progress(const struct reeve_ctx *ctx, uint64_t done, uint64_t total)
{
	const struct slot *s = ctx->host;
	struct channel_packet p;

	begin_news(&p, s, 0, s->state);
	channel_add_u64_pair(&p, CT_PROGRESS, done, total);
	return send_news(s, &p);
}

/* Jobs add up: they are not dropped. */
static int slot_jobs(const struct reeve_ctx *ctx, uint64_t finished)
{
	const struct slot *s = ctx->host;
	struct channel_packet p;

	begin_news(&p, s, 0, s->state);
	channel_add_u64(&p, CT_JOBS, finished);
	return forker_send(s->host->channel, &p);
}

static int slot_busy(const struct reeve_ctx *ctx, bool busy)
{
	const struct slot *s = ctx->host;
	struct channel_packet p;

	begin_news(&p, s, 0, s->state);
	channel_add_u32(&p, CT_BUSY, busy);
	return forker_send(s->host->channel, &p);
}

static int slot_fork_point(const struct reeve_ctx *ctx)
{
	return 0;
}

static void *slot_main(void *arg)
{
	struct slot *s = arg;
	struct channel_packet p;
	char name[16];
	int code;

	snprintf(name, sizeof(name), "%.15s", s->name);
	pthread_setname_np(pthread_self(), name);
	crash_enter(s->name);
	begin_news(&p, s, s->request, "started");
	forker_send(s->host->channel, &p);
	code = s->host->module.m->run(s->host->module.data, &s->ctx);
	crash_leave();
	s->code = code >= 0 && code <= 255 ? code : 1;
	s->ended = true;
	begin_news(&p, s, 0, "ended");
	channel_add_i32(&p, CT_CODE, s->code);
	forker_send(s->host->channel, &p);
	eventfd_write(s->host->wake, 1);
	return NULL;
}

/* --- slots --------------------------------------------------------------------------------- */

static void slot_free(struct slot *s)
{
	if (!s)
		return;
	if (s->ctx.stop_fd >= 0)
		close(s->ctx.stop_fd);
	free(s->env);
	free(s->env_block);
	free(s);
}

/* Join what has ended; a thread that said so returns at once. */
static void slots_reap(struct host *h)
{
	eventfd_t count;

	eventfd_read(h->wake, &count);
	for (struct slot *s = h->slots; s; s = s->next) {
		if (!s->ended || s->joined)
			continue;
		pthread_join(s->thread, NULL);
		s->joined = true;
		h->running--;
	}
}

static struct slot *slot_find(const struct host *h, uint32_t index)
{
	for (struct slot *s = h->slots; s; s = s->next)
		if (s->ctx.index == index)
			return s;
	return NULL;
}

static void slot_ask(struct slot *s)
{
	s->stop = 1;
	eventfd_write(s->ctx.stop_fd, 1);
}

static int slot_set_env(struct slot *s, const struct channel_message *m)
{
	size_t n = channel_count(m, CT_ENV), i = 0;
	struct channel_record r;
	char *at;

	s->env = calloc(n + 1, sizeof(char *));
	s->env_block = at = malloc(m->len + 1);
	if (!s->env || !at)
		return -ENOMEM;
	for (size_t pos = 0; channel_next(m, &pos, &r);) {
		if (r.tag != CT_ENV)
			continue;
		memcpy(at, r.data, r.len);
		at[r.len] = '\0';
		s->env[i++] = at;
		at += r.len + 1;
	}
	s->ctx.env = (const char *const *)s->env;
	return 0;
}

static void slot_describe(struct slot *s, struct host *h, const struct channel_message *m)
{
	channel_text(m, CT_NAME, s->name, sizeof(s->name));
	snprintf(s->group, sizeof(s->group), "%.*s", (int)strcspn(s->name, ":"), s->name);
	s->host = h;
	s->request = m->request;
	s->state = "started";
	s->ctx = (struct reeve_ctx){
		.size = sizeof(s->ctx),
		.index = channel_u32(m, CT_INDEX, 0),
		.count = channel_u32(m, CT_COUNT, h->count),
		.incarnation = channel_u32(m, CT_INCARNATION, 1),
		.generation = channel_u32(m, CT_GENERATION, h->generation),
		.group = s->group,
		.worker = s->name,
		.fds = h->fds,
		.n_fds = h->n_fds,
		.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.stop = &s->stop,
		.ready = slot_ready,
		.beat = slot_beat,
		.status = slot_status,
		.progress = slot_progress,
		.jobs = slot_jobs,
		.busy = slot_busy,
		.fork_point = slot_fork_point,
		.host = s,
	};
}

/* Signals are the main thread's: a thread inherits the mask of the one that makes it. */
static int slot_launch(struct slot *s)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	/* what a fault raises must reach the thread that it happened in */
	crash_unblock(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&s->thread, NULL, slot_main, s);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

static int send_failed(const struct host *h, uint32_t request, const char *stage, int error,
		       const char *why)
{
	struct channel_packet p;

	channel_begin(&p, CH_FAILED, request);
	channel_add_text(&p, CT_STAGE, stage);
	channel_add_i32(&p, CT_ERRNO, -error);
	channel_add_text(&p, CT_TEXT, why);
	return forker_send(h->channel, &p);
}

static const char *start_refused(const struct host *h, const struct channel_message *m)
{
	const struct slot *s = slot_find(h, channel_u32(m, CT_INDEX, 0));

	if (!h->module.m)
		return "the entry could not be loaded";
	if (h->quitting)
		return "the host is about to end";
	if (s && !s->joined)
		return "this slot runs already";
	if (s && !(h->module.m->flags & REEVE_SLOT_RESTART))
		return "the module cannot run a slot again in one process (REEVE_SLOT_RESTART); "
		       "restart the host";
	return NULL;
}

/* A START that was seen before: the daemon's manager has died since, and may not have heard what
 * has become of it. */
static bool told_again(struct host *h, const struct channel_message *m, int *ret)
{
	const struct slot *s = slot_find(h, channel_u32(m, CT_INDEX, 0));
	struct channel_packet p;

	if (!s || s->ctx.incarnation != channel_u32(m, CT_INCARNATION, 1))
		return false;
	begin_news(&p, s, m->request, s->ended ? "ended" : s->state);
	if (s->ended)
		channel_add_i32(&p, CT_CODE, s->code);
	*ret = forker_send(h->channel, &p);
	return true;
}

/* What its index was before is told of no more. */
static void slot_forget(struct host *h, uint32_t index)
{
	struct slot **at = &h->slots, *s = slot_find(h, index);

	while (*at && *at != s)
		at = &(*at)->next;
	if (*at)
		*at = s->next;
	slot_free(s);
}

static int slot_start(struct host *h, const struct channel_message *m)
{
	int r;

	if (told_again(h, m, &r))
		return r;

	const char *why = start_refused(h, m);
	struct slot *s = why ? NULL : calloc(1, sizeof(*s));

	if (why)
		return send_failed(h, m->request, "start", -EBUSY, why);
	if (!s)
		return send_failed(h, m->request, "start", -ENOMEM, strerror(ENOMEM));
	slot_describe(s, h, m);
	r = s->ctx.stop_fd < 0 ? -errno : slot_set_env(s, m);
	if (r == 0)
		r = slot_launch(s);
	if (r < 0) {
		slot_free(s);
		return send_failed(h, m->request, "start", r, strerror(-r));
	}
	slot_forget(h, s->ctx.index);
	s->next = h->slots;
	h->slots = s;
	h->running++;
	return 0;
}

/* Without an index: all of them. */
static void slots_stop(struct host *h, const struct channel_message *m)
{
	uint32_t index = m ? channel_u32(m, CT_INDEX, UINT32_MAX) : UINT32_MAX;
	uint32_t incarnation = m ? channel_u32(m, CT_INCARNATION, 0) : 0;

	for (struct slot *s = h->slots; s; s = s->next)
		if ((index == UINT32_MAX || s->ctx.index == index) &&
		    (incarnation == 0 || s->ctx.incarnation == incarnation))
			slot_ask(s);
}

/* --- the host ------------------------------------------------------------------------------ */

static void add_figures(struct channel_packet *p)
{
	struct safety_figures now;

	safety_figures(&now);
	channel_add_u32(p, CT_TASKS, now.tasks);
	channel_add_u64(p, CT_RSS, now.rss_bytes);
	channel_add_u32(p, CT_FDS, now.fds);
}

static int handle(struct host *h, const struct channel_message *m)
{
	struct channel_packet p;

	switch (m->type) {
	case CH_START:
		slots_reap(h);
		return slot_start(h, m);
	case CH_STOP:
		slots_stop(h, m);
		return 0;
	case CH_PING:
		channel_begin(&p, CH_PONG, m->request);
		add_figures(&p);
		return forker_send(h->channel, &p);
	case CH_QUIT:
		h->quitting = true;
		slots_stop(h, NULL);
		return 0;
	default:
		return -EPROTO;
	}
}

static int read_channel(struct host *h)
{
	struct channel_packet p;
	struct channel_message m;
	const char *why = "a message out of turn";
	ssize_t n = channel_recv(h->channel, &p);
	int r;

	if (n == -EAGAIN)
		return 0;
	if (n == 0 || n == -ECONNRESET) {
		h->deaf = h->quitting = true;
		slots_stop(h, NULL);
		return 0;
	}
	r = n < 0 ? -EPROTO : channel_parse(&p, CHANNEL_DAEMON, &m, &why);
	if (r == 0)
		r = handle(h, &m);
	channel_packet_fini(&p);
	if (r == -EPROTO || r == -EBADMSG)
		runner_say("protocol error: %s", why);
	return r;
}

static int host_loop(struct host *h)
{
	struct process *self = process_self();

	while (!h->quitting || h->running > 0) {
		struct pollfd look[] = {
			{ h->deaf ? -1 : h->channel, POLLIN, 0 },
			{ h->wake, POLLIN, 0 },
			{ h->quitting ? -1 : self->stop_fd, POLLIN, 0 },
		};

		poll(look, 3, -1);
		if (self->stopping && !h->quitting) {
			h->quitting = true;
			slots_stop(h, NULL);
		}
		if (look[1].revents)
			slots_reap(h);
		if (look[0].revents && read_channel(h) < 0)
			return 1;
	}
	return 0;
}

/* What came of it is said in READY, as templates do. */
static void host_load(struct host *h, const struct channel_message *hello,
		      struct channel_packet *ready)
{
	char path[PATH_MAX], why[512] = "HELLO names no entry";
	int r = -EINVAL;

	if (channel_text(hello, CT_ENTRY, path, sizeof(path)) > 0)
		r = module_open(&h->module, path, why, sizeof(why));
	if (r == 0 && !(h->module.m->flags & REEVE_THREADS)) {
		snprintf(
			why, sizeof(why),
			"%.200s: the module does not say that it works in threads (REEVE_THREADS); "
			"use start_method = \"forkserver\" or \"spawn\"",
			path);
		h->module.m = NULL;
		r = -EOPNOTSUPP;
	}
	channel_add_text(ready, CT_PRELOAD, path);
	if (r < 0) {
		runner_say("%s", why);
		channel_add_text(ready, CT_ERROR, why);
	}
}

static int host_begin(struct host *h, const struct channel_message *hello)
{
	uint64_t begin = runner_now_us();
	struct channel_packet ready;
	int r;

	h->count = channel_u32(hello, CT_COUNT, 1);
	h->generation = channel_u32(hello, CT_GENERATION, 1);
	channel_begin(&ready, CH_READY, 0);
	host_load(h, hello, &ready);
	channel_add_u64(&ready, CT_LOAD_US, runner_now_us() - begin);
	h->n_fds = reeve_fds(h->fds, RUNNER_FDS);
	h->n_fds = h->n_fds < RUNNER_FDS ? h->n_fds : RUNNER_FDS;
	h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = h->wake < 0 ? -errno : process_arm();
	if (r < 0)
		return r;
	crash_install();
	add_figures(&ready);
	return forker_send(h->channel, &ready);
}

int run_threads(int channel)
{
	static struct host h;
	struct forker *f = &process_self()->forker;
	struct channel_packet p;
	struct channel_message hello;
	int r = forker_hello(f, channel, RUNNER_RUNTIME, &p, &hello);

	h.channel = channel;
	if (r == -ECONNRESET)
		return 0;
	if (r < 0) {
		runner_say("protocol error: %s", f->why ? f->why : strerror(-r));
		return 1;
	}
	if (host_begin(&h, &hello) < 0)
		return 1;
	r = host_loop(&h);
	if (r == 0 && h.module.m && h.module.m->unload)
		h.module.m->unload(h.module.data);
	return r;
}
