/*
 * Owns the ring of events in the ledger: numbered without gaps, overwritten from the oldest. What
 * the keeper does is told when the ledger shows it (event_look). A manager that dies between an
 * event and the note that it was told leaves it as the last one of the ring: there it is found.
 */
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "base/names.h"
#include "manager/manager.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* All of it but number and time, as it is to be. */
static void put(struct manager *m, const struct ledger_event *event)
{
	struct ledger_header *h = m->ledger.h;
	uint64_t seq = h->event_seq + 1;
	struct ledger_event *e = ledger_event(&m->ledger, seq);

	e->seq = 0;
	FAIL_HERE(EVENT_BEGUN);
	e->at_real_us = clock_real_us();
	e->incarnation = event->incarnation;
	e->from = event->from;
	e->to = event->to;
	e->cause = event->cause;
	e->kind = event->kind;
	memcpy(e->worker, event->worker, sizeof(e->worker));
	FAIL_HERE(EVENT_FILLED);
	e->seq = seq;
	FAIL_HERE(EVENT_NUMBERED);
	h->event_seq = seq;
	FAIL_HERE(EVENT_COUNTED);
	m->changed = true;
}

void event_write(struct manager *m, const struct worker *w, enum worker_status from,
		 enum worker_status to, enum exit_cause cause)
{
	struct ledger_event e = { .incarnation = w->slot->w.incarnation,
				  .from = (uint8_t)from,
				  .to = (uint8_t)to,
				  .cause = (uint8_t)cause,
				  .kind = EVENT_WORKER };

	snprintf(e.worker, sizeof(e.worker), "%s", w->name);
	put(m, &e);
}

void event_daemon(struct manager *m, enum daemon_event what, const char *format, ...)
{
	struct ledger_event e = { .cause = (uint8_t)what, .kind = EVENT_DAEMON };
	va_list ap;

	va_start(ap, format);
	vsnprintf(e.worker, sizeof(e.worker), format, ap);
	va_end(ap);
	put(m, &e);
}

/* A predecessor wrote it, and died before it could note that. */
static bool is_last(const struct manager *m, const struct ledger_event *e)
{
	const struct ledger_event *last = ledger_event(&m->ledger, m->ledger.h->event_seq);

	return m->ledger.h->event_seq > 0 && last->kind == e->kind && last->cause == e->cause &&
	       last->from == e->from && last->to == e->to && last->incarnation == e->incarnation;
}

static void put_once(struct manager *m, const struct ledger_event *e)
{
	if (!is_last(m, e))
		put(m, e);
}

static void look_at_phase(struct manager *m)
{
	struct ledger_header *h = m->ledger.h;
	uint32_t phase = h->phase, told = h->phase_told;

	if (phase == told)
		return;
	put_once(m, &(struct ledger_event){ .from = (uint8_t)told,
					    .to = (uint8_t)phase,
					    .cause = DAEMON_PHASE,
					    .kind = EVENT_DAEMON });
	h->phase_told = phase;
}

static void look_at_role(struct manager *m, uint32_t i, const char *name)
{
	struct ledger_header *h = m->ledger.h;
	const struct ledger_role_end *end = &h->role_ends[i];
	struct ledger_event e = { .incarnation = end->count,
				  .from = (uint8_t)i,
				  .cause = DAEMON_ROLE_ENDED,
				  .kind = EVENT_DAEMON };
	char word[12];

	if (e.incarnation == h->role_ends_told[i])
		return;
	if (end->how == CLD_EXITED)
		snprintf(e.worker, sizeof(e.worker), "%s, exit code %d", name, end->status);
	else
		snprintf(e.worker, sizeof(e.worker), "%s, signal %s", name,
			 signal_to_name(end->status, word));
	put_once(m, &e);
	h->role_ends_told[i] = e.incarnation;
}

void event_look(struct manager *m)
{
	look_at_role(m, LEDGER_MANAGER, ROLE_MANAGER);
	look_at_role(m, LEDGER_LOGGER, ROLE_LOGGER);
	look_at_phase(m);
}

bool event_is_last(const struct manager *m, const struct worker *w, enum worker_status to)
{
	uint64_t last = m->ledger.h->event_seq,
		 oldest = MAX_OF(last, LEDGER_EVENTS) - LEDGER_EVENTS;
	const struct ledger_event *e;

	while (last > oldest && ledger_event(&m->ledger, last)->kind == EVENT_DAEMON)
		last--;
	e = ledger_event(&m->ledger, last);
	return last > oldest && e->to == to && e->incarnation == w->slot->w.incarnation &&
	       strcmp(e->worker, w->name) == 0;
}
