/* Verbs about the daemon itself: doctor, version, help. */
#include "ctl.h"

#include "base/mem.h"

#include <string.h>

static bool print_check(struct ctl *c, const json_t *check)
{
	const char *status = get_text(check, "status", "?"),
		   *remedy = get_text(check, "remedy", "");
	bool unmet = strcmp(status, "unmet") == 0, ok = strcmp(status, "ok") == 0;

	out_color(c,
		  ok	  ? GOOD
		  : unmet ? BAD
			  : WARN,
		  ok	  ? "ok      "
		  : unmet ? "unmet   "
			  : "degraded");
	str_addf(&c->out, "  %s: ", get_text(check, "name", "?"));
	out_safe(c, get_text(check, "text", ""));
	str_add(&c->out, "\n");
	if (!ok && *remedy) {
		str_add(&c->out, "          remedy: ");
		out_safe(c, remedy);
		str_add(&c->out, "\n");
	}
	return unmet;
}

int cmd_doctor(struct ctl *c)
{
	json_t *reply;
	const json_t *check;
	size_t i;
	bool unmet = false;
	int code = ctl_call(c, "Doctor", json_object(), &reply);

	if (code != CODE_OK)
		return code;
	json_array_foreach(json_object_get(reply, "checks"), i, check)
	{
		if (!c->set.json)
			unmet = print_check(c, check) || unmet;
		else
			unmet = unmet || strcmp(get_text(check, "status", ""), "unmet") == 0;
	}
	if (c->set.json)
		out_json(c, json_object_get(reply, "checks"));
	json_decref(reply);
	return unmet ? CODE_FAILED : CODE_OK;
}

int cmd_version(struct ctl *c)
{
	json_t *reply;
	int code;

	if (!c->set.json)
		str_addf(&c->out, "reevectl %s\n", REEVE_VERSION);
	code = ctl_call(c, "Version", json_object(), &reply);
	if (code != CODE_OK)
		return code;
	if (c->set.json) {
		json_object_set_new(reply, "reevectl", json_string(REEVE_VERSION));
		out_json(c, reply);
	} else {
		str_addf(&c->out, "reeved   %s, phase %s, since %s\n",
			 get_text(reply, "version", "?"), get_text(reply, "phase", "?"),
			 get_text(reply, "started_at", "?"));
		str_addf(&c->out, "         keeper %lld, manager %lld, logger %lld\n",
			 (long long)get_int(reply, "keeper_pid", 0),
			 (long long)get_int(reply, "manager_pid", 0),
			 (long long)get_int(reply, "logger_pid", 0));
		str_add(&c->out, "         ");
		out_safe(c, get_text(reply, "config", "?"));
		str_add(&c->out, ", ");
		out_safe(c, get_text(reply, "runtime_dir", "?"));
		str_add(&c->out, "\n");
	}
	json_decref(reply);
	return CODE_OK;
}

int cmd_upgrade(struct ctl *c)
{
	json_t *reply;
	int code = ctl_call(c, "Upgrade", with_waiting(c, json_object()), &reply);

	if (code != CODE_OK)
		return code;
	if (c->set.json)
		out_json(c, reply);
	else
		str_addf(&c->out, "upgraded from reeved %s to %s\n", get_text(reply, "from", "?"),
			 get_text(reply, "to", "?"));
	json_decref(reply);
	return CODE_OK;
}

static void help_all(struct ctl *c)
{
	struct table t;

	str_add(&c->out, "usage: reevectl [OPTIONS] [VERB [ARGUMENTS]]; without a verb: status\n\n"
			 "TARGET is a group (web), a worker (web:3), a glob (web:*) or all.\n\n");
	table_begin(&t, 3);
	for (size_t i = 0; i < n_verbs; i++) {
		table_cellf(&t, BOLD, "  %s", verbs[i].name);
		table_cell(&t, PLAIN, verbs[i].usage);
		table_cell(&t, PLAIN, verbs[i].help);
	}
	table_print(&t, c);
	table_fini(&t);
	str_add(&c->out, "\noptions of every verb, before or after it:\n");
	options_help(NULL, &c->out);
	str_add(&c->out,
		"\nreevectl(1) tells the rest; `reevectl help VERB` the options of a verb.\n");
}

int cmd_help(struct ctl *c)
{
	const struct verb *v = c->set.help && strcmp(c->verb->name, "help") != 0 ? c->verb : NULL;

	if (!v && c->n_args > 0)
		v = verb_find(c->args[0]);
	if (!v && c->n_args > 0) {
		const char *ours = verb_pointer(c->args[0]);

		fail("there is no verb `%s`%s%s", c->args[0], ours ? "; see " : "",
		     ours ? ours : "");
		return CODE_USAGE;
	}
	if (!v || (c->set.help && !c->verb_given)) {
		help_all(c);
		return CODE_OK;
	}
	str_addf(&c->out, "usage: reevectl %s%s%s\n%s\n", v->name, *v->usage ? " " : "", v->usage,
		 v->help);
	if (v->options) {
		str_add(&c->out, "\n");
		options_help(v, &c->out);
	}
	return CODE_OK;
}
