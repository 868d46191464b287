/* show: everything about a worker, for a person; with --json as the daemon says it. */
#include "ctl.h"

#include "base/mem.h"
#include "base/names.h"

#include <stdio.h>
#include <string.h>

static void line(struct ctl *c, const char *name, const char *text)
{
	if (!text || !*text)
		return;
	str_addf(&c->out, "  %-12s ", name);
	out_safe(c, text);
	str_add(&c->out, "\n");
}

static void line_number(struct ctl *c, const char *name, const json_t *o, const char *key)
{
	if (json_is_integer(json_object_get(o, key)))
		str_addf(&c->out, "  %-12s %lld\n", name, (long long)get_int(o, key, 0));
}

static void line_span(struct ctl *c, const char *name, double seconds)
{
	char text[32];

	if (seconds < 0)
		return;
	format_span(seconds, text);
	line(c, name, text);
}

static void line_bytes(struct ctl *c, const char *name, int64_t bytes)
{
	char text[32];

	if (bytes < 0)
		return;
	format_bytes(bytes, text);
	line(c, name, text);
}

static void line_period(struct ctl *c, const char *name, int64_t ms)
{
	char text[48];

	if (ms > 0)
		line(c, name, duration_format(ms, text));
}

static void title(struct ctl *c, const char *text)
{
	str_add(&c->out, "\n");
	out_color(c, BOLD, text);
	str_add(&c->out, "\n");
}

static void show_head(struct ctl *c, const json_t *d, const json_t *w)
{
	const char *state = get_text(w, "state", "?");
	auto_str why = { 0 };

	out_color(c, BOLD, get_text(w, "worker", "?"));
	str_add(&c->out, "  ");
	out_color(c, state_color(state), state);
	str_addf(&c->out, ", wanted %s", get_text(w, "wanted", "?"));
	describe_worker(w, &why);
	if (why.len > 0) {
		str_add(&c->out, ": ");
		out_safe(c, why.data);
	}
	str_add(&c->out, "\n");
	line(c, "since", get_text(d, "state_since", NULL));
	line(c, "next step", get_text(d, "next_step_at", NULL));
	line(c, "last beat", get_text(d, "last_beat_at", NULL));
	line_period(c, "watchdog", get_int(d, "watchdog_ms", 0));
	line_number(c, "pid", w, "pid");
	line_number(c, "incarnation", w, "incarnation");
	line_number(c, "generation", w, "generation");
	line_number(c, "restarts", w, "restarts");
	line_span(c, "uptime", get_real(w, "uptime_s", -1));
	line_span(c, "cpu", get_real(w, "cpu_s", -1));
	line_bytes(c, "memory", get_int(w, "memory_bytes", -1));
	line_bytes(c, "pss", get_int(w, "pss_bytes", -1));
	line_bytes(c, "private", get_int(w, "private_bytes", -1));
	line_bytes(c, "shared", get_int(w, "shared_bytes", -1));
	line(c, "method", get_text(w, "start_method", NULL));
	line(c, "source", get_text(w, "source", NULL));
	line(c, "cgroup", get_text(d, "cgroup", NULL));
	line(c, "log", get_text(d, "log_to", NULL));
}

static void show_log_counters(struct ctl *c, const json_t *d)
{
	char in[32], written[32], dropped[32];

	if (get_int(d, "log_in_bytes", -1) < 0)
		return;
	format_bytes(get_int(d, "log_in_bytes", 0), in);
	format_bytes(get_int(d, "log_written_bytes", 0), written);
	format_bytes(get_int(d, "log_dropped_bytes", 0), dropped);
	str_addf(&c->out, "  %-12s %s read, %s written, %s dropped\n", "log bytes", in, written,
		 dropped);
}

