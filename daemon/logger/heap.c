/* Owns nothing. Invariant: no number comes before its parent, at[(i - 1) / 2]. */
#include "logger/heap.h"

static void swap(struct heap *h, uint32_t i, uint32_t j)
{
	uint32_t t = h->at[i];

	h->at[i] = h->at[j];
	h->at[j] = t;
}

void heap_push(struct heap *h, uint32_t number)
{
	uint32_t i = h->n++;

	h->at[i] = number;
	while (i > 0 && h->before(h->arg, h->at[i], h->at[(i - 1) / 2])) {
		swap(h, i, (i - 1) / 2);
		i = (i - 1) / 2;
	}
}

void heap_settle(struct heap *h)
{
	for (uint32_t i = 0, least;; i = least) {
		least = i;
		for (uint32_t c = 2 * i + 1; c <= 2 * i + 2; c++) {
			if (c < h->n && h->before(h->arg, h->at[c], h->at[least]))
				least = c;
		}
		if (least == i)
			return;
		swap(h, i, least);
	}
}

void heap_pop(struct heap *h)
{
	h->at[0] = h->at[--h->n];
	heap_settle(h);
}
