/* The Varlink server against real sockets. CT05, CT08, CT15, SE05 and the bad streams. */
#include "varlink_rig.h"

#include "base/fd.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void setup(void)
{
	rig_begin(&(struct vl_server_options){ 0 });
}

TestSuite(varlink_server, .init = setup, .fini = rig_end, .timeout = 60);

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
	while (!rig.kept)
		turn_once();
	cr_expect_eq(vl_server_calls(rig.server), 1);
	vl_reply_empty(rig.kept);
	expect(fd, "{\"parameters\":{}}");
	expect(fd, ANSWER("after"));
	cr_expect_eq(vl_server_calls(rig.server), 0);
	close(fd);
	while (vl_server_clients(rig.server) > 0)
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
	cr_expect_eq(rig.refused, 1);
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
	cr_expect_eq(vl_server_clients(rig.server), 0);
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
	while (!rig.kept)
		turn_once();
	for (int i = 0; i < 20; i++)
		turn_once();
	cr_assert_not_null(rig.kept, "a half-closed client still waits");
	vl_reply_empty(rig.kept);
	expect(fd, "{\"parameters\":{}}");
	expect(fd, "");
	close(fd);
}

/* CT15: also a client that closed its sending side first is seen to leave. */
Test(varlink_server, leaving_cancels)
{
	for (int half = 0; half < 2; half++) {
		int fd = client();

		rig.kept = NULL;
		say(fd, CALL("Keep"));
		while (!rig.kept)
			turn_once();
		if (half) {
			shutdown(fd, SHUT_WR);
			for (int i = 0; i < 10; i++)
				turn_once();
			cr_expect_eq(rig.cancelled, half);
		}
		close(fd);
		while (vl_server_clients(rig.server) > 0)
			turn_once();
		cr_expect_eq(rig.cancelled, half + 1);
		cr_expect_eq(vl_server_calls(rig.server), 0);
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
	while (rig.refused == 0)
		turn_once();
	cr_expect_eq(rig.cancelled, 1);
	while (vl_server_clients(rig.server) > 0)
		turn_once();
}

Test(varlink_server, oneway_is_not_answered)
{
	int fd = client();

	say(fd, "{\"method\":\"test.Bench.Keep\",\"oneway\":true}");
	say(fd, "{\"method\":\"test.Bench.Nothing\",\"oneway\":true}");
	say(fd, ECHO("next"));
	expect(fd, ANSWER("next"));
	cr_expect_eq(rig.cancelled, 1);
	close(fd);
}

Test(varlink_server, stream_waits_for_its_reader)
{
	int fd = client(), other = client(), n = 0, settled = -1;

	say(fd, "{\"method\":\"test.Bench.Stream\",\"more\":true}");
	while (settled != rig.streamed) {
		settled = rig.streamed;
		for (int i = 0; i < 20; i++)
			turn_once();
	}
	cr_expect_lt(rig.streamed, 3000, "nobody reads: the stream pauses");
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
	while (vl_server_clients(rig.server) == 0)
		turn_once();
	while (vl_server_clients(rig.server) > 0)
		turn_once();
	close(fd);
}

/* D: many pipelined requests, no reads; the flood stands still, others are served. */
Test(varlink_server, flood_without_reading)
{
	static const char flood[] = ECHO("flood");
	int fd = client(), other = client();
	size_t sent = 0, len = sizeof(flood);

	for (int idle = 0; idle < 200;) {
		ssize_t n = send(fd, &flood[sent % len], len - sent % len, MSG_NOSIGNAL);

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
	cr_expect_eq(rig.given, 1);
	cr_expect_eq(vl_server_clients(rig.server), 0);
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
		fds[i] = i < 8 ? fd : rig.listen_fd;
	cr_assert_eq(fd_send(fd, ECHO("with fds"), strlen(ECHO("with fds")) + 1, fds, 16), 0);
	expect(fd, ANSWER("with fds"));
	cr_expect_eq(count_fds(), before);
	close(fd);
}