static void show_exit(struct ctl *c, const json_t *e)
{
	const char *signal = get_text(e, "signal", NULL), *error = get_text(e, "error", NULL);
	char rss[32];
	const json_t *v;
	size_t i;

	format_bytes(get_int(e, "max_rss_bytes", 0), rss);
	str_addf(&c->out, "  #%lld %s  ", (long long)get_int(e, "incarnation", 0),
		 get_text(e, "at", "?"));
	if (error)
		out_safe(c, error);
	else if (signal)
		str_addf(&c->out, "signal %s%s", signal,
			 get_bool(e, "core") ? " (core dumped)" : "");
	else
		str_addf(&c->out, "exit %lld", (long long)get_int(e, "code", 0));
	str_addf(&c->out, ", %s; user %.2fs, system %.2fs, %s at most\n", get_text(e, "cause", "?"),
		 get_real(e, "user_s", 0), get_real(e, "system_s", 0), rss);
	json_array_foreach(json_object_get(e, "lines"), i, v)
	{
		str_add(&c->out, "      | ");
		out_safe(c, json_string_value(v) ? json_string_value(v) : "");
		str_add(&c->out, "\n");
	}
}

static void show_template(struct ctl *c, const json_t *t)
{
	char rss[32];

	str_addf(&c->out, "  %s %s", get_text(t, "name", "?"), get_text(t, "state", "?"));
	if (get_int(t, "pid", 0) > 0)
		str_addf(&c->out, ", pid %lld", (long long)get_int(t, "pid", 0));
	str_addf(&c->out, ", incarnation %lld, generation %lld, %lld fork%s",
		 (long long)get_int(t, "incarnation", 0), (long long)get_int(t, "generation", 0),
		 (long long)get_int(t, "forks", 0), get_int(t, "forks", 0) == 1 ? "" : "s");
	if (get_int(t, "spares", 0) > 0)
		str_addf(&c->out, ", %lld spare%s", (long long)get_int(t, "spares", 0),
			 get_int(t, "spares", 0) == 1 ? "" : "s");
	if (get_int(t, "rss_bytes", -1) >= 0) {
		format_bytes(get_int(t, "rss_bytes", 0), rss);
		str_addf(&c->out, "; loaded in %.2fs, %lld task%s, %lld fds, %s",
			 get_real(t, "load_s", 0), (long long)get_int(t, "tasks", 0),
			 get_int(t, "tasks", 0) == 1 ? "" : "s", (long long)get_int(t, "fds", 0),
			 rss);
	}
	str_add(&c->out, "\n");
	line(c, "runtime", get_text(t, "runtime", NULL));
	line(c, "loading", get_text(t, "loading", NULL));
	line(c, "error", get_text(t, "error", NULL));
}

static void show_templates(struct ctl *c, const json_t *templates)
{
	const json_t *t;
	size_t i;

	if (json_array_size(templates) == 0)
		return;
	title(c, "templates");
	json_array_foreach((json_t *)templates, i, t) show_template(c, t);
}

static void show_exits(struct ctl *c, const json_t *exits)
{
	const json_t *e;
	size_t i;

	if (json_array_size(exits) == 0)
		return;
	title(c, "last exits");
	json_array_foreach((json_t *)exits, i, e) show_exit(c, e);
}

static void show_tree(struct ctl *c, const json_t *tree)
{
	const json_t *p;
	size_t i;

	if (json_array_size(tree) == 0)
		return;
	title(c, "processes");
	json_array_foreach((json_t *)tree, i, p)
	{
		char rss[32];

		format_bytes(get_int(p, "rss_bytes", 0), rss);
		str_addf(&c->out, "  %lld (child of %lld) %s ", (long long)get_int(p, "pid", 0),
			 (long long)get_int(p, "ppid", 0), get_text(p, "state", "?"));
		out_safe(c, get_text(p, "name", "?"));
		str_addf(&c->out, ", %s%s%s%s\n", rss, get_bool(p, "main") ? ", main" : "",
			 get_bool(p, "spare") ? ", spare" : "",
			 get_bool(p, "orphan") ? ", orphan" : "");
	}
}

