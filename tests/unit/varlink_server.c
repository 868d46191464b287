/*
 * The Varlink server against real sockets, its loop and its clients in one thread: the test drives
 * the loop until what it waits for is there. CT05, CT08, CT12, CT15, SE05 and the bad streams.
 */
#include "lib/varlink_server.h"

#include "base/fd.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* --- the service under test --- */

struct bench {
	struct ev_loop *loop;
	struct vl_server *server;
	struct vl_call *kept;
	int cancelled, refused, streamed, given;
	int listen_fd;
	char path[108];
};

struct echo_args {
	const char *text;
	int64_t times;
};

static const struct vl_param echo_params[] = {
	{"text",		     VL_STRING, offsetof(struct echo_args, text), .required = true, .max = 1 << 20 },
	{ "times", VL_INT, offsetof(struct echo_args, times), .preset = 1, .max = 100000000 },
	{ .name = NULL	       },
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

static void ignore_cancel(struct vl_call *c, void *data)
{
	((struct bench *)data)->cancelled++;
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
	{"Echo",	  .params = echo_params,	 .args_size = sizeof(struct echo_args), .handle = echo },
	{ "Keep",	  .handle = keep				 },
	{ "Stream", .flags = VL_STREAM,		.handle = stream						 },
	{ "Give",	  .flags = VL_STREAM | VL_GIVES, .handle = give			},
	{ "Secret", .right = 1,			.handle = secret			 },
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

	cr_assert_eq(vl_call_peer(c)->uid, geteuid());
	if (m->right == 0)
		return true;
	b->refused++;
	vl_error(c, "test.Bench.NotPermitted", json_pack("{s:s}", "method", m->name));
	return false;
}

static struct bench b;

static void setup_caps(unsigned clients_max)
{
	struct vl_server_options o = {
		.interface = &interface,
		.vendor = "v",
		.product = "p",
		.version = "1",
		.url = "u",
		.authorise = authorise,
		.data = &b,
		.clients_max = clients_max,
	};
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	b.loop = o.loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOSIGMASK);
	cr_assert_eq(vl_server_new(&o, &b.server), 0);
	snprintf(b.path, sizeof(b.path), "/tmp/reeve-unit-%d.sock", getpid());
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", b.path);
	unlink(b.path);
	b.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(b.listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(b.listen_fd, 100), 0);
	vl_server_listen(b.server, b.listen_fd);
}

static void setup(void)
{
	setup_caps(0);
}

static void teardown(void)
{
	vl_server_free(b.server);
	ev_loop_destroy(b.loop);
	close(b.listen_fd);
	unlink(b.path);
}

TestSuite(varlink_server, .init = setup, .fini = teardown, .timeout = 60);

/* --- clients --- */

static int client(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", b.path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	fd_set_nonblock(fd, true);
	return fd;
}

static void say(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text) + 1, MSG_NOSIGNAL), (ssize_t)strlen(text) + 1);
}

static void turn_once(void)
{
	ev_run(b.loop, EVRUN_NOWAIT);
}

/* Drive the loop until the client has a whole message or its end (""). */
static const char *hear(int fd)
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

static void expect(int fd, const char *text)
{
	const char *got = hear(fd);

	cr_expect_str_eq(got, text, "got %s\nnot %s", got, text);
}

#define ECHO(text)   "{\"method\":\"test.Bench.Echo\",\"parameters\":{\"text\":\"" text "\"}}"
#define ANSWER(text) "{\"parameters\":{\"text\":\"" text "\"}}"
#define CALL(name)   "{\"method\":\"test.Bench." name "\"}"
#define FAULT(name, key, value)                                                                    \
	"{\"error\":\"org.varlink.service." name "\",\"parameters\":{\"" key "\":\"" value "\"}}"

