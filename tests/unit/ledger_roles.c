/* What roles hand to each other: the fd table, store messages, bells. */
#include "ledger/roles.h"

#include "base/fd.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static void write_table(char arg[16], const struct role_fd_table *head, const struct role_fd *rows,
			size_t n)
{
	int fd = fd_memfd("table", 0);

	cr_assert_eq(fd_write_all(fd, head, sizeof(*head)), 0);
	cr_assert_eq(fd_write_all(fd, rows, n * sizeof(*rows)), 0);
	snprintf(arg, 16, "%d", fd);
}

Test(ledger_roles, table_is_read_and_its_fds_made_cloexec)
{
	auto_fd a = open("/dev/null", O_RDONLY), b = open("/dev/null", O_RDONLY);
	struct role_fd rows[] = { { a, RF_LEDGER, 0, 0, "" }, { b, RF_SOCKET, 2, 7, "tcp://x" } };
	struct role_fd_table head = { ROLE_FDS_VERSION, 2 };
	struct role_fd_table *t = NULL;
	char arg[16];

	write_table(arg, &head, rows, 2);
	cr_assert_eq(role_fds_load(arg, &t), 0);
	cr_assert_eq(t->n, 2);
	cr_assert_eq(role_fds_get(t, RF_SOCKET), b);
	cr_assert_eq(role_fds_get(t, RF_CONTROL), -1);
	cr_assert_str_eq(t->rows[1].name, "tcp://x");
	cr_assert_eq(t->rows[1].aux, 7);
	cr_assert_eq(fcntl(a, F_GETFD), FD_CLOEXEC);
	cr_assert_eq(fcntl(b, F_GETFD), FD_CLOEXEC);
	cr_assert_eq(fcntl(atoi(arg), F_GETFD), -1);
	free(t);
}

Test(ledger_roles, refuses_garbled_tables)
{
	struct role_fd row = { 0, RF_KIND_COUNT, 0, 0, "" };
	struct role_fd_table head = { ROLE_FDS_VERSION, 1 };
	struct role_fd_table *t;
	char arg[16];

	write_table(arg, &head, &row, 1);
	cr_assert_eq(role_fds_load(arg, &t), -EPROTO);
	row = (struct role_fd){ .fd = 4000, .kind = RF_LEDGER };
	write_table(arg, &head, &row, 1);
	cr_assert_eq(role_fds_load(arg, &t), -EBADF);
	head.n = 2;
	write_table(arg, &head, &row, 1);
	cr_assert_eq(role_fds_load(arg, &t), -EPROTO);
	cr_assert_eq(role_fds_load("x", &t), -EINVAL);
	cr_assert_eq(role_fds_load(NULL, &t), -EINVAL);
}

Test(ledger_roles, store_messages_carry_one_fd)
{
	int pair[2], got = -1;
	struct store_message m;
	size_t n = 1;
	char name[ROLE_FD_NAME + 1];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(store_put(pair[0], RF_SOCKET, 1, 2, "tcp://h:80", 1), 0);
	cr_assert_eq(store_drop(pair[0], RF_LOG_OUT, 9, NULL), 0);
	cr_assert_eq(fd_recv(pair[1], &m, sizeof(m), &got, &n), sizeof(m));
	cr_assert_eq(n, 1);
	cr_assert_geq(got, 0);
	cr_assert_eq(m.op, STORE_PUT);
	cr_assert_eq(m.aux, 2);
	cr_assert_str_eq(m.name, "tcp://h:80");
	close(got);
	n = 1;
	cr_assert_eq(fd_recv(pair[1], &m, sizeof(m), &got, &n), sizeof(m));
	cr_assert_eq(n, 0);
	cr_assert_eq(m.op, STORE_DROP);
	cr_assert_eq(m.index, 9);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	cr_assert_eq(store_put(pair[0], RF_SOCKET, 0, 0, name, 1), -ENAMETOOLONG);
	close(pair[0]);
	close(pair[1]);
}

Test(ledger_roles, bells_ring_once_and_never_block)
{
	auto_fd bell = eventfd(UINT32_MAX - 1, EFD_CLOEXEC | EFD_NONBLOCK);
	struct pollfd p = { bell, POLLIN, 0 };

	for (int i = 0; i < 10; i++)
		bell_ring(bell);
	cr_assert_eq(poll(&p, 1, 0), 1);
	bell_clear(bell);
	cr_assert_eq(poll(&p, 1, 0), 0);
	bell_clear(bell);
}
