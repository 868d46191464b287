/*
 * Methods that change something. Each is one row: what to do to a worker, and what must be true
 * before the answer. A call that waits is looked at after every turn in which a state changed, so
 * an answer is true at the moment it is given (CT10), and a client that leaves changes nothing.
 */
#include "manager/methods.h"

#include "base/clock.h"
#include "base/mem.h"
#include "manager/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define STEP_PERIOD_S .25
#define STEP_NAMES    8

enum progress { NOT_YET, REACHED, NEVER };

struct waiter {
	struct waiter *next;
	struct control *control;
	struct vl_call *call;
	struct targets targets;
	const struct verb *verb;
	int state; /* of Wait */
	int64_t deadline_ms;
	ev_timer timer, step;
	uint32_t hint; /* ref that was not there yet when last looked at */
};

struct verb {
	const char *name; /* in the ledger's operations */
	int (*act)(struct worker *w, const struct args_change *a, struct diag *d);
	/* What is true of the worker; text: why it never will be. w NULL: the worker is gone. */
	enum progress (*look)(const struct waiter *q, const struct worker *w, char *text,
			      size_t size);
	bool brings_up; /* refused once the shutdown has begun */
	/* Go on where a manager died in the middle; NULL: act may be repeated. */
	int (*redo)(struct worker *w, const struct ledger_op *op, struct diag *d);
};

static enum progress never(char *text, size_t size, const struct worker *w, const char *why)
{
	snprintf(text, size, "%s: %s", w->name, why);
	return NEVER;
}

static bool well(const struct worker_state *s)
{
	return s->state == WS_READY || (s->state == WS_DONE && s->ended_well);
}

/* Ready is reached, on its way, or out of reach. */
static enum progress look_up(const struct waiter *q, const struct worker *w, char *text,
			     size_t size)
{
	const struct worker_state *s = w ? &w->slot->w : NULL;

	if (!s)
		return snprintf(text, size, "the worker is gone"), NEVER;
	if (well(s))
		return REACHED;
	if (s->state == WS_QUARANTINED)
		return never(text, size, w, "quarantined, it died too often");
	if (s->state == WS_DONE)
		return never(text, size, w, "ended badly");
	if (!s->wanted_up)
		return never(text, size, w, "stopped by another request");
	return NOT_YET;
}

static enum progress look_restarted(const struct waiter *q, const struct worker *w, char *text,
				    size_t size)
{
	if (w && w->slot->w.incarnation <= w->slot->op_restart && w->slot->w.wanted_up)
		return w->slot->w.state == WS_QUARANTINED ? look_up(q, w, text, size) : NOT_YET;
	return look_up(q, w, text, size);
}

static enum progress look_down(const struct waiter *q, const struct worker *w, char *text,
			       size_t size)
{
	const struct worker_state *s = w ? &w->slot->w : NULL;

	if (!s || (s->state == WS_STOPPED && w->slot->life[0] == LEDGER_NONE &&
		   w->slot->life[1] == LEDGER_NONE))
		return REACHED;
	if (s->state == WS_STUCK)
		return never(
			text, size, w,
			"SIGKILL has no effect (uninterruptible or traced), it is tried again");
	if (s->wanted_up)
		return never(text, size, w, "started by another request");
	return NOT_YET;
}

static enum progress look_state(const struct waiter *q, const struct worker *w, char *text,
				size_t size)
{
	if (!w)
		return q->state == WS_STOPPED ? REACHED : look_up(q, w, text, size);
	if (w->slot->w.state == q->state)
		return REACHED;
	if (q->state == WS_READY && well(&w->slot->w))
		return REACHED;
	if (q->state == WS_READY || q->state == WS_DONE)
		return well(&w->slot->w) ? NOT_YET : look_up(q, w, text, size);
	return NOT_YET;
}

static enum progress look_nothing(const struct waiter *q, const struct worker *w, char *text,
				  size_t size)
{
	return REACHED;
}

/* Scale: every worker that is wanted of the group is ready, none is surplus. */
static enum progress look_scaled(const struct waiter *q, const struct worker *w, char *text,
				 size_t size)
{
	if (!w)
		return REACHED;
	if (w->surplus)
		return NOT_YET;
	/* one that was stopped by hand stays stopped */
	return w->slot->w.wanted_up ? look_up(q, w, text, size) : look_down(q, w, text, size);
}

static int act_start(struct worker *w, const struct args_change *a, struct diag *d)
{
	return op_start(w, d);
}

static int act_stop(struct worker *w, const struct args_change *a, struct diag *d)
{
	return op_stop(w, a->cold, d);
}

static int act_restart(struct worker *w, const struct args_change *a, struct diag *d)
{
	return op_restart(w, a->cold, d);
}

