/*
 * Owns the spares of a group (template.spares): workers that are forked ahead and wait before GO.
 * Name, number, environment, cgroup and log of a process are settled when it is forked, so a spare
 * is made for one worker and its next incarnation. It is life[1] of the slot until it becomes
 * life[0]: claimed by the keeper, HAND_PARKED, its channel in the keeper's store. So a successor
 * finds it; one whose channel is lost ends by itself. Which there should be is compared whenever
 * something changed, as for templates.
 */
#include "manager/handover.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "manager/notify.h"
#include "manager/tree.h"
#include "manager/watchdog.h"
#include "manager/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

/* Between the loss of one and the next try: twice as long each time, if they do not last. */
#define PAUSE_MS     1000
#define PAUSE_MAX_MS 60000

static struct ledger_life *life_of(const struct worker *w)
{
	uint32_t row = w->slot->life[1];

	return row == LEDGER_NONE ? NULL : ledger_life(&w->m->ledger, row);
}

static bool is_parked(const struct worker *w)
{
	const struct ledger_life *life = life_of(w);

	return life && life->handover == HAND_PARKED && w->spare_fd >= 0 &&
	       ledger_life_live(&w->m->ledger, w->slot->life[1]);
}

/* What it was copied from is not to be replaced for what it is. One that has died is no worse. */
static bool source_is_well(const struct worker *w, const struct ledger_life *life)
{
	const struct worker *t = w->m->by_slot[life->source_slot];
	const struct ledger_template *f = t ? &t->slot->template : NULL;

	return !t || t->slot->w.incarnation != life->source_incarnation ||
	       f->recycle == RECYCLE_NOT || f->recycle == RECYCLE_FORKS;
}

/* What FORK settles and a reload can change without a new generation. */
static void settle(const struct group *g, struct ledger_life *life)
{
	life->spare_count = (uint32_t)group_workers_wanted(g);
	life->log_to = (uint8_t)g->conf->log.to;
	life->log_stderr = (uint8_t)g->conf->log.stderr_to;
	life->watchdog_told_ms = watchdog_to_tell(g->conf);
}

static bool is_settled_so(const struct group *g, const struct ledger_life *life)
{
	struct ledger_life now = { 0 };

	settle(g, &now);
	return life->spare_count == now.spare_count && life->log_to == now.log_to &&
	       life->log_stderr == now.log_stderr && life->watchdog_told_ms == now.watchdog_told_ms;
}

/* The next life of w would be the same if it was forked now. */
static bool fits(const struct worker *w)
{
	const struct ledger_life *life = life_of(w);
	const struct group *g = w->group;

	return worker_wanted(w) && !w->surplus && g->conf &&
	       g->conf->start_method == CONF_START_FORKSERVER &&
	       life->incarnation == w->slot->w.incarnation + 1 &&
	       life->generation == g->row->generation && is_settled_so(g, life) &&
	       source_is_well(w, life);
}

/* --- ends ------------------------------------------------------------------------------------ */

static void free_row(struct worker *w)
{
	struct manager *m = w->m;
	uint32_t row = w->slot->life[1];

	tree_unwatch(m, row);
	tree_remove(m, row);
	FAIL_HERE(SPARE_FREE);
	w->slot->life[1] = LEDGER_NONE;
	FAIL_HERE(SPARE_FREED);
	ledger_free_life(&m->ledger, row);
	m->changed = true;
	worker_reconcile(w);
}

/* It ends when its channel does; the signal is for one that hangs. */
static void drop_channel(struct worker *w)
{
	struct ledger_life *life = life_of(w);

	close_fd(&w->spare_fd);
	if (life->has_channel)
		store_drop(w->m->store, RF_CHANNEL, w->slot->life[1], "");
	life->has_channel = 0;
}

static void end_process(struct worker *w)
{
	drop_channel(w);
	FAIL_HERE(SPARE_END);
	ledger_ask_kill(&w->m->ledger, w->slot->life[1], SIGKILL, CONF_TO_MAIN);
	bell_ring(w->m->bell_keeper);
}

/* Nobody is in its row. */
static void end_unborn(struct worker *w)
{
	request_close(w->spare);
	request_end_unclaimed(w, w->slot->life[1]);
	free_row(w);
}

static void end(struct worker *w)
{
	struct request *r = w->spare;

	if (r && !r->claim_sent) {
		end_unborn(w);
	} else if (r && !r->cancelled) {
		/* its row waits for the keeper's word, and then for its exit record */
		r->cancelled = true;
		ev_io_stop(w->m->loop, &r->io);
		close_fd(&r->fd);
	} else if (is_parked(w)) {
		log_debug("%s: its spare does not fit any more", w->name);
		end_process(w);
	}
}

