/*
 * The manager's life: map what the keeper hands over, adopt everything in it, loop. There is no
 * other start: the first manager finds an empty ledger, a successor a full one.
 */
#include "manager/main.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mem.h"
#include "ledger/leftovers.h"
#include "manager/control.h"
#include "manager/gauge.h"
#include "manager/notify.h"
#include "manager/sockets.h"
#include "manager/spawn.h"
#include "manager/template.h"
#include "manager/threads.h"
#include "manager/tree.h"
#include "manager/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FLIGHT_MAX_MS 5000 /* a start counts against the start budget no longer */
#define CONF_MAX      (64u << 20)

/* Lives with news from the keeper. */
static void take_news(struct manager *m)
{
	struct ledger_header *h = m->ledger.h;
	bool scan = false;
	uint32_t row;

	FAIL_HERE(NEWS_BELL);
	bell_clear(m->bell);
	FAIL_HERE(NEWS_TAKE);
	m->late_until_ms = MAX_OF(m->late_until_ms, (int64_t)h->late_until_ms);
	while ((row = ledger_ring_take(&h->to_manager, &scan)) != LEDGER_NONE)
		life_look(m, row);
	for (uint32_t i = 0; scan && i < h->lives_high; i++)
		life_look(m, i);
	trees_news(m);
	exits_drained(m);
	if (h->reopens_asked != h->reopens_done || h->reloads_asked != h->reloads_done)
		control_check(m);
	if (h->reopens_done != h->reopens_asked && h->log_to[0] == '/')
		log_open(h->log_to); /* our own messages; the files of workers are the logger's */
	FAIL_HERE(REOPEN_DONE);
	h->reopens_done = h->reopens_asked;
	if (h->reloads_asked != h->reloads_done || h->phase != h->phase_ack)
		m->changed = true;
}

static void bell_rang(struct ev_loop *loop, ev_io *io, int events)
{
	take_news(io->data);
}

/* States that no event of ours is bound to announce the end of. */
static bool needs_tick(const struct manager *m)
{
	for (int i = 0; i < WS_COUNT; i++)
		if (m->in_state[i] && i != WS_STOPPED && i != WS_READY && i != WS_DONE &&
		    i != WS_QUARANTINED && i != WS_BACKOFF)
			return true;
	return m->drains > 0 || m->renewing;
}

/* A start that takes long must not keep other groups waiting. */
static void free_budget(struct manager *m)
{
	int64_t now = clock_mono_ms();

	for (uint32_t i = 0; m->starts_in_flight && i < m->ledger.h->slots_high; i++)
		if (m->by_slot[i] && m->by_slot[i]->in_flight &&
		    now - m->by_slot[i]->slot->w.started_ms >= FLIGHT_MAX_MS)
			worker_landed(m->by_slot[i]);
}

/* A worker that does not end when it is asked to may be frozen: no handler runs there (SH11). Not
 * before it has had a second, a look costs as much as a stop. */
static void thaw_stopping(struct manager *m)
{
	for (uint32_t i = 0; m->in_state[WS_STOPPING] && i < m->ledger.h->slots_high; i++)
		if (m->by_slot[i] && m->by_slot[i]->slot->w.state == WS_STOPPING &&
		    worker_life_row(m->by_slot[i]) != LEDGER_NONE)
			tree_thaw(m, worker_life_row(m->by_slot[i]));
}

/* Level-triggered: what an event should have told is found here, a second later (RS08). */
static void ticked(struct ev_loop *loop, ev_timer *t, int events)
{
	struct manager *m = t->data;

	for (uint32_t i = 0; i < m->ledger.h->lives_high; i++)
		life_look(m, i);
	for (uint32_t i = 0; i < m->ledger.h->slots_high; i++)
		if (m->by_slot[i])
			worker_reconcile(m->by_slot[i]);
	thaw_stopping(m);
	exits_drained(m);
	free_budget(m);
	m->changed = true;
}

/* Not before: a process that wakes up takes the processor from the start that is being made. */
static void tell_logger(struct manager *m)
{
	if (m->logger_news)
		bell_ring(m->bell_logger);
	m->logger_news = false;
}

