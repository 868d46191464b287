/*
 * Owns the daemon's end of the channel to a template or a seed: what arrives on it becomes facts of
 * its slot and replies to requests. Whoever is on the other end is hostile until shown otherwise:
 * the first message that breaks the protocol ends it, with the reason in its slot and in the log.
 */
#include "manager/template.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "base/str.h"
#include "manager/threads.h"
#include "manager/worker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define PER_TURN  32   /* messages of one channel in a turn of the loop */
#define PER_DRAIN 1024 /* more than a channel holds that nobody made larger */
#define EOF_GRACE 0.5  /* seconds between the end of its channel and its own end */

static bool is_template(const struct worker *w)
{
	return w->slot->kind == SLOT_TEMPLATE;
}

static const char *mode_of(const struct worker *w)
{
	return w->slot->kind == SLOT_HOST ? "threads" : is_template(w) ? "template" : "seed";
}

/* --- at fault -------------------------------------------------------------------------------- */

void template_bad(struct worker *w, enum exit_cause cause, const char *format, ...)
{
	char raw[300], text[sizeof(w->slot->error)];
	va_list args;

	va_start(args, format);
	vsnprintf(raw, sizeof(raw), format, args);
	va_end(args);
	str_escape(raw, strlen(raw), text, sizeof(text));
	log_error("%s: %s: ending it", w->name, text);
	snprintf(w->slot->error, sizeof(w->slot->error), "%s", text);
	if (worker_life(w))
		worker_life(w)->unheard = 1;
	FAIL_HERE(BAD_NOTED);
	if (w->slot->w.cause == CAUSE_NONE)
		w->slot->w.cause = (uint8_t)cause;
	template_close(w);
	FAIL_HERE(BAD_CLOSED);
	worker_post(w, WI_KILL);
	w->m->changed = true;
}

static void bad(struct forker *f, const char *why)
{
	template_bad(f->w, CAUSE_PROBE, "broke the protocol of its channel: %s", why);
}

/* --- requests -------------------------------------------------------------------------------- */

uint32_t template_number(struct forker *f)
{
	struct ledger_template *t = &f->w->slot->template;

	/* written before it is sent: a successor knows what it may still hear of */
	t->requests++;
	if (t->requests == 0)
		t->requests = 1;
	return t->requests;
}

static bool owe(struct forker *f, uint32_t number, uint32_t slot)
{
	if (f->n_owed == f->owed_room) {
		size_t room = f->owed_room ? f->owed_room * 2 : 16;
		struct owed *more = realloc(f->owed, room * sizeof(*more));

		if (!more)
			return false;
		f->owed = more;
		f->owed_room = room;
	}
	f->owed[f->n_owed++] = (struct owed){ number, slot };
	return true;
}

/* A reply came: true if it was waited for. */
static bool settle(struct forker *f, uint32_t number, struct owed *ret)
{
	for (size_t i = 0; i < f->n_owed; i++) {
		if (f->owed[i].number != number)
			continue;
		*ret = f->owed[i];
		f->owed[i] = f->owed[--f->n_owed];
		f->w->m->changed = true; /* somebody may wait for room in the pipeline */
		return true;
	}
	return false;
}

bool template_owes(const struct forker *f, uint32_t number)
{
	for (size_t i = 0; f && i < f->n_owed; i++)
		if (f->owed[i].number == number)
			return true;
	return false;
}

int template_ask(struct forker *f, const struct channel_packet *p, uint32_t number, uint32_t slot)
{
	struct owed o;
	int r;

	if (f->fd < 0)
		return -EPIPE;
	if (!owe(f, number, slot))
		return -ENOMEM;
	FAIL_HERE(FORK_SEND);
	r = channel_send(f->fd, p);
	FAIL_HERE(FORK_SENT);
	if (r < 0)
		settle(f, number, &o);
	return r;
}

/* A reply to a request: 1 = ours and open; 0 = a predecessor's; -1 = it made that up. */
static int reply_to(struct forker *f, uint32_t number, struct owed *ret)
{
	if (settle(f, number, ret)) {
		f->answered_ms = clock_mono_ms();
		return 1;
	}
	return number != 0 && number <= f->inherited ? 0 : -1;
}

/* --- what it says ---------------------------------------------------------------------------- */

static void on_hello(struct forker *f, const struct channel_message *m)
{
	struct ledger_template *t = &f->w->slot->template;

	if (t->runtime[0]) {
		bad(f, "HELLO twice");
		return;
	}
	if (channel_version(m) < 0) {
		bad(f, "it speaks no version of the protocol that this reeved speaks");
		return;
	}
	channel_text(m, CT_RUNTIME, t->runtime, sizeof(t->runtime));
	if (!t->runtime[0])
		snprintf(t->runtime, sizeof(t->runtime), "?");
	f->w->m->changed = true;
}

