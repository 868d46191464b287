/*
 * The lines of one log file and of its rotated predecessors, from some point up to what the file
 * held when the history was begun. Read in steps, so that a long search delays nobody.
 */
#ifndef REEVE_LOGGER_HISTORY_H
#define REEVE_LOGGER_HISTORY_H

#include "ledger/logbook.h"

#include <stdbool.h>
#include <stdint.h>

/* A line as it stands in the file, without its newline. */
struct history_line {
	const char *at;	    /* NULL in a raw file */
	const char *worker; /* NULL in a raw file */
	size_t worker_len;
	bool err, partial;
	const char *text;
	size_t len;
};

enum history_phase { HISTORY_SEARCH, HISTORY_GIVE, HISTORY_DONE };

struct history {
	const struct logbook_sink *row;
	enum history_phase phase;
	int64_t wanted, found; /* lines; wanted < 0: all */
	char since[32];	       /* RFC 3339; "" = from the beginning */
	uint64_t rotations;    /* of the sink, when it was begun */
	uint64_t dev, ino;     /* of the newest file */
	uint64_t end;	       /* size of the newest file, when it was begun */
	int file;	       /* 0 = the newest, 1 = FILE.1 … */
	uint64_t pos;
	int fd; /* of that file; -1 = not open */
	uint64_t fd_size;
	char *block;
};

/* -errno if there is no file to be read. */
int history_begin(struct history *h, const struct logbook_sink *row, int64_t lines,
		  int64_t since_us);
void history_fini(struct history *h);

/* One step: a block is read. `wants` tells which lines count and are given; `give` gets them in
 * order, and returns false when it has enough for now (the line was taken). Returns true while
 * there is more to do. */
typedef bool history_wants(void *arg, const struct history_line *l);
typedef bool history_give(void *arg, const struct history_line *l);
bool history_step(struct history *h, history_wants *wants, history_give *give, void *arg);

/* Take a line of a text file apart; false if it does not look like one. */
bool history_parse(const char *line, size_t len, struct history_line *ret);

#endif
