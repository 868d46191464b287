/* How a packet of the channel is laid out; for the two halves of the codec only. */
#ifndef REEVE_LIB_CHANNEL_LAYOUT_H
#define REEVE_LIB_CHANNEL_LAYOUT_H

#include "lib/channel.h"

#define HEADER_BYTES 16
#define RECORD_BYTES 8
#define OPTIONAL     1u

struct header {
	uint16_t type, flags;
	uint32_t bytes, request, zero;
};

struct record_header {
	uint16_t tag, flags;
	uint32_t bytes;
};

_Static_assert(sizeof(struct header) == HEADER_BYTES, "layout of the header");
_Static_assert(sizeof(struct record_header) == RECORD_BYTES, "layout of a record");
_Static_assert(sizeof(struct channel_limit) == 24, "layout of a limit");

/* Bytes that data takes in a packet. */
static inline size_t padded(size_t len)
{
	return (len + 7) & ~(size_t)7;
}

#endif
