/*
 * Upgrade. The keeper does it; the manager that takes the request is not the one that answers it:
 * the client comes back with its operation id, whose row in the ledger names the upgrade.
 */
#include "manager/methods.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_S .05

struct upgrade_call {
	struct manager *m;
	struct vl_call *call;
	struct op_kept op;
	uint32_t number;
	ev_timer look, timeout;
};

static void free_call(struct upgrade_call *u)
{
	ev_timer_stop(u->m->loop, &u->look);
	ev_timer_stop(u->m->loop, &u->timeout);
	free(u);
}

static void cancelled(struct vl_call *c, void *data)
{
	free_call(data);
}

static bool is_over(const struct upgrade_call *u)
{
	return (int32_t)(u->m->ledger.h->upgrade_done - u->number) >= 0;
}

static void answer(struct upgrade_call *u)
{
	struct ledger_upgrade row = u->m->ledger.h->upgrades[u->number % UPGRADES_KEPT];

	op_kept_done(&u->op);
	if (row.number != u->number)
		vl_error(u->call, CONTROL_ERROR("Failed"),
			 json_pack("{s:s}", "text", "how it ended is not known any more"));
	else if (row.err == -ESHUTDOWN)
		vl_error(u->call, CONTROL_ERROR("ShuttingDown"),
			 json_pack("{s:s}", "phase", "warm"));
	else if (row.err)
		vl_error(u->call, CONTROL_ERROR("Failed"),
			 json_pack("{s:o}", "text", vl_text(row.text, strlen(row.text))));
	else
		vl_reply(u->call, json_pack("{s:s, s:s}", "from", row.from, "to", row.to));
	free_call(u);
}

static void look_fired(struct ev_loop *loop, ev_timer *t, int events)
{
	if (is_over(t->data))
		answer(t->data);
}

static void timed_out(struct ev_loop *loop, ev_timer *t, int events)
{
	struct upgrade_call *u = t->data;

	vl_error(u->call, CONTROL_ERROR("Timeout"), json_pack("{s:[]}", "results"));
	free_call(u);
}

/* Number first: a successor that finds it asks for the same upgrade, not for another one. */
static uint32_t ask(struct manager *m, struct ledger_op *op)
{
	struct ledger_header *h = m->ledger.h;
	uint32_t number = op && op->number ? op->number : h->upgrade_want + 1;

	if (op)
		op->number = number;
	if ((int32_t)(h->upgrade_want - number) < 0)
		h->upgrade_want = number;
	bell_ring(m->bell_keeper);
	return number;
}

static void start_timers(struct upgrade_call *u, int64_t timeout_ms)
{
	ev_timer_init(&u->look, look_fired, 0., LOOK_S);
	u->look.data = u;
	ev_timer_start(u->m->loop, &u->look);
	ev_init(&u->timeout, timed_out);
	u->timeout.data = u;
	if (timeout_ms < 0)
		return;
	ev_timer_set(&u->timeout, (double)timeout_ms / 1000., 0.);
	ev_timer_start(u->m->loop, &u->timeout);
}

void method_upgrade(struct vl_call *c, const void *args)
{
	const struct args_change *a = args;
	struct manager *m = call_manager(c);
	struct upgrade_call *u = calloc(1, sizeof(*u));
	struct ledger_op *op;
	int known = op_claim(m, vl_call_peer(c)->uid, "Upgrade", a->op, &op);

	if (known < 0 || !u) {
		free(u);
		vl_error_parameter(c, "op");
		return;
	}
	if (known == OP_NEW)
		log_info("upgrade asked for by uid %u", (unsigned)vl_call_peer(c)->uid);
	u->m = m;
	u->call = c;
	op_keep(&u->op, op);
	u->number = ask(m, op);
	vl_call_keep(c, cancelled, u);
	start_timers(u, a->timeout_ms);
}