static void pause_over(struct ev_loop *loop, ev_timer *t, int events)
{
	((struct group *)t->data)->m->changed = true;
}

static void begin_pause(struct group *g, int64_t ms)
{
	g->spare_pause_ms = ms;
	ev_timer_init(&g->spare_timer, pause_over, (double)ms / 1000. + .001, 0.);
	g->spare_timer.data = g;
	ev_timer_start(g->m->loop, &g->spare_timer);
}

static bool is_paused(const struct group *g)
{
	return ev_is_active(&g->spare_timer);
}

/* Those that are lost together are one loss. */
static void lost(struct worker *w, const char *why)
{
	struct group *g = w->group;
	bool lasted = clock_mono_ms() - life_of(w)->born_ms >= PAUSE_MAX_MS;
	uint32_t unsaid;

	if (!is_paused(g))
		begin_pause(g, lasted || g->spare_pause_ms == 0
				       ? PAUSE_MS
				       : MIN_OF(2 * g->spare_pause_ms, PAUSE_MAX_MS));
	if (log_limit_pass(&g->spare_limit, 5, 3600000, &unsaid))
		log_info("%s: its spare is lost: %s%s", w->name, why,
			 unsaid ? "; others before it were left unsaid" : "");
}

void spare_fails(struct request *r, const char *text)
{
	struct worker *w = r->w;

	if (r->cancelled)
		return;
	lost(w, text);
	end(w);
}

/* --- beginning ------------------------------------------------------------------------------- */

static void begin(struct worker *w)
{
	struct manager *m = w->m;
	uint32_t row = ledger_take_life(&m->ledger, LIFE_WORKER, w->row);
	struct ledger_life *life;
	struct diag d = { 0 };

	if (row == LEDGER_NONE)
		return;
	FAIL_HERE(SPARE_ROW);
	life = ledger_life(&m->ledger, row);
	life->incarnation = w->slot->w.incarnation + 1;
	life->generation = w->group->row->generation;
	settle(w->group, life);
	life->born_ms = clock_mono_ms();
	life_token(life);
	w->slot->life[1] = row;
	FAIL_HERE(SPARE_BOUND);
	if (handover_begin_spare(w, row, &d) < 0) {
		lost(w, d.text);
		end_unborn(w);
	}
}

void spare_parks(struct request *r)
{
	struct worker *w = r->w;
	struct manager *m = w->m;
	struct ledger_life *life = life_of(w);
	int err = request_into_leaf(r);

	FAIL_HERE(SPARE_STORE);
	if (err == 0)
		err = store_put(m->store, RF_CHANNEL, r->row, life->incarnation, "", r->fd);
	if (err < 0) {
		lost(w, strerror(-err));
		request_close(r);
		end_process(w);
		return;
	}
	life->has_channel = 1;
	FAIL_HERE(SPARE_STORED);
	life->handover = HAND_PARKED;
	FAIL_HERE(SPARE_PARKED);
	w->spare_fd = give_fd(&r->fd);
	request_close(r);
	log_debug("%s: pid %d waits for its next start", w->name,
		  (int)m->ledger.pids[w->slot->life[1]]);
	m->changed = true;
}

void spare_look(struct worker *w)
{
	struct ledger_life *life = life_of(w);
	struct request *r = w->spare;
	uint32_t row = w->slot->life[1];

	if (life->exited) {
		if (w->spare_fd >= 0 || (r && !r->cancelled))
			lost(w, "it ended");
		request_close(r);
		drop_channel(w);
		if (tree_is_empty(w->m, row)) {
			free_row(w);
			return;
		}
		tree_kill(w->m, row, SIGKILL);
		tree_watch(w->m, row);
	} else if (r && r->claim_sent && life->claim == CLAIM_REFUSED) {
		lost(w, "it is no child of the daemon");
		end_unborn(w);
	} else if (r && r->claim_sent && life->claim == CLAIM_TAKEN) {
		if (r->cancelled || !fits(w)) {
			request_close(r);
			end_process(w);
		} else {
			spare_parks(r);
		}
	}
}

/* --- use ------------------------------------------------------------------------------------- */

bool spare_blocks(const struct worker *w)
{
	if (w->slot->life[1] != LEDGER_NONE)
		return !is_parked(w) || !fits(w);
	return template_blocks(w);
}

