/*
 * Owns the connections of `logs`. Invariant: a client costs at most CLIENT_OUT bytes and one
 * bounded turn; what it cannot take in time it does not get, and is told so. Nothing waits for a
 * client.
 */
#include "logger/client.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mem.h"
#include "logger/marks.h"
#include "logger/ring.h"
#include "logger/sink.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 64
#define STUCK_MS    30000
#define STEPS	    4	   /* blocks of history a turn */
#define SINKS_TURN  64	   /* files that are opened in a turn, times STEPS */
#define UNASKED_MAX 65536u /* bytes of a client that only should listen */

/* Streams remember times only while somebody follows. */
static void forget_marks(struct logger *lg)
{
	for (uint32_t kind = 0; kind < 2; kind++) {
		for (uint32_t i = 0; i < lg->n_rows[kind]; i++) {
			free(lg->rows[kind][i].marks);
			lg->rows[kind][i].marks = NULL;
		}
	}
}

void client_note(struct logger *lg, uint32_t stream, uint64_t end, int64_t stamp_us)
{
	struct stream *st = stream_get(lg, stream);

	if (!st->marks)
		st->marks = calloc(1, sizeof(*st->marks));
	if (st->marks) /* else lines have the time at which they are passed on */
		marks_add(st->marks, end, stamp_us);
}

static void free_client(struct logger *lg, struct client *c)
{
	merge_fini(&c->merge);
	close_fd(&c->fd);
	str_fini(&c->out);
	str_fini(&c->places);
	free(c->tails);
	free(c->order);
	free(c->wanted);
	free(c->labels);
	free(c->raw_labels);
	free(c->sinks);
	free(c);
	if (--lg->n_clients == 0)
		forget_marks(lg);
	atomic_store(&lg->lb.h->clients, lg->n_clients);
}

/* ---- sending ---- */

bool client_add(struct client *c, const struct reply_line *l)
{
	if (!c->in_reply)
		reply_begin(&c->out);
	c->in_reply = true;
	reply_add(&c->out, l);
	return c->out.len < CLIENT_OUT;
}

static void end_reply(struct client *c, bool continues)
{
	if (!c->in_reply && c->lost == 0 && c->places.len == 0 && continues)
		return;
	if (!c->in_reply)
		reply_begin(&c->out);
	reply_end(&c->out, c->lost, c->places.len > 0 ? c->places.data : "", continues);
	c->out.failed |= c->places.failed;
	str_fini(&c->places);
	c->in_reply = false;
	c->lost = 0;
}

static void send_out(struct logger *lg, struct client *c)
{
	while (c->out.len > 0 && !c->gone) {
		ssize_t n = FAIL_OR(CLIENT_SEND, 0);

		if (n == 0)
			n = send(c->fd, c->out.data, c->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			c->gone = true;
			return;
		}
		str_eat(&c->out, (size_t)n);
		c->moved_ms = lg->now_ms;
	}
	c->moved_ms = lg->now_ms;
}

/* ---- history ---- */

