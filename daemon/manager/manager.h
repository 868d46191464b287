/*
 * The manager: every decision, one libev loop. What is in these structs is a *view*: built at start
 * from the ledger, the fd table and the canonical configuration, and thrown away with the process.
 * A fact that a successor needs and cannot rebuild belongs into the ledger, nowhere else.
 *
 *   main.c      start = recovery: map, adopt, loop, tick
 *   pause.c     what becomes of deadlines when we did not run
 *   watchdog.c  workers that hang (watchdog.h)
 *   group.c     groups and their workers from configuration + ledger; scale, generations
 *   worker.c    the one setter of a worker's state, its timer, the input queue, effects
 *   start.c     the beginning of a life: row, clock, what is undone when nobody was born
 *   exit.c      exit records: main gone → tree empty → decided → row freed
 *   admit.c     the queue of starts: dependencies, start budget
 *   reload.c    loader helper, plan, apply, renewal worker by worker
 *   shutdown.c  phases, terminal progress, what the service manager is told
 *   command.c   the one command of `reevectl run`
 *   event.c     the event ring
 *   ops.c       what operators ask for, as level changes
 *   spawn*.c child.c env.c   making a process        (spawn.h)
 *   tree*.c                  everything of a worker  (tree.h), by cgroup.c or evidence.c, proc.c
 *   notify*.c                sd_notify messages      (notify.h)
 *   template*.c handover*.c  processes that fork workers (template.h)
 *   spare.c                  workers that are forked ahead
 *   sharing.c                copies of a seed that share little by now
 *   threads*.c               workers that are threads of one process (threads.h)
 *   sockets.c listen.c       sockets of groups       (sockets.h)
 *   gauge.c                  memory page by page, off the loop
 *   control.c methods_*.c    the Varlink interface   (control.h)
 */
#ifndef REEVE_MANAGER_H
#define REEVE_MANAGER_H

#include "base/log.h"
#include "conf.h"
#include "ledger/ledger.h"
#include "ledger/logbook.h"
#include "ledger/roles.h"

#include <ev.h>

struct manager;
struct control; /* control.c's own */
struct spawner; /* spawn.c's own */
struct trees;	/* trees.h */
struct sockets; /* sockets.c's own */
struct gauge;	/* gauge.c's own */
struct sharer;	/* sharing.c's own */
struct forker;	/* template.h */
struct request; /* handover.h */

/* Memory page by page, summed over a tree. */
struct page_sums {
	int64_t pss_bytes, private_bytes, shared_bytes; /* pss -1 = unknown */
};

struct worker {
	struct manager *m;
	struct group *group;
	struct ledger_slot *slot; /* .w is the state; written by worker.c, exit.c and ops.c only */
	uint32_t row;		  /* of the slot */
	ev_timer timer;		  /* slot->w.deadline_ms */
	int64_t wake_ms;	  /* when it fires; DURATION_NEVER = it does not run */
	struct log_limit watch_limit;		/* watchdog.c */
	struct worker *next_input, *next_start; /* queues */
	uint16_t inputs; /* bit per enum worker_input that waits to be stepped */
	bool queued_start;
	bool in_flight; /* counts in starts_in_flight */
	bool draining;	/* its last exit record waits for the last words */
	bool surplus;	/* not configured any more: freed once it is stopped */
	bool discard;	/* being freed by the queue */
	bool named;	/* by the request that is being carried out */
	/* notify.c */
	int notify_fd;
	ev_io notify_io;
	uid_t notify_uid;  /* who may send */
	bool mainpid_said; /* once per life */
	struct log_limit notify_limit;
	struct forker *forker;	 /* template.c: its channel, if it forks workers */
	struct request *request; /* handover.c: while somebody forks its next life */
	int hand_fd;		 /* handover.c: a predecessor's channel, until it is resumed */
	struct request *spare;	 /* spare.c: while somebody forks its spare */
	int spare_fd;		 /* spare.c: the channel of its parked spare */
	/* threads.c: what a thread said when it ended, while that is taken over */
	const char *last_words;
	size_t last_words_len;
	/* spawn.c: pipe of the slot while the keeper has not stored it yet, else -1 */
	int pipe_out, pipe_err;
	/* last sample of its tree, and of its spare's (methods_list.c) */
	uint64_t memory_bytes, cpu_us, spare_memory_bytes;
	int64_t sampled_ms;
	/* the same page by page, only where somebody asked (methods_memory.c) */
	struct page_sums pages, spare_pages;
	int64_t pages_sampled_ms;
	char name[LEDGER_SLOT_NAME]; /* "web:3", "web/template" */
};

