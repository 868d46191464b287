/*
 * Owns the log pipes: when each is read and for how long it is left alone. Invariant: a stream
 * that has work is in the run queue, or in the queue of the sink it waits for; a pipe that holds
 * data nobody was told of raises an edge in epoll.
 */
#include "logger/logger.h"

#include "base/failpoint.h"
#include "base/mem.h"
#include "logger/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK_BYTES LOGBOOK_HALF /* read, then written, while it is in the cache */
#define PIPE_REST   65536
#define NAP_MIN_US  60
#define HOT_BYTES   4096u /* much, for one turn */
#define HOT_TURNS   4	  /* so often in a row: hot */
#define COLD_TURNS  20	  /* without a byte: cold again */

struct stream *stream_get(const struct logger *lg, uint32_t stream)
{
	uint32_t kind = stream >= LOGBOOK_ERR, row = stream % LOGBOOK_ROWS;

	return stream < LOGBOOK_STREAMS && row < lg->n_rows[kind] ? &lg->rows[kind][row] : NULL;
}

struct stream *stream_make(struct logger *lg, uint32_t stream)
{
	uint32_t kind = stream >= LOGBOOK_ERR, row = stream % LOGBOOK_ROWS, n;
	struct stream *bigger;

	if (stream >= LOGBOOK_STREAMS)
		return NULL;
	if (row < lg->n_rows[kind])
		return &lg->rows[kind][row];
	n = MIN_OF(MAX_OF(row + 1, lg->n_rows[kind] + lg->n_rows[kind] / 4 + 16), LOGBOOK_ROWS);
	bigger = realloc(lg->rows[kind], n * sizeof(*bigger));
	if (!bigger)
		return NULL;
	lg->rows[kind] = bigger;
	for (; lg->n_rows[kind] < n; lg->n_rows[kind]++)
		bigger[lg->n_rows[kind]] = (struct stream){ .fd = -1, .sink = LOGBOOK_NONE };
	return &bigger[row];
}

void stream_push_run(struct logger *lg, uint32_t stream)
{
	struct stream *st = stream_get(lg, stream);

	if (st->flags & ST_RUNNING)
		return;
	st->flags |= ST_RUNNING;
	st->run_next = LOGBOOK_NONE;
	if (lg->run_head == LOGBOOK_NONE)
		lg->run_head = stream;
	else
		stream_get(lg, lg->run_tail)->run_next = stream;
	lg->run_tail = stream;
}

static bool is_used(const struct logger *lg, uint32_t stream)
{
	return atomic_load(&logbook_stream(&lg->lb, stream)->used);
}

/* Each write to a pipe that epoll watches costs its writer a wake-up of us, asleep or not. */
static int watch_pipe(struct logger *lg, uint32_t stream, bool on)
{
	struct epoll_event e = { EPOLLIN | EPOLLET, { .u64 = watch_data(WATCH_STREAM, stream) } };

	return epoll_ctl(lg->epoll, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, stream_get(lg, stream)->fd,
			 &e) < 0
		       ? -errno
		       : 0;
}

/* The keeper holds the same description: closing ours would leave it in the epoll set. */
static void unwatch_and_close(struct logger *lg, uint32_t stream)
{
	struct stream *st = stream_get(lg, stream);

	if (st->fd < 0)
		return;
	if (st->flags & ST_HOT)
		lg->n_hot--;
	else
		watch_pipe(lg, stream, false);
	st->flags &= ~(uint32_t)(ST_HOT | ST_READABLE);
	close_fd(&st->fd);
}

/* ---- hot and cold ---- */

static void make_hot(struct logger *lg, uint32_t stream)
{
	struct stream *st = stream_get(lg, stream);

	if (watch_pipe(lg, stream, false) < 0)
		return;
	st->heat = 0;
	lg->n_hot++;
	if (!(st->flags & ST_HOT_LISTED)) {
		st->hot_next = lg->hot_head;
		lg->hot_head = stream;
	}
	st->flags |= ST_HOT | ST_HOT_LISTED;
}

