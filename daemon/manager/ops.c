/*
 * What operators ask for, as changes of what is wanted. The state machine does the rest; whoever
 * waits for the result waits for the state (control.c), so a resent call is harmless.
 */
#include "manager/worker.h"

#include "base/failpoint.h"

#include "manager/threads.h"
#include "manager/tree.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static int refuse_shutdown(const struct manager *m, struct diag *d)
{
	if (m->ledger.h->phase == PHASE_RUN)
		return 0;
	return diag_set(d, -ESHUTDOWN, "the daemon is shutting down");
}

/* What makes workers comes and goes with them. */
static int refuse_maker(const struct worker *w, struct diag *d)
{
	if (w->slot->kind == SLOT_WORKER)
		return 0;
	return diag_set(d, -EINVAL, "it is wanted while its group is: only show, kill and logs");
}

/* Up is wanted from now on, by hand; refused while it is on its way out. */
static int want_up(struct worker *w, struct diag *d)
{
	int r = refuse_shutdown(w->m, d);

	if (r == 0)
		r = refuse_maker(w, d);

	if (r < 0)
		return r;
	if (w->surplus || !w->group->conf)
		return diag_set(d, -ENOENT, "it is being removed");
	FAIL_HERE(WANT_UP);
	w->slot->w.wanted_up = 1;
	FAIL_HERE(WANT_UP_HAND);
	w->slot->w.by_hand = 1;
	return 0;
}

int op_start(struct worker *w, struct diag *d)
{
	struct worker_state *s = &w->slot->w;
	int r = want_up(w, d);

	if (r < 0)
		return r;
	if (s->state == WS_QUARANTINED || s->state == WS_BACKOFF || s->state == WS_DONE)
		worker_forget(s);
	worker_post(w, WI_START);
	return 0;
}

/* A cold end is the end of a process. */
static int refuse_company(const struct worker *w, bool cold, struct diag *d)
{
	const char *why = cold && threads_has(w) ? threads_company(w) : NULL;

	return why ? diag_set(d, -EOPNOTSUPP, "%s", why) : 0;
}

int op_stop(struct worker *w, bool cold, struct diag *d)
{
	int r = refuse_maker(w, d);

	if (r == 0)
		r = refuse_company(w, cold, d);
	if (r < 0)
		return r;
	FAIL_HERE(WANT_DOWN);
	w->slot->w.wanted_up = 0;
	FAIL_HERE(WANT_DOWN_HAND);
	w->slot->w.by_hand = 1;
	worker_post(w, cold ? WI_KILL : WI_STOP);
	worker_reconcile(w);
	return 0;
}

int op_restart(struct worker *w, bool cold, struct diag *d)
{
	int r = refuse_company(w, cold, d);

	if (r == 0)
		r = want_up(w, d);
	if (r < 0)
		return r;
	worker_forget(&w->slot->w);
	FAIL_HERE(WANT_RESTART);
	w->slot->op_restart = w->slot->w.incarnation;
	FAIL_HERE(WANT_RESTARTED);
	worker_post(w, cold && w->slot->life[0] != LEDGER_NONE ? WI_KILL : WI_RENEW);
	return 0;
}

int op_reset(struct worker *w, struct diag *d)
{
	struct worker_state *s = &w->slot->w;
	int r = refuse_shutdown(w->m, d);

	if (r == 0)
		r = refuse_maker(w, d);
	if (r < 0)
		return r;
	worker_forget(s);
	group_mark_log(w, false);
	group_mark_log(w, true);
	if (s->wanted_up && (s->state == WS_QUARANTINED || s->state == WS_BACKOFF))
		worker_post(w, WI_START);
	w->m->changed = true;
	return 0;
}

int op_kill(struct worker *w, int signal, enum conf_target to, struct diag *d)
{
	uint32_t row = w->slot->life[0];
	int r = 0;

	if (threads_has(w))
		return diag_set(d, -EOPNOTSUPP, "it is a thread: signal %s/host, and with it all",
				w->group->row->name);
	if (row == LEDGER_NONE)
		return diag_set(d, -ESRCH, "it has no process");
	if (to == CONF_TO_TREE)
		tree_kill(w->m, row, signal);
	else if (!ledger_life_live(&w->m->ledger, row))
		r = -ESRCH;
	else
		r = ledger_ask_kill(&w->m->ledger, row, signal, to);
	if (r < 0)
		return diag_set(d, r, "%s",
				r == -ESRCH ? "its main process is gone"
					    : "too many signals are pending for it");
	bell_ring(w->m->bell_keeper);
	return 0;
}

int op_scale(struct group *g, int workers, struct diag *d)
{
	int r = refuse_shutdown(g->m, d);

	if (r < 0)
		return r;
	if (!g->conf)
		return diag_set(d, -ENOENT, "the group is being removed");
	if (workers > group_room(g))
		return diag_set(d, -ENOSPC, "no room for %d workers: the daemon keeps at most %u",
				workers, LEDGER_ROWS);
	FAIL_HERE(SCALE_FILE);
	g->row->workers_file = g->conf->workers;
	FAIL_HERE(SCALE_SET);
	g->row->scale = workers;
	FAIL_HERE(SCALE_FIT);
	r = group_fit(g);
	if (r < 0)
		return diag_set(d, r, "%d workers: %s", workers, strerror(-r));
	g->m->changed = true;
	return 0;
}

int op_shutdown(struct manager *m, bool cold)
{
	uint32_t want = cold ? PHASE_COLD : PHASE_WARM;

	if (m->ledger.h->phase_want < want)
		m->ledger.h->phase_want = want;
	bell_ring(m->bell_keeper);
	return 0;
}