struct group {
	struct manager *m;
	const struct conf_group *conf; /* NULL: gone from the file, being stopped */
	struct ledger_group *row;
	uint32_t index;		     /* of the row */
	struct worker **workers;     /* by index; NULL where there is none */
	uint32_t n_workers;	     /* length of workers */
	struct worker *host;	     /* slot of kind SLOT_HOST, or NULL */
	struct worker *templates[2]; /* slots of kind SLOT_TEMPLATE; NULL where there is none */
	uint64_t up_pass;	     /* admit.c: when `up` was found out */
	/* spare.c: runs from the loss of one to the next try, so long the last time */
	ev_timer spare_timer;
	int64_t spare_pause_ms;
	struct log_limit spare_limit;
	bool up;
};

/* What makes or holds a group's workers: its templates, its host. NULL where there is none. */
#define GROUP_MAKERS 3
static inline struct worker *group_maker(const struct group *g, size_t i)
{
	return i < 2 ? g->templates[i] : g->host;
}

struct manager {
	struct ev_loop *loop;
	struct ledger ledger;
	struct logbook book;
	struct role_fd_table *fds; /* as inherited */
	struct conf *conf;
	struct group **groups; /* sorted by name; configured ones and those being removed */
	size_t n_groups;
	struct worker **by_slot; /* LEDGER_ROWS pointers */
	int store;		 /* RF_STORE */
	uint32_t pipes_put;	 /* to be compared with the keeper's pipes_seen */
	int bell, bell_keeper, bell_logger, logs_out;
	ev_io bell_io, keeper_io;
	ev_prepare turn;
	ev_timer tick; /* runs only while something is due that no event announces */
	ev_check woke; /* pause.c */
	int64_t woke_ms;
	int64_t slept_ms; /* when the loop went to sleep; 0 = for as long as it likes */
	struct worker *inputs_head, **inputs_tail; /* worker.c */
	struct worker *starts_head, **starts_tail; /* admit.c */
	uint32_t starts_in_flight;
	uint64_t admit_pass;
	uint32_t drains;  /* workers that are draining */
	bool changed;	  /* a state changed in this turn */
	bool logger_news; /* the logger's bell is rung at the end of this turn */
	struct log_limit no_means_said;
	uint32_t in_state[WS_COUNT]; /* workers by state */
	bool phase_seen;	     /* the warm phase was entered here */
	bool renewing;		     /* some worker may be of an older generation */
	bool level_by_option;	     /* --log-level wins over daemon.log.level */
	bool starts_more;	     /* admit_run() stopped at its budget per turn */
	bool groups_gone;	     /* a group has no configuration and no workers left */
	int64_t late_until_ms;	     /* our loop was late: no deadline fires before this */
	struct spawner *spawner;
	struct trees *trees;
	struct sockets *sockets;
	struct control *control;
	struct gauge *gauge;
	struct sharer *sharer;
	struct reload *reload;
	struct shutdown *shutdown;
	char **command; /* `reevectl run`: its words; NULL = there is a configuration */
};

/* Rows of a worker's current life; NULL / LEDGER_NONE if it has none. */
static inline uint32_t worker_life_row(const struct worker *w)
{
	return w->slot->life[0];
}
struct ledger_life *worker_life(const struct worker *w);
/* Pid of its main process while it lives, else 0. */
pid_t worker_pid(const struct worker *w);

/* group.c */
struct group *manager_find_group(const struct manager *m, const char *name);
struct worker *manager_find_worker(const struct manager *m, const char *group, uint32_t index);
/* Workers that the group should have now: file or scale. */
int group_workers_wanted(const struct group *g);
/* Workers wanted up / of these ready (or done well). */
void group_count(const struct group *g, int *ret_wanted, int *ret_ready);
/* Make the slots fit: configuration, scale, removal. Idempotent. */
int group_fit(struct group *g);
/* Make the slot of a template, 0 or 1. */
int group_add_template(struct group *g, uint32_t index);
/* Make the slot of a host of threads. */
int group_add_host(struct group *g);
/* So many workers it can have at most: every slot that no other group has or is to have. */
int group_room(const struct group *g);
/* -ENOSPC with *d if the groups of `next` and those that still are there have no room in the ledger
 * together. */
