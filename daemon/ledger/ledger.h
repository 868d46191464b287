/*
 * The ledger: one memfd mapped by keeper and manager. All that must outlive the manager is here.
 * EVERY FIELD HAS ONE WRITER, named in front of it: K = keeper, M = manager, C = the child between
 * clone and exec, X = the kernel (CLONE_PARENT_SETTID). While a row is free the manager may reset
 * any field of it. Readers tolerate that fields of a row change while they look; what must be seen
 * in order is _Atomic and stored with release.
 *
 * Sparse: a row costs memory once it is used. Strides are in the header and leave ≥ 25 % reserve;
 * fields are only ever appended. A manager refuses an unknown or newer layout (ledger_check).
 *
 * Since 0.1.0. Source: memfd_create(2) 3.17, clone3(2) 5.3.
 */
#ifndef REEVE_LEDGER_H
#define REEVE_LEDGER_H

#include "base/diag.h"
#include "model/worker.h"

#include <stdatomic.h>
#include <stdint.h>

#define LEDGER_MAGIC   0x3130455645455221ull
#define LEDGER_VERSION 1u /* changed only when older maps cannot be read any more */
/* Sets of fields appended since: 0 = 0.1.0, 1 = 0.2.0. One more with each release that appends. An
 * older map is accepted (what it lacks is zero), one with more fields than we know is not: what we
 * do not know we might break. */
#ifndef LEDGER_FIELDS
#define LEDGER_FIELDS 1u
#endif
#define LEDGER_ROWS   65536u /* slots, lives */
#define LEDGER_GROUPS 4096u
#define LEDGER_EVENTS 4096u
#define LEDGER_OPS    512u
#define LEDGER_RING   16384u /* power of two */
#define LEDGER_NONE   UINT32_MAX

/* One command instead of a configuration: none, with our own stdio, with the terminal as well. */
enum run_mode { RUN_NONE, RUN_PLAIN, RUN_TERMINAL };

enum phase { PHASE_RUN, PHASE_WARM, PHASE_COLD, PHASE_GONE };

/* Ends of a role that nobody asked for. K; count is written last. */
struct ledger_role_end {
	int32_t how, status; /* of the last: CLD_EXITED and a code, or a signal */
	_Atomic uint32_t count;
};
enum { LEDGER_MANAGER, LEDGER_LOGGER, LEDGER_ROLES };

/* Row numbers from one writer to one reader; a full ring sets overflow = "scan everything". */
struct ledger_ring {
	_Atomic uint32_t head;	   /* writer */
	_Atomic uint32_t tail;	   /* reader */
	_Atomic uint32_t overflow; /* writer sets 1, reader takes it by exchange */
	uint32_t rows[LEDGER_RING];
};

/* How an upgrade ended, valid once header.upgrade_done has reached its number. */
#define UPGRADES_KEPT 16u
struct ledger_upgrade {
	uint32_t number;       /* counts from 1; an older one may have been written over */
	int32_t err;	       /* 0 = the new program is in charge, or -errno */
	char from[24], to[24]; /* versions; to: "" = unknown */
	char text[256];	       /* why not */
};

struct ledger_header {
	/* K, once, before anybody else maps it */
	uint64_t magic;
	uint32_t version, rows;
	uint32_t slot_stride, life_stride, exit_stride, group_stride;
	uint64_t groups_at, slots_at, lives_at, pids_at, fds_at, exits_at, events_at, ops_at, bytes;
	uint8_t identity[16]; /* kept in runtime_dir/identity */
	char identity_text[33];
	char boot_id[37];
	int32_t keeper_pid;
	int64_t started_real_us;
	char runtime_dir[128];
	char cgroup_base[256];	/* absolute path of the directory that holds "daemon" and "w"; "" =
				   no cgroups */
	char cgroup_note[256];	/* why not, for doctor; "" = all is well */
	uint8_t pid1;		/* the keeper is pid 1 of its pid namespace */
	uint8_t user_daemon;	/* not root */
	uint8_t cgroup_kill_ok; /* cgroup.kill exists (5.14) */

	/* K, at run time */
	_Atomic uint32_t phase;		/* enum phase, only forward */
	_Atomic int64_t phase_ms;	/* monotonic, when it was entered */
	_Atomic uint32_t reloads_asked; /* SIGHUP count */
	_Atomic uint32_t reopens_asked; /* SIGUSR1 count */
	_Atomic uint32_t manager_starts, logger_starts;
	_Atomic int32_t manager_pid, logger_pid;
	_Atomic uint64_t strangers_reaped; /* children that were in no row */
	/* Counted before and after each wait that may take a child away. Equal, and the same after
	 * /proc/PID/task/TID/children was read: nobody left while it was read. */
	_Atomic uint64_t reaps_begun, reaps_done;
	_Atomic int64_t
		late_until_ms; /* our own loop was late: fire no deadline before a fresh look */