static void on_loading(struct forker *f, const struct channel_message *m)
{
	if (f->w->slot->template.ready_ms) {
		bad(f, "LOADING after READY");
		return;
	}
	channel_text(m, CT_TEXT, f->w->slot->status, sizeof(f->w->slot->status));
	f->w->m->changed = true;
}

static void take_numbers(struct forker *f, const struct channel_message *m)
{
	struct ledger_template *t = &f->w->slot->template;

	t->tasks = channel_u32(m, CT_TASKS, t->tasks);
	t->fds = channel_u32(m, CT_FDS, t->fds);
	t->rss_bytes = channel_u64(m, CT_RSS, t->rss_bytes);
}

/* What a traceback comes to is its last line; the whole of it is in the template's log. */
static struct channel_record last_line(struct channel_record r)
{
	const char *text = (const char *)r.data, *before;

	while (r.len > 0 && text[r.len - 1] == '\n')
		r.len--;
	before = memrchr(text, '\n', r.len);
	if (before) {
		r.len -= (size_t)(before + 1 - text);
		r.data = (const void *)(before + 1);
	}
	return r;
}

static bool says(struct channel_record r, const char *text)
{
	return text && r.data && r.len == strlen(text) && memcmp(r.data, text, r.len) == 0;
}

/* The first one that failed, as "preload numpy: ModuleNotFoundError: …", "entry app:main: …"; true
 * if there is one. */
static bool failed_preload(const struct channel_message *m, const char *entry, char *ret,
			   size_t size)
{
	struct channel_record r, of = { 0 };
	size_t at = 0;

	while (channel_next(m, &at, &r)) {
		if (r.tag == CT_PRELOAD)
			of = r;
		if (r.tag != CT_ERROR)
			continue;
		r = last_line(r);
		/* what cannot be opened is named by the C library, too */
		if (of.len > 0 && r.len > of.len + 2 && memcmp(r.data, of.data, of.len) == 0 &&
		    memcmp((const char *)r.data + of.len, ": ", 2) == 0) {
			r.data = (const void *)((const char *)r.data + of.len + 2);
			r.len -= of.len + 2;
		}
		snprintf(ret, size, "%s %.*s: %.*s", says(of, entry) ? "entry" : "preload",
			 (int)MIN_OF(of.len, 80u), of.data ? (const char *)of.data : "",
			 (int)MIN_OF(r.len, 200u), (const char *)r.data);
		return true;
	}
	return false;
}

/* It serves from now on. */
static void is_ready(struct forker *f)
{
	struct ledger_template *t = &f->w->slot->template;

	f->w->slot->status[0] = '\0';
	t->rss_ready_bytes = t->rss_bytes;
	template_note_fds(f);
	/* noted last: a successor that does not find it asks again (adopt()) */
	if (f->w->slot->kind != SLOT_WORKER)
		worker_ready_now(f->w);
	t->ready_ms = clock_mono_ms();
	template_age(f);
	log_info("%s: ready after %.3f s: %s, %u task%s, %llu KiB, %u open files", f->w->name,
		 (double)t->load_us / 1e6, t->runtime, t->tasks, t->tasks == 1 ? "" : "s",
		 (unsigned long long)t->rss_bytes / 1024, t->fds);
	f->w->m->changed = true;
}

static void on_ready(struct forker *f, const struct channel_message *m)
{
	struct ledger_template *t = &f->w->slot->template;
	const struct conf_group *c = f->w->group->conf;
	char text[300];

	if (t->ready_ms || (!t->runtime[0] && !f->adopted)) {
		bad(f, t->ready_ms ? "READY twice" : "READY before HELLO");
		return;
	}
	take_numbers(f, m);
	t->load_us = channel_u64(m, CT_LOAD_US, 0);
	if (failed_preload(m, c ? c->entry : NULL, text, sizeof(text))) {
		if (!c || c->preload_errors == CONF_PRELOAD_FAIL) {
			template_bad(f->w, CAUSE_PROBE, "%s", text);
			return;
		}
		log_warn("%s: %s (preload_errors = \"warn\")", f->w->name, text);
	}
	is_ready(f);
}

static void on_spawned(struct forker *f, const struct channel_message *m)
{
	struct owed o;
	int mine = reply_to(f, m->request, &o);

	if (mine < 0)
		bad(f, "SPAWNED for a request that is not open");
	else if (mine > 0)
		handover_spawned(f->w->m, &o);
}

/* What came with a request that it refused may stay open until the next message. */
static void let_settle(struct forker *f)
{
	if (is_template(f->w) && !f->ping)
		template_ping(f);
}

