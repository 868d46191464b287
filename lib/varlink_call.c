/*
 * From a message to a handler and from its answer to the output buffer. Invariant: every call gets
 * exactly one end: a final answer, or its cancel callback, never both.
 */
#include "lib/varlink_conn.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>

static bool silent(const struct vl_call *c)
{
	return c->request.oneway || c->conn->gone || c->conn->broken;
}

/* The call is over: forget it before anything else can happen. */
static void end(struct vl_call *c)
{
	if (c->kept)
		c->conn->server->calls--;
	vl_request_fini(&c->request);
	*c = (struct vl_call){ .conn = c->conn };
	vl_conn_kick(c->conn);
}

void vl_call_cancel(struct vl_call *c)
{
	void (*cancel)(struct vl_call *, void *) = c->cancel;

	c->cancel = NULL;
	if (cancel)
		cancel(c, c->cancel_data);
	if (c->kept)
		c->conn->server->calls--;
	vl_request_fini(&c->request);
	*c = (struct vl_call){ .conn = c->conn };
}

/* --- dispatch --- */

static void answer_fault(struct vl_call *c, const struct vl_fault *fault)
{
	if (!silent(c))
		vl_put_fault(&c->conn->out, fault);
	end(c);
}

static void refuse(struct vl_call *c, const char *error, const char *key, const char *value)
{
	struct vl_fault fault;

	vl_fault_set(&fault, error, key, value);
	answer_fault(c, &fault);
}

static const struct vl_interface *find_interface(const struct vl_server *s, const char *name,
						 size_t len)
{
	const struct vl_interface *const all[] = { s->options.interface, &vl_service_interface };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (strlen(all[i]->name) == len && memcmp(all[i]->name, name, len) == 0)
			return all[i];
	return NULL;
}

static const struct vl_method *find_method(const struct vl_interface *i, const char *name)
{
	for (size_t m = 0; m < i->n_methods; m++)
		if (strcmp(i->methods[m].name, name) == 0)
			return &i->methods[m];
	return NULL;
}

static void run_handler(struct vl_call *c, const struct vl_interface *i, const struct vl_method *m)
{
	static const struct vl_param none[] = { { .name = NULL } };
	_Alignas(max_align_t) char args[VL_ARGS_MAX] = { 0 };
	const struct vl_server_options *o = &c->conn->server->options;
	struct vl_fault fault;

	if ((m->flags & VL_STREAM) && !c->request.more) {
		refuse(c, VL_ERROR_EXPECTED_MORE, NULL, NULL);
		return;
	}
	if (vl_params_read(c->request.parameters, m->params ? m->params : none, args, &fault) < 0) {
		answer_fault(c, &fault);
		return;
	}
	if (i != &vl_service_interface && o->authorise && !o->authorise(c, m))
		return;
	m->handle(c, args);
}

static void dispatch(struct vl_call *c)
{
	const char *name = c->request.method, *dot = strrchr(name, '.');
	const struct vl_interface *i;
	const struct vl_method *m;
	char interface[128];

	if (!dot) {
		refuse(c, VL_ERROR_METHOD_NOT_FOUND, "method", name);
		return;
	}
	i = find_interface(c->conn->server, name, (size_t)(dot - name));
	if (!i) {
		snprintf(interface, sizeof(interface), "%.*s",
			 (int)MIN_OF(dot - name, (ptrdiff_t)sizeof(interface) - 1), name);
		refuse(c, VL_ERROR_INTERFACE_NOT_FOUND, "interface", interface);
		return;
	}
	m = find_method(i, dot + 1);
	if (!m)
		refuse(c, VL_ERROR_METHOD_NOT_FOUND, "method", name);
	else if (c->request.upgrade)
		refuse(c, VL_ERROR_METHOD_NOT_IMPLEMENTED, "method", name);
	else
		run_handler(c, i, m);
}

/* The next thing in the buffer may be an answer handed to the logger: let the others go first. */
static bool gives(const struct vl_conn *conn, const char *name)
{
	const char *dot = strrchr(name, '.');
	const struct vl_interface *i = conn->server->options.interface;
	const struct vl_method *m;

	if (!dot || strlen(i->name) != (size_t)(dot - name) ||
	    memcmp(i->name, name, (size_t)(dot - name)) != 0)
		return false;
	m = find_method(i, dot + 1);
	return m && (m->flags & VL_GIVES);
}

