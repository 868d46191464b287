/*
 * Owns the way of bytes from a ring to a destination. Invariant: between the store of
 * intent.active and its clearing, the log book alone tells what the file should end with; whoever
 * finds the intent (after an error, or a successor) writes what is missing and nothing twice.
 */
#include "logger/sink.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "logger/ring.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static ssize_t put_iov(const struct sink *k, const struct iovec *iov, int n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n };
	ssize_t put;

	do
		put = k->socket ? sendmsg(k->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL)
				: writev(k->fd, iov, n);
	while (put < 0 && errno == EINTR);
	return put < 0 ? -errno : put;
}

/* Write the batch from byte `done` on. *done grows with what is out; intent.done follows where the
 * size of a file cannot tell. */
static int put_rest(struct sink *k, struct logbook_intent *in, const struct batch *b,
		    uint64_t *done)
{
	while (*done < b->out_len) {
		struct iovec iov[FORMAT_IOVS];
		uint64_t skip = *done;
		int n = 0;
		ssize_t put;

		for (int i = 0; i < b->n_iov; i++) {
			size_t cut = MIN_OF(skip, b->iov[i].iov_len);

			skip -= cut;
			if (cut < b->iov[i].iov_len)
				iov[n++] = (struct iovec){ (char *)b->iov[i].iov_base + cut,
							   b->iov[i].iov_len - cut };
		}
		put = FAIL_ERR(WRITE_PUT);
		if (put == 0)
			put = put_iov(k, iov, n);
		FAIL_HERE(WRITE_PART);
		if (put <= 0)
			return put < 0 ? (int)put : -EIO;
		*done += (uint64_t)put;
		k->stall_ms = 0;
		if (!k->regular)
			atomic_store(&in->done, *done);
	}
	return 0;
}

static void commit(struct logger *lg, uint32_t sink, const struct batch *b)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct logbook_intent *in = &row->intent;
	struct logbook_stream *s = logbook_stream(&lg->lb, in->stream);

	FAIL_HERE(COMMIT_TOLD);
	if (atomic_load(&s->told) < in->told)
		atomic_store(&s->told, in->told);
	FAIL_HERE(COMMIT_CONSUMED);
	if (atomic_load(&s->consumed) < in->to)
		atomic_store(&s->consumed, in->to);
	FAIL_HERE(COMMIT_NOTE);
	if (lg->clients)
		client_note(lg, in->stream, in->to, in->stamp_us);
	if (sink_get(lg, sink)->regular)
		atomic_store(&row->size, in->file_at + b->out_len);
	FAIL_HERE(COMMIT_TORN);
	atomic_store(&row->torn, 0);
	FAIL_HERE(COMMIT_CLEAR);
	atomic_store(&in->active, 0);
	sink_works(lg, sink);
}

/* Bytes of the intent's batch that are in the file, as far as can be known. */
static uint64_t bytes_out(struct logger *lg, uint32_t sink, uint64_t out_len)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	const struct logbook_intent *in = &row->intent;
	const struct sink *k = sink_get(lg, sink);
	char old[LOGBOOK_PATH + 4];
	struct stat st;

	if (!k->regular || row->to != CONF_LOG_FILE)
		return MIN_OF(atomic_load(&in->done), out_len);
	if (fstat(k->fd, &st) < 0)
		return 0;
	if (st.st_dev != in->dev || st.st_ino != in->ino) {
		/* Rotated by somebody else since. Whole there: done; else it is written here. */
		snprintf(old, sizeof(old), "%s.1", row->path);
		if (lstat(old, &st) < 0 || st.st_dev != in->dev || st.st_ino != in->ino ||
		    (uint64_t)st.st_size < in->file_at + out_len)
			return 0;
		return out_len;
	}
	if ((uint64_t)st.st_size <= in->file_at)
		return 0;
	return MIN_OF((uint64_t)st.st_size - in->file_at, out_len);
}

