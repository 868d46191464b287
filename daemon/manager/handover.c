/*
 * Owns the way of one worker from FORK to GO: its channel, its clock, the claim. The life row says
 * how far it has come (enum life_handover), so a successor goes on or begins again; the channel
 * itself dies with the manager until just before GO, and a worker whose channel ends without GO
 * ends before it runs any code of its user. So nobody is lost, doubled or left waiting.
 *
 *   HAND_ASKED  FORK is sent. Lost with the manager: the next one asks again.
 *   HAND_BORN   its first message came, by which the kernel names it; the keeper is asked to claim
 *               it. Lost with the manager: it ends by itself, is reaped with its row, asked again.
 *               handover_born.c does what follows, up to GO.
 *   HAND_PARKED a spare (spare.c): claimed, its channel is stored, nobody has said GO. A successor
 *               keeps it and, once it is life[0], goes on at GO; without the channel it ends.
 *   HAND_GO     the channel is stored, GO is sent. A successor that finds the life not marked as
 *               running says GO again on the stored channel; a second GO means nothing.
 */
#include "manager/handover.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "base/str.h"
#include "manager/spawn.h"
#include "manager/tree.h"
#include "manager/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define TRIES_MAX 2 /* forks asked for, for one start */

/* --- ends of a request ----------------------------------------------------------------------- */

void request_close(struct request *r)
{
	struct worker *w = r ? r->w : NULL, *source;
	bool gone;

	if (!r)
		return;
	source = w->m->by_slot[r->source];
	gone = r->gone;
	*(r->spare ? &w->spare : &w->request) = NULL;
	ev_io_stop(w->m->loop, &r->io);
	ev_timer_stop(w->m->loop, &r->clock);
	ev_timer_stop(w->m->loop, &r->look);
	close_fd(&r->fd);
	close_fd(&r->pidfd);
	free(r);
	/* its end may have waited for this */
	if (gone && source && source->slot->life[0] != LEDGER_NONE && !handover_waits(source))
		life_look(source->m, source->slot->life[0]);
}

void handover_close(struct worker *w)
{
	struct ledger_life *life = worker_life(w);

	request_close(w->request);
	close_fd(&w->hand_fd);
	if (life && life->handover != HAND_NONE && life->has_channel) {
		store_drop(w->m->store, RF_CHANNEL, worker_life_row(w), "");
		life->has_channel = 0;
	}
}

static void ask_end(const struct worker *w, uint32_t row)
{
	ledger_ask_kill(&w->m->ledger, row, SIGKILL, CONF_TO_MAIN);
	bell_ring(w->m->bell_keeper);
}

void request_ask_end(const struct request *r)
{
	ask_end(r->w, r->row);
}

/* Whoever hangs on the way there does not see that its channel ends; where it was born in the leaf
 * it can be found all the same. */
void request_end_unclaimed(const struct worker *w, uint32_t row)
{
	if (ledger_life(&w->m->ledger, row)->in_cgroup)
		tree_kill(w->m, row, SIGKILL);
}

/* The start failed, and is charged like any other that fails before exec. */
void request_fail(struct request *r, int err, const char *text)
{
	struct worker *w = r->w;
	struct ledger_life *life = ledger_life(&w->m->ledger, r->row);
	struct diag d = { 0 };
	char said[sizeof(w->slot->error)];

	str_escape(text, strlen(text), said, sizeof(said));
	if (err <= 0)
		err = ECHILD;
	if (r->spare) {
		spare_fails(r, said);
		return;
	}
	if (request_has_process(r)) {
		/* its exit record ends the start; the channel's end makes it exit */
		if (!r->cancelled && !life->stage_errno) {
			snprintf(w->slot->error, sizeof(w->slot->error), "%s", said);
			life->stage = STAGE_PREPARE;
			life->stage_errno = err;
		}
		ev_io_stop(w->m->loop, &r->io);
		close_fd(&r->fd);
		request_ask_end(r);
		return;
	}
	request_end_unclaimed(w, r->row);
	handover_close(w);
	w->slot->hand_tries = 0;
	diag_set(&d, -err, "%s", said);
	worker_start_failed(w, worker_lacked_means(-err) ? -err : -ECHILD, &d);
}

/*
 * Nobody was born, and it was not the worker's fault: begin again, but not for ever. The death of
 * who was to fork it does not count: that one has a restart limit of its own.
 */
void request_again(struct request *r, const char *why)
{
	struct worker *w = r->w;

	if (r->gone && !r->pid && w->slot->hand_tries > 0)
		w->slot->hand_tries--;
	if (r->spare || w->slot->hand_tries >= TRIES_MAX) {
		request_fail(r, ECHILD, why);
		return;
	}
	log_debug("%s: %s: asking again", w->name, why);
	request_end_unclaimed(w, r->row);
	handover_close(w);
	exit_never_was(w);
}

