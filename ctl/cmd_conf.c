/* check and dump: the configuration library without a daemon (but `dump` without a file, which
 * shows what is in force). */
#include "ctl.h"

#include "conf.h"
#include "base/mem.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The file given, or the default one of this user. NULL after a message. */
static const char *choose_file(const struct ctl *c, char *buf, size_t size)
{
	const char *home = getenv("HOME"), *config = getenv("XDG_CONFIG_HOME");

	if (c->n_args > 0)
		return c->args[0];
	if (c->set.system || (geteuid() == 0 && !c->set.user))
		return "/etc/reeve/reeve.conf";
	if (config && *config)
		snprintf(buf, size, "%s/reeve/reeve.conf", config);
	else if (home && *home)
		snprintf(buf, size, "%s/.config/reeve/reeve.conf", home);
	else
		return NULL;
	return buf;
}

static int load(struct ctl *c, struct conf **ret, struct conf_report *report)
{
	struct conf_load_options o = {
		.user = c->set.user || (geteuid() != 0 && !c->set.system),
		.offline = c->set.offline,
	};
	char buf[PATH_MAX];
	const char *path = choose_file(c, buf, sizeof(buf));

	if (!path) {
		fail("which file? HOME is not set");
		return CODE_USAGE;
	}
	return conf_load(path, &o, ret, report) < 0 ? CODE_CONFIG : CODE_OK;
}

static void add_problem(json_t *list, const struct conf_problem *p)
{
	json_t *o =
		json_pack("{s:s, s:i, s:o, s:b}", "file", p->at.file, "line", p->at.line, "text",
			  vl_text(p->at.text, strlen(p->at.text)), "warning", (int)p->warning);

	if (o && !p->at.file[0])
		json_object_set_new(o, "file", json_null());
	if (o && !p->at.line)
		json_object_set_new(o, "line", json_null());
	json_array_append_new(list, o);
}

static void say_report(struct ctl *c, const struct conf_report *report, const struct conf *conf)
{
	auto_str text = { 0 };
	json_t *o, *list;

	if (c->set.json) {
		list = json_array();
		for (size_t i = 0; i < report->n; i++)
			add_problem(list, &report->items[i]);
		o = json_pack("{s:b, s:o}", "ok", (int)(conf != NULL), "problems", list);
		out_json(c, o);
		json_decref(o);
		return;
	}
	conf_report_print(report, &text);
	if (text.data)
		fputs(text.data, stderr);
	if (conf)
		str_addf(&c->out, "%s: ok, %zu group%s\n", conf->path, conf->n_groups,
			 conf->n_groups == 1 ? "" : "s");
}

int cmd_check(struct ctl *c)
{
	struct conf_report report = { 0 };
	struct conf *conf = NULL;
	int code = load(c, &conf, &report);

	if (code != CODE_USAGE)
		say_report(c, &report, conf);
	conf_report_fini(&report);
	conf_free(conf);
	return code;
}

static int dump_daemon(struct ctl *c)
{
	json_t *reply;
	int code = ctl_call(c, "Dump", json_object(), &reply);

	if (code != CODE_OK)
		return code;
	if (c->set.json)
		out_json(c, json_object_get(reply, "canonical"));
	else
		str_add(&c->out, get_text(reply, "text", ""));
	json_decref(reply);
	return CODE_OK;
}

static int dump_file(struct ctl *c)
{
	struct conf_report report = { 0 };
	auto_free char *canonical = NULL;
	auto_str text = { 0 };
	struct conf *conf = NULL;
	int code = load(c, &conf, &report);

	if (code == CODE_CONFIG) {
		conf_report_print(&report, &text);
		fputs(text.data ? text.data : "", stderr);
	} else if (code == CODE_OK && c->set.json) {
		canonical = conf_to_json(conf);
		str_addf(&c->out, "%s\n", canonical ? canonical : "null");
	} else if (code == CODE_OK) {
		conf_dump(conf, &c->out);
	}
	conf_report_fini(&report);
	conf_free(conf);
	return code;
}

int cmd_dump(struct ctl *c)
{
	return c->n_args > 0 ? dump_file(c) : dump_daemon(c);
}