Test(varlink_server, answers_in_order)
{
	int fd = client();

	say(fd, ECHO("one"));
	expect(fd, ANSWER("one"));
	say(fd, ECHO("two"));
	say(fd, ECHO("three"));
	say(fd, CALL("Keep"));
	say(fd, ECHO("after"));
	expect(fd, ANSWER("two"));
	expect(fd, ANSWER("three"));
	while (!b.kept)
		turn_once();
	cr_expect_eq(vl_server_calls(b.server), 1);
	vl_reply_empty(b.kept);
	expect(fd, "{\"parameters\":{}}");
	expect(fd, ANSWER("after"));
	cr_expect_eq(vl_server_calls(b.server), 0);
	close(fd);
	while (vl_server_clients(b.server) > 0)
		turn_once();
}

Test(varlink_server, errors_of_the_standard)
{
	int fd = client();

	say(fd, "{\"method\":\"test.Bench.Nothing\"}");
	expect(fd, FAULT("MethodNotFound", "method", "test.Bench.Nothing"));
	say(fd, "{\"method\":\"test.Other.Echo\"}");
	expect(fd, FAULT("InterfaceNotFound", "interface", "test.Other"));
	say(fd, "{\"method\":\"__class__.__init__.x\"}"); /* SE05 */
	expect(fd, FAULT("InterfaceNotFound", "interface", "__class__.__init__"));
	say(fd, "{\"method\":\"nodot\"}");
	expect(fd, FAULT("MethodNotFound", "method", "nodot"));
	say(fd, CALL("Echo"));
	expect(fd, FAULT("InvalidParameter", "parameter", "text"));
	say(fd, CALL("Stream"));
	expect(fd, "{\"error\":\"org.varlink.service.ExpectedMore\",\"parameters\":{}}");
	say(fd, "{\"method\":\"test.Bench.Keep\",\"upgrade\":true}");
	expect(fd, FAULT("MethodNotImplemented", "method", "test.Bench.Keep"));
	say(fd, CALL("Secret"));
	expect(fd,
	       "{\"error\":\"test.Bench.NotPermitted\",\"parameters\":{\"method\":\"Secret\"}}");
	cr_expect_eq(b.refused, 1);
	close(fd);
}

Test(varlink_server, introspection)
{
	int fd = client();

	say(fd, "{\"method\":\"org.varlink.service.GetInfo\",\"parameters\":{}}");
	expect(fd, "{\"parameters\":{\"vendor\":\"v\",\"product\":\"p\",\"version\":\"1\",\"url\":"
		   "\"u\",\"interfaces\":[\"org.varlink.service\",\"test.Bench\"]}}");
	say(fd, "{\"method\":\"org.varlink.service.GetInterfaceDescription\","
		"\"parameters\":{\"interface\":\"test.Bench\"}}");
	expect(fd, "{\"parameters\":{\"description\":\"interface test.Bench\\n\"}}");
	say(fd, "{\"method\":\"org.varlink.service.GetInterfaceDescription\","
		"\"parameters\":{\"interface\":\"x\"}}");
	expect(fd, FAULT("InterfaceNotFound", "interface", "x"));
	close(fd);
}

Test(varlink_server, no_json_closes_the_connection)
{
	int fd = client();

	say(fd, "GET / HTTP/1.1\r\n\r\n");
	expect(fd, FAULT("InvalidParameter", "parameter", "message is no JSON object"));
	expect(fd, "");
	close(fd);
	cr_expect_eq(vl_server_clients(b.server), 0);
}

