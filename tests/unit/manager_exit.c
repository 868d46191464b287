/*
 * A manager that dies between two stores at the end of a life: what its successor makes of the
 * ledger as it was left. Each body makes that ledger by hand and looks at it as a successor does.
 */
#include "base/mem.h"
#include "manager/notify.h"
#include "manager/spawn.h"
#include "manager/tree.h"
#include "manager/worker.h"
#include "manager_rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

static const char conf_text[] =
	"groups: { web: { command = [ \"/bin/sh\", \"-c\", \"sleep 1000 & exit 0\" ];"
	" notify = true; log: { file = \"%s/l\"; }; };"
	" stays: { command = [ \"/bin/sh\", \"-c\", \"trap '' ABRT; sleep 1000\" ];"
	" log: { file = \"%s/l3\"; }; };"
	" brief: { command = \"/bin/true\"; notify = true; log: { file = \"%s/l2\"; }; }; };";

static void put_state(struct worker *w, enum worker_status state, bool wanted_up)
{
	w->m->in_state[w->slot->w.state]--;
	w->m->in_state[state]++;
	w->slot->w.state = (uint8_t)state;
	w->slot->w.wanted_up = wanted_up;
}

/* The new state was entered, the life was not let go of. */
static void body_entered(struct manager *m)
{
	static const struct {
		enum worker_input verdict;
		enum worker_status state;
	} ends[] = {
		{ WI_END_STOPPED, WS_STOPPED }, { WI_END_DONE, WS_DONE },
		{ WI_END_BACKOFF, WS_BACKOFF }, { WI_END_QUARANTINE, WS_QUARANTINED },
		{ WI_END_AGAIN, WS_WAITING },
	};
	struct worker *w = manager_find_worker(m, "brief", 0);

	workers_drain(m); /* they wait for their turn from here on */
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		uint32_t row = rig_start(w);
		struct ledger_life *life = ledger_life(&m->ledger, row);

		rig_until_exit(m, row);
		put_state(w, ends[i].state, ends[i].state != WS_STOPPED);
		w->slot->w.deadline_ms = DURATION_NEVER;
		w->slot->w_next = w->slot->w;
		life->verdict = (uint8_t)(ends[i].verdict + 1);
		life_look(m, row);
		workers_drain(m);
		rig_check(w->slot->life[0] == LEDGER_NONE, "end %zu", i);
		rig_check(life->use == LIFE_FREE, "end %zu", i);
		rig_check(w->notify_fd < 0, "end %zu", i);
		rig_check(w->slot->w.state == ends[i].state, "end %zu: %d", i, w->slot->w.state);
	}
}

/* That the main process is gone was noted, and nothing done about the rest of its tree. */
static void body_leftovers(struct manager *m)
{
	struct worker *w = manager_find_worker(m, "web", 0);
	uint32_t row = rig_start(w);

	workers_drain(m);
	rig_until_exit(m, row);
	put_state(w, WS_READY, true);
	w->slot->w.main_gone = 1;
	life_look(m, row);
	workers_drain(m);
	rig_check(w->slot->w.state == WS_STOPPING, "%d", w->slot->w.state);
}

/* A start failed before the clone, and the manager died while it was being charged. */
static void body_unborn(struct manager *m)
{
	struct worker *w = manager_find_worker(m, "brief", 0);
	uint32_t row, before;
	struct ledger_life *life;
	struct diag d = { 0 };

	rig_check(logbook_open(m->book.fd, &m->book, &d) == 0, "%s", d.text);
	workers_drain(m);
	row = ledger_take_life(&m->ledger, LIFE_WORKER, w->row);
	life = ledger_life(&m->ledger, row);
	put_state(w, WS_STARTING, true);
	w->slot->w.incarnation = life->incarnation = 7;
	w->slot->life[0] = row;
	life->exit_how = CLD_EXITED;
	life->exit_status = 127;
	life->stage = STAGE_PREPARE;
	life->stage_errno = ENOENT;
	before = w->slot->exits;
	worker_resume(w);
	workers_drain(m);
	rig_check(w->slot->exits == before + 1, "%u exits", w->slot->exits);
	rig_check(w->slot->w.incarnation == 7, "incarnation %u", w->slot->w.incarnation);
	rig_check(w->slot->w.state == WS_BACKOFF, "%d", w->slot->w.state);
	rig_check(w->slot->life[0] == LEDGER_NONE, "life");
}

/* A deadline of one state is none of the next: who hung and is stopped has the time of its first
 * step. */
static void body_timeout(struct manager *m)
{
	static const enum worker_input with[] = { WI_STOP, WI_RENEW };
	struct worker *w = manager_find_worker(m, "stays", 0);

	workers_drain(m);
	rig_start(w);
	for (size_t i = 0; i < ARRAY_LEN(with); i++) {
		put_state(w, WS_READY, true);
		w->slot->w.cause = CAUSE_WATCHDOG;
		worker_post(w, with[i]);
		worker_post(w, WI_TIMEOUT);
		workers_drain(m);
		rig_check(w->slot->w.state == WS_STOPPING, "%d", w->slot->w.state);
		rig_check(w->slot->w.step == 1, "step %d", w->slot->w.step);
	}
	/* its own verdict is about ready, too */
	put_state(w, WS_STARTING, true);
	w->slot->w.step = w->slot->w.step_intent = 0;
	worker_post(w, WI_READY);
	worker_post(w, WI_TIMEOUT);
	workers_drain(m);
	rig_check(w->slot->w.state == WS_STOPPING && w->slot->w.step == 1, "%d", w->slot->w.state);
}

static void run(void (*body)(struct manager *m))
{
	struct rig r;

	rig_init(&r, false);
	rig_run(&r, conf_text, body);
	rig_fini(&r);
}

Test(manager_exit, an_end_that_was_entered_is_finished)
{
	run(body_entered);
}

Test(manager_exit, what_is_left_of_a_tree_is_ended_by_the_successor)
{
	run(body_leftovers);
}

Test(manager_exit, a_failed_start_is_charged_once_over_a_death)
{
	run(body_unborn);
}

Test(manager_exit, a_timeout_is_of_the_state_that_it_was_seen_in)
{
	run(body_timeout);
}
