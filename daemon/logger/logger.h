/*
 * The logger role: what its files share. One thread, one epoll loop, no locks. Memory that grows
 * with the number of workers is struct stream only.
 */
#ifndef REEVE_LOGGER_H
#define REEVE_LOGGER_H

#include "base/log.h"
#include "ledger/logbook.h"
#include "ledger/roles.h"
#include "logger/format.h"

#include <stdbool.h>
#include <stdint.h>

#define TURN_BYTES    (256u * 1024u) /* read of one stream before the next one has its turn */
#define PARK_BYTES    (8u * 1024u)   /* a ring that is at rest starts anew beyond this */
#define PIPE_WANTED   (1024 * 1024)  /* a pipe that is found full grows to this */
#define NAP_US	      1000	     /* after a short read */
#define OPEN_MAX      512u	     /* log files open at a time */
#define IDLE_CLOSE_MS 2000	     /* an idle file is closed, an idle ring trimmed */
#define STALL_MS      1000	     /* a destination that takes nothing so long has failed */
#define CHECK_MS      1000	     /* how often the name of an open file is looked up */

enum stream_bit {
	ST_READABLE = 1u,  /* the pipe may hold data */
	ST_RUNNING = 2u,   /* in the run queue */
	ST_WAITING = 4u,   /* in the queue of its sink */
	ST_BLOCKED = 8u,   /* the ring is full and the sink does not take data: not read */
	ST_PIPED = 16u,	   /* its pipe has come; the first life may end before (LG12) */
	ST_PIPE_MAX = 32u, /* the pipe is as large as it can be made */
	ST_DRAINING = 64u, /* a drain request is open */
	ST_LISTED = 128u,  /* in the list of those to be looked at when at rest */
	ST_HOT = 256u,	   /* always has data: looked at after each nap, not watched by epoll */
	ST_HOT_LISTED = 512u,
};

/* One per log pipe, by stream number. */
struct stream {
	int fd;		/* the pipe; -1 = none */
	uint32_t flags; /* enum stream_bit */
	uint32_t sink;	/* where its bytes go now; LOGBOOK_NONE */
	uint32_t run_next, wait_next, list_next, hot_next;
	uint32_t pipe_bytes; /* size of the pipe, as far as known */
	uint32_t nap_us;     /* how long the pipe can be left alone */
	uint64_t drain_to;   /* with ST_DRAINING: done when read so far */
	int64_t drain_ms, used_ms;
	uint32_t drain_request;
	struct marks *marks; /* while it is followed, else NULL */
	uint32_t heat;	     /* turns with much data in a row; with ST_HOT: turns without any */
};

/* One per sink row in use. */
struct sink {
	int fd;
	bool taken, regular, socket, polled;
	bool pollable;		       /* a full destination says when it takes data again */
	bool reopen;		       /* close before the next write */
	bool recovered;		       /* a predecessor's intent was looked at */
	uint32_t wait_head, wait_tail; /* streams that have bytes it did not take */
	uint32_t backoff_ms, list_next;
	bool listed;
	uint64_t dev, ino;
	int64_t used_ms, checked_ms, stall_ms, rotate_ms;
	struct log_limit warn;
};

struct client;
struct marks;

struct logger {
	struct logbook lb;
	int epoll;   /* pipes */
	int control; /* epoll of all else, itself in `epoll` */
	int bell, bell_manager, bell_keeper, store, logs;
	struct stream *rows[2]; /* by slot row: stdout, stderr */
	uint32_t n_rows[2];
	struct sink *sinks;
	uint32_t n_sinks, n_open;
	uint32_t run_head, run_tail; /* streams with work */
	uint32_t list_head;	     /* streams used lately */
	uint32_t hot_head, n_hot;    /* streams with ST_HOT */
	uint32_t sink_list;	     /* sinks that are open or failing */
	uint32_t std_busy;	     /* the sink that last had to stop inside a line on stdout */
	uint32_t draining;	     /* number of streams with an open request */
	int64_t now_ms;
	int64_t rest_ms; /* when streams are to be looked at again */
	int64_t finish_ms;
	bool ring_manager, worked;
	bool finishing;	 /* the keeper asked for the end */
	bool orphan;	 /* the keeper is gone */
	uint32_t nap_us; /* how long the pipes read in this turn can be left alone; 0 = go on */
	uint32_t reopens;
	char *scratch; /* FORMAT_SCRATCH */
	struct client *clients;
	uint32_t n_clients, client_id;
};

