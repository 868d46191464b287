/*
 * What people see of a tree: members with parents before children, sums for status. Owns nothing;
 * what /proc says of a process that ended meanwhile is left out.
 */
#include "manager/tree.h"

#include "base/mem.h"
#include "manager/evidence.h"
#include "manager/proc.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Sums are samples: an orphan that is younger than this may be missing in them. */
#define USAGE_AGE_MS 1000

static bool read_member(pid_t pid, pid_t main, struct tree_member *ret)
{
	struct proc_stat s;

	if (proc_stat(pid, &s) < 0)
		return false;
	*ret = (struct tree_member){ .pid = s.pid,
				     .ppid = s.ppid,
				     .session = s.session,
				     .pgrp = s.pgrp,
				     .starttime = s.starttime,
				     .state = s.state,
				     .main = s.pid == main,
				     .depth = -1 };
	memcpy(ret->comm, s.comm, sizeof(ret->comm));
	ret->rss_kb = s.rss_pages * (sysconf(_SC_PAGESIZE) / 1024);
	ret->cpu_us = s.cpu_ticks * (1000000u / (uint64_t)sysconf(_SC_CLK_TCK));
	proc_details(pid, ret);
	return true;
}

/* Move the children of list[at] behind it, then theirs, and so on: `placed` grows to n. */
static void place_children(struct tree_member *list, size_t n, size_t at, size_t *placed)
{
	for (; at < *placed; at++) {
		for (size_t i = *placed; i < n; i++) {
			struct tree_member child = list[i];

			if (child.ppid != list[at].pid)
				continue;
			child.depth = list[at].depth + 1;
			list[i] = list[*placed];
			list[(*placed)++] = child;
		}
	}
}

static bool has_parent(const struct tree_member *list, size_t n, const struct tree_member *m)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].pid == m->ppid)
			return true;
	return false;
}

/* The main process first, then each orphan, each followed by what it begot. */
static void order(struct tree_member *list, size_t n)
{
	size_t placed = 0;

	for (int round = 0; round < 2; round++) {
		for (size_t i = placed; i < n; i++) {
			struct tree_member root = list[i];
			size_t at = placed;

			if (round == 0 ? !root.main : has_parent(list + placed, n - placed, &root))
				continue;
			root.depth = root.main ? 0 : 1;
			list[i] = list[placed];
			list[placed++] = root;
			place_children(list, n, at, &placed);
			i = MAX_OF(i, placed - 1);
		}
	}
}

static ssize_t describe(struct pids *pids, pid_t main, size_t max, struct tree_member **ret)
{
	size_t n = 0, room = MIN_OF(pids->n, max);
	struct tree_member *list = calloc(room ? room : 1, sizeof(*list));

	for (size_t i = 0; list && i < room; i++)
		n += read_member(pids->at[i], main, &list[n]);
	pids_fini(pids);
	if (!list)
		return -ENOMEM;
	order(list, n);
	*ret = list;
	return (ssize_t)n;
}

/* Zombies are in no cgroup and in no account, but people wonder about them: those that a member
 * has not waited for are shown (OR10). */
static void add_zombies(struct pids *pids)
{
	size_t members = pids->n;

	for (size_t i = 0; i < members; i++) {
		struct pids children = { 0 };

		proc_children(pids->at[i], &children);
		for (size_t c = 0; c < children.n; c++) {
			struct proc_stat s;

			if (proc_stat(children.at[c], &s) == 0 && s.state == 'Z')
				pids_add(pids, s.pid);
		}
		pids_fini(&children);
	}
}

ssize_t tree_list(struct manager *m, uint32_t row, size_t max, struct tree_member **ret)
{
	struct pids pids = { 0 };
	int r = tree_members(m, row, 0, &pids);

	if (r < 0) {
		pids_fini(&pids);
		return r;
	}
	if (ledger_life(&m->ledger, row)->in_cgroup)
		add_zombies(&pids);
	return describe(&pids, (pid_t)m->ledger.pids[row], max, ret);
}

ssize_t tree_strays(struct manager *m, size_t max, struct tree_member **ret)
{
	struct pids pids = { 0 };
	int r = tree_stray_pids(m, &pids);

	if (r < 0) {
		pids_fini(&pids);
		return r;
	}
	return describe(&pids, 0, max, ret);
}

void tree_usage(struct manager *m, uint32_t row, uint64_t *ret_memory, uint64_t *ret_cpu_us)
{
	struct pids pids = { 0 };
	uint64_t memory = 0, cpu = 0;
	bool leaf_memory = tree_leaf_value(m, row, "memory.current", NULL, &memory) == 0;
	bool leaf_cpu = tree_leaf_value(m, row, "cpu.stat", "usage_usec", &cpu) == 0;

	if (!leaf_memory || !leaf_cpu)
		tree_members(m, row, USAGE_AGE_MS, &pids);
	for (size_t i = 0; i < pids.n; i++) {
		struct proc_stat s;

		if (proc_stat(pids.at[i], &s) < 0)
			continue;
		if (!leaf_memory)
			memory += (uint64_t)s.rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
		if (!leaf_cpu)
			cpu += s.cpu_ticks * (1000000u / (uint64_t)sysconf(_SC_CLK_TCK));
	}
	pids_fini(&pids);
	*ret_memory = memory;
	*ret_cpu_us = cpu;
}

bool tree_saw_oom(struct manager *m, uint32_t row)
{
	uint64_t kills;

	return tree_leaf_value(m, row, "memory.events", "oom_kill", &kills) == 0 && kills > 0;
}
