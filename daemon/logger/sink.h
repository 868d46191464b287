/* A destination, as the files sink.c, write.c and rotate.c share it. */
#ifndef REEVE_LOGGER_SINK_H
#define REEVE_LOGGER_SINK_H

#include "logger/logger.h"
#include "logger/place.h"

#include <sys/stat.h>

/* sink.c */
void sink_place(const struct logbook_sink *row, struct place *ret);
/* Do its lines say when and by whom they were written? */
static inline bool sink_has_heads(const struct logbook_sink *row)
{
	return atomic_load(&row->format) != CONF_FORMAT_RAW;
}
/* Close the file; it is opened again by the next write. */
void sink_close(struct logger *lg, uint32_t sink);
/* It did not take data: remember why, say so, set the time of the next try. Returns err. */
int sink_fail(struct logger *lg, uint32_t sink, int err);
/* It took data. */
void sink_works(struct logger *lg, uint32_t sink);

/* write.c */
/* Write one batch of the stream. Returns the bytes of input taken, 0 if there is nothing to write,
 * -EAGAIN if the destination is full, -ESTALE if it must be opened again, -errno. */
ssize_t write_batch(struct logger *lg, uint32_t sink, uint32_t stream);
/* Bring the write that the row's intent tells of to its end. */
int write_resume(struct logger *lg, uint32_t sink);
/* Give the write under way up; its last line stays without an end. */
void write_abandon(struct logger *lg, uint32_t sink);

/* rotate.c: FILE -> FILE.1 -> FILE.2 … Nothing is renamed on top of a file that is to be kept. */
int rotate_names(const struct place *p, int keep);

#endif
