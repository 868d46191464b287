/*
 * Owns the way of one worker from FORK to GO: its channel, its clock, the claim. The life row says
 * how far it has come (enum life_handover), so a successor goes on or begins again; the channel
 * itself dies with the manager until just before GO, and a worker whose channel ends without GO
 * ends before it runs any code of its user. So nobody is lost, doubled or left waiting.
 *
 *   HAND_ASKED  FORK is sent. Lost with the manager: the next one asks again.
 *   HAND_BORN   its first message came, by which the kernel names it; the keeper is asked to claim
 *               it. Lost with the manager: it ends by itself, is reaped with its row, asked again.
 *   HAND_GO     the channel is stored, GO is sent. A successor that finds the life not marked as
 *               running says GO again on the stored channel; a second GO means nothing.
 */
#include "manager/template.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "base/str.h"
#include "manager/proc.h"
#include "manager/spawn.h"
#include "manager/tree.h"
#include "manager/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define LOOK_FIRST_S .0005 /* between two looks whether it is the keeper's child by now */
#define LOOK_LAST_S  .02
#define TRIES_MAX    2 /* forks asked for, for one start */

struct request {
	struct worker *w;
	uint32_t row, number;
	uint32_t source; /* slot of the one who was asked */
	bool gone;	 /* and who is not there any more */
	int fd, pidfd;
	pid_t pid;
	ev_io io;
	ev_timer clock, look;
	double pause;
	bool claim_sent, cancelled, late;
};

/* --- ends of a request ----------------------------------------------------------------------- */

static void close_request(struct worker *w)
{
	struct request *r = w->request;
	struct worker *source;
	bool gone;

	if (!r)
		return;
	source = w->m->by_slot[r->source];
	gone = r->gone;
	w->request = NULL;
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

	close_request(w);
	close_fd(&w->hand_fd);
	if (life && life->handover != HAND_NONE && life->has_channel) {
		store_drop(w->m->store, RF_CHANNEL, worker_life_row(w), "");
		life->has_channel = 0;
	}
}

/* It is in the row with its pid, or will be: its end is seen by the keeper. */
static bool has_process(const struct request *r)
{
	return r->claim_sent;
}

static void ask_end(struct worker *w)
{
	ledger_ask_kill(&w->m->ledger, worker_life_row(w), SIGKILL, CONF_TO_MAIN);
	bell_ring(w->m->bell_keeper);
}

/* Nobody is in the row. Whoever hangs on the way there does not see that its channel ends; where it
 * was born in the leaf it can be found all the same. */
static void end_unclaimed(struct worker *w)
{
	uint32_t row = worker_life_row(w);

	if (ledger_life(&w->m->ledger, row)->in_cgroup)
		tree_kill(w->m, row, SIGKILL);
}

/* The start failed, and is charged like any other that fails before exec. */
static void fail(struct request *r, int err, const char *text)
{
	struct worker *w = r->w;
	struct ledger_life *life = ledger_life(&w->m->ledger, r->row);
	struct diag d = { 0 };
	char said[sizeof(w->slot->error)];

	str_escape(text, strlen(text), said, sizeof(said));
	if (err <= 0)
		err = ECHILD;
	if (has_process(r)) {
		/* its exit record ends the start; the channel's end makes it exit */
		snprintf(w->slot->error, sizeof(w->slot->error), "%s", said);
		life->stage = STAGE_PREPARE;
		life->stage_errno = err;
		ev_io_stop(w->m->loop, &r->io);
		close_fd(&r->fd);
		ask_end(w);
		return;
	}
	end_unclaimed(w);
	handover_close(w);
	w->slot->hand_tries = 0;
	diag_set(&d, -err, "%s", said);
	worker_start_failed(w, worker_lacked_means(-err) ? -err : -ECHILD, &d);
}

/* Nobody was born, and it was not the worker's fault: begin again, but not for ever. */
static void again(struct request *r, const char *why)
{
	struct worker *w = r->w;

	if (w->slot->hand_tries >= TRIES_MAX) {
		fail(r, ECHILD, why);
		return;
	}
	log_debug("%s: %s: asking again", w->name, why);
	end_unclaimed(w);
	handover_close(w);
	exit_never_was(w);
}

/* --- GO -------------------------------------------------------------------------------------- */

/* Where the one who forked could not make it in the leaf, it is moved before it runs. */
static int into_leaf(struct worker *w, uint32_t row, pid_t pid)
{
	struct ledger_life *life = ledger_life(&w->m->ledger, row);

	return life->in_cgroup ? tree_take(w->m, row, pid) : 0;
}