/* epoll reports at once what is in the pipe by now. */
static void make_cold(struct logger *lg, uint32_t stream)
{
	struct stream *st = stream_get(lg, stream);

	if (watch_pipe(lg, stream, true) < 0)
		return; /* no memory for it now: it stays hot */
	st->heat = 0;
	st->flags &= ~(uint32_t)ST_HOT;
	lg->n_hot--;
}

static void feel(struct logger *lg, uint32_t stream, size_t got)
{
	struct stream *st = stream_get(lg, stream);

	if (st->flags & ST_HOT) {
		st->heat = got > 0 ? 0 : st->heat + 1;
		if (st->heat >= COLD_TURNS)
			make_cold(lg, stream);
	} else {
		st->heat = got >= HOT_BYTES ? st->heat + 1 : 0;
		if (st->heat >= HOT_TURNS)
			make_hot(lg, stream);
	}
}

void stream_push_hot(struct logger *lg)
{
	uint32_t stream = lg->hot_head, next;

	lg->hot_head = LOGBOOK_NONE;
	for (; stream != LOGBOOK_NONE; stream = next) {
		struct stream *st = stream_get(lg, stream);

		next = st->hot_next;
		if (!(st->flags & ST_HOT)) {
			st->flags &= ~(uint32_t)ST_HOT_LISTED;
			continue;
		}
		st->hot_next = lg->hot_head;
		lg->hot_head = stream;
		st->flags |= ST_READABLE;
		if (!(st->flags & ST_BLOCKED))
			stream_push_run(lg, stream);
	}
}

/* ---- drains ---- */

/* What the pipe holds now is to be read and given on. */
static void begin_drain(struct logger *lg, uint32_t stream, bool end_of_life)
{
	struct logbook_stream *s = logbook_stream(&lg->lb, stream);
	struct stream *st = stream_get(lg, stream);
	int waiting = 0;

	if (st->fd >= 0 && ioctl(st->fd, FIONREAD, &waiting) < 0)
		waiting = 0;
	if (!(st->flags & ST_DRAINING))
		lg->draining++;
	st->flags |= ST_DRAINING | ST_READABLE;
	st->drain_request = atomic_load(&s->drain_want);
	st->drain_ms = lg->now_ms;
	if (st->fd < 0 && !(st->flags & ST_PIPED)) {
		st->drain_to = UINT64_MAX; /* the keeper is about to send it */
		return;
	}
	st->drain_to = ring_total(&lg->lb, stream) + (uint64_t)waiting;
	FAIL_HERE(DRAIN_BEGIN);
	if (end_of_life)
		atomic_store(&s->end_at, st->drain_to);
}

static void start_drain(struct logger *lg, uint32_t stream)
{
	struct logbook_stream *s = logbook_stream(&lg->lb, stream);
	struct stream *st = stream_get(lg, stream);
	uint32_t want = atomic_load(&s->drain_want), done = atomic_load(&s->drain_done);

	if (want != done && (!(st->flags & ST_DRAINING) || st->drain_request != want))
		begin_drain(lg, stream, (int32_t)(atomic_load(&s->drain_end) - done) > 0);
}

/* The pipe has come after the request. */
static void restart_drain(struct logger *lg, uint32_t stream)
{
	struct logbook_stream *s = logbook_stream(&lg->lb, stream);
	const struct stream *st = stream_get(lg, stream);

	if ((st->flags & ST_DRAINING) && st->drain_to == UINT64_MAX)
		begin_drain(lg, stream,
			    (int32_t)(atomic_load(&s->drain_end) - atomic_load(&s->drain_done)) >
				    0);
}

