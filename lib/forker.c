/* The template's side. Owns nothing but what it was given: the channel stays the caller's. */
#include "lib/forker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int forker_send(int channel, const struct channel_packet *p)
{
	struct pollfd room = { channel, POLLOUT, 0 };
	int r;

	while ((r = channel_send(channel, p)) == -EAGAIN)
		poll(&room, 1, -1);
	return r;
}

ssize_t forker_receive(int channel, struct channel_packet *p)
{
	struct pollfd wait = { channel, POLLIN, 0 };
	ssize_t n;

	while ((n = channel_recv(channel, p)) == -EAGAIN)
		poll(&wait, 1, -1);
	return n == -ECONNRESET ? 0 : n;
}

static int protest(struct forker *f, const char *why)
{
	f->why = why;
	return -EPROTO;
}

/* --- hello and ready ----------------------------------------------------------------------- */

static void note_allowed(struct forker *f, const struct channel_message *m)
{
	struct channel_record r;

	f->safety.allowed = f->allowed;
	f->safety.n_allowed = 0;
	for (size_t i = 0; channel_find(m, CT_ALLOW_THREAD, i, &r); i++)
		if (i < FORKER_ALLOWED && r.len < sizeof(f->allowed[0])) {
			memcpy(f->allowed[f->safety.n_allowed], r.data, r.len);
			f->allowed[f->safety.n_allowed++][r.len] = '\0';
		}
}

int forker_hello(struct forker *f, int channel, const char *runtime, struct channel_packet *keep,
		 struct channel_message *ret)
{
	struct channel_packet answer;
	ssize_t n = forker_receive(channel, keep);

	f->channel = channel;
	if (n <= 0)
		return n == 0 ? -ECONNRESET : (int)n;
	if (channel_parse(keep, CHANNEL_DAEMON, ret, &f->why) < 0)
		return -EPROTO;
	if (ret->type != CH_HELLO)
		return protest(f, "no HELLO first");
	if (channel_version(ret) < 0) {
		f->why = "no version that both sides speak";
		return -EPROTONOSUPPORT;
	}
	f->seed = channel_text_is(ret, CT_MODE, "seed");
	f->count = channel_u32(ret, CT_COUNT, 1);
	note_allowed(f, ret);
	channel_begin(&answer, CH_HELLO, 0);
	channel_add_versions(&answer);
	channel_add_text(&answer, CT_RUNTIME, runtime);
	return forker_send(channel, &answer);
}

static void add_figures(struct channel_packet *p)
{
	struct safety_figures now;

	safety_figures(&now);
	channel_add_u32(p, CT_TASKS, now.tasks);
	channel_add_u64(p, CT_RSS, now.rss_bytes);
	channel_add_u32(p, CT_FDS, now.fds);
}

static int send_unsafe(struct forker *f, uint32_t request, const struct safety_report *report)
{
	struct channel_packet p;

	channel_begin(&p, CH_UNSAFE, request);
	for (size_t i = 0; i < report->n; i++)
		channel_add_text(&p, CT_TEXT, report->text[i]);
	return forker_send(f->channel, &p);
}

/*
 * Threads, timers and changes of user have signals of the C library's own, which it does not show
 * and sets up once: who has it once has to have it in each copy.
 */
static bool libc_has_handlers(void)
{
	uintptr_t now[16]; /* the kernel's struct sigaction, which begins with the handler */

	for (int i = SIGSYS + 1; i < SIGRTMIN; i++)
		if (syscall(SYS_rt_sigaction, i, NULL, now, _NSIG / 8) < 0 ||
		    now[0] > (uintptr_t)SIG_IGN)
			return true;
	return false;
}