static int say_go(int fd)
{
	auto_channel_packet p = CHANNEL_PACKET_INIT;

	channel_begin(&p, CH_GO, 0);
	return channel_send(fd, &p);
}

/* It runs: from here on it is a worker like any other. */
static void runs(struct worker *w, uint32_t row)
{
	struct ledger_life *life = ledger_life(&w->m->ledger, row);
	struct worker *source =
		life->source_slot < LEDGER_ROWS ? w->m->by_slot[life->source_slot] : NULL;

	w->slot->hand_tries = 0;
	if (source && source->slot->w.incarnation == life->source_incarnation)
		template_forked(source);
	log_debug("%s: pid %d forked by %s", w->name, (int)w->m->ledger.pids[row],
		  source ? source->name : "one that is gone");
	worker_execed(w);
	life->has_channel = 0;
	life->execed = 1;
	store_drop(w->m->store, RF_CHANNEL, row, "");
}

static void go(struct request *r)
{
	struct worker *w = r->w;
	struct manager *m = w->m;
	uint32_t row = r->row;
	struct ledger_life *life = ledger_life(&m->ledger, row);
	int err = into_leaf(w, row, r->pid);

	if (err < 0) {
		fail(r, -err, "moving it into its cgroup failed");
		return;
	}
	FAIL_HERE(GO_STORE);
	err = store_put(m->store, RF_CHANNEL, row, life->incarnation, "", r->fd);
	if (err < 0) {
		fail(r, -err, "storing its channel failed");
		return;
	}
	life->has_channel = 1;
	FAIL_HERE(GO_STORED);
	life->handover = HAND_GO;
	FAIL_HERE(GO_SEND);
	err = say_go(r->fd);
	FAIL_HERE(GO_SENT);
	/* no reader: it has ended, and its exit record says how */
	if (err < 0 && err != -EPIPE && err != -ECONNRESET)
		log_warn("%s: GO: %s", w->name, strerror(-err));
	close_request(w);
	runs(w, row);
}

/* --- claim ----------------------------------------------------------------------------------- */

static int open_pidfd(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0); /* 5.3 */

	return fd < 0 ? -errno : fd;
}

static void look_again(struct request *r)
{
	struct ev_loop *loop = r->w->m->loop;

	ev_timer_stop(loop, &r->look);
	ev_timer_set(&r->look, r->pause, 0.);
	r->pause = MIN_OF(r->pause * 2, LOOK_LAST_S);
	ev_timer_start(loop, &r->look);
}

/* Ask the keeper for it once it is the keeper's child; the keeper looks for itself. */
static void try_claim(struct request *r)
{
	struct manager *m = r->w->m;
	struct proc_stat s;
	int err;

	if (r->claim_sent || r->cancelled)
		return;
	if (proc_stat(r->pid, &s) < 0 || s.state == 'Z' || s.state == 'X') {
		again(r, "it ended before it was let go");
		return;
	}
	if (s.ppid != m->ledger.h->keeper_pid) {
		look_again(r);
		return;
	}
	FAIL_HERE(CLAIM_SEND);
	err = store_claim(m->store, r->row, r->pidfd);
	FAIL_HERE(CLAIM_SENT);
	if (err < 0) {
		look_again(r);
		return;
	}
	r->claim_sent = true;
}

static void look_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	try_claim(t->data);
}

bool handover_look(struct worker *w)
{
	struct ledger_life *life = worker_life(w);
	struct request *r = w->request;

	if (!handover_pending(life))
		return false;
	if (life->exited) {
		if (r && !r->cancelled && !life->stage_errno && !r->gone) {
			snprintf(w->slot->error, sizeof(w->slot->error),
				 "it ended before it was let go");
			life->stage = STAGE_PREPARE;
			life->stage_errno = ECHILD;
		}
		handover_close(w);
		return false; /* the end of a life: exit.c */
	}
	if (!r || !r->claim_sent || life->claim == CLAIM_NONE)
		return true;
	if (life->claim == CLAIM_REFUSED) {
		r->claim_sent = false; /* no process in the row, and none to come */
		if (r->cancelled)
			handover_cancel(w);
		else
			fail(r, ECHILD, "it is no child of the daemon");
		return true;
	}
	if (r->cancelled || w->slot->w.state != WS_STARTING)
		handover_cancel(w);
	else if (life->stage_errno)
		ask_end(w);
	else
		go(r);
	return true;
}

/* --- what the worker says -------------------------------------------------------------------- */

