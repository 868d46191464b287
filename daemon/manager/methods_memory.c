/*
 * Memory page by page for the methods that can be asked for it: the pids of all workers first, a
 * few trees a turn, then one request to the gauge, then the rows. Owns the job's wishes.
 */
#include "manager/methods.h"

#include "base/clock.h"
#include "base/mem.h"
#include "manager/evidence.h"
#include "manager/gauge.h"
#include "manager/template.h"

#include <string.h>

#define STRAY	   LEDGER_NONE /* of no worker */
#define OLD_ENOUGH 1000	       /* a walk through all of /proc serves so many ms */

struct memory_wish {
	uint32_t slot;
	pid_t pid;  /* 0: the worker is meant, whether it has a process or not */
	bool spare; /* of the worker's spare */
};

static bool add(struct job *j, struct memory_wish wish)
{
	if (j->n_wishes == j->wishes_room) {
		size_t room = j->wishes_room ? j->wishes_room * 2 : 64;
		void *more = realloc(j->wishes, room * sizeof(*j->wishes));

		if (!more)
			return false; /* it stays unknown */
		j->wishes = more;
		j->wishes_room = room;
	}
	j->wishes[j->n_wishes++] = wish;
	return true;
}

static void add_all(struct job *j, uint32_t slot, struct pids *pids, bool spare)
{
	for (size_t i = 0; i < pids->n; i++)
		add(j, (struct memory_wish){ slot, pids->at[i], spare });
	pids_fini(pids);
}

void memory_wish(struct job *j, struct worker *w)
{
	uint32_t rows[] = { w->slot->life[0], spare_row(w) };

	if (!add(j, (struct memory_wish){ w->row, 0, false }))
		return;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct pids pids = { 0 };

		if (rows[i] == LEDGER_NONE || w->m->ledger.pids[rows[i]] == 0)
			continue;
		tree_members(w->m, rows[i], OLD_ENOUGH, &pids);
		add_all(j, w->row, &pids, i == 1);
	}
}

static struct worker *worker_at(const struct job *j, uint32_t slot)
{
	return slot == STRAY ? NULL : j->control->m->by_slot[slot];
}

/* The sums of the workers that were asked about. */
static void sum_up(struct job *j)
{
	int64_t now = clock_mono_ms();

	for (size_t i = 0; i < j->n_wishes; i++) {
		struct worker *w = worker_at(j, j->wishes[i].slot);
		const struct gauge_row *row;
		struct page_sums *sums;

		if (!w)
			continue;
		if (j->wishes[i].pid == 0) {
			w->pages_sampled_ms = now;
			w->pages = w->spare_pages = (struct page_sums){ .pss_bytes = -1 };
			continue;
		}
		row = gauge_find(j->gauge, j->wishes[i].pid);
		if (!row)
			continue;
		sums = j->wishes[i].spare ? &w->spare_pages : &w->pages;
		sums->pss_bytes = MAX_OF(sums->pss_bytes, 0) + row->pss_bytes;
		sums->private_bytes += row->private_bytes;
		sums->shared_bytes += row->shared_bytes;
	}
}

static void measured(void *arg)
{
	struct job *j = arg;

	sum_up(j);
	job_go_on(j);
}

bool memory_wait(struct job *j)
{
	struct pids pids = { 0 };

	if (!j->wishes || j->asked)
		return false;
	j->asked = true;
	for (size_t i = 0; i < j->n_wishes; i++)
		if (j->wishes[i].pid)
			pids_add(&pids, j->wishes[i].pid);
	j->gauge = gauge_begin(j->control->m, &pids, measured, j);
	pids_fini(&pids);
	if (!j->gauge)
		sum_up(j); /* nothing is known */
	j->waiting = j->gauge != NULL;
	return j->waiting;
}

/* Whatever else has rows of its own behind the workers. */
static void wish_others(struct job *j)
{
	struct manager *m = j->control->m;
	struct pids strays = { 0 };

	for (size_t i = 0; i < m->n_groups; i++)
		for (size_t k = 0; job_names_group(j, m->groups[i]) && k < GROUP_MAKERS; k++)
			if (group_maker(m->groups[i], k))
				memory_wish(j, group_maker(m->groups[i], k));
	if (!j->all)
		return;
	tree_stray_pids(m, &strays);
	add_all(j, STRAY, &strays, false);
}

bool memory_of_targets(struct job *j)
{
	struct manager *m = j->control->m;

	if (!j->memory || j->asked)
		return false;
	if (j->prepared < j->targets.n_refs) {
		struct worker *w = worker_deref(m, &j->targets.refs[j->prepared++]);

		if (w)
			memory_wish(j, w);
		return true;
	}
	if (j->prepared++ == j->targets.n_refs && j->kind->more_rows)
		wish_others(j);
	return memory_wait(j);
}

static void write_numbers(struct str *out, int64_t pss, int64_t private, int64_t shared)
{
	vl_write_int(out, "pss_bytes", pss);
	vl_write_int(out, "private_bytes", private);
	vl_write_int(out, "shared_bytes", shared);
}

void memory_write_worker(struct str *out, const struct worker *w)
{
	const struct page_sums *p = &w->pages;

	if (p->pss_bytes >= 0 && w->pages_sampled_ms)
		write_numbers(out, p->pss_bytes, p->private_bytes, p->shared_bytes);
}

void memory_write_process(const struct job *j, struct str *out, pid_t pid, uint64_t starttime)
{
	const struct gauge_row *row = gauge_find(j->gauge, pid);

	if (row && row->starttime == starttime)
		write_numbers(out, row->pss_bytes, row->private_bytes, row->shared_bytes);
}

void memory_fini(struct job *j)
{
	gauge_drop(j->gauge);
	free(j->wishes);
}
