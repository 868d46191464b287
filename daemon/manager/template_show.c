/* What status and show say of processes that fork workers. */
#include "manager/template.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "lib/varlink.h"
#include "manager/threads.h"

#include <stdio.h>
#include <string.h>

static const char *state_of(const struct worker *t)
{
	const struct ledger_template *f = &t->slot->template;

	if (!worker_pid(t))
		return "down";
	if (!f->ready_ms)
		return "loading";
	if (f->draining)
		return "draining";
	return f->unsafe ? "unsafe" : "ready";
}

void template_write(struct str *out, const char *key, const struct worker *t)
{
	const struct ledger_template *f = &t->slot->template;
	bool ready = worker_pid(t) && f->ready_ms;

	vl_write_open(out, key, '{');
	vl_write_text(out, "name", t->name);
	vl_write_text(out, "state", state_of(t));
	vl_write_int(out, "incarnation", t->slot->w.incarnation);
	vl_write_int(out, "generation", t->slot->w.generation);
	if (worker_pid(t))
		vl_write_int(out, "pid", worker_pid(t));
	if (f->runtime[0])
		vl_write_bytes(out, "runtime", f->runtime, strnlen(f->runtime, sizeof(f->runtime)));
	vl_write_int(out, "forks", f->forks);
	if (t->slot->kind == SLOT_TEMPLATE)
		vl_write_int(out, "spares", spares_of(t));
	if (ready) {
		vl_write_real(out, "load_s", (double)f->load_us / 1e6);
		vl_write_real(out, "age_s", (double)(clock_mono_ms() - f->ready_ms) / 1000.);
		vl_write_int(out, "tasks", f->tasks);
		vl_write_int(out, "fds", f->fds);
		vl_write_int(out, "rss_bytes", (int64_t)f->rss_bytes);
	} else if (worker_pid(t) && t->slot->status[0]) {
		vl_write_bytes(out, "loading", t->slot->status,
			       strnlen(t->slot->status, sizeof(t->slot->status)));
	}
	if (t->slot->error[0])
		vl_write_bytes(out, "error", t->slot->error,
			       strnlen(t->slot->error, sizeof(t->slot->error)));
	vl_write_close(out, '}');
}

void templates_write(struct str *out, const struct group *g)
{
	vl_write_open(out, "templates", '[');
	for (size_t i = 0; i < ARRAY_LEN(g->templates); i++)
		if (g->templates[i] && (g->templates[i]->slot->w.wanted_up ||
					g->templates[i]->slot->life[0] != LEDGER_NONE))
			template_write(out, NULL, g->templates[i]);
	vl_write_close(out, ']');
}

/* Of the life before, if it failed: that it took too long, or the last line that it wrote. */
static bool last_trouble(const struct worker *t, char *ret, size_t size)
{
	const struct exit_record *rec;
	size_t len, from;

	if (t->slot->exits == 0 || t->slot->w.failures == 0 || t->slot->w.state == WS_READY)
		return false;
	rec = &ledger_exits(&t->m->ledger, t->row)->records[(t->slot->exits - 1) % EXITS_KEPT];
	if (rec->cause == CAUSE_START_TIMEOUT) {
		snprintf(ret, size, "not loaded within template.load_timeout");
		return true;
	}
	len = MIN_OF(rec->lines_len, EXIT_LINES);
	while (len > 0 && rec->lines[len - 1] == '\n')
		len--;
	for (from = len; from > 0 && rec->lines[from - 1] != '\n'; from--)
		;
	str_escape(rec->lines + from, len - from, ret, size);
	return len > from;
}

bool maker_trouble(const struct group *g, char *ret, size_t size)
{
	for (size_t i = 0; i < GROUP_MAKERS; i++) {
		const struct worker *t = group_maker(g, i);

		if (t && t->slot->error[0])
			snprintf(ret, size, "%s", t->slot->error);
		if (t && (t->slot->error[0] || last_trouble(t, ret, size)))
			return true;
	}
	snprintf(ret, size, "not ready");
	return false;
}

void template_source(const struct worker *w, char *ret, size_t size)
{
	const struct ledger *l = &w->m->ledger;
	const struct ledger_life *life = worker_life(w);
	char name[LEDGER_SLOT_NAME];

	if (life && life->kind == LIFE_THREAD) {
		threads_source(w, ret, size);
		return;
	}
	if (!life || life->handover == HAND_NONE || life->source_slot >= LEDGER_ROWS) {
		snprintf(ret, size, "exec");
		return;
	}
	ledger_slot_name(l, ledger_slot(l, life->source_slot), name);
	snprintf(ret, size, "%s/%u", name, life->source_incarnation);
}
