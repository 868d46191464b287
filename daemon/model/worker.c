/*
 * Owns the table of a worker's states and the policies behind its inputs. Everything here is pure:
 * the same state, input and time give the same answer, so tests visit every pair.
 */
#include "model/worker.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>

#define GO(state, what)                                                                            \
	{                                                                                          \
		.next = (state), .effect = (what), .allowed = true                                 \
	}

/* Whatever a tree was doing: once it is empty the restart policy alone says what comes next. */
#define AFTER_THE_END                                                                              \
	[WI_END_AGAIN] = GO(WS_WAITING, DO_ADMIT),                                                 \
	[WI_END_BACKOFF] = GO(WS_BACKOFF, DO_ARM_BACKOFF),                                         \
	[WI_END_QUARANTINE] = GO(WS_QUARANTINED, DO_ARM_RETRY),                                    \
	[WI_END_DONE] = GO(WS_DONE, DO_SETTLE_DOWN),                                               \
	[WI_END_STOPPED] = GO(WS_STOPPED, DO_SETTLE_DOWN)

static const struct worker_rule rules[WS_COUNT][WI_COUNT] = {
	[WS_STOPPED] = {
		[WI_START] = GO(WS_WAITING, DO_ADMIT),
		[WI_RENEW] = GO(WS_WAITING, DO_ADMIT),
	},
	[WS_WAITING] = {
		[WI_STOP] = GO(WS_STOPPED, DO_SETTLE_DOWN),
		[WI_KILL] = GO(WS_STOPPED, DO_SETTLE_DOWN),
		[WI_GO] = GO(WS_STARTING, DO_SPAWN),
	},
	[WS_STARTING] = {
		[WI_STOP] = GO(WS_STOPPING, DO_STOP_BEGIN),
		[WI_RENEW] = GO(WS_STOPPING, DO_STOP_BEGIN),
		[WI_KILL] = GO(WS_KILLING, DO_KILL),
		[WI_NO_MEANS] = GO(WS_BACKOFF, DO_NOTHING),
		[WI_READY] = GO(WS_READY, DO_RUN),
		[WI_TIMEOUT] = GO(WS_STOPPING, DO_STOP_BEGIN),
		[WI_LEFTOVERS] = GO(WS_STOPPING, DO_STOP_REST),
		AFTER_THE_END,
	},
	[WS_READY] = {
		[WI_STOP] = GO(WS_STOPPING, DO_STOP_BEGIN),
		[WI_RENEW] = GO(WS_STOPPING, DO_STOP_BEGIN),
		[WI_KILL] = GO(WS_KILLING, DO_KILL),
		[WI_TIMEOUT] = GO(WS_STOPPING, DO_STOP_BEGIN),
		[WI_LEFTOVERS] = GO(WS_STOPPING, DO_STOP_REST),
		AFTER_THE_END,
	},
	[WS_STOPPING] = {
		[WI_KILL] = GO(WS_KILLING, DO_KILL),
		[WI_TIMEOUT] = GO(WS_STOPPING, DO_STOP_STEP),
		[WI_LEFTOVERS] = GO(WS_STOPPING, DO_STOP_REST),
		AFTER_THE_END,
	},
	[WS_KILLING] = {
		[WI_KILL] = GO(WS_KILLING, DO_KILL),
		[WI_TIMEOUT] = GO(WS_STUCK, DO_KILL),
		[WI_LEFTOVERS] = GO(WS_KILLING, DO_KILL),
		AFTER_THE_END,
	},
	[WS_STUCK] = {
		[WI_KILL] = GO(WS_STUCK, DO_KILL),
		[WI_TIMEOUT] = GO(WS_STUCK, DO_KILL),
		[WI_LEFTOVERS] = GO(WS_STUCK, DO_KILL),
		AFTER_THE_END,
	},
	[WS_BACKOFF] = {
		[WI_START] = GO(WS_WAITING, DO_ADMIT),
		[WI_STOP] = GO(WS_STOPPED, DO_SETTLE_DOWN),
		[WI_RENEW] = GO(WS_WAITING, DO_ADMIT),
		[WI_KILL] = GO(WS_STOPPED, DO_SETTLE_DOWN),
		[WI_TIMEOUT] = GO(WS_WAITING, DO_ADMIT),
	},
	[WS_QUARANTINED] = {
		[WI_START] = GO(WS_WAITING, DO_ADMIT),
		[WI_STOP] = GO(WS_STOPPED, DO_SETTLE_DOWN),
		[WI_RENEW] = GO(WS_WAITING, DO_ADMIT),
		[WI_KILL] = GO(WS_STOPPED, DO_SETTLE_DOWN),
		[WI_TIMEOUT] = GO(WS_WAITING, DO_ADMIT),
	},
	[WS_DONE] = {
		[WI_START] = GO(WS_WAITING, DO_ADMIT),
		[WI_STOP] = GO(WS_STOPPED, DO_SETTLE_DOWN),
		[WI_RENEW] = GO(WS_WAITING, DO_ADMIT),
		[WI_KILL] = GO(WS_STOPPED, DO_SETTLE_DOWN),
	},
};