static void on_failed(struct forker *f, const struct channel_message *m)
{
	char stage[64], text[200], said[400];
	struct owed o;
	int mine, err = channel_i32(m, CT_ERRNO, 0);

	if (f->w->slot->kind == SLOT_HOST) {
		if (threads_failed(f->w, m) < 0)
			bad(f, "FAILED for a request that is not open");
		return;
	}
	mine = reply_to(f, m->request, &o);
	if (mine < 0) {
		bad(f, "FAILED for a request that is not open");
		return;
	}
	channel_text(m, CT_STAGE, stage, sizeof(stage));
	channel_text(m, CT_TEXT, text, sizeof(text));
	snprintf(said, sizeof(said), "forked by %s: %s: %.150s", f->w->name, stage,
		 text[0] ? text : strerror(err));
	if (mine > 0)
		handover_failed(f->w->m, &o, err == EBUSY ? EAGAIN : err, said);
	let_settle(f);
}

static void on_unsafe(struct forker *f, const struct channel_message *m)
{
	struct owed o;
	int mine = m->request ? reply_to(f, m->request, &o) : 0;
	struct worker *w = f->w;
	char text[160], said[sizeof(w->slot->error)];
	uint32_t dropped;

	if (mine < 0) {
		bad(f, "UNSAFE for a request that is not open");
		return;
	}
	channel_text(m, CT_TEXT, text, sizeof(text));
	snprintf(said, sizeof(said), "%s %s: %.100s", mode_of(w),
		 is_template(w) ? w->group->row->name : w->name, text);
	str_escape(said, strlen(said), w->slot->error, sizeof(w->slot->error));
	if (!seed_works(w))
		w->slot->template.unsafe = 1;
	if (log_limit_pass(&f->limit, 3, 10000, &dropped))
		log_error("%s", w->slot->error);
	if (mine > 0)
		handover_failed(w->m, &o, EBUSY, w->slot->error);
	let_settle(f);
	w->m->changed = true;
}

static void on_pong(struct forker *f, const struct channel_message *m)
{
	if (!f->ping || m->request != f->ping) {
		/* asked for by a predecessor */
		if (m->request == 0 || m->request > f->inherited)
			bad(f, "PONG without PING");
		return;
	}
	f->ping = 0;
	if (f->returns) {
		FAIL_HERE(SHARING_RETURNS);
		f->w->slot->template.returns = 1;
	}
	f->w->m->changed = true;
	take_numbers(f, m);
	/* READY was heard by a predecessor that died before it noted it */
	if (!f->w->slot->template.ready_ms && f->adopted)
		is_ready(f);
}

static void on_slot(struct forker *f, const struct channel_message *m)
{
	if (threads_said(f->w, m) < 0)
		bad(f, "SLOT for a slot that it was never asked for");
}

static void (*const handlers[])(struct forker *f, const struct channel_message *m) = {
	[CH_HELLO] = on_hello,	   [CH_LOADING] = on_loading, [CH_READY] = on_ready,
	[CH_SPAWNED] = on_spawned, [CH_FAILED] = on_failed,   [CH_UNSAFE] = on_unsafe,
	[CH_PONG] = on_pong,	   [CH_SLOT] = on_slot,
};

static void handle(struct forker *f, const struct channel_packet *p)
{
	struct channel_message m;
	const char *why = "";

	/* a child that kept the channel speaks for nobody */
	if (p->pid == 0 || p->pid != (pid_t)f->w->m->ledger.pids[f->life]) {
		bad(f, "somebody else wrote on it");
		return;
	}
	if (channel_parse(p, f->w->slot->kind == SLOT_HOST ? CHANNEL_HOST : CHANNEL_TEMPLATE, &m,
			  &why) < 0)
		bad(f, why);
	else if (m.type < ARRAY_LEN(handlers) && handlers[m.type])
		handlers[m.type](f, &m);
	else
		bad(f, "a message that a template does not send");
}

/* --- the channel ----------------------------------------------------------------------------- */

static void still_there(struct ev_loop *loop, ev_timer *t, int events)
{
	struct forker *f = t->data;

	/* a seed works on: it only makes no copies any more */
	if (worker_pid(f->w) && f->w->slot->kind != SLOT_WORKER)
		template_bad(f->w, CAUSE_PROBE, "closed its channel");
}

/* The other end is closed: it is ending, or it is of no use any more. */
static void ended(struct forker *f)
{
	ev_io_stop(f->w->m->loop, &f->io);
	close_fd(&f->fd);
	handover_orphaned(f);
	if (ev_is_active(&f->eof))
		return;
	ev_timer_init(&f->eof, still_there, EOF_GRACE, 0.);
	f->eof.data = f;
	ev_timer_start(f->w->m->loop, &f->eof);
	f->w->m->changed = true;
}

