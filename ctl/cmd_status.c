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

struct listing {
	json_t *workers, *groups;
};

static int on_list(struct ctl *c, json_t *parameters, bool last, void *data)
{
	struct listing *l = data;

	if (!parameters) {
		json_array_clear(l->workers);
		json_array_clear(l->groups);
		return CODE_OK;
	}
	json_array_extend(l->workers, json_object_get(parameters, "workers"));
	json_array_extend(l->groups, json_object_get(parameters, "groups"));
	return CODE_OK;
}

static bool lists_all(const struct ctl *c)
{
	return c->n_args > 0 || c->set.all || c->set.json;
}

static int list(struct ctl *c, struct listing *l)
{
	json_t *p = json_object();

	*l = (struct listing){ json_array(), json_array() };
	if (c->n_args > 0)
		with_targets(c, p);
	if (c->set.memory)
		json_object_set_new(p, "memory", json_true());
	if (!lists_all(c))
		json_object_set_new(p, "unwell", json_true());
	return ctl_stream(c, "List", p, on_list, l);
}

static void listing_fini(struct listing *l)
{
	json_decref(l->workers);
	json_decref(l->groups);
}

/* Ready, or done with success (we know exit code 0 only; the group's own count knows better). */
static bool is_well(const json_t *w)
{
	const char *state = get_text(w, "state", "");

	return strcmp(state, "ready") == 0 ||
	       (strcmp(state, "done") == 0 &&
		get_int(json_object_get(w, "last_exit"), "code", -1) == 0);
}

static bool has_failed(const json_t *w)
{
	static const char *const bad[] = { "backoff", "quarantined", "stuck" };
	const char *state = get_text(w, "state", "");

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (strcmp(state, bad[i]) == 0)
			return true;
	return strcmp(state, "done") == 0 && !is_well(w);
}

/* With worker targets the workers count, else the groups. */
static int verdict(const struct ctl *c, const struct listing *l)
{
	const json_t *o;
	size_t i;

	if (c->n_args > 0) {
		json_array_foreach(l->workers, i,
				   o) if (strcmp(get_text(o, "wanted", ""), "up") == 0 &&
					  !is_well(o)) return CODE_FALSE;
		return CODE_OK;
	}
	json_array_foreach(l->groups, i, o) if (get_int(o, "well", 0) <
						get_int(o, "wanted", 0)) return CODE_FALSE;
	return CODE_OK;
}

/* --- tables --- */

static void cell_span(struct table *t, double seconds)
{
	char text[32];

	if (seconds < 0) {
		table_number(t, DIM, "-");
		return;
	}
	format_span(seconds, text);
	table_number(t, PLAIN, "%s", text);
}

static void cell_bytes(struct table *t, int64_t bytes)
{
	char text[32];

	if (bytes < 0) {
		table_number(t, DIM, "-");
		return;
	}
	format_bytes(bytes, text);
	table_number(t, PLAIN, "%s", text);
}

static void header(struct table *t, const char *const *names)
{
	for (; *names; names++)
		table_cell(t, BOLD, *names);
}

static void group_row(struct table *t, const json_t *g)
{
	int64_t wanted = get_int(g, "wanted", 0), well = get_int(g, "well", 0);
	const char *worst = get_text(g, "worst", "-");

	table_cell(t, PLAIN, get_text(g, "group", "?"));
	table_number(t,
		     well < wanted ? BAD
		     : wanted	   ? GOOD
				   : DIM,
		     "%lld/%lld", (long long)well, (long long)wanted);
	table_cellf(t, state_color(worst), "%s%s", worst,
		    get_bool(g, "renewing") ? " (renewing)" : "");
	table_number(t, PLAIN, "%lld", (long long)get_int(g, "restarts", 0));
	cell_span(t, get_real(g, "cpu_s", -1));
	cell_bytes(t, get_int(g, "pss_bytes", get_int(g, "memory_bytes", -1)));
}

static void print_groups(struct ctl *c, const json_t *groups)
{
	static const char *const names[] = { "GROUP", "READY",	"WORST", "RESTARTS",
					     "CPU",   "MEMORY", NULL };
	struct table t;
	const json_t *g;
	size_t i;

	table_begin(&t, 6);
	header(&t, names);
	json_array_foreach((json_t *)groups, i, g) group_row(&t, g);
	table_print(&t, c);
	table_fini(&t);
}

static void worker_row(struct table *t, const json_t *w)
{
	const char *state = get_text(w, "state", "?");
	auto_str why = { 0 };

	describe_worker(w, &why);
	table_cell(t, PLAIN, get_text(w, "worker", "?"));
	table_cellf(t, state_color(state), "%s%s", state,
		    strcmp(get_text(w, "wanted", ""), "up") == 0 || strcmp(state, "stopped") == 0
			    ? ""
			    : " (down)");
	if (get_int(w, "pid", 0) > 0)
		table_number(t, PLAIN, "%lld", (long long)get_int(w, "pid", 0));
	else
		table_number(t, DIM, "-");
	cell_span(t, get_real(w, "uptime_s", -1));
	table_number(t, PLAIN, "%lld", (long long)get_int(w, "restarts", 0));
	cell_span(t, get_real(w, "cpu_s", -1));
	cell_bytes(t, get_int(w, "pss_bytes", get_int(w, "memory_bytes", -1)));
	table_cell(t, PLAIN, why.data ? why.data : "");
}

/* Prints nothing if no worker is to be shown. */
static void print_workers(struct ctl *c, const json_t *workers, bool gap)
{
	static const char *const names[] = { "WORKER", "STATE",	 "PID",	 "UPTIME", "RESTARTS",
					     "CPU",    "MEMORY", "NOTE", NULL };
	struct table t;
	const json_t *w;
	size_t i;

	table_begin(&t, 8);
	header(&t, names);
	json_array_foreach((json_t *)workers, i, w) if (!c->set.failed || has_failed(w))
		worker_row(&t, w);
	if (t.n_cells > t.n_columns) {
		if (gap)
			str_add(&c->out, "\n");
		table_print(&t, c);
	}
	table_fini(&t);
}

static void print_listing(struct ctl *c, const struct listing *l)
{
	const json_t *w;
	size_t i;

	if (c->set.json) {
		json_array_foreach(l->workers, i, w) fill_absent((json_t *)w, worker_keys);
		out_json(c, l->workers);
		return;
	}
	if (json_array_size(l->groups) == 0)
		str_add(&c->out, "no groups are configured\n");
	else if (!c->set.failed)
		print_groups(c, l->groups);
	print_workers(c, l->workers, !c->set.failed);
}

static int status_once(struct ctl *c, bool clear)
{
	struct listing l;
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
	struct listing l;
	const json_t *w;
	size_t i, n = 0;
	int code;

	/* Named workers must be ready whatever is wanted of them; else all that are wanted. */
	code = list(c, &l);
	json_array_foreach(l.workers, i, w)
	{
		if (code != CODE_OK || is_well(w) ||
		    (c->n_args == 0 && strcmp(get_text(w, "wanted", ""), "up") != 0))
			continue;
		if (!c->set.json && n < 20) {
			out_safe(c, get_text(w, "worker", "?"));
			str_addf(&c->out, ": %s\n", get_text(w, "state", "?"));
		}
		n++;
	}
	if (code == CODE_OK && c->n_args == 0)
		code = verdict(c, &l);
	else if (code == CODE_OK && n > 0)
		code = CODE_FALSE;
	if (c->set.json && (code == CODE_OK || code == CODE_FALSE))
		str_add(&c->out, code == CODE_OK ? "true\n" : "false\n");
	listing_fini(&l);
	return code;
}
