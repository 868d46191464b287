/*
 * The log book: a sparse memfd made by the keeper, mapped by logger and manager (the keeper maps
 * its header page only). What must outlive a logger is here: what was read from the log pipes and
 * how far it was written. EVERY FIELD HAS ONE WRITER, named in front of it: K = keeper,
 * M = manager, L = logger.
 *
 * Streams. One log pipe of a slot is one stream: number = slot row (stdout, or stdout and stderr
 * merged), slot row + LOGBOOK_ERR for a separate stderr. The pipe lives as long as the slot is
 * configured, over any number of lives, so positions ("totals") only grow: bytes since the pipe
 * was made. A life's lines are those between the totals at its birth and at its end.
 * Data comes into a ring by splice(2) with the position word of the row as off_out: bytes and
 * count are moved by one system call, so no kill of the logger can fall between them. The ring has
 * two halves A and B; `lap` names the one being filled and is the one store that switches over.
 *
 * Sinks. A destination (file, the daemon's stdout, nowhere) that streams share. The logger notes
 * an intent before each write to a file; its successor compares the size and writes the rest.
 *
 * Changes are told by a ring of row numbers and the logger's bell (roles.h). Functions here never
 * ring a bell: the caller does, once for all it changed.
 *
 * Since 0.1.0. Source: memfd_create(2) 3.17; splice(2) into tmpfs: kernel 2.6.31.
 */
#ifndef REEVE_LOGBOOK_H
#define REEVE_LOGBOOK_H

#include "base/diag.h"
#include "conf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOGBOOK_MAGIC	0x4b4f4f42474f4c52ull
#define LOGBOOK_VERSION 1u
#define LOGBOOK_ROWS	65536u	     /* slots; see LEDGER_ROWS */
#define LOGBOOK_ERR	LOGBOOK_ROWS /* added to the slot row: its separate stderr */
#define LOGBOOK_STREAMS (2u * LOGBOOK_ROWS)
#define LOGBOOK_SINKS	65536u
#define LOGBOOK_RING	32768u /* news for the logger; power of two */
#define LOGBOOK_HALF	(64u * 1024u)
#define LOGBOOK_REST	1024u			 /* bytes kept of a stream at rest */
#define LOGBOOK_LINE	65536u			 /* longer lines are cut into pieces of this size */
#define LOGBOOK_PATH	(CONF_LOG_PATH_MAX + 1u) /* of a log file, NUL included */
#define LOGBOOK_LABEL	80u			 /* "web:3", NUL included */
#define LOGBOOK_NONE	UINT32_MAX

/* Bit of a row number in the news ring: it is a sink's. */
#define LOGBOOK_NEWS_SINK 0x80000000u

struct logbook_header {
	/* K, once, before anybody else maps it */
	uint64_t magic;
	uint32_t version, streams, sinks, half_bytes;
	uint32_t stream_stride, sink_stride;
	uint64_t streams_at, sinks_at, hashes_at, news_at, rests_at, rings_at, bytes;

	/* K, at run time */
	_Atomic uint32_t watching;  /* its hang watch timer runs: no need to ring its bell */
	_Atomic uint32_t reopens;   /* counts USR1: close and open all files. Ring the logger */
	_Atomic uint32_t finish;    /* 1: drain all, flush, exit 0. Ring the logger */
	_Atomic uint32_t hangs;	    /* loggers killed because write_began_ms was too old */
	_Atomic uint32_t hang_sink; /* sink the last of them hung on: set before `hangs` */

	/* L */
	_Atomic uint64_t turns;		/* completed loop turns that had work */
	_Atomic int64_t write_began_ms; /* monotonic; 0 = in no call that may block for long */
	_Atomic uint32_t watch_asked;	/* 1, then the keeper's bell: nobody watched when a call
					   began. The keeper takes it by exchange */
	_Atomic uint32_t write_sink;	/* the sink of that call; LOGBOOK_NONE = a client's files */
	_Atomic uint32_t hangs_seen;	/* hangs already answered with a quarantine */
	_Atomic uint32_t reopens_done;
	_Atomic uint32_t started;	/* first turn of this logger completed (its pid) */
	_Atomic uint32_t busy;		/* 1: not all that was read is written; 0: at rest */
	_Atomic uint32_t sinks_failing; /* number of sinks that do not take data now */
	_Atomic uint32_t spliceless;	/* splice(2) is refused here: read(2) is used, a kill of
					   the logger may lose or double what one call read */
	_Atomic uint32_t clients;	/* `logs` connections being served */

	/* M */
	_Atomic uint32_t out_high, err_high, sinks_high; /* rows ever used: bounds of scans */

	/* K, once; since 0.2.0: wall clock. Places in streams mean something in this book only */
	int64_t born_us;
};

enum logbook_sink_state {
	SINK_IDLE,	  /* no file open (none needed now), or not looked at yet */
	SINK_OPEN,	  /* takes data */
	SINK_FAILING,	  /* last open or write failed, or it stalls: see error */
	SINK_QUARANTINED, /* a logger hung in it: bytes are dropped until the next try */
	SINK_STATES
};

