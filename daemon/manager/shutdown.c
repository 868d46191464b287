/*
 * Owns the way out: acknowledges the keeper's phase, lets every worker finish, says on a terminal
 * who is still there, tells the service manager how it stands, and reports "gone" when all trees
 * are empty. It also decides when a group's failure or completion ends the daemon.
 */
#include "manager/worker.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "manager/sockets.h"
#include "manager/template.h"
#include "manager/tree.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_S	 1.0
#define STATUS_S	 0.2
#define EXTEND_EVERY_S	 5.0
#define EXTEND_BY_USEC	 15000000u /* > EXTEND_EVERY_S: the next one comes in time */
#define PROGRESS_WORKERS 3
#define EXIT_BY_FAILURE	 75

struct shutdown {
	ev_timer progress, extend, cap, status;
	bool terminal;
	uint32_t unsettled; /* row of the worker that READY was last held up by */
};

static bool at_rest(enum worker_status state)
{
	return state == WS_STOPPED || state == WS_DONE || state == WS_QUARANTINED;
}

/* What no SIGKILL ends holds up no shutdown: the keeper tries once more and names it (code 70). */
static bool holds_up(enum worker_status state)
{
	return !at_rest(state) && state != WS_STUCK;
}

static uint32_t still_there(const struct manager *m)
{
	uint32_t n = 0;

	for (int i = 0; i < WS_COUNT; i++)
		if (holds_up((enum worker_status)i))
			n += m->in_state[i];
	return n;
}

/* "its child 815 `cat` ignores TERM" for the process that holds the stop up, if it is a child. */
static void blocking_child(struct worker *w, char *ret, size_t size)
{
	auto_free struct tree_member *members = NULL;
	ssize_t n = tree_list(w->m, worker_life_row(w), 64, &members);
	char comm[80];

	ret[0] = '\0';
	for (ssize_t i = 0; i < n; i++) {
		if (members[i].main || members[i].state == 'Z')
			continue;
		str_escape(members[i].comm, strnlen(members[i].comm, sizeof(members[i].comm)), comm,
			   sizeof(comm));
		snprintf(ret, size, ", its child %d `%s` %s", (int)members[i].pid, comm,
			 members[i].ignores_term ? "ignores TERM" : "is still there");
		if (members[i].ignores_term)
			return;
	}
}

static void say_worker(struct worker *w)
{
	int64_t left = w->slot->w.deadline_ms;
	char child[160], clock[40] = "no deadline";
	pid_t pid = worker_pid(w);
	char who[24] = "main process gone";

	blocking_child(w, child, sizeof(child));
	if (left != DURATION_NEVER)
		snprintf(clock, sizeof(clock), "cold in %lld s",
			 (long long)MAX_OF((left - clock_mono_ms() + 999) / 1000, 0));
	if (pid)
		snprintf(who, sizeof(who), "pid %d", (int)pid);
	log_info("%s %s still running%s; %s; Ctrl-C again to kill now", w->name, who, child, clock);
}

static void progress_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	struct manager *m = t->data;
	uint32_t total = still_there(m), said = 0;

	for (size_t g = 0; g < m->n_groups && said < PROGRESS_WORKERS; g++) {
		for (uint32_t i = 0; i < m->groups[g]->n_workers && said < PROGRESS_WORKERS; i++) {
			struct worker *w = m->groups[g]->workers[i];

			if (!w || w->slot->life[0] == LEDGER_NONE)
				continue;
			say_worker(w);
			said++;
		}
	}
	if (total > said)
		log_info("and %u more workers", total - said);
}

static void kill_all(struct manager *m)
{
	for (uint32_t i = 0; i < m->ledger.h->slots_high; i++)
		if (m->by_slot[i] && m->by_slot[i]->slot->life[0] != LEDGER_NONE)
			worker_post(m->by_slot[i], WI_KILL);
}

static void cap_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	struct manager *m = t->data;

	log_warn("shutdown_timeout is over, killing what is left");
	kill_all(m);
}

static void extend_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	struct manager *m = t->data;

	m->ledger.h->sd_extend_usec = EXTEND_BY_USEC;
	m->ledger.h->sd_seq++;
	bell_ring(m->bell_keeper);
}

/* On its way to be ready, and likely to come there. */
static bool holds_up_ready(const struct worker *w)
{
	const struct worker_state *s = &w->slot->w;

	if (!s->wanted_up || worker_keeps_failing(s))
		return false;
	return s->state == WS_STARTING || s->state == WS_BACKOFF || s->state == WS_STOPPING ||
	       s->state == WS_KILLING || admit_waits_for_turn(w);
}

/* Every autostart worker is ready, done, quarantined, waits for another group, or fails again and
 * again. The one that was on its way when we last looked comes first. */
static bool settled(const struct manager *m)
{
	uint32_t n = m->ledger.h->slots_high;

	if (m->starts_more || m->inputs_head)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t row = (m->shutdown->unsettled + i) % n;

		if (m->by_slot[row] && holds_up_ready(m->by_slot[row])) {
			m->shutdown->unsettled = row;
			return false;
		}
	}
	return true;
}

