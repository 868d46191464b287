/* Claims with real processes: ours, somebody else's child, dead ones. */
#include "keeper/keeper.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint8_t identity[16] = { 1 };

static void begin(struct keeper *k)
{
	*k = (struct keeper){ .round_ms = KEEPER_NEVER, .signals = -1, .store = { .control = -1 } };
	cr_assert_eq(ledger_create(identity, "/r", &k->ledger_fd, &k->ledger), 0);
	for (int i = 0; i < 3; i++)
		k->bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, k->store_pair), 0);
}

static int open_pid(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static pid_t start_child(int code)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (code >= 0)
			_exit(code);
		pause();
		_exit(0);
	}
	return pid;
}

/* The claim goes the way the manager sends it. */
static uint32_t claim(struct keeper *k, int pidfd)
{
	uint32_t row = ledger_take_life(&k->ledger, LIFE_WORKER, 0);

	cr_assert_eq(store_claim(k->store_pair[1], row, pidfd), 0);
	store_receive(k);
	return row;
}

Test(keeper_claim, our_child_is_taken_and_its_exit_recorded)
{
	struct keeper k;
	pid_t pid = start_child(-1);
	auto_fd pidfd = open_pid(pid);
	struct ledger_life *life;
	siginfo_t si;
	uint32_t row;

	begin(&k);
	row = claim(&k, pidfd);
	life = ledger_life(&k.ledger, row);
	cr_assert_eq(life->claim, CLAIM_TAKEN);
	cr_assert_eq(k.ledger.pids[row], (uint32_t)pid);
	kill(pid, SIGKILL);
	waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT);
	cr_assert_eq(reap_round(&k), 1);
	cr_assert(life->exited);
	cr_assert_eq(life->exit_how, CLD_KILLED);
	cr_assert_eq(life->exit_status, SIGKILL);
}

Test(keeper_claim, a_child_that_is_dead_already_keeps_its_status)
{
	struct keeper k;
	pid_t pid = start_child(42);
	auto_fd pidfd = open_pid(pid);
	struct ledger_life *life;
	siginfo_t si;

	waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT);
	begin(&k);
	life = ledger_life(&k.ledger, claim(&k, pidfd));
	cr_assert_eq(life->claim, CLAIM_TAKEN);
	cr_assert(life->exited, "reaped with the claim");
	cr_assert_eq(life->exit_status, 42);
}

Test(keeper_claim, what_is_not_our_child_is_refused)
{
	struct keeper k;
	int up[2];
	pid_t middle, grandchild;
	auto_fd pidfd = -1;
	uint32_t row;

	cr_assert_eq(pipe(up), 0);
	middle = fork();
	if (middle == 0) {
		grandchild = start_child(-1);
		_exit(write(up[1], &grandchild, sizeof(grandchild)) < 0 ? 1 : (pause(), 0));
	}
	cr_assert_eq(read(up[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
	pidfd = open_pid(grandchild);
	begin(&k);
	row = claim(&k, pidfd);
	cr_expect_eq(ledger_life(&k.ledger, row)->claim, CLAIM_REFUSED);
	cr_expect_eq(k.ledger.pids[row], 0);
	kill(grandchild, SIGKILL);
	kill(middle, SIGKILL);
	waitpid(middle, NULL, 0);
}

Test(keeper_claim, ourselves_and_reaped_ones_are_refused)
{
	struct keeper k;
	pid_t pid = start_child(0);
	auto_fd dead = open_pid(pid);
	auto_fd self = open_pid(getpid());

	waitpid(pid, NULL, 0);
	begin(&k);
	cr_expect_eq(ledger_life(&k.ledger, claim(&k, dead))->claim, CLAIM_REFUSED);
	cr_expect_eq(ledger_life(&k.ledger, claim(&k, self))->claim, CLAIM_REFUSED);
}

Test(keeper_claim, one_process_is_never_in_two_rows)
{
	struct keeper k;
	pid_t pid = start_child(-1);
	auto_fd pidfd = open_pid(pid);

	begin(&k);
	cr_expect_eq(ledger_life(&k.ledger, claim(&k, pidfd))->claim, CLAIM_TAKEN);
	cr_expect_eq(ledger_life(&k.ledger, claim(&k, pidfd))->claim, CLAIM_REFUSED);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
