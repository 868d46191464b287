/*
 * Owns destinations: open or not, failing or not, who waits for them. Invariant: a stream that has
 * bytes its sink did not take is in the sink's queue, and the sink then has either a retry time or
 * an epoll entry that will wake it.
 */
#include "logger/sink.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "logger/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS	 5000
#define QUARANTINE_MS	 5000
#define QUARANTINE_MAX	 300000
#define WARN_EVERY_MS	 60000

struct sink *sink_get(const struct logger *lg, uint32_t sink)
{
	return sink < lg->n_sinks ? &lg->sinks[sink] : NULL;
}

void sink_place(const struct logbook_sink *row, struct place *ret)
{
	*ret = (struct place){ .path = row->path,
			       .make_dirs = row->make_dirs,
			       .mode = (mode_t)atomic_load(&row->mode),
			       .has_owner = atomic_load(&row->has_owner),
			       .uid = atomic_load(&row->uid),
			       .gid = atomic_load(&row->gid) };
}

static struct sink *make_room(struct logger *lg, uint32_t sink)
{
	uint32_t n = MAX_OF(sink + 1, lg->n_sinks * 2);
	struct sink *bigger;

	if (sink < lg->n_sinks)
		return &lg->sinks[sink];
	bigger = realloc(lg->sinks, n * sizeof(*bigger));
	if (!bigger)
		return NULL;
	lg->sinks = bigger;
	for (; lg->n_sinks < n; lg->n_sinks++)
		lg->sinks[lg->n_sinks] = (struct sink){ .fd = -1,
							.wait_head = LOGBOOK_NONE,
							.wait_tail = LOGBOOK_NONE,
							.list_next = LOGBOOK_NONE };
	return &lg->sinks[sink];
}

static void list_sink(struct logger *lg, uint32_t sink)
{
	struct sink *k = sink_get(lg, sink);

	if (k->listed)
		return;
	k->listed = true;
	k->list_next = lg->sink_list;
	lg->sink_list = sink;
}

void sink_close(struct logger *lg, uint32_t sink)
{
	struct sink *k = sink_get(lg, sink);

	k->reopen = false;
	if (k->fd < 0)
		return;
	if (k->polled) /* a description that is shared lives on */
		epoll_ctl(lg->control, EPOLL_CTL_DEL, k->fd, NULL);
	k->polled = false;
	close_fd(&k->fd);
	lg->n_open--;
	if (atomic_load(&logbook_sink(&lg->lb, sink)->state) == SINK_OPEN)
		atomic_store(&logbook_sink(&lg->lb, sink)->state, SINK_IDLE);
}

/* ---- failing and working ---- */

static bool is_failing(const struct logbook_sink *row)
{
	uint32_t state = atomic_load(&row->state);

	return state == SINK_FAILING || state == SINK_QUARANTINED;
}

static void complain(struct logger *lg, uint32_t sink)
{
	char text[LOGBOOK_PATH + 128];
	uint32_t left_out;

	if (logbook_sink_trouble(&lg->lb, sink, text, sizeof(text)) &&
	    log_limit_pass(&sink_get(lg, sink)->warn, 1, WARN_EVERY_MS, &left_out))
		log_warn("%s", text);
}

static int fail_as(struct logger *lg, uint32_t sink, enum logbook_sink_state state, int err)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct sink *k = sink_get(lg, sink);

	k->backoff_ms = MIN_OF(MAX_OF(k->backoff_ms * 2, BACKOFF_FIRST_MS), BACKOFF_MAX_MS);
	atomic_store(&row->retry_ms, lg->now_ms + k->backoff_ms);
	atomic_fetch_add(&row->failures, 1);
	atomic_store(&row->error, -err);
	list_sink(lg, sink);
	if (!is_failing(row)) {
		atomic_store(&row->failing_real_us, clock_real_us());
		atomic_fetch_add(&lg->lb.h->sinks_failing, 1);
		lg->ring_manager = true;
	}
	atomic_store(&row->state, state);
	complain(lg, sink);
	return err;
}