	/* M */
	_Atomic uint32_t phase_ack;
	_Atomic uint32_t
		phase_want; /* shutdown asked by a client or on_failure: the keeper enters it */
	_Atomic uint32_t reloads_done, reopens_done;
	_Atomic uint64_t turns; /* completed loop turns: the keeper's evidence of progress */
	_Atomic uint32_t slots_high, lives_high, groups_high; /* rows ever used: bound of scans */
	_Atomic uint32_t gone;	      /* 1: all trees are empty, the keeper may end the daemon */
	_Atomic int32_t exit_code;    /* valid with gone */
	_Atomic uint32_t stray_leave; /* stray_orphans = "leave" */
	_Atomic int64_t watchdog_ms;  /* daemon.manager_watchdog; 0 = default */
	_Atomic uint64_t event_seq;   /* last event written; events count from 1 */
	_Atomic uint32_t op_next;
	/* what the service manager is told (sd_notify), sent by the keeper when sd_seq changes */
	_Atomic uint32_t sd_seq;
	_Atomic uint32_t sd_ready;	 /* READY=1 may be said */
	_Atomic uint32_t sd_reloading;	 /* count: RELOADING=1 … READY=1 around each */
	_Atomic uint64_t sd_extend_usec; /* EXTEND_TIMEOUT_USEC to send, 0 = none */
	char sd_status[160];
	/* K: descriptors it can still store, and log pipes it was given so far (see spawn_output.c)
	 */
	_Atomic int32_t fds_room;
	_Atomic uint32_t pipes_seen;
	/* daemon.log, live: the keeper follows when log_seq changes. What an option set is not here
	 */
	_Atomic uint32_t log_seq;
	uint32_t log_level;		  /* enum log_level */
	char log_to[CONF_LOG_TO_MAX + 1]; /* as configured; too long = "" = stays as it is */

	struct ledger_ring to_manager; /* K → M: lives with news (exit, claim, signal sent) */
	struct ledger_ring to_keeper;  /* M → K: lives with kill requests */

	/* Appended in 0.2.0 */
	_Atomic uint32_t fields;       /* K: LEDGER_FIELDS of the newest program that kept it */
	_Atomic uint32_t upgrade_want; /* M: upgrades asked for so far. Ring the keeper */
	_Atomic uint32_t upgrade_done; /* K: of these so many are over, see upgrades */
	_Atomic uint32_t role_changes; /* K: managers and loggers replaced by upgrades */
	struct ledger_upgrade upgrades[UPGRADES_KEPT];	/* K: number % UPGRADES_KEPT */
	struct ledger_role_end role_ends[LEDGER_ROLES]; /* K */
	/* M: what was told of them, and of the phase, as events */
	_Atomic uint32_t role_ends_told[LEDGER_ROLES], phase_told;
	/* K, once: `reevectl run`, enum run_mode */
	uint32_t run_mode;
	/* K, once: why orphans do not come to the keeper, an errno; 0 = they do */
	uint32_t subreaper_errno;
	/* K, once: RLIMIT_FSIZE as we were started, for workers; valid if fsize_raised */
	uint32_t fsize_raised;
	uint64_t fsize_soft, fsize_hard;
};

/* M: one per group ever configured in this daemon's life. */
struct ledger_group {
	char name[CONF_GROUP_NAME_MAX + 1]; /* "" = free */
	uint64_t hash;	      /* conf_group_hash(): a change of it is a new generation */
	uint32_t generation;  /* from 1 */
	int32_t scale;	      /* set by hand; -1 = as configured */
	int32_t workers_file; /* workers as the file said when scale was set */
	uint8_t configured;   /* 0: removed, being stopped */
	uint8_t orphans;      /* enum conf_orphans: also for a group that is gone from the file */
	uint8_t n_steps;
	struct conf_step steps[CONF_STEPS_MAX];
	int64_t extend_max_ms;
	uint32_t template_failed; /* generation whose template could not be loaded; 0.2.0 */
	/* since 0.2.0: a renewal on request; intent first, so that none is done twice */
	uint32_t renew_generation; /* what generation becomes by it */
	uint8_t renew_op[16];	   /* the operation that asked; zeros = without an id */
	uint32_t sharing_failed;   /* generation whose copies do not share more when forked anew;
				      0.2.0 */
};

