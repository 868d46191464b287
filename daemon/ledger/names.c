/* Names that are made of rows: the same for everybody who looks for a life by its name. */
#include "ledger/ledger.h"

#include <stdio.h>

static const char *const kinds[SLOT_KINDS] = {
	[SLOT_TEMPLATE] = "template",
	[SLOT_HOST] = "host",
};

void ledger_slot_name(const struct ledger *l, const struct ledger_slot *slot,
		      char ret[static LEDGER_SLOT_NAME])
{
	const char *group = ledger_group(l, slot->group)->name;

	if (slot->kind == SLOT_WORKER || slot->kind >= SLOT_KINDS)
		snprintf(ret, LEDGER_SLOT_NAME, "%.63s:%u", group, slot->index);
	else if (slot->index == 0)
		snprintf(ret, LEDGER_SLOT_NAME, "%.63s/%s", group, kinds[slot->kind]);
	else
		snprintf(ret, LEDGER_SLOT_NAME, "%.63s/%s.%u", group, kinds[slot->kind],
			 slot->index);
}

void ledger_leaf(const struct ledger *l, uint32_t row, char *ret, size_t size)
{
	const struct ledger_life *life = ledger_life(l, row);
	const struct ledger_slot *slot;
	const char *group;

	if (life->kind != LIFE_WORKER || life->slot >= LEDGER_ROWS) {
		/* no group has such a name */
		snprintf(ret, size, "w/+helper/%u.%u", row, life->incarnation);
		return;
	}
	slot = ledger_slot(l, life->slot);
	group = ledger_group(l, slot->group)->name;
	if (slot->kind == SLOT_WORKER || slot->kind >= SLOT_KINDS)
		snprintf(ret, size, "w/%.63s/%u.%u", group, slot->index, life->incarnation);
	else
		snprintf(ret, size, "w/%.63s/%s%u.%u", group, kinds[slot->kind], slot->index,
			 life->incarnation);
}
