/*
 * Owns reload and plan: one loader helper at a time, its result compared with the configuration in
 * force, applied whole or not at all, then workers of older generations renewed one by one. The
 * commit point is the keeper taking the new canonical text; a successor goes on from there.
 */
#include "manager/worker.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mem.h"
#include "loader.h"
#include "manager/control.h"
#include "manager/sockets.h"
#include "manager/spawn.h"
#include "manager/template.h"
#include "manager/threads.h"
#include "manager/tree.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESULT_MAX (64u << 20)

struct reload_request {
	struct reload_request *next;
	const char *path; /* its own copy, once it is in the queue */
	bool apply;
	uint32_t hups; /* asked for by signal: so many are answered with it; 0 = not */
	reload_done_fn *done;
	void *arg;
};

struct reload {
	struct reload_request *head, **tail; /* head is being served while life != LEDGER_NONE */
	uint32_t life;
	int out_fd;
	ev_timer deadline;
	uint32_t hups_taken; /* reloads by signal that requests were made for */
};

static void serve(struct manager *m);

static struct reload *reload_of(struct manager *m)
{
	struct reload *rl = m->reload;

	if (rl)
		return rl;
	rl = m->reload = calloc(1, sizeof(*rl));
	if (!rl)
		return NULL;
	rl->tail = &rl->head;
	rl->life = LEDGER_NONE;
	rl->hups_taken = m->ledger.h->reloads_done;
	rl->out_fd = -1;
	ev_init(&rl->deadline, NULL);
	return rl;
}

/* The service manager is told that a reload is under way (a plan is none): RELOADING=1, later
 * READY=1. A predecessor may have died between the two. */
static void say_reloading(struct manager *m)
{
	bool on = false;

	for (struct reload_request *q = m->reload ? m->reload->head : NULL; q; q = q->next)
		on |= q->apply;
	if (on == (m->ledger.h->sd_reloading != 0))
		return;
	m->ledger.h->sd_reloading = on;
	m->ledger.h->sd_seq++;
	bell_ring(m->bell_keeper);
}

static void free_request(struct reload_request *q)
{
	free((char *)q->path);
	free(q);
}

static void pop(struct manager *m)
{
	struct reload *rl = m->reload;
	struct reload_request *q = rl->head;

	FAIL_HERE(RELOAD_ANSWERED);
	if (q->hups) /* not before: what a manager did not finish, its successor begins again */
		m->ledger.h->reloads_done = q->hups;
	rl->head = q->next;
	if (!rl->head)
		rl->tail = &rl->head;
	free_request(q);
}

/* Nothing was changed; r is why. */
static void say_failed(struct manager *m, const struct conf_report *r)
{
	const struct conf_problem *first = NULL;

	for (size_t i = 0; i < r->n && !first; i++)
		first = r->items[i].warning ? NULL : &r->items[i];
	event_daemon(m, DAEMON_RELOAD_FAILED, "%zu error%s%s%s", r->errors,
		     r->errors == 1 ? "" : "s", first ? ": " : "", first ? first->at.text : "");
}

/* One error that is not the file's. */
static void fail_head(struct manager *m, const char *why)
{
	struct conf_problem p = { 0 };
	struct conf_report report = { .items = &p, .n = 1, .errors = 1 };
	struct reload_request *q = m->reload->head;

	diag_set(&p.at, 0, "cannot load %s: %s", q->path, why);
	log_error("%s", p.at.text);
	if (q->apply)
		say_failed(m, &report);
	if (q->done)
		q->done(q->arg, &report, NULL, 0);
	pop(m);
}

static void deadline_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	struct manager *m = t->data;

	if (clock_mono_ms() < m->late_until_ms) { /* we did not run: perhaps it did not either */
		ev_timer_set(t, LOADER_DEADLINE_MS / 1000.0, 0.);
		ev_timer_start(loop, t);
		return;
	}
	log_error("reading the configuration took more than %d s, stopped",
		  LOADER_DEADLINE_MS / 1000);
	ledger_ask_kill(&m->ledger, m->reload->life, SIGKILL, CONF_TO_MAIN);
	bell_ring(m->bell_keeper);
}

