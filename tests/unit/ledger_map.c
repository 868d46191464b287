/* The shared map: made, opened by another mapping, refused when it is laid out otherwise. */
#include "ledger/ledger.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static const uint8_t identity[16] = { 0xde, 0xad, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0xff };

static int make(struct ledger *l)
{
	int fd;

	cr_assert_eq(ledger_create(identity, "/run/reeve", &fd, l), 0);
	return fd;
}

Test(ledger_map, second_mapping_sees_the_same)
{
	struct ledger a, b;
	struct diag d;
	auto_fd fd = make(&a);
	uint32_t row;

	cr_assert_eq(ledger_open(fd, &b, &d), 0);
	cr_assert_str_eq(b.h->identity_text, "dead0102030405060708090a0b0c0dff");
	cr_assert_str_eq(b.h->runtime_dir, "/run/reeve");
	row = ledger_take_slot(&a, 7, SLOT_WORKER, 3);
	cr_assert_eq(ledger_slot(&b, row)->group, 7);
	cr_assert_eq(ledger_slot(&b, row)->index, 3);
	ledger_fini(&a);
	ledger_fini(&b);
	cr_assert_null(a.h);
}

/* 65,536 rows cost what is used of them. */
Test(ledger_map, sparse)
{
	struct ledger l;
	auto_fd fd = make(&l);
	struct stat st;

	for (uint32_t i = 0; i < 1000; i++) {
		ledger_take_slot(&l, 0, SLOT_WORKER, i);
		ledger_take_life(&l, LIFE_WORKER, i);
	}
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_gt(st.st_size, 100 << 20);
	cr_assert_lt(st.st_blocks * 512, 1000 * 2048);
	ledger_fini(&l);
}

/* No table reaches into the next one, and each row keeps a quarter of reserve. */
Test(ledger_map, last_rows_are_apart)
{
	struct ledger l;
	auto_fd fd = make(&l);
	const char *base = (const char *)l.h;

	cr_assert_geq(fd, 0);
	cr_assert_leq((const char *)(ledger_group(&l, LEDGER_GROUPS - 1) + 1),
		      base + l.h->slots_at);
	cr_assert_leq((const char *)(ledger_slot(&l, LEDGER_ROWS - 1) + 1), base + l.h->lives_at);
	cr_assert_leq((const char *)(ledger_life(&l, LEDGER_ROWS - 1) + 1), base + l.h->pids_at);
	cr_assert_leq((const char *)(ledger_fds(&l, LEDGER_ROWS - 1) + 1), base + l.h->exits_at);
	cr_assert_leq((const char *)(ledger_exits(&l, LEDGER_ROWS - 1) + 1), base + l.h->events_at);
	cr_assert_leq((const char *)(ledger_event(&l, LEDGER_EVENTS - 1) + 1), base + l.h->ops_at);
	cr_assert_leq((const char *)(ledger_op(&l, LEDGER_OPS - 1) + 1), base + l.h->bytes);
	cr_assert_geq(l.h->slot_stride * 4, sizeof(struct ledger_slot) * 5);
	cr_assert_geq(l.h->life_stride * 4, sizeof(struct ledger_life) * 5);
	ledger_fini(&l);
}

Test(ledger_map, refuses_what_it_does_not_know)
{
	struct ledger l, again;
	struct diag d = { 0 };
	auto_fd fd = make(&l);
	struct ledger_header good;

	memcpy(&good, l.h, offsetof(struct ledger_header, identity));
	l.h->version++;
	cr_assert_eq(ledger_open(fd, &again, &d), -EPROTO);
	cr_assert(strstr(d.text, "version 2"));
	l.h->version--;
	l.h->magic ^= 1;
	cr_assert_eq(ledger_open(fd, &again, &d), -EPROTO);
	l.h->magic ^= 1;
	l.h->life_stride = 8;
	cr_assert_eq(ledger_open(fd, &again, &d), -EPROTO);
	l.h->life_stride = good.life_stride;
	l.h->exits_at -= 4096 * 4096;
	cr_assert_eq(ledger_open(fd, &again, &d), -EPROTO);
	l.h->exits_at = good.exits_at;
	cr_assert_eq(ledger_open(fd, &again, &d), 0);
	ledger_fini(&again);
	ledger_fini(&l);
}

Test(ledger_map, refuses_a_short_file)
{
	struct ledger l;
	struct diag d;
	auto_fd fd = memfd_create("short", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, 4096), 0);
	cr_assert_eq(ledger_open(fd, &l, &d), -EPROTO);
}

Test(ledger_map, long_directory)
{
	char dir[200];
	struct ledger l;
	int fd;

	memset(dir, 'x', sizeof(dir) - 1);
	dir[sizeof(dir) - 1] = '\0';
	cr_assert_eq(ledger_create(identity, dir, &fd, &l), -ENAMETOOLONG);
}

/* Fields come and go with programs: an older map is read, one with fields we do not know is not. */
Test(ledger_map, fields_of_other_programs)
{
	struct ledger a, b;
	struct diag d = { 0 };
	auto_fd fd = make(&a);

	cr_assert_eq(a.h->fields, LEDGER_FIELDS);
	a.h->fields = 0;
	cr_assert_eq(ledger_open(fd, &b, &d), 0);
	ledger_fini(&b);
	a.h->fields = LEDGER_FIELDS + 1;
	cr_assert_eq(ledger_open(fd, &b, &d), -EPROTO);
	cr_assert(strstr(d.text, "newer reeved") && strstr(d.text, "restart the daemon"));
	ledger_fini(&a);
}
