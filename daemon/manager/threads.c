/*
 * Owns the lives of workers that are threads. Such a life row has no pid, so the keeper never
 * matches it, and the manager alone writes its end. Invariant: what a slot is to do is in its state
 * before it is sent, and sending it again changes nothing.
 */
#include "manager/threads.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "base/str.h"
#include "manager/env.h"
#include "manager/spawn.h"
#include "manager/template.h"
#include "manager/watchdog.h"
#include "manager/worker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

bool threads_has(const struct worker *w)
{
	const struct ledger_life *life = worker_life(w);

	return life && life->kind == LIFE_THREAD;
}

/* The host whose process the life is in, while that can be spoken to. */
static struct worker *host_of(const struct worker *w)
{
	const struct ledger_life *life = worker_life(w);
	struct worker *host = w->group->host;

	if (!host || !host->forker || host->forker->fd < 0 || !worker_pid(host) ||
	    life->source_incarnation != host->slot->w.incarnation)
		return NULL;
	return host;
}

/* --- what is sent ---------------------------------------------------------------------------- */

/* Its own view of the environment, which the process cannot have for each of them. */
static int add_env(struct channel_packet *p, const struct worker *w)
{
	const struct conf_worker who = { w->group->row->name, (int)w->slot->index };
	const struct ledger_life *life = worker_life(w);
	struct words env = { 0 };
	struct diag d;
	char **pairs;
	int r = 0;

	if (w->group->conf)
		r = env_of_group(&env, w->group->conf, &who, environ, &d);
	env_set(&env, "REEVE_GROUP", w->group->row->name);
	env_set(&env, "REEVE_WORKER", w->name);
	env_setf(&env, "REEVE_INDEX", "%u", w->slot->index);
	env_setf(&env, "REEVE_INCARNATION", "%u", life->incarnation);
	env_setf(&env, "REEVE_GENERATION", "%u", life->generation);
	env_setf(&env, "REEVE_COUNT", "%d", group_workers_wanted(w->group));
	if (life->watchdog_told_ms)
		env_setf(&env, "WATCHDOG_USEC", "%" PRId64, life->watchdog_told_ms * 1000);
	if (r == 0)
		r = words_finish(&env, &pairs, &d);
	for (size_t i = 0; r == 0 && pairs[i]; i++)
		channel_add_text(p, CT_ENV, pairs[i]);
	words_fini(&env);
	return r;
}

