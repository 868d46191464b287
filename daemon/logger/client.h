/* One `logs` connection, as client.c, request.c and tail.c share it. */
#ifndef REEVE_LOGGER_CLIENT_H
#define REEVE_LOGGER_CLIENT_H

#include "base/str.h"
#include "logger/logger.h"
#include "logger/merge.h"
#include "logger/reply.h"

#define CLIENT_OUT (64u * 1024u) /* bytes that wait for the client; no more is made beyond */

/* Where a client is in a stream's ring. */
struct tail {
	uint32_t stream;
	uint64_t cursor;     /* total given so far */
	uint64_t history_to; /* below: of an unknown time */
	int64_t when_us;     /* of the line at the cursor; 0 = unknown */
};

enum client_phase { CLIENT_BEGIN, CLIENT_FILES, CLIENT_TAILS, CLIENT_END };

struct client {
	struct client *next;
	uint32_t id;
	int fd;
	bool gone;	 /* to be freed */
	bool has_more;	 /* there is work, without waiting for anything */
	size_t read_off; /* bytes it sent that nobody asked for */
	/* what it wants */
	bool all, out_on, err_on, follow;
	int64_t lines, since_us; /* lines < 0: all */
	struct tail *tails;
	uint32_t n_tails, room_tails, turn_tail;
	uint32_t *order;  /* room for the number of each tail */
	uint32_t *wanted; /* named streams, also those that are not in use yet */
	uint32_t n_wanted;
	uint64_t *labels; /* hashes, sorted: which lines of a shared file are wanted */
	uint32_t n_labels;
	uint32_t *sinks; /* of its streams, each once */
	uint32_t n_sinks, at_sink;
	/* where it is */
	enum client_phase phase;
	struct merge merge;		   /* of the sinks that can be read back */
	char (*raw_labels)[LOGBOOK_LABEL]; /* by sink: worker of lines that do not say it */
	/* what waits to be sent */
	struct str out;
	bool in_reply;	   /* `out` ends inside a reply */
	struct str places; /* to be told with the next reply */
	uint64_t lost;	   /* to be told with the next reply */
	int64_t moved_ms;  /* when it last took data, or had none to take */
	int64_t now_us;	   /* time of lines that were not written yet */
	char stamp[32];	   /* of stamp_us */
	int64_t stamp_us;
};

/* request.c: parse what the manager sent. -EINVAL, -ENOMEM. */
int request_parse(struct logger *lg, struct client *c, const char *text, size_t len);
int request_add_tail(struct client *c, uint32_t stream);
uint64_t request_label_hash(const char *label, size_t len, bool err);

/* tail.c: lines from rings. */
/* Begin at the last `lines` lines of the ring. */
void tail_rewind(const struct logger *lg, struct tail *t, int64_t lines);
/* Give lines of all tails, the oldest first, until there is enough; true if there are more now. */
bool tail_give(struct logger *lg, struct client *c);

/* places.c: how far each stream was given, as text that the client brings back after a break:
 * "BORN;STREAM:TOTAL;…", BORN of the log book. */
void places_tell_all(struct logger *lg, struct client *c);
void places_tell(struct client *c, const struct tail *t);
/* Go on behind them instead of giving history. */
void places_take(struct logger *lg, struct client *c, const char *text);

/* client.c */
/* Add a line to the replies; false when enough waits to be sent. */
bool client_add(struct client *c, const struct reply_line *l);

#endif