/* What a write was meant to do, noted before it is done. L. */
struct logbook_intent {
	_Atomic uint32_t active; /* 1: the rest is valid and not finished */
	uint32_t stream;
	uint32_t flags, spare; /* enum intent_flag (logger/format.h) */
	uint64_t from, to;     /* totals of the stream */
	uint64_t told;	       /* dropped bytes that are told with it (absolute) */
	uint64_t lost;	       /* N of "-- N bytes lost --"; 0 = none */
	int64_t stamp_us;      /* of its lines */
	uint64_t dev, ino;     /* of the file */
	uint64_t file_at;      /* size of the file before; unused where it is no regular file */
	_Atomic uint64_t done; /* bytes known to be out, where the size cannot tell */
	char label[LOGBOOK_LABEL];
};

struct logbook_sink {
	/* M. Written before used = 1 and kept until used = 0 */
	_Atomic uint32_t used;
	uint32_t to;	    /* enum conf_log_to: file, stdout or null */
	uint32_t make_dirs; /* missing directories above the file are made */
	char path[LOGBOOK_PATH];
	/* M, at any time (live changes) */
	_Atomic uint32_t format, overflow; /* enum conf_log_format, conf_overflow */
	_Atomic uint32_t mode, has_owner, uid, gid;
	_Atomic int32_t keep;
	_Atomic int64_t max_size_bytes; /* 0 = not rotated by size */

	/* L */
	_Atomic uint32_t taken;	   /* the logger has it; a row may be used again when it is 0 */
	_Atomic uint32_t state;	   /* enum logbook_sink_state */
	_Atomic int32_t error;	   /* errno of the failure in force; ETIMEDOUT = stall, hang */
	_Atomic uint32_t failures; /* in a row */
	_Atomic int64_t retry_ms;  /* monotonic: next try; 0 = none pending */
	_Atomic int64_t failing_real_us; /* since when */
	_Atomic uint64_t size;		 /* of the file, as last seen */
	_Atomic uint64_t rotations;
	_Atomic uint64_t dropped; /* bytes of its streams that it could not take */
	_Atomic uint32_t torn;	  /* its last line has no end: a newline goes first */
	uint32_t mid_stream;	  /* stream whose unfinished line is its end; LOGBOOK_NONE */
	struct logbook_intent intent;
};

enum logbook_stream_flag {
	STREAM_ERR = 1u, /* a separate stderr: "web:3!" in text */
};

struct logbook_stream {
	/* M */
	_Atomic uint32_t used;
	_Atomic uint32_t sink;
	_Atomic uint32_t flags;	     /* enum logbook_stream_flag */
	_Atomic uint32_t drain_want; /* requests ever made */
	_Atomic uint32_t drain_end; /* last of them that ends a life: an unfinished line is ended */
	char label[LOGBOOK_LABEL];  /* written before used = 1 */

	/* L */
	_Alignas(64) _Atomic int64_t pos[2]; /* off_out of each half: place in the memfd. The
						kernel writes it, with the data */
	_Atomic int64_t base[2];	     /* place of its first byte: in the ring, or (a stream
						at rest) in the page it shares with others */
	_Atomic uint64_t start[2];	     /* total at the beginning of each half */
	_Atomic uint32_t lap;		     /* lap & 1 = half being filled */
	_Atomic uint32_t drain_done;	     /* last request that is complete */
	_Atomic uint64_t drain_total;	     /* total at that moment */
	_Atomic uint64_t end_at;   /* total where a life ended: an unfinished line ends there */
	_Atomic uint64_t consumed; /* total up to which it was written or dropped */
	_Atomic uint64_t dropped;  /* of these: dropped */
	_Atomic uint64_t told;	   /* of these: told by "-- N bytes lost --" */
	_Atomic uint64_t drop_to, drop_sum; /* a drop under way (drop_to != 0): redo it */
};

struct logbook_news {		   /* M puts, L takes */
	_Atomic uint32_t head;	   /* M */
	_Atomic uint32_t tail;	   /* L */
	_Atomic uint32_t overflow; /* M sets 1, L takes it by exchange: look at all rows */
	uint32_t rows[LOGBOOK_RING];
};

struct logbook {
	struct logbook_header *h;
	size_t bytes;
	int fd; /* borrowed: the logger splices into it */
};

/* Keeper: make the memfd; *ret maps the header page only. -errno. */
int logbook_create(int *ret_fd, struct logbook *ret);
/* Keeper after an upgrade: the header page of an existing one. -EPROTO with *d if it is not ours.
 */
int logbook_adopt(int fd, struct logbook *ret, struct diag *d);
/* Map all of it (fd stays the caller's and open). -EPROTO with *d if the layout is not ours. */
int logbook_open(int fd, struct logbook *ret, struct diag *d);
void logbook_fini(struct logbook *lb);

/* Rows; NULL if out of range. */
struct logbook_stream *logbook_stream(const struct logbook *lb, uint32_t stream);
struct logbook_sink *logbook_sink(const struct logbook *lb, uint32_t sink);

