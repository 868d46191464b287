/* The blocking client against a server in a process of its own, and against silence. CT04, CT13. */
#include "lib/varlink_client.h"

#include "base/clock.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[108];
static int listen_fd;
static pid_t server;

static int make_listener(int backlog)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(path, sizeof(path), "/tmp/reeve-unit-client-%d.sock", getpid());
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(fd, backlog), 0);
	return fd;
}

static void setup(void)
{
	listen_fd = make_listener(5);
}

static void teardown(void)
{
	if (server > 0) {
		kill(server, SIGKILL);
		waitpid(server, NULL, 0);
	}
	close(listen_fd);
	unlink(path);
}

TestSuite(varlink_client, .init = setup, .fini = teardown, .timeout = 60);

/* A server that reads one request a connection, says the bytes, and closes. */
static void serve(const char *bytes, size_t len, int connections)
{
	server = fork();
	cr_assert_geq(server, 0);
	if (server > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < connections; i++) {
		int fd = accept(listen_fd, NULL, NULL);
		char c = 1;

		while (c && read(fd, &c, 1) == 1)
			;
		for (size_t at = 0; at < len;) {
			ssize_t n =
				send(fd, bytes + at, MIN_OF(len - at, (size_t)7000), MSG_NOSIGNAL);

			if (n <= 0)
				break;
			at += (size_t)n;
		}
		close(fd);
	}
	_exit(0);
}

static int64_t soon(int ms)
{
	return clock_mono_ms() + ms;
}

Test(varlink_client, call)
{
	static const char bytes[] = "{\"parameters\":{\"n\":1},\"continues\":true}\0"
				    "{\"error\":\"x.Y\",\"parameters\":{}}";
	struct vl_client c = VL_CLIENT_INIT;
	struct vl_reply r;

	serve(bytes, sizeof(bytes), 1);
	cr_assert_eq(vl_client_connect(&c, path, soon(5000)), 0);
	cr_assert_eq(vl_client_send(&c, "a.B", NULL, VL_MORE, soon(5000)), 0);
	cr_assert_eq(vl_client_receive(&c, soon(5000), &r), 0);
	cr_expect(r.continues && !r.error);
	cr_expect_eq(json_integer_value(json_object_get(r.parameters, "n")), 1);
	vl_reply_fini(&r);
	cr_assert_eq(vl_client_receive(&c, soon(5000), &r), 0);
	cr_expect_str_eq(r.error, "x.Y");
	vl_reply_fini(&r);
	cr_expect_eq(vl_client_receive(&c, soon(5000), &r), -ECONNRESET);
	vl_client_close(&c);
	cr_expect_eq(vl_client_send(&c, "a.B", NULL, 0, soon(100)), -ECONNRESET);
}

Test(varlink_client, large_reply_comes_whole)
{
	size_t len = 3u << 20;
	char *bytes = malloc(len);
	struct vl_client c = VL_CLIENT_INIT;
	const char *text;
	size_t got;

	cr_assert_not_null(bytes);
	memset(bytes, 'x', len);
	memcpy(bytes, "{\"a\":\"", 6);
	memcpy(bytes + len - 3, "\"}", 3);
	serve(bytes, len, 1);
	cr_assert_eq(vl_client_connect(&c, path, soon(5000)), 0);
	cr_assert_eq(vl_client_send(&c, "a.B", NULL, 0, soon(5000)), 0);
	cr_assert_eq(vl_client_receive_text(&c, soon(20000), &text, &got), 0);
	cr_expect_eq(got, len - 1);
	cr_expect_eq(memcmp(text, bytes, len), 0);
	vl_client_close(&c);
	free(bytes);
}

Test(varlink_client, half_a_reply_is_a_broken_connection)
{
	struct vl_client c = VL_CLIENT_INIT;
	struct vl_reply r;

	serve("{\"parameters\"", 13, 1);
	cr_assert_eq(vl_client_connect(&c, path, soon(5000)), 0);
	cr_assert_eq(vl_client_send(&c, "a.B", NULL, 0, soon(5000)), 0);
	cr_expect_eq(vl_client_receive(&c, soon(5000), &r), -ECONNRESET);
	vl_client_close(&c);
}

