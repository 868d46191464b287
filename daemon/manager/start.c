/*
 * Owns the beginning of a life: its row, the way it is made, the clock until it is ready, and what
 * is undone when nobody was born. How processes are made: spawn.c, handover.c, threads.c.
 */
#include "manager/worker.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "manager/notify.h"
#include "manager/spawn.h"
#include "manager/template.h"
#include "manager/threads.h"
#include "manager/tree.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

static int64_t start_timeout(const struct worker *w)
{
	return w->slot->kind != SLOT_WORKER ? w->group->conf->template.load_timeout_ms
					    : w->group->conf->start_timeout_ms;
}

bool worker_lacked_means(int err)
{
	return err == -EAGAIN || err == -ENOMEM || err == -EMFILE || err == -ENFILE ||
	       err == -ENOSPC || err == -ENOBUFS;
}

/* Undo the part of a start that happened before the process was made. Its number is used again;
 * whether it was taken, or given back already, the row tells as long as it is bound. */
void life_drop_unborn(struct worker *w)
{
	uint32_t row = w->slot->life[0];

	worker_landed(w);
	if (row == LEDGER_NONE)
		return;
	if (w->slot->w.incarnation == ledger_life(&w->m->ledger, row)->incarnation)
		w->slot->w.incarnation--;
	FAIL_HERE(UNBORN_NUMBER);
	handover_close(w);
	template_close(w);
	notify_close(w, row);
	tree_remove(w->m, row);
	w->slot->life[0] = LEDGER_NONE;
	ledger_free_life(&w->m->ledger, row);
}

void worker_start_failed(struct worker *w, int err, const struct diag *d)
{
	struct worker_state *s = &w->slot->w;
	uint32_t unsaid;

	if (worker_lacked_means(err)) {
		FAIL_HERE(NO_MEANS_DROP);
		life_drop_unborn(w);
		FAIL_HERE(NO_MEANS_CLOCK);
		s->deadline_ms = clock_mono_ms() + worker_no_means_delay(s);
		if (log_limit_pass(&w->m->no_means_said, 5, 10000, &unsaid))
			log_warn("%s: cannot be started now, not charged: %s%s", w->name, d->text,
				 unsaid ? "; others before it were left unsaid" : "");
		snprintf(w->slot->error, sizeof(w->slot->error), "%.190s", d->text);
		worker_post(w, WI_NO_MEANS);
		return;
	}
	exit_unborn(w, -err, d->text);
}

/* The clock of a start that has to say READY; what was extended already stays. */
static void arm_start(struct worker *w, int64_t now)
{
	const struct conf_group *c = w->group->conf;
	struct worker_state *s = &w->slot->w;
	int64_t until = worker_later(now, start_timeout(w));

	if (s->deadline_ms == DURATION_NEVER || until > s->deadline_ms)
		s->deadline_ms = until;
	s->stop_cap_ms = worker_later(until, c->extend_max_ms);
}

/* A start is over for the start budget. */
void worker_landed(struct worker *w)
{
	if (!w->in_flight)
		return;
	w->in_flight = false;
	w->m->starts_in_flight--;
}

void worker_took_off(struct worker *w)
{
	w->in_flight = true;
	w->m->starts_in_flight++;
}

/* By exec, or by a fork of who has loaded its code. */
static int make(struct worker *w, uint32_t row, struct diag *d)
{
	struct ledger_life *life = ledger_life(&w->m->ledger, row);
	const struct conf_group *c = w->group->conf;
	int r;

	if (life->kind == LIFE_THREAD)
		return threads_start(w, row, d);
	if (w->slot->kind == SLOT_WORKER && template_makes(w)) {
		r = handover_begin(w, row, d);
		if (r != -EBUSY || c->template.fallback != CONF_FALLBACK_SPAWN)
			return r;
		life->handover = HAND_NONE;
	}
	if (w->slot->kind == SLOT_WORKER && c->start_method == CONF_START_FORKSERVER)
		log_info("%s: no template can fork it: started by spawn (template.fallback)",
			 w->name);
	r = spawn_worker(w, row, d);
	if (r == 0)
		w->slot->by_spawn_next = 0;
	return r;
}

static enum life_kind kind_of_next(const struct worker *w)
{
	return w->slot->kind == SLOT_WORKER && group_threads(w->group->conf) ? LIFE_THREAD
									     : LIFE_WORKER;
}