static const char *const status_names[WS_COUNT] = {
	[WS_STOPPED] = "stopped", [WS_WAITING] = "waiting",	    [WS_STARTING] = "starting",
	[WS_READY] = "ready",	  [WS_STOPPING] = "stopping",	    [WS_KILLING] = "killing",
	[WS_BACKOFF] = "backoff", [WS_QUARANTINED] = "quarantined", [WS_DONE] = "done",
	[WS_STUCK] = "stuck",
};

static const char *const input_names[WI_COUNT] = {
	[WI_START] = "start",
	[WI_STOP] = "stop",
	[WI_RENEW] = "renew",
	[WI_KILL] = "kill",
	[WI_GO] = "go",
	[WI_NO_MEANS] = "no-means",
	[WI_READY] = "ready",
	[WI_TIMEOUT] = "timeout",
	[WI_LEFTOVERS] = "leftovers",
	[WI_END_AGAIN] = "end-again",
	[WI_END_BACKOFF] = "end-backoff",
	[WI_END_QUARANTINE] = "end-quarantine",
	[WI_END_DONE] = "end-done",
	[WI_END_STOPPED] = "end-stopped",
};

static const char *const effect_names[DO_COUNT] = {
	[DO_NOTHING] = "nothing",
	[DO_ADMIT] = "admit",
	[DO_SPAWN] = "spawn",
	[DO_RUN] = "run",
	[DO_STOP_BEGIN] = "stop-begin",
	[DO_STOP_STEP] = "stop-step",
	[DO_STOP_REST] = "stop-rest",
	[DO_KILL] = "kill",
	[DO_ARM_BACKOFF] = "arm-backoff",
	[DO_ARM_RETRY] = "arm-retry",
	[DO_SETTLE_DOWN] = "settle-down",
};

static const char *const cause_names[CAUSE_COUNT] = {
	[CAUSE_NONE] = "none",
	[CAUSE_EXIT] = "exit",
	[CAUSE_SIGNAL] = "signal",
	[CAUSE_OOM] = "oom",
	[CAUSE_WATCHDOG] = "watchdog",
	[CAUSE_PROBE] = "probe",
	[CAUSE_START_TIMEOUT] = "start-timeout",
	[CAUSE_STOP] = "stop",
	[CAUSE_STOP_TIMEOUT] = "stop-timeout",
	[CAUSE_RECYCLE] = "recycle",
	[CAUSE_PARENT_GONE] = "parent-gone",
	[CAUSE_SURVIVOR] = "survivor",
};

struct worker_rule worker_rule_for(enum worker_status state, enum worker_input input)
{
	return rules[state][input];
}

const char *worker_status_name(enum worker_status state)
{
	return state < WS_COUNT ? status_names[state] : "?";
}

const char *worker_input_name(enum worker_input input)
{
	return input < WI_COUNT ? input_names[input] : "?";
}