int sink_fail(struct logger *lg, uint32_t sink, int err)
{
	return fail_as(lg, sink, SINK_FAILING, err);
}

void sink_works(struct logger *lg, uint32_t sink)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct sink *k = sink_get(lg, sink);

	k->stall_ms = 0;
	if (atomic_load_explicit(&row->state, memory_order_relaxed) == SINK_OPEN)
		return;
	if (is_failing(row)) {
		log_info("writing %s works again, %llu bytes were dropped",
			 row->to == CONF_LOG_FILE ? row->path : "stdout",
			 (unsigned long long)atomic_load(&row->dropped));
		atomic_fetch_sub(&lg->lb.h->sinks_failing, 1);
		lg->ring_manager = true;
	}
	k->backoff_ms = 0;
	atomic_store(&row->failures, 0);
	atomic_store(&row->retry_ms, 0);
	atomic_store(&row->error, 0);
	atomic_store(&row->state, k->fd >= 0 ? SINK_OPEN : SINK_IDLE);
}

bool sink_gives_up(const struct logger *lg, uint32_t sink)
{
	const struct logbook_sink *row = logbook_sink(&lg->lb, sink);

	return row && is_failing(row) && atomic_load(&row->overflow) == CONF_OVERFLOW_DROP;
}

void sink_forget(struct logger *lg, uint32_t stream, uint64_t to)
{
	uint32_t sink = stream_get(lg, stream)->sink;
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);

	if (row && atomic_load(&row->intent.active) && row->intent.stream == stream &&
	    row->intent.from < to)
		write_abandon(lg, sink);
}

/* ---- opening ---- */

/* Paths that mean a descriptor of the daemon; they are links by nature. -1 = it is none. */
static int std_fd(const struct logbook_sink *row)
{
	static const struct {
		const char *path;
		int fd;
	} names[] = {
		{ "/dev/stdout", 1 }, { "/dev/stderr", 2 },	{ "/dev/fd/1", 1 },
		{ "/dev/fd/2", 2 },   { "/proc/self/fd/1", 1 }, { "/proc/self/fd/2", 2 },
	};

	if (row->to == CONF_LOG_STDOUT)
		return STDOUT_FILENO;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(row->path, names[i].path) == 0)
			return names[i].fd;
	}
	return -1;
}

/* O_NONBLOCK on the shared description would reach the shell, so pipes and terminals are opened
 * anew (LG10). A regular file is not: its offset is shared with who else writes there. */