/* --- what the one who was asked says --------------------------------------------------------- */

/* What a slot has asked for: its next life, a spare. */
static struct request *request_of(const struct worker *w, bool spare)
{
	return !w ? NULL : spare ? w->spare : w->request;
}

/* The request that a reply is about, if it is still open. */
static struct request *of_reply(struct manager *m, const struct owed *o)
{
	const struct worker *w = o->slot < LEDGER_ROWS ? m->by_slot[o->slot] : NULL;

	for (int spare = 0; spare < 2; spare++) {
		struct request *r = request_of(w, spare);

		if (r && r->number == o->number)
			return r;
	}
	return NULL;
}

void handover_spawned(struct manager *m, const struct owed *o)
{
	struct request *r = of_reply(m, o);

	if (!r)
		return;
	ev_timer_again(m->loop, &r->clock); /* now it is the worker's time */
	if (r->pid)
		request_claim(r);
}

/* Its start is repeated by exec. */
static void by_spawn(struct request *r)
{
	struct worker *w = r->w;

	w->slot->by_spawn_next = 1;
	handover_close(w);
	exit_never_was(w);
}

void handover_failed(struct manager *m, const struct owed *o, int err, const char *text)
{
	struct request *r = of_reply(m, o);
	const struct conf_group *c = r ? r->w->group->conf : NULL;
	const struct worker *source = r ? m->by_slot[r->source] : NULL;

	if (r && !r->spare && err == EBUSY && !request_has_process(r) &&
	    ((c && c->template.fallback == CONF_FALLBACK_SPAWN) || (source && seed_works(source))))
		by_spawn(r);
	else if (r)
		request_fail(r, err, text);
}

bool handover_waits(const struct worker *w)
{
	const struct manager *m = w->m;

	if (w->slot->kind != SLOT_TEMPLATE)
		return false;
	for (uint32_t i = 0; i < 2 * m->ledger.h->slots_high; i++) {
		const struct request *r = request_of(m->by_slot[i / 2], i % 2);

		if (r && r->source == w->row)
			return true;
	}
	return false;
}

void handover_orphaned(struct forker *f)
{
	struct manager *m = f->w->m;

	for (uint32_t i = 0; i < 2 * m->ledger.h->slots_high; i++) {
		struct request *r = request_of(m->by_slot[i / 2], i % 2);

		/* the end of the worker's own channel says whether there is one */
		if (r && r->source == f->w->row)
			r->gone = true;
	}
	f->n_owed = 0;
}

/* --- begin ----------------------------------------------------------------------------------- */

/* It is not coming: a seed is busy with its own work, a template hangs. Nobody is late while the
 * one who was asked answers others: they came first. */
static void clock_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	struct request *r = t->data;
	struct worker *w = r->w, *source = r->gone ? NULL : w->m->by_slot[r->source];
	bool template = source && source->slot->kind == SLOT_TEMPLATE, late = r->late;
	bool owed = source && template_owes(source->forker, r->number);

	if (owed && (double)(clock_mono_ms() - source->forker->answered_ms) / 1000. < t->repeat)
		return;
	r->late = true;
	if (owed && template) {
		template_bad(source, CAUSE_WATCHDOG, "no answer to a fork within fork_timeout");
	} else if (owed && !request_has_process(r)) {
		log_info(
			"%s: %s did not come to a fork point within fork_timeout: started by spawn",
			w->name, source->name);
		by_spawn(r);
	} else if (late || !source || !request_has_process(r)) {
		/* a worker that hangs on its way is no fault of who has answered */
		request_fail(r, ETIMEDOUT, "it did not report within fork_timeout");
	}
}

void handover_put_off(struct worker *w)
{
	if (w->request)
		ev_timer_again(w->m->loop, &w->request->clock);
	if (w->spare)
		ev_timer_again(w->m->loop, &w->spare->clock);
}

static struct request *new_request(struct worker *w, uint32_t row, bool spare, int fd)
{
	double timeout = (double)w->group->conf->template.fork_timeout_ms / 1000.;
	struct request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->w = w;
	r->row = row;
	r->spare = spare;
	r->fd = fd;
	r->pidfd = -1;
	r->pause = HANDOVER_LOOK_FIRST_S;
	ev_io_init(&r->io, request_readable, fd, EV_READ);
	ev_timer_init(&r->look, request_look_fired, HANDOVER_LOOK_FIRST_S, 0.);
	ev_timer_init(&r->clock, clock_fired, timeout, timeout);
	r->io.data = r->look.data = r->clock.data = r;
	*(spare ? &w->spare : &w->request) = r;
	return r;
}

