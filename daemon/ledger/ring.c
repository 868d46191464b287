/*
 * Rings of row numbers: one writer, one reader, both may die at any instruction. A row that does
 * not fit is not lost but turned into "look at everything".
 */
#include "ledger/ledger.h"

void ledger_ring_put(struct ledger_ring *r, uint32_t row)
{
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	if (head - atomic_load_explicit(&r->tail, memory_order_acquire) >= LEDGER_RING) {
		atomic_store_explicit(&r->overflow, 1, memory_order_release);
		return;
	}
	r->rows[head % LEDGER_RING] = row;
	atomic_store_explicit(&r->head, head + 1, memory_order_release);
}

uint32_t ledger_ring_take(struct ledger_ring *r, bool *ret_scan)
{
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed), row;

	if (atomic_load_explicit(&r->overflow, memory_order_relaxed) &&
	    atomic_exchange_explicit(&r->overflow, 0, memory_order_acq_rel))
		*ret_scan = true;
	if (tail == atomic_load_explicit(&r->head, memory_order_acquire))
		return LEDGER_NONE;
	row = r->rows[tail % LEDGER_RING];
	atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
	return row;
}