static int open_std(int std, struct stat *st)
{
	char self[32];
	int fd = -1;

	if (fstat(std, st) < 0)
		return -errno;
	if (S_ISFIFO(st->st_mode) || S_ISCHR(st->st_mode)) {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", std);
		fd = open(self, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	if (fd < 0)
		fd = fcntl(std, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : fd;
}

static bool close_oldest(struct logger *lg)
{
	uint32_t oldest = LOGBOOK_NONE;

	for (uint32_t i = lg->sink_list; i != LOGBOOK_NONE; i = lg->sinks[i].list_next) {
		const struct sink *k = &lg->sinks[i];

		if (k->fd < 0 || k->stall_ms != 0 ||
		    (oldest != LOGBOOK_NONE && k->used_ms >= lg->sinks[oldest].used_ms))
			continue;
		oldest = i;
	}
	if (oldest != LOGBOOK_NONE)
		sink_close(lg, oldest);
	return oldest != LOGBOOK_NONE;
}

static int open_row(struct logger *lg, const struct logbook_sink *row, struct stat *st)
{
	struct place p;
	int fd;

	if (std_fd(row) >= 0)
		return open_std(std_fd(row), st);
	sink_place(row, &p);
	if (lg->n_open >= OPEN_MAX)
		close_oldest(lg);
	do
		fd = place_open(&p, st);
	while ((fd == -EMFILE || fd == -ENFILE) && close_oldest(lg));
	return fd;
}

static int open_sink(struct logger *lg, uint32_t sink)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct sink *k = sink_get(lg, sink);
	struct stat st;
	int fd = FAIL_ERR(SINK_OPEN);

	if (fd == 0)
		fd = open_row(lg, row, &st);
	FAIL_HERE(SINK_OPENED);
	if (fd < 0)
		return fd;
	k->fd = fd;
	k->regular = S_ISREG(st.st_mode);
	k->socket = S_ISSOCK(st.st_mode);
	k->dev = st.st_dev;
	k->ino = st.st_ino;
	k->checked_ms = lg->now_ms;
	lg->n_open++;
	list_sink(lg, sink);
	if (k->regular)
		atomic_store(&row->size, (uint64_t)st.st_size);
	if (atomic_load(&row->state) == SINK_IDLE)
		atomic_store(&row->state, SINK_OPEN);
	return 0;
}

/* Renamed or replaced by somebody else: the new file is the one to write to (LG14). */
static void check_name(struct logger *lg, uint32_t sink)
{
	const struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct sink *k = sink_get(lg, sink);
	struct stat st;

	if (k->fd < 0 || !k->regular || std_fd(row) >= 0 || lg->now_ms - k->checked_ms < CHECK_MS)
		return;
	k->checked_ms = lg->now_ms;
	if (lstat(row->path, &st) < 0 ? errno == ENOENT
				      : st.st_dev != k->dev || st.st_ino != k->ino)
		k->reopen = true;
}

/* ---- serving ---- */

/* Ask epoll to say when a full pipe or terminal takes data again. */
static void watch_room(struct logger *lg, uint32_t sink)
{
	struct sink *k = sink_get(lg, sink);
	struct epoll_event e = { EPOLLOUT | EPOLLONESHOT, { .u64 = watch_data(WATCH_SINK, sink) } };

	if (k->stall_ms == 0)
		k->stall_ms = lg->now_ms;
	if (std_fd(logbook_sink(&lg->lb, sink)) >= 0 &&
	    atomic_load(&logbook_sink(&lg->lb, sink)->intent.active))
		lg->std_busy = sink;
	list_sink(lg, sink);
	if (epoll_ctl(lg->control, k->polled ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, k->fd, &e) == 0)
		k->polled = true;
	else
		atomic_store(&logbook_sink(&lg->lb, sink)->retry_ms, lg->now_ms + BACKOFF_FIRST_MS);
}

static int trouble(struct logger *lg, uint32_t sink, int err)
{
	switch (err) {
	case -EAGAIN:
		if (sink_get(lg, sink)->stall_ms == 0)
			sink_works(lg, sink); /* slowly: it took some */
		watch_room(lg, sink);
		if (!is_failing(logbook_sink(&lg->lb, sink)))
			return err;
		return sink_fail(lg, sink, -ETIMEDOUT);
	case -ESTALE:
		sink_close(lg, sink);
		return err;
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG: /* the file is as good as before */
		break;
	default: /* it may be another one by the next try */
		if (sink_get(lg, sink)->fd >= 0)
			sink_close(lg, sink);
	}
	return sink_fail(lg, sink, err);
}

/* Another sink on the same stdout is in the middle of a line. */
static bool must_wait(struct logger *lg, uint32_t sink)
{
	const struct logbook_sink *busy = logbook_sink(&lg->lb, lg->std_busy);

	return busy && lg->std_busy != sink && atomic_load(&busy->intent.active) &&
	       std_fd(logbook_sink(&lg->lb, sink)) >= 0;
}

/* 0 if it can be written to. */
static int make_ready(struct logger *lg, uint32_t sink)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct sink *k = sink_get(lg, sink);
	int r = 0;

	if (atomic_load(&row->retry_ms) > lg->now_ms)
		return -EBUSY;
	check_name(lg, sink);
	if (k->reopen)
		sink_close(lg, sink);
	if (k->fd < 0)
		r = open_sink(lg, sink);
	if (r == 0 && must_wait(lg, sink))
		r = -EAGAIN;
	if (r == 0 && atomic_load(&row->intent.active))
		r = write_resume(lg, sink);
	if (r < 0)
		return trouble(lg, sink, r);
	k->used_ms = lg->now_ms;
	return 0;
}

static int wait_in_queue(struct logger *lg, uint32_t sink, uint32_t stream)
{
	struct sink *k = sink_get(lg, sink);
	struct stream *st = stream_get(lg, stream);

	list_sink(lg, sink); /* its next try is due sometime */
	if (st->flags & ST_WAITING)
		return -EAGAIN;
	st->flags |= ST_WAITING;
	st->wait_next = LOGBOOK_NONE;
	if (k->wait_head == LOGBOOK_NONE)
		k->wait_head = stream;
	else
		stream_get(lg, k->wait_tail)->wait_next = stream;
	k->wait_tail = stream;
	return -EAGAIN;
}

void sink_wake(struct logger *lg, uint32_t sink)
{
	struct sink *k = sink_get(lg, sink);
	uint32_t stream = k ? k->wait_head : LOGBOOK_NONE;

	if (!k)
		return;
	k->wait_head = k->wait_tail = LOGBOOK_NONE;
	while (stream != LOGBOOK_NONE) {
		struct stream *st = stream_get(lg, stream);

		st->flags &= ~(uint32_t)ST_WAITING;
		stream_push_run(lg, stream);
		stream = st->wait_next;
	}
}

static int serve(struct logger *lg, uint32_t sink, uint32_t stream)
{
	size_t bytes = 0;
	int r = make_ready(lg, sink);

	while (r == 0 && bytes < TURN_BYTES) {
		ssize_t n = write_batch(lg, sink, stream);

		if (n == 0)
			return 0;
		if (n > 0) {
			bytes += (size_t)n;
			continue;
		}
		r = trouble(lg, sink, (int)n);
		if (r == -ESTALE)
			r = make_ready(lg, sink);
	}
	return r == 0 ? 1 : wait_in_queue(lg, sink, stream);
}

int sink_serve(struct logger *lg, uint32_t stream)
{
	uint32_t sink = stream_get(lg, stream)->sink;
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct sink *k = sink_get(lg, sink);
	int r;

	if (!row || !k || !k->taken)
		return 0;
	if (row->to == CONF_LOG_NULL) {
		atomic_store(&logbook_stream(&lg->lb, stream)->consumed,
			     ring_total(&lg->lb, stream));
		return 0;
	}
	if (atomic_load(&logbook_stream(&lg->lb, stream)->consumed) == ring_total(&lg->lb, stream))
		return 0;
	guard_begin(lg, sink);
	r = serve(lg, sink, stream);
	guard_end(lg);
	return r;
}

/* ---- news and housekeeping ---- */

static void leave(struct logger *lg, uint32_t sink)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct sink *k = sink_get(lg, sink);

	if (!k || !k->taken)
		return;
	sink_wake(lg, sink);
	sink_close(lg, sink);
	if (is_failing(row))
		atomic_fetch_sub(&lg->lb.h->sinks_failing, 1);
	atomic_store(&row->state, SINK_IDLE);
	atomic_store(&row->intent.active, 0);
	atomic_store(&row->retry_ms, 0);
	atomic_store(&row->torn, 0);
	atomic_store(&row->dropped, 0);
	k->taken = false;
	k->stall_ms = k->rotate_ms = 0;
	k->backoff_ms = 0;
	atomic_store(&row->taken, 0);
}