static void status_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	struct manager *m = t->data;
	struct ledger_header *h = m->ledger.h;
	char text[sizeof(h->sd_status)];
	uint32_t up = 0, ready = 0;

	for (size_t i = 0; i < m->n_groups; i++) {
		int wanted, well;

		group_count(m->groups[i], &wanted, &well);
		up += (uint32_t)wanted;
		ready += (uint32_t)well;
	}
	if (h->phase == PHASE_RUN)
		snprintf(text, sizeof(text), "%u of %u workers ready", ready, up);
	else
		snprintf(text, sizeof(text), "shutting down, %u workers left", still_there(m));
	if (strcmp(text, h->sd_status) == 0)
		return;
	memcpy(h->sd_status, text, sizeof(text));
	h->sd_seq++;
	bell_ring(m->bell_keeper);
}

static void start_timer(struct manager *m, ev_timer *t,
			void (*cb)(struct ev_loop *, ev_timer *, int), double after, double every)
{
	ev_timer_stop(m->loop, t);
	ev_timer_init(t, cb, after, every);
	t->data = m;
	ev_timer_start(m->loop, t);
}

int shutdown_init(struct manager *m)
{
	struct shutdown *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	m->shutdown = s;
	s->terminal = isatty(STDERR_FILENO);
	ev_init(&s->progress, NULL);
	ev_init(&s->extend, NULL);
	ev_init(&s->cap, NULL);
	ev_init(&s->status, NULL);
	return 0;
}

static void enter_warm(struct manager *m)
{
	struct shutdown *s = m->shutdown;
	int64_t cap = m->conf->daemon.shutdown_timeout_ms;
	int64_t since = clock_mono_ms() - m->ledger.h->phase_ms;

	log_info("warm shutdown: asking %u workers to finish", still_there(m));
	for (uint32_t i = 0; i < m->ledger.h->slots_high; i++)
		if (m->by_slot[i])
			worker_reconcile(m->by_slot[i]);
	if (s->terminal)
		start_timer(m, &s->progress, progress_fired, PROGRESS_S, PROGRESS_S);
	start_timer(m, &s->extend, extend_fired, 0., EXTEND_EVERY_S);
	if (cap != DURATION_NEVER)
		start_timer(m, &s->cap, cap_fired, (double)MAX_OF(cap - since, 0) / 1000.0, 0.);
}

static void report_gone(struct manager *m)
{
	struct shutdown *s = m->shutdown;

	ev_timer_stop(m->loop, &s->progress);
	ev_timer_stop(m->loop, &s->extend);
	ev_timer_stop(m->loop, &s->cap);
	sockets_fini(m); /* before the keeper may end us */
	FAIL_HERE(GONE_SET);
	m->ledger.h->gone = 1;
	FAIL_HERE(GONE_TOLD);
	bell_ring(m->bell_keeper);
	ev_break(m->loop, EVBREAK_ALL);
}

void shutdown_step(struct manager *m)
{
	struct ledger_header *h = m->ledger.h;

	if (h->phase >= PHASE_WARM && !m->phase_seen) {
		m->phase_seen = true;
		enter_warm(m);
		workers_drain(m);
		FAIL_HERE(PHASE_ACK);
		h->phase_ack = h->phase;
		FAIL_HERE(PHASE_ACKED);
		m->changed = true;
	}
	if (h->phase_ack != h->phase)
		h->phase_ack = h->phase;
	if (!m->changed)
		return;
	if (h->phase == PHASE_RUN && !h->sd_ready && settled(m)) {
		h->sd_ready = 1;
		h->sd_seq++;
		status_fired(m->loop, &(ev_timer){ .data = m }, 0);
		bell_ring(m->bell_keeper);
	}
	if (!ev_is_active(&m->shutdown->status))
		start_timer(m, &m->shutdown->status, status_fired, STATUS_S, 0.);
	if (h->phase >= PHASE_WARM && !h->gone && still_there(m) == 0 && !spares_left(m))
		report_gone(m);
}

static int code_of_last_exit(const struct worker *w)
{
	const struct exit_record *rec;

	if (w->slot->exits == 0)
		return 1;
	rec = &ledger_exits(&w->m->ledger, w->row)->records[(w->slot->exits - 1) % EXITS_KEPT];
	return rec->signal ? 128 + rec->signal : rec->code;
}

static void end_daemon(struct worker *w, const char *why, int fixed)
{
	struct manager *m = w->m;
	int code = w->group->conf->exit_code == CONF_EXIT_WORKER ? code_of_last_exit(w) : fixed;

	if (m->ledger.h->phase != PHASE_RUN || m->ledger.h->phase_want != PHASE_RUN)
		return;
	log_info("%s: %s, shutting down with code %d", w->name, why, code);
	m->ledger.h->exit_code = code;
	op_shutdown(m, false);
}

static bool all_done(const struct group *g)
{
	int wanted = 0, done = 0;

	for (uint32_t i = 0; i < g->n_workers; i++) {
		if (!g->workers[i] || !g->workers[i]->slot->w.wanted_up)
			continue;
		wanted++;
		done += g->workers[i]->slot->w.state == WS_DONE;
	}
	return wanted > 0 && wanted == done;
}

void shutdown_consider(struct manager *m, struct worker *w)
{
	const struct conf_group *c = w->group->conf;
	const struct worker_state *s = &w->slot->w;
	bool failed = s->state == WS_QUARANTINED || (s->state == WS_DONE && !s->ended_well);

	if (!c)
		return;
	if (failed && c->on_failure == CONF_FAIL_SHUTDOWN)
		end_daemon(w, s->state == WS_DONE ? "ended badly" : "quarantined", EXIT_BY_FAILURE);
	else if (s->state == WS_DONE && c->on_done == CONF_DONE_SHUTDOWN && all_done(w->group))
		end_daemon(w, "all workers of the group are done", 0);
}
