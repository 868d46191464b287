/*
 * Varlink bytes from outside: as one message to the codec, and as a stream to a server of its own
 * over a socket pair. Checked: every answer of the server is a valid reply, no more answers than
 * requests, the connection's end is seen, and what the writer makes of the bytes is valid JSON.
 */
#include "lib/varlink_scan.h"
#include "lib/varlink_server.h"

#include "base/mem.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(what)                                                                                 \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);         \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct args {
	const char *text;
	const json_t *targets;
	int64_t n;
	int word;
	bool wait;
};

static const char *const words[] = { "main", "pgrp", "tree", NULL };
static const struct vl_param table[] = {
	{ "text", VL_STRING, offsetof(struct args, text), .max = 100 },
	{ "targets", VL_STRINGS, offsetof(struct args, targets) },
	{ "n", VL_INT, offsetof(struct args, n), .preset = -1, .min = 0, .max = 1000 },
	{ "to", VL_WORD, offsetof(struct args, word), .words = words },
	{ "wait", VL_BOOL, offsetof(struct args, wait), .preset = 1 },
	{ .name = NULL },
};

static void check_args(const struct args *a)
{
	MUST(!a->text || strlen(a->text) <= 100);
	MUST(a->n >= -1 && a->n <= 1000);
	MUST(a->word >= 0 && a->word < 3);
	for (size_t i = 0; i < json_array_size(a->targets); i++)
		MUST(json_is_string(json_array_get(a->targets, i)));
}

/* --- the service --- */

static void echo(struct vl_call *c, const void *args)
{
	const struct args *a = args;

	check_args(a);
	vl_reply(c, json_pack("{s:s?, s:I}", "text", a->text, "n", (json_int_t)a->n));
}

static void forget(struct vl_call *c, void *data)
{
	*(struct vl_call **)data = NULL;
}

static void keep(struct vl_call *c, const void *args)
{
	struct vl_call **kept = vl_call_data(c);

	check_args(args);
	if (vl_call_more(c))
		vl_reply_more(c, json_object());
	if (*kept) {
		vl_error(c, "test.Fuzz.Busy", json_object());
		return;
	}
	*kept = c;
	vl_call_keep(c, forget, kept);
}

static const struct vl_method methods[] = {
	{ "Echo", .params = table, .args_size = sizeof(struct args), .handle = echo },
	{ "Keep", .params = table, .args_size = sizeof(struct args), .handle = keep },
};
static const struct vl_interface interface = { "test.Fuzz", "interface test.Fuzz\n", methods,
					       ARRAY_LEN(methods) };

/* --- a client that sends the bytes and reads all answers --- */

struct client {
	int fd;
	size_t sent;
	struct str in;
	bool ended;
};

static void client_turn(struct client *cl, const uint8_t *data, size_t size)
{
	char buf[4096];
	ssize_t n = 0;

	if (cl->sent < size) {
		n = send(cl->fd, data + cl->sent, size - cl->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0)
			cl->sent += (size_t)n;
		else if (errno != EAGAIN)
			cl->sent = size;
		if (cl->sent == size)
			shutdown(cl->fd, SHUT_WR);
	} else if (size == 0) {
		shutdown(cl->fd, SHUT_WR);
	}
	do {
		n = recv(cl->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n > 0)
			str_add_bytes(&cl->in, buf, (size_t)n);
	} while (n > 0);
	cl->ended = n == 0 || (n < 0 && errno != EAGAIN);
}

static void check_answers(const struct client *cl, const uint8_t *data, size_t size)
{
	size_t answers = 0,
	       requests = 1; /* a message that is too long is answered without its NUL */
	struct vl_reply r;

	for (size_t i = 0; i < size; i++)
		requests += data[i] == 0;
	for (size_t at = 0; at < cl->in.len;) {
		size_t len = strlen(cl->in.data + at);

		MUST(at + len < cl->in.len); /* whole messages only */
		MUST(vl_reply_parse(cl->in.data + at, len, &r) == 0);
		answers += !r.continues;
		vl_reply_fini(&r);
		at += len + 1;
	}
	MUST(answers <= requests);
}