/* What a slot is for; it is part of its name: "web:3", "web/template", "web/host". */
enum slot_kind {
	SLOT_WORKER,
	SLOT_TEMPLATE, /* two per group: index 0 and 1, so that a next one can load beside the old
			*/
	SLOT_HOST,     /* of a group of threads */
	SLOT_KINDS
};
#define LEDGER_SLOT_NAME (CONF_GROUP_NAME_MAX + 13) /* bytes of such a name */

enum life_kind {
	LIFE_WORKER = 1,
	LIFE_HELPER, /* loader, gauge */
	LIFE_THREAD, /* of a host's process: it never has a pid, and M writes its exit record */
};
/* What the keeper made of a claim (STORE_CLAIM) to the row. */
enum life_claim { CLAIM_NONE, CLAIM_TAKEN, CLAIM_REFUSED };
/* How far a life that somebody else forks for us has come (HAND_NONE: we cloned it ourselves). */
enum life_handover {
	HAND_NONE,
	HAND_ASKED,  /* FORK is being asked for; there may be a process that waits for GO */
	HAND_BORN,   /* it has reported, the keeper is asked to claim it */
	HAND_PARKED, /* a spare: claimed, its channel is in the keeper's store, it waits for GO */
	HAND_GO /* its channel is in the keeper's store: it runs, or a successor says GO again */
};
enum life_use { LIFE_FREE, LIFE_MADE /* allocated; the pid may come at any moment */ };

enum template_recycle { RECYCLE_NOT, RECYCLE_FORKS, RECYCLE_AGE, RECYCLE_MEMORY, RECYCLE_FD };
/* M: what a process that forks workers (a template, a seed) said and did in its life. */
struct ledger_template {
	uint32_t requests;   /* number of the last request; written before it is sent */
	uint32_t forks;	     /* workers that were let go */
	uint32_t tasks, fds; /* as seen last */
	uint64_t load_us;    /* as it said at READY */
	uint64_t rss_ready_bytes, rss_bytes; /* at READY, as seen last */
	int64_t ready_ms;		     /* READY came; 0 = not yet */
	uint64_t fd_map[8]; /* open fds at READY, a bit each; those above are not followed */
	uint8_t draining;   /* forks no more: another one serves, or is to */
	uint8_t unsafe;	    /* the last look refused; why: slot.error */
	uint8_t fd_map_valid;
	uint8_t recycle;    /* enum template_recycle: the next one is to be loaded */
	uint8_t ready_next; /* of a seed: READY is the next word on its channel, or was taken */
	uint8_t returns;    /* of a seed: it came to a fork point again, long after its first */
	uint8_t released;   /* of a seed: it was told that nobody waits for it at its first one */
	uint8_t reserved_bytes[1];
	char runtime[48]; /* "python 3.11.2" */
};

/* M: one per worker, template or host. */
struct ledger_slot {
	_Atomic uint32_t used;
	uint32_t group; /* row in groups */
	uint32_t index;
	_Atomic uint32_t life[2]; /* rows of lives, LEDGER_NONE = none; [1] is a spare */
	struct worker_state w;
	struct worker_state w_next; /* decided at an end, not yet taken over: see life.verdict */
	uint32_t exits;		    /* exit records ever written for this slot */
	char status[160];	    /* STATUS= text of this incarnation, bytes, no NUL inside */
	uint64_t progress_done, progress_total;
	uint64_t cpu_us_before; /* of former lives */
	char error[192];	/* why the last start failed, for users; "" = it did not */
	uint32_t op_restart;	/* incarnation when a restart was last asked for: it is done beyond
				   that */
	uint32_t kind;		/* enum slot_kind, since 0.2.0 */
	struct ledger_template template; /* since 0.2.0 */
	uint8_t hand_tries;		 /* forks asked for since it ran last; since 0.2.0 */
	uint8_t by_spawn_next; /* its next start is by exec, although its group forks; 0.2.0 */
	uint8_t anew_times; /* so often in a row, the next one included, see forked_anew; 0.2.0 */
	uint8_t reserved_bytes[1];
	/* since 0.2.0: the incarnation that is there because the one before it shared too little
	 * with its seed; noted before it is made. 0 = none */
	uint32_t forked_anew;
	uint64_t cpu_us_next; /* cpu_us_before as w_next has it, since 0.2.0 */
	/* What its streams had counted when the worker was made or reset: streams belong to rows
	 * and count on. Since 0.2.0 */
	struct {
		uint64_t total, dropped;
	} log_from[2];
	int64_t beat_ms; /* it said WATCHDOG=1, a thread "beat"; 0 = never yet, since 0.2.0 */
};

