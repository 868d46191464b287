/*
 * What streams or waits without changing anything: Events, Wait, Logs. Logs hands the client to the
 * logger; from then on it costs the manager nothing.
 */
#include "manager/methods.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mem.h"
#include "manager/threads.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define EVENTS_A_REPLY 256

struct follower {
	struct follower *next;
	struct control *control;
	struct vl_call *call;
	struct targets targets; /* n = 0: everything */
	uint64_t at;		/* next event to send */
};

static bool wanted(const struct follower *f, const struct ledger_event *e)
{
	char name[sizeof(e->worker) + 1] = "";

	if (e->kind == EVENT_DAEMON)
		return f->targets.n == 0;
	memcpy(name, e->worker, sizeof(e->worker));
	for (size_t i = 0; i < f->targets.n; i++)
		if (target_names(f->targets.items[i].text, name))
			return true;
	return f->targets.n == 0;
}

static void write_daemon_event(struct str *out, const struct ledger_event *e)
{
	static const char *const whats[DAEMON_EVENTS] = {
		[DAEMON_PHASE] = "phase",
		[DAEMON_RELOAD] = "reload",
		[DAEMON_RELOAD_FAILED] = "reload-failed",
		[DAEMON_ROLE_ENDED] = "role-ended",
	};

	vl_write_text(out, "worker", "");
	/* A newer manager of this daemon may have known more of them. */
	vl_write_text(out, "what", e->cause < DAEMON_EVENTS ? whats[e->cause] : "unknown");
	if (e->cause == DAEMON_PHASE) {
		vl_write_text(out, "from", phase_name(e->from));
		vl_write_text(out, "to", phase_name(e->to));
	}
	if (e->worker[0])
		vl_write_bytes(out, "text", e->worker, strnlen(e->worker, sizeof(e->worker)));
}

static void write_worker_event(struct str *out, const struct ledger_event *e)
{
	vl_write_bytes(out, "worker", e->worker, strnlen(e->worker, sizeof(e->worker)));
	vl_write_int(out, "incarnation", e->incarnation);
	vl_write_text(out, "from", worker_status_name(e->from));
	vl_write_text(out, "to", worker_status_name(e->to));
	if (e->cause != CAUSE_NONE)
		vl_write_text(out, "cause", exit_cause_name(e->cause));
}

static void write_event(struct str *out, const struct ledger_event *e)
{
	vl_write_open(out, NULL, '{');
	vl_write_int(out, "seq", (int64_t)e->seq);
	write_time(out, "at", e->at_real_us);
	if (e->kind == EVENT_DAEMON)
		write_daemon_event(out, e);
	else
		write_worker_event(out, e);
	vl_write_close(out, '}');
}

/* One reply: up to EVENTS_A_REPLY events from f->at on, with a gap if some are gone. */
static void write_events(struct follower *f, struct str *out)
{
	const struct ledger *l = &f->control->m->ledger;
	uint64_t last = l->h->event_seq;
	uint64_t oldest = last > LEDGER_EVENTS ? last - LEDGER_EVENTS + 1 : 1;
	uint64_t gap_from = f->at, sent = 0;

	vl_write_open(out, NULL, '{');
	vl_write_open(out, "events", '[');
	f->at = MAX_OF(f->at, oldest);
	for (; f->at <= last && sent < EVENTS_A_REPLY; f->at++) {
		const struct ledger_event *e = ledger_event(l, f->at);

		if (!wanted(f, e))
			continue;
		write_event(out, e);
		sent++;
	}
	vl_write_close(out, ']');
	if (gap_from < oldest) {
		vl_write_open(out, "gap", '{');
		vl_write_int(out, "first", (int64_t)gap_from);
		vl_write_int(out, "last", (int64_t)oldest - 1);
		vl_write_close(out, '}');
	}
	vl_write_int(out, "next", (int64_t)f->at);
	vl_write_close(out, '}');
}

