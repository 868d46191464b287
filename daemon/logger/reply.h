/* Replies of org.reeve.Control.Logs as bytes (the schema is in lib/org.reeve.Control.varlink). */
#ifndef REEVE_LOGGER_REPLY_H
#define REEVE_LOGGER_REPLY_H

#include "base/str.h"

#include <stddef.h>
#include <stdint.h>

struct reply_line {
	const char *worker; /* not terminated */
	size_t worker_len;
	const char *at; /* RFC 3339; NULL = not known */
	size_t at_len;
	bool err, partial;
	bool is_member; /* text[0] is one, as record.h makes them */
	/* The text, in at most two pieces that follow each other. */
	const char *text[2];
	size_t len[2];
	/* Where it ends, for who goes on later; 0 = it has no place. */
	uint32_t stream;
	uint64_t end;
};

/* A reply is begun, gets any number of lines, and is ended (NUL included). */
void reply_begin(struct str *out);
void reply_add(struct str *out, const struct reply_line *l);
/* lost: bytes that could not be had, 0 = none. places: see places.c; "" = none. */
void reply_end(struct str *out, uint64_t lost, const char *places, bool continues);
void reply_failed(struct str *out, const char *text);

#endif
