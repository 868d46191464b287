/*
 * Owns the layout of the log book and the manager's side of it. The logger's side (filling rings,
 * intents) is in logger/. Invariant: what a reader needs to make sense of a ring is published in
 * the order data, position, lap; a reader that saw lap change looks again.
 */
#include "ledger/logbook.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE	      4096u
#define STREAM_STRIDE 320u
#define SINK_STRIDE   1088u
#define COPY_TRIES    4

_Static_assert(sizeof(struct logbook_header) <= PAGE, "the keeper maps one page");
_Static_assert(sizeof(struct logbook_stream) <= STREAM_STRIDE * 4 / 5, "a reserve is kept");
_Static_assert(sizeof(struct logbook_sink) <= SINK_STRIDE * 4 / 5, "a reserve is kept");

static uint64_t page_up(uint64_t n)
{
	return (n + PAGE - 1) / PAGE * PAGE;
}

static void lay_out(struct logbook_header *h)
{
	h->magic = LOGBOOK_MAGIC;
	h->version = LOGBOOK_VERSION;
	h->streams = LOGBOOK_STREAMS;
	h->sinks = LOGBOOK_SINKS;
	h->half_bytes = LOGBOOK_HALF;
	h->stream_stride = STREAM_STRIDE;
	h->sink_stride = SINK_STRIDE;
	h->news_at = PAGE;
	h->hashes_at = h->news_at + page_up(sizeof(struct logbook_news));
	h->sinks_at = h->hashes_at + page_up(LOGBOOK_SINKS * sizeof(uint32_t));
	h->streams_at = h->sinks_at + page_up((uint64_t)LOGBOOK_SINKS * SINK_STRIDE);
	h->rests_at = h->streams_at + page_up((uint64_t)LOGBOOK_STREAMS * STREAM_STRIDE);
	h->rings_at = h->rests_at + page_up((uint64_t)LOGBOOK_STREAMS * LOGBOOK_REST);
	h->bytes = h->rings_at + (uint64_t)LOGBOOK_STREAMS * 2 * LOGBOOK_HALF;
}

int logbook_create(int *ret_fd, struct logbook *ret)
{
	struct logbook_header want = { 0 };
	auto_fd fd = -1;
	void *p;

	lay_out(&want);
	fd = fd_memfd("reeve-logbook", want.bytes);
	if (fd < 0)
		return fd;
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	want.born_us = clock_real_us();
	memcpy(p, &want, sizeof(want));
	*ret = (struct logbook){ .h = p, .bytes = PAGE, .fd = fd };
	*ret_fd = give_fd(&fd);
	return 0;
}

/* All that K wrote once must be as this program would write it: rows are found by it. */
static int check(const struct logbook_header *h, struct diag *d)
{
	struct logbook_header want = { 0 };

	lay_out(&want);
	if (memcmp(h, &want, offsetof(struct logbook_header, watching)) == 0)
		return 0;
	return diag_set(d, -EPROTO,
			"the log book has layout %u, this reeved knows %u: restart the daemon",
			h->version, LOGBOOK_VERSION);
}

int logbook_adopt(int fd, struct logbook *ret, struct diag *d)
{
	struct stat st;
	void *p;
	int err;

	if (fstat(fd, &st) < 0 || st.st_size < (off_t)PAGE)
		return diag_set(d, -EPROTO, "this is no log book of reeved");
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return diag_set(d, -errno, "the log book cannot be mapped");
	err = check(p, d);
	if (err < 0) {
		munmap(p, PAGE);
		return err;
	}
	*ret = (struct logbook){ .h = p, .bytes = PAGE, .fd = fd };
	return 0;
}

int logbook_open(int fd, struct logbook *ret, struct diag *d)
{
	struct logbook lb = { .fd = fd };
	struct logbook_header want = { 0 };
	void *p;
	int r = fd_map(fd, &p, &lb.bytes);

	if (r < 0)
		return diag_set(d, r, "the log book cannot be mapped: %s", strerror(-r));
	lb.h = p;
	lay_out(&want);
	r = lb.bytes < want.bytes ? diag_set(d, -EPROTO, "this is no log book of reeved")
				  : check(lb.h, d);
	if (r < 0) {
		munmap(p, lb.bytes);
		return r;
	}
	*ret = lb;
	return 0;
}

