/*
 * status: groups, and the workers that are not well; with targets or --all every worker. One List
 * call; its answer is kept whole, since widths need all rows. `-w` shows it again when an event
 * comes, at most four times a second, and every few seconds for the numbers.
 */
#include "ctl.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define WATCH_PERIOD_MS 5000
#define WATCH_PAUSE_MS	250

/* Columns of worker_keys[] that the tables need. */
enum field {
	W_WORKER,
	W_GROUP,
	W_INDEX,
	W_PID,
	W_INCARNATION,
	W_GENERATION,
	W_RESTARTS,
	W_STATE,
	W_WANTED,
	W_READY,
	W_FROZEN,
	W_WAITING_FOR,
	W_UPTIME,
	W_CPU,
	W_START_METHOD,
	W_SOURCE,
	W_STATUS,
	W_MEMORY,
	W_PSS,
	W_PRIVATE,
	W_SHARED,
	W_PROGRESS,
	W_LAST_EXIT,
	W_COUNT
};

/* What has come of a List so far. Workers are read in place, thousands of them; groups are few. */
struct listing {
	bool ready_verb, memory;
	struct table workers, groups;
	size_t n_workers, n_groups, n_unwell;
	bool groups_unwell;
	struct str json;
};

/* With --memory three columns stand in place of one, and groups have notes. */
static void begin_table(struct table *t, bool memory, const char *const *titles, size_t n)
{
	static const char *const pages[] = { "PSS", "PRIVATE", "SHARED" };
	const char *all[12];
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		if (!memory || strcmp(titles[i], "MEMORY") != 0) {
			all[k++] = titles[i];
			continue;
		}
		for (size_t p = 0; p < ARRAY_LEN(pages); p++)
			all[k++] = pages[p];
	}
	table_begin(t, k);
	for (size_t i = 0; i < k; i++)
		table_cell(t, BOLD, all[i]);
}

static void listing_begin(struct listing *l)
{
	static const char *const of_workers[] = { "WORKER",   "STATE", "PID",	 "UPTIME",
						  "RESTARTS", "CPU",   "MEMORY", "NOTE" };
	static const char *const of_groups[] = { "GROUP", "READY",  "WORST", "RESTARTS",
						 "CPU",	  "MEMORY", "NOTE" };

	l->n_workers = l->n_groups = l->n_unwell = 0;
	l->groups_unwell = false;
	begin_table(&l->workers, l->memory, of_workers, ARRAY_LEN(of_workers));
	begin_table(&l->groups, l->memory, of_groups, ARRAY_LEN(of_groups) - !l->memory);
	l->json = (struct str){ 0 };
}

static void listing_fini(struct listing *l)
{
	table_fini(&l->workers);
	table_fini(&l->groups);
	str_fini(&l->json);
}

/* --- one worker --- */

/* Ready, or done with success (we know exit code 0 only; the group's own count knows better). */
static bool is_well(const struct vl_slice *w)
{
	static const char *const keys[] = { "code", NULL };
	struct vl_slice code;

	if (vl_slice_is(w[W_STATE], "\"ready\""))
		return true;
	return vl_slice_is(w[W_STATE], "\"done\"") && vl_scan_fields(w[W_LAST_EXIT], keys, &code) &&
	       vl_slice_int(code, -1) == 0;
}

