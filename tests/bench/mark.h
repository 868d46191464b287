/*
 * What a worker of the bench tells the driver: one record per event, written into a FIFO in one
 * piece. The worker's own clock reading is in it, so the driver may sleep while a thousand workers
 * start and take nothing from the processor they start on.
 */
#ifndef REEVE_BENCH_MARK_H
#define REEVE_BENCH_MARK_H

#include <stdint.h>

enum mark_kind {
	MARK_UP,    /* first statement of main */
	MARK_BEGIN, /* a writer's gate has opened */
	MARK_END,   /* a writer has written everything */
};

struct mark {
	uint64_t at_ns; /* CLOCK_MONOTONIC */
	uint32_t pid;
	uint16_t index;
	uint16_t kind;
};

#endif
