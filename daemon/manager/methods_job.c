/*
 * Answers about many workers, made in slices: after BUDGET_MS the loop gets its turn, so that a
 * look at ten thousand trees holds nobody up (CT06). With `more` a reply is sent for every `rows`
 * workers, and none while the client has not taken the last ones. Invariant: a job either has
 * answered and is freed, or waits for its timer or for room.
 */
#include "manager/methods.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define BUDGET_MS 2
#define REPLY_MAX (VL_OUT_MAX - (64u << 10))

static void job_free(struct job *j)
{
	ev_timer_stop(j->control->m->loop, &j->again);
	memory_fini(j);
	targets_fini(&j->targets);
	str_fini(&j->out);
	free(j);
}

static void cancelled(struct vl_call *c, void *data)
{
	job_free(data);
}

static void run(struct job *j);

static void go_on(struct ev_loop *loop, ev_timer *t, int events)
{
	run(t->data);
}

static void has_room(struct vl_call *c, void *data)
{
	run(data);
}

static void keep(struct job *j)
{
	if (!j->kept)
		vl_call_keep(j->call, cancelled, j);
	j->kept = true;
}

static void open_reply(struct job *j)
{
	vl_write_open(&j->out, NULL, '{');
	vl_write_open(&j->out, j->kind->key, '[');
	j->rows = 0;
}

static void close_reply(struct job *j, bool last)
{
	if (j->kind->more_rows && last)
		j->kind->more_rows(j);
	vl_write_close(&j->out, ']');
	if (j->kind->rest)
		j->kind->rest(j, last);
	vl_write_close(&j->out, '}');
}

static void finish(struct job *j)
{
	struct vl_call *c = j->call;

	close_reply(j, true);
	if (j->out.len > REPLY_MAX)
		vl_error(
			c, CONTROL_ERROR("Failed"),
			json_pack(
				"{s:s}", "text",
				"too much for one reply; call with `more`, or name fewer targets"));
	else
		vl_reply_text(c, &j->out);
	job_free(j);
}

/* True: the reply is full and cannot be sent now. */
static bool blocked(struct job *j)
{
	if (!vl_call_more(j->call) || !j->kind->rows || j->rows < j->kind->rows)
		return false;
	if (!vl_call_has_room(j->call)) {
		keep(j);
		vl_call_when_room(j->call, has_room, j);
		return true;
	}
	close_reply(j, false);
	vl_reply_more_text(j->call, &j->out);
	j->out.len = 0;
	open_reply(j);
	return false;
}

static void run(struct job *j)
{
	struct manager *m = j->control->m;
	int64_t until_ms = clock_mono_ms() + BUDGET_MS;

	for (unsigned n = 1;; n++) {
		struct worker *w;

		if (j->kind->prepare && j->kind->prepare(j)) {
			if (j->waiting) {
				keep(j);
				return;
			}
		} else if (j->at == j->targets.n_refs) {
			finish(j);
			return;
		} else if (blocked(j)) {
			return;
		} else {
			w = worker_deref(m, &j->targets.refs[j->at++]);
			j->rows += w && j->kind->row(j, w);
		}
		if (n % j->kind->per_look == 0 && clock_mono_ms() >= until_ms)
			break;
	}
	keep(j);
	ev_timer_start(m->loop, &j->again);
}

void job_go_on(struct job *j)
{
	j->waiting = false;
	run(j);
}

static void name_group(struct job *j, uint32_t row)
{
	j->groups[row / 64] |= 1ull << row % 64;
}

static void name_groups(struct job *j)
{
	for (size_t i = 0; i < j->targets.n; i++) {
		const struct group *g = manager_find_group(j->control->m, j->targets.items[i].text);

		if (g)
			name_group(j, g->index);
		j->all = j->all || strcmp(j->targets.items[i].text, "all") == 0;
	}
	for (size_t i = 0; i < j->targets.n_refs; i++)
		name_group(j, j->targets.refs[i].group);
}

void job_start(struct vl_call *c, const struct job_kind *kind, const struct args_list *a)
{
	struct control *control = vl_call_data(c);
	struct job *j = calloc(1, sizeof(*j));

	if (!j || targets_resolve(control->m, a->targets, &j->targets) < 0) {
		free(j);
		vl_error(c, CONTROL_ERROR("Failed"), json_pack("{s:s}", "text", "out of memory"));
		return;
	}
	j->control = control;
	j->call = c;
	j->kind = kind;
	j->memory = a->memory;
	j->unwell = a->unwell;
	j->all = !a->targets;
	j->admin = call_right(c) == RIGHT_ADMIN;
	ev_timer_init(&j->again, go_on, 0, 0);
	j->again.data = j;
	if (targets_refuse_unknown(c, control->m, &j->targets)) {
		job_free(j);
		return;
	}
	name_groups(j);
	open_reply(j);
	run(j);
}