int vl_call_message(struct vl_conn *conn, const char *text, size_t len)
{
	struct vl_call *c = &conn->call;
	struct vl_fault fault;
	int err;

	err = vl_request_parse(text, len, &c->request, &fault);
	if (err < 0) {
		if (!conn->gone)
			vl_put_fault(&conn->out, &fault);
		conn->closing = err == -EBADMSG;
		return 0;
	}
	if (vl_conn_pending(conn) > 0 && !conn->gone && gives(conn, c->request.method)) {
		vl_request_fini(&c->request);
		return -EAGAIN;
	}
	dispatch(c);
	if (!c->request.root)
		return 0;
	if (!c->kept) /* a handler that forgot its call: our own bug, the client is told so */
		refuse(c, VL_ERROR_METHOD_NOT_IMPLEMENTED, "method", c->request.method);
	else if (silent(c))
		vl_call_cancel(c);
	return 0;
}

/* --- for handlers --- */

void *vl_call_data(const struct vl_call *c)
{
	return c->conn->server->options.data;
}

const struct vl_peer *vl_call_peer(const struct vl_call *c)
{
	return &c->conn->peer;
}

const char *vl_call_method(const struct vl_call *c)
{
	return c->request.method;
}

bool vl_call_more(const struct vl_call *c)
{
	return c->request.more;
}

void vl_call_keep(struct vl_call *c, void (*cancel)(struct vl_call *, void *), void *data)
{
	if (!c->kept)
		c->conn->server->calls++;
	c->kept = true;
	c->cancel = cancel;
	c->cancel_data = data;
}

bool vl_call_has_room(const struct vl_call *c)
{
	return vl_conn_pending(c->conn) < VL_OUT_LOW;
}

void vl_call_when_room(struct vl_call *c, void (*ready)(struct vl_call *, void *), void *data)
{
	c->ready = ready;
	c->ready_data = data;
	vl_conn_kick(c->conn);
}

/* --- answers --- */

static void put(struct vl_call *c, json_t *parameters, const char *error, bool continues)
{
	struct vl_conn *conn = c->conn;

	if (!parameters)
		conn->broken = true;
	else if (!silent(c) && error)
		vl_put_error(&conn->out, error, parameters);
	else if (!silent(c))
		vl_put_reply(&conn->out, parameters, continues);
	json_decref(parameters);
}

void vl_reply(struct vl_call *c, json_t *parameters)
{
	put(c, parameters, NULL, false);
	end(c);
}

void vl_reply_empty(struct vl_call *c)
{
	vl_reply(c, json_object());
}

void vl_reply_text(struct vl_call *c, const struct str *parameters)
{
	if (!silent(c) && vl_put_reply_text(&c->conn->out, parameters, false) < 0)
		c->conn->broken = true;
	end(c);
}

void vl_error(struct vl_call *c, const char *error, json_t *parameters)
{
	put(c, parameters, error, false);
	end(c);
}

void vl_error_parameter(struct vl_call *c, const char *name)
{
	refuse(c, VL_ERROR_INVALID_PARAMETER, "parameter", name);
}

void vl_reply_more(struct vl_call *c, json_t *parameters)
{
	if (!c->request.more) {
		json_decref(parameters);
		return;
	}
	put(c, parameters, NULL, true);
	vl_conn_kick(c->conn);
}

void vl_reply_more_text(struct vl_call *c, const struct str *parameters)
{
	if (!c->request.more)
		return;
	if (!silent(c) && vl_put_reply_text(&c->conn->out, parameters, true) < 0)
		c->conn->broken = true;
	vl_conn_kick(c->conn);
}

int vl_call_give_fd(struct vl_call *c)
{
	struct vl_conn *conn = c->conn;
	int fd = conn->fd;

	/* Not seen by epoll any more before somebody else has it: the registration lasts as long as
	 * the open description does, not as long as our number for it. */
	vl_server_watch_hup(conn->server, conn, false);
	conn->given = true;
	conn->broken = true;
	end(c);
	return fd;
}