static void on_fail(struct request *r, const struct channel_message *m)
{
	char stage[64], text[200], said[300];
	int err = channel_i32(m, CT_ERRNO, 0);

	channel_text(m, CT_STAGE, stage, sizeof(stage));
	channel_text(m, CT_TEXT, text, sizeof(text));
	snprintf(said, sizeof(said), "%s: %s", stage, text[0] ? text : strerror(err));
	fail(r, err, said);
}

static void on_born(struct request *r, struct channel_packet *p, const struct channel_message *m)
{
	struct ledger_life *life = ledger_life(&r->w->m->ledger, r->row);

	if (r->pid || !channel_text_is(m, CT_NAME, r->w->name)) {
		fail(r, EPROTO, r->pid ? "BORN twice" : "BORN in another's name");
		return;
	}
	if (p->pid <= 1) {
		fail(r, EPROTO, "the kernel does not say who was born");
		return;
	}
	r->pid = p->pid;
	r->pidfd = p->pidfd >= 0 ? p->pidfd : open_pidfd(p->pid);
	p->pidfd = -1;
	if (r->pidfd < 0) {
		r->pidfd = -1;
		again(r, "it ended before it was let go");
		return;
	}
	life->handover = HAND_BORN;
	FAIL_HERE(BORN_NOTED);
	try_claim(r);
}

/* The end of its channel: nobody holds the other end any more. */
static void on_end(struct request *r)
{
	ev_io_stop(r->w->m->loop, &r->io);
	if (has_process(r) || r->cancelled)
		return; /* the keeper's record says more */
	again(r, r->pid	   ? "it ended before it was let go"
		 : r->gone ? "the one who was to fork it is gone"
			   : "it ended before it reported");
}

static void readable(struct ev_loop *loop, ev_io *io, int events)
{
	struct request *r = io->data;
	auto_channel_packet p = CHANNEL_PACKET_INIT;
	struct channel_message m;
	const char *why = "";
	ssize_t n = channel_recv(r->fd, &p);

	if (n == -EAGAIN || n == -EINTR)
		return;
	FAIL_HERE(BORN_HEARD);
	if (n == 0 || n == -ECONNRESET)
		on_end(r);
	else if (n < 0)
		fail(r, (int)-n, "its channel cannot be read");
	else if (channel_parse(&p, CHANNEL_WORKER, &m, &why) < 0)
		fail(r, EPROTO, why);
	else if (m.type == CH_BORN)
		on_born(r, &p, &m);
	else if (m.type == CH_FAIL)
		on_fail(r, &m);
	else
		fail(r, EPROTO, "a message that a worker does not send");
}

/* --- what the one who was asked says --------------------------------------------------------- */

/* The request that a reply is about, if it is still open. */
static struct request *of_reply(struct manager *m, const struct owed *o)
{
	struct worker *w = o->slot < LEDGER_ROWS ? m->by_slot[o->slot] : NULL;

	return w && w->request && w->request->number == o->number ? w->request : NULL;
}

void handover_spawned(struct manager *m, const struct owed *o)
{
	struct request *r = of_reply(m, o);

	if (r && r->pid)
		try_claim(r);
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

	if (r && err == EBUSY && c && c->template.fallback == CONF_FALLBACK_SPAWN &&
	    !has_process(r))
		by_spawn(r);
	else if (r)
		fail(r, err, text);
}

bool handover_waits(const struct worker *w)
{
	const struct manager *m = w->m;

	if (w->slot->kind != SLOT_TEMPLATE)
		return false;
	for (uint32_t i = 0; i < m->ledger.h->slots_high; i++) {
		const struct request *r = m->by_slot[i] ? m->by_slot[i]->request : NULL;

		if (r && r->source == w->row)
			return true;
	}
	return false;
}

void handover_orphaned(struct forker *f)
{
	struct manager *m = f->w->m;

	for (uint32_t i = 0; i < m->ledger.h->slots_high; i++) {
		struct request *r = m->by_slot[i] ? m->by_slot[i]->request : NULL;

		/* the end of the worker's own channel says whether there is one */
		if (r && r->source == f->w->row)
			r->gone = true;
	}
	f->n_owed = 0;
}

/* --- begin ----------------------------------------------------------------------------------- */

