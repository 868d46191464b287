/*
 * The last lines of several logs as one: by time, in each log in the order of its file. Of those
 * that have times the last `lines` of them all are given, of a raw log its own last `lines`, first
 * (nobody knows their times). Made in bounded steps. Since 0.2.0.
 */
#ifndef REEVE_LOGGER_MERGE_H
#define REEVE_LOGGER_MERGE_H

#include "logger/heap.h"
#include "logger/history.h"

enum merge_phase { MERGE_SEARCH, MERGE_FILL, MERGE_GIVE, MERGE_DONE };

struct merge {
	enum merge_phase phase;
	struct history *logs;
	uint32_t *order;  /* memory of the heap */
	uint32_t n, at;	  /* searching, filling: the log that is next */
	struct heap heap; /* logs that have a line to give, the oldest first */
	bool stale;	  /* the first of the heap has to be looked at again */
	int64_t wanted, since_us;
	uint64_t found, skip; /* lines with times; how many of them are too many */
};

/* Room for n logs. -ENOMEM. lines < 0: all of them. */
int merge_init(struct merge *m, uint32_t n, int64_t lines, int64_t since_us);
/* Half-made and finished ones too. */
void merge_fini(struct merge *m);
/* The log with number i (< n) takes part; -errno if it cannot be read. Before the first step. */
int merge_open(struct merge *m, uint32_t i, const struct logbook_sink *row);
/* Gets the lines, with the number of their log; false when it has enough for now (the line was
 * taken). */
typedef bool merge_give(void *arg, uint32_t i, const struct history_line *l);
/* True while there is more to do. */
bool merge_step(struct merge *m, history_wants *wants, merge_give *give, void *arg);

#endif
