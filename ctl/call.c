/*
 * One call and its answer, over the death of a manager: a connection that breaks before the answer
 * is made anew and the call is sent again, with the same operation id, for RETRY_MS. A daemon that
 * is really gone is told apart by that time.
 */
#include "ctl.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define INTERFACE "org.reeve.Control."
#define RETRY_MS  10000
#define PAUSE_MS  50
#define GRACE_MS  3000	/* the daemon's own Timeout error comes first */
#define ANSWER_MS 60000 /* of calls that do not wait for anything */

/* --- parameters --- */

json_t *with_targets(const struct ctl *c, json_t *parameters)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->n_args; i++)
		json_array_append_new(list, vl_text(c->args[i], strlen(c->args[i])));
	json_object_set_new(parameters, "targets", list);
	return parameters;
}

static void set_operation(json_t *parameters)
{
	unsigned char id[16];
	char text[33];

	if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
		return; /* without an id a resent call may act twice; better than no call */
	for (size_t i = 0; i < sizeof(id); i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
	json_object_set_new(parameters, "op", json_string(text));
}

json_t *with_waiting(const struct ctl *c, json_t *parameters)
{
	set_operation(parameters);
	if (!(c->verb->options & OPT(NO_WAIT)))
		return parameters;
	if (c->set.no_wait)
		json_object_set_new(parameters, "wait", json_false());
	else if (c->deadline_ms != VL_NO_DEADLINE)
		json_object_set_new(parameters, "timeout_ms", json_integer(c->set.timeout_ms));
	return parameters;
}

/* --- errors --- */

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
	fail("the daemon does not take this %s", get_text(p, "parameter", "call"));
	return CODE_USAGE;
}

static const struct {
	const char *error;
	int (*say)(const json_t *parameters);
} sayings[] = {
	{INTERFACE "NoSuchTarget",	    say_no_target	  },
	{ INTERFACE "NotPermitted",	    say_not_permitted },
	{ INTERFACE "InvalidConfig",	     say_invalid_config},
	{ INTERFACE "ShuttingDown",	    say_shutting_down },
	{ INTERFACE "Failed",	      say_failed	 },
	{ VL_ERROR_METHOD_NOT_FOUND,	     say_unknown_method},
	{ VL_ERROR_METHOD_NOT_IMPLEMENTED, say_unknown_method},
	{ VL_ERROR_INTERFACE_NOT_FOUND,	say_unknown_method},
	{ VL_ERROR_INVALID_PARAMETER,      say_bad_parameter },
};