const char *worker_effect_name(enum worker_effect effect)
{
	return effect < DO_COUNT ? effect_names[effect] : "?";
}

const char *exit_cause_name(enum exit_cause cause)
{
	return cause < CAUSE_COUNT ? cause_names[cause] : "?";
}

int worker_status_from_name(const char *name)
{
	for (int i = 0; i < WS_COUNT; i++)
		if (strcmp(name, status_names[i]) == 0)
			return i;
	return -EINVAL;
}

static bool listed(const int *codes, size_t n, int code)
{
	for (size_t i = 0; i < n; i++)
		if (codes[i] == code)
			return true;
	return false;
}

bool worker_end_good(const struct conf_restart *r, const struct worker_end *e)
{
	if (e->spawn_failed || e->signal || e->not_ready || e->hung)
		return false;
	return listed(r->success_codes, r->n_success_codes, e->code);
}

/* True if the group's policy wants a start after this end (nobody asked for the end). */
static bool policy_restarts(const struct conf_restart *r, const struct worker_end *e)
{
	if (!e->signal && !e->spawn_failed && !e->hung &&
	    listed(r->no_restart_codes, r->n_no_restart_codes, e->code))
		return false;
	switch (r->when) {
	case CONF_WHEN_NEVER:
		return false;
	case CONF_WHEN_FAILURE:
		return !worker_end_good(r, e);
	default:
		return true;
	}
}

static uint32_t next_random(uint32_t *seed)
{
	uint32_t x = *seed ? *seed : 0x9e3779b9u;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return *seed = x;
}

/* delay × factor^failures, capped, ± jitter. */
static int64_t backoff_delay(struct worker_state *w, const struct conf_restart *r)
{
	double delay = (double)r->delay_ms, max = (double)r->max_delay_ms;
	double share = (double)next_random(&w->seed) / (double)UINT32_MAX * 2.0 - 1.0;

	for (uint32_t i = 1; i < w->failures && delay < max; i++)
		delay *= r->factor;
	if (delay > max)
		delay = max;
	delay += delay * r->jitter * share;
	return delay < 0 ? 0 : (int64_t)delay;
}

/* Count this automatic start; false if it would be one too many within the window. */
static bool window_allows(struct worker_state *w, const struct conf_restart *r, int64_t *window,
			  int64_t now_ms)
{
	uint32_t kept = 0;

	if (r->limit == 0)
		return true;
	for (uint32_t i = 0; i < w->window_n; i++)
		if (now_ms - window[i] < r->window_ms)
			window[kept++] = window[i];
	w->window_n = kept;
	if (kept >= (uint32_t)MIN_OF(r->limit, CONF_WINDOW_MAX))
		return false;
	window[w->window_n++] = now_ms;
	return true;
}

enum worker_input worker_decide_end(struct worker_state *w, const struct conf_restart *r,
				    const struct worker_end *e, int64_t *window, int64_t now_ms)
{
	bool immediate = e->lived_ms > r->reset_after_ms && !e->spawn_failed;

	if (!w->wanted_up)
		return WI_END_STOPPED;
	if (e->asked)
		return WI_END_AGAIN;
	if (!policy_restarts(r, e))
		return WI_END_DONE;
	if (!window_allows(w, r, window, now_ms)) {
		w->deadline_ms =
			r->retry_ms == DURATION_NEVER ? DURATION_NEVER : now_ms + r->retry_ms;
		return WI_END_QUARANTINE;
	}
	w->restarts++;
	w->failures = immediate ? 0 : w->failures + 1;
	if (immediate)
		return WI_END_AGAIN;
	w->deadline_ms = now_ms + backoff_delay(w, r);
	return WI_END_BACKOFF;
}

#define NO_MEANS_FIRST_MS 100
#define NO_MEANS_MAX_MS	  10000