static bool ready_is_next(int fd)
{
	uint16_t type;

	return recv(fd, &type, sizeof(type), MSG_PEEK | MSG_DONTWAIT) == sizeof(type) &&
	       type == CH_READY;
}

/* A seed cannot be asked whether it has said READY: to it, PING says that nobody waits for a copy.
 * So the word is noted before it is taken; adopt() sees whether it was. */
static void note_ready_next(struct forker *f)
{
	struct ledger_template *t = &f->w->slot->template;

	if (f->w->slot->kind == SLOT_WORKER && !t->ready_ms && !t->ready_next)
		t->ready_next = ready_is_next(f->fd);
}

/* One packet; false when none waits, or there is nobody any more to read from. */
static bool receive(struct worker *w)
{
	struct forker *f = w->forker;
	auto_channel_packet p = CHANNEL_PACKET_INIT;
	ssize_t n;

	if (f->fd < 0)
		return false;
	note_ready_next(f);
	n = channel_recv(f->fd, &p);

	if (n == -EAGAIN || n == -EINTR)
		return false;
	if (n == 0 || n == -ECONNRESET) {
		ended(f);
		return false;
	}
	FAIL_HERE(TEMPLATE_HEARD);
	if (n < 0)
		bad(f, n == -EMFILE ? "descriptors that nobody asked for" : strerror((int)-n));
	else
		handle(f, &p);
	return w->forker != NULL;
}

static void readable(struct ev_loop *loop, ev_io *io, int events)
{
	struct worker *w = ((struct forker *)io->data)->w;

	for (int i = 0; i < PER_TURN && w->forker && receive(w); i++)
		;
}

void template_drain(struct worker *w)
{
	for (int i = 0; i < PER_DRAIN && w->forker && receive(w); i++)
		;
}

struct forker *template_listen(struct worker *w, uint32_t life, int fd)
{
	struct forker *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->w = w;
	f->life = life;
	f->fd = fd;
	w->forker = f;
	ev_init(&f->eof, NULL);
	ev_init(&f->age, NULL);
	ev_io_init(&f->io, readable, fd, EV_READ);
	f->io.data = f;
	ev_io_start(w->m->loop, &f->io);
	return f;
}

int template_channel(struct worker *w, uint32_t row, struct diag *d)
{
	struct ledger_life *life = ledger_life(&w->m->ledger, row);
	int ends[2], r;
	auto_fd ours = -1, theirs = -1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return diag_set(d, -errno, "making its channel: %s", strerror(errno));
	ours = ends[0];
	theirs = ends[1];
	w->slot->template = (struct ledger_template){ 0 };
	r = channel_want_sender(ours);
	if (r == 0)
		r = template_hello(w, mode_of(w), ours);
	if (r == 0)
		r = store_put(w->m->store, RF_CHANNEL, row, life->incarnation, "", ours);
	if (r == 0 && !template_listen(w, row, ours))
		r = -ENOMEM;
	if (r < 0)
		return diag_set(d, r, "making its channel: %s", strerror(-r));
	life->has_channel = 1;
	give_fd(&ours);
	return give_fd(&theirs);
}

void template_close(struct worker *w)
{
	struct forker *f = w->forker;

	if (!f)
		return;
	w->forker = NULL;
	ev_io_stop(w->m->loop, &f->io);
	ev_timer_stop(w->m->loop, &f->eof);
	ev_timer_stop(w->m->loop, &f->age);
	close_fd(&f->fd);
	store_drop(w->m->store, RF_CHANNEL, f->life, "");
	ledger_life(&w->m->ledger, f->life)->has_channel = 0;
	handover_orphaned(f);
	free(f->owed);
	free(f);
}

/* Once it is answered, descriptors of requests that came before it are put away. Where they fill
 * its channel, the PING is due later. */
void template_ping(struct forker *f)
{
	auto_channel_packet p = CHANNEL_PACKET_INIT;

	f->ping = template_number(f);
	channel_begin(&p, CH_PING, f->ping);
	f->ping_due = channel_send(f->fd, &p) < 0;
	if (f->ping_due)
		f->ping = 0;
}

/* A template is asked; the READY of a seed was to come next. */
void template_resume(struct forker *f)
{
	struct ledger_template *t = &f->w->slot->template;

	if (t->ready_ms)
		template_age(f);
	if (!ledger_life_live(&f->w->m->ledger, f->life))
		return;
	if (is_template(f->w) || (!t->ready_ms && f->w->slot->kind == SLOT_HOST))
		template_ping(f);
	else if (!t->ready_ms && t->ready_next && !ready_is_next(f->fd))
		is_ready(f);
}