/* Before the loop sleeps: run everything to completion. */
static void turn(struct ev_loop *loop, ev_prepare *p, int events)
{
	struct manager *m = p->data;

	do {
		event_look(m);
		workers_drain(m);
		if (m->changed) {
			templates_step(m);
			threads_step(m);
			sharing_step(m);
		}
		admit_run(m);
		if (m->changed)
			spares_step(m); /* starts that are due come first */
		reload_step(m);
		command_step(m);
		shutdown_step(m);
		if (m->changed)
			control_wake(m);
		m->changed = false;
	} while (m->inputs_head);
	groups_prune(m);
	tell_logger(m);
	if (m->starts_more)
		ev_feed_event(m->loop, &m->bell_io, EV_READ); /* another turn at once */
	if (needs_tick(m) && !ev_is_active(&m->tick))
		ev_timer_again(m->loop, &m->tick);
	else if (!needs_tick(m) && ev_is_active(&m->tick))
		ev_timer_stop(m->loop, &m->tick);
	FAIL_HERE(TURN_END);
	m->ledger.h->turns++;
	pause_sleep(m);
}

static int load_conf(struct manager *m, struct diag *d)
{
	int fd = role_fds_get(m->fds, RF_CONF);
	auto_free char *text = NULL;
	size_t len;
	int r;

	if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return diag_set(d, -EBADF, "no configuration was handed over");
	r = fd_read_all(fd, CONF_MAX, &text, &len);
	if (r < 0)
		return diag_set(d, r, "reading the configuration: %s", strerror(-r));
	return conf_from_json(text, len, &m->conf, d);
}

static int map_shared(struct manager *m, struct diag *d)
{
	int r = ledger_open(role_fds_get(m->fds, RF_LEDGER), &m->ledger, d);

	if (r == 0)
		r = logbook_open(role_fds_get(m->fds, RF_LOGBOOK), &m->book, d);
	m->store = role_fds_get(m->fds, RF_STORE);
	if (r == 0)
		m->pipes_put = m->ledger.h->pipes_seen; /* all that a predecessor sent is seen */
	m->bell = role_fds_get(m->fds, RF_BELL_MANAGER);
	m->bell_keeper = role_fds_get(m->fds, RF_BELL_KEEPER);
	m->bell_logger = role_fds_get(m->fds, RF_BELL_LOGGER);
	m->logs_out = role_fds_get(m->fds, RF_LOGS_OUT);
	if (r == 0)
		r = command_load(m, d);
	m->logger_news = true; /* a predecessor may have died before it rang */
	return r;
}

/* Notify sockets belong to lives that are still there; others are dropped. */
static void adopt_notify(struct manager *m)
{
	for (uint32_t i = 0; i < m->fds->n; i++) {
		const struct role_fd *f = &m->fds->rows[i];
		struct ledger_life *life;
		struct worker *w;

		if (f->kind != RF_NOTIFY || f->index >= LEDGER_ROWS)
			continue;
		life = ledger_life(&m->ledger, f->index);
		w = life->use == LIFE_MADE && life->kind == LIFE_WORKER ? m->by_slot[life->slot]
									: NULL;
		if (w && w->slot->life[0] == f->index && life->incarnation == f->aux) {
			notify_adopt(w, f->index, f->fd);
		} else {
			close(f->fd);
			store_drop(m->store, RF_NOTIFY, f->index, f->name);
		}
	}
}

/* Rows that a predecessor took and did not bind to a worker. Its helpers are of no use any more. */
static void clear_lives(struct manager *m)
{
	for (uint32_t i = 0; i < m->ledger.h->lives_high; i++) {
		struct ledger_life *life = ledger_life(&m->ledger, i);
		struct worker *w;

		if (life->use == LIFE_FREE)
			continue;
		w = life->kind != LIFE_HELPER ? m->by_slot[life->slot] : NULL;
		if (w && (w->slot->life[0] == i || w->slot->life[1] == i))
			continue;
		if (ledger_life_live(&m->ledger, i))
			ledger_ask_kill(&m->ledger, i, SIGKILL, CONF_TO_MAIN);
		else
			ledger_free_life(&m->ledger, i);
	}
}

/* Records whose last words were on their way when a predecessor died. */
static void resume_drains(struct manager *m)
{
	for (uint32_t i = 0; i < m->ledger.h->slots_high; i++) {
		struct worker *w = m->by_slot[i];
		const struct exit_record *rec;

		if (!w || w->slot->exits == 0)
			continue;
		rec = &ledger_exits(&m->ledger, i)->records[(w->slot->exits - 1) % EXITS_KEPT];
		if (rec->valid == EXIT_WRITTEN && rec->drain) {
			w->draining = true;
			m->drains++;
		}
	}
}