void logbook_fini(struct logbook *lb)
{
	if (!lb || !lb->h)
		return;
	munmap(lb->h, lb->bytes);
	lb->h = NULL;
}

static void *at(const struct logbook *lb, uint64_t offset)
{
	return (char *)lb->h + offset;
}

struct logbook_stream *logbook_stream(const struct logbook *lb, uint32_t stream)
{
	if (stream >= lb->h->streams)
		return NULL;
	return at(lb, lb->h->streams_at + (uint64_t)stream * lb->h->stream_stride);
}

struct logbook_sink *logbook_sink(const struct logbook *lb, uint32_t sink)
{
	if (sink >= lb->h->sinks)
		return NULL;
	return at(lb, lb->h->sinks_at + (uint64_t)sink * lb->h->sink_stride);
}

/* ---- news ---- */

static struct logbook_news *news_of(const struct logbook *lb)
{
	return at(lb, lb->h->news_at);
}

static void news_put(struct logbook *lb, uint32_t row)
{
	struct logbook_news *n = news_of(lb);
	uint32_t head = atomic_load(&n->head);

	if (head - atomic_load(&n->tail) >= LOGBOOK_RING) {
		atomic_store(&n->overflow, 1);
		return;
	}
	n->rows[head % LOGBOOK_RING] = row;
	atomic_store(&n->head, head + 1);
}

uint32_t logbook_news_take(struct logbook *lb, bool *ret_scan)
{
	struct logbook_news *n = news_of(lb);
	uint32_t tail = atomic_load(&n->tail), row;

	if (atomic_load_explicit(&n->overflow, memory_order_relaxed) &&
	    atomic_exchange(&n->overflow, 0))
		*ret_scan = true;
	if (tail == atomic_load(&n->head))
		return LOGBOOK_NONE;
	row = n->rows[tail % LOGBOOK_RING];
	atomic_store(&n->tail, tail + 1);
	return row;
}

/* ---- sinks, manager's side ---- */

static uint32_t *hashes_of(const struct logbook *lb)
{
	return at(lb, lb->h->hashes_at);
}

/* FNV-1a; never 0, which means a free row. What is no file is told apart by what cannot be shared:
 * lines of two formats on one stdout are two sinks. */
static uint32_t hash_of(const struct conf_log *log, const char *path)
{
	uint32_t h = 2166136261u ^ (uint32_t)log->to;

	if (log->to != CONF_LOG_FILE)
		return (h * 16777619u + (uint32_t)log->format * 8u + (uint32_t)log->overflow) | 1u;
	for (; *path; path++)
		h = (h ^ (uint8_t)*path) * 16777619u;
	return h | 1u;
}

static bool same_sink(const struct logbook_sink *k, const struct conf_log *log, const char *path)
{
	if (!atomic_load(&k->used) || k->to != (uint32_t)log->to)
		return false;
	if (log->to == CONF_LOG_FILE)
		return strcmp(k->path, path) == 0;
	return atomic_load(&k->format) == (uint32_t)log->format &&
	       atomic_load(&k->overflow) == (uint32_t)log->overflow;
}

/* *ret_free: the lowest row that the logger has given back. */
static uint32_t find_sink(const struct logbook *lb, const struct conf_log *log, const char *path,
			  uint32_t *ret_free)
{
	uint32_t high = atomic_load(&lb->h->sinks_high), hash = hash_of(log, path);
	const uint32_t *hashes = hashes_of(lb);

	*ret_free = LOGBOOK_NONE;
	for (uint32_t i = 0; i < high; i++) {
		if (hashes[i] == hash && same_sink(logbook_sink(lb, i), log, path))
			return i;
		/* rows in use are only looked at when they run short: each is a cache miss */
		if (*ret_free == LOGBOOK_NONE && (hashes[i] == 0 || high == lb->h->sinks) &&
		    !atomic_load(&logbook_sink(lb, i)->used) &&
		    !atomic_load(&logbook_sink(lb, i)->taken))
			*ret_free = i;
	}
	if (*ret_free == LOGBOOK_NONE && high < lb->h->sinks)
		*ret_free = high;
	return LOGBOOK_NONE;
}

