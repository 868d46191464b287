/*
 * Taking and freeing rows (manager only), finding live ones. A row is cleaned while it is free and
 * becomes visible by its last store; a manager that dies in between leaves a free row behind.
 */
#include "ledger/ledger.h"

#include "base/clock.h"
#include "base/failpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RELEASE memory_order_release
#define ACQUIRE memory_order_acquire

/* The bound of scans grows before the row is used: nobody may miss a used row. */
static void raise_high(_Atomic uint32_t *high, uint32_t row)
{
	if (atomic_load_explicit(high, ACQUIRE) <= row)
		atomic_store_explicit(high, row + 1, RELEASE);
}

uint32_t ledger_take_slot(struct ledger *l, uint32_t group, enum slot_kind kind, uint32_t index)
{
	for (uint32_t row = l->slot_hint; row < LEDGER_ROWS; row++) {
		struct ledger_slot *s = ledger_slot(l, row);

		if (atomic_load_explicit(&s->used, ACQUIRE))
			continue;
		/* The memory of a row that was never used is zero, and is not there yet. */
		if (row < atomic_load_explicit(&l->h->slots_high, ACQUIRE)) {
			memset(s, 0, sizeof(*s));
			memset(ledger_exits(l, row), 0, sizeof(struct ledger_exits));
		}
		raise_high(&l->h->slots_high, row);
		s->group = group;
		s->kind = kind;
		s->index = index;
		s->life[0] = s->life[1] = LEDGER_NONE;
		FAIL_HERE(ROW_SLOT);
		atomic_store_explicit(&s->used, 1, RELEASE);
		FAIL_HERE(ROW_SLOT_USED);
		l->slot_hint = row + 1;
		return row;
	}
	return LEDGER_NONE;
}

uint32_t ledger_take_life(struct ledger *l, enum life_kind kind, uint32_t slot)
{
	for (uint32_t row = l->life_hint; row < LEDGER_ROWS; row++) {
		struct ledger_life *life = ledger_life(l, row);

		if (atomic_load_explicit(&life->use, ACQUIRE) != LIFE_FREE)
			continue;
		raise_high(&l->h->lives_high, row);
		atomic_store_explicit(&l->pids[row], 0, RELEASE);
		memset(life, 0, sizeof(*life));
		life->kind = kind;
		life->slot = slot;
		life->born_ms = clock_mono_ms();
		FAIL_HERE(ROW_LIFE);
		atomic_store_explicit(&life->use, LIFE_MADE, RELEASE);
		l->life_hint = row + 1;
		return row;
	}
	return LEDGER_NONE;
}

uint32_t ledger_take_group(struct ledger *l, const char *name)
{
	for (uint32_t row = 0; row < LEDGER_GROUPS; row++) {
		struct ledger_group *g = ledger_group(l, row);

		if (g->name[0])
			continue;
		raise_high(&l->h->groups_high, row);
		memset(g, 0, sizeof(*g));
		g->scale = -1;
		FAIL_HERE(ROW_GROUP);
		snprintf(g->name, sizeof(g->name), "%s", name);
		return row;
	}
	return LEDGER_NONE;
}

void ledger_free_slot(struct ledger *l, uint32_t row)
{
	atomic_store_explicit(&ledger_slot(l, row)->used, 0, RELEASE);
	if (row < l->slot_hint)
		l->slot_hint = row;
}

void ledger_free_life(struct ledger *l, uint32_t row)
{
	/* Pid first: a row with a pid and without an exit record would look alive. */
	atomic_store_explicit(&l->pids[row], 0, RELEASE);
	FAIL_HERE(ROW_LIFE_FREE);
	atomic_store_explicit(&ledger_life(l, row)->use, LIFE_FREE, RELEASE);
	if (row < l->life_hint)
		l->life_hint = row;
}

bool ledger_life_live(const struct ledger *l, uint32_t row)
{
	struct ledger_life *life = ledger_life(l, row);

	return atomic_load_explicit(&l->pids[row], ACQUIRE) != 0 &&
	       atomic_load_explicit(&life->use, ACQUIRE) != LIFE_FREE &&
	       !atomic_load_explicit(&life->exited, ACQUIRE);
}

uint32_t ledger_find_pid(const struct ledger *l, pid_t pid)
{
	uint32_t n = atomic_load_explicit(&l->h->lives_high, ACQUIRE);

	if (pid <= 0)
		return LEDGER_NONE;
	for (uint32_t row = 0; row < n && row < LEDGER_ROWS; row++) {
		if (atomic_load_explicit(&l->pids[row], ACQUIRE) == (uint32_t)pid &&
		    ledger_life_live(l, row))
			return row;
	}
	return LEDGER_NONE;
}

int ledger_ask_kill(struct ledger *l, uint32_t row, int signal, enum conf_target to)
{
	struct ledger_life *life = ledger_life(l, row);
	const uint32_t room = sizeof(life->kill) / sizeof(life->kill[0]);
	uint32_t want = atomic_load_explicit(&life->kill_want, ACQUIRE);

	if (want - atomic_load_explicit(&life->kill_done, ACQUIRE) >= room)
		return -EBUSY;
	life->kill[want % room].signal = (uint8_t)signal;
	life->kill[want % room].to = (uint8_t)to;
	FAIL_HERE(ASK_KILL);
	atomic_store_explicit(&life->kill_want, want + 1, RELEASE);
	FAIL_HERE(ASK_KILL_RING);
	ledger_ring_put(&l->h->to_keeper, row);
	return 0;
}