/* The manager that died has started it, and what it was started for may be over by now. */
static int redo_start(struct worker *w, const struct ledger_op *op, struct diag *d)
{
	return w->slot->w.started_ms >= op->at_ms ? 0 : op_start(w, d);
}

/* Which of them the manager that died has not restarted: those whose life is older. */
static int redo_restart(struct worker *w, const struct ledger_op *op, struct diag *d)
{
	const struct ledger_life *life = worker_life(w);
	int64_t born_ms = life ? life->born_ms : w->slot->w.started_ms;

	return born_ms > op->at_ms ? 0 : op_restart(w, false, d);
}

static int redo_kill(struct worker *w, const struct ledger_op *op, struct diag *d)
{
	return diag_set(d, -EINTR, "the manager died meanwhile, it may or may not have been sent");
}

static int act_reset(struct worker *w, const struct args_change *a, struct diag *d)
{
	return op_reset(w, d);
}

static int act_kill(struct worker *w, const struct args_change *a, struct diag *d)
{
	int signal = a->signal ? signal_from_name(a->signal) : SIGTERM;

	return op_kill(w, signal, (enum conf_target)a->to, d);
}

static const struct verb verb_start = { "Start", act_start, look_up, true, redo_start };
static const struct verb verb_stop = { "Stop", act_stop, look_down };
static const struct verb verb_restart = { "Restart", act_restart, look_restarted, true,
					  redo_restart };
static const struct verb verb_kill = { "Kill", act_kill, look_nothing, false, redo_kill };
static const struct verb verb_reset = { "Reset", act_reset, look_nothing };
static const struct verb verb_scale = { "Scale", NULL, look_scaled, true };
static const struct verb verb_wait = { "Wait", NULL, look_state };

/* Where a target stands; text of the first worker that never gets there. */
static enum progress look_target(const struct waiter *q, const struct target *t, int *ret_done,
				 char *text, size_t size)
{
	enum progress sum = REACHED;

	for (uint32_t i = 0; i < t->n; i++) {
		const struct worker *w =
			worker_deref(q->control->m, &q->targets.refs[t->first + i]);
		char why[160];
		enum progress p = q->verb->look(q, w, why, sizeof(why));

		if (p == NEVER && sum != NEVER)
			snprintf(text, size, "%s", why);
		*ret_done += p == REACHED;
		if (p == NOT_YET || sum == NOT_YET)
			sum = NOT_YET; /* the rest of the target is waited for, whatever failed */
		else if (p == NEVER)
			sum = NEVER;
	}
	return sum;
}

static json_t *result(const char *target, const char *code, const char *error)
{
	json_t *o = json_pack("{s:o, s:b}", "target", vl_text(target, strlen(target)), "ok", !code);

	if (o && code)
		json_object_set_new(o, "code", json_string(code));
	if (o && error && *error)
		json_object_set_new(o, "error", vl_text(error, strlen(error)));
	return o;
}

/* The results as they are now; those still under way get `unfinished` as their code. */
static json_t *results(const struct waiter *q, const char *unfinished)
{
	json_t *array = json_array();

	for (size_t i = 0; i < q->targets.n; i++) {
		const struct target *t = &q->targets.items[i];
		char text[160] = "";
		int done = 0;
		enum progress p;

		if (!t->known) {
			json_array_append_new(array,
					      result(t->text, "NoSuchTarget", "no such target"));
			continue;
		}
		if (t->err) {
			json_array_append_new(
				array,
				result(t->text, t->err == -ESHUTDOWN ? "ShuttingDown" : "Failed",
				       t->error));
			continue;
		}
		p = look_target(q, t, &done, text, sizeof(text));
		if (p == NOT_YET && unfinished)
			snprintf(text, sizeof(text), "%d of %u workers so far", done, t->n);
		json_array_append_new(array, result(t->text,
						    p == NEVER			 ? "Failed"
						    : p == NOT_YET && unfinished ? unfinished
										 : NULL,
						    text));
	}
	return array;
}

static void free_waiter(struct waiter *q)
{
	struct waiter **at = &q->control->waiters;

	while (*at && *at != q)
		at = &(*at)->next;
	if (*at)
		*at = q->next;
	ev_timer_stop(q->control->m->loop, &q->timer);
	ev_timer_stop(q->control->m->loop, &q->step);
	targets_fini(&q->targets);
	free(q);
}

static void cancelled(struct vl_call *c, void *data)
{
	free_waiter(data);
}

static void answer(struct waiter *q, const char *unfinished)
{
	struct vl_call *c = q->call;
	json_t *r = results(q, unfinished);

	if (unfinished)
		vl_error(c, CONTROL_ERROR("Timeout"), json_pack("{s:o}", "results", r));
	else
		vl_reply(c, json_pack("{s:o}", "results", r));
	free_waiter(q);
}

