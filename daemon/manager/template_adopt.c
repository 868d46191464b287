/*
 * What a successor does with the channels that its predecessor had: each goes on with whoever is at
 * its other end, or both end.
 */
#include "manager/template.h"

#include "manager/worker.h"

#include <unistd.h>

static bool adopt(struct manager *m, const struct role_fd *f)
{
	struct ledger_life *life = ledger_life(&m->ledger, f->index);
	struct worker *w =
		life->use == LIFE_MADE && life->kind == LIFE_WORKER && life->slot < LEDGER_ROWS
			? m->by_slot[life->slot]
			: NULL;
	struct forker *made;

	if (w && w->slot->life[0] != f->index && w->slot->life[1] == f->index) {
		w->spare_fd = f->fd; /* spare_resume() goes on with it */
		return true;
	}
	if (!w || w->slot->life[0] != f->index || life->incarnation != f->aux)
		return false;
	if (life->handover != HAND_NONE) {
		w->hand_fd = f->fd; /* handover_resume() goes on with it */
		return true;
	}
	made = template_listen(w, f->index, f->fd);
	if (!made)
		return false;
	made->adopted = true;
	made->inherited = w->slot->template.requests;
	life->has_channel = 1;
	template_resume(made);
	return true;
}

/* A predecessor gave its channel up and died before it ended it, or we could not take it over:
 * nobody could reach it any more. */
static bool is_unheard(const struct worker *w)
{
	return worker_life(w) &&
	       (worker_life(w)->unheard || (w->slot->kind != SLOT_WORKER && !w->forker));
}

static void end_unheard(struct manager *m)
{
	for (uint32_t i = 0; i < m->ledger.h->slots_high; i++) {
		struct worker *w = m->by_slot[i];

		if (!w || !is_unheard(w) || !worker_pid(w) ||
		    (w->slot->w.state != WS_STARTING && w->slot->w.state != WS_READY))
			continue;
		if (w->slot->w.cause == CAUSE_NONE)
			w->slot->w.cause = CAUSE_PROBE;
		worker_post(w, WI_KILL);
	}
}

void templates_adopt(struct manager *m)
{
	for (uint32_t i = 0; i < m->fds->n; i++) {
		const struct role_fd *f = &m->fds->rows[i];

		if (f->kind != RF_CHANNEL || f->index >= LEDGER_ROWS || adopt(m, f))
			continue;
		close(f->fd);
		store_drop(m->store, RF_CHANNEL, f->index, f->name);
	}
	end_unheard(m);
}
