/* Owns the ring of events in the ledger: numbered without gaps, overwritten from the oldest. */
#include "base/clock.h"
#include "base/failpoint.h"
#include "manager/manager.h"

#include <stdio.h>

void event_write(struct manager *m, const struct worker *w, enum worker_status from,
		 enum worker_status to, enum exit_cause cause)
{
	struct ledger_header *h = m->ledger.h;
	uint64_t seq = h->event_seq + 1;
	struct ledger_event *e = ledger_event(&m->ledger, seq);

	e->seq = 0;
	FAIL_HERE(EVENT_BEGUN);
	e->at_real_us = clock_real_us();
	e->incarnation = w->slot->w.incarnation;
	e->from = (uint8_t)from;
	e->to = (uint8_t)to;
	e->cause = (uint8_t)cause;
	e->kind = 0;
	snprintf(e->worker, sizeof(e->worker), "%s", w->name);
	FAIL_HERE(EVENT_FILLED);
	e->seq = seq;
	FAIL_HERE(EVENT_NUMBERED);
	h->event_seq = seq;
	FAIL_HERE(EVENT_COUNTED);
}
