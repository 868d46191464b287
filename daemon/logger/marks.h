/*
 * The times of the lines that a stream's followers have not got yet: which totals were written to
 * the destination with which stamp. So a line has the same time for a follower as in the file, and
 * who comes back after a break can go on from the last time it saw.
 */
#ifndef REEVE_LOGGER_MARKS_H
#define REEVE_LOGGER_MARKS_H

#include <stdint.h>

#define MARKS 32

struct marks {
	uint32_t n;
	struct {
		uint64_t end; /* total behind the last byte */
		int64_t stamp_us;
	} at[MARKS]; /* oldest first */
};

/* Bytes up to `end` were written with this stamp. When there is no room the two oldest become one,
 * with the older stamp: a time may come out too early, never too late. */
void marks_add(struct marks *m, uint64_t end, int64_t stamp_us);
/* The stamp of the byte at total `at`; 0 if it is not known. */
int64_t marks_find(const struct marks *m, uint64_t at);

#endif