static void show_limits(struct ctl *c, const json_t *limits)
{
	const json_t *l;
	size_t i;

	if (json_array_size(limits) == 0)
		return;
	title(c, "limits");
	json_array_foreach((json_t *)limits, i, l)
	{
		char soft[32] = "unlimited", hard[32] = "unlimited";

		if (json_is_integer(json_object_get(l, "soft")))
			snprintf(soft, sizeof(soft), "%lld", (long long)get_int(l, "soft", 0));
		if (json_is_integer(json_object_get(l, "hard")))
			snprintf(hard, sizeof(hard), "%lld", (long long)get_int(l, "hard", 0));
		str_addf(&c->out, "  %-12s %s : %s\n", get_text(l, "name", "?"), soft, hard);
	}
}

static void show_fds(struct ctl *c, const json_t *fds)
{
	const json_t *f;
	size_t i;

	if (json_array_size(fds) == 0)
		return;
	title(c, "open files");
	json_array_foreach((json_t *)fds, i, f)
	{
		str_addf(&c->out, "  %-4lld ", (long long)get_int(f, "fd", 0));
		out_safe(c, get_text(f, "what", "?"));
		str_add(&c->out, "\n");
	}
}

static void show_list(struct ctl *c, const char *name, const json_t *list)
{
	const json_t *v;
	size_t i;

	if (json_array_size(list) == 0)
		return;
	title(c, name);
	json_array_foreach((json_t *)list, i, v)
	{
		str_add(&c->out, "  ");
		out_safe(c, json_string_value(v) ? json_string_value(v) : "");
		str_add(&c->out, "\n");
	}
}

/* Configuration text has lines and tabs of its own; other control characters are escaped. */
static void show_config(struct ctl *c, const char *text)
{
	if (!text)
		return;
	title(c, "configuration in force");
	for (size_t len; *text; text += len + (text[len] == '\n')) {
		size_t tabs = strspn(text, "\t");
		auto_free char *safe = NULL;

		len = strcspn(text, "\n");
		tabs = MIN_OF(tabs, len);
		safe = malloc(4 * (len - tabs) + 8);
		if (!safe)
			return;
		str_escape(text + tabs, len - tabs, safe, 4 * (len - tabs) + 8);
		str_addf(&c->out, "  %*s%s\n", (int)tabs * 4, "", safe);
	}
}

static void show_detail(struct ctl *c, const json_t *d)
{
	show_head(c, d, json_object_get(d, "worker"));
	show_log_counters(c, d);
	show_templates(c, json_object_get(d, "templates"));
	show_exits(c, json_object_get(d, "exits"));
	show_tree(c, json_object_get(d, "tree"));
	show_limits(c, json_object_get(d, "limits"));
	show_fds(c, json_object_get(d, "fds"));
	show_list(c, "environment", json_object_get(d, "env"));
	show_config(c, get_text(d, "config", NULL));
}

struct shown {
	json_t *details;
};

static int on_details(struct ctl *c, json_t *parameters, bool last, void *data)
{
	struct shown *s = data;

	if (!parameters) {
		json_array_clear(s->details);
		return CODE_OK;
	}
	json_array_extend(s->details, json_object_get(parameters, "details"));
	return CODE_OK;
}

int cmd_show(struct ctl *c)
{
	struct shown s = { json_array() };
	json_t *p = with_targets(c, json_object()), *d;
	size_t i;
	int code;

	json_object_set_new(p, "memory", json_true());
	code = ctl_stream(c, "Show", p, on_details, &s);
	json_array_foreach(s.details, i, d)
	{
		if (code != CODE_OK)
			break;
		fill_absent(json_object_get(d, "worker"), worker_keys);
		if (!c->set.json) {
			str_add(&c->out, i > 0 ? "\n" : "");
			show_detail(c, d);
		}
	}
	if (code == CODE_OK && c->set.json)
		out_json(c, s.details);
	json_decref(s.details);
	return code;
}
