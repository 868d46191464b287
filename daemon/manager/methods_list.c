/*
 * List: workers and groups as text, without a tree of JSON objects, since `status` is asked a lot.
 * Memory and CPU come from samples; a few that are too old are made anew before the rows are
 * written, the others behind it, so that a list of thousands is not kept waiting for /proc.
 */
#include "manager/methods.h"

#include "base/clock.h"
#include "base/mem.h"
#include "manager/template.h"
#include "manager/threads.h"
#include "manager/tree.h"
#include "manager/worker.h"

#include <stdio.h>
#include <string.h>

#define SAMPLE_FRESH_MS	   2000	 /* plus 3 ms a worker, */
#define SAMPLE_OLD_MS	   10000 /* but never older than this */
#define SAMPLES_WAITED_FOR 32
#define SAMPLES_A_TURN	   16
#define SAMPLE_PAUSE_S	   .005
#define ROWS_A_REPLY	   256

void write_time(struct str *out, const char *key, int64_t real_us)
{
	char text[32];

	clock_format(real_us, text);
	vl_write_text(out, key, text);
}

void write_signal(struct str *out, const char *key, int number)
{
	char name[12];

	vl_write_text(out, key, signal_to_name(number, name));
}

static void sample(struct worker *w, int64_t now)
{
	uint32_t row = w->slot->life[0], spare = spare_row(w);
	uint64_t ignored;

	w->sampled_ms = now;
	w->memory_bytes = w->cpu_us = w->spare_memory_bytes = 0;
	if (row != LEDGER_NONE && w->m->ledger.pids[row] != 0)
		tree_usage(w->m, row, &w->memory_bytes, &w->cpu_us);
	if (spare != LEDGER_NONE)
		tree_usage(w->m, spare, &w->spare_memory_bytes, &ignored);
}

void write_how(struct str *out, const struct exit_record *rec)
{
	if (rec->signal) {
		vl_write_null(out, "code");
		write_signal(out, "signal", rec->signal);
	} else {
		vl_write_int(out, "code", rec->code);
		vl_write_null(out, "signal");
	}
}

void write_start_error(struct str *out, const struct exit_record *rec)
{
	if (rec->error[0])
		vl_write_bytes(out, "error", rec->error, strnlen(rec->error, sizeof(rec->error)));
}

static void write_last_exit(struct str *out, const struct worker *w)
{
	const struct exit_record *rec;

	if (w->slot->exits == 0) {
		vl_write_null(out, "last_exit");
		return;
	}
	rec = &ledger_exits(&w->m->ledger, w->row)->records[(w->slot->exits - 1) % EXITS_KEPT];
	vl_write_open(out, "last_exit", '{');
	vl_write_int(out, "incarnation", rec->incarnation);
	write_how(out, rec);
	vl_write_text(out, "cause", exit_cause_name(rec->cause));
	write_time(out, "at", rec->at_real_us);
	write_start_error(out, rec);
	vl_write_close(out, '}');
}

/* What the worker said of itself, or why it could not be started, or cannot be yet. */
static void write_status(struct str *out, const struct worker *w)
{
	const struct ledger_slot *s = w->slot;
	size_t len = strnlen(s->status, sizeof(s->status));
	char why[sizeof(s->error)];

	if ((template_waits_for(w) || threads_blocks(w)) && s->w.state == WS_WAITING &&
	    maker_trouble(w->group, why, sizeof(why)))
		vl_write_text(out, "status", why);
	else if (s->error[0] && s->w.state != WS_READY && s->w.state != WS_STARTING)
		vl_write_bytes(out, "status", s->error, strnlen(s->error, sizeof(s->error)));
	else if (len > 0)
		vl_write_bytes(out, "status", s->status, len);
	else
		vl_write_null(out, "status");
}

static void write_waiting(struct str *out, const struct worker *w)
{
	char reasons[8][80];
	size_t n = admit_waiting_for(w, reasons, ARRAY_LEN(reasons));

	if (n == 0) {
		vl_write_null(out, "waiting_for");
		return;
	}
	vl_write_open(out, "waiting_for", '[');
	for (size_t i = 0; i < n; i++)
		vl_write_text(out, NULL, reasons[i]);
	vl_write_close(out, ']');
}

static void write_progress(struct str *out, const struct worker *w)
{
	if (!w->slot->progress_total) {
		vl_write_null(out, "progress");
		return;
	}
	vl_write_open(out, "progress", '{');
	vl_write_int(out, "done", (int64_t)w->slot->progress_done);
	vl_write_int(out, "total", (int64_t)w->slot->progress_total);
	vl_write_close(out, '}');
}

static void write_numbers(struct str *out, const struct worker *w)
{
	if (w->slot->life[0] != LEDGER_NONE && w->slot->w.started_ms)
		vl_write_real(out, "uptime_s",
			      (double)(clock_mono_ms() - w->slot->w.started_ms) / 1000.0);
	else
		vl_write_null(out, "uptime_s");
	if (w->slot->w.incarnation)
		vl_write_real(out, "cpu_s", (double)(w->slot->cpu_us_before + w->cpu_us) / 1e6);
	else
		vl_write_null(out, "cpu_s");
	if (w->memory_bytes && worker_pid(w))
		vl_write_int(out, "memory_bytes", (int64_t)w->memory_bytes);
	else
		vl_write_null(out, "memory_bytes");
	write_progress(out, w);
}

