/* Rows, rings, kill requests. */
#include "ledger/ledger.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

static const uint8_t identity[16] = { 1 };

static struct ledger make(void)
{
	struct ledger l;
	int fd;

	cr_assert_eq(ledger_create(identity, "/r", &fd, &l), 0);
	close(fd);
	return l;
}

Test(ledger_rows, lowest_free_row_and_clean)
{
	struct ledger l = make();
	uint32_t a = ledger_take_slot(&l, 1, SLOT_WORKER, 0),
		 b = ledger_take_slot(&l, 1, SLOT_WORKER, 1),
		 c = ledger_take_slot(&l, 1, SLOT_WORKER, 2);

	cr_assert_eq(a, 0);
	cr_assert_eq(b, 1);
	cr_assert_eq(c, 2);
	ledger_slot(&l, b)->exits = 99;
	ledger_exits(&l, b)->window[0] = 5;
	ledger_free_slot(&l, b);
	cr_assert_eq(ledger_take_slot(&l, 2, SLOT_WORKER, 9), b);
	cr_assert_eq(ledger_slot(&l, b)->exits, 0);
	cr_assert_eq(ledger_exits(&l, b)->window[0], 0);
	cr_assert_eq(ledger_slot(&l, b)->life[0], LEDGER_NONE);
	cr_assert_eq(atomic_load(&l.h->slots_high), 3);
	ledger_fini(&l);
}

/* A successor has no memory of what its predecessor took. */
Test(ledger_rows, successor_takes_no_used_row)
{
	struct ledger l = make(), successor;

	ledger_take_life(&l, LIFE_WORKER, 0);
	ledger_take_life(&l, LIFE_WORKER, 1);
	successor = (struct ledger){ .h = l.h, .pids = l.pids, .bytes = l.bytes };
	cr_assert_eq(ledger_take_life(&successor, LIFE_WORKER, 2), 2);
	ledger_fini(&l);
}

Test(ledger_rows, full)
{
	struct ledger l = make();

	for (uint32_t i = 0; i < LEDGER_ROWS; i++)
		cr_assert_eq(ledger_take_life(&l, LIFE_WORKER, i), i);
	cr_assert_eq(ledger_take_life(&l, LIFE_WORKER, 0), LEDGER_NONE);
	ledger_free_life(&l, 12345);
	cr_assert_eq(ledger_take_life(&l, LIFE_WORKER, 0), 12345);
	ledger_fini(&l);
}

Test(ledger_rows, groups_keep_their_names)
{
	struct ledger l = make();
	uint32_t g = ledger_take_group(&l, "web");

	cr_assert_str_eq(ledger_group(&l, g)->name, "web");
	cr_assert_eq(ledger_group(&l, g)->scale, -1);
	cr_assert_eq(ledger_take_group(&l, "db"), g + 1);
	ledger_fini(&l);
}

/* Live = pid set and no exit record: a number is found only while it is ours. */
Test(ledger_rows, find_pid_matches_live_rows_only)
{
	struct ledger l = make();
	uint32_t old = ledger_take_life(&l, LIFE_WORKER, 0),
		 new = ledger_take_life(&l, LIFE_WORKER, 0);

	cr_assert_eq(ledger_find_pid(&l, 4711), LEDGER_NONE);
	cr_assert_eq(ledger_find_pid(&l, 0), LEDGER_NONE);
	atomic_store(&l.pids[old], 4711);
	cr_assert_eq(ledger_find_pid(&l, 4711), old);
	atomic_store(&ledger_life(&l, old)->exited, 1);
	cr_assert_eq(ledger_find_pid(&l, 4711), LEDGER_NONE);
	cr_assert_not(ledger_life_live(&l, old));
	atomic_store(&l.pids[new], 4711);
	cr_assert_eq(ledger_find_pid(&l, 4711), new);
	ledger_free_life(&l, new);
	cr_assert_eq(ledger_find_pid(&l, 4711), LEDGER_NONE);
	ledger_fini(&l);
}

Test(ledger_rows, ring_keeps_order)
{
	struct ledger l = make();
	struct ledger_ring *r = &l.h->to_manager;
	bool scan = false;

	cr_assert_eq(ledger_ring_take(r, &scan), LEDGER_NONE);
	for (uint32_t round = 0; round < 5; round++) {
		for (uint32_t i = 0; i < LEDGER_RING / 2 + 7; i++)
			ledger_ring_put(r, i);
		for (uint32_t i = 0; i < LEDGER_RING / 2 + 7; i++)
			cr_assert_eq(ledger_ring_take(r, &scan), i);
	}
	cr_assert_eq(ledger_ring_take(r, &scan), LEDGER_NONE);
	cr_assert_not(scan);
	ledger_fini(&l);
}

Test(ledger_rows, full_ring_asks_for_a_scan_once)
{
	struct ledger l = make();
	struct ledger_ring *r = &l.h->to_keeper;
	uint32_t n = 0;
	bool scan = false;

	for (uint32_t i = 0; i < LEDGER_RING + 3; i++)
		ledger_ring_put(r, i);
	while (ledger_ring_take(r, &scan) != LEDGER_NONE)
		n++;
	cr_assert_eq(n, LEDGER_RING);
	cr_assert(scan);
	scan = false;
	ledger_ring_put(r, 1);
	cr_assert_eq(ledger_ring_take(r, &scan), 1);
	cr_assert_not(scan);
	ledger_fini(&l);
}

Test(ledger_rows, kill_requests_are_bounded)
{
	struct ledger l = make();
	uint32_t row = ledger_take_life(&l, LIFE_WORKER, 0);
	struct ledger_life *life = ledger_life(&l, row);
	bool scan = false;

	for (int i = 0; i < 8; i++)
		cr_assert_eq(ledger_ask_kill(&l, row, SIGUSR1 + i % 2, CONF_TO_MAIN), 0);
	cr_assert_eq(ledger_ask_kill(&l, row, SIGTERM, CONF_TO_MAIN), -EBUSY);
	cr_assert_eq(ledger_ring_take(&l.h->to_keeper, &scan), row);
	atomic_store(&life->kill_done, 1);
	cr_assert_eq(ledger_ask_kill(&l, row, SIGTERM, CONF_TO_PGRP), 0);
	cr_assert_eq(life->kill[0].signal, SIGTERM);
	cr_assert_eq(life->kill[0].to, CONF_TO_PGRP);
	ledger_fini(&l);
}
