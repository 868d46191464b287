/*
 * Owns the L fields of a stream row. Invariant: at every instruction the row says truly what was
 * taken from the pipe: the only step that takes bytes is the splice, and the kernel stores the new
 * position in the same call.
 */
#include "logger/ring.h"

#include "base/failpoint.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define RING_REST 8192u /* kept of a ring that is the only place where its lines can be read */

static uint64_t base_of(const struct logbook *lb, uint32_t stream, uint32_t half)
{
	return lb->h->rings_at + ((uint64_t)stream * 2 + half) * lb->h->half_bytes;
}

static uint32_t half_now(const struct logbook_stream *s)
{
	return atomic_load(&s->lap) & 1;
}

static void finish_drop(struct logbook_stream *s)
{
	uint64_t to = atomic_load(&s->drop_to);

	if (to == 0)
		return;
	FAIL_HERE(DROP_COUNT);
	atomic_store(&s->dropped, atomic_load(&s->drop_sum));
	FAIL_HERE(DROP_CONSUME);
	atomic_store(&s->consumed, to);
	FAIL_HERE(DROP_CLEAR);
	atomic_store(&s->drop_to, 0);
}

/* Describe the half that is not being filled. Nothing of it counts before lap is stored; pos 0
 * tells readers that it is in the making. */
static void lay_half(struct logbook_stream *s, uint32_t half, uint64_t base, uint64_t start,
		     size_t used)
{
	atomic_store(&s->pos[half], 0);
	FAIL_HERE(RING_LAY_BASE);
	atomic_store(&s->base[half], (int64_t)base);
	FAIL_HERE(RING_LAY_START);
	atomic_store(&s->start[half], start);
	FAIL_HERE(RING_LAY_POS);
	atomic_store(&s->pos[half], (int64_t)(base + used));
}

void ring_attach(const struct logbook *lb, uint32_t stream)
{
	struct logbook_stream *s = logbook_stream(lb, stream);
	uint32_t half = half_now(s);

	if (atomic_load(&s->pos[half]) == 0)
		lay_half(s, half, base_of(lb, stream, half), 0, 0);
	if (atomic_load(&s->pos[!half]) == 0)
		lay_half(s, !half, base_of(lb, stream, !half), atomic_load(&s->start[half]), 0);
	finish_drop(s);
}

size_t ring_used(const struct logbook *lb, uint32_t stream)
{
	const struct logbook_stream *s = logbook_stream(lb, stream);
	uint32_t half = half_now(s);

	return (size_t)(atomic_load(&s->pos[half]) - atomic_load(&s->base[half]));
}

size_t ring_room(const struct logbook *lb, uint32_t stream)
{
	const struct logbook_stream *s = logbook_stream(lb, stream);
	uint32_t half = half_now(s);

	/* What a stream at rest has kept stands elsewhere and is not added to. */
	if ((uint64_t)atomic_load(&s->base[half]) != base_of(lb, stream, half))
		return 0;
	return lb->h->half_bytes - ring_used(lb, stream);
}

uint64_t ring_total(const struct logbook *lb, uint32_t stream)
{
	const struct logbook_stream *s = logbook_stream(lb, stream);

	return atomic_load(&s->start[half_now(s)]) + ring_used(lb, stream);
}

bool ring_turn(const struct logbook *lb, uint32_t stream)
{
	struct logbook_stream *s = logbook_stream(lb, stream);
	uint32_t half = half_now(s), next = !half;

	if (atomic_load(&s->consumed) < atomic_load(&s->start[half]))
		return false;
	lay_half(s, next, base_of(lb, stream, next), ring_total(lb, stream), 0);
	FAIL_HERE(RING_LAP);
	atomic_fetch_add(&s->lap, 1);
	FAIL_HERE(RING_TURNED);
	return true;
}

/* Where splice(2) is refused. A kill between the two steps loses what was read. */
static ssize_t fill_by_read(const struct logbook *lb, struct logbook_stream *s, int pipe,
			    size_t max)
{
	_Atomic int64_t *pos = &s->pos[half_now(s)];
	ssize_t n = read(pipe, (char *)lb->h + atomic_load(pos), max);

	if (n > 0)
		atomic_fetch_add(pos, n);
	return n;
}

