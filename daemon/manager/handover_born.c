/*
 * What a forked worker says of itself, and what becomes of that: who it is the kernel tells, the
 * keeper claims it, and only then it is let go. The order of the steps: handover.c.
 */
#include "manager/handover.h"

#include "base/failpoint.h"
#include "base/mem.h"
#include "manager/proc.h"
#include "manager/spawn.h"
#include "manager/tree.h"
#include "manager/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define LOOK_LAST_S .02

/* --- GO -------------------------------------------------------------------------------------- */

/* Where the one who forked could not make it in the leaf, it is moved before it runs. */
int request_into_leaf(const struct request *r)
{
	struct ledger_life *life = ledger_life(&r->w->m->ledger, r->row);

	return life->in_cgroup ? tree_take(r->w->m, r->row, r->pid) : 0;
}

int request_go(int fd)
{
	auto_channel_packet p = CHANNEL_PACKET_INIT;

	channel_begin(&p, CH_GO, 0);
	return channel_send(fd, &p);
}

void request_runs(struct worker *w, uint32_t row)
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
	char said[100];
	int err = request_into_leaf(r);

	if (err < 0) {
		snprintf(said, sizeof(said), "moving it into its cgroup: %s", strerror(-err));
		request_fail(r, -err, said);
		return;
	}
	FAIL_HERE(GO_STORE);
	err = store_put(m->store, RF_CHANNEL, row, life->incarnation, "", r->fd);
	if (err < 0) {
		request_fail(r, -err, "storing its channel failed");
		return;
	}
	life->has_channel = 1;
	FAIL_HERE(GO_STORED);
	life->handover = HAND_GO;
	FAIL_HERE(GO_SEND);
	err = request_go(r->fd);
	FAIL_HERE(GO_SENT);
	/* no reader: it has ended, and its exit record says how */
	if (err < 0 && err != -EPIPE && err != -ECONNRESET)
		log_warn("%s: GO: %s", w->name, strerror(-err));
	request_close(r);
	request_runs(w, row);
}

/* --- claim ----------------------------------------------------------------------------------- */

/* By its number, before Linux 6.5: it may have ended since it wrote, and another one have the
 * number. Only the one that was born holds the other end of its channel; if the process of the
 * descriptor is alive after that was seen, it is the one it was seen at. */
static int open_pidfd(const struct request *r)
{
	auto_fd fd = (int)syscall(SYS_pidfd_open, r->pid, 0); /* 5.3 */
	struct pollfd end = { fd, POLLIN, 0 };

	if (fd < 0)
		return -errno;
	if (!template_holds(r->pid, r->peer) || poll(&end, 1, 0) != 0)
		return -ESRCH;
	return give_fd(&fd);
}

static void look_again(struct request *r)
{
	struct ev_loop *loop = r->w->m->loop;

	ev_timer_stop(loop, &r->look);
	ev_timer_set(&r->look, r->pause, 0.);
	r->pause = MIN_OF(r->pause * 2, LOOK_LAST_S);
	ev_timer_start(loop, &r->look);
}

void request_claim(struct request *r)
{
	struct manager *m = r->w->m;
	struct proc_stat s;
	int err;

	if (r->claim_sent || r->cancelled)
		return;
	if (proc_stat(r->pid, &s) < 0 || s.state == 'Z' || s.state == 'X') {
		request_again(r, "it ended before it was let go");
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

void request_look_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	request_claim(t->data);
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
			request_fail(r, ECHILD, "it is no child of the daemon");
		return true;
	}
	if (r->cancelled || w->slot->w.state != WS_STARTING)
		handover_cancel(w);
	else if (life->stage_errno)
		request_ask_end(r);
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
	request_fail(r, err, said);
}

static void on_born(struct request *r, struct channel_packet *p, const struct channel_message *m)
{
	struct ledger_life *life = ledger_life(&r->w->m->ledger, r->row);

	if (r->pid || !channel_text_is(m, CT_NAME, r->w->name)) {
		request_fail(r, EPROTO, r->pid ? "BORN twice" : "BORN in another's name");
		return;
	}
	if (p->pid <= 1) {
		request_fail(r, EPROTO, "the kernel does not say who was born");
		return;
	}
	r->pid = p->pid;
	r->pidfd = p->pidfd >= 0 ? p->pidfd : open_pidfd(r);
	p->pidfd = -1;
	if (r->pidfd < 0) {
		r->pidfd = -1;
		request_again(r, "it ended before it was let go");
		return;
	}
	life->handover = HAND_BORN;
	FAIL_HERE(BORN_NOTED);
	request_claim(r);
}

/* Who was asked says why it forked nobody before it puts the descriptors away. True if that was
 * heard: the request is over. */
static bool is_answered(struct request *r)
{
	struct worker *w = r->w, *source = r->gone || r->pid ? NULL : w->m->by_slot[r->source];
	struct request *const *now = r->spare ? &w->spare : &w->request;
	uint32_t number = r->number;

	if (source)
		template_drain(source);
	return !*now || (*now)->number != number;
}

/* The end of its channel: nobody holds the other end any more. */
static void on_end(struct request *r)
{
	ev_io_stop(r->w->m->loop, &r->io);
	if (request_has_process(r) || r->cancelled)
		return; /* the keeper's record says more */
	if (is_answered(r))
		return;
	request_again(r, r->pid	   ? "it ended before it was let go"
			 : r->gone ? "the one who was to fork it is gone"
				   : "it ended before it reported");
}

void request_readable(struct ev_loop *loop, ev_io *io, int events)
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
		request_fail(r, (int)-n, "its channel cannot be read");
	else if (channel_parse(&p, CHANNEL_WORKER, &m, &why) < 0)
		request_fail(r, EPROTO, why);
	else if (m.type == CH_BORN)
		on_born(r, &p, &m);
	else if (m.type == CH_FAIL)
		on_fail(r, &m);
	else
		request_fail(r, EPROTO, "a message that a worker does not send");
}