void sink_news(struct logger *lg, uint32_t sink)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct sink *k;

	if (!row)
		return;
	if (!atomic_load(&row->used)) {
		leave(lg, sink);
		return;
	}
	k = make_room(lg, sink);
	if (!k)
		return;
	if (!k->taken) {
		atomic_store(&row->taken, 1);
		k->taken = atomic_load(&row->used);
		atomic_store(&row->taken, k->taken);
	}
	k->reopen = k->fd >= 0; /* mode and owner are set when a file is opened */
	sink_wake(lg, sink);
}

void sink_reopen_all(struct logger *lg)
{
	for (uint32_t i = 0; i < lg->n_sinks; i++) {
		lg->sinks[i].reopen = lg->sinks[i].fd >= 0;
		if (lg->sinks[i].taken) /* an operator's word: try at once */
			atomic_store(&logbook_sink(&lg->lb, i)->retry_ms, 0);
		sink_wake(lg, i);
	}
}

void sink_event(struct logger *lg, uint32_t sink)
{
	if (!sink_get(lg, sink))
		return;
	atomic_store(&logbook_sink(&lg->lb, sink)->retry_ms, 0);
	sink_wake(lg, sink);
}

void sink_quarantine(struct logger *lg, uint32_t sink)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	uint32_t n;

	if (!sink_get(lg, sink) || !sink_get(lg, sink)->taken)
		return;
	n = MIN_OF(atomic_load(&row->failures), 6u);
	fail_as(lg, sink, SINK_QUARANTINED, -ETIMEDOUT);
	atomic_store(&row->retry_ms, lg->now_ms + MIN_OF(QUARANTINE_MS << n, QUARANTINE_MAX));
}

