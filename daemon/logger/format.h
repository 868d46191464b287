/* What a batch of a stream's bytes looks like in its destination. Pure: no I/O, no clock. */
#ifndef REEVE_LOGGER_FORMAT_H
#define REEVE_LOGGER_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Kept in an intent: with them, the range, the label and the stamp a successor makes the same
 * bytes again. */
enum intent_flag {
	FORMAT_TEXT = 1u,  /* this, or json, or else raw */
	FORMAT_ERR = 2u,   /* from a separate stderr: "web:3!" */
	FORMAT_END = 4u,   /* the input's end is the end of a life: an unfinished line is ended */
	FORMAT_BREAK = 8u, /* the destination ends inside a line: a newline goes first */
	FORMAT_JSON = 16u, /* since 0.2.0 */
	/* Never in an intent: the input is what a batch took, so its last bytes, if they are no
	 * whole line, are a piece of one. */
	FORMAT_TAKEN = 32u,
};

/* Input: at most two pieces that follow each other. */
struct span {
	const char *data[2];
	size_t len[2];
};

/* A line, or a piece of one that is longer than LOGBOOK_LINE. */
struct unit {
	size_t text; /* bytes without the newline */
	size_t take; /* bytes of input */
	bool partial;
};
/* The one at offset `from`; false if it has no end yet (`end`: it has none and comes to none).
 * Long lines are cut between characters, so that both pieces are UTF-8 if the line is. */
bool format_unit(const struct span *in, size_t from, bool end, struct unit *ret);

struct format {
	struct span in;
	uint32_t flags; /* enum intent_flag */
	const char *label;
	uint64_t lost; /* "-- N bytes lost --" goes first; 0 = nothing was lost */
	int64_t stamp_us;
};

#define FORMAT_IOVS 4
/* Room for one line of LOGBOOK_LINE bytes with all that can stand around it, and much more. */
#define FORMAT_SCRATCH (512u * 1024u)

struct batch {
	size_t in_len; /* bytes of input it takes: whole lines, or pieces of over-long ones */
	size_t out_len;
	struct iovec iov[FORMAT_IOVS];
	int n_iov;
};

/*
 * Make the batch. limit: the output should not be longer, but with `force` one line is taken
 * whatever its length. scratch (FORMAT_SCRATCH bytes) is used by the batch until it is written.
 * A last line without newline is left for later, unless FORMAT_END is set or it is longer than
 * LOGBOOK_LINE. in_len is 0 if there is nothing to write or nothing fits.
 */
void format_batch(const struct format *f, size_t limit, bool force, char *scratch,
		  struct batch *ret);

/* Bytes of output before the first line: a newline, what was lost. */
size_t format_head_len(const struct format *f);

#endif
