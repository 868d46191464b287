/*
 * What is decided about one worker: states, inputs, the table between them, restart policy, stop
 * ladder, readiness. Pure: no I/O, no clock (now_ms is an argument), no memory of its own.
 *
 * struct worker_state is the whole memory of these decisions. It lies in the worker's ledger slot,
 * so a manager that dies takes nothing with it; its successor goes on from the same bytes.
 */
#ifndef REEVE_MODEL_WORKER_H
#define REEVE_MODEL_WORKER_H

#include "conf.h"

#include <stdbool.h>
#include <stdint.h>

enum worker_status {
	WS_STOPPED,
	WS_WAITING,  /* for a dependency or the start budget */
	WS_STARTING, /* made, not ready yet */
	WS_READY,
	WS_STOPPING,	/* on the stop ladder, or leftovers of its tree are being ended */
	WS_KILLING,	/* SIGKILL to the whole tree was sent */
	WS_BACKOFF,	/* restarts when the delay is over */
	WS_QUARANTINED, /* over the restart limit, or its command cannot be run */
	WS_DONE,	/* ended and not to be restarted */
	WS_STUCK,	/* SIGKILL had no effect; retried slowly, never doubled */
	WS_COUNT
};

enum worker_input {
	WI_START,     /* up is wanted and actual is not: reconcile, operator's start */
	WI_STOP,      /* down is wanted */
	WI_RENEW,     /* end this life and start the next (restart, reload) */
	WI_KILL,      /* cold: the whole tree, now */
	WI_GO,	      /* dependencies and start budget allow the start */
	WI_NO_MEANS,  /* the start failed for want of resources; not charged */
	WI_READY,     /* this incarnation is ready */
	WI_TIMEOUT,   /* the state's own deadline */
	WI_LEFTOVERS, /* main process gone, tree not empty, orphans = "kill" */
	/* the tree is empty; what the restart policy made of it: */
	WI_END_AGAIN,	/* start at once */
	WI_END_BACKOFF, /* start after a delay */
	WI_END_QUARANTINE,
	WI_END_DONE,
	WI_END_STOPPED, /* down is wanted */
	WI_COUNT
};

enum worker_effect {
	DO_NOTHING,
	DO_ADMIT,	/* enter the queue of starts */
	DO_SPAWN,	/* make the process */
	DO_RUN,		/* it is ready: dependents may go on */
	DO_STOP_BEGIN,	/* first step of the ladder */
	DO_STOP_STEP,	/* next step; after the last: WI_KILL */
	DO_STOP_REST,	/* TERM to what is left of the tree, then the rest of the grace */
	DO_KILL,	/* SIGKILL to the whole tree */
	DO_ARM_BACKOFF, /* deadline = the delay */
	DO_ARM_RETRY,	/* deadline = restart.retry */
	DO_SETTLE_DOWN, /* nothing runs and nothing will: reply to waiters */
	DO_COUNT
};

struct worker_rule {
	uint8_t next;	/* enum worker_status */
	uint8_t effect; /* enum worker_effect */
	bool allowed;	/* an absent cell is false: the input is refused */
};

/* The rule for a pair; allowed = false if the input means nothing in that state. */
struct worker_rule worker_rule_for(enum worker_status state, enum worker_input input);
const char *worker_status_name(enum worker_status state); /* "ready" */
const char *worker_input_name(enum worker_input input);	  /* "want-down" style, for logs */
const char *worker_effect_name(enum worker_effect effect);
/* "ready" → WS_READY, or -EINVAL. */
int worker_status_from_name(const char *name);

/* Why a life ended (reference §4). */
enum exit_cause {
	CAUSE_NONE,
	CAUSE_EXIT,
	CAUSE_SIGNAL,
	CAUSE_OOM,
	CAUSE_WATCHDOG,
	CAUSE_PROBE,
	CAUSE_START_TIMEOUT,
	CAUSE_STOP,
	CAUSE_STOP_TIMEOUT,
	CAUSE_RECYCLE,
	CAUSE_PARENT_GONE,
	CAUSE_SURVIVOR,
	CAUSE_COUNT
};
const char *exit_cause_name(enum exit_cause cause);