void write_worker(struct str *out, const char *key, struct worker *w, bool pss)
{
	const struct worker_state *s = &w->slot->w;
	pid_t pid = worker_pid(w);
	char source[LEDGER_SLOT_NAME + 16];

	vl_write_open(out, key, '{');
	vl_write_text(out, "worker", w->name);
	vl_write_text(out, "group", w->group->row->name);
	vl_write_int(out, "index", w->slot->index);
	if (pid)
		vl_write_int(out, "pid", pid);
	else
		vl_write_null(out, "pid");
	vl_write_int(out, "incarnation", s->incarnation);
	vl_write_int(out, "generation", s->generation);
	vl_write_int(out, "restarts", s->restarts);
	vl_write_text(out, "state", worker_status_name(s->state));
	vl_write_text(out, "wanted", worker_wanted(w) ? "up" : "down");
	vl_write_bool(out, "ready", s->state == WS_READY);
	vl_write_bool(out, "frozen", false);
	write_waiting(out, w);
	write_numbers(out, w);
	if (pss && worker_pid(w))
		memory_write_worker(out, w);
	vl_write_text(out, "start_method",
		      conf_word(CONF_WORDS_START, w->group->conf ? (int)w->group->conf->start_method
								 : CONF_START_SPAWN));
	template_source(w, source, sizeof(source));
	vl_write_text(out, "source", source);
	write_status(out, w);
	write_last_exit(out, w);
	vl_write_close(out, '}');
}

/* How far from well, for the worst state of a group. */
static int badness(const struct worker_state *s)
{
	static const int8_t order[WS_COUNT] = {
		[WS_READY] = 0,	      [WS_DONE] = 1,	 [WS_STOPPED] = 2, [WS_WAITING] = 3,
		[WS_STARTING] = 4,    [WS_STOPPING] = 5, [WS_KILLING] = 6, [WS_BACKOFF] = 7,
		[WS_QUARANTINED] = 8, [WS_STUCK] = 9,
	};

	return s->state == WS_DONE && !s->ended_well ? order[WS_BACKOFF] : order[s->state];
}

static bool is_well(const struct worker *w)
{
	const struct worker_state *s = &w->slot->w;

	return s->state == WS_READY || (s->state == WS_DONE && s->ended_well);
}

static bool is_down_as_wanted(const struct worker *w)
{
	return w->slot->w.state == WS_STOPPED && !worker_wanted(w);
}

/* What is summed over a group. */
struct sums {
	uint64_t memory, cpu;
	int64_t pss, private;
	int64_t templates_pss, spares_pss; /* of pss; -1 = there is none */
	int spares;
	bool unsampled;
};

/* `part`: what of it this belongs to, or NULL. */
static void sum_pages(struct sums *sums, const struct page_sums *p, int64_t *part)
{
	if (p->pss_bytes <= 0)
		return;
	sums->pss += p->pss_bytes;
	sums->private += p->private_bytes;
	if (part)
		*part = MAX_OF(*part, 0) + p->pss_bytes;
}

static void sum_up(struct sums *sums, const struct worker *w)
{
	sums->memory += w->memory_bytes;
	sums->cpu += w->slot->cpu_us_before + w->cpu_us;
	sums->unsampled = sums->unsampled || (!w->sampled_ms && w->slot->life[0] != LEDGER_NONE);
	sum_pages(sums, &w->pages, w->slot->kind == SLOT_TEMPLATE ? &sums->templates_pss : NULL);
	if (spare_row(w) == LEDGER_NONE)
		return;
	sums->spares++;
	sums->memory += w->spare_memory_bytes;
	sum_pages(sums, &w->spare_pages, &sums->spares_pss);
}

static void write_sums(struct str *out, const struct sums *sums, bool pss)
{
	vl_write_real(out, "cpu_s", (double)sums->cpu / 1e6);
	if (sums->memory && !sums->unsampled) /* half a sum would mislead */
		vl_write_int(out, "memory_bytes", (int64_t)sums->memory);
	if (!pss)
		return;
	vl_write_int(out, "pss_bytes", sums->pss);
	vl_write_int(out, "private_bytes", sums->private);
	if (sums->templates_pss >= 0)
		vl_write_int(out, "templates_pss_bytes", sums->templates_pss);
	if (sums->spares_pss >= 0)
		vl_write_int(out, "spares_pss_bytes", sums->spares_pss);
}

