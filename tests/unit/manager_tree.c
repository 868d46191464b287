/* Trees: who belongs to one, by cgroup and by evidence; signals that hit nobody else. */
#include "manager_rig.h"

#include "base/mem.h"
#include "manager/evidence.h"
#include "manager/proc.h"
#include "manager/tree.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* --- /proc -------------------------------------------------------------------------------------
 */

Test(manager_tree, stat_lines)
{
	static const char line[] = "42 (a) R 1 (b) S 7 8 9 0 -1 4194368 1 2 3 4 10 20 5 6 20 0 1 0 "
				   "123456 777 88 1 2\n";
	struct proc_stat s;

	cr_assert_eq(proc_stat_parse(line, sizeof(line) - 1, &s), 0);
	cr_assert(s.pid == 42 && s.ppid == 7 && s.pgrp == 8 && s.session == 9 && s.state == 'S');
	cr_assert_str_eq(s.comm, "a) R 1 (b");
	cr_assert(s.cpu_ticks == 30 && s.starttime == 123456 && s.rss_pages == 88);
	cr_assert(s.flags & PROC_FORKNOEXEC);
	for (size_t len = 0; len < 70; len++) {
		auto_free char *cut = strndup(line, len);

		cr_assert_eq(proc_stat_parse(cut, len, &s), -EINVAL, "%zu", len);
	}
	cr_assert_eq(proc_stat(getpid(), &s), 0);
	cr_assert(s.pid == getpid() && s.ppid == getppid());
	cr_assert_eq(proc_stat(0x3fffffff, &s), -ESRCH);
}

/* SH16: not the process we meant. */
Test(manager_tree, sh16_a_signal_is_for_one_process_only)
{
	pid_t decoy = fork();
	struct proc_stat s;
	int status;

	if (decoy == 0) {
		pause();
		_exit(0);
	}
	cr_assert_eq(proc_stat(decoy, &s), 0);
	cr_assert_eq(proc_signal(decoy, s.starttime + 1, SIGKILL), -ESRCH);
	cr_assert_eq(proc_signal(0, 0, SIGKILL), -EINVAL);
	cr_assert_eq(proc_signal(-1, 0, SIGKILL), -EINVAL);
	cr_assert_eq(proc_signal(1, 0, SIGKILL), -EINVAL);
	cr_assert_eq(proc_signal(getpid(), 0, SIGKILL), -EINVAL);
	cr_assert_eq(waitpid(decoy, &status, WNOHANG), 0, "the decoy was hit");
	cr_assert_eq(proc_signal(decoy, s.starttime, SIGKILL), 0);
	cr_assert_eq(waitpid(decoy, &status, 0), decoy);
	cr_assert_eq(WTERMSIG(status), SIGKILL);
}

/* --- trees -------------------------------------------------------------------------------------
 */

/* A worker with a child, a session of its own, and an orphan in another session; says when all are
 * there. The last of them writes. */
static const char conf_text[] =
	"groups: { web: { command = [ \"/bin/sh\", \"-c\","
	" \"sleep 1000 & setsid sh -c 'sleep 1001 & wait' &"
	"   (setsid sh -c 'sleep 1002 & sleep 1003 & echo up > %s/up; wait' &) ; wait\" ];"
	" log: { file = \"%s/l\"; }; }; };";

static uint32_t begin(struct manager *m)
{
	struct worker *w = manager_find_worker(m, "web", 0);
	uint32_t row;

	rig_fifo(m, "up");
	row = rig_start(w);
	free(rig_text(m, "up"));
	return row;
}

struct look {
	uint32_t row;
	ssize_t wanted;
};

static bool tree_has(struct manager *m, void *arg)
{
	struct look *l = arg;
	struct tree_member *list = NULL;
	ssize_t n = tree_list(m, l->row, 100, &list);

	free(list);
	return n == l->wanted;
}

static void keep_turning(struct ev_loop *loop, ev_timer *timer, int events)
{
}