static void note_source(const struct request *r, const struct worker *source)
{
	struct ledger_life *life = ledger_life(&r->w->m->ledger, r->row);

	life->source_slot = source->row;
	life->source_incarnation = source->slot->w.incarnation;
	life->source_generation = source->slot->w.generation;
	/* the code that it runs is its template's */
	life->generation = source->slot->w.generation;
	if (!r->spare)
		r->w->slot->w.generation = life->generation;
	life->handover = HAND_ASKED;
}

/* The socket pair of a request; *theirs is the worker's end. NULL with *d. */
static struct request *open_request(struct worker *w, uint32_t row, bool spare, int *theirs,
				    struct diag *d)
{
	struct request *r;
	struct stat st;
	int ends[2], err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		diag_set(d, -errno, "making its channel: %s", strerror(errno));
		return NULL;
	}
	*theirs = ends[1];
	err = channel_want_sender(ends[0]);
	r = err < 0 ? NULL : new_request(w, row, spare, ends[0]);
	if (!r) {
		close(ends[0]);
		diag_set(d, err < 0 ? err : -ENOMEM, "making its channel");
		return NULL;
	}
	r->peer = fstat(*theirs, &st) == 0 ? st.st_ino : 0;
	return r;
}

static int ask(struct worker *w, uint32_t row, bool spare, struct diag *d)
{
	struct worker *source = template_serving(w->group);
	struct forker *f = source ? source->forker : NULL;
	char why[sizeof(w->slot->error)];
	struct request *r;
	auto_fd theirs = -1;
	int err;

	/* admit.c saw it; who goes on with a predecessor's start may not. It waits if one comes */
	if (!f) {
		maker_trouble(w->group, why, sizeof(why));
		return diag_set(d, template_blocks(w) ? -EAGAIN : -ECHILD, "%s/template: %s",
				w->group->row->name, why);
	}
	err = template_look(f, d);
	if (err < 0)
		return err;
	r = open_request(w, row, spare, &theirs, d);
	if (!r)
		return -EAGAIN;
	note_source(r, source);
	r->source = source->row;
	r->number = template_number(f);
	err = template_order(w, row, f, theirs, r->number, d);
	if (err < 0) {
		request_close(r);
		return err;
	}
	ev_io_start(w->m->loop, &r->io);
	ev_timer_start(w->m->loop, &r->clock);
	return 0;
}

int handover_begin(struct worker *w, uint32_t row, struct diag *d)
{
	int r;

	w->slot->hand_tries++;
	r = ask(w, row, false, d);
	if (r < 0)
		w->slot->hand_tries--;
	return r;
}

int handover_begin_spare(struct worker *w, uint32_t row, struct diag *d)
{
	return ask(w, row, true, d);
}

/* --- stop and resume ------------------------------------------------------------------------- */

bool handover_cancel(struct worker *w)
{
	struct ledger_life *life = worker_life(w);
	struct request *r = w->request;
	uint32_t row = w->slot->life[0];

	if (!handover_pending(life) || life->exited)
		return false;
	if (r && r->claim_sent) {
		/* its row waits for the keeper's word, and then for its exit record */
		r->cancelled = true;
		ev_io_stop(w->m->loop, &r->io);
		close_fd(&r->fd);
		if (life->claim == CLAIM_TAKEN)
			request_ask_end(r);
		return true;
	}
	if (ledger_life_live(&w->m->ledger, row)) {
		/* claimed under a predecessor, or a spare that could not go: the same */
		ask_end(w, row);
		return true;
	}
	request_end_unclaimed(w, row);
	handover_close(w);
	exit_never_was(w);
	return true;
}

void handover_resume(struct worker *w)
{
	struct ledger_life *life = worker_life(w);
	uint32_t row = w->slot->life[0];
	auto_fd fd = give_fd(&w->hand_fd);

	if (life && life->handover == HAND_PARKED && life->exited) {
		w->slot->w.incarnation = life->incarnation;
		life->handover = HAND_BORN; /* it ended as a spare: no start was lost */
	}
	if (!life || life->handover == HAND_NONE || life->execed || life->exited) {
		if (fd >= 0) /* it was about to be dropped */
			store_drop(w->m->store, RF_CHANNEL, row, "");
		return;
	}
	if (life->handover == HAND_PARKED && fd >= 0 && spare_goes(w) == 0)
		life->handover = HAND_GO;
	if (life->handover == HAND_GO && fd >= 0) {
		if (w->slot->w.state == WS_STARTING)
			request_go(fd); /* else it is being ended */
		request_runs(w, row);
		return;
	}
	/* its channel ended with our predecessor: it is on its way out, with or without the signal
	 */
	store_drop(w->m->store, RF_CHANNEL, row, "");
	life->has_channel = 0;
	w->slot->hand_tries = 0;
	life->handover = HAND_BORN;
	if (ledger_life_live(&w->m->ledger, row)) {
		ledger_ask_kill(&w->m->ledger, row, SIGKILL, CONF_TO_MAIN);
		bell_ring(w->m->bell_keeper);
	}
}