static void check_drain(struct logger *lg, uint32_t stream)
{
	struct logbook_stream *s = logbook_stream(&lg->lb, stream);
	struct stream *st = stream_get(lg, stream);
	uint64_t total = ring_total(&lg->lb, stream);
	bool late = lg->now_ms - st->drain_ms >= STALL_MS;

	if (!(st->flags & ST_DRAINING))
		return;
	if (total < st->drain_to && !late && (st->fd >= 0 || !(st->flags & ST_PIPED)))
		return;
	/* What is left and waits for nothing is a line without its end. */
	if (atomic_load(&s->consumed) < MIN_OF(st->drain_to, total) && !late &&
	    (st->flags & (ST_WAITING | ST_RUNNING)) && !sink_gives_up(lg, st->sink))
		return;
	st->flags &= ~(uint32_t)ST_DRAINING;
	lg->draining--;
	FAIL_HERE(DRAIN_TOTAL);
	atomic_store(&s->drain_total, total);
	FAIL_HERE(DRAIN_DONE);
	atomic_store(&s->drain_done, st->drain_request);
	FAIL_HERE(DRAIN_TOLD);
	lg->ring_manager = true;
}

/* ---- pipes that come and go ---- */

void stream_put_fd(struct logger *lg, uint32_t stream, int fd)
{
	struct stream *st = stream_make(lg, stream);
	int size = fcntl(fd, F_GETPIPE_SZ), r = -ENOMEM;

	if (st) {
		unwatch_and_close(lg, stream);
		st->fd = fd;
		r = watch_pipe(lg, stream, true);
	}
	if (r < 0) {
		log_error("log pipe of stream %u cannot be watched: %s", stream, strerror(-r));
		close(fd);
		if (st)
			st->fd = -1;
		return;
	}
	st->pipe_bytes = size > 0 ? (uint32_t)size : PIPE_REST;
	st->nap_us = NAP_US;
	st->heat = 0;
	st->flags = (st->flags & ~(uint32_t)ST_PIPE_MAX) | ST_READABLE | ST_PIPED;
	if (is_used(lg, stream)) {
		ring_attach(&lg->lb, stream);
		restart_drain(lg, stream);
		stream_push_run(lg, stream);
	}
}

void stream_drop_fd(struct logger *lg, uint32_t stream)
{
	if (!stream_get(lg, stream))
		return;
	unwatch_and_close(lg, stream);
	stream_get(lg, stream)->flags &= ~(uint32_t)ST_PIPED;
}

/* ---- news ---- */

static void forget(struct logger *lg, uint32_t stream)
{
	struct logbook_stream *s = logbook_stream(&lg->lb, stream);
	struct stream *st = stream_get(lg, stream);

	FAIL_HERE(STREAM_GONE);
	atomic_store(&s->drain_done, atomic_load(&s->drain_want));
	if (!st)
		return;
	st->flags &= ~(uint32_t)ST_PIPED;
	if (st->flags & ST_DRAINING) {
		st->flags &= ~(uint32_t)ST_DRAINING;
		lg->draining--;
		lg->ring_manager = true;
	}
	ring_attach(&lg->lb, stream);
	sink_forget(lg, stream, UINT64_MAX);
	ring_drop_to(&lg->lb, stream, ring_total(&lg->lb, stream));
	sink_wake(lg, st->sink);
	client_stream_gone(lg, stream);
	st->sink = LOGBOOK_NONE;
}

void stream_news(struct logger *lg, uint32_t stream)
{
	struct logbook_stream *s = logbook_stream(&lg->lb, stream);
	struct stream *st;

	if (!s)
		return;
	if (!atomic_load(&s->used)) {
		forget(lg, stream);
		return;
	}
	st = stream_make(lg, stream);
	if (!st)
		return;
	ring_attach(&lg->lb, stream);
	if (st->sink != atomic_load(&s->sink)) {
		sink_forget(lg, stream, UINT64_MAX);
		sink_wake(lg, st->sink); /* out of its queue */
		if (st->sink == LOGBOOK_NONE)
			client_stream_new(lg, stream);
		st->sink = atomic_load(&s->sink);
		if (!sink_get(lg, st->sink) || !sink_get(lg, st->sink)->taken)
			sink_news(lg, st->sink);
	}
	start_drain(lg, stream);
	stream_push_run(lg, stream);
}