static int send_start(struct worker *w, struct worker *host)
{
	struct ledger_life *life = worker_life(w);
	struct channel_packet *p = malloc(sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	life->token = template_number(host->forker);
	channel_begin(p, CH_START, (uint32_t)life->token);
	channel_add_text(p, CT_NAME, w->name);
	channel_add_u32(p, CT_INDEX, w->slot->index);
	channel_add_u32(p, CT_COUNT, (uint32_t)group_workers_wanted(w->group));
	channel_add_u32(p, CT_INCARNATION, life->incarnation);
	r = add_env(p, w);
	FAIL_HERE(THREAD_START);
	if (r == 0)
		r = channel_send(host->forker->fd, p);
	FAIL_HERE(THREAD_STARTED);
	free(p);
	return r;
}

int threads_start(struct worker *w, uint32_t row, struct diag *d)
{
	struct ledger_life *life = ledger_life(&w->m->ledger, row);
	struct worker *host = w->group->host;
	char why[sizeof(w->slot->error)];
	int r;

	if (threads_blocks(w) || !host || host->slot->w.state != WS_READY) {
		maker_trouble(w->group, why, sizeof(why));
		return diag_set(d, -EIO, "%s/host is not there: %s", w->group->row->name, why);
	}
	if (w->group->conf)
		life->watchdog_told_ms = watchdog_to_tell(w->group->conf);
	life->source_slot = host->row;
	life->source_incarnation = host->slot->w.incarnation;
	life->source_generation = host->slot->w.generation;
	r = send_start(w, host);
	return r < 0 ? diag_set(d, r, "asking %s: %s", host->name, strerror(-r)) : 0;
}

void threads_stop(struct worker *w)
{
	struct worker *host = host_of(w);
	struct channel_packet *p = host ? malloc(sizeof(*p)) : NULL;

	if (!p)
		return; /* its end, or the clock of the stop, decides */
	channel_begin(p, CH_STOP, 0);
	channel_add_u32(p, CT_INDEX, w->slot->index);
	channel_add_u32(p, CT_INCARNATION, worker_life(w)->incarnation);
	FAIL_HERE(THREAD_STOP);
	if (channel_send(host->forker->fd, p) < 0)
		log_debug("%s: %s does not listen", w->name, host->name);
	FAIL_HERE(THREAD_STOPPED);
	free(p);
}

/* Others that are well and live in the same process. */
static int healthy_others(const struct worker *w)
{
	const struct group *g = w->group;
	int n = 0;

	for (uint32_t i = 0; i < g->n_workers; i++)
		n += g->workers[i] && g->workers[i] != w && threads_has(g->workers[i]) &&
		     g->workers[i]->slot->w.state == WS_READY;
	return n;
}

void threads_kill(struct worker *w)
{
	struct worker *host = w->group->host;
	int others = healthy_others(w);

	if (!host) {
		threads_lost(w, CLD_EXITED, 0);
		return;
	}
	if (!worker_pid(host)) {
		threads_host_gone(host);
		return;
	}
	if (w->slot->w.cause == CAUSE_STOP)
		log_info("%s: killing %s", w->name, host->name);
	else if (host->slot->w.state != WS_KILLING && host->slot->w.state != WS_STUCK)
		log_error("%s: does not end when asked to: restarting %s, and with it %d healthy "
			  "slot%s %s lost",
			  w->name, host->name, others, others == 1 ? "" : "s",
			  others == 1 ? "is" : "are");
	if (host->slot->w.cause == CAUSE_NONE)
		host->slot->w.cause =
			w->slot->w.cause == CAUSE_WATCHDOG ? CAUSE_WATCHDOG : CAUSE_STOP_TIMEOUT;
	worker_post(host, WI_KILL);
}

/* --- its end --------------------------------------------------------------------------------- */

static void end(struct worker *w, int how, int status, const char *text, size_t len)
{
	struct ledger_life *life = worker_life(w);

	life->exit_how = how;
	life->exit_status = status;
	life->exit_ms = clock_mono_ms();
	life->exit_real_us = clock_real_us();
	w->last_words = text;
	w->last_words_len = len;
	FAIL_HERE(THREAD_ENDING);
	life->exited = 1;
	FAIL_HERE(THREAD_ENDED);
	life_look(w->m, w->slot->life[0]);
	w->last_words = NULL;
	w->last_words_len = 0;
}

/* With the process: what became of that became of it. */
void threads_lost(struct worker *w, int how, int status)
{
	struct worker_state *s = &w->slot->w;

	if (worker_life(w)->exited)
		return;
	if (s->cause == CAUSE_NONE)
		s->cause = CAUSE_PARENT_GONE;
	end(w, how, status, NULL, 0);
}

void threads_say_end(const struct worker *w, const struct worker_end *e)
{
	if (w->slot->w.cause == CAUSE_PARENT_GONE)
		log_debug("%s: lost with its process", w->name);
	else
		log_write(e->asked || e->code == 0 ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN,
			  "%s: thread ended with code %d%s", w->name, e->code,
			  e->not_ready ? " before it was ready" : "");
}

/* --- what is heard --------------------------------------------------------------------------- */

/* The slot that a message is about; NULL: an incarnation that is over. -EBADMSG: none of its. */
static int slot_of(const struct worker *host, const struct channel_message *m, struct worker **ret)
{
	uint32_t index = channel_u32(m, CT_INDEX, UINT32_MAX);
	uint32_t incarnation = channel_u32(m, CT_INCARNATION, 0);
	const struct group *g = host->group;
	struct worker *w = index < g->n_workers ? g->workers[index] : NULL;

	*ret = NULL;
	if (!w)
		return index < LEDGER_ROWS ? 0 : -EBADMSG;
	if (incarnation > w->slot->w.incarnation)
		return -EBADMSG;
	if (threads_has(w) && !worker_life(w)->exited &&
	    worker_life(w)->incarnation == incarnation &&
	    worker_life(w)->source_incarnation == host->slot->w.incarnation)
		*ret = w;
	return 0;
}

static void take_news(struct worker *w, const struct channel_message *m)
{
	struct ledger_slot *slot = w->slot;
	uint64_t done, total;

	if (channel_count(m, CT_TEXT)) {
		char raw[sizeof(slot->status)];

		channel_text(m, CT_TEXT, raw, sizeof(raw));
		memcpy(slot->status, raw, sizeof(raw));
	}
	if (channel_u64_pair(m, CT_PROGRESS, &done, &total)) {
		slot->progress_done = done;
		slot->progress_total = total;
	}
	w->m->changed = true;
}

/* It runs: the clock of settle, or of READY, begins. */
static void has_started(struct worker *w)
{
	struct ledger_life *life = worker_life(w);

	if (life->execed)
		return;
	FAIL_HERE(THREAD_RUNS);
	worker_execed(w); /* first: who finds it marked does not set its clock again */
	life->execed = 1;
}

static void has_ended(struct worker *w, const struct channel_message *m)
{
	struct channel_record text = { 0 };

	channel_find(m, CT_TEXT, 0, &text);
	end(w, CLD_EXITED, channel_i32(m, CT_CODE, 0) & 0xff, (const char *)text.data, text.len);
}

int threads_said(struct worker *host, const struct channel_message *m)
{
	struct worker *w;
	int r = slot_of(host, m, &w);

	if (r < 0 || !w)
		return r;
	has_started(w);
	if (channel_text_is(m, CT_STATE, "ended")) {
		has_ended(w, m);
		return 0;
	}
	if (channel_text_is(m, CT_STATE, "beat")) {
		watchdog_beat(w);
		return 0;
	}
	take_news(w, m);
	if (channel_text_is(m, CT_STATE, "ready"))
		worker_ready_now(w);
	return 0;
}

/* START was refused. */
static void refused(struct worker *w, const struct channel_message *m)
{
	struct worker *host = w->group->host;
	char text[160], shown[160];
	int err = channel_i32(m, CT_ERRNO, EIO);
	struct diag d;

	channel_text(m, CT_TEXT, text, sizeof(text));
	str_escape(text, strlen(text), shown, sizeof(shown));
	/* asked to stop meanwhile: there is nothing to be stopped */
	if (w->slot->w.state != WS_STARTING) {
		exit_never_was(w);
		return;
	}
	diag_set(&d, -err, "%s: %s", host->name, shown[0] ? shown : strerror(err));
	/* a module that runs a slot once per process: where nobody is lost, another process */
	if (err == EBUSY && !threads_company(w)) {
		log_info("%s: restarting it", d.text);
		worker_post(host, WI_RENEW);
		err = EAGAIN;
	}
	worker_start_failed(w, err > 0 ? -err : -EIO, &d);
}

int threads_failed(struct worker *host, const struct channel_message *m)
{
	const struct group *g = host->group;

	for (uint32_t i = 0; i < g->n_workers; i++) {
		struct worker *w = g->workers[i];

		if (!w || !threads_has(w) || worker_life(w)->token != m->request)
			continue;
		if (!worker_life(w)->exited && !worker_life(w)->execed)
			refused(w, m);
		return 0;
	}
	return m->request != 0 && m->request <= host->slot->template.requests ? 0 : -EBADMSG;
}

/* --- recovery -------------------------------------------------------------------------------- */

void threads_resume(struct worker *w)
{
	struct worker *host = host_of(w);

	if (worker_life(w)->exited)
		return; /* life_look() goes on with it */
	if (!host) {
		/* gone, or never told of: the host's own end tells of all that is its */
		if (!w->group->host || !worker_pid(w->group->host) ||
		    w->group->host->slot->w.incarnation != worker_life(w)->source_incarnation)
			threads_lost(w, CLD_EXITED, 0);
		return;
	}
	if (send_start(w, host) == 0 && w->slot->w.state == WS_STOPPING)
		threads_stop(w);
}

/* --- for people ------------------------------------------------------------------------------ */

void threads_source(const struct worker *w, char *ret, size_t size)
{
	const struct ledger *l = &w->m->ledger;
	const struct ledger_life *life = worker_life(w);
	char name[LEDGER_SLOT_NAME];

	ledger_slot_name(l, ledger_slot(l, life->source_slot), name);
	snprintf(ret, size, "%s/%u", name, life->source_incarnation);
}

const char *threads_company(const struct worker *w)
{
	const struct group *g = w->group;

	for (uint32_t i = 0; i < g->n_workers; i++)
		if (g->workers[i] && g->workers[i] != w && !g->workers[i]->named &&
		    g->workers[i]->slot->w.wanted_up && threads_has(g->workers[i]))
			return "it is a thread of a process that runs other workers, too";
	return NULL;
}