static int start_loader(struct manager *m, struct reload_request *q, struct diag *d)
{
	struct reload *rl = m->reload;
	struct conf_load_options o = { .user = m->ledger.h->user_daemon,
				       .pid1 = m->ledger.h->pid1 };
	const char *argv[8];
	auto_fd out = fd_memfd("reeve-load", 0);
	uint32_t row;
	int r;

	if (out < 0)
		return diag_set(d, out, "making room for the result");
	row = ledger_take_life(&m->ledger, LIFE_HELPER, LEDGER_NONE);
	if (row == LEDGER_NONE)
		return diag_set(d, -EAGAIN, "finding a free row");
	FAIL_HERE(LOADER_ROW);
	ledger_life(&m->ledger, row)->born_ms = clock_mono_ms();
	loader_argv(q->path, &o, argv);
	r = spawn_helper(m, row, argv, out, d);
	if (r < 0) {
		ledger_free_life(&m->ledger, row);
		return r;
	}
	rl->life = row;
	rl->out_fd = give_fd(&out);
	ev_timer_init(&rl->deadline, deadline_fired, LOADER_DEADLINE_MS / 1000.0, 0.);
	rl->deadline.data = m;
	ev_timer_start(m->loop, &rl->deadline);
	return 0;
}

static void serve(struct manager *m)
{
	struct reload *rl = m->reload;

	while (rl->head && rl->life == LEDGER_NONE) {
		struct diag what = { 0 }, why = { 0 };
		int r = start_loader(m, rl->head, &what);

		if (r < 0) {
			diag_set(&why, r, "%.600s: %s", what.text, strerror(-r));
			fail_head(m, why.text);
		}
	}
}

static int add_request(struct manager *m, const struct reload_request *what)
{
	struct reload *rl = reload_of(m);
	struct reload_request *q = rl ? calloc(1, sizeof(*q)) : NULL;

	if (!q)
		return -ENOMEM;
	*q = *what;
	q->path = strdup(what->path ? what->path : m->conf->path);
	if (!q->path) {
		free(q);
		return -ENOMEM;
	}
	*rl->tail = q;
	rl->tail = &q->next;
	say_reloading(m);
	serve(m);
	return 0;
}

int reload_begin(struct manager *m, const char *path, bool apply, reload_done_fn *done, void *arg)
{
	return add_request(m, &(struct reload_request){
				      .path = path, .apply = apply, .done = done, .arg = arg });
}

/* Whoever waits in the queue, not read yet, answers later signals too. */
static void take_hups(struct manager *m, uint32_t asked)
{
	struct reload *rl = reload_of(m);
	struct reload_request *q = rl ? rl->head : NULL;

	if (!rl || asked == rl->hups_taken)
		return;
	log_info("SIGHUP: reading %s again", m->conf->path);
	for (q = q ? q->next : NULL; q && !q->hups; q = q->next)
		;
	if (q)
		q->hups = asked;
	else if (add_request(m, &(struct reload_request){ .apply = true, .hups = asked }) < 0)
		return;
	rl->hups_taken = asked;
}

void reload_forget(struct manager *m, void *arg)
{
	for (struct reload_request *q = m->reload ? m->reload->head : NULL; q; q = q->next)
		if (q->arg == arg)
			q->done = NULL;
}

/* Hand the new text to the keeper: from here on a successor uses it. */
static int commit(struct manager *m, const struct conf *next)
{
	auto_free char *json = conf_to_json(next);
	auto_fd fd = fd_memfd("reeve-conf", 0);
	int r;

	if (!json || fd < 0)
		return -ENOMEM;
	r = fd_write_all(fd, json, strlen(json));
	if (r == 0)
		r = FAIL_ERR(RELOAD_COMMIT);
	return r < 0 ? r : store_put(m->store, RF_CONF, 0, 0, "", fd);
}

/* Where the daemon's own messages go, here and in the keeper. */
static void tell_log(struct manager *m)
{
	struct ledger_header *h = m->ledger.h;
	const struct conf_daemon *d = &m->conf->daemon;
	const char *to = d->log_to && strlen(d->log_to) < sizeof(h->log_to) ? d->log_to : "";

	if (h->log_seq > 0 && h->log_level == (uint32_t)d->log_level && strcmp(h->log_to, to) == 0)
		return;
	if (h->log_seq > 0 && to[0] && strcmp(h->log_to, to) != 0 && log_open(to) < 0)
		log_warn("daemon.log.to: %s cannot be opened; messages go on as before", to);
	h->log_level = (uint32_t)d->log_level;
	snprintf(h->log_to, sizeof(h->log_to), "%s", to);
	h->log_seq++;
	bell_ring(m->bell_keeper);
}