/* ---- reading ---- */

static void list_stream(struct logger *lg, uint32_t stream)
{
	struct stream *st = stream_get(lg, stream);

	if (st->flags & ST_LISTED)
		return;
	st->flags |= ST_LISTED;
	lg->rest_ms = MIN_OF(lg->rest_ms, lg->now_ms + IDLE_CLOSE_MS);
	st->list_next = lg->list_head;
	lg->list_head = stream;
}

static void drop_oldest(struct logger *lg, uint32_t stream)
{
	uint32_t sink = stream_get(lg, stream)->sink;
	uint64_t n;

	sink_forget(lg, stream, UINT64_MAX);
	n = ring_drop_old(&lg->lb, stream);
	atomic_fetch_add(&logbook_sink(&lg->lb, sink)->dropped, n);
}

/* Bytes that may be read now; 0: the ring is full and the sink must take data first. */
static size_t make_room(struct logger *lg, uint32_t stream)
{
	size_t room = ring_room(&lg->lb, stream);

	if (room > 0)
		return room;
	if (!ring_turn(&lg->lb, stream)) {
		sink_serve(lg, stream);
		if (!ring_turn(&lg->lb, stream)) {
			if (!sink_gives_up(lg, stream_get(lg, stream)->sink))
				return 0;
			drop_oldest(lg, stream);
			ring_turn(&lg->lb, stream);
		}
	}
	return ring_room(&lg->lb, stream);
}

/* More than half of what the pipe can hold was there: its writer may have had to wait. (A page of
 * a pipe may be only half used.) */
static void adapt(struct logger *lg, uint32_t stream, size_t got)
{
	struct stream *st = stream_get(lg, stream);
	int size;

	if (got < st->pipe_bytes / 2) {
		if (got < st->pipe_bytes / 8)
			st->nap_us = MIN_OF(st->nap_us * 2, NAP_US);
		return;
	}
	if (st->pipe_bytes < PIPE_WANTED && !(st->flags & ST_PIPE_MAX)) {
		size = fcntl(st->fd, F_SETPIPE_SZ, MIN_OF(st->pipe_bytes * 4, PIPE_WANTED));
		if (size > 0)
			st->pipe_bytes = (uint32_t)size;
		else
			st->flags |= ST_PIPE_MAX;
		list_stream(lg, stream);
		return;
	}
	st->nap_us = MAX_OF(st->nap_us / 2, NAP_MIN_US);
}

/* Read what the pipe holds, a chunk at a time, each written before the next. Returns bytes read. */
static size_t read_turn(struct logger *lg, uint32_t stream)
{
	struct stream *st = stream_get(lg, stream);
	size_t got = 0;

	st->flags &= ~(uint32_t)ST_BLOCKED;
	while ((st->flags & ST_READABLE) && got < TURN_BYTES) {
		size_t room = make_room(lg, stream), want = MIN_OF(room, CHUNK_BYTES);
		ssize_t n;

		if (room == 0) {
			st->flags |= ST_BLOCKED;
			break;
		}
		n = ring_fill(&lg->lb, stream, st->fd, want);
		if (n < 0) {
			if (n == -EAGAIN)
				st->flags &= ~(uint32_t)ST_READABLE;
			break;
		}
		got += (size_t)n;
		if ((size_t)n < want)
			st->flags &= ~(uint32_t)ST_READABLE;
		if (sink_serve(lg, stream) == 1)
			stream_push_run(lg, stream);
	}
	return got;
}

/* A ring that is written out starts anew early: it uses little memory while little comes. */
static void park_ring(struct logger *lg, uint32_t stream)
{
	list_stream(lg, stream);
	if (ring_used(&lg->lb, stream) >= PARK_BYTES &&
	    atomic_load(&logbook_stream(&lg->lb, stream)->consumed) == ring_total(&lg->lb, stream))
		ring_turn(&lg->lb, stream);
}