/* ---- manager ---- */

/* The sink for this destination: the row that has the same path (or is stdout, or null), its live
 * settings (format, overflow, mode, owner, keep, max_size) brought up to date, or a new one.
 * path: expanded; used with CONF_LOG_FILE only. make_dirs: make missing directories above.
 * Returns the row, or -ENAMETOOLONG, -ENOSPC (no free row), -EINVAL (a journal has no sink). */
int logbook_sink_put(struct logbook *lb, const struct conf_log *log, const char *path,
		     bool make_dirs);
/* Give up a sink that no stream uses any more. The logger closes the file. */
void logbook_sink_drop(struct logbook *lb, uint32_t sink);
/* Give up all sinks that no stream uses: after a reload, after a group is gone. */
void logbook_sinks_sweep(struct logbook *lb);

/* Tell where a stream goes. Call it before the pipe is put into the keeper's store, and again for
 * live changes of sink (what is not written yet then goes to the new one). label: "web:3". */
int logbook_stream_set(struct logbook *lb, uint32_t stream, uint32_t sink, const char *label,
		       uint32_t flags);
/* The slot is gone. Drain it first; the pipe is dropped from the keeper's store afterwards. The
 * row may be set again at once; totals go on from where they were. */
void logbook_stream_clear(struct logbook *lb, uint32_t stream);

/* Ask that what the pipe holds at the moment the logger sees this is read and given to the sink;
 * end_of_life: an unfinished last line is ended. Returns the number of the request. A sink that
 * fails does not hold it up for more than a second. The logger rings the manager when done. */
uint32_t logbook_drain(struct logbook *lb, uint32_t stream, bool end_of_life);
bool logbook_drained(const struct logbook *lb, uint32_t stream, uint32_t request);

struct logbook_counters {
	uint64_t in, written, dropped; /* in = written + dropped + what waits in the ring */
};
/* Since the stream had this total and had dropped so much; 0, 0: since it was made. */
void logbook_counters(const struct logbook *lb, uint32_t stream, uint64_t from_total,
		      uint64_t from_dropped, struct logbook_counters *ret);
/* Total of a stream now: log_mark of a life that is born. */
uint64_t logbook_total(const struct logbook *lb, uint32_t stream);

/* Copy the last whole lines read since from_total (at most size - 1 bytes; a longer last line is
 * cut at its front), NUL-terminated. Bytes as the worker wrote them. Returns the length. */
size_t logbook_tail(const struct logbook *lb, uint32_t stream, uint64_t from_total, char *buf,
		    size_t size);

/* Why a sink takes no data: "writing /var/log/x.log: No space left on device, 8192 bytes dropped".
 * False if it is well. */
bool logbook_sink_trouble(const struct logbook *lb, uint32_t sink, char *buf, size_t size);

/* ---- both: the ring as data ---- */

/* Oldest total that is still in the ring. */
uint64_t logbook_oldest(const struct logbook *lb, uint32_t stream);
/* Copy bytes from total `from` on; less than size only if there are no more. Returns the count, or
 * -ESTALE if `from` is no longer there (also if it was overwritten during the copy). */
ssize_t logbook_copy(const struct logbook *lb, uint32_t stream, uint64_t from, char *buf,
		     size_t size);

/* ---- logger ---- */
/* A row number with news (a sink's has LOGBOOK_NEWS_SINK), LOGBOOK_NONE when there is none;
 * *ret_scan is set when rows were lost and everything must be looked at. */
uint32_t logbook_news_take(struct logbook *lb, bool *ret_scan);

/*
 * ---- `logs`: handing a client to the logger ----
 *
 * One SOCK_SEQPACKET message on RF_LOGS_OUT: JSON text (at most LOGBOOK_LOGS_MAX bytes, no NUL)
 * and one fd, the client's connection. The logger owns the connection from then on: it writes
 * replies of org.reeve.Control.Logs and closes it. The manager has checked rights, resolved the
 * targets and answered nothing. What the client had sent beyond its call is not looked at.
 *
 *   { "streams": [[slot_row, out, err], …]   slot rows with 0/1 for each wanted stream; empty: none
 *     "all": true                            instead of streams: every stream in use
 *     "out": true, "err": true               which, with "all"
 *     "lines": 10                            last lines of history; absent: 10, or all with since
 *     "since_us": 1769860800000000           only lines from then on (µs since the epoch); absent
 *     "after": "BORN;STREAM:TOTAL;…"         go on behind these places, without history; absent
 *     "follow": false }
 *
 * Replies: {"parameters":{"lines":[LogLine…]},"continues":true}, at most 64 KiB of lines each; with
 * "lost_bytes":N where lines could not be had. With follow each line that was not history has its
 * "place", and "places" tells those of all streams when the history is over, and of each new one.
 * The last one, without "continues", has no lines. A client that reads nothing for 30 s while data
 * waits is closed.
 */
#define LOGBOOK_LOGS_MAX (160u * 1024u)

#endif
