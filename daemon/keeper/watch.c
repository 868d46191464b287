/*
 * Finds roles that hang. They are judged by unconsumed work, not by pings, so an idle daemon wakes
 * nobody: the clock starts when work waits for the manager (its bell, an unknown phase, a client at
 * the control socket) and stops when it is consumed. The logger says in the log book when it enters
 * a call that may block. Who was late ourselves grants one more period.
 */
#include "keeper/keeper.h"

#include "base/clock.h"
#include "base/mem.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>

#define WATCHDOG_MS   30000
#define ABORT_MS      1000 /* from ABRT (a core to look at) to KILL */
#define DOUBTS	      3	   /* looks, this far apart, before work counts as left lying */
#define DOUBT_MS      200
#define LOG_HANG_MS   2000 /* in one write */
#define LATE_GRACE_MS 500

static int64_t period(const struct keeper *k)
{
	int64_t ms = atomic_load(&k->ledger.h->watchdog_ms);

	return ms > 0 ? ms : WATCHDOG_MS;
}

static int64_t later(int64_t now, int64_t ms)
{
	return ms >= KEEPER_NEVER - now ? KEEPER_NEVER : now + ms;
}

static bool manager_has_work(const struct keeper *k)
{
	struct ledger_header *h = k->ledger.h;
	struct pollfd p[] = { { .fd = k->bells[1], .events = POLLIN },
			      { .fd = k->store.control, .events = POLLIN } };

	if (atomic_load(&h->phase) != atomic_load(&h->phase_ack))
		return true;
	return poll(p, 2, 0) > 0 && ((p[0].revents | p[1].revents) & POLLIN);
}

