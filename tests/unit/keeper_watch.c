/* Roles that hang are found by work they leave lying; the clock is ours to turn. */
#include "keeper/keeper.h"

#include "base/clock.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint8_t identity[16] = { 1 };
static const struct keeper_options options = { .forced_level = -1 };

static pid_t start_role(struct keeper *k, enum role_kind kind, const char *name)
{
	pid_t pid = fork();

	if (pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		for (;;)
			pause();
	}
	k->roles[kind] = (struct role){ .name = name,
					.pid = pid,
					.retry_ms = KEEPER_NEVER,
					.judge_ms = KEEPER_NEVER,
					.abort_ms = KEEPER_NEVER };
	return pid;
}

static void begin(struct keeper *k)
{
	const struct rlimit no_core = { 0, 0 };

	setrlimit(RLIMIT_CORE, &no_core);
	log_init("test", LOG_LEVEL_ERROR);
	*k = (struct keeper){ .options = &options,
			      .signals = -1,
			      .dir = -1,
			      .logger_store = { -1, -1 },
			      .round_ms = KEEPER_NEVER,
			      .ack_ms = KEEPER_NEVER,
			      .gone_ms = KEEPER_NEVER,
			      .log_judge_ms = KEEPER_NEVER };
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	cr_assert_eq(ledger_create(identity, "/r", &k->ledger_fd, &k->ledger), 0);
	cr_assert_eq(logbook_create(&k->book_fd, &k->book), 0);
	for (int i = 0; i < 3; i++)
		k->bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cr_assert_eq(store_init(k), 0);
	start_role(k, ROLE_IS_MANAGER, ROLE_MANAGER);
	start_role(k, ROLE_IS_LOGGER, ROLE_LOGGER);
}

static void end(struct keeper *k)
{
	k->gone_ms = 0; /* no successors */
	role_kill(k, ROLE_IS_MANAGER);
	role_kill(k, ROLE_IS_LOGGER);
	store_fini(k);
	logbook_fini(&k->book);
	ledger_fini(&k->ledger);
}

/* Nothing to do: no clock runs, so nobody is woken. */
Test(keeper_watch, idle_has_no_clock)
{
	struct keeper k;

	begin(&k);
	watch_look(&k);
	cr_assert_eq(watch_due(&k), KEEPER_NEVER);
	end(&k);
}

Test(keeper_watch, the_logger_is_watched_while_it_works)
{
	struct keeper k;
	int64_t now;

	begin(&k);
	/* it rang for a write that is over when we look */
	atomic_store(&k.book.h->watch_asked, 1);
	watch_look(&k);
	cr_assert_eq(atomic_load(&k.book.h->watching), 1);
	cr_assert_eq(atomic_load(&k.book.h->watch_asked), 0);
	now = watch_due(&k);
	cr_assert_neq(now, KEEPER_NEVER);
	atomic_fetch_add(&k.book.h->turns, 1);
	watch_run(&k, now);
	cr_assert_eq(atomic_load(&k.book.h->watching), 1);
	now = watch_due(&k);
	cr_assert_neq(now, KEEPER_NEVER);
	watch_run(&k, now);
	cr_assert_eq(atomic_load(&k.book.h->watching), 0);
	cr_assert_eq(watch_due(&k), KEEPER_NEVER);
	end(&k);
}

Test(keeper_watch, a_write_that_lasts_is_a_hang)
{
	struct keeper k;
	pid_t logger;
	int64_t began;

	begin(&k);
	logger = k.roles[ROLE_IS_LOGGER].pid;
	began = clock_mono_ms();
	atomic_store(&k.book.h->write_sink, 7);
	atomic_store(&k.book.h->write_began_ms, began);
	watch_look(&k);
	cr_assert_eq(watch_due(&k), began + 2000);
	watch_run(&k, began + 1999);
	cr_assert_eq(k.roles[ROLE_IS_LOGGER].pid, logger);
	watch_run(&k, began + 2000);
	cr_assert_eq(kill(logger, 0), -1);
	cr_assert_eq(atomic_load(&k.book.h->hangs), 1);
	cr_assert_eq(atomic_load(&k.book.h->hang_sink), 7);
	cr_assert_eq(atomic_load(&k.book.h->watching), 0);
	cr_assert_neq(roles_due(&k), KEEPER_NEVER);
	end(&k);
}

static int64_t run_when_due(struct keeper *k)
{
	int64_t due = watch_due(k);

	cr_assert_neq(due, KEEPER_NEVER);
	watch_run(k, due);
	return due;
}

Test(keeper_watch, a_manager_that_leaves_its_bell_is_replaced)
{
	struct keeper k;
	struct role *m;
	pid_t pid;
	siginfo_t si;
	int64_t start;

	begin(&k);
	m = &k.roles[ROLE_IS_MANAGER];
	pid = m->pid;
	atomic_store(&k.ledger.h->watchdog_ms, 5000);
	bell_ring(k.bells[1]);
	start = clock_mono_ms();
	watch_look(&k);
	cr_assert_geq(watch_due(&k), start + 5000);
	while (m->abort_ms == KEEPER_NEVER)
		run_when_due(&k);
	cr_assert_eq(m->pid, pid);
	cr_assert_eq(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
	cr_assert_eq(si.si_status, SIGABRT);
	run_when_due(&k);
	cr_assert_eq(m->pid, 0);
	cr_assert_neq(roles_due(&k), KEEPER_NEVER);
	end(&k);
}

Test(keeper_watch, a_busy_manager_is_left_alone)
{
	struct keeper k;
	struct role *m;

	begin(&k);
	m = &k.roles[ROLE_IS_MANAGER];
	bell_ring(k.bells[1]);
	watch_look(&k);
	for (int i = 0; i < 20; i++) {
		atomic_fetch_add(&k.ledger.h->turns, 1);
		run_when_due(&k);
		cr_assert_eq(m->abort_ms, KEEPER_NEVER);
	}
	bell_clear(k.bells[1]);
	run_when_due(&k);
	cr_assert_eq(watch_due(&k), KEEPER_NEVER);
	end(&k);
}

/* NW09: who was late ourselves grants one more period. */
Test(keeper_watch, nw09_late_keeper_judges_nobody)
{
	struct keeper k;
	int64_t due;

	begin(&k);
	bell_ring(k.bells[1]);
	watch_look(&k);
	due = watch_due(&k);
	watch_late(&k, due + 60000);
	cr_assert_eq(watch_due(&k), due + 60000 + 30000);
	cr_assert_gt(atomic_load(&k.ledger.h->late_until_ms), due + 60000);
	end(&k);
}