Test(varlink_server, too_long_closes_the_connection)
{
	int fd = client();
	char *text = malloc(1 << 16);

	memset(text, ' ', 1 << 16);
	for (size_t sent = 0; sent <= VL_REQUEST_MAX + 1;) {
		ssize_t n = send(fd, text, 1 << 16, MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		else if (errno != EAGAIN)
			break;
		turn_once();
	}
	expect(fd, FAULT("InvalidParameter", "parameter", "message too long"));
	expect(fd, "");
	free(text);
	close(fd);
}

Test(varlink_server, bytes_one_by_one_and_half_close)
{
	const char *text = ECHO("slow");
	int fd = client();

	for (size_t i = 0; i <= strlen(text); i++) {
		cr_assert_eq(send(fd, text + i, 1, 0), 1);
		turn_once();
	}
	say(fd, CALL("Keep"));
	shutdown(fd, SHUT_WR);
	expect(fd, ANSWER("slow"));
	while (!b.kept)
		turn_once();
	for (int i = 0; i < 20; i++)
		turn_once();
	cr_assert_not_null(b.kept, "a half-closed client still waits");
	vl_reply_empty(b.kept);
	expect(fd, "{\"parameters\":{}}");
	expect(fd, "");
	close(fd);
}

/* CT15: also a client that closed its sending side first is seen to leave. */
Test(varlink_server, leaving_cancels)
{
	for (int half = 0; half < 2; half++) {
		int fd = client();

		b.kept = NULL;
		say(fd, CALL("Keep"));
		while (!b.kept)
			turn_once();
		if (half) {
			shutdown(fd, SHUT_WR);
			for (int i = 0; i < 10; i++)
				turn_once();
			cr_expect_eq(b.cancelled, half);
		}
		close(fd);
		while (vl_server_clients(b.server) > 0)
			turn_once();
		cr_expect_eq(b.cancelled, half + 1);
		cr_expect_eq(vl_server_calls(b.server), 0);
	}
}

/* What was sent is done, though nobody waits for the answers. */
Test(varlink_server, calls_of_a_client_that_left_are_served)
{
	int fd = client();

	say(fd, CALL("Keep"));
	say(fd, ECHO("x"));
	say(fd, CALL("Secret"));
	close(fd);
	while (b.refused == 0)
		turn_once();
	cr_expect_eq(b.cancelled, 1);
	while (vl_server_clients(b.server) > 0)
		turn_once();
}

Test(varlink_server, oneway_is_not_answered)
{
	int fd = client();

	say(fd, "{\"method\":\"test.Bench.Keep\",\"oneway\":true}");
	say(fd, "{\"method\":\"test.Bench.Nothing\",\"oneway\":true}");
	say(fd, ECHO("next"));
	expect(fd, ANSWER("next"));
	cr_expect_eq(b.cancelled, 1);
	close(fd);
}

Test(varlink_server, stream_waits_for_its_reader)
{
	int fd = client(), other = client(), n = 0, settled = -1;

	say(fd, "{\"method\":\"test.Bench.Stream\",\"more\":true}");
	while (settled != b.streamed) {
		settled = b.streamed;
		for (int i = 0; i < 20; i++)
			turn_once();
	}
	cr_expect_lt(b.streamed, 3000, "nobody reads: the stream pauses");
	say(other, ECHO("other"));
	expect(other, ANSWER("other"));
	while (n < 3000) {
		const char *text = hear(fd);
		json_t *root = json_loads(text, 0, NULL);

		cr_assert_not_null(root);
		cr_assert_eq(json_integer_value(
				     json_object_get(json_object_get(root, "parameters"), "n")),
			     n++);
		json_decref(root);
	}
	expect(fd, "{\"parameters\":{\"n\":3000}}");
	close(fd);
	close(other);
}

/* CT05: an answer beyond the bound costs the connection. */
Test(varlink_server, giant_answer_drops_the_client)
{
	int fd = client();

	say(fd, "{\"method\":\"test.Bench.Echo\",\"parameters\":{\"text\":\"0123456789\",\"times\":"
		"500000}}");
	while (vl_server_clients(b.server) == 0)
		turn_once();
	while (vl_server_clients(b.server) > 0)
		turn_once();
	close(fd);
}

/* D: many pipelined requests, no reads; the flood stands still, others are served. */
Test(varlink_server, flood_without_reading)
{
	int fd = client(), other = client();
	size_t sent = 0, len = strlen(ECHO("flood")) + 1;

	for (int idle = 0; idle < 200;) {
		ssize_t n = send(fd, ECHO("flood") + sent % len, len - sent % len, MSG_NOSIGNAL);

		idle = n > 0 ? 0 : idle + 1;
		sent += n > 0 ? (size_t)n : 0;
		turn_once();
	}
	cr_expect_lt(sent, 8u << 20, "taken in: %zu", sent);
	say(other, ECHO("other"));
	expect(other, ANSWER("other"));
	for (size_t i = 0; i < sent / len; i++)
		cr_assert_str_eq(hear(fd), ANSWER("flood"));
	close(fd);
	close(other);
}

Test(varlink_server, given_away)
{
	int fd = client();

	say(fd, ECHO("first"));
	say(fd, "{\"method\":\"test.Bench.Give\",\"more\":true}");
	expect(fd, ANSWER("first"));
	expect(fd, "given");
	expect(fd, "");
	cr_expect_eq(b.given, 1);
	cr_expect_eq(vl_server_clients(b.server), 0);
	close(fd);
}

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* fds that a client attaches are not installed, the message counts. */
Test(varlink_server, attached_fds_are_dropped)
{
	int fd = client(), fds[16], before;

	say(fd, ECHO("a"));
	expect(fd, ANSWER("a"));
	before = count_fds();
	for (int i = 0; i < 16; i++)
		fds[i] = i < 8 ? fd : b.listen_fd;
	cr_assert_eq(fd_send(fd, ECHO("with fds"), strlen(ECHO("with fds")) + 1, fds, 16), 0);
	expect(fd, ANSWER("with fds"));
	cr_expect_eq(count_fds(), before);
	close(fd);
}

/* CT12, SP09: without fds one client at a time is served and nothing spins. */
Test(varlink_server, out_of_fds)
{
	struct rlimit old, low;
	int fd[3], filler[300], n = 0;

	for (int i = 0; i < 3; i++)
		fd[i] = client();
	getrlimit(RLIMIT_NOFILE, &old);
	low = (struct rlimit){ 256, old.rlim_max };
	setrlimit(RLIMIT_NOFILE, &low);
	while (n < 256 && (filler[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		n++;
	for (int i = 0; i < 3; i++) {
		say(fd[i], ECHO("starved"));
		expect(fd[i], ANSWER("starved"));
		cr_expect_eq(vl_server_clients(b.server), 1);
		close(fd[i]);
		filler[n++] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		while (vl_server_clients(b.server) > 0)
			turn_once();
	}
	while (n > 0)
		close(filler[--n]);
	setrlimit(RLIMIT_NOFILE, &old);
	fd[0] = client();
	fd[1] = client();
	say(fd[1], ECHO("fine"));
	expect(fd[1], ANSWER("fine"));
	cr_expect_eq(vl_server_clients(b.server), 2);
}

static void setup_small(void)
{
	setup_caps(3);
}

TestSuite(varlink_caps, .init = setup_small, .fini = teardown, .timeout = 60);

/* The longest idle client goes when there is no place left; one with a call in progress stays. */
Test(varlink_caps, longest_idle_goes)
{
	int fd[4];

	for (int i = 0; i < 3; i++) {
		fd[i] = client();
		say(fd[i], i == 0 ? CALL("Keep") : ECHO("x"));
		if (i > 0)
			expect(fd[i], ANSWER("x"));
		else
			while (!b.kept)
				turn_once();
	}
	fd[3] = client();
	say(fd[3], ECHO("y"));
	/* blocks in the loop until a client counts as idle and accepting resumes */
	while (vl_server_clients(b.server) == 3 && recv(fd[1], &(char){ 0 }, 1, MSG_PEEK) < 0)
		ev_run(b.loop, EVRUN_ONCE);
	expect(fd[1], "");
	expect(fd[3], ANSWER("y"));
	cr_expect_eq(b.cancelled, 0);
	vl_reply_empty(b.kept);
	expect(fd[0], "{\"parameters\":{}}");
}
