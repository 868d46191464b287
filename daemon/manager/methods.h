/*
 * Between control.c and the methods of org.reeve.Control (methods_*.c). What each method does for a
 * client stands in lib/org.reeve.Control.varlink.
 */
#ifndef REEVE_MANAGER_METHODS_H
#define REEVE_MANAGER_METHODS_H

#include "lib/varlink_server.h"
#include "manager/control.h"

enum right { RIGHT_NONE, RIGHT_READER, RIGHT_OPERATOR, RIGHT_ADMIN };

#define CONTROL_ERROR(name) "org.reeve.Control." name

struct waiter;
struct follower;

struct control {
	struct manager *m;
	struct vl_server *server;
	int listen_fd;
	ino_t inode; /* of our socket file: another's is never unlinked */
	struct waiter *waiters;
	struct follower *followers;
	ev_timer sampler; /* methods_list.c: refreshes samples that a list did not wait for */
	uint32_t sample_at;
};

static inline struct manager *call_manager(struct vl_call *c)
{
	return ((struct control *)vl_call_data(c))->m;
}
/* What the caller may do; also used inside methods (Show, Reload). */
enum right call_right(struct vl_call *c);

/* ---- targets.c ---- */

/* A worker that may be gone by the time it is looked at again. */
struct worker_ref {
	uint32_t row, group, kind, index;
};
/* NULL: it is gone. */
struct worker *worker_deref(const struct manager *m, const struct worker_ref *ref);

struct target {
	char *text;
	bool known;
	uint32_t first, n; /* of refs */
	int err;	   /* of the operation, with text in error */
	char error[160];
};
struct targets {
	struct target *items;
	size_t n;
	struct worker_ref *refs;
	size_t n_refs;
};
/* texts: JSON array, NULL = all. 0 or -ENOMEM; unknown ones are kept with known = false. */
int targets_resolve(struct manager *m, const json_t *texts, struct targets *ret);
void targets_fini(struct targets *t);
/* True if the target means the worker of that name, now or when it will be there. */
bool target_names(const char *text, const char *worker);
/* Answer with NoSuchTarget and the nearest name. */
void target_refuse(struct vl_call *c, const struct manager *m, const char *text);
/* The first unknown target is answered with NoSuchTarget: then true, and the call is over. */
bool targets_refuse_unknown(struct vl_call *c, const struct manager *m, const struct targets *t);

/* ---- methods_list.c ---- */
/* pss: with pss_bytes, which costs a look at every process of its tree. */
void write_worker(struct str *out, const char *key, struct worker *w, bool pss);
/* "run", "warm", "cold", "gone" */
const char *phase_name(uint32_t phase);
void write_time(struct str *out, const char *key, int64_t real_us);
void write_how(struct str *out, const struct exit_record *rec);
/* "error": what failed before exec; nothing of a life that ran. */
void write_start_error(struct str *out, const struct exit_record *rec);
void write_signal(struct str *out, const char *key, int number);
void sample_fired(struct ev_loop *loop, ev_timer *t, int events);

/* ---- methods_job.c ---- */

struct args_list;

struct job;
struct job_kind {
	const char *key;   /* of the list of rows in the reply */
	unsigned rows;	   /* workers in one reply with `more`; 0 = all in one */
	unsigned per_look; /* rows between two looks at the clock */
	/* Something to be done before the rows, in small pieces; false when there is no more. */
	bool (*prepare)(struct job *j);
	/* Append the worker; true if it was. */
	bool (*row)(struct job *j, struct worker *w);
	/* Rows that belong to no worker, at the end of the last list. */
	void (*more_rows)(struct job *j);
	/* What stands behind the list, in the last reply and in the others. */
	void (*rest)(struct job *j, bool last);
};
struct job {
	struct control *control;
	struct vl_call *call;
	const struct job_kind *kind;
	struct targets targets;
	size_t at; /* next ref */
	unsigned rows;
	bool memory, unwell, all, admin, kept;
	bool asked, waiting;	    /* the gauge; methods_memory.c goes on when it has answered */
	struct memory_wish *wishes; /* what is to be measured */
	size_t n_wishes, wishes_room;
	struct gauge_request *gauge;	     /* the answer; NULL = not asked */
	size_t group, worker;		     /* for prepare */
	unsigned prepared;		     /* pieces done */
	uint64_t groups[LEDGER_GROUPS / 64]; /* bit per row: it is named, or a worker of it is */
	struct str out;
	ev_timer again;
};
static inline bool job_names_group(const struct job *j, const struct group *g)
{
	return j->all || (j->groups[g->index / 64] >> g->index % 64 & 1);
}
/* Answers the call, now or later. */
void job_start(struct vl_call *c, const struct job_kind *kind, const struct args_list *a);
/* What it waited for is there. */
void job_go_on(struct job *j);