/* A change that nobody needs to hear of is not told: returns whether anything is different. */
static bool set_live(struct logbook_sink *k, const struct conf_log *log)
{
	bool changed = atomic_exchange(&k->format, (uint32_t)log->format) != (uint32_t)log->format;

	changed |=
		atomic_exchange(&k->overflow, (uint32_t)log->overflow) != (uint32_t)log->overflow;
	changed |= atomic_exchange(&k->mode, log->mode) != log->mode;
	changed |= atomic_exchange(&k->uid, log->owner_uid) != log->owner_uid;
	changed |= atomic_exchange(&k->gid, log->owner_gid) != log->owner_gid;
	changed |= atomic_exchange(&k->has_owner, log->has_owner) != log->has_owner;
	changed |= atomic_exchange(&k->keep, log->keep) != log->keep;
	changed |= atomic_exchange(&k->max_size_bytes, log->max_size_bytes) != log->max_size_bytes;
	return changed;
}

int logbook_sink_put(struct logbook *lb, const struct conf_log *log, const char *path,
		     bool make_dirs)
{
	struct logbook_sink *k;
	uint32_t row, free_row;

	if (log->to == CONF_LOG_JOURNAL)
		return -EINVAL;
	if (log->to == CONF_LOG_FILE && strlen(path) >= LOGBOOK_PATH)
		return -ENAMETOOLONG;
	row = find_sink(lb, log, path, &free_row);
	if (row != LOGBOOK_NONE) {
		if (set_live(logbook_sink(lb, row), log))
			news_put(lb, row | LOGBOOK_NEWS_SINK);
		return (int)row;
	}
	if (free_row == LOGBOOK_NONE)
		return -ENOSPC;
	k = logbook_sink(lb, free_row);
	k->to = (uint32_t)log->to;
	k->make_dirs = make_dirs;
	memset(k->path, 0, sizeof(k->path));
	if (log->to == CONF_LOG_FILE)
		memcpy(k->path, path, strlen(path));
	set_live(k, log);
	hashes_of(lb)[free_row] = hash_of(log, path);
	if (free_row >= atomic_load(&lb->h->sinks_high))
		atomic_store(&lb->h->sinks_high, free_row + 1);
	atomic_store(&k->used, 1);
	news_put(lb, free_row | LOGBOOK_NEWS_SINK);
	return (int)free_row;
}

void logbook_sink_drop(struct logbook *lb, uint32_t sink)
{
	struct logbook_sink *k = logbook_sink(lb, sink);

	if (!k || !atomic_load(&k->used))
		return;
	hashes_of(lb)[sink] = 0;
	atomic_store(&k->used, 0);
	news_put(lb, sink | LOGBOOK_NEWS_SINK);
}

static void mark_used(const struct logbook *lb, uint32_t first, uint32_t n, uint8_t *marks)
{
	for (uint32_t i = first; i < first + n; i++) {
		const struct logbook_stream *s = logbook_stream(lb, i);
		uint32_t sink = atomic_load(&s->sink);

		if (atomic_load(&s->used) && sink < LOGBOOK_SINKS)
			marks[sink / 8] |= (uint8_t)(1u << sink % 8);
	}
}

void logbook_sinks_sweep(struct logbook *lb)
{
	uint8_t marks[LOGBOOK_SINKS / 8] = { 0 };

	mark_used(lb, 0, atomic_load(&lb->h->out_high), marks);
	mark_used(lb, LOGBOOK_ERR, atomic_load(&lb->h->err_high), marks);
	for (uint32_t i = 0; i < atomic_load(&lb->h->sinks_high); i++) {
		if (!(marks[i / 8] & 1u << i % 8))
			logbook_sink_drop(lb, i);
	}
}

/* ---- streams, manager's side ---- */