ssize_t ring_fill(const struct logbook *lb, uint32_t stream, int pipe, size_t max)
{
	struct logbook_stream *s = logbook_stream(lb, stream);
	ssize_t n;

	FAIL_HERE(RING_FILL);
	do {
		if (atomic_load(&lb->h->spliceless))
			n = fill_by_read(lb, s, pipe, max);
		else
			n = splice(pipe, NULL, lb->fd, (off64_t *)&s->pos[half_now(s)], max,
				   SPLICE_F_NONBLOCK);
		if (n < 0 && (errno == EINVAL || errno == EPERM || errno == ENOSYS) &&
		    !atomic_exchange(&lb->h->spliceless, 1))
			errno = EINTR;
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		return -EAGAIN;
	if (n > 0)
		FAIL_HERE(RING_FILLED);
	return n < 0 ? -errno : n;
}

void ring_span(const struct logbook *lb, uint32_t stream, uint64_t from, uint64_t to,
	       struct span *ret)
{
	const struct logbook_stream *s = logbook_stream(lb, stream);
	uint32_t half = half_now(s);
	uint64_t start = atomic_load(&s->start[half]);
	int n = 0;

	*ret = (struct span){ { "", "" }, { 0, 0 } };
	if (from < start && from < to) {
		ret->data[n] = (char *)lb->h + atomic_load(&s->base[!half]) +
			       (from - atomic_load(&s->start[!half]));
		ret->len[n++] = MIN_OF(to, start) - from;
		from = MIN_OF(to, start);
	}
	if (from < to) {
		ret->data[n] = (char *)lb->h + atomic_load(&s->base[half]) + (from - start);
		ret->len[n] = to - from;
	}
}

uint64_t ring_drop_to(const struct logbook *lb, uint32_t stream, uint64_t to)
{
	struct logbook_stream *s = logbook_stream(lb, stream);
	uint64_t consumed = atomic_load(&s->consumed);

	if (to <= consumed)
		return 0;
	atomic_store(&s->drop_sum, atomic_load(&s->dropped) + (to - consumed));
	FAIL_HERE(DROP_NOTE);
	atomic_store(&s->drop_to, to);
	finish_drop(s);
	return to - consumed;
}

uint64_t ring_drop_old(const struct logbook *lb, uint32_t stream)
{
	const struct logbook_stream *s = logbook_stream(lb, stream);
	uint64_t start = atomic_load(&s->start[half_now(s)]), total = ring_total(lb, stream);
	struct span rest;
	const char *nl;

	ring_span(lb, stream, start, MIN_OF(total, start + LOGBOOK_LINE), &rest);
	nl = rest.len[0] > 0 ? memchr(rest.data[0], '\n', rest.len[0]) : NULL;
	if (nl)
		start += (uint64_t)(nl - rest.data[0]) + 1;
	return ring_drop_to(lb, stream, start);
}

static void punch(const struct logbook *lb, uint64_t from, uint64_t to)
{
	from = (from + 4095) / 4096 * 4096;
	if (from < to) /* a failure costs memory only */
		(void)fallocate(lb->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
				(off_t)(to - from));
}

void ring_trim(const struct logbook *lb, uint32_t stream, bool small)
{
	struct logbook_stream *s = logbook_stream(lb, stream);
	uint32_t half = half_now(s), next = !half;
	uint64_t total = ring_total(lb, stream), own = base_of(lb, stream, next);
	uint64_t at = small ? lb->h->rests_at + (uint64_t)stream * LOGBOOK_REST : own;
	uint64_t n = MIN_OF(small ? LOGBOOK_REST : RING_REST, total - logbook_oldest(lb, stream));
	char newest[RING_REST];

	if (atomic_load(&s->consumed) != total ||
	    (uint64_t)atomic_load(&s->base[half]) != base_of(lb, stream, half) ||
	    logbook_copy(lb, stream, total - n, newest, n) != (ssize_t)n)
		return;
	/* The newest bytes become the beginning of the other half; with the store of lap the old
	 * one does not end where the new one starts, so nobody looks at it any more. */
	atomic_store(&s->pos[next], 0);
	memcpy((char *)lb->h + at, newest, n);
	lay_half(s, next, at, total - n, n);
	FAIL_HERE(TRIM_LAP);
	atomic_fetch_add(&s->lap, 1);
	FAIL_HERE(TRIM_PUNCH);
	punch(lb, small ? own : at + n, own + lb->h->half_bytes);
	punch(lb, base_of(lb, stream, half), base_of(lb, stream, half) + lb->h->half_bytes);
}
