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

int need_groups(const struct ctl *c, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!strpbrk(c->args[i], ":*?[/"))
			continue;
		fail("`%s` takes groups, and %s names workers", c->verb->name, c->args[i]);
		return CODE_USAGE;
	}
	return CODE_OK;
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

/* Who gets the replies: a tree of objects, or the text of the parameters. */
struct sink {
	const char *method;
	reply_fn *on_reply;
	text_fn *on_text;
	void *data;
};

/* One reply as text; *last is set with the final one. */
static int deliver(struct ctl *c, const struct sink *to, const char *text, size_t len, bool *last)
{
	static const char *const keys[] = { "parameters", "continues", "error", NULL };
	struct vl_slice f[3];
	struct vl_reply reply;
	int code;

	if (to->on_text && vl_scan_fields((struct vl_slice){ text, len }, keys, f) && !f[2].text) {
		*last = !vl_slice_is(f[1], "true");
		return to->on_text(c, f[0], *last, to->data);
	}
	*last = true;
	if (vl_reply_parse(text, len, &reply) < 0)
		return say_receive(c, -EBADMSG);
	*last = !reply.continues || reply.error;
	if (reply.error)
		code = say_error(c, to->method, &reply);
	else
		code = to->on_reply ? to->on_reply(c, reply.parameters, *last, to->data)
				    : say_receive(c, -EBADMSG);
	vl_reply_fini(&reply);
	return code;
}

/* All replies of one connection. -ECONNRESET: to be sent again; else *ret_code is final. */
static int receive_all(struct ctl *c, const struct sink *to, int64_t *give_up, int *ret_code)
{
	int64_t deadline = answer_deadline(c);
	const char *text;
	bool last = false;
	size_t len;
	int err;

	*ret_code = CODE_OK;
	while (!last && *ret_code == CODE_OK) {
		err = vl_client_receive_text(&c->client, deadline, &text, &len);
		if (broken(err))
			return -ECONNRESET;
		*give_up = 0; /* somebody answers */
		*ret_code = err < 0 ? say_receive(c, err) : deliver(c, to, text, len, &last);
	}
	return 0;
}

/* What came so far is void: it comes once more. */
static int start_over(struct ctl *c, const struct sink *to)
{
	if (to->on_text)
		return to->on_text(c, (struct vl_slice){ NULL, 0 }, false, to->data);
	return to->on_reply(c, NULL, false, to->data);
}

/* Once: send, receive. 0 = *ret_code is final. */
static int exchange(struct ctl *c, const struct sink *to, unsigned flags, int64_t *give_up,
		    int *ret_code)
{
	char full[64];
	int err;

	snprintf(full, sizeof(full), CONTROL "%s", to->method);
	err = vl_client_send(&c->client, full, c->sent, flags, answer_deadline(c));
	if (err == 0)
		err = receive_all(c, to, give_up, ret_code);
	if (err < 0 && !broken(err)) {
		*ret_code = say_receive(c, err);
		err = 0;
	}
	return err;
}

static int stream(struct ctl *c, json_t *parameters, unsigned flags, const struct sink *to)
{
	int code = ctl_connect(c);
	int64_t give_up = 0; /* when nobody will have answered for long enough */

	c->sent = parameters;
	while (code == CODE_OK && exchange(c, to, flags, &give_up, &code) < 0) {
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
			code = start_over(c, to);
	}
	json_decref(parameters);
	c->sent = NULL;
	return code;
}

int ctl_stream(struct ctl *c, const char *method, json_t *parameters, reply_fn *on_reply,
	       void *data)
{
	return stream(c, parameters, VL_MORE, &(struct sink){ method, on_reply, NULL, data });
}

int ctl_stream_text(struct ctl *c, const char *method, json_t *parameters, text_fn *on_text,
		    void *data)
{
	return stream(c, parameters, VL_MORE, &(struct sink){ method, NULL, on_text, data });
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
	int code = stream(c, parameters, 0, &(struct sink){ method, keep_reply, NULL, &reply });

	if (code != CODE_OK) {
		json_decref(reply);
		return code;
	}
	*ret = reply;
	return CODE_OK;
}