static bool has_failed(const struct vl_slice *w)
{
	static const char *const bad[] = { "\"backoff\"", "\"quarantined\"", "\"stuck\"" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (vl_slice_is(w[W_STATE], bad[i]))
			return true;
	return vl_slice_is(w[W_STATE], "\"done\"") && !is_well(w);
}

static void cell_span(struct table *t, double seconds)
{
	char text[32] = "-";

	if (seconds >= 0)
		format_span(seconds, text);
	table_number(t, seconds < 0 ? DIM : PLAIN, text);
}

static void cell_bytes(struct table *t, int64_t bytes)
{
	char text[32] = "-";

	if (bytes >= 0)
		format_bytes(bytes, text);
	table_number(t, bytes < 0 ? DIM : PLAIN, text);
}

static void cell_int(struct table *t, struct vl_slice v)
{
	char text[32] = "-";

	if (!vl_slice_null(v) && v.len < sizeof(text)) {
		memcpy(text, v.text, v.len);
		text[v.len] = '\0';
	}
	table_number(t, text[0] == '-' ? DIM : PLAIN, text);
}

static void cell_memory(struct table *t, const struct listing *l, const struct vl_slice *w)
{
	if (!l->memory) {
		cell_bytes(t, vl_slice_int(w[W_MEMORY], -1));
		return;
	}
	for (int i = W_PSS; i <= W_SHARED; i++)
		cell_bytes(t, vl_slice_int(w[i], -1));
}

/* Most workers have nothing to note; for the others the row becomes objects. */
static void cell_note(struct table *t, struct vl_slice row, const struct vl_slice *w)
{
	auto_str note = { 0 };
	json_t *o;

	if (!vl_slice_null(w[W_WAITING_FOR]) || !vl_slice_null(w[W_STATUS]) ||
	    !vl_slice_null(w[W_PROGRESS]) || !vl_slice_null(w[W_LAST_EXIT])) {
		o = json_loadb(row.text, row.len, 0, NULL);
		describe_worker(o, &note);
		json_decref(o);
	}
	table_cell(t, PLAIN, note.data ? note.data : "");
}

static void worker_row(struct listing *l, struct vl_slice row, const struct vl_slice *w)
{
	struct table *t = &l->workers;
	auto_str name = { 0 }, state = { 0 };
	enum color color;

	vl_slice_text(w[W_WORKER], &name);
	vl_slice_text(w[W_STATE], &state);
	color = state_color(state.data ? state.data : "");
	if (!vl_slice_is(w[W_WANTED], "\"up\"") && !vl_slice_is(w[W_STATE], "\"stopped\""))
		str_add(&state, " (down)");
	table_cell(t, PLAIN, name.data ? name.data : "?");
	table_cell(t, color, state.data ? state.data : "?");
	cell_int(t, w[W_PID]);
	cell_span(t, vl_slice_real(w[W_UPTIME], -1));
	cell_int(t, w[W_RESTARTS]);
	cell_span(t, vl_slice_real(w[W_CPU], -1));
	cell_memory(t, l, w);
	cell_note(t, row, w);
}

static void add_member(struct str *out, const char *key, struct vl_slice value)
{
	str_add(out, out->data[out->len - 1] == '{' ? "\"" : ",\"");
	str_add(out, key);
	str_add(out, "\":");
	if (value.text)
		str_add_bytes(out, value.text, value.len);
	else
		str_add(out, "null");
}

/* The contract of `status --json`: every key is there, the values as the daemon wrote them. */
static void worker_json(struct str *out, const struct vl_slice *w)
{
	static const char *const exit_keys[] = { "incarnation", "code", "signal",
						 "cause",	"at",	NULL };
	struct vl_slice e[5];

	str_add(out, out->len > 0 ? ",\n{" : "[{");
	for (int i = 0; i < W_LAST_EXIT; i++)
		add_member(out, worker_keys[i], w[i]);
	if (vl_slice_null(w[W_LAST_EXIT]) || !vl_scan_fields(w[W_LAST_EXIT], exit_keys, e)) {
		str_add(out, ",\"last_exit\":null}");
		return;
	}
	str_add(out, ",\"last_exit\":{");
	for (size_t i = 0; exit_keys[i]; i++)
		add_member(out, exit_keys[i], e[i]);
	str_add(out, "}}");
}

static void ready_row(struct ctl *c, const struct listing *l, const struct vl_slice *w)
{
	auto_str text = { 0 };

	if (c->set.json || l->n_unwell > 20)
		return;
	vl_slice_text(w[W_WORKER], &text);
	str_add(&text, ": ");
	vl_slice_text(w[W_STATE], &text);
	out_safe(c, text.data);
	str_add(&c->out, "\n");
}

static void take_worker(struct ctl *c, struct listing *l, struct vl_slice row)
{
	struct vl_slice w[W_COUNT];
	bool up;

	if (!vl_scan_fields(row, worker_keys, w))
		return;
	up = vl_slice_is(w[W_WANTED], "\"up\"");
	l->n_workers++;
	/* `ready TARGET`: they must be ready whatever is wanted of them. */
	if (!is_well(w) && (up || (l->ready_verb && c->n_args > 0))) {
		l->n_unwell++;
		if (l->ready_verb)
			ready_row(c, l, w);
	}
	if (l->ready_verb || (c->set.failed && !has_failed(w)))
		return;
	if (c->set.json)
		worker_json(&l->json, w);
	else
		worker_row(l, row, w);
}

/* --- groups --- */

static void add_part(struct str *note, const char *name, int64_t bytes)
{
	char text[32];

	if (bytes < 0)
		return;
	format_bytes(bytes, text);
	str_addf(note, "%s%s %s", note->len > 0 ? ", " : "", name, text);
}

/* What else is in its sum, beside the workers. */
static void cell_parts(struct table *t, const json_t *g)
{
	long long n = get_int(g, "spares", 0);
	auto_str note = { 0 };
	char spares[32];

	snprintf(spares, sizeof(spares), "%lld spare%s", n, n == 1 ? "" : "s");
	add_part(&note, "template", get_int(g, "templates_pss_bytes", -1));
	add_part(&note, spares, get_int(g, "spares_pss_bytes", -1));
	table_cell(t, PLAIN, note.data ? note.data : "");
}

static void take_group(struct listing *l, struct vl_slice row)
{
	json_t *g = json_loadb(row.text, row.len, 0, NULL);
	int64_t wanted = get_int(g, "wanted", 0), well = get_int(g, "well", 0);
	const char *worst = get_text(g, "worst", "-");
	struct table *t = &l->groups;

	l->n_groups++;
	l->groups_unwell = l->groups_unwell || well < wanted;
	table_cell(t, PLAIN, get_text(g, "group", "?"));
	table_numberf(t,
		      well < wanted ? BAD
		      : wanted	    ? GOOD
				    : DIM,
		      "%lld/%lld", (long long)well, (long long)wanted);
	table_cellf(t, state_color(worst), "%s%s", worst,
		    get_bool(g, "renewing") ? " (renewing)" : "");
	table_numberf(t, PLAIN, "%lld", (long long)get_int(g, "restarts", 0));
	cell_span(t, get_real(g, "cpu_s", -1));
	cell_bytes(t, get_int(g, l->memory ? "pss_bytes" : "memory_bytes", -1));
	if (l->memory) {
		cell_bytes(t, get_int(g, "private_bytes", -1));
		cell_bytes(t, -1); /* what workers share is no sum */
		cell_parts(t, g);
	}
	json_decref(g);
}

/* --- the call --- */

static int on_list(struct ctl *c, struct vl_slice parameters, bool last, void *data)
{
	static const char *const keys[] = { "workers", "groups", NULL };
	struct listing *l = data;
	struct vl_slice lists[2], row;
	struct vl_scan s;

	if (!parameters.text) {
		listing_fini(l);
		listing_begin(l);
		c->out.len = 0;
		return CODE_OK;
	}
	if (!vl_scan_fields(parameters, keys, lists))
		return CODE_FAILED;
	if (vl_scan_open(&s, lists[0], '['))
		while (vl_scan_element(&s, &row))
			take_worker(c, l, row);
	if (vl_scan_open(&s, lists[1], '['))
		while (vl_scan_element(&s, &row))
			take_group(l, row);
	return CODE_OK;
}

static int list(struct ctl *c, struct listing *l)
{
	json_t *p = json_object();

	l->memory = c->set.memory;
	listing_begin(l);
	if (c->n_args > 0)
		with_targets(c, p);
	if (c->set.memory)
		json_object_set_new(p, "memory", json_true());
	if (c->n_args == 0 && !c->set.all && !c->set.json)
		json_object_set_new(p, "unwell", json_true());
	return ctl_stream_text(c, "List", p, on_list, l);
}

/* With targets their workers count, else the groups. */
static int verdict(const struct ctl *c, const struct listing *l)
{
	return (c->n_args > 0 ? l->n_unwell > 0 : l->groups_unwell) ? CODE_FALSE : CODE_OK;
}

static void print_listing(struct ctl *c, struct listing *l)
{
	if (c->set.json) {
		str_add_bytes(&c->out, l->json.data, l->json.len);
		str_add(&c->out, l->json.len > 0 ? "]\n" : "[]\n");
		return;
	}
	if (l->n_groups == 0)
		str_add(&c->out, "no groups are configured\n");
	else if (!c->set.failed)
		table_print(&l->groups, c);
	if (l->workers.n_cells > l->workers.n_columns) {
		str_add(&c->out, c->set.failed ? "" : "\n");
		table_print(&l->workers, c);
	}
}

static int status_once(struct ctl *c, bool clear)
{
	struct listing l = { 0 };
	int code = list(c, &l);

	if (code == CODE_OK) {
		if (clear)
			str_add(&c->out, "\033[H\033[2J");
		print_listing(c, &l);
		out_flush(c);
		code = verdict(c, &l);
	}
	listing_fini(&l);
	return code;
}

/* --- watching --- */

/* Wait for events (or the period); CODE_INTERRUPTED on Ctrl-C. A broken connection is as good as
 * an event: the next list finds out. */
static int wait_change(struct ctl *c, struct vl_client *events)
{
	int64_t end = clock_mono_ms() + WATCH_PERIOD_MS;
	struct vl_reply reply;
	int err = 0;

	if (events->fd < 0 && vl_client_connect(events, c->socket, end) == 0) {
		json_t *p = json_pack("{s:b}", "follow", 1);

		err = vl_client_send(events, "org.reeve.Control.Events", p, VL_MORE, end);
		json_decref(p);
	}
	if (err == 0)
		err = vl_client_receive(events, end, &reply);
	if (err == 0)
		vl_reply_fini(&reply);
	if (err == -EINTR)
		return CODE_INTERRUPTED;
	if (err < 0 && err != -ETIMEDOUT)
		vl_client_close(events);
	struct pollfd p = { c->client.interrupt_fd, POLLIN, 0 };

	if (poll(&p, 1, WATCH_PAUSE_MS) > 0)
		return CODE_INTERRUPTED;
	/* What came meanwhile is shown by the same list. */
	while (events->fd >= 0 && vl_client_receive(events, 0, &reply) == 0)
		vl_reply_fini(&reply);
	return CODE_OK;
}

static int status_watch(struct ctl *c)
{
	struct vl_client events = VL_CLIENT_INIT;
	int code;

	do {
		code = status_once(c, isatty(STDOUT_FILENO));
		if (code != CODE_OK && code != CODE_FALSE)
			break;
		events.interrupt_fd = c->client.interrupt_fd;
		code = wait_change(c, &events);
	} while (code == CODE_OK);
	vl_client_close(&events);
	return code;
}

int cmd_status(struct ctl *c)
{
	return c->set.watch ? status_watch(c) : status_once(c, false);
}

/* --- ready --- */

int cmd_ready(struct ctl *c)
{
	struct listing l = { .ready_verb = true };
	int code = list(c, &l);

	if (code == CODE_OK)
		code = verdict(c, &l);
	if (c->set.json && (code == CODE_OK || code == CODE_FALSE))
		str_add(&c->out, code == CODE_OK ? "true\n" : "false\n");
	listing_fini(&l);
	return code;
}
