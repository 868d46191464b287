/* Owns nothing: paths are made from rows of the ledger, relative to its cgroup base. */
#include "ledger/leaves.h"

#include "base/cgroup_fs.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define LEAF_PATH (CONF_GROUP_NAME_MAX + 32)

static int open_base(const struct ledger *l)
{
	if (!l->h->cgroup_base[0])
		return -1;
	return open(l->h->cgroup_base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static uint32_t groups_used(const struct ledger *l)
{
	return MIN_OF(atomic_load(&l->h->groups_high), LEDGER_GROUPS);
}

bool leaves_any_left(const struct ledger *l)
{
	uint32_t n = groups_used(l);

	for (uint32_t row = 0; row < n; row++) {
		const struct ledger_group *g = ledger_group(l, row);

		if (g->name[0] && g->orphans == CONF_ORPHANS_LEAVE)
			return true;
	}
	return false;
}

/* Leaves of live workers, where the group leaves its orphans. */
static void kill_live(const struct ledger *l, int base, uint32_t group)
{
	uint32_t n = MIN_OF(atomic_load(&l->h->lives_high), LEDGER_ROWS);

	for (uint32_t row = 0; row < n; row++) {
		const struct ledger_life *life = ledger_life(l, row);
		const struct ledger_slot *slot;
		char path[LEAF_PATH];

		if (!ledger_life_live(l, row) || life->kind != LIFE_WORKER ||
		    life->slot >= LEDGER_ROWS)
			continue;
		slot = ledger_slot(l, life->slot);
		if (slot->group != group)
			continue;
		ledger_leaf(l, row, path, sizeof(path));
		cgroup_fs_kill(base, path);
	}
}

bool leaves_kill(const struct ledger *l)
{
	auto_fd base = open_base(l);
	uint32_t n = groups_used(l);
	char path[LEAF_PATH];

	if (base < 0)
		return false;
	if (!leaves_any_left(l))
		return cgroup_fs_kill(base, "w") == 0;
	for (uint32_t row = 0; row < n; row++) {
		const struct ledger_group *g = ledger_group(l, row);

		if (!g->name[0])
			continue;
		snprintf(path, sizeof(path), "w/%s", g->name);
		if (g->orphans == CONF_ORPHANS_LEAVE)
			kill_live(l, base, row);
		else
			cgroup_fs_kill(base, path);
	}
	return true;
}

bool leaves_empty(const struct ledger *l, int64_t wait_ms)
{
	auto_fd base = open_base(l);

	return base < 0 || leaves_any_left(l) || cgroup_fs_wait_empty(base, "w", wait_ms);
}

void leaves_remove(const struct ledger *l, int64_t wait_ms)
{
	auto_fd base = open_base(l);

	if (base >= 0)
		cgroup_fs_remove(base, "w", leaves_any_left(l) ? 0 : wait_ms);
}
