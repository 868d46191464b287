/* Rendering that several verbs share: workers, problems, changes. */
#include "ctl.h"

#include <string.h>

/* The contract of `status --json`: every one of these is there, null where it is absent. */
const char *const worker_keys[] = {
	"worker",    "group",	      "index",	      "pid",	  "incarnation", "generation",
	"restarts",  "state",	      "wanted",	      "ready",	  "frozen",	 "waiting_for",
	"uptime_s",  "cpu_s",	      "start_method", "source",	  "status",	 "memory_bytes",
	"pss_bytes", "private_bytes", "shared_bytes", "progress", "last_exit",	 NULL,
};

static const char *const exit_keys[] = { "incarnation", "code", "signal", "cause", "at", NULL };

void fill_absent(json_t *o, const char *const *keys)
{
	json_t *last = json_object_get(o, "last_exit");

	for (; *keys; keys++)
		if (!json_object_get(o, *keys))
			json_object_set_new(o, *keys, json_null());
	if (json_is_object(last))
		fill_absent(last, exit_keys);
}

static void add_reason(struct str *out, const char *text)
{
	if (out->len > 0)
		str_add(out, "; ");
	str_add(out, text);
}

static void add_waiting(const json_t *w, struct str *out)
{
	const json_t *list = json_object_get(w, "waiting_for"), *v;
	size_t i;

	json_array_foreach((json_t *)list, i, v)
	{
		str_add(out, i == 0 ? "for " : ", ");
		str_add(out, json_string_value(v) ? json_string_value(v) : "?");
	}
}

/* `status` is what was said of the worker already. */
static void add_last_exit(const json_t *w, const char *status, struct str *out)
{
	const json_t *e = json_object_get(w, "last_exit");
	const char *signal = get_text(e, "signal", NULL), *cause = get_text(e, "cause", "exit");
	const char *error = get_text(e, "error", NULL);

	if (!json_is_object(e) || (error && status && strcmp(error, status) == 0))
		return;
	if (error) {
		add_reason(out, "last start failed: ");
		str_add(out, error);
		return;
	}
	add_reason(out, "last life ended by ");
	if (signal)
		str_add(out, signal);
	else
		str_addf(out, "exit %lld", (long long)get_int(e, "code", 0));
	if (strcmp(cause, "exit") != 0 && strcmp(cause, "signal") != 0)
		str_addf(out, " (%s)", cause);
}

void describe_worker(const json_t *w, struct str *out)
{
	const char *state = get_text(w, "state", "?"), *status = get_text(w, "status", NULL);
	const json_t *progress = json_object_get(w, "progress");

	add_waiting(w, out);
	if (json_is_object(progress)) {
		if (out->len > 0)
			str_add(out, "; ");
		str_addf(out, "%lld/%lld", (long long)get_int(progress, "done", 0),
			 (long long)get_int(progress, "total", 0));
	}
	if (status)
		add_reason(out, status);
	if (strcmp(state, "ready") != 0 && strcmp(state, "stopped") != 0)
		add_last_exit(w, status, out);
}

void print_problems(const json_t *problems, struct str *out)
{
	const json_t *p;
	size_t i;

	json_array_foreach((json_t *)problems, i, p)
	{
		const char *file = get_text(p, "file", NULL);
		int64_t line = get_int(p, "line", 0);

		if (file)
			str_add(out, file);
		if (file && line > 0)
			str_addf(out, ":%lld", (long long)line);
		str_addf(out, "%s%s: %s\n", file ? ": " : "",
			 get_bool(p, "warning") ? "warning" : "error", get_text(p, "text", "?"));
	}
}

void print_changes(struct ctl *c, const json_t *changes)
{
	const json_t *ch;
	size_t i;

	json_array_foreach((json_t *)changes, i, ch)
	{
		const char *group = get_text(ch, "group", ""), *kind = get_text(ch, "kind", "?");
		const char *reason = get_text(ch, "reason", "");
		enum color color = strcmp(kind, "live") == 0	 ? GOOD
				   : strcmp(kind, "daemon") == 0 ? BAD
								 : WARN;

		out_safe(c, *group ? group : "daemon");
		str_add(&c->out, ": ");
		out_color(c, color, kind);
		if (*reason) {
			str_add(&c->out, ", ");
			out_safe(c, reason);
		}
		str_add(&c->out, "\n");
	}
}