/* What can be had with the fork, and what is left for the worker: what we ignore stays ignored. */
static void note_signals(struct forker *f)
{
	struct sigaction now;

	f->way = libc_has_handlers() ? ADOPT_BEST : ADOPT_CLEAN;
	sigemptyset(&f->birth.ignored);
	for (int i = 1; i <= SIGRTMAX; i++)
		if (sigaction(i, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
			sigaddset(&f->birth.ignored, i);
}

static int check_safety(struct forker *f, const struct channel_packet *p, bool thorough,
			struct safety_report *ret)
{
	int r;
	int own[CHANNEL_FDS_MAX + 1];

	if (f->refusal) {
		snprintf(ret->text[0], sizeof(ret->text[0]), "%s", f->refusal);
		ret->n = 1;
		return 1;
	}
	/* the packet's fds belong to the protocol, as the channel does */
	memcpy(own, p->fds, p->n_fds * sizeof(int));
	own[p->n_fds] = f->channel;
	note_signals(f);
	r = safety_check(&f->safety, own, p->n_fds + 1, thorough, ret);
	f->is_good = r == 0 && !f->seed;
	return r;
}

int forker_ready_send(struct forker *f, struct channel_packet *ready, uint64_t load_us)
{
	struct safety_report report;
	int r;

	/* without it ps shows the workers as the template */
	title_prepare(&f->birth.title);
	channel_add_u64(ready, CT_LOAD_US, load_us);
	add_figures(ready);
	r = forker_send(f->channel, ready);
	if (r < 0)
		return r;
	r = check_safety(f, ready, true, &report);
	if (!f->seed)
		safety_remember(&f->safety);
	return r > 0 ? send_unsafe(f, 0, &report) : 0;
}

/* --- serving ------------------------------------------------------------------------------- */

static int send_failed(struct forker *f, uint32_t request, const char *stage, int error)
{
	struct channel_packet p;

	channel_begin(&p, CH_FAILED, request);
	channel_add_text(&p, CT_STAGE, stage);
	channel_add_i32(&p, CT_ERRNO, -error);
	channel_add_text(&p, CT_TEXT, strerror(-error));
	forker_send(f->channel, &p);
	return FORKER_SERVED;
}

static int send_spawned(struct forker *f, uint32_t request, const struct adopt_result *a)
{
	const int32_t cgroup_errno = -a->cgroup_error;
	struct channel_packet p;

	channel_begin(&p, CH_SPAWNED, request);
	channel_add_i32(&p, CT_PID, a->pid);
	if (cgroup_errno)
		channel_add_optional(&p, CT_ERRNO, &cgroup_errno, sizeof(cgroup_errno));
	forker_send(f->channel, &p);
	return FORKER_SERVED;
}

static int cgroup_of(const struct channel_packet *p, const struct channel_message *m)
{
	for (size_t i = 0; i < p->n_fds; i++)
		if (channel_fd_target(m, i) == CHANNEL_FD_CGROUP)
			return p->fds[i];
	return -1;
}

/* 0: it is safe; 1: refused, and answered. */
static int look(struct forker *f, const struct channel_packet *p, const struct channel_message *m)
{
	const struct forker_guest *g = f->guest;
	struct safety_report report;
	int r;

	if (f->is_good && !f->before_fork && !(g && g->always) &&
	    safety_unchanged(&f->safety, p->n_fds))
		return 0;
	if (g) {
		r = g->look(f->birth.arg, m->request, p->fds, p->n_fds);
		f->is_good = r == 0 && !f->seed;
		note_signals(f);
		return r;
	}
	r = check_safety(f, p, false, &report);
	if (r > 0)
		send_unsafe(f, m->request, &report);
	return r > 0 ? 1 : r;
}

/* As adopt_fork(); the caller of the one that is copied is told before and after. */
static int fork_worker(struct forker *f, struct channel_packet *p, const struct channel_message *m)
{
	struct adopt_result adopted;
	int r;

	/* what stands in a buffer would be written by every copy */
	fflush(NULL);
	if (f->guest)
		f->guest->before(f->birth.arg);
	r = adopt_fork(f->way, cgroup_of(p, m), &adopted);
	if (r == 0) {
		f->birth.has_handlers = adopted.has_handlers;
		return FORKER_WORKER;
	}
	if (r > 0) {
		/* who hears SPAWNED may look at once, and takes what is open still for a leak */
		channel_packet_fini(p);
		send_spawned(f, m->request, &adopted);
	} else {
		send_failed(f, m->request, "fork", r);
	}
	if (f->guest)
		f->guest->after(f->birth.arg);
	return FORKER_SERVED;
}

/* Who asked has closed the worker's channel (it died, perhaps), and its successor asks anew. */
static bool is_unwanted(const struct channel_packet *p)
{
	struct pollfd channel = { p->fds[0], 0, 0 };

	return poll(&channel, 1, 0) > 0 && (channel.revents & POLLHUP);
}

static int serve_fork(struct forker *f, struct channel_packet *p, const struct channel_message *m)
{
	pid_t self = getpid();
	int r;

	/* a seed does not count these: it would be through before anybody asks anew */
	if (is_unwanted(p)) {
		send_failed(f, m->request, "asked", -EPIPE);
		return FORKER_UNWANTED;
	}
	f->served++;
	r = f->before_fork ? f->before_fork(f->birth.arg) : 0;
	if (r < 0)
		return send_failed(f, m->request, "before_fork", r);
	r = look(f, p, m);
	if (r < 0)
		return send_failed(f, m->request, "safety", r);
	if (r > 0 || fork_worker(f, p, m) == FORKER_SERVED)
		return FORKER_SERVED;
	f->birth.order = m;
	f->birth.fds = p->fds;
	f->birth.n_fds = p->n_fds;
	f->birth.template_pid = self;
	if (f->guest)
		f->guest->become(f->birth.arg, &f->birth);
	else
		birth_run(&f->birth);
	return FORKER_WORKER;
}

static int serve_ping(struct forker *f, uint32_t request)
{
	struct channel_packet p;

	channel_begin(&p, CH_PONG, request);
	add_figures(&p);
	forker_send(f->channel, &p);
	return FORKER_PINGED;
}

int forker_turn(struct forker *f, bool wait)
{
	struct channel_packet p;
	struct channel_message m;
	ssize_t n = wait ? forker_receive(f->channel, &p) : channel_recv(f->channel, &p);
	int r;

	if (n == -EAGAIN)
		return FORKER_NOTHING;
	if (n == -EMFILE)
		return protest(f, "descriptors were lost on the way");
	if (n == -EMSGSIZE)
		return protest(f, "longer than a packet may be");
	if (n <= 0)
		return FORKER_QUIT;
	if (channel_parse(&p, CHANNEL_DAEMON, &m, &f->why) < 0)
		r = -EPROTO;
	else if (m.type == CH_FORK)
		r = serve_fork(f, &p, &m);
	else if (m.type == CH_PING)
		r = serve_ping(f, m.request);
	else if (m.type == CH_QUIT)
		r = FORKER_QUIT;
	else
		r = protest(f, "a message out of turn");
	/* in the worker these numbers are its own by now */
	if (r != FORKER_WORKER)
		channel_packet_fini(&p);
	return r;
}