int say_error(struct ctl *c, const char *method, const struct vl_reply *reply)
{
	progress_line(c, NULL);
	if (strcmp(reply->error, INTERFACE "Timeout") == 0) {
		say_results(c, json_object_get(reply->parameters, "results"));
		fail("not done within the time; it goes on in the daemon");
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

/* --- calling --- */

static bool broken(int err)
{
	return err == -ECONNRESET || err == -EPIPE || err == -ECONNREFUSED || err == -ENOENT ||
	       err == -EAGAIN;
}

/* The keeper has ended, as cmd_shutdown wants it. */
static bool gone(const struct ctl *c)
{
	struct pollfd p = { c->keeper_fd, POLLIN, 0 };

	return c->keeper_fd >= 0 && poll(&p, 1, 0) > 0;
}

/* Wait a little; true: Ctrl-C. */
static bool pause_interrupted(const struct ctl *c, int ms)
{
	struct pollfd p = { c->client.interrupt_fd, POLLIN, 0 };

	return poll(&p, 1, ms) > 0;
}

/* Connect again after a break; CODE_OK or an exit code. until_ms: when to give up. */
static int reconnect(struct ctl *c, int64_t until_ms)
{
	int err = -ECONNREFUSED;

	while (clock_mono_ms() < until_ms && !gone(c)) {
		err = vl_client_connect(&c->client, c->socket, until_ms);
		if (err == 0)
			return CODE_OK;
		if (!broken(err))
			break;
		if (pause_interrupted(c, PAUSE_MS))
			return say_no_daemon(c, -EINTR);
	}
	return gone(c) ? CODE_OK : say_no_daemon(c, err);
}

/* The operation goes on: say so once. */
static int interrupted(struct ctl *c)
{
	progress_line(c, NULL);
	if (c->verb->options & OPT(NO_WAIT))
		fail("not waiting any longer; it goes on in the daemon, see `reevectl status`");
	return CODE_INTERRUPTED;
}

static int say_receive(struct ctl *c, int err)
{
	progress_line(c, NULL);
	if (err == -EINTR)
		return interrupted(c);
	if (err == -ETIMEDOUT && c->deadline_ms != VL_NO_DEADLINE) {
		fail("no answer within the time");
		return CODE_TIMEOUT;
	}
	if (err == -EBADMSG) {
		fail("%s: what came is no answer of a daemon of ours", c->socket);
		return CODE_FAILED;
	}
	return say_no_daemon(c, err);
}

static int64_t answer_deadline(const struct ctl *c)
{
	bool waits = c->verb->options & (OPT(NO_WAIT) | OPT(FOLLOW) | OPT(FOR));

	if (c->deadline_ms != VL_NO_DEADLINE)
		return c->deadline_ms + (waits ? GRACE_MS : 0);
	return waits ? VL_NO_DEADLINE : clock_mono_ms() + ANSWER_MS;
}

/* All replies of one connection. -ECONNRESET: to be sent again; else *ret_code is final. */
static int receive_all(struct ctl *c, const char *method, reply_fn *on_reply, void *data,
		       int64_t *give_up, int *ret_code)
{
	int64_t deadline = answer_deadline(c);
	struct vl_reply reply;
	int err, code = CODE_OK;
	bool last = false;

	while (!last && code == CODE_OK) {
		err = vl_client_receive(&c->client, deadline, &reply);
		if (broken(err))
			return -ECONNRESET;
		if (err < 0) {
			*ret_code = say_receive(c, err);
			return 0;
		}
		last = !reply.continues;
		*give_up = 0; /* somebody answers */
		if (reply.error)
			code = say_error(c, method, &reply);
		else
			code = on_reply(c, reply.parameters, last, data);
		last = last || reply.error;
		vl_reply_fini(&reply);
	}
	*ret_code = code;
	return 0;
}

static int stream(struct ctl *c, const char *method, json_t *parameters, unsigned flags,
		  reply_fn *on_reply, void *data)
{
	int code = ctl_connect(c), err;
	int64_t give_up = 0; /* when nobody will have answered for long enough */
	char full[64];

	snprintf(full, sizeof(full), INTERFACE "%s", method);
	c->sent = parameters;
	while (code == CODE_OK) {
		err = vl_client_send(&c->client, full, parameters, flags, answer_deadline(c));
		if (err == 0) {
			err = receive_all(c, method, on_reply, data, &give_up, &code);
			if (err == 0)
				break;
		}
		if (!broken(err)) {
			code = say_receive(c, err);
			break;
		}
		if (give_up == 0)
			give_up = clock_mono_ms() + RETRY_MS;
		if (pause_interrupted(c, PAUSE_MS)) {
			code = interrupted(c);
			break;
		}
		code = reconnect(c, give_up);
		if (gone(c))
			break;
		if (code == CODE_OK)
			code = on_reply(c, NULL, false, data);
	}
	json_decref(parameters);
	return code;
}

int ctl_stream(struct ctl *c, const char *method, json_t *parameters, reply_fn *on_reply,
	       void *data)
{
	return stream(c, method, parameters, VL_MORE, on_reply, data);
}

static int keep_reply(struct ctl *c, json_t *parameters, bool last, void *data)
{
	json_t **ret = data;

	if (last)
		*ret = json_incref(parameters);
	return CODE_OK;
}

int ctl_call(struct ctl *c, const char *method, json_t *parameters, json_t **ret)
{
	json_t *reply = NULL;
	int code = stream(c, method, parameters, 0, keep_reply, &reply);

	if (code != CODE_OK) {
		json_decref(reply);
		return code;
	}
	*ret = reply;
	return CODE_OK;
}