int logbook_stream_set(struct logbook *lb, uint32_t stream, uint32_t sink, const char *label,
		       uint32_t flags)
{
	struct logbook_stream *s = logbook_stream(lb, stream);
	_Atomic uint32_t *high = stream < LOGBOOK_ERR ? &lb->h->out_high : &lb->h->err_high;
	uint32_t row = stream % LOGBOOK_ROWS;

	if (!s || sink >= lb->h->sinks || strlen(label) >= LOGBOOK_LABEL)
		return -EINVAL;
	if (atomic_load(&s->used) && atomic_load(&s->sink) == sink &&
	    atomic_load(&s->flags) == flags && strcmp(s->label, label) == 0)
		return 0;
	if (strcmp(s->label, label) != 0) {
		memset(s->label, 0, sizeof(s->label));
		memcpy(s->label, label, strlen(label));
	}
	atomic_store(&s->sink, sink);
	atomic_store(&s->flags, flags);
	if (row >= atomic_load(high))
		atomic_store(high, row + 1);
	atomic_store(&s->used, 1);
	news_put(lb, stream);
	return 0;
}

void logbook_stream_clear(struct logbook *lb, uint32_t stream)
{
	struct logbook_stream *s = logbook_stream(lb, stream);

	if (!s || !atomic_load(&s->used))
		return;
	atomic_store(&s->used, 0);
	news_put(lb, stream);
}

uint32_t logbook_drain(struct logbook *lb, uint32_t stream, bool end_of_life)
{
	struct logbook_stream *s = logbook_stream(lb, stream);
	uint32_t request;

	if (!s)
		return 0;
	request = atomic_load(&s->drain_want) + 1;
	if (end_of_life)
		atomic_store(&s->drain_end, request);
	atomic_store(&s->drain_want, request);
	news_put(lb, stream);
	return request;
}

/* Numbers wrap: compare distances. */
bool logbook_drained(const struct logbook *lb, uint32_t stream, uint32_t request)
{
	struct logbook_stream *s = logbook_stream(lb, stream);

	return !s || (int32_t)(atomic_load(&s->drain_done) - request) >= 0;
}

/* ---- the ring as data ---- */

struct view {
	uint32_t lap;
	uint64_t start[2], end[2]; /* totals; by half */
	uint64_t base[2];	   /* places in the memfd */
};

static void look(const struct logbook *lb, uint32_t stream, struct view *v)
{
	const struct logbook_stream *s = logbook_stream(lb, stream);
	v->lap = atomic_load(&s->lap);
	for (int i = 0; i < 2; i++) {
		uint64_t pos = (uint64_t)atomic_load(&s->pos[i]);

		v->base[i] = (uint64_t)atomic_load(&s->base[i]);
		v->start[i] = atomic_load(&s->start[i]);
		v->end[i] = v->start[i] + (pos > v->base[i] ? pos - v->base[i] : 0);
	}
	if (v->lap == 0) /* the other half was never used */
		v->start[1] = v->end[1] = v->start[0];
}

/* The view, once it holds still. A logger killed while it switched over leaves a view in which the
 * other half is empty: that is consistent too. */
static void look_again(const struct logbook *lb, uint32_t stream, struct view *v)
{
	for (int i = 0; i < COPY_TRIES; i++) {
		look(lb, stream, v);
		if (atomic_load(&logbook_stream(lb, stream)->lap) == v->lap)
			return;
	}
}

uint64_t logbook_total(const struct logbook *lb, uint32_t stream)
{
	struct view v;

	if (stream >= lb->h->streams)
		return 0;
	look_again(lb, stream, &v);
	return v.end[v.lap & 1];
}

static uint64_t oldest_of(const struct view *v)
{
	int other = !(v->lap & 1);

	/* Being switched over: the other half is already reset, or still the one before last. */
	if (v->end[other] != v->start[v->lap & 1])
		return v->start[v->lap & 1];
	return v->start[other];
}

uint64_t logbook_oldest(const struct logbook *lb, uint32_t stream)
{
	struct view v;

	if (stream >= lb->h->streams)
		return 0;
	look_again(lb, stream, &v);
	return oldest_of(&v);
}