/* It is not coming: a seed is busy with its own work, a template hangs. */
static void clock_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	struct request *r = t->data;
	struct worker *w = r->w, *source = r->gone ? NULL : w->m->by_slot[r->source];
	const struct conf_group *c = w->group->conf;
	bool template = source && source->slot->kind == SLOT_TEMPLATE, late = r->late;

	r->late = true;
	ev_timer_set(&r->clock, c ? (double)c->template.fork_timeout_ms / 1000. : 5., 0.);
	ev_timer_start(loop, &r->clock);
	if (template && template_owes(source->forker, r->number)) {
		template_bad(source, CAUSE_WATCHDOG, "no answer to a fork within fork_timeout");
	} else if (source && !template && !has_process(r)) {
		log_info(
			"%s: %s did not come to a fork point within fork_timeout: started by spawn",
			w->name, source->name);
		by_spawn(r);
	} else if (late || !source || (template && !has_process(r))) {
		/* a worker that hangs on its way is no fault of who has answered */
		fail(r, ETIMEDOUT, "it did not report within fork_timeout");
	}
}

static struct request *new_request(struct worker *w, uint32_t row, int fd)
{
	const struct conf_group *c = w->group->conf;
	struct request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->w = w;
	r->row = row;
	r->fd = fd;
	r->pidfd = -1;
	r->pause = LOOK_FIRST_S;
	ev_io_init(&r->io, readable, fd, EV_READ);
	ev_timer_init(&r->look, look_fired, LOOK_FIRST_S, 0.);
	ev_timer_init(&r->clock, clock_fired, (double)c->template.fork_timeout_ms / 1000., 0.);
	r->io.data = r->look.data = r->clock.data = r;
	w->request = r;
	return r;
}

static void note_source(struct worker *w, uint32_t row, const struct worker *source)
{
	struct ledger_life *life = ledger_life(&w->m->ledger, row);

	life->source_slot = source->row;
	life->source_incarnation = source->slot->w.incarnation;
	life->source_generation = source->slot->w.generation;
	/* the code that it runs is its template's */
	life->generation = w->slot->w.generation = source->slot->w.generation;
	life->handover = HAND_ASKED;
}

int handover_begin(struct worker *w, uint32_t row, struct diag *d)
{
	struct worker *source = template_serving(w->group);
	struct forker *f = source ? source->forker : NULL;
	auto_fd ours = -1, theirs = -1;
	int ends[2], r;

	if (!f)
		return diag_set(d, -ECHILD, "%s/template: %s", w->group->row->name,
				template_trouble(w->group));
	r = template_look(f, d);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return diag_set(d, -errno, "making its channel: %s", strerror(errno));
	ours = ends[0];
	theirs = ends[1];
	r = channel_want_sender(ours);
	if (r < 0 || !new_request(w, row, ours))
		return diag_set(d, r < 0 ? r : -ENOMEM, "making its channel");
	give_fd(&ours);
	note_source(w, row, source);
	w->request->source = source->row;
	w->request->number = template_number(f);
	w->slot->hand_tries++;
	r = template_order(w, row, f, theirs, w->request->number, d);
	if (r < 0) {
		w->slot->hand_tries--;
		handover_close(w);
		return r;
	}
	ev_io_start(w->m->loop, &w->request->io);
	ev_timer_start(w->m->loop, &w->request->clock);
	return 0;
}

/* --- stop and resume ------------------------------------------------------------------------- */

bool handover_cancel(struct worker *w)
{
	struct ledger_life *life = worker_life(w);
	struct request *r = w->request;

	if (!handover_pending(life) || life->exited)
		return false;
	if (r && r->claim_sent) {
		/* its row waits for the keeper's word, and then for its exit record */
		r->cancelled = true;
		ev_io_stop(w->m->loop, &r->io);
		close_fd(&r->fd);
		if (life->claim == CLAIM_TAKEN)
			ask_end(w);
		return true;
	}
	end_unclaimed(w);
	handover_close(w);
	exit_never_was(w);
	return true;
}

void handover_resume(struct worker *w)
{
	struct ledger_life *life = worker_life(w);
	uint32_t row = w->slot->life[0];
	auto_fd fd = give_fd(&w->hand_fd);

	if (!life || life->handover == HAND_NONE || life->execed || life->exited) {
		if (fd >= 0) /* it was about to be dropped */
			store_drop(w->m->store, RF_CHANNEL, row, "");
		return;
	}
	if (life->handover == HAND_GO && fd >= 0) {
		if (w->slot->w.state == WS_STARTING)
			say_go(fd); /* else it is being ended */
		runs(w, row);
		return;
	}
	/* its channel ended with our predecessor: it is on its way out, with or without the signal
	 */
	store_drop(w->m->store, RF_CHANNEL, row, "");
	life->has_channel = 0;
	life->handover = HAND_BORN;
	if (ledger_life_live(&w->m->ledger, row))
		ledger_ask_kill(&w->m->ledger, row, SIGKILL, CONF_TO_MAIN);
}