/* One per process that we made. A row serves one life. */
struct ledger_life {
	_Atomic uint32_t use;			      /* M */
	uint32_t kind, slot, incarnation, generation; /* M */
	int64_t born_ms;			      /* M */
	uint64_t token;		 /* M: random, in the name of its notify socket */
	uint64_t log_mark[2];	 /* M: bytes of its streams before it was born */
	uint8_t in_cgroup;	 /* M: was to be born in its leaf */
	_Atomic uint8_t verdict; /* M: the WI_END_* that follows, + 1: set = slot.w_next is valid */
	uint8_t notify;		 /* M: has a notify socket */
	_Atomic uint32_t stage;	 /* C: enum spawn_stage reached */
	_Atomic int32_t stage_errno; /* C: not 0 = failed there */
	_Atomic int32_t
		ctid; /* X: cleared when the child has exec'ed or ended (CLONE_CHILD_CLEARTID) */
	_Atomic uint32_t execed; /* M: exec was seen */
	/* signals to main or its process group: M appends, K sends in order, each exactly once */
	struct {
		uint8_t signal, to; /* to: CONF_TO_MAIN or CONF_TO_PGRP */
	} kill[8];		    /* M */
	_Atomic uint32_t kill_want; /* M: requests ever made */
	_Atomic uint32_t kill_done; /* K: requests carried out */
	_Atomic int32_t kill_errno; /* K: of the last */
	_Atomic uint32_t claim;	    /* K: enum life_claim */
	/* exit record, written by the keeper before it reaps */
	_Atomic uint32_t exited;		/* K: 1 once the fields below are valid */
	int32_t exit_how;			/* K: CLD_EXITED, CLD_KILLED, CLD_DUMPED */
	int32_t exit_status;			/* K: code or signal */
	int64_t exit_ms, exit_real_us;		/* K */
	int64_t user_us, system_us, maxrss_kb;	/* K */
	uint64_t minflt, majflt, nvcsw, nivcsw; /* K */
	/* since 0.2.0 */
	_Atomic uint32_t
		handover;     /* M: enum life_handover; in such a life M writes the stage, too */
	uint32_t source_slot; /* M: it was forked from the process of this slot */
	uint32_t source_incarnation, source_generation; /* M */
	uint8_t has_channel; /* M: its channel is in the keeper's store */
	uint8_t unheard; /* M: it broke the rules of its channel: to be ended, not heard any more */
	uint8_t log_to, log_stderr; /* M: of a spare: the group's log.to, log.stderr */
	uint32_t spare_count;	    /* M: of a spare: workers of the group when it was forked */
	int64_t watchdog_told_ms;   /* M: WATCHDOG_USEC in its environment; 0 = none */
};

/* K: numbers of fds the keeper stores for a slot, as its own fd numbers + 1; 0 = none. */
struct ledger_fds {
	_Atomic int32_t out, err;
};

#define EXITS_KEPT 4u
#define EXIT_LINES 1536u /* bytes of last words kept with an exit */

/* Complete: its last words were taken too, be there any or not. */
enum exit_valid { EXIT_ABSENT, EXIT_WRITTEN, EXIT_COMPLETE };

struct exit_record { /* M */
	uint32_t incarnation, generation;
	int64_t started_real_us, at_real_us;
	int32_t pid, code, signal;	   /* code -1 = by signal; signal 0 = by exit */
	uint8_t core, cause, stage, valid; /* valid: enum exit_valid */
	int32_t stage_errno;
	int64_t lived_ms, user_us, system_us, maxrss_kb;
	uint32_t drain; /* last words are complete once the stream was drained up to this request */
	uint32_t drain_err; /* the same of a separate stderr; 0 = there is none */
	uint64_t from[2];   /* totals of its streams when it was born */
	char error[192];    /* what failed before exec, for users */
	uint32_t lines_len;
	char lines[EXIT_LINES];
};

struct ledger_exits { /* M: one per slot */
	int64_t window[CONF_WINDOW_MAX];
	struct exit_record records[EXITS_KEPT]; /* ring: slot.exits % EXITS_KEPT is the next */
	int64_t window_next[CONF_WINDOW_MAX];	/* window as slot.w_next has it, since 0.2.0 */
};