void reload_configured(struct manager *m)
{
	const struct conf_daemon *d = &m->conf->daemon;

	m->ledger.h->stray_leave = d->stray_orphans == CONF_STRAY_LEAVE;
	m->ledger.h->watchdog_ms = d->manager_watchdog_ms;
	if (!m->level_by_option)
		log_set_level((enum log_level)d->log_level);
	tell_log(m);
}

static int apply(struct manager *m, struct conf *next)
{
	struct conf *old = m->conf;
	int r = commit(m, next);

	if (r < 0)
		return r;
	FAIL_HERE(RELOAD_COMMITTED);
	m->conf = next;
	r = groups_build(m);
	FAIL_HERE(RELOAD_BUILT);
	if (r < 0)
		log_error("not all groups could be set up: %s", strerror(-r));
	conf_free(old);
	reload_configured(m);
	control_configured(m);
	m->renewing = true;
	m->changed = true;
	return 0;
}

static void say_changes(const struct conf_change *changes, size_t n)
{
	static const char *const kinds[] = {
		[CONF_ADD] = "added",
		[CONF_REMOVE] = "removed",
		[CONF_LIVE] = "live",
		[CONF_RENEW] = "renewed",
		[CONF_DAEMON] = "needs a restart of the daemon",
	};

	for (size_t i = 0; i < n && i < 50; i++)
		log_info("reload: %s: %s%s%s", changes[i].group[0] ? changes[i].group : "daemon",
			 kinds[changes[i].kind], changes[i].reason[0] ? ", " : "",
			 changes[i].reason);
	if (n > 50)
		log_info("reload: and %zu more changes", n - 50);
}

static void say_problems(const struct conf_report *report)
{
	for (size_t i = 0; i < report->n && i < 20; i++)
		log_write(report->items[i].warning ? LOG_LEVEL_WARN : LOG_LEVEL_ERROR, "%s:%d: %s",
			  report->items[i].at.file, report->items[i].at.line,
			  report->items[i].at.text);
}

/* Compare, apply if asked, tell the caller. */
static void conclude(struct manager *m, struct conf *next, struct conf_report *report)
{
	struct reload_request *q = m->reload->head;
	auto_free struct conf_change *changes = NULL;
	ssize_t n = conf_diff(m->conf, next, &changes);
	struct diag d = { 0 };
	int r = n < 0 ? diag_set(&d, (int)n, "comparing it: %s", strerror((int)-n))
		      : groups_room_for(m, next, &d);

	if (r == 0 && q->apply) {
		say_changes(changes, (size_t)n);
		r = apply(m, next);
		if (r < 0)
			diag_set(&d, r, "applying it: %s", strerror(-r));
		if (r == 0) {
			next = NULL;
			event_daemon(m, DAEMON_RELOAD, "%zd change%s", n, n == 1 ? "" : "s");
		}
	}
	if (r < 0) {
		fail_head(m, d.text);
	} else {
		if (q->done)
			q->done(q->arg, report, changes, (size_t)n);
		pop(m);
	}
	conf_free(next);
}

static int wait_status(const struct ledger_life *life)
{
	return life->exit_how == CLD_EXITED ? W_EXITCODE(life->exit_status, 0)
					    : W_EXITCODE(0, life->exit_status);
}

void reload_helper_ended(struct manager *m, uint32_t row)
{
	struct reload *rl = m->reload;
	int status = wait_status(ledger_life(&m->ledger, row));
	struct conf_report report = { 0 };
	auto_free char *text = NULL;
	struct conf *next = NULL;
	size_t len = 0;

	FAIL_HERE(LOADER_ENDED);
	tree_remove(m, row);
	ledger_free_life(&m->ledger, row);
	FAIL_HERE(LOADER_FREED);
	if (!rl || rl->life != row)
		return; /* a predecessor's: whoever asked asks again */
	rl->life = LEDGER_NONE;
	ev_timer_stop(m->loop, &rl->deadline);
	if (lseek(rl->out_fd, 0, SEEK_SET) < 0 ||
	    fd_read_all(rl->out_fd, RESULT_MAX, &text, &len) < 0)
		len = 0;
	close_fd(&rl->out_fd);
	if (loader_result(text ? text : "", len, status, rl->head->path, &next, &report) < 0) {
		if (rl->head->apply) {
			log_error("reload: nothing was changed, the configuration has errors");
			say_failed(m, &report);
		}
		say_problems(&report);
		if (rl->head->done)
			rl->head->done(rl->head->arg, &report, NULL, 0);
		pop(m);
	} else {
		conclude(m, next, &report);
	}
	conf_report_fini(&report);
	serve(m);
}

