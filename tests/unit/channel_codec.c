/* The codec of the channel: what is built is read back, everything else is refused. */
#include "lib/channel.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int parse(const struct channel_packet *p, enum channel_side from, struct channel_message *m)
{
	const char *why = NULL;
	int r = channel_parse(p, from, m, &why);

	cr_assert((r == 0) == (why == NULL), "%d, %s", r, why ? why : "-");
	return r;
}

static void build_ready(struct channel_packet *p)
{
	channel_begin(p, CH_READY, 0);
	channel_add_u64(p, CT_LOAD_US, 12345);
	channel_add_u32(p, CT_TASKS, 1);
	channel_add_u64(p, CT_RSS, UINT64_C(1) << 40);
	channel_add_u32(p, CT_FDS, 4);
	channel_add_text(p, CT_PRELOAD, "numpy");
	channel_add_text(p, CT_PRELOAD, "absent");
	channel_add_text(p, CT_ERROR, "No module named 'absent'");
}

Test(channel_codec, what_is_built_is_read)
{
	struct channel_packet p;
	struct channel_message m;
	struct channel_record r;
	char text[8];

	build_ready(&p);
	cr_assert_eq(parse(&p, CHANNEL_TEMPLATE, &m), 0);
	cr_expect(m.type == CH_READY && m.request == 0);
	cr_expect_eq(channel_u64(&m, CT_LOAD_US, 0), 12345);
	cr_expect_eq(channel_u64(&m, CT_RSS, 0), UINT64_C(1) << 40);
	cr_expect_eq(channel_u32(&m, CT_FDS, 0), 4);
	cr_expect_eq(channel_count(&m, CT_PRELOAD), 2);
	cr_assert(channel_find(&m, CT_PRELOAD, 1, &r));
	cr_expect(r.len == 6 && memcmp(r.data, "absent", 6) == 0);
	cr_expect_not(channel_find(&m, CT_PRELOAD, 2, &r));
	cr_expect_eq(channel_text(&m, CT_ERROR, text, sizeof(text)), 24);
	cr_expect_str_eq(text, "No modu");
	cr_expect(channel_text_is(&m, CT_PRELOAD, "numpy"));
	cr_expect_eq(channel_text(&m, CT_TEXT, text, sizeof(text)), 0);
	cr_expect_str_eq(text, "");
	cr_expect_eq(channel_i32(&m, CT_NICE, 7), 7, "what is absent");
}

/* The very bytes, as the manual shows them: another language can compare. */
Test(channel_codec, bytes)
{
	static const unsigned char ping[] = { 8, 0, 0, 0, 16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0 };
	static const unsigned char spawned[] = { 5,  0, 0, 0, 32, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
						 28, 0, 0, 0, 4,  0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0 };
	struct channel_packet p;

	channel_begin(&p, CH_PING, 7);
	cr_assert(p.len == sizeof(ping) && memcmp(p.bytes, ping, sizeof(ping)) == 0);
	channel_begin(&p, CH_SPAWNED, 7);
	channel_add_i32(&p, CT_PID, 258);
	cr_assert(p.len == sizeof(spawned) && memcmp(p.bytes, spawned, sizeof(spawned)) == 0);
}

Test(channel_codec, unknown_records)
{
	struct channel_packet p;
	struct channel_message m;

	build_ready(&p);
	channel_add_optional(&p, 4711, "future", 6);
	channel_add_optional(&p, CT_CWD, "known, but not in this message", 30);
	cr_expect_eq(parse(&p, CHANNEL_TEMPLATE, &m), 0);
	cr_expect_eq(channel_count(&m, CT_CWD), 0);
	build_ready(&p);
	channel_add_text(&p, CT_CWD, "/");
	cr_expect_eq(parse(&p, CHANNEL_TEMPLATE, &m), -EBADMSG);
	build_ready(&p);
	channel_add(&p, CHANNEL_TAGS, "x", 1);
	cr_expect_eq(parse(&p, CHANNEL_TEMPLATE, &m), -EBADMSG);
}

/* One byte of a good packet each: position, value, and what is said about it. */
Test(channel_codec, spoiled)
{
	static const struct {
		size_t at;
		unsigned char value;
		const char *why;
	} rows[] = {
		{ 0, 99, "an unknown type of message" },
		{ 0, 35, "an unknown type of message" },
		{ 0, 0, "an unknown type of message" },
		{ 0, 4, "a type of message that is not this side's to send" },
		{ 2, 1, "a field that has to be zero is not" },
		{ 4, 1, "the length in the header is not the packet's" },
		{ 8, 1, "a wrong request number" },
		{ 12, 1, "a field that has to be zero is not" },
		{ 16, 14, "a record of the wrong length" },
		{ 16, 0, "a record that this type of message does not have" },
		{ 18, 2, "unknown flags of a record" },
		{ 20, 4, "padding that is not zero" },
		{ 20, 16, "a record of the wrong length" },
		{ 23, 1, "a record longer than its packet" },
		{ 44, 1, "padding that is not zero" },
	};
	struct channel_message m;
	struct channel_packet p;
	const char *why;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		build_ready(&p);
		/* every byte set, so that a shorter length uncovers what is not zero */
		memset(p.bytes + 24, 0xff, 8);
		p.bytes[rows[i].at] = rows[i].value;
		why = NULL;
		cr_expect_eq(channel_parse(&p, CHANNEL_TEMPLATE, &m, &why), -EBADMSG, "row %zu", i);
		cr_expect_str_eq(why, rows[i].why, "row %zu: %s", i, why);
	}
}

