/* reload and plan: what a new configuration changes, and why; with a file of one's own the
 * comparison is made here, against the configuration in force. */
#include "ctl.h"

#include "conf.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_warnings(const json_t *problems)
{
	auto_str text = { 0 };

	print_problems(problems, &text);
	if (text.data)
		fputs(text.data, stderr);
}

/* Changes as lines, or the whole reply as JSON; CODE_FALSE if there are any. */
static int say_plan(struct ctl *c, const json_t *reply)
{
	const json_t *changes = json_object_get(reply, "changes");

	if (c->set.json) {
		out_json(c, reply);
	} else {
		print_warnings(json_object_get(reply, "problems"));
		print_changes(c, changes);
		if (json_array_size(changes) == 0)
			str_add(&c->out, "nothing would change\n");
	}
	return json_array_size(changes) > 0 ? CODE_FALSE : CODE_OK;
}

static json_t *change_json(const struct conf_change *ch)
{
	static const char *const kinds[] = {
		[CONF_ADD] = "add",	[CONF_REMOVE] = "remove", [CONF_LIVE] = "live",
		[CONF_RENEW] = "renew", [CONF_DAEMON] = "daemon",
	};

	return json_pack("{s:s, s:s, s:s, s:s}", "group", ch->group, "kind", kinds[ch->kind], "key",
			 ch->key, "reason", ch->reason);
}

static json_t *problems_json(const struct conf_report *report)
{
	json_t *list = json_array();

	for (size_t i = 0; i < report->n; i++) {
		const struct conf_problem *p = &report->items[i];
		json_t *o = json_pack("{s:o, s:b}", "text", vl_text(p->at.text, strlen(p->at.text)),
				      "warning", (int)p->warning);

		if (p->at.file[0])
			json_object_set_new(o, "file", vl_text(p->at.file, strlen(p->at.file)));
		if (p->at.line)
			json_object_set_new(o, "line", json_integer(p->at.line));
		json_array_append_new(list, o);
	}
	return list;
}

static int say_bad_file(struct ctl *c, const struct conf_report *report)
{
	auto_str text = { 0 };

	conf_report_print(report, &text);
	fputs(text.data ? text.data : "", stderr);
	if (c->set.json) {
		json_t *o = json_pack("{s:o}", "problems", problems_json(report));

		out_json(c, o);
		json_decref(o);
	}
	return CODE_CONFIG;
}

/* Compare `next` with what Dump says is in force. */
static int compare(struct ctl *c, const json_t *dump, const struct conf *next,
		   const struct conf_report *report)
{
	char *text = json_dumps(json_object_get(dump, "canonical"), JSON_COMPACT);
	auto_free struct conf_change *changes = NULL;
	struct conf *now = NULL;
	struct diag d = { 0 };
	json_t *reply;
	ssize_t n;
	int code;

	if (!text || conf_from_json(text, strlen(text), &now, &d) < 0) {
		fail("the daemon's configuration cannot be read: %s", d.text);
		free(text);
		return CODE_FAILED;
	}
	free(text);
	n = conf_diff(now, next, &changes);
	reply = json_pack("{s:[], s:o}", "changes", "problems", problems_json(report));
	for (ssize_t i = 0; i < n; i++)
		json_array_append_new(json_object_get(reply, "changes"), change_json(&changes[i]));
	code = n < 0 ? CODE_FAILED : say_plan(c, reply);
	json_decref(reply);
	conf_free(now);
	return code;
}

static int plan_file(struct ctl *c, const char *path)
{
	struct conf_load_options o = { .offline = c->set.offline };
	struct conf_report report = { 0 };
	struct conf *next = NULL;
	json_t *dump;
	int code, err;

	code = ctl_call(c, "Dump", json_object(), &dump);
	if (code != CODE_OK)
		return code;
	o.user = get_bool(dump, "user");
	o.pid1 = get_bool(dump, "pid1");
	err = conf_load(path, &o, &next, &report);
	if (err < 0)
		code = say_bad_file(c, &report);
	else
		code = compare(c, dump, next, &report);
	conf_free(next);
	conf_report_fini(&report);
	json_decref(dump);
	return code;
}

static int plan_daemon(struct ctl *c)
{
	json_t *reply;
	int code = ctl_call(c, "Plan", json_object(), &reply);

	if (code != CODE_OK)
		return code;
	code = say_plan(c, reply);
	json_decref(reply);
	return code;
}

int cmd_plan(struct ctl *c)
{
	return c->n_args > 0 ? plan_file(c, c->args[0]) : plan_daemon(c);
}

/* --- reload --- */

/* *data: it was asked for again, since a manager died; what that one had changed nobody tells. */
static int on_reload(struct ctl *c, json_t *parameters, bool last, void *data)
{
	bool *again = data;
	const json_t *step = json_object_get(parameters, "step");
	const json_t *changes = json_object_get(parameters, "changes");
	char line[128];

	if (!last && json_is_object(step)) {
		snprintf(line, sizeof(line), "%lld/%lld renewed",
			 (long long)get_int(step, "done", 0), (long long)get_int(step, "total", 0));
		progress_line(c, line);
	}
	*again |= !parameters;
	if (!last)
		return CODE_OK;
	progress_line(c, NULL);
	if (c->set.json) {
		out_json(c, parameters);
		return code_of_results(json_object_get(parameters, "results"));
	}
	print_warnings(json_object_get(parameters, "problems"));
	print_changes(c, changes);
	if (json_array_size(changes) == 0 && c->n_args == 0)
		str_add(&c->out, *again ? "nothing is left to change (the manager was replaced "
					  "meanwhile; `reevectl events` tells what was)\n"
					: "nothing changed\n");
	return say_results(c, json_object_get(parameters, "results"));
}

int cmd_reload(struct ctl *c)
{
	json_t *p = json_object();
	bool again = false;

	if (c->set.dry_run) {
		json_decref(p);
		if (c->n_args == 0)
			return plan_daemon(c);
		fail("--dry-run and groups do not go together");
		return CODE_USAGE;
	}
	if (need_groups(c, c->n_args) != CODE_OK) {
		json_decref(p);
		return CODE_USAGE;
	}
	if (c->n_args > 0) {
		with_targets(c, p);
		json_object_set(p, "groups", json_object_get(p, "targets"));
		json_object_del(p, "targets");
	}
	with_waiting(c, p);
	return ctl_stream(c, "Reload", p, on_reload, &again);
}
