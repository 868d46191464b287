/*
 * The keeper's loop: one epoll set, a table of clocks, and what each descriptor means.
 */
#include "keeper/keeper.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define EVENTS 16
/* A turn that comes this much later than it should: we did not run. */
#define LATE_MS 500

static const struct {
	int64_t (*due)(const struct keeper *k);
	void (*run)(struct keeper *k, int64_t now);
} clocks[] = {
	{ reap_due, reap_run },	  { roles_due, roles_run },   { shutdown_due, shutdown_run },
	{ watch_due, watch_run }, { notify_due, notify_run }, { upgrade_due, upgrade_run },
	{ run_due, run_run },
};

static int64_t next_due(const struct keeper *k)
{
	int64_t due = KEEPER_NEVER;

	for (size_t i = 0; i < ARRAY_LEN(clocks); i++)
		due = MIN_OF(due, clocks[i].due(k));
	return due;
}

/* daemon.log was changed by a reload: for us and for the roles started from now on. */
static void look_at_log(struct keeper *k)
{
	const struct ledger_header *h = k->ledger.h;
	uint32_t seq = atomic_load(&h->log_seq);
	char to[sizeof(h->log_to)];

	if (seq == k->log_seq)
		return;
	k->log_seq = seq;
	if (k->options->forced_level < 0 && h->log_level <= LOG_LEVEL_DEBUG) {
		log_set_level((enum log_level)h->log_level);
		snprintf(k->level_word, sizeof(k->level_word), "%s",
			 conf_word(CONF_WORDS_LEVEL, (int)h->log_level));
	}
	memcpy(to, h->log_to, sizeof(to));
	to[sizeof(to) - 1] = '\0';
	if (to[0] && strcmp(to, k->log_to) != 0 && log_open(to) == 0)
		snprintf(k->log_to, sizeof(k->log_to), "%s", to);
}

static void on_bell(struct keeper *k)
{
	bell_clear(k->bells[0]);
	look_at_log(k);
	kill_requests(k);
	run_look(k);
	shutdown_look(k);
	notify_look(k);
	upgrade_look(k);
}

static void serve(struct keeper *k, const struct epoll_event *e)
{
	if (k->done)
		return;
	if (e->data.fd == k->signals)
		signals_read(k);
	else if (e->data.fd == k->bells[0])
		on_bell(k);
	else if (e->data.fd == k->store_pair[0])
		store_receive(k);
	else if (e->data.fd == k->logger_store[0])
		store_flush(k);
	else
		k->control_armed = false; /* a client waits: the watch looks at it below */
}

static int wait_ms(int64_t due, int64_t now)
{
	if (due == KEEPER_NEVER)
		return -1;
	return due <= now ? 0 : (int)MIN_OF(due - now, (int64_t)3600000);
}

static void turn(struct keeper *k)
{
	struct epoll_event events[EVENTS];
	int64_t before = clock_mono_ms(), due = next_due(k), now;
	int n = epoll_wait(k->epoll, events, EVENTS, wait_ms(due, before));

	now = clock_mono_ms();
	if (due != KEEPER_NEVER && now - MAX_OF(due, before) > LATE_MS)
		watch_late(k, now);
	for (int i = 0; i < n; i++)
		serve(k, &events[i]);
	now = clock_mono_ms();
	for (size_t i = 0; i < ARRAY_LEN(clocks) && !k->done; i++) {
		if (clocks[i].due(k) <= now)
			clocks[i].run(k, now);
	}
	reap_tell(k);
	if (!k->done)
		watch_look(k);
}

void keeper_loop(struct keeper *k)
{
	while (!k->done)
		turn(k);
	log_info("reeved ended with code %d", k->exit_code);
}