/* ---- stream.c ---- */
/* The row of a stream, or NULL. */
struct stream *stream_get(const struct logger *lg, uint32_t stream);
/* As above, made if need be; NULL without memory. */
struct stream *stream_make(struct logger *lg, uint32_t stream);
void stream_put_fd(struct logger *lg, uint32_t stream, int fd);
void stream_drop_fd(struct logger *lg, uint32_t stream);
/* Look at what the manager says of it. */
void stream_news(struct logger *lg, uint32_t stream);
void stream_push_run(struct logger *lg, uint32_t stream);
/* Hot streams have work without being announced. */
void stream_push_hot(struct logger *lg);
/* Each stream of the run queue has one turn. */
void stream_run_all(struct logger *lg);
/* The daemon ends: drain all pipes, end unfinished lines. */
void stream_finish(struct logger *lg);
/* Give memory of streams at rest back; returns when to look again (monotonic ms), or INT64_MAX. */
int64_t stream_rest(struct logger *lg);

/* ---- sink.c ---- */
struct sink *sink_get(const struct logger *lg, uint32_t sink);
void sink_news(struct logger *lg, uint32_t sink);
/* Write what the stream has for its sink. 0 = nothing more to write now; 1 = go on later; -EAGAIN:
 * the stream waits in the sink's queue. */
int sink_serve(struct logger *lg, uint32_t stream);
/* True if the sink has refused data long enough that bytes may be dropped. */
bool sink_gives_up(const struct logger *lg, uint32_t sink);
/* The destination takes data again, perhaps. */
void sink_wake(struct logger *lg, uint32_t sink);
/* Its descriptor takes data again. */
void sink_event(struct logger *lg, uint32_t sink);
/* A logger hung in it: leave it alone for a while, longer each time. */
void sink_quarantine(struct logger *lg, uint32_t sink);
/* Take over what a predecessor left. */
void sink_start(struct logger *lg);
/* Retries, stalls, idle files; returns when to look again. */
int64_t sink_rest(struct logger *lg);
void sink_reopen_all(struct logger *lg);
/* Bytes of the stream are about to be dropped up to `to`: a write of them under way is given up. */
void sink_forget(struct logger *lg, uint32_t stream, uint64_t to);

/* ---- guard.c: the keeper's watch over calls that may hang ---- */
void guard_begin(struct logger *lg, uint32_t sink);
void guard_end(struct logger *lg);

/* ---- client.c: connections of `logs` ---- */
void client_accept(struct logger *lg);
void client_event(struct logger *lg, uint32_t id, uint32_t events);
/* Give clients what has come; each gets a bounded turn. */
void client_pump(struct logger *lg);
/* When to look again; now_ms if somebody has work. */
int64_t client_rest(struct logger *lg);
/* A stream is new; a stream is gone. */
void client_stream_new(struct logger *lg, uint32_t stream);
void client_stream_gone(struct logger *lg, uint32_t stream);
/* Its bytes up to `end` were written with this stamp. */
void client_note(struct logger *lg, uint32_t stream, uint64_t end, int64_t stamp_us);
void client_fini(struct logger *lg);

/* epoll data: what kind of thing, which one. */
enum watch_kind {
	WATCH_CONTROL,
	WATCH_BELL,
	WATCH_STORE,
	WATCH_LOGS,
	WATCH_STREAM,
	WATCH_SINK,
	WATCH_CLIENT
};
static inline uint64_t watch_data(enum watch_kind kind, uint32_t n)
{
	return (uint64_t)kind << 32 | n;
}

int logger_main(int argc, char **argv);

#endif