int64_t worker_no_means_delay(struct worker_state *w)
{
	int64_t delay = NO_MEANS_FIRST_MS;
	double share = (double)next_random(&w->seed) / (double)UINT32_MAX;

	for (uint32_t i = 0; i < w->no_means && delay < NO_MEANS_MAX_MS; i++)
		delay *= 2;
	w->no_means++;
	return MIN_OF(delay, NO_MEANS_MAX_MS) + (int64_t)((double)NO_MEANS_FIRST_MS * share);
}

#define FAILS_OFTEN 3u

bool worker_keeps_failing(const struct worker_state *w)
{
	return w->restarts + w->no_means >= FAILS_OFTEN;
}

void worker_forget(struct worker_state *w)
{
	w->restarts = 0;
	w->failures = 0;
	w->window_n = 0;
	w->no_means = 0;
}

static int64_t add_ms(int64_t now_ms, int64_t wait_ms)
{
	return wait_ms == DURATION_NEVER ? DURATION_NEVER : now_ms + wait_ms;
}

const struct conf_step *worker_ladder_begin(struct worker_state *w, const struct conf_step *steps,
					    int n, int64_t extend_max_ms, int64_t now_ms)
{
	w->step = 0;
	w->stop_ms = now_ms;
	w->stop_cap_ms = add_ms(now_ms, extend_max_ms);
	return worker_ladder_next(w, steps, n, now_ms);
}

const struct conf_step *worker_ladder_next(struct worker_state *w, const struct conf_step *steps,
					   int n, int64_t now_ms)
{
	const struct conf_step *step;

	if (w->step >= n)
		return NULL;
	step = &steps[w->step++];
	w->deadline_ms = add_ms(now_ms, step->wait_ms);
	return step;
}

void worker_extend(struct worker_state *w, uint64_t usec, int64_t now_ms)
{
	int64_t room = INT64_MAX / 2 - now_ms;
	int64_t ms = usec / 1000 > (uint64_t)room ? room : (int64_t)(usec / 1000);
	int64_t until = now_ms + ms;

	if (w->deadline_ms == DURATION_NEVER)
		return;
	if (until > w->stop_cap_ms)
		until = w->stop_cap_ms;
	if (until > w->deadline_ms)
		w->deadline_ms = until;
}

int64_t worker_watchdog(const struct worker_state *w, int64_t told_ms, int64_t conf_ms)
{
	if (conf_ms == DURATION_NEVER)
		return DURATION_NEVER;
	if (w->watchdog_own_ms)
		return w->watchdog_own_ms;
	return told_ms ? MAX_OF(told_ms, conf_ms) : DURATION_NEVER;
}

void worker_watchdog_own(struct worker_state *w, uint64_t usec)
{
	uint64_t ms = usec / 1000;

	if (usec == 0 || usec == UINT64_MAX)
		w->watchdog_own_ms = DURATION_NEVER;
	else if (ms < CONF_WATCHDOG_MIN_MS)
		w->watchdog_own_ms = CONF_WATCHDOG_MIN_MS;
	else
		w->watchdog_own_ms = (int64_t)MIN_OF(ms, (uint64_t)CONF_WATCHDOG_MAX_MS);
}

void worker_beat(struct worker_state *w, int64_t period_ms, int64_t extend_max_ms, int64_t now_ms)
{
	w->deadline_ms = add_ms(now_ms, period_ms);
	w->stop_cap_ms = w->deadline_ms == DURATION_NEVER ? DURATION_NEVER
							  : add_ms(w->deadline_ms, extend_max_ms);
}

#define WATCH_PARTS  8
#define WATCH_MAX_MS 1000

int64_t worker_watch_next(const struct worker_state *w, int64_t period_ms, int64_t now_ms)
{
	int64_t from;

	if (w->deadline_ms == DURATION_NEVER || period_ms == DURATION_NEVER)
		return w->deadline_ms;
	from = w->deadline_ms - period_ms / 2;
	if (now_ms < from)
		return from;
	return MIN_OF(w->deadline_ms, now_ms + MIN_OF(period_ms / WATCH_PARTS, WATCH_MAX_MS));
}
