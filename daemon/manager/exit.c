/*
 * Owns the end of lives: main process gone → tree empty → decided → row freed. Each arrow can be
 * walked again by a successor without counting twice: the decision is made on a copy
 * (slot.w_next), committed by one store (life.verdict), then taken over together with the state.
 */
#include "manager/worker.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "manager/gauge.h"
#include "manager/notify.h"
#include "manager/spawn.h"
#include "manager/template.h"
#include "manager/threads.h"
#include "manager/tree.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* A slot that was lost with its process is begun again, which is charged to its host. "never" is
 * never. */
static bool lost_with_host(const struct worker *w, const struct ledger_life *life)
{
	const struct conf_group *c = w->group->conf;

	return life->kind == LIFE_THREAD && w->slot->w.cause == CAUSE_PARENT_GONE && c &&
	       c->restart.when != CONF_WHEN_NEVER;
}

static void describe_end(const struct worker *w, const struct ledger_life *life,
			 struct worker_end *e)
{
	const struct worker_state *s = &w->slot->w;
	bool killed = life->exit_how == CLD_KILLED || life->exit_how == CLD_DUMPED;

	e->code = killed ? -1 : life->exit_status;
	e->signal = killed ? life->exit_status : 0;
	e->core = life->exit_how == CLD_DUMPED;
	e->spawn_failed = life->stage_errno != 0;
	e->asked = s->cause == CAUSE_STOP || s->cause == CAUSE_STOP_TIMEOUT ||
		   s->cause == CAUSE_RECYCLE || lost_with_host(w, life) ||
		   (w->slot->kind == SLOT_HOST && s->cause == CAUSE_WATCHDOG); /* a slot hung */
	e->hung = s->cause == CAUSE_WATCHDOG;
	e->not_ready = !e->asked && w->group->conf && worker_ready_kind(w) == CONF_READY_NOTIFY &&
		       !s->ready_seen;
	e->lived_ms = life->exit_ms - s->started_ms;
}

static enum exit_cause cause_of(const struct worker *w, uint32_t row, const struct worker_end *e)
{
	if (w->slot->w.cause != CAUSE_NONE)
		return w->slot->w.cause;
	if (e->signal == SIGKILL && tree_saw_oom(w->m, row))
		return CAUSE_OOM;
	return e->signal ? CAUSE_SIGNAL : CAUSE_EXIT;
}

/* The record of this incarnation: the one that is there already, or the next of the ring. */
static struct exit_record *record_for(struct worker *w)
{
	struct ledger_exits *x = ledger_exits(&w->m->ledger, w->row);
	struct exit_record *last = &x->records[(w->slot->exits - 1) % EXITS_KEPT];

	if (w->slot->exits > 0 && last->valid && last->incarnation == w->slot->w.incarnation)
		return last;
	last = &x->records[w->slot->exits % EXITS_KEPT];
	memset(last, 0, offsetof(struct exit_record, lines));
	last->incarnation = w->slot->w.incarnation;
	FAIL_HERE(EXIT_ROW);
	last->valid = EXIT_WRITTEN;
	FAIL_HERE(EXIT_VALID);
	w->slot->exits++;
	FAIL_HERE(EXIT_COUNTED);
	return last;
}

static void record_times(struct exit_record *rec, const struct ledger_life *life)
{
	rec->at_real_us = life->exit_real_us;
	rec->lived_ms = life->exit_ms - life->born_ms;
	rec->started_real_us = rec->at_real_us - rec->lived_ms * 1000;
	rec->user_us = life->user_us;
	rec->system_us = life->system_us;
	rec->maxrss_kb = life->maxrss_kb;
}

static void ask_last_words(struct worker *w, const struct ledger_life *life,
			   struct exit_record *rec)
{
	const struct logbook *book = &w->m->book;
	bool separate = logbook_stream(book, w->row + LOGBOOK_ERR)->used;

	if (w->m->command) { /* it wrote to our own stdout: nobody has kept it */
		rec->valid = EXIT_COMPLETE;
		return;
	}
	rec->from[0] = life->log_mark[0];
	rec->from[1] = life->log_mark[1];
	rec->drain_err = separate ? logbook_drain(&w->m->book, w->row + LOGBOOK_ERR, true) : 0;
	FAIL_HERE(EXIT_DRAIN);
	rec->drain = logbook_drain(&w->m->book, w->row, true);
	FAIL_HERE(EXIT_DRAINING);
	if (!w->draining)
		w->m->drains++;
	w->draining = true;
	w->m->logger_news = true;
}

