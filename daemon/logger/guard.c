/*
 * Owns the notes by which the keeper judges whether this process hangs in a system call. The
 * keeper's timer runs only while something is under way: no wake-ups at rest.
 */
#include "logger/logger.h"

#include "base/clock.h"

void guard_begin(struct logger *lg, uint32_t sink)
{
	struct logbook_header *h = lg->lb.h;

	atomic_store_explicit(&h->write_sink, sink, memory_order_relaxed);
	atomic_store(&h->write_began_ms, clock_mono_ms());
	/* The keeper clears `watching`, then looks at write_began_ms: one of us sees the other. */
	if (!atomic_load(&h->watching) && !atomic_exchange(&h->watch_asked, 1))
		bell_ring(lg->bell_keeper);
}

void guard_end(struct logger *lg)
{
	atomic_store(&lg->lb.h->write_began_ms, 0);
}
