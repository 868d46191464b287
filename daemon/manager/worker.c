/*
 * Owns the one setter of a worker's state, its timer, and the queue of inputs. A callback posts;
 * workers_drain() steps, one input at a time, so no transition happens inside a transition.
 * Invariant: after a step the ledger alone tells a successor what to do next (worker_resume).
 */
#include "manager/worker.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "base/names.h"
#include "manager/template.h"
#include "manager/threads.h"
#include "manager/tree.h"
#include "manager/watchdog.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define KILL_PATIENCE_MS 5000 /* SIGKILL without effect for this long: stuck */
#define STUCK_RETRY_MS	 30000
#define LATE_MS		 1000 /* a timer this late means that we were late, not the worker */
#define LATE_GRACE_MS	 200  /* time for a fresh look before late deadlines fire */

struct ledger_life *worker_life(const struct worker *w)
{
	uint32_t row = w->slot->life[0];

	return row == LEDGER_NONE ? NULL : ledger_life(&w->m->ledger, row);
}

pid_t worker_pid(const struct worker *w)
{
	uint32_t row = w->slot->life[0];

	if (threads_has(w))
		return w->group->host ? worker_pid(w->group->host) : 0;
	if (row == LEDGER_NONE || !ledger_life_live(&w->m->ledger, row))
		return 0;
	return (pid_t)w->m->ledger.pids[row];
}

enum conf_ready worker_ready_kind(const struct worker *w)
{
	return w->slot->kind != SLOT_WORKER ? CONF_READY_NOTIFY : w->group->conf->ready;
}

/* A template holds nothing that would have to be finished. */
static const struct conf_step *steps_of(const struct worker *w, int *ret_n)
{
	static const struct conf_step template_steps[] = {
		{ .signal = SIGTERM, .to = CONF_TO_MAIN, .wait_ms = 2000 }
	};

	*ret_n = w->slot->kind == SLOT_TEMPLATE ? 1 : w->group->row->n_steps;
	return w->slot->kind == SLOT_TEMPLATE ? template_steps : w->group->row->steps;
}

bool worker_wanted(const struct worker *w)
{
	return w->slot->w.wanted_up && w->m->ledger.h->phase == PHASE_RUN;
}

void worker_post(struct worker *w, enum worker_input input)
{
	struct manager *m = w->m;

	if (w->inputs == 0) {
		w->next_input = NULL;
		*m->inputs_tail = w;
		m->inputs_tail = &w->next_input;
	}
	w->inputs |= (uint16_t)(1u << input);
}

static void timer_fired(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct worker *w = timer->data;
	struct manager *m = w->m;
	const struct worker_state *s = &w->slot->w;
	int64_t now = clock_mono_ms();

	if (s->state == WS_READY) {
		watchdog_fired(w);
		return;
	}
	if (now - MAX_OF(s->deadline_ms, m->late_until_ms) > LATE_MS) {
		log_info("woke up %lld ms late: looking again before any deadline counts",
			 (long long)(now - s->deadline_ms));
		m->late_until_ms = now + LATE_GRACE_MS;
	}
	if (now < s->deadline_ms || now < m->late_until_ms) {
		worker_arm(w);
		return;
	}
	if (s->state == WS_STARTING && w->group->conf && worker_ready_kind(w) == CONF_READY_EXEC)
		worker_post(w, WI_READY);
	else
		worker_post(w, WI_TIMEOUT);
}

void worker_arm(struct worker *w)
{
	int64_t at = w->slot->w.deadline_ms, now;

	ev_timer_stop(w->m->loop, &w->timer);
	w->wake_ms = DURATION_NEVER;
	if (at == DURATION_NEVER)
		return;
	ev_now_update(w->m->loop);
	now = clock_mono_ms();
	if (w->slot->w.state == WS_READY)
		at = watchdog_next(w, now);
	at = MAX_OF(at, w->m->late_until_ms);
	w->wake_ms = at;
	/* half a millisecond more: a timer must not fire before its deadline has come */
	ev_timer_init(&w->timer, timer_fired, at > now ? (double)(at - now) / 1000.0 + .0005 : 0.,
		      0.);
	w->timer.data = w;
	ev_timer_start(w->m->loop, &w->timer);
}