Test(varlink_client, garbage_is_no_reply)
{
	static const char *const bad[] = { "SSH-2.0-x", "[]", "{\"error\":1}", "" };
	struct vl_client c = VL_CLIENT_INIT;
	struct vl_reply r;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		serve(bad[i], strlen(bad[i]) + 1, 1);
		cr_assert_eq(vl_client_connect(&c, path, soon(5000)), 0);
		cr_assert_eq(vl_client_send(&c, "a.B", NULL, 0, soon(5000)), 0);
		cr_expect_eq(vl_client_receive(&c, soon(5000), &r), -EBADMSG, "%s", bad[i]);
		waitpid(server, NULL, 0);
		server = 0;
	}
	vl_client_close(&c);
}

Test(varlink_client, silence_ends_at_the_deadline)
{
	struct vl_client c = VL_CLIENT_INIT;
	struct vl_reply r;
	int64_t begin;

	cr_assert_eq(vl_client_connect(&c, path, soon(5000)), 0);
	cr_assert_eq(vl_client_send(&c, "a.B", NULL, 0, soon(5000)), 0);
	begin = clock_mono_ms();
	cr_expect_eq(vl_client_receive(&c, begin + 200, &r), -ETIMEDOUT);
	cr_expect_geq(clock_mono_ms() - begin, 200);
	cr_expect_eq(vl_client_receive(&c, begin, &r), -ETIMEDOUT);
	vl_client_close(&c);
}

Test(varlink_client, interrupt)
{
	struct vl_client c = VL_CLIENT_INIT;
	struct vl_reply r;
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(write(fds[1], "x", 1), 1);
	c.interrupt_fd = fds[0];
	cr_assert_eq(vl_client_connect(&c, path, soon(5000)), 0);
	cr_assert_eq(vl_client_send(&c, "a.B", NULL, 0, soon(5000)), 0);
	cr_expect_eq(vl_client_receive(&c, VL_NO_DEADLINE, &r), -EINTR);
	vl_client_close(&c);
	cr_expect_eq(c.interrupt_fd, fds[0], "it stays for the next connection");
	close(fds[0]);
	close(fds[1]);
}

Test(varlink_client, nobody_there)
{
	struct vl_client c = VL_CLIENT_INIT;
	char long_path[300];

	memset(long_path, 'x', sizeof(long_path));
	long_path[299] = '\0';
	cr_expect_eq(vl_client_connect(&c, long_path, soon(100)), -ENAMETOOLONG);
	long_path[107] = '\0';
	cr_expect_eq(vl_client_connect(&c, long_path, soon(100)), -ENOENT);
	cr_expect_eq(vl_client_connect(&c, "", soon(100)), -ENOENT);
	close(listen_fd);
	cr_expect_eq(vl_client_connect(&c, path, soon(100)), -ECONNREFUSED);
	cr_expect_eq(c.fd, -1);
}

/* CT04: a full backlog is waited for, up to the deadline. */
Test(varlink_client, full_backlog)
{
	struct vl_client c = VL_CLIENT_INIT, held[16];
	int64_t begin;
	int err = 0, n = 0;

	close(listen_fd);
	listen_fd = make_listener(1);
	while (n < 16 && err == 0) {
		held[n] = (struct vl_client)VL_CLIENT_INIT;
		err = vl_client_connect(&held[n], path, soon(100));
		n += err == 0;
	}
	cr_assert_eq(err, -ETIMEDOUT);
	begin = clock_mono_ms();
	server = fork();
	if (server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		poll(NULL, 0, 400);
		close(accept(listen_fd, NULL, NULL));
		pause();
	}
	cr_assert_eq(vl_client_connect(&c, path, soon(10000)), 0);
	cr_expect_geq(clock_mono_ms() - begin, 300);
	vl_client_close(&c);
	while (n > 0)
		vl_client_close(&held[--n]);
}
