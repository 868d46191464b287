/* The service test.Bench, its server and its clients. */
#include "varlink_rig.h"

#include "base/fd.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* --- the service under test --- */

struct echo_args {
	const char *text;
	int64_t times;
};

static const struct vl_param echo_params[] = {
	{ "text", VL_STRING, offsetof(struct echo_args, text), .required = true, .max = 1 << 20 },
	{ "times", VL_INT, offsetof(struct echo_args, times), .preset = 1, .max = 100000000 },
	{ .name = NULL },
};

static void echo(struct vl_call *c, const void *args)
{
	const struct echo_args *a = args;
	auto_str text = { 0 };

	vl_write_open(&text, NULL, '{');
	for (int64_t i = 0; i < a->times; i++)
		vl_write_text(&text, i == 0 ? "text" : "again", a->text);
	vl_write_close(&text, '}');
	vl_reply_text(c, &text);
}

static void on_cancel(struct vl_call *c, void *data)
{
	struct bench *b = data;

	cr_assert_eq(b->kept, c);
	b->kept = NULL;
	b->cancelled++;
}

static void keep(struct vl_call *c, const void *args)
{
	struct bench *b = vl_call_data(c);

	b->kept = c;
	vl_call_keep(c, on_cancel, b);
}

static void ignore_cancel(struct vl_call *c, void *data)
{
	((struct bench *)data)->cancelled++;
}

static void hold(struct vl_call *c, const void *args)
{
	vl_call_keep(c, ignore_cancel, vl_call_data(c));
}

static void stream_more(struct vl_call *c, void *data)
{
	struct bench *b = data;
	char kib[1025];

	memset(kib, 'x', 1024);
	kib[1024] = '\0';
	while (vl_call_has_room(c)) {
		vl_reply_more(c, json_pack("{s:i, s:s}", "n", b->streamed++, "fill", kib));
		if (b->streamed == 3000) {
			vl_reply(c, json_pack("{s:i}", "n", b->streamed));
			return;
		}
	}
	vl_call_when_room(c, stream_more, b);
}

static void stream(struct vl_call *c, const void *args)
{
	vl_call_keep(c, ignore_cancel, vl_call_data(c));
	stream_more(c, vl_call_data(c));
}

static void give(struct vl_call *c, const void *args)
{
	struct bench *b = vl_call_data(c);
	int fd = vl_call_give_fd(c);

	b->given++;
	cr_assert_eq(fd_write_all(fd, "given", 6), 0);
	close(fd);
}

static void secret(struct vl_call *c, const void *args)
{
	vl_reply_empty(c);
}

static const struct vl_method methods[] = {
	{ "Echo", .params = echo_params, .args_size = sizeof(struct echo_args), .handle = echo },
	{ "Hold", .handle = hold },
	{ "Keep", .handle = keep },
	{ "Stream", .flags = VL_STREAM, .handle = stream },
	{ "Give", .flags = VL_STREAM | VL_GIVES, .handle = give },
	{ "Secret", .right = 1, .handle = secret },
};

static const struct vl_interface interface = {
	.name = "test.Bench",
	.description = "interface test.Bench\n",
	.methods = methods,
	.n_methods = ARRAY_LEN(methods),
};

static bool authorise(struct vl_call *c, const struct vl_method *m)
{
	struct bench *b = vl_call_data(c);

	cr_assert(b->any_uid || vl_call_peer(c)->uid == geteuid());
	if (m->right == 0)
		return true;
	b->refused++;
	vl_error(c, "test.Bench.NotPermitted", json_pack("{s:s}", "method", m->name));
	return false;
}
struct bench rig;

void rig_begin(const struct vl_server_options *caps)
{
	struct vl_server_options o = *caps;
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	o.interface = &interface;
	o.vendor = "v";
	o.product = "p";
	o.version = "1";
	o.url = "u";
	o.authorise = authorise;
	o.data = &rig;
	rig.loop = o.loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOSIGMASK);
	cr_assert_eq(vl_server_new(&o, &rig.server), 0);
	snprintf(rig.path, sizeof(rig.path), "/tmp/reeve-unit-%d.sock", getpid());
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", rig.path);
	unlink(rig.path);
	rig.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(rig.listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(rig.listen_fd, 100), 0);
	vl_server_listen(rig.server, rig.listen_fd);
}

void rig_end(void)
{
	vl_server_free(rig.server);
	ev_loop_destroy(rig.loop);
	close(rig.listen_fd);
	unlink(rig.path);
}

/* --- clients --- */

int client(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", rig.path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	fd_set_nonblock(fd, true);
	return fd;
}

void say(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text) + 1, MSG_NOSIGNAL), (ssize_t)strlen(text) + 1);
}

void turn_once(void)
{
	ev_run(rig.loop, EVRUN_NOWAIT);
}

const char *hear(int fd)
{
	static char text[1 << 16];
	size_t at = 0;

	for (int turns = 0; turns < 1000000; turns++) {
		ssize_t n = recv(fd, text + at, 1, 0);

		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return "";
		if (n < 0)
			turn_once();
		else if (text[at++] == '\0')
			return text;
		cr_assert_lt(at, sizeof(text));
	}
	cr_assert_fail("nothing came but %zu bytes", at);
	return NULL;
}

void expect(int fd, const char *text)
{
	const char *got = hear(fd);

	cr_expect_str_eq(got, text, "got %s\nnot %s", got, text);
}