/* The deadline of these states was computed together with the decision to enter them. */
static bool brings_deadline(enum worker_status state)
{
	return state == WS_BACKOFF || state == WS_QUARANTINED;
}

static void set_state(struct worker *w, enum worker_status next, enum worker_input input)
{
	struct worker_state *s = &w->slot->w;
	enum worker_status from = s->state;

	if (from == next)
		return;
	log_debug("%s: %s -> %s (%s)", w->name, worker_status_name(from), worker_status_name(next),
		  worker_input_name(input));
	if (!brings_deadline(next))
		s->deadline_ms = DURATION_NEVER;
	s->since_ms = clock_mono_ms();
	w->m->in_state[from]--;
	w->m->in_state[next]++;
	FAIL_HERE(STATE_SET);
	s->state = (uint8_t)next;
	FAIL_HERE(STATE_EVENT);
	event_write(w->m, w, from, next, s->cause);
	FAIL_HERE(STATE_TOLD);
	s->told = (uint8_t)next;
}

/* Who hangs is asked by SIGABRT first: a core, or the stack that it writes, tells where. */
static struct conf_step step_for(const struct worker *w, const struct conf_step *step, bool first)
{
	struct conf_step s = *step;

	if (first && w->slot->w.cause == CAUSE_WATCHDOG && w->slot->kind == SLOT_WORKER) {
		s.signal = SIGABRT;
		s.to = CONF_TO_MAIN;
	}
	return s;
}

/* Ask for a step's signal, once: see worker_state.step_intent. */
static void send_step(struct worker *w, const struct conf_step *step)
{
	struct manager *m = w->m;
	uint32_t row = w->slot->life[0];
	struct ledger_life *life = worker_life(w);
	int r = 0;

	if (!life)
		return;
	if (life->kind == LIFE_THREAD) {
		threads_stop(w);
		return;
	}
	if (life->exited || step->to == CONF_TO_TREE)
		tree_kill(m, row, step->signal);
	else
		r = ledger_ask_kill(&m->ledger, row, step->signal, step->to);
	/* a stopped process acts on nothing but CONT and KILL (SH10) */
	if (r == 0 && !life->exited && step->signal != SIGKILL && step->signal != SIGCONT)
		r = ledger_ask_kill(&m->ledger, row, SIGCONT,
				    step->to == CONF_TO_PGRP ? CONF_TO_PGRP : CONF_TO_MAIN);
	if (r < 0)
		log_warn("%s: cannot ask for signal %d: %s", w->name, step->signal, strerror(-r));
	bell_ring(m->bell_keeper);
}

static void ladder_step(struct worker *w, bool begin)
{
	struct worker_state *s = &w->slot->w;
	int n;
	const struct conf_step *steps = steps_of(w, &n), *step;
	const struct ledger_life *life = worker_life(w);
	struct worker_state next = *s;
	struct conf_step sent;
	int64_t now = clock_mono_ms();

	step = begin ? worker_ladder_begin(&next, steps, n, w->group->row->extend_max_ms, now)
		     : worker_ladder_next(&next, steps, n, now);
	if (!step) {
		if (s->cause == CAUSE_STOP)
			s->cause = CAUSE_STOP_TIMEOUT;
		log_warn("%s: still there after the last stop step, killing its tree", w->name);
		worker_post(w, WI_KILL);
		return;
	}
	sent = step_for(w, step, next.step == 1);
	FAIL_HERE(LADDER_MARK);
	s->kill_mark = life ? life->kill_want : 0;
	FAIL_HERE(LADDER_INTENT);
	s->step_intent = next.step;
	FAIL_HERE(LADDER_SEND);
	send_step(w, &sent);
	FAIL_HERE(LADDER_SENT);
	*s = next;
	s->step_intent = next.step;
	FAIL_HERE(LADDER_NOTED);
	worker_arm(w);
}

/* How long the whole ladder may take. */
static int64_t ladder_length(const struct worker *w)
{
	int n;
	const struct conf_step *steps = steps_of(w, &n);
	int64_t sum = 0;

	for (int i = 0; i < n; i++) {
		if (steps[i].wait_ms == DURATION_NEVER)
			return DURATION_NEVER;
		sum += steps[i].wait_ms;
	}
	return sum;
}