/* The worker's life (or last life) is of an older generation and should not be. */
static bool stale(const struct worker *w)
{
	const struct worker_state *s = &w->slot->w;

	return s->wanted_up && w->group->conf && s->generation && s->state != WS_DONE &&
	       s->generation != w->group->row->generation;
}

static bool has_life(const struct worker *w)
{
	return w->slot->life[0] != LEDGER_NONE;
}

/* Of the new generation and not well: the renewal of the group waits for it. */
static bool fresh_unwell(const struct worker *w)
{
	const struct worker_state *s = &w->slot->w;

	return s->wanted_up && w->group->conf && !stale(w) && s->state != WS_READY &&
	       s->state != WS_DONE && s->state != WS_STOPPED;
}

/* To be renewed, on its way out, or renewed and not well yet: the answer waits for it. */
static bool unsettled(const struct worker *w)
{
	return stale(w) || w->surplus || (w->slot->w.proving && fresh_unwell(w));
}

bool reload_renewing(const struct manager *m, const struct group *g)
{
	if (!g) {
		for (size_t i = 0; m->renewing && i < m->n_groups; i++)
			if (reload_renewing(m, m->groups[i]))
				return true;
		return false;
	}
	for (uint32_t i = 0; i < g->n_workers; i++)
		if (g->workers[i] && unsettled(g->workers[i]))
			return true;
	return false;
}

bool reload_held(const struct manager *m, const struct group *g)
{
	if (!g) {
		for (size_t i = 0; m->renewing && i < m->n_groups; i++)
			if (reload_held(m, m->groups[i]))
				return true;
		return false;
	}
	if (!reload_renewing(m, g))
		return false;
	if (template_held(g))
		return true;
	for (uint32_t i = 0; i < g->n_workers; i++) {
		const struct worker *w = g->workers[i];

		if (w && !stale(w) && w->slot->w.wanted_up && w->slot->w.state == WS_QUARANTINED)
			return true;
	}
	return false;
}

static void renew_one(struct group *g)
{
	struct worker *candidate = NULL;

	if (!template_renews(g) || !threads_renews(g))
		return; /* who makes the new ones is still loading */
	for (uint32_t i = 0; i < g->n_workers; i++) {
		struct worker *w = g->workers[i];

		if (!w)
			continue;
		if (fresh_unwell(w))
			return;
		if (!stale(w))
			continue;
		if (w->slot->w.state == WS_STOPPING || w->slot->w.state == WS_KILLING ||
		    w->slot->w.state == WS_WAITING || w->slot->w.state == WS_STUCK)
			return; /* it is on its way to the new generation */
		if (!candidate || (has_life(candidate) && !has_life(w)))
			candidate = w;
	}
	if (candidate)
		worker_post(candidate, WI_RENEW);
}

void reload_step(struct manager *m)
{
	uint32_t asked = m->ledger.h->reloads_asked;

	say_reloading(m);
	if (asked != m->ledger.h->reloads_done && m->ledger.h->phase == PHASE_RUN)
		take_hups(m, asked);
	if (!m->renewing || !m->changed)
		return;
	for (size_t i = 0; i < m->n_groups; i++)
		if (m->groups[i]->conf)
			renew_one(m->groups[i]);
	if (!reload_renewing(m, NULL)) {
		m->renewing = false;
		sockets_prune(m);
	}
}

void reload_fini(struct manager *m)
{
	struct reload *rl = m->reload;

	if (!rl)
		return;
	while (rl->head)
		pop(m);
	close_fd(&rl->out_fd);
	free(rl);
	m->reload = NULL;
}