/* A thread writes to the log of its host; what it was told of its end came with it. */
static void take_words_of_thread(struct worker *w, struct exit_record *rec)
{
	size_t len = MIN_OF(w->last_words_len, (size_t)EXIT_LINES);

	/* the end of a traceback says what it was */
	if (len > 0)
		memcpy(rec->lines, w->last_words + w->last_words_len - len, len);
	rec->lines_len = (uint32_t)len;
	rec->valid = EXIT_COMPLETE;
}

static void write_record(struct worker *w, uint32_t row, const struct worker_end *e,
			 enum exit_cause cause)
{
	struct ledger_life *life = ledger_life(&w->m->ledger, row);
	struct exit_record *rec = record_for(w);

	if (rec->drain || rec->valid == EXIT_COMPLETE)
		return;
	rec->generation = w->slot->w.generation;
	rec->pid = (int32_t)w->m->ledger.pids[row];
	rec->code = e->code;
	rec->signal = e->signal;
	rec->core = e->core;
	rec->cause = (uint8_t)cause;
	rec->stage = (uint8_t)life->stage;
	rec->stage_errno = life->stage_errno;
	record_times(rec, life);
	snprintf(rec->error, sizeof(rec->error), "%s", e->spawn_failed ? w->slot->error : "");
	FAIL_HERE(EXIT_FILLED);
	FAIL_HERE(EXIT_CPU);
	w->slot->w.cause = (uint8_t)cause;
	if (life->kind == LIFE_THREAD)
		take_words_of_thread(w, rec);
	else
		ask_last_words(w, life, rec);
}

/* What could not be done before exec, unless whoever prepared the start has named it. */
static void name_failure(struct worker *w, const struct ledger_life *life)
{
	if (!w->slot->error[0])
		spawn_failure_text(w, (enum spawn_stage)life->stage, life->stage_errno,
				   w->slot->error, sizeof(w->slot->error));
}

static void say_end(const struct worker *w, const struct ledger_life *life,
		    const struct worker_end *e)
{
	int pid = (int)w->m->ledger.pids[w->slot->life[0]];
	bool good = e->code == 0 && w->slot->kind == SLOT_WORKER; /* a template never ends well */
	char name[12];

	if (e->spawn_failed)
		log_error("%s: %s", w->name, w->slot->error);
	else if (life->kind == LIFE_THREAD)
		threads_say_end(w, e);
	else if (e->signal)
		log_write(e->asked ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "%s: pid %d killed by %s%s",
			  w->name, pid, signal_to_name(e->signal, name),
			  e->core ? " (core dumped)" : "");
	else
		log_write(e->asked || good ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN,
			  "%s: pid %d ended with code %d%s", w->name, pid, e->code,
			  e->not_ready ? " before it was ready" : "");
}

static const struct conf_restart never_again = { .when = CONF_WHEN_NEVER };

/* Templates: with the pace of the group, whatever their end. */
static struct conf_restart always_again(const struct conf_group *c)
{
	struct conf_restart r = c ? c->restart : never_again;

	r.when = CONF_WHEN_ALWAYS;
	r.n_success_codes = r.n_no_restart_codes = 0;
	return r;
}

/* Decide on copies and commit them. */
static void decide(struct worker *w, uint32_t row, const struct worker_end *e)
{
	struct ledger_life *life = ledger_life(&w->m->ledger, row);
	const struct conf_restart always = always_again(w->group->conf);
	const struct conf_restart *r = !w->group->conf		      ? &never_again
				       : w->slot->kind != SLOT_WORKER ? &always
								      : &w->group->conf->restart;
	struct ledger_exits *x = ledger_exits(&w->m->ledger, w->row);
	struct worker_state *next = &w->slot->w_next;
	enum worker_input verdict;

	FAIL_HERE(EXIT_DECIDE);
	*next = w->slot->w;
	memcpy(x->window_next, x->window, sizeof(x->window_next));
	w->slot->cpu_us_next = w->slot->cpu_us_before + (uint64_t)(life->user_us + life->system_us);
	next->wanted_up = worker_wanted(w);
	next->ended_well = worker_end_good(r, e);
	if (next->wanted_up && !e->asked && worker_lacked_means(-life->stage_errno)) {
		/* the child met the limit, e.g. processes of its user at the exec */
		next->deadline_ms = clock_mono_ms() + worker_no_means_delay(next);
		verdict = WI_END_BACKOFF;
	} else {
		verdict = worker_decide_end(next, r, e, x->window_next, clock_mono_ms());
	}
	if (life->kind == LIFE_THREAD && next->cause == CAUSE_PARENT_GONE &&
	    verdict == WI_END_AGAIN)
		next->restarts++; /* nobody asked for it, and it is not the slot's fault */
	next->wanted_up = w->slot->w.wanted_up;
	next->main_gone = 0;
	next->renew = 0;
	FAIL_HERE(EXIT_VERDICT);
	life->verdict = (uint8_t)(verdict + 1);
	FAIL_HERE(EXIT_COMMITTED);
}