/* The main process is gone and others of its tree are not: TERM once, then the rest of the grace
 * that the ladder had (SH21). */
static void stop_rest(struct worker *w)
{
	struct worker_state *s = &w->slot->w;
	const struct ledger_group *g = w->group->row;
	int n;
	int64_t length = ladder_length(w), began = s->stop_ms ? s->stop_ms : clock_mono_ms();

	s->stop_ms = began;
	steps_of(w, &n);
	s->step = (uint8_t)n;
	s->step_intent = s->step;
	s->deadline_ms = length == DURATION_NEVER ? DURATION_NEVER : began + length;
	s->stop_cap_ms =
		g->extend_max_ms == DURATION_NEVER ? DURATION_NEVER : began + g->extend_max_ms;
	FAIL_HERE(REST_TERM);
	tree_kill(w->m, w->slot->life[0], SIGTERM);
	FAIL_HERE(REST_WATCH);
	tree_watch(w->m, w->slot->life[0]);
	worker_arm(w);
}

static void kill_tree(struct worker *w)
{
	struct worker_state *s = &w->slot->w;
	uint32_t row = w->slot->life[0];
	int64_t now = clock_mono_ms();

	if (!s->stop_ms)
		s->stop_ms = now;
	/* leftovers of an end that nobody asked for do not make it one that was (RS01) */
	if (s->cause == CAUSE_NONE && !s->main_gone)
		s->cause = CAUSE_STOP;
	s->deadline_ms = now + (s->state == WS_STUCK ? STUCK_RETRY_MS : KILL_PATIENCE_MS);
	worker_arm(w);
	if (row == LEDGER_NONE || handover_cancel(w))
		return;
	if (threads_has(w)) {
		threads_kill(w);
		return;
	}
	if (s->state == WS_STUCK)
		log_warn("%s: SIGKILL had no effect (uninterruptible or traced); trying again",
			 w->name);
	if (ledger_life_live(&w->m->ledger, row))
		ledger_ask_kill(&w->m->ledger, row, SIGKILL, CONF_TO_MAIN);
	FAIL_HERE(KILL_TREE);
	tree_kill(w->m, row, SIGKILL);
	FAIL_HERE(KILL_WATCH);
	tree_watch(w->m, row);
	bell_ring(w->m->bell_keeper);
}

static enum exit_cause cause_of_stop(const struct worker *w, enum worker_input input)
{
	if (input == WI_TIMEOUT)
		return CAUSE_START_TIMEOUT;
	return input == WI_RENEW && w->slot->forked_anew == w->slot->w.incarnation + 1
		       ? CAUSE_RECYCLE
		       : CAUSE_STOP;
}

static void stop_begin(struct worker *w, enum worker_input input)
{
	struct worker_state *s = &w->slot->w;

	if (s->cause == CAUSE_NONE)
		s->cause = (uint8_t)cause_of_stop(w, input);
	if (input == WI_RENEW)
		s->renew = 1;
	if (s->cause == CAUSE_START_TIMEOUT)
		log_warn("%s: not ready in time, stopping it", w->name);
	if (handover_cancel(w))
		s->deadline_ms = clock_mono_ms() + KILL_PATIENCE_MS;
	else
		ladder_step(w, true);
	worker_arm(w);
}

static void say_quarantined(const struct worker *w)
{
	int64_t left_ms = w->slot->w.deadline_ms - clock_mono_ms();
	char text[48];

	if (w->slot->w.deadline_ms == DURATION_NEVER)
		log_error("%s: quarantined", w->name);
	else /* the clock was set just now: whole seconds are those of the configuration */
		log_error("%s: quarantined, tried again in %s", w->name,
			  duration_format((left_ms + 999) / 1000 * 1000, text));
}