Test(channel_codec, missing_and_double)
{
	struct channel_packet p;
	struct channel_message m;

	channel_begin(&p, CH_SPAWNED, 3);
	cr_expect_eq(parse(&p, CHANNEL_TEMPLATE, &m), -EBADMSG);
	channel_add_i32(&p, CT_PID, 1);
	cr_expect_eq(parse(&p, CHANNEL_TEMPLATE, &m), 0);
	channel_add_i32(&p, CT_PID, 1);
	cr_expect_eq(parse(&p, CHANNEL_TEMPLATE, &m), -EBADMSG);
	channel_begin(&p, CH_SPAWNED, 0);
	channel_add_i32(&p, CT_PID, 1);
	cr_expect_eq(parse(&p, CHANNEL_TEMPLATE, &m), -EBADMSG, "request 0");
	channel_begin(&p, CH_LOADING, 0);
	channel_add(&p, CT_TEXT, "a\0b", 3);
	cr_expect_eq(parse(&p, CHANNEL_TEMPLATE, &m), -EBADMSG, "NUL");
}

/* Every prefix of a packet is refused, whatever its header says. */
Test(channel_codec, cut)
{
	struct channel_message m;
	struct channel_packet p;
	size_t whole;

	build_ready(&p);
	whole = p.len;
	for (size_t len = 0; len < whole; len++) {
		uint32_t said = (uint32_t)len;

		p.len = len;
		memcpy(p.bytes + 4, &said, sizeof(said));
		/* at the end of an optional record it is a whole message again */
		if (parse(&p, CHANNEL_TEMPLATE, &m) == 0)
			cr_expect(channel_count(&m, CT_FDS) == 1, "%zu", len);
	}
}

static void build_fork(struct channel_packet *p, const int *fds, const int32_t *map, size_t n)
{
	channel_begin(p, CH_FORK, 1);
	channel_add_text(p, CT_NAME, "web:3");
	channel_add_u32(p, CT_INDEX, 3);
	channel_add_u32(p, CT_COUNT, 4);
	channel_add_u32(p, CT_INCARNATION, 1);
	channel_add_u32(p, CT_GENERATION, 1);
	channel_add_limit(p, 7, 1024, UINT64_MAX);
	channel_add_fds(p, fds, map, n);
}

Test(channel_codec, maps_of_descriptors)
{
	static const struct {
		int32_t map[3];
		size_t n;
		int err;
	} rows[] = {
		{ { -1 }, 1, 0 },
		{ { -1, 1, -2 }, 3, 0 },
		{ { -1, 1, 2147483647 }, 3, 0 },
		{ { 0 }, 1, -EBADMSG },
		{ { 1, -1 }, 2, -EBADMSG },
		{ { -1, -1 }, 2, -EBADMSG },
		{ { -1, 5, 5 }, 3, -EBADMSG },
		{ { -1, -3 }, 2, -EBADMSG },
		{ { -1 }, 0, -EBADMSG },
	};
	struct channel_message m;
	struct channel_packet p;
	const int fds[3] = { 0, 1, 2 };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		build_fork(&p, fds, rows[i].map, rows[i].n);
		cr_expect_eq(parse(&p, CHANNEL_DAEMON, &m), rows[i].err, "row %zu", i);
	}
	build_fork(&p, fds, rows[1].map, 3);
	cr_assert_eq(parse(&p, CHANNEL_DAEMON, &m), 0);
	cr_expect_eq(channel_fd_target(&m, 1), 1);
	cr_expect_eq(channel_fd_target(&m, 2), CHANNEL_FD_CGROUP);
	p.n_fds = 2;
	cr_expect_eq(parse(&p, CHANNEL_DAEMON, &m), -EBADMSG, "too few came");
	build_ready(&p);
	p.n_fds = 1;
	cr_expect_eq(parse(&p, CHANNEL_TEMPLATE, &m), -EBADMSG, "nobody asked for them");
}