int spare_take(struct worker *w, struct diag *d)
{
	uint32_t row = w->slot->life[1];

	if (row == LEDGER_NONE)
		return 0;
	if (spare_blocks(w))
		return diag_set(d, -EAGAIN, "its spare is on its way");
	life_prepare(w, row);
	w->slot->w.generation = life_of(w)->generation;
	FAIL_HERE(SPARE_TAKE);
	w->slot->life[0] = row;
	FAIL_HERE(SPARE_SWITCH);
	w->slot->life[1] = LEDGER_NONE;
	FAIL_HERE(SPARE_TAKEN);
	w->hand_fd = give_fd(&w->spare_fd);
	return 1;
}

int spare_goes(struct worker *w)
{
	struct ledger_life *life = worker_life(w);
	char path[128];
	int r = 0;

	w->slot->w.incarnation = life->incarnation;
	FAIL_HERE(SPARE_GOES);
	if (w->group->conf && w->group->conf->notify && !life->notify)
		r = notify_open(w, w->slot->life[0], path, sizeof(path));
	if (r < 0)
		log_warn("%s: making its notify socket: %s", w->name, strerror(-r));
	return r;
}

/* --- recovery -------------------------------------------------------------------------------- */

void spare_resume(struct worker *w)
{
	uint32_t row = w->slot->life[1];

	if (row == LEDGER_NONE)
		return;
	if (w->slot->life[0] == row)
		w->slot->life[1] = LEDGER_NONE; /* taken: handover_resume() goes on */
	else if (w->m->ledger.pids[row] == 0)
		end_unborn(w); /* its channel ended with our predecessor */
	else if (ledger_life_live(&w->m->ledger, row) && !is_parked(w))
		end_process(w);
}

bool spares_left(const struct manager *m)
{
	for (uint32_t i = 0; i < m->ledger.h->slots_high; i++)
		if (m->by_slot[i] && m->by_slot[i]->slot->life[1] != LEDGER_NONE)
			return true;
	return false;
}

uint32_t spares_of(const struct worker *t)
{
	const struct group *g = t->group;
	uint32_t n = 0;

	for (uint32_t i = 0; i < g->n_workers && t == template_serving(g); i++) {
		const struct worker *w = g->workers[i];

		n += w && is_parked(w);
	}
	return n;
}

uint32_t spare_row(const struct worker *w)
{
	uint32_t row = w->slot->life[1];

	return row != LEDGER_NONE && w->m->ledger.pids[row] != 0 ? row : LEDGER_NONE;
}

/* --- which there should be ------------------------------------------------------------------- */

static bool may_have_one(const struct worker *w)
{
	return worker_wanted(w) && !w->surplus && w->slot->life[1] == LEDGER_NONE &&
	       (w->slot->w.state == WS_READY || w->slot->w.state == WS_BACKOFF);
}

/* Who is likely to need it next: who was restarted last, else the first one. */
static struct worker *next_one(const struct group *g)
{
	struct worker *best = NULL;

	for (uint32_t i = 0; i < g->n_workers; i++) {
		struct worker *w = g->workers[i];

		if (w && may_have_one(w) &&
		    (!best || (w->slot->w.restarts > 0 &&
			       (best->slot->w.restarts == 0 ||
				w->slot->w.started_ms > best->slot->w.started_ms))))
			best = w;
	}
	return best;
}

/* Starts that are due come first, and one spare after the other. */
static bool is_busy(const struct group *g)
{
	for (uint32_t i = 0; i < g->n_workers; i++) {
		const struct worker *w = g->workers[i];

		if (w && (w->request || w->spare || w->slot->w.state == WS_WAITING))
			return true;
	}
	return false;
}

static bool can_make(const struct group *g)
{
	const struct worker *t = template_serving(g);

	/* whether it is safe is seen anew before each fork */
	return t && t->slot->w.generation == g->row->generation && !t->slot->template.recycle;
}

static void step_group(struct group *g)
{
	uint32_t want = g->conf && g->conf->start_method == CONF_START_FORKSERVER
				? (uint32_t)g->conf->template.spares
				: 0,
		 have = 0;
	struct worker *next;

	for (uint32_t i = 0; i < g->n_workers; i++) {
		struct worker *w = g->workers[i];

		if (!w || w->slot->life[1] == LEDGER_NONE)
			continue;
		if (have == want || !fits(w))
			end(w);
		else
			have++;
	}
	if (have >= want || is_busy(g) || !can_make(g) || is_paused(g))
		return;
	next = next_one(g);
	if (next)
		begin(next);
}

void spares_step(struct manager *m)
{
	if (m->ledger.h->phase != PHASE_RUN && !spares_left(m))
		return;
	for (size_t i = 0; i < m->n_groups; i++)
		step_group(m->groups[i]);
}
