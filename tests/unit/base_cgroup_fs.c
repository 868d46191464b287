/* cgroup v2 by files, where this machine lets us make one; else it says that it was skipped. */
#include "base/cgroup_fs.h"

#include "base/fd.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A cgroup of our own below the one we are in; -1 = not possible here. */
static int make_base(char path[600])
{
	char own[512];

	if (cgroup_fs_own(own, sizeof(own)) < 0)
		return -1;
	snprintf(path, 600, "%s/reeve-unit-%d", own, (int)getpid());
	if (mkdir(path, 0755) < 0)
		return -1;
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static pid_t start_in(int base, const char *leaf)
{
	int ready[2];
	char byte;
	pid_t pid;

	cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		signal(SIGTERM, SIG_IGN);
		setsid();
		if (cgroup_fs_join(base, leaf) < 0)
			_exit(1);
		close(ready[1]);
		raise(SIGSTOP); /* stopped ones must end as well */
		_exit(0);
	}
	close(ready[1]);
	cr_assert_eq(read(ready[0], &byte, 1), 0);
	close(ready[0]);
	return pid;
}

static void expect_killed(pid_t pid)
{
	siginfo_t si;

	cr_assert_eq(waitid(P_PID, (id_t)pid, &si, WEXITED), 0);
	cr_assert_eq(si.si_status, SIGKILL);
}

Test(base_cgroup_fs, kill_move_remove)
{
	char path[600];
	auto_fd base = make_base(path);
	pid_t a, b;

	if (base < 0)
		cr_skip_test("no cgroup can be made here");
	cr_assert_eq(mkdirat(base, "w", 0755), 0);
	cr_assert_eq(mkdirat(base, "w/g", 0755), 0);
	cr_assert_eq(mkdirat(base, "w/g/0.1", 0755), 0);
	cr_assert_eq(mkdirat(base, "left", 0755), 0);
	cr_assert_not(cgroup_fs_populated(base, "w"));
	a = start_in(base, "w/g/0.1");
	b = start_in(base, "w/g/0.1");
	cr_assert(cgroup_fs_populated(base, "w"));
	cgroup_fs_move(base, "w", "left");
	cr_assert_not(cgroup_fs_populated(base, "w"));
	cr_assert(cgroup_fs_populated(base, "left"));
	cr_assert_eq(cgroup_fs_remove(base, "w", 0), 0);
	cr_assert_eq(faccessat(base, "w", F_OK, 0), -1);
	cr_assert_lt(cgroup_fs_remove(base, "left", 0), 0);
	cr_assert_eq(cgroup_fs_kill(base, "left"), 0);
	expect_killed(a);
	expect_killed(b);
	cr_assert_eq(cgroup_fs_remove(base, "left", 10000), 0);
	cr_assert_eq(rmdir(path), 0);
}

/* Without cgroup.kill, as on kernels before 5.14; also in cgroups below. */
Test(base_cgroup_fs, kill_one_by_one)
{
	char path[600];
	auto_fd base = make_base(path);
	pid_t a, b;

	if (base < 0)
		cr_skip_test("no cgroup can be made here");
	cr_assert_eq(mkdirat(base, "g", 0755), 0);
	cr_assert_eq(mkdirat(base, "g/deep", 0755), 0);
	a = start_in(base, "g");
	b = start_in(base, "g/deep");
	cr_assert_eq(cgroup_fs_kill_each(base, "g"), 0);
	expect_killed(a);
	expect_killed(b);
	cr_assert_eq(cgroup_fs_remove(base, "g", 10000), 0);
	cr_assert_eq(rmdir(path), 0);
}

Test(base_cgroup_fs, absent_ones_are_empty)
{
	char path[600];
	auto_fd base = make_base(path);

	if (base < 0)
		cr_skip_test("no cgroup can be made here");
	cr_assert_not(cgroup_fs_populated(base, "nothing"));
	cr_assert_eq(cgroup_fs_remove(base, "nothing", 0), 0);
	cr_assert_lt(cgroup_fs_kill(base, "nothing"), 0);
	cr_assert_eq(rmdir(path), 0);
}