struct worker_state {
	uint8_t state; /* enum worker_status */
	uint8_t wanted_up;
	uint8_t renew; /* the next end is followed by a start, not charged as a crash */
	uint8_t cause; /* enum exit_cause that the current stop will be put down to; 0 = none yet */
	uint8_t step;  /* position on the stop ladder */
	uint8_t main_gone;		  /* main process ended, tree not empty yet */
	uint8_t by_hand;		  /* wanted_up was set by an operator: outlives reloads */
	uint8_t ready_seen;		  /* READY=1 came from this incarnation */
	uint32_t incarnation, generation; /* of the current or last life; 0 = never started */
	uint32_t restarts; /* automatic starts since reset: one per exit that was followed by one */
	uint32_t failures; /* ends in a row without a life ≥ reset_after: the back-off's exponent */
	uint32_t window_n;   /* starts remembered in the sliding window (ledger exits row) */
	uint32_t no_means;   /* starts in a row that failed for want of resources */
	uint32_t seed;	     /* jitter: xorshift state, never 0 */
	int64_t since_ms;    /* the state was entered */
	int64_t deadline_ms; /* the state's own deadline; DURATION_NEVER = none */
	int64_t started_ms;  /* exec of the current life */
	int64_t ready_ms;    /* it became ready; 0 = not yet */
	int64_t stop_ms;     /* the stop of this life began; 0 = not stopping */
	int64_t stop_cap_ms; /* stop may be extended up to here (EXTEND_TIMEOUT_USEC) */
	/* A step is signalled exactly once, whenever the manager dies: intent first, then the
	 * request in the life row, then step. kill_mark = the life's kill_want when the intent was
	 * written. */
	uint32_t kill_mark;
	uint8_t step_intent;
	uint8_t ended_well; /* the last end counted as success (with WS_DONE: dependents may go on)
			     */
	uint8_t told;	    /* the state that the last event of this worker has told */
	uint8_t proving;    /* since 0.2.0: its code is new since a reload, and was not well yet */
	int64_t watchdog_own_ms; /* since 0.2.0: the one that this life asked for; 0 = none */
	int64_t reserved[3];
};

/* How a life ended, as the policy needs it. */
struct worker_end {
	int code;   /* exit code, or -1 */
	int signal; /* killing signal, or 0 */
	bool core;
	bool asked;	   /* we asked for it: stop, renew, kill: never charged */
	bool spawn_failed; /* never reached exec */
	bool not_ready;	   /* ready = "notify" and it ended without READY: never a success */
	bool hung;	   /* ended by its watchdog: whatever its code, a failure to be restarted */
	int64_t lived_ms;
};
/* True if the end counts as success for this group. */
bool worker_end_good(const struct conf_restart *r, const struct worker_end *e);

/*
 * The tree is empty: which WI_END_* follows. Updates failures, restarts, window and (for BACKOFF,
 * QUARANTINE) deadline_ms. window: CONF_WINDOW_MAX times in ms, ring with window_n entries used.
 */
enum worker_input worker_decide_end(struct worker_state *w, const struct conf_restart *r,
				    const struct worker_end *e, int64_t *window, int64_t now_ms);
/* Delay before the next try after a start that failed for want of resources. */
int64_t worker_no_means_delay(struct worker_state *w);
/* It ended again and again (or could not be made for want of resources) since it was last reset:
 * nobody should wait for it to be ready. */
bool worker_keeps_failing(const struct worker_state *w);
/* Zero counters, window and back-off (reset, operator's start). */
void worker_forget(struct worker_state *w);

/* Stop ladder. The step to send now, or NULL when the ladder is over (then WI_KILL). Sets
 * deadline_ms and advances. worker_ladder_begin() starts it, worker_ladder_next() is for timeouts.
 */
const struct conf_step *worker_ladder_begin(struct worker_state *w, const struct conf_step *steps,
					    int n, int64_t extend_max_ms, int64_t now_ms);
const struct conf_step *worker_ladder_next(struct worker_state *w, const struct conf_step *steps,
					   int n, int64_t now_ms);
/* EXTEND_TIMEOUT_USEC while starting or stopping, or while a watchdog runs: saturating, capped by
 * stop_cap_ms. */
void worker_extend(struct worker_state *w, uint64_t usec, int64_t now_ms);

/*
 * The watchdog is the deadline of WS_READY. Since 0.2.0.
 * The period that this life is held to, DURATION_NEVER = to none; conf_ms: its group's. It is what
 * the life was told (0 = of none) or asked for; what the group has now counts where it is longer,
 * or none.
 */
int64_t worker_watchdog(const struct worker_state *w, int64_t told_ms, int64_t conf_ms);
/* WATCHDOG_USEC: within the bounds of the key; 0 and 2^64-1 are none, as for systemd. */
void worker_watchdog_own(struct worker_state *w, uint64_t usec);
/* A sign of life: a full period from now, which may be extended by extend_max. */
void worker_beat(struct worker_state *w, int64_t period_ms, int64_t extend_max_ms, int64_t now_ms);
/*
 * When to look after it next. Not before half of its period has gone without a sign: who says
 * WATCHDOG=1 twice in a period, as is the custom, is never looked at. Then often, so that a time in
 * which we did not run ourselves is seen, and does not count.
 */
int64_t worker_watch_next(const struct worker_state *w, int64_t period_ms, int64_t now_ms);

#endif