enum event_kind { EVENT_WORKER, EVENT_DAEMON };
/* What happened to the daemon itself. */
enum daemon_event {
	DAEMON_PHASE,	      /* from, to: enum phase */
	DAEMON_RELOAD,	      /* a configuration was applied */
	DAEMON_RELOAD_FAILED, /* nothing was changed */
	DAEMON_ROLE_ENDED,    /* manager or logger; incarnation: how often by now */
	DAEMON_EVENTS
};

struct ledger_event {	      /* M */
	_Atomic uint64_t seq; /* 0 while it is being written */
	int64_t at_real_us;
	uint32_t incarnation;
	uint8_t from, to, cause; /* enum worker_status, exit_cause; daemon: cause is the event */
	uint8_t kind;		 /* enum event_kind */
	char worker[76];	 /* "web:3"; daemon: more about it, may be "" */
};

/* An operation a client asked for, written before acting: a resent call acts no second time. */
struct ledger_op { /* M */
	uint8_t id[16];
	uint32_t uid;
	int64_t at_real_us;
	char method[16];
	_Atomic uint32_t state; /* 0 free, 1 accepted, 2 carried out */
	uint32_t number;	/* of an upgrade: ledger_header.upgrade_want; 0 = not asked yet */
	int64_t at_ms;		/* monotonic, when it was accepted */
};

struct ledger {
	struct ledger_header *h;
	_Atomic uint32_t
		*pids; /* X or K; one per life row; 0 = none. Apart so that a scan is short */
	size_t bytes;
	uint32_t slot_hint, life_hint; /* this process's own: all rows below are in use */
};

/* Make the memfd; -errno. The header is complete when it returns. */
int ledger_create(const uint8_t identity[static 16], const char *runtime_dir, int *ret_fd,
		  struct ledger *ret);
/* Map an existing one; -EPROTO with *d if the layout is not ours. */
int ledger_open(int fd, struct ledger *ret, struct diag *d);
void ledger_fini(struct ledger *l);

struct ledger_group *ledger_group(const struct ledger *l, uint32_t row);
struct ledger_slot *ledger_slot(const struct ledger *l, uint32_t row);
struct ledger_life *ledger_life(const struct ledger *l, uint32_t row);
struct ledger_fds *ledger_fds(const struct ledger *l, uint32_t row);
struct ledger_exits *ledger_exits(const struct ledger *l, uint32_t row);
struct ledger_event *ledger_event(const struct ledger *l, uint64_t seq);
struct ledger_op *ledger_op(const struct ledger *l, uint32_t row);

/* Rows, manager only. Allocation finds the lowest free row; LEDGER_NONE when all are used. */
uint32_t ledger_take_slot(struct ledger *l, uint32_t group, enum slot_kind kind, uint32_t index);
uint32_t ledger_take_life(struct ledger *l, enum life_kind kind, uint32_t slot);
uint32_t ledger_take_group(struct ledger *l, const char *name);
void ledger_free_slot(struct ledger *l, uint32_t row);
void ledger_free_life(struct ledger *l, uint32_t row);

/* Names, since 0.2.0. Of a slot: "web:3", "web/template", "web/template.1" (the second one). */
void ledger_slot_name(const struct ledger *l, const struct ledger_slot *slot,
		      char ret[static LEDGER_SLOT_NAME]);
/* Of a life's cgroup below the base: "w/web/3.7", "w/web/template.7"; ret is cut to fit. */
void ledger_leaf(const struct ledger *l, uint32_t life, char *ret, size_t size);

/* The live row (pid set, no exit record, not free) with this pid, or LEDGER_NONE. */
uint32_t ledger_find_pid(const struct ledger *l, pid_t pid);
/* Live = pid set and no exit record. */
bool ledger_life_live(const struct ledger *l, uint32_t row);

/* Manager: ask the keeper for a signal to main or process group. -EBUSY if 8 are pending. Ring the
 * keeper's bell afterwards. */
int ledger_ask_kill(struct ledger *l, uint32_t life, int signal, enum conf_target to);

/* Rings: put never fails (overflow); take returns a row, LEDGER_NONE when empty. *ret_scan is set
 * when rows were lost and everything must be looked at. */
void ledger_ring_put(struct ledger_ring *r, uint32_t row);
uint32_t ledger_ring_take(struct ledger_ring *r, bool *ret_scan);

#endif
