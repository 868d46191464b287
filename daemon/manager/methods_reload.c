/*
 * Reload, Plan, Dump. Reload answers when the renewals it brought about are done, or stand still
 * because a renewed worker was quarantined (then the rest keeps running as it was).
 */
#include "manager/methods.h"

#include "base/failpoint.h"
#include "base/mem.h"
#include "manager/worker.h"

#include <errno.h>
#include <string.h>

#define RELOAD_POLL_S .1

struct reload_call {
	struct op_kept op;
	struct manager *m;
	struct vl_call *call;
	json_t *changes, *problems, *groups;
	bool apply, wait, loaded;
	ev_timer poll, timeout;
};

static void free_call(struct reload_call *r)
{
	ev_timer_stop(r->m->loop, &r->poll);
	ev_timer_stop(r->m->loop, &r->timeout);
	reload_forget(r->m, r);
	json_decref(r->changes);
	json_decref(r->problems);
	json_decref(r->groups);
	free(r);
}

static void cancelled(struct vl_call *c, void *data)
{
	free_call(data);
}

static json_t *problem(const struct conf_problem *p)
{
	json_t *o = json_pack("{s:o, s:b}", "text", vl_text(p->at.text, strlen(p->at.text)),
			      "warning", p->warning);

	if (o && p->at.file[0])
		json_object_set_new(o, "file", vl_text(p->at.file, strlen(p->at.file)));
	if (o && p->at.line)
		json_object_set_new(o, "line", json_integer(p->at.line));
	return o;
}

static json_t *problems(const struct conf_report *report)
{
	json_t *array = json_array();

	for (size_t i = 0; i < report->n; i++)
		json_array_append_new(array, problem(&report->items[i]));
	return array;
}

static json_t *changes_json(const struct conf_change *changes, size_t n)
{
	static const char *const kinds[] = {
		[CONF_ADD] = "add",	[CONF_REMOVE] = "remove", [CONF_LIVE] = "live",
		[CONF_RENEW] = "renew", [CONF_DAEMON] = "daemon",
	};
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(array,
				      json_pack("{s:s, s:s, s:s, s:s}", "group", changes[i].group,
						"kind", kinds[changes[i].kind], "key",
						changes[i].key, "reason", changes[i].reason));
	return array;
}

/* Groups whose renewal this call waits for: those named, or all. */
static bool still_renewing(const struct reload_call *r, bool *ret_held)
{
	bool any = false;
	size_t i;
	json_t *name;

	*ret_held = false;
	if (!r->groups) {
		*ret_held = reload_held(r->m, NULL);
		return reload_renewing(r->m, NULL);
	}
	json_array_foreach(r->groups, i, name)
	{
		const struct group *g = manager_find_group(r->m, json_string_value(name));

		if (!g)
			continue;
		any = any || reload_renewing(r->m, g);
		*ret_held = *ret_held || reload_held(r->m, g);
	}
	return any;
}

/* Who does not wait is content with a renewal that has begun. */
static json_t *result(const struct reload_call *r, const struct group *g, bool late)
{
	bool ok = !r->wait || !reload_renewing(r->m, g);
	json_t *o = json_pack("{s:s, s:b}", "target", g->row->name, "ok", ok);

	if (ok)
		return o;
	json_object_set_new(o, "code", json_string(late ? "Timeout" : "Failed"));
	json_object_set_new(o, "error",
			    json_string(late ? "its workers are still being renewed"
					     : "a renewed worker was quarantined; the others "
					       "keep running the older generation"));
	return o;
}

/* One result a group: renewed, or not because …. */
static json_t *results(const struct reload_call *r, bool late)
{
	json_t *array = json_array();

	for (size_t i = 0; i < r->m->n_groups; i++) {
		const struct group *g = r->m->groups[i];
		bool named = false;
		json_t *name;
		size_t k;

		json_array_foreach(r->groups, k, name) named =
			named || strcmp(json_string_value(name), g->row->name) == 0;
		if (named || reload_renewing(r->m, g))
			json_array_append_new(array, result(r, g, late));
	}
	return array;
}

static void answer(struct reload_call *r)
{
	vl_reply(r->call, json_pack("{s:O, s:O, s:o}", "changes", r->changes, "problems",
				    r->problems, "results", results(r, false)));
	free_call(r);
}

static void poll_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	struct reload_call *r = t->data;
	bool held;

	if (!still_renewing(r, &held) || held)
		answer(r);
}

static void timed_out(struct ev_loop *loop, ev_timer *t, int events)
{
	struct reload_call *r = t->data;

	vl_error(r->call, CONTROL_ERROR("Timeout"),
		 json_pack("{s:o}", "results", results(r, true)));
	free_call(r);
}

static void wait_renewed(struct reload_call *r)
{
	bool held;

	r->loaded = true;
	op_kept_done(&r->op);
	r->m->renewing = true;
	workers_drain(r->m);
	if (!r->wait || !still_renewing(r, &held)) {
		answer(r);
		return;
	}
	ev_timer_init(&r->poll, poll_fired, RELOAD_POLL_S, RELOAD_POLL_S);
	r->poll.data = r;
	ev_timer_start(r->m->loop, &r->poll);
}

