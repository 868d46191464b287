/*
 * The lines of one log file and of its rotated predecessors, from some point up to what the file
 * held when the history was begun. Read in steps, so that a long search delays nobody.
 * First history_search() until it is false, then history_peek() and history_advance().
 */
#ifndef REEVE_LOGGER_HISTORY_H
#define REEVE_LOGGER_HISTORY_H

#include "ledger/logbook.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_STAMP 27 /* bytes of a time */

/* A line as it stands in the file, without its newline. */
struct history_line {
	const char *at;	    /* NULL in a raw file */
	const char *worker; /* NULL in a raw file */
	size_t worker_len;
	bool err, partial;
	bool is_member; /* the text is a member of a JSON object (record.h) */
	const char *text;
	size_t len;
};

enum history_phase { HISTORY_SEARCH, HISTORY_GIVE, HISTORY_DONE };

struct history {
	const struct logbook_sink *row;
	enum history_phase phase;
	bool keep_open;
	int64_t wanted, found; /* lines; wanted < 0: all */
	char since[32];	       /* RFC 3339; "" = from the beginning */
	char key[32];	       /* time of the line it stands at, or of the last that had one */
	uint64_t rotations;    /* of the sink, when it was begun */
	uint64_t end;	       /* size of the newest file, when it was begun */
	int file;	       /* 0 = the newest, 1 = FILE.1 … */
	uint64_t pos;	       /* where to read on; searching: downwards, giving: upwards */
	int fd;		       /* of that file; -1 = not open */
	uint64_t fd_size;
	char *block;		  /* room for `size` bytes */
	size_t size, share, most; /* share: of `size`, while lines are given; most: of it at all */
	size_t at, len, line_end; /* of the block, giving: the line, what was read, the next line */
};

/* -errno if there is no file to be read. share: bytes it should keep while lines are given (a
 * longer line takes more for a while); keep_open: else its file is opened for each reading. */
int history_begin(struct history *h, const struct logbook_sink *row, int64_t lines,
		  int64_t since_us, size_t share, bool keep_open);
void history_fini(struct history *h);

/* `wants` tells which lines count and are given. */
typedef bool history_wants(void *arg, const struct history_line *l);
/* Look for the place to begin, a block a step; true while there is more to do. */
bool history_search(struct history *h, history_wants *wants, void *arg);
/* The line it stands at, valid until the next call: 1; 0 at the end; -EAGAIN: a block was read, ask
 * again. */
int history_peek(struct history *h, history_wants *wants, void *arg, struct history_line *ret);
/* Go on behind that line. */
void history_advance(struct history *h);

/* Take a line of a text file apart; false if it does not look like one. */
bool history_parse(const char *line, size_t len, struct history_line *ret);

#endif
