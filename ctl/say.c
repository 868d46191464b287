/* What errors and results of the daemon mean: a message for people and an exit code for scripts. */
#include "ctl.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static int say_no_target(const json_t *p)
{
	const char *near = get_text(p, "nearest", NULL);
	char target[256];

	str_escape(get_text(p, "target", "?"), strlen(get_text(p, "target", "?")), target,
		   sizeof(target));
	fail("no such group or worker: %s%s%s%s", target, near ? " (did you mean " : "",
	     near ? near : "", near ? "?)" : "");
	return CODE_NO_TARGET;
}

static int say_not_permitted(const json_t *p)
{
	fail("not permitted: %s needs the right `%s`", get_text(p, "method", "this"),
	     get_text(p, "needs", "?"));
	return CODE_NOT_PERMITTED;
}

static int say_invalid_config(const json_t *p)
{
	auto_str text = { 0 };

	print_problems(json_object_get(p, "errors"), &text);
	fputs(text.data ? text.data : "", stderr);
	fail("the configuration has errors, nothing was changed");
	return CODE_CONFIG;
}

static int say_shutting_down(const json_t *p)
{
	fail("the daemon is shutting down (%s)", get_text(p, "phase", "?"));
	return CODE_FAILED;
}

static int say_failed(const json_t *p)
{
	char text[1024];
	const char *why = get_text(p, "text", "failed");

	str_escape(why, strlen(why), text, sizeof(text));
	fail("%s", text);
	return CODE_FAILED;
}

static int say_unknown_method(const json_t *p)
{
	fail("the daemon does not know %s; it may be older than this reevectl (%s); see `reevectl "
	     "version`",
	     get_text(p, "method", "this"), REEVE_VERSION);
	return CODE_FAILED;
}

static int say_bad_parameter(const json_t *p)
{
	fail("the daemon does not take this as `%s`", get_text(p, "parameter", "call"));
	return CODE_USAGE;
}

static const struct {
	const char *error;
	int (*say)(const json_t *parameters);
} sayings[] = {
	{ CONTROL "NoSuchTarget", say_no_target },
	{ CONTROL "NotPermitted", say_not_permitted },
	{ CONTROL "InvalidConfig", say_invalid_config },
	{ CONTROL "ShuttingDown", say_shutting_down },
	{ CONTROL "Failed", say_failed },
	{ VL_ERROR_METHOD_NOT_FOUND, say_unknown_method },
	{ VL_ERROR_METHOD_NOT_IMPLEMENTED, say_unknown_method },
	{ VL_ERROR_INTERFACE_NOT_FOUND, say_unknown_method },
	{ VL_ERROR_INVALID_PARAMETER, say_bad_parameter },
};

int say_error(struct ctl *c, const char *method, const struct vl_reply *reply)
{
	progress_line(c, NULL);
	if (strcmp(reply->error, CONTROL "Timeout") == 0) {
		say_results(c, json_object_get(reply->parameters, "results"));
		fail(c->verb->options & OPT(FOR)
			     ? "not there within the time"
			     : "not done within the time; it goes on in the daemon");
		return CODE_TIMEOUT;
	}
	for (size_t i = 0; i < ARRAY_LEN(sayings); i++)
		if (strcmp(reply->error, sayings[i].error) == 0)
			return sayings[i].say(reply->parameters);
	fail("%s: %s", method, reply->error);
	return CODE_FAILED;
}

/* --- results --- */

/* A failure of any target counts more than a target that is not there. */
static int code_of(const char *code)
{
	if (strcmp(code, "Timeout") == 0)
		return CODE_TIMEOUT;
	if (strcmp(code, "NoSuchTarget") == 0)
		return CODE_NO_TARGET;
	if (strcmp(code, "NotPermitted") == 0)
		return CODE_NOT_PERMITTED;
	return CODE_FAILED;
}

static int worse(int a, int b)
{
	static const int order[] = { CODE_OK, CODE_NO_TARGET, CODE_NOT_PERMITTED, CODE_TIMEOUT,
				     CODE_FAILED };
	size_t ia = 0, ib = 0;

	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		ia = order[i] == a ? i : ia;
		ib = order[i] == b ? i : ib;
	}
	return ia > ib ? a : b;
}

int code_of_results(const json_t *results)
{
	int code = CODE_OK;

	for (size_t i = 0; i < json_array_size(results); i++) {
		const json_t *r = json_array_get(results, i);

		if (!get_bool(r, "ok"))
			code = worse(code, code_of(get_text(r, "code", "Failed")));
	}
	return code;
}

static void say_result(struct ctl *c, const json_t *r)
{
	bool ok = get_bool(r, "ok");

	out_safe(c, get_text(r, "target", "?"));
	str_add(&c->out, ": ");
	out_color(c, ok ? GOOD : BAD, ok ? "ok" : "failed");
	if (!ok) {
		str_add(&c->out, ": ");
		out_safe(c, get_text(r, "error", "unknown"));
	}
	str_add(&c->out, "\n");
}

int say_results(struct ctl *c, const json_t *results)
{
	for (size_t i = 0; i < json_array_size(results) && !c->set.json; i++)
		say_result(c, json_array_get(results, i));
	if (c->set.json)
		out_json(c, results);
	return code_of_results(results);
}