static struct format format_of(const struct logbook_intent *in)
{
	return (struct format){
		.flags = in->flags, .label = in->label, .lost = in->lost, .stamp_us = in->stamp_us
	};
}

void write_abandon(struct logger *lg, uint32_t sink)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct logbook_intent *in = &row->intent;
	struct logbook_stream *s = logbook_stream(&lg->lb, in->stream);
	struct format f = format_of(in);
	uint64_t out;

	if (!atomic_load(&in->active))
		return;
	out = sink_get(lg, sink)->fd >= 0 ? bytes_out(lg, sink, UINT64_MAX) : 0;
	/* What was lost may have been told already, by a line that is out. */
	if (s && out >= format_head_len(&f) && atomic_load(&s->told) < in->told)
		atomic_store(&s->told, in->told);
	if (out > 0)
		atomic_store(&row->torn, 1);
	atomic_store(&in->active, 0);
}

/* A write came to an error. A half-written batch is taken back where that can be done, so that
 * the file ends with a whole line while the destination fails. */
static int put_failed(struct logger *lg, uint32_t sink, uint64_t done, int err)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct sink *k = sink_get(lg, sink);

	if (done == 0 || (k->regular && ftruncate(k->fd, (off_t)row->intent.file_at) == 0))
		atomic_store(&row->intent.active, 0);
	return err;
}

static int check_file(struct logger *lg, uint32_t sink, struct stat *st)
{
	struct sink *k = sink_get(lg, sink);

	if (!k->regular)
		return 0;
	if (fstat(k->fd, st) < 0)
		return -errno;
	if (st->st_nlink == 0)
		return -ESTALE;
	atomic_store(&logbook_sink(&lg->lb, sink)->size, (uint64_t)st->st_size);
	return 0;
}

struct job {
	struct format f;
	uint64_t from, to, told;
	char label[LOGBOOK_LABEL]; /* the row's may be changed while we look */
};

static const uint32_t format_flags[CONF_FORMAT_COUNT + 1] = {
	[CONF_FORMAT_TEXT] = FORMAT_TEXT,
	[CONF_FORMAT_JSON] = FORMAT_JSON,
};

/* What the stream has to say now. */
static void make_job(struct logger *lg, uint32_t sink, uint32_t stream, struct job *j)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct logbook_stream *s = logbook_stream(&lg->lb, stream);
	uint64_t end = atomic_load(&s->end_at);

	*j = (struct job){ .from = atomic_load(&s->consumed),
			   .to = ring_total(&lg->lb, stream),
			   .told = atomic_load(&s->dropped) };
	memcpy(j->label, s->label, sizeof(j->label));
	j->f.label = j->label;
	j->f.lost = j->told - atomic_load(&s->told);
	j->f.flags |= format_flags[MIN_OF(atomic_load(&row->format), CONF_FORMAT_COUNT)];
	if (atomic_load(&s->flags) & STREAM_ERR)
		j->f.flags |= FORMAT_ERR;
	if (atomic_load(&row->torn))
		j->f.flags |= FORMAT_BREAK;
	if (j->from < end && end <= j->to) {
		j->to = end;
		j->f.flags |= FORMAT_END;
	}
	ring_span(&lg->lb, stream, j->from, j->to, &j->f.in);
}

static void note_intent(struct logger *lg, uint32_t sink, uint32_t stream, const struct job *j,
			const struct batch *b)
{
	struct logbook_intent *in = &logbook_sink(&lg->lb, sink)->intent;
	const struct sink *k = sink_get(lg, sink);

	in->stream = stream;
	in->from = j->from;
	in->to = j->from + b->in_len;
	/* A batch that leaves bytes for later has nothing to end. */
	in->flags = in->to == j->to ? j->f.flags : j->f.flags & ~(uint32_t)FORMAT_END;
	in->told = j->told;
	in->lost = j->f.lost;
	in->stamp_us = j->f.stamp_us;
	in->dev = k->dev;
	in->ino = k->ino;
	in->file_at = atomic_load(&logbook_sink(&lg->lb, sink)->size);
	atomic_store(&in->done, 0);
	memcpy(in->label, j->f.label, sizeof(in->label));
	FAIL_HERE(INTENT_NOTED);
	atomic_store(&in->active, 1);
	FAIL_HERE(INTENT_ACTIVE);
}

