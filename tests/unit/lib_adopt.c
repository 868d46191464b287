/* Adoption: whose child the worker is, and that no end of one is lost. */
#include "lib/adopt.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

ParameterizedTestParameters(lib_adopt, ways)
{
	static enum adopt_way ways[] = { ADOPT_BEST, ADOPT_DOUBLE, ADOPT_CLEAN };

	return cr_make_param_array(enum adopt_way, ways, ARRAY_LEN(ways));
}

/* The test is keeper and template in one. */
static pid_t fork_worker(enum adopt_way way, int code)
{
	struct adopt_result made;
	int r = adopt_fork(way, -1, &made);

	if (r == 0)
		_exit(code);
	cr_assert_eq(r, 1, "%d", r);
	return made.pid;
}

static void expect_end(pid_t pid, int code)
{
	int status;

	cr_assert_eq(waitpid(pid, &status, 0), pid, "its end is lost");
	cr_assert_eq(status, code << 8);
}

ParameterizedTest(enum adopt_way *way, lib_adopt, ways)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, now;
	sigset_t mask;

	cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	for (int i = 0; i < 100; i++)
		expect_end(fork_worker(*way, i), i);
	cr_expect(waitpid(-1, NULL, __WALL) < 0 && errno == ECHILD, "a middle is left");
	/* what the template does about its children is not the worker's */
	sigaction(SIGCHLD, &ignore, NULL);
	for (int i = 0; i < 100; i++) {
		pid_t pid = fork_worker(*way, i);

		cr_expect(kill(pid, 0) == 0 || errno == ESRCH);
	}
	sigaction(SIGCHLD, NULL, &now);
	cr_expect_eq(now.sa_handler, SIG_IGN, "it comes back");
	sigprocmask(SIG_SETMASK, NULL, &mask);
	cr_expect_not(sigismember(&mask, SIGTERM), "the mask comes back");
}

/* A template that ignores SIGCHLD below a keeper that does not: every early end arrives. */
static int be_template(enum adopt_way way, int out)
{
	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < 200; i++) {
		struct adopt_result made;
		int r = adopt_fork(way, -1, &made);

		if (r == 0)
			_exit(7);
		if (r < 0 || write(out, &made.pid, sizeof(made.pid)) < 0)
			return 1;
	}
	return 0;
}

ParameterizedTestParameters(lib_adopt, early_ends)
{
	static enum adopt_way ways[] = { ADOPT_BEST, ADOPT_DOUBLE, ADOPT_CLEAN };

	return cr_make_param_array(enum adopt_way, ways, ARRAY_LEN(ways));
}

ParameterizedTest(enum adopt_way *way, lib_adopt, early_ends)
{
	pid_t template, worker;
	int ends[2];

	cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	template = fork();
	if (template == 0)
		_exit(be_template(*way, ends[1]));
	close(ends[1]);
	for (int i = 0; i < 200; i++) {
		cr_assert_eq(read(ends[0], &worker, sizeof(worker)), (ssize_t)sizeof(worker));
		expect_end(worker, 7);
	}
	expect_end(template, 0);
	close(ends[0]);
}

static void handle(int number)
{
}

/* Bit 0: it says that it has handlers; 1: it has; 2: what was ignored is so still. */
static int signals_of_worker(enum adopt_way way)
{
	struct sigaction handled, ignored;
	struct adopt_result made;
	int r = adopt_fork(way, -1, &made), status;

	if (r == 0) {
		sigaction(SIGUSR1, NULL, &handled);
		sigaction(SIGUSR2, NULL, &ignored);
		_exit(made.has_handlers | (handled.sa_handler == handle) << 1 |
		      (ignored.sa_handler == SIG_IGN) << 2);
	}
	cr_assert_eq(r, 1, "%d", r);
	cr_assert_eq(waitpid(made.pid, &status, 0), made.pid);
	return WEXITSTATUS(status);
}

Test(lib_adopt, handlers_are_left_out_where_that_is_asked_for)
{
	cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	signal(SIGUSR1, handle);
	signal(SIGUSR2, SIG_IGN);
	cr_expect_eq(signals_of_worker(ADOPT_BEST), 7);
	cr_expect_eq(signals_of_worker(ADOPT_DOUBLE), 7);
	cr_expect_eq(signals_of_worker(ADOPT_CLEAN), 4);
}
