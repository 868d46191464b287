/* Groups between ledger and configuration: what a predecessor left, what there is room for. */
#include "manager/worker.h"
#include "manager_rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char conf_text[] = "groups: { web: { command = \"/bin/true\"; autostart = false; log: "
				"{ file = \"%s/l\"; }; }; };";

static bool has_row(struct manager *m, const char *name)
{
	for (uint32_t i = 0; i < m->ledger.h->groups_high; i++)
		if (strcmp(ledger_group(&m->ledger, i)->name, name) == 0)
			return true;
	return false;
}

/* The whole of the log book: the rig's manager has its header only. */
static void build(struct manager *m)
{
	struct diag d = { 0 };

	rig_check(logbook_open(m->book.fd, &m->book, &d) == 0, "%s", d.text);
	rig_check(groups_build(m) == 0);
}

/* A predecessor freed the last worker of a removed group and died before it forgot the group. */
static void body_left_row(struct manager *m)
{
	uint32_t row = ledger_take_group(&m->ledger, "gone");

	ledger_group(&m->ledger, row)->scale = 7;
	build(m);
	groups_prune(m);
	rig_check(!has_row(m, "gone"));
	rig_check(has_row(m, "web"));
	rig_check(m->n_groups == 1);
}

/* A scaled group that is still there keeps its scale. */
static void body_scale(struct manager *m)
{
	struct group *g = manager_find_group(m, "web");

	g->row->scale = 3;
	g->row->workers_file = g->conf->workers;
	build(m);
	groups_prune(m);
	rig_check(has_row(m, "web"));
	rig_check(g->n_workers == 3, "%u", g->n_workers);
}

/* All rows are taken, by groups that a reload would remove. */
static void body_full(struct manager *m)
{
	struct conf_group added[2] = { { .name = "new" }, { .name = "web" } };
	struct conf next = { .groups = added, .n_groups = 2 };
	struct diag d = { 0 };
	char name[16];

	rig_check(groups_room_for(m, &next, &d) == 0);
	for (uint32_t i = 1; i < LEDGER_GROUPS; i++) {
		snprintf(name, sizeof(name), "g%u", i);
		rig_check(ledger_take_group(&m->ledger, name) != LEDGER_NONE);
	}
	build(m);
	rig_check(groups_room_for(m, &next, &d) == -ENOSPC);
	rig_check(strstr(d.text, "4096") && strstr(d.text, "1 new"), "%s", d.text);
	next.groups = &added[1];
	next.n_groups = 1;
	rig_check(groups_room_for(m, &next, &d) == 0);
	groups_prune(m);
	next.groups = added;
	next.n_groups = 2;
	rig_check(groups_room_for(m, &next, &d) == 0);
}

static void run(void (*body)(struct manager *m))
{
	struct rig r;

	rig_init(&r, false);
	rig_run(&r, conf_text, body);
	rig_fini(&r);
}

Test(manager_group, a_row_without_workers_is_forgotten)
{
	run(body_left_row);
}

Test(manager_group, a_scale_stays)
{
	run(body_scale);
}

Test(manager_group, no_room_for_more_groups_is_said)
{
	run(body_full);
}