static void run_effect(struct worker *w, enum worker_effect effect, enum worker_input input)
{
	struct worker_state *s = &w->slot->w;

	switch (effect) {
	case DO_ADMIT:
		admit_enqueue(w);
		break;
	case DO_SPAWN:
		life_begin(w);
		break;
	case DO_RUN:
		worker_landed(w);
		s->ready_ms = clock_mono_ms();
		s->proving = 0;
		break;
	case DO_STOP_BEGIN:
		stop_begin(w, input);
		break;
	case DO_STOP_STEP:
		ladder_step(w, false);
		break;
	case DO_STOP_REST:
		stop_rest(w);
		break;
	case DO_KILL:
		kill_tree(w);
		break;
	case DO_ARM_RETRY:
		say_quarantined(w);
		shutdown_consider(w->m, w);
		break;
	case DO_SETTLE_DOWN:
		if (s->state == WS_DONE)
			shutdown_consider(w->m, w);
		break;
	default:
		break;
	}
}

static void step(struct worker *w, enum worker_input input)
{
	struct worker_state *s = &w->slot->w;
	struct worker_rule rule;
	bool end = input >= WI_END_AGAIN;

	if (end && !exit_take_over(w))
		return;
	/* A life that has ended is let go of in whatever state a predecessor left it: it may have
	 * died between the new state and that. */
	rule = worker_rule_for(end ? WS_KILLING : (enum worker_status)s->state, input);
	if (!rule.allowed) {
		log_debug("%s: %s means nothing while %s", w->name, worker_input_name(input),
			  worker_status_name(s->state));
		return;
	}
	set_state(w, rule.next, input);
	worker_arm(w);
	run_effect(w, rule.effect, input);
	if (end)
		exit_release(w);
	w->m->changed = true;
	worker_reconcile(w);
}

#define BIT(input) (1u << (input))
#define ENDS                                                                                       \
	(BIT(WI_END_AGAIN) | BIT(WI_END_BACKOFF) | BIT(WI_END_QUARANTINE) | BIT(WI_END_DONE) |     \
	 BIT(WI_END_STOPPED))

/* What waits for one worker is stepped in this order: READY was said before the end, requests are
 * about what comes after it, or after a start that made no process. */
static const uint8_t input_order[] = {
	WI_READY,	WI_END_AGAIN, WI_END_BACKOFF, WI_END_QUARANTINE, WI_END_DONE,
	WI_END_STOPPED, WI_NO_MEANS,  WI_KILL,	      WI_STOP,		 WI_RENEW,
	WI_START,	WI_LEFTOVERS, WI_GO,	      WI_TIMEOUT,
};

/* A deadline is of the state that it was set in; only a worker's own verdict outlives READY. */
static bool is_late_timeout(const struct worker *w, uint8_t input, uint8_t before)
{
	return input == WI_TIMEOUT && w->slot->w.state != before && !watchdog_is_due(w);
}

static void step_all(struct worker *w, uint16_t inputs)
{
	uint8_t before = w->slot->w.state;

	/* these were about the life that has ended */
	if (inputs & ENDS)
		inputs &= (uint16_t) ~(BIT(WI_TIMEOUT) | BIT(WI_LEFTOVERS) | BIT(WI_GO));
	for (size_t i = 0; i < ARRAY_LEN(input_order); i++)
		if (inputs & BIT(input_order[i]) && !is_late_timeout(w, input_order[i], before))
			step(w, (enum worker_input)input_order[i]);
}

void workers_drain(struct manager *m)
{
	while (m->inputs_head) {
		struct worker *w = m->inputs_head;
		uint16_t inputs = w->inputs;

		m->inputs_head = w->next_input;
		if (!m->inputs_head)
			m->inputs_tail = &m->inputs_head;
		w->inputs = 0;
		step_all(w, inputs);
		if (w->discard && w->inputs == 0)
			group_forget_worker(w);
	}
}

static bool active(enum worker_status state)
{
	return state == WS_STARTING || state == WS_READY;
}

/* A restart was asked for and nothing has come of it yet: the manager that noted it has died. */
static bool restart_pending(const struct worker *w)
{
	const struct worker_state *s = &w->slot->w;
	const struct ledger_life *life = worker_life(w); /* none: a start failed, is tried again */

	return life && life->incarnation <= w->slot->op_restart &&
	       (s->state == WS_READY || s->state == WS_STARTING);
}