static ssize_t copy_once(const struct logbook *lb, uint32_t stream, uint64_t from, char *buf,
			 size_t size)
{
	struct view v;
	size_t len = 0;

	look(lb, stream, &v);
	if (from < oldest_of(&v) || from > v.end[v.lap & 1])
		return -ESTALE;
	for (int i = 0; i < 2 && len < size; i++) {
		int half = i == 0 ? !(v.lap & 1) : (int)(v.lap & 1);
		size_t n;

		if (from >= v.end[half] || from < v.start[half] ||
		    (i == 0 && from >= v.start[v.lap & 1])) /* trimmed: given up since */
			continue;
		n = MIN_OF(size - len, v.end[half] - from);
		memcpy(buf + len, at(lb, v.base[half] + (from - v.start[half])), n);
		len += n;
		from += n;
	}
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&logbook_stream(lb, stream)->lap) != v.lap)
		return -EAGAIN;
	return (ssize_t)len;
}

ssize_t logbook_copy(const struct logbook *lb, uint32_t stream, uint64_t from, char *buf,
		     size_t size)
{
	if (stream >= lb->h->streams)
		return -EINVAL;
	for (int i = 0; i < COPY_TRIES; i++) {
		ssize_t n = copy_once(lb, stream, from, buf, size);

		if (n != -EAGAIN)
			return n;
	}
	return -ESTALE;
}

/* Cut the part of a line at the front, unless all there is is one line. */
static size_t cut_front(char *buf, size_t len)
{
	char *nl = len > 0 ? memchr(buf, '\n', len - 1) : NULL;
	size_t gone;

	if (!nl)
		return len;
	gone = (size_t)(nl + 1 - buf);
	memmove(buf, nl + 1, len - gone);
	return len - gone;
}

size_t logbook_tail(const struct logbook *lb, uint32_t stream, uint64_t from_total, char *buf,
		    size_t size)
{
	for (int i = 0; size > 1 && i < COPY_TRIES; i++) {
		uint64_t end = logbook_total(lb, stream), from = logbook_oldest(lb, stream);
		ssize_t n;
		char before;
		bool cut;

		from = MAX_OF(from, from_total);
		if (from >= end)
			break;
		if (end - from > size - 1)
			from = end - (size - 1);
		cut = from > from_total &&
		      (logbook_copy(lb, stream, from - 1, &before, 1) != 1 || before != '\n');
		n = logbook_copy(lb, stream, from, buf, MIN_OF(size - 1, end - from));
		if (n < 0)
			continue;
		if (cut)
			n = (ssize_t)cut_front(buf, (size_t)n);
		buf[n] = '\0';
		return (size_t)n;
	}
	if (size > 0)
		buf[0] = '\0';
	return 0;
}

static uint64_t beyond(uint64_t now, uint64_t from)
{
	return now > from ? now - from : 0;
}

void logbook_counters(const struct logbook *lb, uint32_t stream, uint64_t from_total,
		      uint64_t from_dropped, struct logbook_counters *ret)
{
	const struct logbook_stream *s = logbook_stream(lb, stream);
	uint64_t consumed;

	*ret = (struct logbook_counters){ 0 };
	if (!s)
		return;
	/* In this order: none of the differences may come out negative. */
	ret->dropped = beyond(atomic_load(&s->dropped), from_dropped);
	consumed = beyond(atomic_load(&s->consumed), from_total);
	ret->written = beyond(consumed, ret->dropped);
	ret->in = MAX_OF(beyond(logbook_total(lb, stream), from_total), consumed);
}

bool logbook_sink_trouble(const struct logbook *lb, uint32_t sink, char *buf, size_t size)
{
	static const char *const names[] = {
		[CONF_LOG_STDOUT] = "the daemon's stdout",
		[CONF_LOG_NULL] = "nowhere",
	};
	const struct logbook_sink *k = logbook_sink(lb, sink);
	uint32_t state = k ? atomic_load(&k->state) : SINK_IDLE;
	int err = k ? atomic_load(&k->error) : 0;
	const char *why;

	if (!k || !atomic_load(&k->used) || (state != SINK_FAILING && state != SINK_QUARANTINED))
		return false;
	why = err == ETIMEDOUT ? "it takes no data" : strerror(err);
	snprintf(buf, size, "writing %s: %s%s, %llu bytes dropped",
		 k->to == CONF_LOG_FILE ? k->path : names[k->to],
		 state == SINK_QUARANTINED ? "the logger hung in it, " : "", why,
		 (unsigned long long)atomic_load(&k->dropped));
	return true;
}