/* What the slot keeps of a life, before there is one. */
static void forget_last_life(struct worker *w)
{
	struct worker_state *s = &w->slot->w;

	if (s->generation && s->generation != w->group->row->generation)
		s->proving = 1;
	s->generation = w->group->row->generation;
	s->cause = CAUSE_NONE;
	s->renew = s->main_gone = s->ready_seen = s->step = s->step_intent = 0;
	s->ready_ms = s->stop_ms = 0;
	/* of a start that lacked means, whose manager died before it left this state */
	s->deadline_ms = DURATION_NEVER;
	s->started_ms = clock_mono_ms();
	s->watchdog_own_ms = 0;
	w->slot->beat_ms = 0;
	w->slot->status[0] = '\0';
	w->slot->progress_done = w->slot->progress_total = 0;
	w->slot->error[0] = '\0';
}

/* A life that the slot is about to point to. */
void life_prepare(struct worker *w, uint32_t row)
{
	struct ledger_life *life = ledger_life(&w->m->ledger, row);

	forget_last_life(w);
	life->born_ms = w->slot->w.started_ms;
	if (life->kind != LIFE_THREAD) /* what a thread writes is the host's */
		group_plan_stream(w->group, w);
	life->log_mark[0] = logbook_total(&w->m->book, w->row);
	life->log_mark[1] = logbook_total(&w->m->book, w->row + LOGBOOK_ERR);
}

void life_token(struct ledger_life *life)
{
	if (getrandom(&life->token, sizeof(life->token), GRND_NONBLOCK) != sizeof(life->token))
		life->token = (uint64_t)clock_real_us() * 0x9e3779b97f4a7c15ull;
}

/* The row, complete before the slot points to it. */
static uint32_t make_row(struct worker *w)
{
	uint32_t row = ledger_take_life(&w->m->ledger, kind_of_next(w), w->row);
	struct ledger_life *life;

	if (row == LEDGER_NONE)
		return row;
	FAIL_HERE(START_ROW);
	life = ledger_life(&w->m->ledger, row);
	life_prepare(w, row);
	life->incarnation = w->slot->w.incarnation + 1;
	life->generation = w->slot->w.generation;
	life_token(life);
	return row;
}

static int begin_fresh(struct worker *w, struct diag *d)
{
	uint32_t row = make_row(w);

	if (row == LEDGER_NONE)
		return diag_set(d, -EAGAIN, "all %u rows for processes are in use", LEDGER_ROWS);
	FAIL_HERE(START_BIND);
	w->slot->life[0] = row;
	FAIL_HERE(START_BOUND);
	w->slot->w.incarnation++; /* after it is bound: see life_drop_unborn() */
	FAIL_HERE(START_NUMBERED);
	return make(w, row, d);
}

void life_begin(struct worker *w)
{
	struct worker_state *s = &w->slot->w;
	struct diag d = { 0 };
	int r, spare;

	if (!worker_wanted(w) || !w->group->conf) {
		worker_post(w, WI_STOP);
		return;
	}
	/* asked for during a start that never was: this one is the restart, by the same number */
	if (w->slot->op_restart > s->incarnation)
		w->slot->op_restart = s->incarnation;
	r = spare = spare_take(w, &d);
	if (spare == 0)
		r = begin_fresh(w, &d);
	if (r < 0) {
		worker_start_failed(w, r, &d);
		return;
	}
	FAIL_HERE(START_MADE);
	worker_took_off(w);
	if (worker_ready_kind(w) != CONF_READY_EXEC) {
		arm_start(w, s->started_ms);
		worker_arm(w);
	}
	if (spare > 0)
		handover_resume(w); /* nothing is missing but its GO */
}

void worker_execed(struct worker *w)
{
	struct worker_state *s = &w->slot->w;
	const struct conf_group *c = w->group->conf;
	int64_t now = clock_mono_ms();

	s->no_means = 0;
	if (c && worker_ready_kind(w) == CONF_READY_EXEC)
		worker_landed(w);
	if (s->state != WS_STARTING || !c)
		return;
	FAIL_HERE(EXEC_SEEN);
	s->started_ms = now;
	if (s->ready_seen || (worker_ready_kind(w) == CONF_READY_EXEC && c->settle_ms == 0)) {
		worker_post(w, WI_READY);
		return;
	}
	if (worker_ready_kind(w) == CONF_READY_EXEC)
		s->deadline_ms = now + c->settle_ms;
	else
		arm_start(w, now);
	worker_arm(w);
}

void worker_ready_now(struct worker *w)
{
	struct ledger_life *life = worker_life(w);

	FAIL_HERE(READY_SEEN);
	w->slot->w.ready_seen = 1;
	FAIL_HERE(READY_NOTED);
	if (w->slot->w.state == WS_STARTING && w->group->conf &&
	    worker_ready_kind(w) == CONF_READY_NOTIFY && life)
		worker_post(w, WI_READY);
}