void worker_reconcile(struct worker *w)
{
	const struct worker_state *s = &w->slot->w;

	if (worker_wanted(w)) {
		if (s->state == WS_STOPPED)
			worker_post(w, WI_START);
		else if (restart_pending(w))
			worker_post(w, WI_RENEW);
	} else if (w->slot->kind == SLOT_HOST && threads_host_busy(w)) {
		return; /* its slots end first */
	} else if (active(s->state) || s->state == WS_WAITING || s->state == WS_BACKOFF ||
		   s->state == WS_QUARANTINED) {
		worker_post(w, WI_STOP);
	} else if (s->state == WS_DONE && !s->wanted_up) {
		worker_post(w, WI_STOP);
	}
	if (s->state == WS_READY)
		watchdog_look(w);
	if (w->surplus && s->state == WS_STOPPED && w->slot->life[0] == LEDGER_NONE &&
	    w->slot->life[1] == LEDGER_NONE && !w->discard) {
		w->discard = true;
		worker_post(w, WI_STOP); /* refused; only brings it to the end of the queue */
	}
}

/* A predecessor set the state and died before, or while, it told so. */
static void resume_event(struct worker *w)
{
	struct worker_state *s = &w->slot->w;

	if (s->told != s->state && !event_is_last(w->m, w, (enum worker_status)s->state))
		event_write(w->m, w, (enum worker_status)s->told, (enum worker_status)s->state,
			    s->cause);
	s->told = s->state;
}

/* A predecessor asked for a step and died before it said so. */
static void resume_ladder(struct worker *w)
{
	struct worker_state *s = &w->slot->w;
	const struct ledger_life *life = worker_life(w);
	int n;

	if (!life)
		return;
	if (s->step == 0 && s->step_intent == 0) {
		ladder_step(w, true);
	} else if (s->step_intent != s->step && life->kill_want == s->kill_mark && !life->exited) {
		ladder_step(w, s->step == 0);
	} else if (s->step_intent != s->step) {
		s->step = s->step_intent;
		s->deadline_ms =
			worker_later(clock_mono_ms(), steps_of(w, &n)[s->step - 1].wait_ms);
		if (!s->stop_ms)
			s->stop_ms = clock_mono_ms();
	}
	if (life->exited)
		tree_watch(w->m, w->slot->life[0]);
}

/* What makes it ready has been seen, and the input that says so was lost with its queue. */
static bool is_ready_unsaid(const struct worker *w)
{
	const struct conf_group *c = w->group->conf;
	bool seen = w->slot->w.ready_seen;

	if (!c)
		return false;
	if (worker_ready_kind(w) == CONF_READY_EXEC)
		return worker_life(w)->execed && (seen || c->settle_ms == 0);
	return seen;
}

void worker_resume(struct worker *w)
{
	struct worker_state *s = &w->slot->w;
	uint32_t row = w->slot->life[0];

	resume_event(w);
	spare_resume(w);
	/* died between taking the row and the clone, or the word to a host: nobody was born */
	if (threads_has(w) && worker_life(w)->source_incarnation) {
		threads_resume(w);
	} else if (row != LEDGER_NONE && w->m->ledger.pids[row] == 0 && !exit_resume_unborn(w)) {
		FAIL_HERE(RESUME_UNBORN);
		w->slot->hand_tries = 0; /* what ended with a predecessor was not tried */
		life_drop_unborn(w);
	}
	handover_resume(w);
	switch ((enum worker_status)s->state) {
	case WS_WAITING:
		admit_enqueue(w);
		break;
	case WS_STARTING:
		if (w->slot->life[0] == LEDGER_NONE) {
			life_begin(w);
			break;
		}
		if (!worker_life(w)->execed || w->group->row->configured)
			worker_took_off(w);
		if (is_ready_unsaid(w))
			worker_post(w, WI_READY);
		break;
	case WS_STOPPING:
		resume_ladder(w);
		break;
	case WS_KILLING:
	case WS_STUCK:
		kill_tree(w);
		break;
	default:
		break;
	}
	if (watchdog_is_due(w))
		worker_post(w, WI_TIMEOUT);
	worker_arm(w);
	worker_reconcile(w);
}