Test(channel_codec, too_much)
{
	static char big[CHANNEL_BYTES_MAX];
	struct channel_message m;
	struct channel_packet p;
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	memset(big, 'x', sizeof(big));
	channel_begin(&p, CH_LOADING, 0);
	channel_add(&p, CT_TEXT, big, channel_room(&p));
	cr_assert_eq(p.len, CHANNEL_BYTES_MAX);
	cr_expect_eq(channel_room(&p), 0);
	cr_expect_eq(channel_send(pair[0], &p), 0);
	cr_expect_eq(channel_recv(pair[1], &p), CHANNEL_BYTES_MAX);
	cr_expect_eq(parse(&p, CHANNEL_TEMPLATE, &m), 0);
	channel_begin(&p, CH_LOADING, 0);
	channel_add(&p, CT_TEXT, big, channel_room(&p) + 1);
	cr_expect_eq(channel_send(pair[0], &p), -EMSGSIZE);
	channel_add_text(&p, CT_TEXT, "this would fit");
	cr_expect_eq(channel_send(pair[0], &p), -EMSGSIZE, "the error stays");
	close(pair[0]);
	cr_expect_eq(channel_recv(pair[1], &p), 0);
	channel_begin(&p, CH_GO, 0);
	cr_expect_eq(channel_send(pair[1], &p), -EPIPE);
	close(pair[1]);
}

Test(channel_codec, longer_than_a_packet)
{
	static char big[CHANNEL_BYTES_MAX + 8];
	struct channel_packet p;
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	cr_expect_eq(channel_recv(pair[1], &p), -EAGAIN);
	cr_assert_eq(send(pair[0], big, sizeof(big), 0), (ssize_t)sizeof(big));
	cr_expect_eq(channel_recv(pair[1], &p), -EMSGSIZE);
	close(pair[0]);
	close(pair[1]);
}

/* What is sent with a packet arrives as CLOEXEC, and leaves with it unless it is taken. */
Test(channel_codec, descriptors_travel)
{
	static const int32_t map[2] = { CHANNEL_FD_OWN, 1 };
	struct channel_packet p;
	int pair[2], ends[2];
	char byte;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(pipe2(ends, O_NONBLOCK), 0);
	build_fork(&p, (int[]){ ends[1], ends[1] }, map, 2);
	cr_assert_eq(channel_send(pair[0], &p), 0);
	cr_assert_gt(channel_recv(pair[1], &p), 0);
	cr_assert_eq(p.n_fds, 2);
	cr_expect(fcntl(p.fds[0], F_GETFD) & FD_CLOEXEC);
	close(ends[1]);
	ends[1] = p.fds[1];
	p.fds[1] = -1;
	channel_packet_fini(&p);
	cr_expect_eq(read(ends[0], &byte, 1), -1, "the one that was taken is open");
	close(ends[1]);
	cr_expect_eq(read(ends[0], &byte, 1), 0, "the other one is not");
	close(ends[0]);
	close(pair[0]);
	close(pair[1]);
}

Test(channel_codec, the_kernel_says_who)
{
	auto_channel_packet p = CHANNEL_PACKET_INIT;
	int pair[2], status;
	siginfo_t info = { 0 };
	pid_t pid;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(channel_want_sender(pair[0]), 0);
	pid = fork();
	if (pid == 0) {
		channel_begin(&p, CH_BORN, 0);
		channel_add_text(&p, CT_NAME, "web:3");
		channel_add_i32(&p, CT_PID, 1);
		if (channel_send(pair[1], &p) < 0)
			_exit(1);
		pause();
	}
	cr_assert_eq(poll(&(struct pollfd){ pair[0], POLLIN, 0 }, 1, -1), 1);
	cr_assert_gt(channel_recv(pair[0], &p), 0);
	cr_expect_eq(p.pid, pid);
	cr_expect_eq(p.uid, geteuid());
	if (p.pidfd < 0)
		cr_log_warn("this kernel has no SO_PASSPIDFD");
	else
		cr_expect_eq(
			waitid((idtype_t)3 /* P_PIDFD */, (id_t)p.pidfd, &info, WEXITED | WNOHANG),
			0);
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	close(pair[0]);
	close(pair[1]);
}

Test(channel_codec, versions)
{
	static const struct {
		uint32_t range[2];
		int version;
	} rows[] = {
		{ { 1, 1 }, 1 },
		{ { 0, 7 }, 1 },
		{ { 2, 3 }, -EPROTONOSUPPORT },
		{ { 0, 0 }, -EPROTONOSUPPORT },
		{ { 3, 1 }, -EPROTONOSUPPORT },
	};
	struct channel_message m;
	struct channel_packet p;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		channel_begin(&p, CH_HELLO, 0);
		channel_add(&p, CT_VERSIONS, rows[i].range, sizeof(rows[i].range));
		cr_assert_eq(parse(&p, CHANNEL_TEMPLATE, &m), 0);
		cr_expect_eq(channel_version(&m), rows[i].version, "row %zu", i);
	}
	channel_begin(&p, CH_HELLO, 0);
	channel_add_versions(&p);
	cr_assert_eq(parse(&p, CHANNEL_DAEMON, &m), 0);
	cr_expect_eq(channel_version(&m), 1);
}
