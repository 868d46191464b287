/* Killing what is left: children of every shape, and marked processes of an earlier life. */
#include "boot/boot.h"
#include "ledger/leftovers.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

static void begin(struct keeper *k)
{
	uint8_t identity[16];

	log_init("test", LOG_LEVEL_ERROR);
	*k = (struct keeper){ .round_ms = KEEPER_NEVER, .gone_ms = KEEPER_NEVER };
	cr_assert_eq(getrandom(identity, sizeof(identity), 0), sizeof(identity));
	cr_assert_eq(ledger_create(identity, "/r", &k->ledger_fd, &k->ledger), 0);
	for (int i = 0; i < 3; i++)
		k->bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	k->signals = -1;
	cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
}

/* A process that ignores all it can, leaves its session twice and says that it is there. */
static void hide(int say, int depth)
{
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_IGN);
	setsid();
	for (int i = 0; i < depth; i++) {
		if (fork() > 0)
			_exit(0);
		setsid();
	}
	(void)!write(say, "x", 1);
	for (;;)
		pause();
}

static void wait_for(int fd, int n)
{
	char byte;

	while (n-- > 0)
		cr_assert_eq(read(fd, &byte, 1), 1);
}

/* OR01: whatever they do, they come up to the subreaper and end. */
Test(keeper_sweep, or01_escaped_descendants)
{
	enum { N = 30 };
	struct keeper k;
	int say[2];

	begin(&k);
	cr_assert_eq(pipe2(say, O_CLOEXEC), 0);
	for (int i = 0; i < N; i++) {
		if (fork() == 0)
			hide(say[1], i % 4);
	}
	wait_for(say[0], N);
	cr_assert_eq(sweep_children(&k, true), 0);
	cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1);
	cr_assert_eq(errno, ECHILD);
}

/* OR08: a tree that forks faster than one looks. */
Test(keeper_sweep, or08_fork_storm)
{
	struct keeper k;
	int say[2];

	begin(&k);
	cr_assert_eq(pipe2(say, O_CLOEXEC), 0);
	for (int i = 0; i < 20; i++) {
		if (fork() > 0)
			continue;
		(void)!write(say[1], "x", 1);
		for (;;) { /* hops: the parent ends, the child goes on in a new session */
			pid_t pid = fork();

			if (pid > 0)
				_exit(0);
			setsid();
		}
	}
	wait_for(say[0], 20);
	cr_assert_eq(sweep_children(&k, true), 0);
	cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1);
}

Test(keeper_sweep, roles_and_strays_left_on_purpose_are_spared)
{
	struct keeper k;
	pid_t role = fork(), stray;
	uint32_t row;

	if (role == 0)
		for (;;)
			pause();
	stray = fork();
	if (stray == 0)
		for (;;)
			pause();
	begin(&k);
	k.roles[ROLE_IS_LOGGER].pid = role;
	cr_assert_eq(sweep_children(&k, false), 0);
	cr_assert_eq(kill(stray, 0), 0);
	/* as a worker in a row it is nobody's stray */
	row = ledger_take_life(&k.ledger, LIFE_WORKER, 0);
	atomic_store(&k.ledger.pids[row], (uint32_t)stray);
	cr_assert_eq(sweep_children(&k, false), 0);
	cr_assert_eq(ledger_life(&k.ledger, row)->exit_status, SIGKILL);
	cr_assert_eq(kill(role, 0), 0);
	cr_assert_eq(kill(role, SIGKILL), 0);
	cr_assert_eq(waitpid(role, NULL, 0), role);
}

static pid_t start_marked(const char *identity, const char *rest)
{
	char marker[128];
	char *argv[] = { "sleep", "60", NULL }, *env[] = { "A=b", marker, NULL };
	int ready[2];
	char byte;
	pid_t pid;

	snprintf(marker, sizeof(marker), "REEVE_ID=%s/%s", identity, rest);
	cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		execve("/bin/sleep", argv, env);
		_exit(127);
	}
	close(ready[1]);
	cr_assert_eq(read(ready[0], &byte, 1), 0); /* exec closed it */
	close(ready[0]);
	return pid;
}

/* Two daemons on one host never touch each other's processes. */
Test(keeper_sweep, or01_marked_processes_of_this_identity_only)
{
	struct keeper k;
	struct conf_group leaves = { .name = "leaves", .orphans = CONF_ORPHANS_LEAVE };
	struct conf conf = { .groups = &leaves, .n_groups = 1 };
	pid_t ours, other, left;
	int status;

	begin(&k);
	ours = start_marked(k.ledger.h->identity_text, "web:3/7");
	left = start_marked(k.ledger.h->identity_text, "leaves:0/1");
	other = start_marked("0123456789abcdef0123456789abcdef", "web:3/7");
	k.roles[0].pid = left; /* not to be reaped by the sweep under test */
	k.roles[1].pid = other;
	cr_assert_eq(sweep_marked(&k, &conf), 1);
	cr_assert_eq(kill(ours, 0), -1);
	cr_assert_eq(waitpid(left, &status, WNOHANG), 0);
	cr_assert_eq(waitpid(other, &status, WNOHANG), 0);
	cr_assert_eq(leftovers_kill(k.ledger.h->identity_text, NULL, NULL), 1);
	cr_assert_eq(waitpid(left, &status, 0), left);
	kill(other, SIGKILL);
	cr_assert_eq(waitpid(other, &status, 0), other);
}

Test(keeper_sweep, marker_names_the_group)
{
	struct keeper k;
	char group[64];
	pid_t pid;

	begin(&k);
	pid = start_marked(k.ledger.h->identity_text, "a-b_c:12/1");
	cr_assert(leftovers_group_of(k.ledger.h->identity_text, pid, group, sizeof(group)));
	cr_assert_str_eq(group, "a-b_c");
	cr_assert_not(leftovers_group_of("00", pid, group, sizeof(group)));
	cr_assert_not(
		leftovers_group_of(k.ledger.h->identity_text, getpid(), group, sizeof(group)));
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
}
