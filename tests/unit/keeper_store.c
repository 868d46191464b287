/* Descriptors that outlive the others: put, replaced, dropped, told to the logger, inherited. */
#include "boot/boot.h"

#include "base/fd.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const uint8_t identity[16] = { 1 };

static void begin(struct keeper *k)
{
	*k = (struct keeper){ .signals = -1, .logger_store = { -1, -1 } };
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	cr_assert_eq(ledger_create(identity, "/r", &k->ledger_fd, &k->ledger), 0);
	cr_assert_eq(logbook_create(&k->book_fd, &k->book), 0);
	k->lock = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < 3; i++)
		k->bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cr_assert_eq(store_init(k), 0);
}

static void end(struct keeper *k)
{
	store_fini(k);
	logbook_fini(&k->book);
	ledger_fini(&k->ledger);
}

static int put(struct keeper *k, enum role_fd_kind kind, uint32_t index, const char *name)
{
	auto_fd fd = eventfd(0, EFD_CLOEXEC);

	return store_put(k->store_pair[1], kind, index, 0, name, fd);
}

static size_t open_fds(void)
{
	size_t n = 0;

	for (int fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static struct role_fd_table *table_of(struct keeper *k, enum role_kind kind)
{
	struct role_fd_table *t = NULL;
	char arg[16];

	snprintf(arg, sizeof(arg), "%d", store_table(k, kind));
	cr_assert_eq(role_fds_load(arg, &t), 0);
	return t;
}

static const struct role_fd *row_of(const struct role_fd_table *t, uint32_t kind, const char *name)
{
	for (uint32_t i = 0; i < t->n; i++) {
		if (t->rows[i].kind == kind && strcmp(t->rows[i].name, name) == 0)
			return &t->rows[i];
	}
	return NULL;
}

Test(keeper_store, put_replace_drop_leave_no_fd)
{
	struct keeper k;
	size_t before;

	begin(&k);
	cr_assert_eq(put(&k, RF_SOCKET, 0, "tcp://a:1"), 0);
	store_receive(&k);
	before = open_fds();
	for (int i = 0; i < 100; i++) {
		cr_assert_eq(put(&k, RF_SOCKET, 0, "tcp://a:1"), 0);
		cr_assert_eq(put(&k, RF_SOCKET, 0, "tcp://b:1"), 0);
		store_receive(&k);
		cr_assert_eq(store_drop(k.store_pair[1], RF_SOCKET, 0, "tcp://b:1"), 0);
		cr_assert_eq(store_drop(k.store_pair[1], RF_SOCKET, 0, "tcp://never:1"), 0);
		store_receive(&k);
	}
	cr_assert_eq(open_fds(), before);
	cr_assert_geq(store_get(&k, RF_SOCKET), 0);
	cr_assert_eq(store_get(&k, RF_CONTROL), -1);
	end(&k);
}

Test(keeper_store, roles_get_their_own_and_nothing_else)
{
	struct keeper k;
	struct role_fd_table *m, *l;

	begin(&k);
	cr_assert_eq(put(&k, RF_SOCKET, 3, "tcp://a:1"), 0);
	cr_assert_eq(put(&k, RF_LOG_OUT, 5, ""), 0);
	cr_assert_eq(put(&k, RF_LOG_ERR, 5, ""), 0);
	store_receive(&k);
	m = table_of(&k, ROLE_IS_MANAGER);
	l = table_of(&k, ROLE_IS_LOGGER);
	cr_assert_not_null(row_of(m, RF_SOCKET, "tcp://a:1"));
	cr_assert_eq(row_of(m, RF_SOCKET, "tcp://a:1")->index, 3);
	cr_assert_null(row_of(m, RF_LOG_OUT, ""));
	cr_assert_null(row_of(l, RF_SOCKET, "tcp://a:1"));
	cr_assert_null(row_of(l, RF_LEDGER, ""));
	cr_assert_eq(row_of(l, RF_LOG_OUT, "")->index, 5);
	/* the manager reopens pipes through our table of fds */
	cr_assert_eq(atomic_load(&ledger_fds(&k.ledger, 5)->out),
		     row_of(l, RF_LOG_OUT, "")->fd + 1);
	cr_assert_eq(atomic_load(&ledger_fds(&k.ledger, 5)->err),
		     row_of(l, RF_LOG_ERR, "")->fd + 1);
	free(m);
	free(l);
	end(&k);
}

Test(keeper_store, drop_of_a_pipe_clears_its_note)
{
	struct keeper k;

	begin(&k);
	cr_assert_eq(put(&k, RF_LOG_OUT, 7, ""), 0);
	store_receive(&k);
	cr_assert_gt(atomic_load(&ledger_fds(&k.ledger, 7)->out), 0);
	cr_assert_eq(store_drop(k.store_pair[1], RF_LOG_OUT, 7, ""), 0);
	store_receive(&k);
	cr_assert_eq(atomic_load(&ledger_fds(&k.ledger, 7)->out), 0);
	end(&k);
}

/* A logger that does not read must not stop the keeper, and misses nothing later. */
Test(keeper_store, full_logger_socket_keeps_order)
{
	enum { N = 1500 };
	struct keeper k;
	struct epoll_event e;
	uint32_t next = 0, drops = 0;

	begin(&k);
	for (uint32_t i = 0; i < N; i++) {
		cr_assert_eq(put(&k, RF_LOG_OUT, i, ""), 0);
		store_receive(&k);
	}
	cr_assert_eq(store_drop(k.store_pair[1], RF_LOG_OUT, 0, ""), 0);
	store_receive(&k);
	cr_assert_gt(k.store.n_backlog, 0);
	for (;;) {
		struct store_message m;
		int fd = -1;
		size_t n = 1;
		ssize_t got = fd_recv(k.logger_store[1], &m, sizeof(m), &fd, &n);

		if (got <= 0) {
			if (k.store.n_backlog == 0)
				break;
			cr_assert_eq(epoll_wait(k.epoll, &e, 1, 1000), 1);
			store_flush(&k);
			continue;
		}
		cr_assert_eq(got, sizeof(m));
		if (m.op == STORE_DROP) {
			drops++;
			continue;
		}
		cr_assert_eq(m.index, next);
		cr_assert_eq(n, 1);
		close(fd);
		next++;
	}
	cr_assert_eq(next, N);
	cr_assert_eq(drops, 1);
	/* nothing to say: the socket is not watched for room */
	cr_assert_eq(epoll_wait(k.epoll, &e, 1, 0), 0);
	end(&k);
}

Test(keeper_store, refuses_nonsense)
{
	struct keeper k;
	struct store_message m = { .op = STORE_PUT, .kind = RF_LOG_OUT, .index = LEDGER_ROWS };
	size_t before;

	begin(&k);
	before = open_fds();
	log_init("test", LOG_LEVEL_ERROR);
	cr_assert_eq(store_send(k.store_pair[1], &m, 0), 0);
	m = (struct store_message){ .op = STORE_PUT, .kind = RF_LEDGER };
	cr_assert_eq(store_send(k.store_pair[1], &m, 0), 0);
	m = (struct store_message){ .op = STORE_PUT, .kind = RF_SOCKET };
	memset(m.name, 'x', sizeof(m.name));
	cr_assert_eq(store_send(k.store_pair[1], &m, 0), 0);
	m = (struct store_message){ .op = STORE_PUT, .kind = RF_SOCKET };
	cr_assert_eq(store_send(k.store_pair[1], &m, -1), 0);
	m = (struct store_message){ .op = 77, .kind = RF_SOCKET };
	cr_assert_eq(store_send(k.store_pair[1], &m, 0), 0);
	cr_assert_eq(fd_send(k.store_pair[1], "x", 1, NULL, 0), 0);
	store_receive(&k);
	cr_assert_eq(open_fds(), before);
	cr_assert_eq(store_get(&k, RF_SOCKET), -1);
	end(&k);
}

/* SP09: what the keeper cannot hold is told before it is sent, and never eats its last ones. */
Test(keeper_store, sp09_little_room)
{
	struct keeper k;
	struct rlimit lim;
	auto_fd lowest = dup(0);
	size_t before;

	log_init("test", LOG_LEVEL_ERROR);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
	lim.rlim_cur = (rlim_t)lowest + 60;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
	begin(&k);
	cr_assert_gt(atomic_load(&k.ledger.h->fds_room), 0);
	before = open_fds();
	for (uint32_t i = 0; i < 100; i++) {
		cr_assert_eq(put(&k, RF_LOG_OUT, i, ""), 0);
		store_receive(&k);
	}
	cr_assert_leq(atomic_load(&k.ledger.h->fds_room), 0);
	cr_assert_eq(atomic_load(&k.ledger.h->pipes_seen), 100);
	cr_assert_gt(atomic_load(&ledger_fds(&k.ledger, 0)->out), 0);
	cr_assert_eq(atomic_load(&ledger_fds(&k.ledger, 99)->out), 0);
	cr_assert_leq(open_fds(), before + 60 - 12);
	for (uint32_t i = 0; i < 100; i++)
		cr_assert_eq(store_drop(k.store_pair[1], RF_LOG_OUT, i, ""), 0);
	store_receive(&k);
	cr_assert_eq(open_fds(), before);
	cr_assert_gt(atomic_load(&k.ledger.h->fds_room), 0);
	end(&k);
}

/* CT01: only a control socket that is still ours is removed. */
Test(keeper_store, control_socket_is_known_by_inode)
{
	struct keeper k;
	char dir[] = "/tmp/reeve-unit-XXXXXX", path[64];
	struct sockaddr_un {
		sa_family_t family;
		char path[108];
	} un = { AF_UNIX, "" };
	auto_fd sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	begin(&k);
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/c", dir);
	snprintf(un.path, sizeof(un.path), "%s", path);
	cr_assert_eq(bind(sock, (struct sockaddr *)&un, sizeof(un)), 0);
	cr_assert_eq(store_put(k.store_pair[1], RF_CONTROL, 0, 0, "", sock), 0);
	store_receive(&k);
	k.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(unlink(path), 0);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	runtime_dir_clean(&k);
	cr_assert_eq(access(path, F_OK), 0);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(rmdir(dir), 0);
	end(&k);
}