static bool not_yet(const struct waiter *q, uint32_t ref)
{
	char text[160];

	return q->verb->look(q, worker_deref(q->control->m, &q->targets.refs[ref]), text,
			     sizeof(text)) == NOT_YET;
}

/* Every target is where it should be, or never will be. What held it up last time is looked at
 * first: with thousands of workers the rest is only worth a look when that one has moved. */
static bool over(struct waiter *q)
{
	if (q->hint < q->targets.n_refs && not_yet(q, q->hint))
		return false;
	for (size_t i = 0; i < q->targets.n; i++) {
		const struct target *t = &q->targets.items[i];

		for (uint32_t k = 0; t->known && !t->err && k < t->n; k++) {
			q->hint = t->first + k;
			if (not_yet(q, q->hint))
				return false;
		}
	}
	q->hint = UINT32_MAX;
	return true;
}

static void timed_out(struct ev_loop *loop, ev_timer *t, int events)
{
	answer(t->data, "Timeout");
}

static void name_blocking(json_t *array, const struct worker *w)
{
	const struct worker_state *s = &w->slot->w;
	char text[160];
	pid_t pid = worker_pid(w);
	size_t n = (size_t)snprintf(text, sizeof(text), "%s %s", w->name,
				    worker_status_name(s->state));

	if (pid)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ", pid %d", (int)pid);
	if (s->deadline_ms != DURATION_NEVER && s->state == WS_STOPPING)
		snprintf(text + n, sizeof(text) - n, ", next step in %llds",
			 (long long)MAX_OF((s->deadline_ms - clock_mono_ms() + 999) / 1000, 0));
	json_array_append_new(array, json_string(text));
}

static void step_fired(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct waiter *q = timer->data;
	json_t *blocking = json_array();
	int done = 0;

	for (size_t i = 0; i < q->targets.n_refs; i++) {
		const struct worker *w = worker_deref(q->control->m, &q->targets.refs[i]);
		char text[160];
		enum progress p = q->verb->look(q, w, text, sizeof(text));

		done += p != NOT_YET;
		if (p == NOT_YET && w && json_array_size(blocking) < STEP_NAMES)
			name_blocking(blocking, w);
	}
	vl_reply_more(q->call,
		      json_pack("{s:[], s:{s:i, s:i, s:o}}", "results", "step", "done", done,
				"total", (int)q->targets.n_refs, "blocking", blocking));
}

static void start_timer(struct waiter *q, ev_timer *t,
			void (*cb)(struct ev_loop *, ev_timer *, int), double after, double every)
{
	ev_timer_init(t, cb, after, every);
	t->data = q;
	ev_timer_start(q->control->m->loop, t);
}

/* Answer now if it is true already, else keep the call. Takes the targets over. */
static void wait_for(struct vl_call *c, const struct verb *verb, struct targets *t, int state,
		     bool wait, int64_t timeout_ms)
{
	struct control *control = vl_call_data(c);
	struct waiter *q = calloc(1, sizeof(*q));

	if (!q) {
		targets_fini(t);
		vl_error(c, CONTROL_ERROR("Failed"), json_pack("{s:s}", "text", "out of memory"));
		return;
	}
	*q = (struct waiter){
		.control = control,
		.call = c,
		.verb = verb,
		.targets = *t,
		.state = state,
		.hint = UINT32_MAX,
	};
	ev_init(&q->timer, NULL);
	ev_init(&q->step, NULL);
	workers_drain(control->m);
	if (!wait || over(q)) {
		answer(q, NULL);
		return;
	}
	q->next = control->waiters;
	control->waiters = q;
	vl_call_keep(c, cancelled, q);
	if (timeout_ms >= 0)
		start_timer(q, &q->timer, timed_out, (double)timeout_ms / 1000.0, 0.);
	if (vl_call_more(c))
		start_timer(q, &q->step, step_fired, STEP_PERIOD_S, STEP_PERIOD_S);
}

void wait_for_state(struct vl_call *c, struct targets *t, int state, int64_t timeout_ms)
{
	wait_for(c, &verb_wait, t, state, true, timeout_ms);
}

void waiters_wake(struct control *c)
{
	struct waiter *q = c->waiters;

	while (q) {
		struct waiter *next = q->next;

		if (over(q))
			answer(q, NULL);
		q = next;
	}
}

static void mark_named(struct manager *m, const struct targets *t, bool named)
{
	for (size_t i = 0; i < t->n_refs; i++) {
		struct worker *w = worker_deref(m, &t->refs[i]);

		if (w)
			w->named = named;
	}
}