void sink_start(struct logger *lg)
{
	uint32_t high = atomic_load(&lg->lb.h->sinks_high), failing = 0;

	for (uint32_t i = 0; i < high; i++) {
		struct logbook_sink *row = logbook_sink(&lg->lb, i);

		if (atomic_load(&row->taken) && !atomic_load(&row->used))
			atomic_store(&row->taken, 0); /* dropped while no logger was there */
		sink_news(lg, i);
		if (!sink_get(lg, i) || !sink_get(lg, i)->taken)
			continue;
		if (is_failing(row))
			failing++;
		else
			atomic_store(&row->state, SINK_IDLE);
	}
	atomic_store(&lg->lb.h->sinks_failing, failing);
}

/* When this sink wants to be looked at again. */
static int64_t rest_one(struct logger *lg, uint32_t sink)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct sink *k = sink_get(lg, sink);
	int64_t retry = atomic_load(&row->retry_ms), next = INT64_MAX;

	if (k->stall_ms != 0 && !is_failing(row)) {
		if (lg->now_ms - k->stall_ms < STALL_MS)
			next = k->stall_ms + STALL_MS;
		else
			sink_fail(lg, sink, -ETIMEDOUT);
		retry = atomic_load(&row->retry_ms);
	}
	if (k->wait_head != LOGBOOK_NONE && retry != 0) {
		if (retry <= lg->now_ms)
			sink_wake(lg, sink);
		else
			next = MIN_OF(next, retry);
	}
	/* A pipe stays open: its reader would take the close for an end. */
	if (k->fd >= 0 && k->regular) {
		if (lg->now_ms - k->used_ms >= IDLE_CLOSE_MS)
			sink_close(lg, sink);
		else
			next = MIN_OF(next, k->used_ms + IDLE_CLOSE_MS);
	}
	return next;
}

int64_t sink_rest(struct logger *lg)
{
	uint32_t i = lg->sink_list, next;
	int64_t when = INT64_MAX;

	lg->sink_list = LOGBOOK_NONE;
	for (; i != LOGBOOK_NONE; i = next) {
		int64_t t = rest_one(lg, i);

		next = lg->sinks[i].list_next;
		lg->sinks[i].listed = false;
		if (t != INT64_MAX || lg->sinks[i].fd >= 0)
			list_sink(lg, i);
		when = MIN_OF(when, t);
	}
	return when;
}