static void loaded(void *arg, const struct conf_report *report, const struct conf_change *changes,
		   size_t n)
{
	struct reload_call *r = arg;

	json_decref(r->problems);
	r->problems = problems(report);
	if (report->errors > 0) {
		vl_error(r->call, CONTROL_ERROR("InvalidConfig"),
			 json_pack("{s:O}", "errors", r->problems));
		free_call(r);
		return;
	}
	json_decref(r->changes);
	r->changes = changes_json(changes, n);
	if (r->apply) {
		wait_renewed(r);
		return;
	}
	vl_reply(r->call, json_pack("{s:O, s:O}", "changes", r->changes, "problems", r->problems));
	free_call(r);
}

static struct reload_call *new_call(struct vl_call *c, bool apply)
{
	struct reload_call *r = calloc(1, sizeof(*r));

	if (!r) {
		vl_error(c, CONTROL_ERROR("Failed"), json_pack("{s:s}", "text", "out of memory"));
		return NULL;
	}
	r->m = call_manager(c);
	r->call = c;
	r->apply = apply;
	r->changes = json_array();
	r->problems = json_array();
	ev_init(&r->poll, NULL);
	ev_init(&r->timeout, NULL);
	return r;
}

static void begin(struct reload_call *r)
{
	struct vl_call *c = r->call;

	vl_call_keep(c, cancelled, r);
	if (reload_begin(r->m, NULL, r->apply, loaded, r) < 0) {
		vl_error(c, CONTROL_ERROR("Failed"), json_pack("{s:s}", "text", "out of memory"));
		free_call(r);
	}
}

/* A new generation, once for the same operation: intent, then the change. */
static void bump(struct ledger_group *row, const struct op_kept *op)
{
	static const uint8_t none[sizeof(row->renew_op)];
	bool again = op->op && memcmp(row->renew_op, op->id, sizeof(op->id)) == 0 &&
		     memcmp(op->id, none, sizeof(none)) != 0;

	if (!again) {
		memset(row->renew_op, 0, sizeof(row->renew_op));
		row->renew_generation = row->generation + 1;
		FAIL_HERE(RENEW_NUMBERED);
		memcpy(row->renew_op, op->id, sizeof(row->renew_op));
		FAIL_HERE(RENEW_INTENT);
	}
	/* more than that: a reload has renewed the group since */
	row->generation = MAX_OF(row->generation, row->renew_generation);
	FAIL_HERE(RENEW_DONE);
}

/* Reload of groups: their workers are renewed as if their configuration had changed. */
static bool bump_groups(struct reload_call *r, int known)
{
	json_t *name;
	size_t i;

	json_array_foreach(r->groups, i, name)
	{
		struct group *g = manager_find_group(r->m, json_string_value(name));

		if (!g || !g->conf) { /* a worker, a glob, "all", or on its way out */
			target_refuse(r->call, r->m, json_string_value(name));
			return false;
		}
	}
	json_array_foreach(r->groups, i, name)
	{
		if (known != OP_DONE)
			bump(manager_find_group(r->m, json_string_value(name))->row, &r->op);
	}
	r->m->changed = true;
	return true;
}

void method_reload(struct vl_call *c, const void *args)
{
	const struct args_reload *a = args;
	struct manager *m = call_manager(c);
	struct ledger_op *op;
	int known = op_claim(m, vl_call_peer(c)->uid, "Reload", a->op, &op);
	struct reload_call *r;

	if (known < 0) {
		vl_error_parameter(c, "op");
		return;
	}
	if (!a->groups && call_right(c) < RIGHT_ADMIN) {
		vl_error(c, CONTROL_ERROR("NotPermitted"),
			 json_pack("{s:s, s:s}", "method", "Reload", "needs", "admin"));
		return;
	}
	if (m->ledger.h->phase != PHASE_RUN) {
		vl_error(c, CONTROL_ERROR("ShuttingDown"), json_pack("{s:s}", "phase", "warm"));
		return;
	}
	r = new_call(c, true);
	if (!r)
		return;
	r->wait = a->wait;
	op_keep(&r->op, op);
	r->groups = a->groups ? json_deep_copy(a->groups) : NULL;
	if (a->timeout_ms >= 0) {
		ev_timer_init(&r->timeout, timed_out, (double)a->timeout_ms / 1000.0, 0.);
		r->timeout.data = r;
		ev_timer_start(m->loop, &r->timeout);
	}
	if (r->groups && !bump_groups(r, known)) {
		free_call(r);
	} else if (r->groups || known == OP_DONE) {
		vl_call_keep(c, cancelled, r);
		wait_renewed(r);
	} else {
		begin(r);
	}
}

void method_plan(struct vl_call *c, const void *args)
{
	struct reload_call *r = new_call(c, false);

	if (r)
		begin(r);
}

void method_dump(struct vl_call *c, const void *args)
{
	struct manager *m = call_manager(c);
	auto_free char *json = conf_to_json(m->conf);
	auto_str text = { 0 };
	json_t *canonical = json ? json_loads(json, 0, NULL) : NULL;

	conf_dump(m->conf, &text);
	if (!canonical || text.failed || !text.data) {
		json_decref(canonical);
		vl_error(c, CONTROL_ERROR("Failed"), json_pack("{s:s}", "text", "out of memory"));
		return;
	}
	vl_reply(c, json_pack("{s:s, s:o, s:o, s:b, s:b}", "path", m->conf->path, "text",
			      vl_text(text.data, text.len), "canonical", canonical, "user",
			      m->ledger.h->user_daemon, "pid1", m->ledger.h->pid1));
}