static void send_more(struct vl_call *c, void *data)
{
	struct follower *f = data;
	const struct ledger_header *h = f->control->m->ledger.h;

	while (f->at <= h->event_seq) {
		auto_str out = { 0 };

		if (!vl_call_has_room(c)) {
			vl_call_when_room(c, send_more, f);
			return;
		}
		write_events(f, &out);
		vl_reply_more_text(c, &out);
	}
}

static void free_follower(struct follower *f)
{
	struct follower **at = &f->control->followers;

	while (*at && *at != f)
		at = &(*at)->next;
	if (*at)
		*at = f->next;
	targets_fini(&f->targets);
	free(f);
}

static void follower_left(struct vl_call *c, void *data)
{
	free_follower(data);
}

void followers_wake(struct control *c)
{
	struct follower *f = c->followers;

	while (f) {
		struct follower *next = f->next;

		send_more(f->call, f);
		f = next;
	}
}

void method_events(struct vl_call *c, const void *args)
{
	const struct args_events *a = args;
	struct control *control = vl_call_data(c);
	struct manager *m = control->m;
	struct follower *f = calloc(1, sizeof(*f));
	auto_str out = { 0 };

	if (!f || (a->targets && targets_resolve(m, a->targets, &f->targets) < 0)) {
		free(f);
		vl_error(c, CONTROL_ERROR("Failed"), json_pack("{s:s}", "text", "out of memory"));
		return;
	}
	f->control = control;
	f->call = c;
	/* a number that did not come yet, of another daemon's life perhaps: from the next one on */
	f->at = a->since > 0		    ? MIN_OF((uint64_t)a->since, m->ledger.h->event_seq + 1)
		: a->follow && a->since < 0 ? m->ledger.h->event_seq + 1
					    : 1;
	if (targets_refuse_unknown(c, m, &f->targets)) {
		free_follower(f);
		return;
	}
	if (a->follow && vl_call_more(c)) {
		f->next = control->followers;
		control->followers = f;
		vl_call_keep(c, follower_left, f);
		/* the first reply comes at once, so that the client knows where it stands */
		write_events(f, &out);
		vl_reply_more_text(c, &out);
		send_more(c, f);
		return;
	}
	if (a->since < 0 && m->ledger.h->event_seq > LEDGER_EVENTS)
		f->at = m->ledger.h->event_seq - LEDGER_EVENTS + 1;
	while (vl_call_more(c) && f->at + EVENTS_A_REPLY <= m->ledger.h->event_seq) {
		write_events(f, &out);
		vl_reply_more_text(c, &out);
		str_fini(&out);
	}
	write_events(f, &out);
	free_follower(f);
	vl_reply_text(c, &out);
}

void method_wait(struct vl_call *c, const void *args)
{
	const struct args_wait *a = args;
	struct manager *m = call_manager(c);
	struct targets t;

	if (targets_resolve(m, a->targets, &t) < 0)
		vl_error(c, CONTROL_ERROR("Failed"), json_pack("{s:s}", "text", "out of memory"));
	else if (targets_refuse_unknown(c, m, &t))
		targets_fini(&t);
	else
		wait_for_state(c, &t, a->state, a->timeout_ms);
}

/* "2026-01-31T12:00:00Z" with optional fraction → µs; -EINVAL. */
static int parse_time(const char *text, int64_t *ret_us)
{
	struct tm tm = { 0 };
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t us = 0, unit = 100000;

	if (!rest)
		return -EINVAL;
	if (*rest == '.')
		for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10)
			us += (*rest - '0') * unit;
	if (strcmp(rest, "Z") != 0)
		return -EINVAL;
	*ret_us = (int64_t)timegm(&tm) * 1000000 + us;
	return 0;
}

static bool has_word(const json_t *words, const char *word)
{
	const json_t *w;
	size_t i;

	if (!words)
		return true;
	json_array_foreach(words, i, w) if (strcmp(json_string_value(w), word) == 0) return true;
	return false;
}