static int rotate(struct logger *lg, uint32_t sink)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	struct sink *k = sink_get(lg, sink);
	struct place p;
	uint32_t left_out;
	int r;

	if (k->rotate_ms > lg->now_ms)
		return -EAGAIN;
	sink_place(row, &p);
	r = rotate_names(&p, atomic_load(&row->keep));
	if (r < 0) { /* nothing is lost: the file grows on */
		k->rotate_ms = lg->now_ms + 60000;
		if (log_limit_pass(&k->warn, 1, 60000, &left_out))
			log_warn("rotating %s: %s", row->path, strerror(-r));
		return r;
	}
	FAIL_HERE(ROTATE_COUNT);
	atomic_fetch_add(&row->rotations, 1);
	FAIL_HERE(ROTATE_COUNTED);
	return 0;
}

/* Choose the batch; -ESTALE after a rotation. */
static int choose(struct logger *lg, uint32_t sink, const struct job *j, struct batch *b)
{
	struct logbook_sink *row = logbook_sink(&lg->lb, sink);
	int64_t max = atomic_load(&row->max_size_bytes);
	uint64_t size = atomic_load(&row->size);

	if (!sink_get(lg, sink)->regular || row->to != CONF_LOG_FILE || max <= 0) {
		format_batch(&j->f, SIZE_MAX, true, lg->scratch, b);
		return 0;
	}
	format_batch(&j->f, size < (uint64_t)max ? (uint64_t)max - size : 0, size == 0, lg->scratch,
		     b);
	if (b->in_len > 0 || size == 0)
		return 0;
	/* Either there is no whole line yet, or it does not fit any more. */
	format_batch(&j->f, SIZE_MAX, true, lg->scratch, b);
	if (b->in_len == 0)
		return 0;
	return rotate(lg, sink) == 0 ? -ESTALE : 0;
}

ssize_t write_batch(struct logger *lg, uint32_t sink, uint32_t stream)
{
	struct logbook_intent *in = &logbook_sink(&lg->lb, sink)->intent;
	uint64_t done = 0;
	struct batch b;
	struct stat st;
	struct job j;
	int r;

	make_job(lg, sink, stream, &j);
	if (j.from == j.to)
		return 0;
	r = check_file(lg, sink, &st);
	if (r < 0)
		return r;
	j.f.stamp_us = clock_real_us();
	r = choose(lg, sink, &j, &b);
	if (r < 0 || b.in_len == 0)
		return r;
	note_intent(lg, sink, stream, &j, &b);
	r = put_rest(sink_get(lg, sink), in, &b, &done);
	if (r < 0)
		return put_failed(lg, sink, done, r);
	commit(lg, sink, &b);
	return (ssize_t)b.in_len;
}

int write_resume(struct logger *lg, uint32_t sink)
{
	struct logbook_intent *in = &logbook_sink(&lg->lb, sink)->intent;
	struct logbook_stream *s = logbook_stream(&lg->lb, in->stream);
	struct format f = format_of(in);
	struct batch b;
	uint64_t done;
	int r;

	if (!s || atomic_load(&s->consumed) != in->from) {
		if (s && atomic_load(&s->consumed) == in->to)
			atomic_store(&in->active, 0); /* all but the last step was done */
		else
			write_abandon(lg, sink);
		return 0;
	}
	f.flags |= FORMAT_TAKEN;
	ring_span(&lg->lb, in->stream, in->from, in->to, &f.in);
	format_batch(&f, SIZE_MAX, true, lg->scratch, &b);
	done = bytes_out(lg, sink, b.out_len);
	r = put_rest(sink_get(lg, sink), in, &b, &done);
	if (r < 0)
		return r;
	commit(lg, sink, &b);
	return 0;
}