static bool logger_has_work(const struct keeper *k)
{
	struct pollfd p = { .fd = k->bells[2], .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static const struct {
	bool (*has_work)(const struct keeper *k);
} judged[ROLE_COUNT] = {
	[ROLE_IS_MANAGER] = { manager_has_work },
	[ROLE_IS_LOGGER] = { logger_has_work },
};

static uint64_t turns(const struct keeper *k, enum role_kind kind)
{
	return kind == ROLE_IS_MANAGER ? atomic_load(&k->ledger.h->turns)
				       : atomic_load(&k->book.h->turns);
}

/* The next connection to the control socket wakes us, once. */
static void arm_control(struct keeper *k)
{
	int fd = k->control_armed ? -1 : k->store.control;
	struct epoll_event e = { .events = EPOLLIN | EPOLLONESHOT, .data.fd = fd };

	if (fd < 0)
		return;
	if (epoll_ctl(k->epoll, EPOLL_CTL_MOD, fd, &e) < 0)
		epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &e);
	k->control_armed = true;
}

static void judge(struct keeper *k, enum role_kind kind, int64_t now)
{
	struct role *r = &k->roles[kind];

	r->doubts = 0;
	r->judge_turns = turns(k, kind);
	r->judge_ms = later(now, period(k));
}

/*
 * The log book: `watching` tells the logger that it need not ring. The watch goes on as long as the
 * logger works, a look every two seconds, and ends with the first look that finds it at rest.
 */
static void watch_writes(struct keeper *k, int64_t began, int64_t now)
{
	atomic_store(&k->book.h->watching, 1);
	k->log_turns = atomic_load(&k->book.h->turns);
	k->log_judge_ms = (began ? began : now) + LOG_HANG_MS;
}

static void look_at_writes(struct keeper *k)
{
	struct logbook_header *b = k->book.h;
	int64_t began;

	if (k->log_judge_ms != KEEPER_NEVER || k->roles[ROLE_IS_LOGGER].pid <= 0)
		return;
	began = atomic_load(&b->write_began_ms);
	if (atomic_exchange(&b->watch_asked, 0) || began)
		watch_writes(k, began, clock_mono_ms());
}

void watch_look(struct keeper *k)
{
	for (int i = 0; i < ROLE_COUNT; i++) {
		struct role *r = &k->roles[i];

		if (r->pid > 0 && r->judge_ms == KEEPER_NEVER && r->abort_ms == KEEPER_NEVER &&
		    judged[i].has_work(k))
			judge(k, (enum role_kind)i, clock_mono_ms());
	}
	if (k->roles[ROLE_IS_MANAGER].judge_ms == KEEPER_NEVER)
		arm_control(k);
	look_at_writes(k);
}

void watch_late(struct keeper *k, int64_t now)
{
	log_debug("the keeper was late: deadlines are put off");
	atomic_store(&k->ledger.h->late_until_ms, now + LATE_GRACE_MS);
	bell_ring(k->bells[1]);
	for (int i = 0; i < ROLE_COUNT; i++) {
		if (k->roles[i].judge_ms != KEEPER_NEVER)
			judge(k, (enum role_kind)i, now);
	}
	if (k->log_judge_ms != KEEPER_NEVER)
		k->log_judge_ms = now + LOG_HANG_MS;
	if (k->ack_ms != KEEPER_NEVER)
		k->ack_ms = now + LOG_HANG_MS;
}

int64_t watch_due(const struct keeper *k)
{
	int64_t due = k->log_judge_ms;

	for (int i = 0; i < ROLE_COUNT; i++) {
		due = MIN_OF(due, k->roles[i].judge_ms);
		due = MIN_OF(due, k->roles[i].abort_ms);
	}
	return due;
}

static void run_role(struct keeper *k, enum role_kind kind, int64_t now)
{
	struct role *r = &k->roles[kind];

	if (r->abort_ms <= now) {
		r->abort_ms = KEEPER_NEVER;
		role_kill(k, kind);
		return;
	}
	if (r->judge_ms > now)
		return;
	r->judge_ms = KEEPER_NEVER;
	if (r->pid <= 0 || !judged[kind].has_work(k))
		return;
	if (turns(k, kind) != r->judge_turns) {
		judge(k, kind, now);
		return;
	}
	/* New work may have come this very moment. */
	if (r->doubts++ < DOUBTS) {
		r->judge_ms = now + DOUBT_MS;
		return;
	}
	log_error("%s (pid %d) hangs: work waits for it and it makes no progress; replacing it",
		  r->name, (int)r->pid);
	kill(r->pid, SIGABRT);
	r->abort_ms = now + ABORT_MS;
	if (kind == ROLE_IS_MANAGER) {
		snprintf(k->manager_word, sizeof(k->manager_word), "hanging");
		state_say(k, "running");
	}
}

static void replace_logger(struct keeper *k)
{
	struct logbook_header *b = k->book.h;

	log_warn("the logger (pid %d) hangs in a write: replacing it",
		 (int)k->roles[ROLE_IS_LOGGER].pid);
	atomic_store(&b->hang_sink, atomic_load(&b->write_sink));
	atomic_fetch_add(&b->hangs, 1);
	atomic_store(&b->write_began_ms, 0);
	atomic_store(&b->watching, 0);
	k->log_judge_ms = KEEPER_NEVER;
	role_kill(k, ROLE_IS_LOGGER);
}

static void run_writes(struct keeper *k, int64_t now)
{
	struct logbook_header *b = k->book.h;
	int64_t began;

	if (k->log_judge_ms > now)
		return;
	began = atomic_load(&b->write_began_ms);
	if (began && now - began >= LOG_HANG_MS && k->roles[ROLE_IS_LOGGER].pid > 0) {
		replace_logger(k);
		return;
	}
	if (!began && atomic_load(&b->turns) == k->log_turns) {
		atomic_store(&b->watching, 0);
		k->log_judge_ms = KEEPER_NEVER;
		began = atomic_load(&b->write_began_ms);
		if (!began)
			return;
	}
	watch_writes(k, began, now);
}

void watch_run(struct keeper *k, int64_t now)
{
	for (int i = 0; i < ROLE_COUNT; i++)
		run_role(k, (enum role_kind)i, now);
	run_writes(k, now);
}
