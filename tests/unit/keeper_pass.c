/* What one image of the keeper hands to the next: written, read, refused; nothing kept open. */
#include "boot/boot.h"

#include "base/fd.h"
#include "base/mem.h"
#include "keeper/pass.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const uint8_t identity[16] = { 1 };

static void begin(struct keeper *k, const struct keeper_options *o)
{
	boot_keeper(o, k);
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	cr_assert_eq(ledger_create(identity, "/r", &k->ledger_fd, &k->ledger), 0);
	cr_assert_eq(logbook_create(&k->book_fd, &k->book), 0);
	k->lock = open("/dev/null", O_RDONLY | O_CLOEXEC);
	k->dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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

/* More rows than go into one batch. */
Test(keeper_pass, table_names_all_that_is_stored)
{
	const struct keeper_options o = { .config = (char *)"/c", .program = (char *)"/p" };
	struct role_fd_table *t = NULL;
	struct keeper k;
	struct pass p;
	unsigned seen = 0;

	begin(&k, &o);
	for (uint32_t i = 0; i < 100; i++) {
		auto_fd fd = eventfd(0, EFD_CLOEXEC);

		cr_assert_eq(store_put(k.store_pair[1], RF_NOTIFY, i, i + 7, "n", fd), 0);
		store_receive(&k);
	}
	cr_assert_eq(pass_init(&p), 0);
	for (int again = 0; again < 2; again++)
		cr_assert_eq(pass_write(&k, &p, NULL), 0);
	cr_assert_eq(role_fds_read(p.table, &t), 0);
	cr_assert_eq(t->n, 112);
	for (uint32_t i = 0; i < t->n; i++) {
		const struct role_fd *r = &t->rows[i];

		cr_assert_geq(fcntl(r->fd, F_GETFD), 0);
		seen += r->kind == RF_NOTIFY && r->aux == r->index + 7 && strcmp(r->name, "n") == 0;
	}
	cr_assert_eq(seen, 100);
	cr_assert_eq(role_fds_get(t, RF_LEDGER), k.ledger_fd);
	cr_assert_eq(role_fds_get(t, (enum role_fd_kind)PASS_STATE), p.state);
	free(t);
	pass_fini(&p);
	end(&k);
}

Test(keeper_pass, state_comes_over)
{
	const struct keeper_options o = {
		.config = (char *)"/c", .program = (char *)"/p", .user = true, .forced_level = 2
	};
	struct keeper_state s;
	struct keeper k;
	struct pass p;

	begin(&k, &o);
	k.roles[ROLE_IS_LOGGER].pid = 77;
	k.roles[ROLE_IS_LOGGER].starts = 5;
	k.first_stop_ms = 1ll << 40;
	k.upgrade.number = 9;
	cr_assert_eq(pass_init(&p), 0);
	cr_assert_eq(pass_write(&k, &p, "it was no good"), 0);
	cr_assert_eq(pass_read(p.state, &s), 0);
	cr_assert_str_eq(s.config, "/c");
	cr_assert_str_eq(s.program, "/p");
	cr_assert_str_eq(s.why, "it was no good");
	cr_assert_str_eq(s.from, REEVE_VERSION);
	cr_assert(s.user && s.forced_level == 2);
	cr_assert_eq(s.roles[ROLE_IS_LOGGER].pid, 77);
	cr_assert_eq(s.roles[ROLE_IS_LOGGER].starts, 5);
	cr_assert_eq(s.first_stop_ms, 1ll << 40);
	cr_assert_eq(s.number, 9);
	pass_fini(&p);
	end(&k);
}

/* An older image wrote less, a newer one more. */
Test(keeper_pass, shorter_and_longer_states)
{
	struct keeper_state s = { .version = PASS_VERSION, .number = 3 }, got;
	auto_fd fd = fd_memfd("state", 0);
	const char more[64] = "of a later version";

	s.bytes = offsetof(struct keeper_state, user);
	memset(&s.user, 0xff, sizeof(s) - s.bytes);
	cr_assert_eq(pwrite(fd, &s, s.bytes, 0), (ssize_t)s.bytes);
	cr_assert_eq(pass_read(fd, &got), 0);
	cr_assert_eq(got.number, 3);
	cr_assert_eq(got.user, 0);
	cr_assert_eq(got.control_ino, 0);
	s.bytes = sizeof(s) + sizeof(more);
	cr_assert_eq(pwrite(fd, &s, sizeof(s), 0), (ssize_t)sizeof(s));
	cr_assert_eq(pwrite(fd, more, sizeof(more), sizeof(s)), (ssize_t)sizeof(more));
	cr_assert_eq(pass_read(fd, &got), 0);
	s.version++;
	cr_assert_eq(pwrite(fd, &s, sizeof(s), 0), (ssize_t)sizeof(s));
	cr_assert_eq(pass_read(fd, &got), -EPROTO);
	cr_assert_eq(ftruncate(fd, 6), 0);
	cr_assert_eq(pass_read(fd, &got), -EPROTO);
}

Test(keeper_pass, what_the_variable_says)
{
	static const char *const bad[] = { "",		"x",	    "3.4.5",
					   "3.4.5.6.7", "2.4.5.0",  "3.2.5.0",
					   "3.4.-2.0",	"3.4.5.0 ", "-1.-1.-1.0" };
	struct pass p;

	cr_assert_eq(pass_parse("26.27.6.11", &p), 0);
	cr_assert(p.table == 26 && p.state == 27 && p.old == 6 && p.signal == 11);
	cr_assert_eq(pass_parse("26.27.-1.0", &p), 0);
	cr_assert_eq(p.old, -1);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		cr_assert_eq(pass_parse(bad[i], &p), -EINVAL, "%s", bad[i]);
}

/* Nothing that could be executed: all is as before. */
Test(keeper_pass, a_failed_exec_changes_nothing)
{
	const struct keeper_options o = { .config = (char *)"/c", .program = (char *)"/p" };
	char *argv[] = { (char *)"x", NULL };
	auto_fd garbage = fd_memfd("garbage", 100);
	struct keeper k;
	struct pass p;

	begin(&k, &o);
	cr_assert_eq(pass_init(&p), 0);
	cr_assert_eq(pass_write(&k, &p, NULL), 0);
	cr_assert_lt(pass_exec(&p, garbage, argv), 0);
	cr_assert(fcntl(k.ledger_fd, F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(p.table, F_GETFD) & FD_CLOEXEC);
	pass_fini(&p);
	end(&k);
}