static void run_one(struct logger *lg, uint32_t stream)
{
	struct stream *st = stream_get(lg, stream);
	size_t got = 0;

	if (!is_used(lg, stream))
		return;
	if (st->fd >= 0 && (st->flags & ST_READABLE)) {
		got = read_turn(lg, stream);
		if (!(st->flags & ST_BLOCKED))
			feel(lg, stream, got);
	}
	if (got == 0 && sink_serve(lg, stream) == 1)
		stream_push_run(lg, stream);
	if (got > 0) {
		lg->worked = true;
		st->used_ms = lg->now_ms;
		adapt(lg, stream, got);
		lg->nap_us = MIN_OF(lg->nap_us, st->nap_us);
		park_ring(lg, stream);
	}
	check_drain(lg, stream);
	if ((st->flags & ST_READABLE) && !(st->flags & ST_BLOCKED) && st->fd >= 0)
		stream_push_run(lg, stream);
}

void stream_run_all(struct logger *lg)
{
	uint32_t stream = lg->run_head, last = lg->run_tail;

	while (stream != LOGBOOK_NONE) {
		struct stream *st = stream_get(lg, stream);
		bool end = stream == last;

		lg->run_head = st->run_next;
		st->flags &= ~(uint32_t)ST_RUNNING;
		run_one(lg, stream);
		if (end)
			break;
		stream = lg->run_head;
	}
}

/* ---- housekeeping ---- */

static void trim(struct logger *lg, uint32_t stream)
{
	const struct logbook_sink *sink;
	struct stream *st = stream_get(lg, stream);

	st->flags &= ~(uint32_t)ST_LISTED;
	sink = logbook_sink(&lg->lb, st->sink);
	ring_trim(&lg->lb, stream, sink && sink->to == CONF_LOG_FILE);
	if (st->pipe_bytes > PIPE_REST && st->fd >= 0 && fcntl(st->fd, F_SETPIPE_SZ, PIPE_REST) > 0)
		st->pipe_bytes = PIPE_REST;
}

static void late_drains(struct logger *lg)
{
	for (uint32_t kind = 0; kind < 2 && lg->draining > 0; kind++) {
		for (uint32_t i = 0; i < lg->n_rows[kind]; i++)
			check_drain(lg, i + kind * LOGBOOK_ERR);
	}
}

void stream_finish(struct logger *lg)
{
	for (uint32_t kind = 0; kind < 2; kind++) {
		for (uint32_t i = 0; i < lg->n_rows[kind]; i++) {
			uint32_t stream = i + kind * LOGBOOK_ERR;

			if (!is_used(lg, stream) || lg->rows[kind][i].fd < 0)
				continue;
			begin_drain(lg, stream, true);
			stream_push_run(lg, stream);
		}
	}
}

int64_t stream_rest(struct logger *lg)
{
	uint32_t stream = lg->list_head, next;
	int64_t when = INT64_MAX;

	if (lg->draining == 0 && lg->now_ms < lg->rest_ms)
		return lg->rest_ms;
	lg->list_head = LOGBOOK_NONE;
	for (; stream != LOGBOOK_NONE; stream = next) {
		struct stream *st = stream_get(lg, stream);

		next = st->list_next;
		if (lg->now_ms - st->used_ms >= IDLE_CLOSE_MS) {
			trim(lg, stream);
			continue;
		}
		when = MIN_OF(when, st->used_ms + IDLE_CLOSE_MS);
		st->list_next = lg->list_head;
		lg->list_head = stream;
	}
	if (lg->draining > 0) {
		late_drains(lg);
		when = MIN_OF(when, lg->now_ms + STALL_MS / 4);
	}
	lg->rest_ms = when;
	if (lg->list_head == LOGBOOK_NONE)
		madvise(lg->scratch, FORMAT_SCRATCH, MADV_DONTNEED);
	return when;
}