/* "out" and "err", nothing else. */
static bool streams_known(const json_t *words)
{
	const json_t *w;
	size_t i;

	json_array_foreach(words, i, w) if (strcmp(json_string_value(w), "out") != 0 &&
					    strcmp(json_string_value(w), "err") != 0) return false;
	return true;
}

static size_t workers_of(const struct manager *m)
{
	size_t n = 0;

	for (int i = 0; i < WS_COUNT; i++)
		n += m->in_state[i];
	return n;
}

/* A thread writes to the log of its host, which is asked for once. */
static uint32_t stream_of(const struct manager *m, const struct worker_ref *ref,
			  const struct worker **last)
{
	const struct worker *w = m->by_slot[ref->row];
	const struct worker *host =
		w && w->slot->kind == SLOT_WORKER && group_threads(w->group->conf) ? w->group->host
										   : NULL;

	if (!host)
		return ref->row;
	if (*last == host)
		return LEDGER_NONE;
	*last = host;
	return host->row;
}

/* The packet for the logger, see logbook.h. */
static json_t *logs_packet(struct manager *m, const struct args_logs *a, const struct targets *t)
{
	bool out = has_word(a->streams, "out"), err = has_word(a->streams, "err");
	bool all = !a->targets || t->n_refs == workers_of(m);
	json_t *o = json_pack("{s:b, s:b, s:b}", "follow", a->follow, "out", out, "err", err);
	int64_t since;

	if (a->lines >= 0)
		json_object_set_new(o, "lines", json_integer(a->lines));
	if (a->since && parse_time(a->since, &since) == 0)
		json_object_set_new(o, "since_us", json_integer(since));
	if (a->after)
		json_object_set_new(o, "after", json_string(a->after));
	if (all) {
		json_object_set_new(o, "all", json_true());
	} else {
		json_t *streams = json_array();
		const struct worker *last = NULL;

		for (size_t i = 0; i < t->n_refs; i++) {
			uint32_t row = stream_of(m, &t->refs[i], &last);

			if (row != LEDGER_NONE)
				json_array_append_new(streams, json_pack("[i,i,i]", (int)row,
									 (int)out, (int)err));
		}
		json_object_set_new(o, "streams", streams);
	}
	return o;
}

void method_logs(struct vl_call *c, const void *args)
{
	const struct args_logs *a = args;
	struct manager *m = call_manager(c);
	struct targets t = { 0 };
	int64_t since;
	auto_free char *text = NULL;
	json_t *packet;

	if (a->since && parse_time(a->since, &since) < 0) {
		vl_error_parameter(c, "since");
		return;
	}
	if (a->streams && !streams_known(a->streams)) {
		vl_error_parameter(c, "streams");
		return;
	}
	if (targets_resolve(m, a->targets, &t) < 0) {
		vl_error(c, CONTROL_ERROR("Failed"), json_pack("{s:s}", "text", "out of memory"));
		return;
	}
	if (targets_refuse_unknown(c, m, &t)) {
		targets_fini(&t);
		return;
	}
	packet = logs_packet(m, a, &t);
	text = packet ? json_dumps(packet, JSON_COMPACT) : NULL;
	json_decref(packet);
	targets_fini(&t);
	if (!text || strlen(text) > LOGBOOK_LOGS_MAX) {
		vl_error(c, CONTROL_ERROR("Failed"),
			 json_pack("{s:s}", "text",
				   "too many targets for one call; use all or a group"));
		return;
	}
	FAIL_HERE(LOGS_GIVE);
	auto_fd fd = vl_call_give_fd(c);
	FAIL_HERE(LOGS_SEND);
	int r = fd_send(m->logs_out, text, strlen(text), &fd, 1);

	if (r < 0)
		log_warn("a client of logs could not be handed over: %s", strerror(-r));
}