static bool wants_line(void *arg, const struct history_line *l)
{
	struct client *c = arg;
	uint64_t hash;
	uint32_t lo = 0, hi = c->n_labels;

	if (!l->worker) /* a raw file is read only if all of it is wanted */
		return true;
	if (c->all)
		return l->err ? c->err_on : c->out_on;
	hash = request_label_hash(l->worker, l->worker_len, l->err);
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (c->labels[mid] == hash)
			return true;
		if (c->labels[mid] < hash)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static bool give_line(void *arg, uint32_t i, const struct history_line *h)
{
	struct client *c = arg;
	struct reply_line l = { .worker = h->worker ? h->worker : c->raw_labels[i],
				.worker_len = h->worker ? h->worker_len : strlen(c->raw_labels[i]),
				.at = h->at,
				.at_len = 27,
				.err = h->err,
				.partial = h->partial,
				.is_member = h->is_member,
				.text = { h->text, "" },
				.len = { h->len, 0 } };

	return client_add(c, &l);
}

/* Streams that write to the sink: how many there are, and how many of them are wanted. */
static void count_streams(struct logger *lg, const struct client *c, uint32_t sink,
			  uint32_t *ret_all, uint32_t *ret_wanted)
{
	*ret_all = *ret_wanted = 0;
	for (uint32_t kind = 0; kind < 2; kind++) {
		for (uint32_t i = 0; i < lg->n_rows[kind]; i++)
			*ret_all += lg->rows[kind][i].sink == sink;
	}
	for (uint32_t i = 0; i < c->n_tails; i++) {
		const struct stream *st = stream_get(lg, c->tails[i].stream);

		*ret_wanted += st && st->sink == sink;
	}
}

/* Lines of a raw file do not say who wrote them: the worker if there is one, else the group. */
static void name_raw(char ret[static LOGBOOK_LABEL], const struct logbook_stream *s, uint32_t n)
{
	char *colon;

	memcpy(ret, s->label, LOGBOOK_LABEL);
	ret[LOGBOOK_LABEL - 1] = '\0';
	colon = strchr(ret, ':');
	if (n > 1 && colon)
		*colon = '\0';
}

static bool can_read_back(struct logger *lg, const struct client *c, uint32_t sink)
{
	const struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	uint32_t all, wanted;

	if (!row || row->to != CONF_LOG_FILE)
		return false;
	count_streams(lg, c, sink, &all, &wanted);
	return sink_has_heads(row) || all == wanted;
}

/* The next destination: its files if they can be read, else what the rings hold. What is written
 * to the files after this moment comes from the rings. */
static void begin_sink(struct logger *lg, struct client *c)
{
	uint32_t i = c->at_sink++, sink = c->sinks[i], n = 0;
	bool file = can_read_back(lg, c, sink) &&
		    merge_open(&c->merge, i, logbook_sink(&lg->lb, sink)) == 0;

	for (uint32_t k = 0; k < c->n_tails; k++) {
		struct tail *t = &c->tails[k];
		const struct logbook_stream *s = logbook_stream(&lg->lb, t->stream);

		if (atomic_load(&s->sink) != sink)
			continue;
		n++;
		if (file)
			t->cursor = atomic_load(&s->consumed);
		else
			tail_rewind(lg, t, c->lines);
		name_raw(c->raw_labels[i], s, n);
	}
}

/* Soon one after the other: what is written meanwhile comes after what the files hold. */
static void begin_sinks(struct logger *lg, struct client *c)
{
	guard_begin(lg, LOGBOOK_NONE);
	for (int n = 0; n < SINKS_TURN && c->at_sink < c->n_sinks; n++)
		begin_sink(lg, c);
	guard_end(lg);
	if (c->at_sink == c->n_sinks)
		c->phase = CLIENT_FILES;
}

static void step_files(struct logger *lg, struct client *c)
{
	bool more;

	guard_begin(lg, LOGBOOK_NONE);
	more = merge_step(&c->merge, wants_line, give_line, c);
	guard_end(lg);
	if (more)
		return;
	merge_fini(&c->merge);
	c->phase = CLIENT_TAILS;
	if (c->follow)
		places_tell_all(lg, c);
}

/* ---- turns ---- */

static void advance(struct logger *lg, struct client *c)
{
	switch (c->phase) {
	case CLIENT_BEGIN:
		begin_sinks(lg, c);
		break;
	case CLIENT_FILES:
		step_files(lg, c);
		break;
	case CLIENT_TAILS:
		c->has_more = tail_give(lg, c);
		if (!c->has_more && !c->follow) {
			end_reply(c, true);
			end_reply(c, false);
			c->phase = CLIENT_END;
		}
		break;
	case CLIENT_END:
		c->has_more = false;
		break;
	}
}

static void serve(struct logger *lg, struct client *c)
{
	send_out(lg, c);
	c->has_more = true;
	for (int i = 0; i < STEPS && c->has_more && c->out.len < CLIENT_OUT; i++)
		advance(lg, c);
	if (c->phase != CLIENT_END)
		end_reply(c, true);
	send_out(lg, c);
	/* Full: epoll will say when it goes on. */
	c->has_more = c->has_more && c->out.len < CLIENT_OUT;
	if (c->out.failed || (c->phase == CLIENT_END && c->out.len == 0))
		c->gone = true;
}

static void sweep(struct logger *lg)
{
	for (struct client **at = &lg->clients; *at;) {
		struct client *c = *at;

		if (!c->gone) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		free_client(lg, c);
	}
}

void client_pump(struct logger *lg)
{
	if (!lg->clients)
		return;
	for (struct client *c = lg->clients; c; c = c->next) {
		c->now_us = clock_real_us();
		serve(lg, c);
	}
	sweep(lg);
}

int64_t client_rest(struct logger *lg)
{
	int64_t when = INT64_MAX;

	for (struct client *c = lg->clients; c; c = c->next) {
		if (c->has_more)
			return lg->now_ms;
		if (c->out.len == 0)
			continue;
		if (lg->now_ms - c->moved_ms >= STUCK_MS)
			c->gone = true;
		when = MIN_OF(when, c->moved_ms + STUCK_MS);
	}
	sweep(lg);
	return when;
}

/* ---- coming and going ---- */

static void refuse(int fd, const char *text)
{
	auto_str out = { 0 };

	reply_failed(&out, text);
	if (!out.failed)
		(void)!send(fd, out.data, out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Takes the fd. */
static void add_client(struct logger *lg, int fd, const char *text, size_t len)
{
	struct client *c = calloc(1, sizeof(*c));
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };
	auto_fd mine = fd;

	if (!c)
		return;
	c->fd = give_fd(&mine);
	c->id = ++lg->client_id;
	c->moved_ms = lg->now_ms;
	lg->n_clients++;
	e.data.u64 = watch_data(WATCH_CLIENT, c->id);
	if (lg->n_clients > CLIENTS_MAX || request_parse(lg, c, text, len) < 0 ||
	    epoll_ctl(lg->control, EPOLL_CTL_ADD, c->fd, &e) < 0) {
		refuse(c->fd, "the log cannot be read now: too many readers, or a bad request");
		free_client(lg, c);
		return;
	}
	c->next = lg->clients;
	lg->clients = c;
	atomic_store(&lg->lb.h->clients, lg->n_clients);
}

void client_accept(struct logger *lg)
{
	auto_free char *text = malloc(LOGBOOK_LOGS_MAX + 1);

	for (int i = 0; text && i < CLIENTS_MAX; i++) {
		size_t n_fds = 1;
		int fd = -1;
		ssize_t n = fd_recv(lg->logs, text, LOGBOOK_LOGS_MAX + 1, &fd, &n_fds);

		if (n == 0) { /* no manager will ever send again */
			close_fd(&fd);
			close_fd(&lg->logs);
			return;
		}
		if (n < 0 && n != -EMFILE)
			return;
		FAIL_HERE(CLIENT_TAKEN);
		if (fd >= 0)
			add_client(lg, fd, text, n < 0 ? 0 : (size_t)n);
	}
}

/* Nothing is expected. An end of its sending side is no end of its listening. */
static void read_unasked(struct client *c)
{
	char buf[4096];
	ssize_t n;

	while ((n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		c->read_off += (size_t)n;
		if (c->read_off > UNASKED_MAX) {
			c->gone = true;
			return;
		}
	}
}

void client_event(struct logger *lg, uint32_t id, uint32_t events)
{
	for (struct client *c = lg->clients; c; c = c->next) {
		if (c->id != id)
			continue;
		if (events & EPOLLIN)
			read_unasked(c);
		if (events & (EPOLLHUP | EPOLLERR))
			c->gone = true;
	}
}

static bool wants_stream(const struct client *c, uint32_t stream)
{
	if (c->all)
		return stream >= LOGBOOK_ERR ? c->err_on : c->out_on;
	for (uint32_t i = 0; i < c->n_wanted; i++) {
		if (c->wanted[i] == stream)
			return true;
	}
	return false;
}

/* It may have found the stream in the log book before we were told of it. */
static bool has_stream(const struct client *c, uint32_t stream)
{
	for (uint32_t i = 0; i < c->n_tails; i++) {
		if (c->tails[i].stream == stream)
			return true;
	}
	return false;
}

void client_stream_new(struct logger *lg, uint32_t stream)
{
	for (struct client *c = lg->clients; c; c = c->next) {
		if (!c->follow || !wants_stream(c, stream) || has_stream(c, stream) ||
		    request_add_tail(c, stream) < 0)
			continue;
		c->tails[c->n_tails - 1].cursor = ring_total(&lg->lb, stream);
		places_tell(c, &c->tails[c->n_tails - 1]);
	}
}

/* Its number may be another worker's next time. */
void client_stream_gone(struct logger *lg, uint32_t stream)
{
	for (struct client *c = lg->clients; c; c = c->next) {
		for (uint32_t i = 0; i < c->n_tails; i++) {
			if (c->tails[i].stream == stream)
				c->tails[i--] = c->tails[--c->n_tails];
		}
		for (uint32_t i = 0; i < c->n_wanted; i++) {
			if (c->wanted[i] == stream)
				c->wanted[i--] = c->wanted[--c->n_wanted];
		}
	}
}

void client_fini(struct logger *lg)
{
	for (struct client *c = lg->clients; c; c = c->next)
		c->gone = true;
	sweep(lg);
}