void exit_never_was(struct worker *w)
{
	struct ledger_life *life = worker_life(w);
	struct worker_state *next = &w->slot->w_next;

	if (!life->verdict) {
		struct ledger_exits *x = ledger_exits(&w->m->ledger, w->row);

		/* exit_take_over() takes all of it: it is not to find what an earlier end left */
		memcpy(x->window_next, x->window, sizeof(x->window_next));
		w->slot->cpu_us_next = w->slot->cpu_us_before;
		*next = w->slot->w;
		next->incarnation--;
		next->main_gone = next->renew = 0;
		life->verdict = (uint8_t)((worker_wanted(w) ? WI_END_AGAIN : WI_END_STOPPED) + 1);
	}
	worker_post(w, (enum worker_input)(life->verdict - 1));
}

/* Tree empty (or left alone on purpose). */
static void life_over(struct worker *w, uint32_t row)
{
	struct ledger_life *life = ledger_life(&w->m->ledger, row);
	struct worker_end e = { 0 };

	tree_unwatch(w->m, row);
	if (!life->verdict && handover_pending(life) && !life->stage_errno) {
		exit_never_was(w);
		return;
	}
	if (!life->verdict) {
		template_failed(w);
		describe_end(w, life, &e);
		if (life->stage_errno)
			name_failure(w, life);
		write_record(w, row, &e, cause_of(w, row, &e));
		say_end(w, life, &e);
		decide(w, row, &e);
	}
	worker_post(w, (enum worker_input)(life->verdict - 1));
}

static bool lives(enum worker_status state)
{
	return state == WS_STARTING || state == WS_READY || state == WS_STOPPING ||
	       state == WS_KILLING || state == WS_STUCK;
}

bool exit_take_over(struct worker *w)
{
	struct ledger_life *life = worker_life(w);
	struct ledger_exits *x;

	if (!life || !life->verdict)
		return false;
	/* what may have changed since: READY said before the end, requests of operators */
	if (!lives(w->slot->w.state))
		return true; /* a predecessor did, to the end */
	w->slot->w_next.state = w->slot->w.state;
	w->slot->w_next.told = w->slot->w.told;
	w->slot->w_next.since_ms = w->slot->w.since_ms;
	w->slot->w_next.ready_ms = w->slot->w.ready_ms;
	w->slot->w_next.wanted_up = w->slot->w.wanted_up;
	w->slot->w_next.by_hand = w->slot->w.by_hand;
	x = ledger_exits(&w->m->ledger, w->row);
	memcpy(x->window, x->window_next, sizeof(x->window));
	w->slot->cpu_us_before = w->slot->cpu_us_next;
	FAIL_HERE(EXIT_TAKE);
	w->slot->w = w->slot->w_next;
	FAIL_HERE(EXIT_TAKEN);
	return true;
}

void exit_release(struct worker *w)
{
	struct manager *m = w->m;
	uint32_t row = w->slot->life[0];

	worker_landed(w);
	handover_close(w);
	template_close(w);
	FAIL_HERE(RELEASE_NOTIFY);
	notify_close(w, row);
	FAIL_HERE(RELEASE_TREE);
	tree_remove(m, row);
	FAIL_HERE(RELEASE_SLOT);
	w->slot->life[0] = LEDGER_NONE;
	FAIL_HERE(RELEASE_CAUSE);
	w->slot->w.cause = CAUSE_NONE;
	FAIL_HERE(RELEASE_ROW);
	ledger_free_life(&m->ledger, row);
}

void exit_unborn(struct worker *w, int err, const char *text)
{
	struct ledger_life *life = worker_life(w);

	life->exit_how = CLD_EXITED;
	life->exit_status = 127;
	life->exit_ms = clock_mono_ms();
	life->exit_real_us = clock_real_us();
	snprintf(w->slot->error, sizeof(w->slot->error), "%s", text);
	FAIL_HERE(UNBORN_NOTED);
	life->stage = STAGE_PREPARE;
	life->stage_errno = err;
	FAIL_HERE(UNBORN_SET);
	life_over(w, w->slot->life[0]);
}