int groups_room_for(const struct manager *m, const struct conf *next, struct diag *d);
/* 0, or -ENOMEM. A group that finds no room for all its workers has fewer, and says so. */
int groups_build(struct manager *m);
/* Forget groups that are gone from the file and have no workers left. */
void groups_prune(struct manager *m);

/* worker.c: queue an input; it is stepped before the loop sleeps. Callable anywhere, any number of
 * times: an input that waits already is not queued twice. */
void worker_post(struct worker *w, enum worker_input input);
void workers_drain(struct manager *m);
void worker_arm(struct worker *w);
/* Compare wanted and actual and post what is missing. Called on every change and every tick. */
void worker_reconcile(struct worker *w);
/* The start of a life failed before the process was made. */
void worker_start_failed(struct worker *w, int err, const struct diag *d);
void worker_ready_now(struct worker *w);

/* exit.c: look at a life that has news (exit record, tree empty); idempotent. */
void life_look(struct manager *m, uint32_t row);
/* A drain of the slot's streams ended: complete the last words. */
void exits_drained(struct manager *m);

/* admit.c */
/* It is waiting for nothing but its turn. */
bool admit_waits_for_turn(const struct worker *w);
void admit_enqueue(struct worker *w);
void admit_run(struct manager *m);
/* What a waiting worker waits for: names of groups, "spare", "web/template"…, or "start budget". Up
 * to n strings into ret. */
size_t admit_waiting_for(const struct worker *w, char ret[][80], size_t n);

/* pause.c: holes in our own time */
#define MANAGER_TICK_MS 1000
void pause_init(struct manager *m);
/* The loop goes to sleep. */
void pause_sleep(struct manager *m);

/* event.c */
void event_write(struct manager *m, const struct worker *w, enum worker_status from,
		 enum worker_status to, enum exit_cause cause);
/* Something happened to the daemon itself; the text is cut to fit. */
void event_daemon(struct manager *m, enum daemon_event what, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Tell what the ledger says of the phase and of ended roles, each once, whoever was manager. */
void event_look(struct manager *m);
/* True if the newest event of a worker says that this one entered the state. */
bool event_is_last(const struct manager *m, const struct worker *w, enum worker_status to);

/* ops.c: what operators ask for. 0, or -errno with *d. Replies wait on conditions (control.c). */
int op_start(struct worker *w, struct diag *d);
int op_stop(struct worker *w, bool cold, struct diag *d);
int op_restart(struct worker *w, bool cold, struct diag *d);
int op_reset(struct worker *w, struct diag *d);
int op_kill(struct worker *w, int signal, enum conf_target to, struct diag *d);
int op_scale(struct group *g, int workers, struct diag *d);
int op_shutdown(struct manager *m, bool cold);

/* reload.c. Starts the loader; `done` is called once with the report (errors → nothing changed) or,
 * for a plan, with the changes; both are borrowed. path NULL = the file in force.
 * apply = false: plan only. -EBUSY is never returned: a second reload runs after the first (CF04).
 */
typedef void reload_done_fn(void *arg, const struct conf_report *report,
			    const struct conf_change *changes, size_t n_changes);
int reload_begin(struct manager *m, const char *path, bool apply, reload_done_fn *done, void *arg);
/* The caller of reload_begin went away. */
void reload_forget(struct manager *m, void *arg);
/* True while a worker of the group (NULL: of any) runs an older generation and is to be renewed. */
bool reload_renewing(const struct manager *m, const struct group *g);
/* The renewal stands still because a renewed worker was quarantined. */
bool reload_held(const struct manager *m, const struct group *g);
/* Take over the daemon block of the configuration in force. */
void reload_configured(struct manager *m);
void reload_step(struct manager *m);
void reload_fini(struct manager *m);
void reload_helper_ended(struct manager *m, uint32_t life);

/* command.c: `reevectl run`; all do nothing without it. */
int command_load(struct manager *m, struct diag *d);
/* Stopped by hand, its command is over, too. */
void command_step(struct manager *m);
/* The keeper is gone: remove its private directory. */
void command_mourn(struct manager *m);

/* shutdown.c */
int shutdown_init(struct manager *m);
void shutdown_step(struct manager *m);
/* A worker was quarantined or done badly, or a group is all done: on_failure, on_done. */
void shutdown_consider(struct manager *m, struct worker *w);

#endif