/* Conditions on other processes have no event: look every millisecond. */
static void until_tree(struct manager *m, uint32_t row, ssize_t n)
{
	struct look l = { row, n };
	ev_timer t;

	ev_timer_init(&t, keep_turning, 0., .001);
	ev_timer_start(m->loop, &t);
	rig_until(m, tree_has, &l, "members of the tree");
	ev_timer_stop(m->loop, &t);
}

static bool is_empty(struct manager *m, void *arg)
{
	return tree_is_empty(m, *(uint32_t *)arg);
}

static void body_list(struct manager *m)
{
	uint32_t row = begin(m);
	struct tree_member *list = NULL;
	uint64_t memory, cpu;
	ssize_t n;

	until_tree(m, row, 7);
	n = tree_list(m, row, 100, &list);
	rig_check(n == 7, "%d", (int)n);
	rig_check(list[0].main && list[0].depth == 0 && list[0].pid == (pid_t)m->ledger.pids[row]);
	for (ssize_t i = 1; i < n; i++) {
		bool parent_before = false;

		for (ssize_t j = 0; j < i; j++)
			parent_before |= list[j].pid == list[i].ppid;
		rig_check(parent_before || list[i].depth == 1, "%d", list[i].pid);
		rig_check(list[i].depth >= 1 && !list[i].main && list[i].starttime > 0);
	}
	free(list);
	tree_usage(m, row, &memory, &cpu);
	rig_check(memory > 100000, "%llu", (unsigned long long)memory);
	rig_check(!tree_saw_oom(m, row));
	rig_check(tree_list(m, row, 2, &list) == 2);
	free(list);
}

static void body_kill(struct manager *m)
{
	uint32_t row = begin(m);
	pid_t decoy = fork();
	int status;

	if (decoy == 0) {
		pause();
		_exit(0);
	}
	until_tree(m, row, 7);
	rig_check(tree_kill(m, row, SIGKILL) > 0);
	rig_until_exit(m, row);
	rig_until(m, is_empty, &row, "an empty tree");
	until_tree(m, row, 0);
	rig_check(waitpid(decoy, &status, WNOHANG) == 0, "the decoy was hit");
	kill(decoy, SIGKILL);
	waitpid(decoy, &status, 0);
	tree_remove(m, row);
	if (*m->ledger.h->cgroup_base) {
		char leaf[128], path[400];

		tree_leaf(m, row, leaf, sizeof(leaf));
		snprintf(path, sizeof(path), "%s/%s", m->ledger.h->cgroup_base, leaf);
		rig_check(access(path, F_OK) < 0 && errno == ENOENT, "%s", path);
	}
}

/* OR11: the main process alone dies; what it leaves is still charged to the life. */
static void body_orphans(struct manager *m)
{
	uint32_t row = begin(m);

	until_tree(m, row, 7);
	kill((pid_t)m->ledger.pids[row], SIGKILL);
	rig_until_exit(m, row);
	rig_check(!tree_is_empty(m, row));
	until_tree(m, row, 6);
	rig_check(tree_kill(m, row, SIGTERM) == 6);
	rig_until(m, is_empty, &row, "an empty tree");
}

static void run(void (*body)(struct manager *m), bool cgroups)
{
	struct rig r;

	rig_init(&r, cgroups);
	if (cgroups && !*r.cgroup) {
		rig_drop(&r);
		cr_skip("%s", r.said);
	}
	rig_run(&r, conf_text, body);
	rig_fini(&r);
}

Test(manager_tree, list_by_cgroup)
{
	run(body_list, true);
}

Test(manager_tree, list_by_evidence)
{
	run(body_list, false);
}

Test(manager_tree, kill_by_cgroup)
{
	run(body_kill, true);
}

Test(manager_tree, kill_by_evidence)
{
	run(body_kill, false);
}

Test(manager_tree, or11_orphans_by_cgroup)
{
	run(body_orphans, true);
}

Test(manager_tree, or11_orphans_by_evidence)
{
	run(body_orphans, false);
}

/* Kernels before 5.14: frozen, each killed, thawed. */
static void body_freeze(struct manager *m)
{
	m->ledger.h->cgroup_kill_ok = 0;
	body_kill(m);
}

Test(manager_tree, kill_by_freezing)
{
	run(body_freeze, true);
}