static void write_group(struct str *out, const struct group *g, bool pss)
{
	int slots = 0, wanted = 0, ready = 0, well = 0;
	const struct worker_state *worst = NULL;
	struct sums sums = { .templates_pss = -1, .spares_pss = -1 };
	uint64_t restarts = 0;

	for (uint32_t i = 0; i < g->n_workers; i++) {
		const struct worker *w = g->workers[i];

		if (!w)
			continue;
		slots++;
		wanted += w->slot->w.wanted_up;
		ready += w->slot->w.state == WS_READY;
		well += w->slot->w.wanted_up && is_well(w);
		restarts += w->slot->w.restarts;
		sum_up(&sums, w);
		if (!worst || badness(&w->slot->w) > badness(worst))
			worst = &w->slot->w;
	}
	for (size_t i = 0; i < GROUP_MAKERS; i++)
		if (group_maker(g, i))
			sum_up(&sums, group_maker(g, i));
	vl_write_open(out, NULL, '{');
	vl_write_text(out, "group", g->row->name);
	vl_write_int(out, "generation", g->row->generation);
	vl_write_int(out, "workers", slots);
	vl_write_int(out, "wanted", wanted);
	vl_write_int(out, "ready", ready);
	vl_write_int(out, "well", well);
	vl_write_int(out, "restarts", (int64_t)restarts);
	if (g->conf && g->conf->start_method == CONF_START_FORKSERVER)
		vl_write_int(out, "spares", sums.spares);
	write_sums(out, &sums, pss);
	if (worst)
		vl_write_text(out, "worst", worker_status_name(worst->state));
	vl_write_bool(out, "renewing", g->conf && reload_renewing(g->m, g));
	vl_write_close(out, '}');
}

/* A look at thousands of trees costs more than the list: the more there are, the rarer. */
static int64_t fresh_ms(const struct manager *m)
{
	return MIN_OF(SAMPLE_FRESH_MS + 3 * (int64_t)m->ledger.h->slots_high, SAMPLE_OLD_MS);
}

static bool refresh(struct job *j, struct worker *w, int64_t now)
{
	int64_t fresh = fresh_ms(w->m);
	bool any = false;

	if (!w->sampled_ms || now - w->sampled_ms >= fresh) {
		sample(w, now);
		any = true;
	}
	if (j->memory && (!w->pages_sampled_ms || now - w->pages_sampled_ms >= fresh)) {
		memory_wish(j, w);
		any = true;
	}
	return any;
}

/* The samples that nobody waited for: one walk over all slots, a few stale ones a turn. */
void sample_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	struct control *c = t->data;
	uint32_t high = c->m->ledger.h->slots_high;
	int64_t now = clock_mono_ms();

	for (int n = 0; c->sample_at < high && n < SAMPLES_A_TURN; c->sample_at++) {
		struct worker *w = c->m->by_slot[c->sample_at];

		if (!w || (w->sampled_ms && now - w->sampled_ms < fresh_ms(c->m)))
			continue;
		sample(w, now);
		n++;
	}
	if (c->sample_at >= high)
		return;
	ev_timer_set(t, SAMPLE_PAUSE_S, 0.);
	ev_timer_start(loop, t);
}

/* One more stale sample of a group that is shown; false when all are fresh, or when a list without
 * PSS has waited for enough of them: the rest comes later, for the next one. */
static bool sample_next(struct job *j)
{
	const struct manager *m = j->control->m;
	int64_t now = clock_mono_ms();

	if (!j->memory && j->prepared++ == SAMPLES_WAITED_FOR) {
		if (!ev_is_active(&j->control->sampler)) {
			j->control->sample_at = 0;
			ev_timer_start(m->loop, &j->control->sampler);
		}
		j->group = m->n_groups;
	}

	for (; j->group < m->n_groups; j->group++, j->worker = 0) {
		const struct group *g = m->groups[j->group];

		if (j->worker == 0 && !job_names_group(j, g))
			continue;
		while (j->worker < g->n_workers + GROUP_MAKERS) {
			struct worker *w = j->worker < g->n_workers
						   ? g->workers[j->worker]
						   : group_maker(g, j->worker - g->n_workers);

			j->worker++;
			if (w && refresh(j, w, now))
				return true;
		}
	}
	return false;
}

static bool list_memory(struct job *j)
{
	return sample_next(j) || memory_wait(j);
}

static bool list_row(struct job *j, struct worker *w)
{
	if (j->unwell && (is_well(w) || is_down_as_wanted(w)))
		return false;
	write_worker(&j->out, NULL, w, j->memory);
	return true;
}

static void list_rest(struct job *j, bool last)
{
	const struct manager *m = j->control->m;

	vl_write_open(&j->out, "groups", '[');
	for (size_t i = 0; last && i < m->n_groups; i++)
		if (job_names_group(j, m->groups[i]))
			write_group(&j->out, m->groups[i], j->memory);
	vl_write_close(&j->out, ']');
}

#define LIST_KIND(first)                                                                           \
	{                                                                                          \
		.key = "workers", .rows = ROWS_A_REPLY, .per_look = 16, .prepare = (first),        \
		.row = list_row, .rest = list_rest                                                 \
	}
static const struct job_kind list_kind = LIST_KIND(sample_next);
static const struct job_kind list_memory_kind = LIST_KIND(list_memory);

void method_list(struct vl_call *c, const void *args)
{
	const struct args_list *a = args;

	job_start(c, a->memory ? &list_memory_kind : &list_kind, a);
}