bool exit_resume_unborn(struct worker *w)
{
	const struct ledger_life *life = worker_life(w);

	if (!life->verdict && (life->stage != STAGE_PREPARE || !life->stage_errno))
		return false;
	life_over(w, w->slot->life[0]);
	return true;
}

/* Others of the tree are left: what the group's policy makes of them. */
static void leftovers(struct worker *w, uint32_t row)
{
	struct worker_state *s = &w->slot->w;
	enum conf_orphans policy = w->slot->kind == SLOT_TEMPLATE
					   ? CONF_ORPHANS_KILL
					   : (enum conf_orphans)w->group->row->orphans;
	bool first = !s->main_gone;

	/* what it forked last may not have been claimed yet: no leftover, but a worker */
	if (handover_waits(w)) {
		tree_watch(w->m, row);
		return;
	}
	FAIL_HERE(LEFTOVERS_SEEN);
	s->main_gone = 1;
	FAIL_HERE(LEFTOVERS_NOTED);
	switch (policy) {
	case CONF_ORPHANS_LEAVE:
		if (s->state == WS_STARTING || s->state == WS_READY || s->state == WS_STOPPING) {
			log_info("%s: main process gone, its children are left running (orphans = "
				 "\"leave\")",
				 w->name);
			life_over(w, row);
			return;
		}
		break;
	case CONF_ORPHANS_WAIT:
		tree_watch(w->m, row);
		if (first && s->state == WS_STOPPING)
			worker_post(w, WI_LEFTOVERS);
		return;
	default:
		break;
	}
	tree_watch(w->m, row);
	/* not only the first time: whoever noted it may have died before it acted */
	if (first || s->state == WS_STARTING || s->state == WS_READY) {
		log_debug("%s: main process gone, ending what is left of its tree", w->name);
		worker_post(w, WI_LEFTOVERS);
	}
}

void life_look(struct manager *m, uint32_t row)
{
	struct ledger_life *life = ledger_life(&m->ledger, row);
	struct worker *w;

	if (life->use == LIFE_FREE || (!life->exited && !handover_pending(life)))
		return;
	if (life->kind == LIFE_HELPER) {
		if (!gauge_helper_ended(m, row))
			reload_helper_ended(m, row);
		return;
	}
	w = m->by_slot[life->slot];
	if (w && w->slot->life[0] != row && w->slot->life[1] == row) {
		spare_look(w);
		return;
	}
	if (!w || w->slot->life[0] != row) {
		ledger_free_life(&m->ledger, row);
		return;
	}
	if (life->verdict) {
		life_over(w, row);
		return;
	}
	if (handover_look(w) || !life->exited)
		return;
	template_drain(w);
	if (w->slot->kind == SLOT_HOST)
		threads_host_gone(w);
	notify_drain(w);
	spawn_poll(m);
	if (tree_is_empty(m, row))
		life_over(w, row);
	else
		leftovers(w, row);
}

/* Copy the last words once the logger has read all that was written: those of a separate stderr
 * if it said anything, since that is where programs say why they die. */
static void take_last_words(struct worker *w)
{
	struct logbook *book = &w->m->book;
	struct ledger_exits *x = ledger_exits(&w->m->ledger, w->row);
	struct exit_record *rec = &x->records[(w->slot->exits - 1) % EXITS_KEPT];
	uint32_t err = w->row + LOGBOOK_ERR;
	size_t n = 0;

	if (!logbook_drained(book, w->row, rec->drain) ||
	    (rec->drain_err && !logbook_drained(book, err, rec->drain_err)))
		return;
	w->draining = false;
	w->m->drains--;
	w->m->changed = true;
	worker_reconcile(w);
	if (rec->drain_err)
		n = logbook_tail(book, err, rec->from[1], rec->lines, sizeof(rec->lines));
	if (n == 0)
		n = logbook_tail(book, w->row, rec->from[0], rec->lines, sizeof(rec->lines));
	FAIL_HERE(WORDS_COPIED);
	rec->lines_len = (uint32_t)n;
	FAIL_HERE(WORDS_COUNTED);
	rec->valid = EXIT_COMPLETE;
	if (w->slot->kind == SLOT_HOST)
		threads_last_words(w, rec);
}

void exits_drained(struct manager *m)
{
	uint32_t high = m->drains ? m->ledger.h->slots_high : 0;

	for (uint32_t i = 0; i < high && m->drains; i++)
		if (m->by_slot[i] && m->by_slot[i]->draining)
			take_last_words(m->by_slot[i]);
}
