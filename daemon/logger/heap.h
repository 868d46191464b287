/* Which of many comes next: a binary heap of numbers in the caller's memory. Since 0.2.0. */
#ifndef REEVE_LOGGER_HEAP_H
#define REEVE_LOGGER_HEAP_H

#include <stdbool.h>
#include <stdint.h>

/* True if a comes before b. */
typedef bool heap_before(const void *arg, uint32_t a, uint32_t b);

struct heap {
	uint32_t *at; /* at[0] comes first */
	uint32_t n;
	heap_before *before;
	const void *arg;
};

/* There must be room for it. */
void heap_push(struct heap *h, uint32_t number);
/* What at[0] stands for was changed. */
void heap_settle(struct heap *h);
void heap_pop(struct heap *h);

#endif
