/* The logger's side of a stream's ring: filling, consuming, dropping. */
#ifndef REEVE_LOGGER_RING_H
#define REEVE_LOGGER_RING_H

#include "ledger/logbook.h"
#include "logger/format.h"

#include <sys/types.h>

/* Make the row's ring usable, and finish what a predecessor was doing in it. */
void ring_attach(const struct logbook *lb, uint32_t stream);

uint64_t ring_total(const struct logbook *lb, uint32_t stream);
/* Bytes that still fit into the half being filled. */
size_t ring_room(const struct logbook *lb, uint32_t stream);
/* Bytes in the half being filled. */
size_t ring_used(const struct logbook *lb, uint32_t stream);
/* Start filling the other half; false while it holds bytes that are not consumed. */
bool ring_turn(const struct logbook *lb, uint32_t stream);
/* Move at most max bytes (not above ring_room) from the pipe. Returns the count, -EAGAIN if the
 * pipe is empty, -errno. */
ssize_t ring_fill(const struct logbook *lb, uint32_t stream, int pipe, size_t max);

/* The bytes between two totals that are in the ring. */
void ring_span(const struct logbook *lb, uint32_t stream, uint64_t from, uint64_t to,
	       struct span *ret);
/* Give up what is not consumed in the half not being filled, up to a line end. Returns the number
 * of bytes dropped. */
uint64_t ring_drop_old(const struct logbook *lb, uint32_t stream);
/* Give up all that is not consumed up to `to`. */
uint64_t ring_drop_to(const struct logbook *lb, uint32_t stream, uint64_t to);
/* Where all is consumed: keep the newest bytes only, give the other memory back. `small`: few of
 * them (LOGBOOK_REST), in memory shared with other streams. */
void ring_trim(const struct logbook *lb, uint32_t stream, bool small);

#endif