/* Carry it out, worker by worker; one that refuses spoils its target, not the others (CT16). */
static void act(struct manager *m, const struct verb *verb, struct targets *t,
		const struct args_change *a, const struct ledger_op *unfinished)
{
	mark_named(m, t, true);
	for (size_t i = 0; i < t->n; i++) {
		struct target *target = &t->items[i];

		for (uint32_t k = 0; k < target->n; k++) {
			struct worker *w = worker_deref(m, &t->refs[target->first + k]);
			struct diag d = { 0 };
			int r = 0;

			if (w && unfinished && verb->redo)
				r = verb->redo(w, unfinished, &d);
			else if (w)
				r = verb->act(w, a, &d);

			if (r < 0 && !target->err) {
				target->err = r;
				snprintf(target->error, sizeof(target->error), "%s: %.*s", w->name,
					 80, d.text);
			}
		}
	}
	mark_named(m, t, false);
}

/* True if the call was answered with ShuttingDown. */
static bool refuse_shutdown(struct vl_call *c, const struct verb *verb)
{
	uint32_t phase = call_manager(c)->ledger.h->phase;

	if (!verb->brings_up || phase == PHASE_RUN)
		return false;
	vl_error(c, CONTROL_ERROR("ShuttingDown"),
		 json_pack("{s:s}", "phase", phase == PHASE_WARM ? "warm" : "cold"));
	return true;
}

static void change(struct vl_call *c, const struct verb *verb, const struct args_change *a)
{
	struct manager *m = call_manager(c);
	struct ledger_op *op;
	struct targets t;
	int known;

	if (refuse_shutdown(c, verb))
		return;
	known = op_claim(m, vl_call_peer(c)->uid, verb->name, a->op, &op);
	if (known < 0) {
		vl_error_parameter(c, "op");
		return;
	}
	if (targets_resolve(m, a->targets, &t) < 0) {
		vl_error(c, CONTROL_ERROR("Failed"), json_pack("{s:s}", "text", "out of memory"));
		return;
	}
	if (known != OP_DONE)
		act(m, verb, &t, a, known == OP_UNFINISHED ? op : NULL);
	workers_drain(m); /* done is what is in the ledger, not what waits in our queue */
	op_done(op);
	m->changed = true;
	wait_for(c, verb, &t, 0, a->wait, a->timeout_ms);
}

void method_start(struct vl_call *c, const void *args)
{
	change(c, &verb_start, args);
}

void method_stop(struct vl_call *c, const void *args)
{
	change(c, &verb_stop, args);
}

void method_restart(struct vl_call *c, const void *args)
{
	change(c, &verb_restart, args);
}

void method_reset(struct vl_call *c, const void *args)
{
	change(c, &verb_reset, args);
}

void method_kill(struct vl_call *c, const void *args)
{
	const struct args_change *a = args;

	if (a->signal && signal_from_name(a->signal) < 0)
		vl_error_parameter(c, "signal");
	else
		change(c, &verb_kill, a);
}

void method_scale(struct vl_call *c, const void *args)
{
	const struct args_change *a = args;
	struct manager *m = call_manager(c);
	struct group *g = manager_find_group(m, a->group);
	json_t *name = json_pack("[s]", a->group);
	struct targets t = { 0 };
	struct diag d = { 0 };
	struct ledger_op *op;
	int known;

	if (!g) {
		vl_error(c, CONTROL_ERROR("NoSuchTarget"), json_pack("{s:s}", "target", a->group));
	} else if (refuse_shutdown(c, &verb_scale)) {
		/* answered */
	} else if ((known = op_claim(m, vl_call_peer(c)->uid, "Scale", a->op, &op)) < 0) {
		vl_error_parameter(c, "op");
	} else if (known != OP_DONE && op_scale(g, (int)a->workers, &d) < 0) {
		vl_error(c, CONTROL_ERROR("Failed"), json_pack("{s:s}", "text", d.text));
	} else if (targets_resolve(m, name, &t) == 0) {
		op_done(op);
		wait_for(c, &verb_scale, &t, 0, a->wait, a->timeout_ms);
	} else {
		vl_error(c, CONTROL_ERROR("Failed"), json_pack("{s:s}", "text", "out of memory"));
	}
	json_decref(name);
}

void method_shutdown(struct vl_call *c, const void *args)
{
	const struct args_change *a = args;
	struct manager *m = call_manager(c);
	struct ledger_op *op;

	if (op_claim(m, vl_call_peer(c)->uid, "Shutdown", a->op, &op) < 0) {
		vl_error_parameter(c, "op");
		return;
	}
	log_info("shutdown%s asked for by uid %u", a->cold ? " (cold)" : "",
		 (unsigned)vl_call_peer(c)->uid);
	op_shutdown(m, a->cold);
	op_done(op);
	vl_reply_empty(c);
}