static void adopt_lives(struct manager *m)
{
	clear_lives(m);
	adopt_notify(m);
	templates_adopt(m);
	resume_drains(m);
	for (uint32_t i = 0; i < m->ledger.h->slots_high; i++)
		if (m->by_slot[i])
			worker_resume(m->by_slot[i]);
	for (uint32_t i = 0; i < m->ledger.h->lives_high; i++)
		life_look(m, i);
	bell_ring(m->bell_keeper);
}

/* The keeper never writes to its end of the store socket: it is readable when the keeper is gone,
 * killed without a word. What it would have ended is ended here. */
static void keeper_gone(struct ev_loop *loop, ev_io *io, int events)
{
	struct manager *m = io->data;

	log_error("the keeper is gone: ending every worker");
	leftovers_mourn(&m->ledger);
	command_mourn(m);
	_exit(EXIT_FAILURE);
}

static void init_loop(struct manager *m)
{
	ev_io_init(&m->keeper_io, keeper_gone, m->store, EV_READ);
	m->keeper_io.data = m;
	ev_io_start(m->loop, &m->keeper_io);
	ev_io_init(&m->bell_io, bell_rang, m->bell, EV_READ);
	m->bell_io.data = m;
	ev_io_start(m->loop, &m->bell_io);
	ev_init(&m->tick, ticked);
	m->tick.repeat = MANAGER_TICK_MS / 1000.0;
	m->tick.data = m;
	ev_prepare_init(&m->turn, turn);
	m->turn.data = m;
	ev_prepare_start(m->loop, &m->turn);
	pause_init(m);
}

static int init(struct manager *m, const char *fds_arg, struct diag *d)
{
	int r = role_fds_load(fds_arg, &m->fds);

	if (r < 0)
		return diag_set(d, r, "reading the table of descriptors: %s", strerror(-r));
	m->inputs_tail = &m->inputs_head;
	m->starts_tail = &m->starts_head;
	m->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
	m->by_slot = calloc(LEDGER_ROWS, sizeof(*m->by_slot));
	if (!m->loop || !m->by_slot)
		return diag_set(d, -ENOMEM, "starting the loop");
	r = map_shared(m, d);
	if (r == 0)
		r = load_conf(m, d);
	if (r < 0)
		return r;
	FAIL_HERE(INIT_MAPPED);
	m->renewing = true;
	m->changed = true;
	event_look(m); /* what happened between a predecessor and us comes before what we do */
	reload_configured(m);
	init_loop(m);
	if ((r = shutdown_init(m)) < 0 || (r = trees_init(m)) < 0 || (r = spawn_init(m)) < 0 ||
	    (r = sockets_init(m)) < 0 || (r = groups_build(m)) < 0)
		return diag_set(d, r, "setting up: %s", strerror(-r));
	FAIL_HERE(INIT_BUILT);
	adopt_lives(m);
	FAIL_HERE(INIT_ADOPTED);
	r = FAIL_ERR(INIT_CONTROL);
	if (r == 0)
		r = control_init(m);
	return r < 0 ? diag_set(d, r, "control socket: %s", strerror(-r)) : 0;
}

/* argv[2…4]: level, destination, "forced" if the level was given by an option. */
static void take_options(struct manager *m, int argc, char **argv)
{
	for (int level = 0; argc > 2 && level <= LOG_LEVEL_DEBUG; level++)
		if (strcmp(argv[2], conf_word(CONF_WORDS_LEVEL, level)) == 0)
			log_set_level((enum log_level)level);
	if (argc > 3)
		log_open(argv[3]);
	if (m)
		m->level_by_option = argc > 4;
}

/* Everything hangs on it until the process ends: what a leak checker still finds is a leak. */
static struct manager *root;

int manager_main(int argc, char **argv)
{
	struct manager *m = root = calloc(1, sizeof(*m));
	struct diag d = { 0 };

	log_init(ROLE_MANAGER, LOG_LEVEL_INFO);
	take_options(m, argc, argv);
	if (!m || argc < 2) {
		log_error("not meant to be started by hand");
		return 2;
	}
	if (init(m, argv[1], &d) < 0) {
		log_error("%s", d.text);
		return 1;
	}
	ev_run(m->loop, 0);
	workers_drain(m);
	control_fini(m); /* whoever waits for an answer sees the end, not a hang */
	sharing_fini(m);
	gauge_fini(m);
	reload_fini(m);
	return 0;
}