/* ---- methods_memory.c: memory page by page (gauge.h) ---- */
/* The processes of w are to be measured. */
void memory_wish(struct job *j, struct worker *w);
/* For job_kind.prepare, when all is wished for: true the first time, and the job waits. Then the
 * workers have their sums, and the processes their numbers. */
bool memory_wait(struct job *j);
/* prepare for kinds whose rows are the workers of the targets. */
bool memory_of_targets(struct job *j);
/* pss_bytes, private_bytes, shared_bytes; nothing where they are not known. */
void memory_write_worker(struct str *out, const struct worker *w);
void memory_write_process(const struct job *j, struct str *out, pid_t pid, uint64_t starttime);
void memory_fini(struct job *j);

/* ---- waiters (methods_change.c) and followers (methods_watch.c) ---- */
void waiters_wake(struct control *c);
void followers_wake(struct control *c);

/* Wait until every worker of the targets is in a state. */
void wait_for_state(struct vl_call *c, struct targets *t, int state, int64_t timeout_ms);

/* An operation id. OP_NEW: now written down, or there is none; -EINVAL: not 32 hexadecimal digits.
 * *ret: its row, or NULL without an id. op_done() says that it was carried out. */
enum op_known {
	OP_NEW,
	OP_DONE,      /* carried out before: only its outcome is wanted */
	OP_UNFINISHED /* a manager died while it carried it out: do what is missing, nothing twice
		       */
};
int op_claim(struct manager *m, uid_t uid, const char *method, const char *text,
	     struct ledger_op **ret);
void op_done(struct ledger_op *op);
/* For calls that wait before they are carried out: the ring may come round meanwhile. */
struct op_kept {
	struct ledger_op *op; /* NULL = without an id */
	uint8_t id[16];
};
void op_keep(struct op_kept *k, struct ledger_op *op);
void op_kept_done(struct op_kept *k);

/* One handler a method; the table is in control.c. */
#define METHODS(X)                                                                                 \
	X(dump)                                                                                    \
	X(doctor)                                                                                  \
	X(events)                                                                                  \
	X(kill)                                                                                    \
	X(list)                                                                                    \
	X(logs)                                                                                    \
	X(plan)                                                                                    \
	X(reload)                                                                                  \
	X(reset)                                                                                   \
	X(restart)                                                                                 \
	X(scale)                                                                                   \
	X(show)                                                                                    \
	X(shutdown)                                                                                \
	X(start)                                                                                   \
	X(stop)                                                                                    \
	X(tree)                                                                                    \
	X(upgrade)                                                                                 \
	X(version)                                                                                 \
	X(wait)
#define DECLARE_METHOD(name) void method_##name(struct vl_call *c, const void *args);
METHODS(DECLARE_METHOD)

/* Arguments, as the parameter tables in control.c fill them. */
struct args_list {
	const json_t *targets;
	bool memory, unwell;
};
struct args_change {
	const json_t *targets;
	const char *op, *group, *signal;
	int64_t timeout_ms, workers;
	int to;
	bool wait, cold;
};
struct args_reload {
	const json_t *groups;
	const char *op;
	int64_t timeout_ms;
	bool wait;
};
struct args_logs {
	const json_t *targets, *streams;
	const char *since, *after;
	int64_t lines;
	bool follow;
};
struct args_events {
	const json_t *targets;
	int64_t since;
	bool follow;
};
struct args_wait {
	const json_t *targets;
	int state;
	int64_t timeout_ms;
};

#endif