static void try_server(const uint8_t *data, size_t size)
{
	struct vl_call *kept = NULL;
	struct vl_server_options o = {
		.loop = ev_loop_new(EVFLAG_NOENV),
		.interface = &interface,
		.vendor = "v",
		.product = "p",
		.version = "1",
		.url = "",
		.data = &kept,
	};
	struct vl_server *server;
	struct client cl = { 0 };
	int pair[2];

	MUST(o.loop && vl_server_new(&o, &server) == 0);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	MUST(vl_server_adopt(server, pair[0]) == 0);
	cl.fd = pair[1];
	for (int turns = 0; turns < 1000000 && !cl.ended; turns++) {
		client_turn(&cl, data, size);
		if (kept && turns % 3 == 2)
			vl_reply_empty(kept), kept = NULL;
		ev_run(o.loop, EVRUN_NOWAIT);
	}
	MUST(cl.ended);
	check_answers(&cl, data, size);
	MUST(vl_server_clients(server) == 0 && vl_server_calls(server) == 0);
	vl_server_free(server);
	ev_loop_destroy(o.loop);
	close(cl.fd);
	str_fini(&cl.in);
}

/* --- the codec and the scanner --- */

static void try_codec(const char *text, size_t len)
{
	struct vl_request r;
	struct vl_fault fault;
	struct vl_reply reply;
	auto_str out = { 0 };
	struct args a;

	if (vl_request_parse(text, len, &r, &fault) == 0) {
		if (vl_params_read(r.parameters, table, &a, &fault) == 0)
			check_args(&a);
		MUST(vl_put_request(&out, r.method, r.parameters, r.more ? VL_MORE : 0) == 0);
		vl_request_fini(&r);
		MUST(vl_request_parse(out.data, out.len - 1, &r, &fault) == 0);
		vl_request_fini(&r);
	} else {
		MUST(vl_put_fault(&out, &fault) == 0);
		MUST(vl_reply_parse(out.data, out.len - 1, &reply) == 0 && reply.error);
		vl_reply_fini(&reply);
	}
	if (vl_reply_parse(text, len, &reply) == 0)
		vl_reply_fini(&reply);
}

static void try_writer(const char *text, size_t len)
{
	auto_str out = { 0 };
	json_t *root;

	vl_write_open(&out, NULL, '{');
	vl_write_bytes(&out, "bytes", text, len);
	vl_write_close(&out, '}');
	root = json_loadb(out.data, out.len, 0, NULL);
	MUST(root && json_is_string(json_object_get(root, "bytes")));
	json_decref(root);
	root = vl_text(text, len);
	MUST(root);
	json_decref(root);
}

/* Where the parser sees an object, the scanner finds as many members; anywhere it ends. */
static void try_scanner(const char *text, size_t len)
{
	struct vl_slice key, value, whole = { text, len };
	struct vl_scan s;
	auto_str out = { 0 };
	size_t n = 0;
	json_t *root;

	if (vl_scan_open(&s, whole, '{'))
		while (vl_scan_member(&s, &key, &value)) {
			MUST(value.text >= text && value.text + value.len <= text + len);
			vl_slice_text(value, &out);
			vl_slice_int(value, 0);
			vl_slice_real(value, 0);
			n++;
		}
	if (vl_parse(text, len, VL_REQUEST_MAX, &root) == 0) {
		MUST(n == json_object_size(root));
		json_decref(root);
	}
	if (vl_scan_open(&s, whole, '['))
		while (vl_scan_element(&s, &value))
			MUST(value.text + value.len <= text + len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;

	if (size > VL_REQUEST_MAX * 2)
		return 0;
	try_codec(text, size);
	try_writer(text, size);
	try_scanner(text, size);
	try_server(data, size);
	return 0;
}
