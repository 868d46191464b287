/* The worker's decisions, without a process or a clock. Tests carry the failure ids they cover. */
#include "model/worker.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

static int good_codes[] = { 0 };

static const struct conf_restart usual = {
	.when = CONF_WHEN_ALWAYS,
	.delay_ms = 100,
	.max_delay_ms = 1000,
	.reset_after_ms = 10000,
	.window_ms = 600000,
	.retry_ms = 300000,
	.factor = 2.0,
	.jitter = 0.0,
	.limit = 10,
	.success_codes = good_codes,
	.n_success_codes = 1,
};

static struct worker_state up(void)
{
	return (struct worker_state){ .state = WS_READY, .wanted_up = 1, .seed = 7 };
}

Test(model, SH07_stop_is_valid_in_every_state)
{
	for (int s = 0; s < WS_COUNT; s++) {
		struct worker_rule r = worker_rule_for((enum worker_status)s, WI_STOP);

		if (s == WS_STOPPED || s == WS_STOPPING || s == WS_KILLING || s == WS_STUCK)
			cr_expect(!r.allowed, "already on its way: %s", worker_status_name(s));
		else
			cr_expect(r.allowed && (r.next == WS_STOPPED || r.next == WS_STOPPING),
				  "stop while %s", worker_status_name(s));
	}
}

Test(model, SH08_kill_now_is_valid_while_stopping)
{
	cr_expect(worker_rule_for(WS_STOPPING, WI_KILL).next == WS_KILLING);
	cr_expect(worker_rule_for(WS_KILLING, WI_KILL).allowed);
	cr_expect(worker_rule_for(WS_STUCK, WI_KILL).allowed);
}

Test(model, SH12_stuck_is_retried_and_never_started_beside)
{
	cr_expect(worker_rule_for(WS_STUCK, WI_TIMEOUT).next == WS_STUCK);
	cr_expect(!worker_rule_for(WS_STUCK, WI_START).allowed);
	cr_expect(!worker_rule_for(WS_STUCK, WI_GO).allowed);
}

Test(model, RS06_an_end_is_handled_in_every_state_that_has_a_process)
{
	static const enum worker_status with[] = { WS_STARTING, WS_READY, WS_STOPPING, WS_KILLING,
						   WS_STUCK };

	for (size_t i = 0; i < sizeof(with) / sizeof(*with); i++)
		for (int in = WI_END_AGAIN; in <= WI_END_STOPPED; in++)
			cr_expect(worker_rule_for(with[i], in).allowed);
}

Test(model, SP23_only_waiting_leads_to_a_start)
{
	for (int s = 0; s < WS_COUNT; s++)
		for (int in = 0; in < WI_COUNT; in++) {
			struct worker_rule r = worker_rule_for(s, in);

			if (r.allowed && r.effect == DO_SPAWN)
				cr_expect(s == WS_WAITING && in == WI_GO);
		}
}

Test(model, every_state_has_a_name_that_reads_back)
{
	for (int s = 0; s < WS_COUNT; s++)
		cr_expect_eq(worker_status_from_name(worker_status_name(s)), s);
	cr_expect_lt(worker_status_from_name("nonsense"), 0);
}

Test(model, RS12_good_and_bad_ends)
{
	int codes[] = { 0, 3 };
	struct conf_restart r = usual;

	r.success_codes = codes;
	r.n_success_codes = 2;
	for (int code = 0; code < 256; code++) {
		struct worker_end e = { .code = code };

		cr_expect_eq(worker_end_good(&r, &e), code == 0 || code == 3, "code %d", code);
	}
	for (int sig = 1; sig < 32; sig++) {
		struct worker_end e = { .code = -1, .signal = sig };

		cr_expect(!worker_end_good(&r, &e), "signal %d", sig);
	}
}

Test(model, first_restart_after_a_long_life_is_immediate)
{
	struct worker_state w = up();
	int64_t window[CONF_WINDOW_MAX];
	struct worker_end e = { .code = 1, .lived_ms = 10001 };

	cr_expect_eq(worker_decide_end(&w, &usual, &e, window, 1000), WI_END_AGAIN);
	cr_expect_eq(w.restarts, 1);
}

Test(model, RS01_backoff_grows_is_capped_and_ends_in_quarantine)
{
	struct worker_state w = up();
	int64_t window[CONF_WINDOW_MAX], now = 1000, last = 0;
	struct worker_end e = { .code = 1, .lived_ms = 5 };

	for (int i = 0; i < 10; i++) {
		cr_assert_eq(worker_decide_end(&w, &usual, &e, window, now), WI_END_BACKOFF,
			     "end %d", i);
		cr_expect_geq(w.deadline_ms - now, last);
		cr_expect_leq(w.deadline_ms - now, 1000);
		last = w.deadline_ms - now;
		now = w.deadline_ms + 5;
	}
	cr_expect_eq(last, 1000);
	cr_expect_eq(worker_decide_end(&w, &usual, &e, window, now), WI_END_QUARANTINE);
	cr_expect_eq(w.deadline_ms, now + usual.retry_ms);
	cr_expect_eq(w.restarts, 10);
}

Test(model, RS01_a_long_life_does_not_get_round_the_window)
{
	struct worker_state w = up();
	int64_t window[CONF_WINDOW_MAX], now = 0;
	struct worker_end e = { .code = 1, .lived_ms = 11000 };
	enum worker_input in = WI_END_AGAIN;
	int starts = 0;

	while (in != WI_END_QUARANTINE && starts < 100) {
		now += 11000;
		in = worker_decide_end(&w, &usual, &e, window, now);
		starts++;
	}
	cr_expect_eq(starts, 11);
}

Test(model, RS05_jitter_spreads_restarts)
{
	struct conf_restart r = usual;
	int64_t window[CONF_WINDOW_MAX], low = INT64_MAX, high = 0;
	struct worker_end e = { .code = 1, .lived_ms = 5 };

	r.jitter = 0.1;
	r.delay_ms = r.max_delay_ms = 1000;
	for (uint32_t seed = 1; seed <= 500; seed++) {
		struct worker_state w = up();

		w.seed = seed * 2654435761u;
		worker_decide_end(&w, &r, &e, window, 0);
		low = w.deadline_ms < low ? w.deadline_ms : low;
		high = w.deadline_ms > high ? w.deadline_ms : high;
	}
	cr_expect(low >= 900 && low < 920, "low %ld", (long)low);
	cr_expect(high <= 1100 && high > 1080, "high %ld", (long)high);
}

Test(model, RS14_what_we_asked_for_is_not_charged)
{
	struct worker_state w = up();
	int64_t window[CONF_WINDOW_MAX];
	struct worker_end e = { .code = -1, .signal = SIGTERM, .asked = true };

	cr_expect_eq(worker_decide_end(&w, &usual, &e, window, 1000), WI_END_AGAIN);
	cr_expect_eq(w.restarts, 0);
	cr_expect_eq(w.window_n, 0);
	w.wanted_up = 0;
	cr_expect_eq(worker_decide_end(&w, &usual, &e, window, 1000), WI_END_STOPPED);
}

Test(model, restart_when_failure_and_never)
{
	struct conf_restart r = usual;
	int64_t window[CONF_WINDOW_MAX];
	struct worker_end good = { .code = 0 }, bad = { .code = 9 };
	struct worker_state w = up();

	r.when = CONF_WHEN_FAILURE;
	cr_expect_eq(worker_decide_end(&w, &r, &good, window, 0), WI_END_DONE);
	cr_expect_eq(worker_decide_end(&w, &r, &bad, window, 0), WI_END_BACKOFF);
	r.when = CONF_WHEN_NEVER;
	cr_expect_eq(worker_decide_end(&w, &r, &bad, window, 0), WI_END_DONE);
}

Test(model, NW06_ready_notify_and_exit_0_without_ready_is_a_failure)
{
	struct conf_restart r = usual;
	int64_t window[CONF_WINDOW_MAX];
	struct worker_end e = { .code = 0, .not_ready = true };
	struct worker_state w = up();

	r.when = CONF_WHEN_FAILURE;
	cr_expect_eq(worker_decide_end(&w, &r, &e, window, 0), WI_END_BACKOFF);
}

Test(model, no_restart_codes_end_it)
{
	int codes[] = { 78 };
	struct conf_restart r = usual;
	int64_t window[CONF_WINDOW_MAX];
	struct worker_end e = { .code = 78 };
	struct worker_state w = up();

	r.no_restart_codes = codes;
	r.n_no_restart_codes = 1;
	cr_expect_eq(worker_decide_end(&w, &r, &e, window, 0), WI_END_DONE);
}

Test(model, SP08_want_of_means_grows_and_is_not_charged)
{
	struct worker_state w = up();
	int64_t last = 0;

	for (int i = 0; i < 12; i++) {
		int64_t d = worker_no_means_delay(&w);

		cr_expect_leq(d, 10100);
		cr_expect(d + 100 >= last);
		last = d;
	}
	cr_expect_geq(last, 10000);
	cr_expect_eq(w.restarts, 0);
}

Test(model, who_keeps_failing)
{
	struct worker_state w = { .restarts = 2 };

	cr_expect(!worker_keeps_failing(&w));
	w.no_means = 1;
	cr_expect(worker_keeps_failing(&w));
	worker_forget(&w);
	cr_expect(!worker_keeps_failing(&w));
}

Test(model, ladder_walks_its_steps_and_ends)
{
	static const struct conf_step steps[] = { { SIGTERM, CONF_TO_MAIN, 5000 },
						  { SIGINT, CONF_TO_TREE, 2000 } };
	struct worker_state w = up();
	const struct conf_step *s = worker_ladder_begin(&w, steps, 2, 60000, 1000);

	cr_assert_eq(s, &steps[0]);
	cr_expect_eq(w.deadline_ms, 6000);
	s = worker_ladder_next(&w, steps, 2, 6000);
	cr_assert_eq(s, &steps[1]);
	cr_expect_eq(w.deadline_ms, 8000);
	cr_expect_null(worker_ladder_next(&w, steps, 2, 8000));
}

Test(model, NW08_extend_is_capped_and_saturates)
{
	static const struct conf_step steps[] = { { SIGTERM, CONF_TO_MAIN, 1000 } };
	struct worker_state w = up();

	worker_ladder_begin(&w, steps, 1, 10000, 0);
	worker_extend(&w, 3000000, 500);
	cr_expect_eq(w.deadline_ms, 3500);
	worker_extend(&w, UINT64_MAX, 600);
	cr_expect_eq(w.deadline_ms, 10000);
	worker_extend(&w, 1, 700);
	cr_expect_eq(w.deadline_ms, 10000, "never shortened");
}

Test(model, NW09_who_was_told_of_no_watchdog_is_held_to_none)
{
	struct worker_state w = up();

	cr_expect_eq(worker_watchdog(&w, 0, 5000), DURATION_NEVER);
	cr_expect_eq(worker_watchdog(&w, 10000, 5000), 10000, "a shorter one was not told");
	cr_expect_eq(worker_watchdog(&w, 10000, 20000), 20000);
	cr_expect_eq(worker_watchdog(&w, 10000, DURATION_NEVER), DURATION_NEVER);
	worker_watchdog_own(&w, 2000000);
	cr_expect_eq(worker_watchdog(&w, 10000, 20000), 2000);
	cr_expect_eq(worker_watchdog(&w, 10000, DURATION_NEVER), DURATION_NEVER);
}

Test(model, NW08_odd_periods_are_bounded)
{
	static const struct {
		uint64_t usec;
		int64_t ms;
	} rows[] = {
		{ 0, DURATION_NEVER },
		{ 1, CONF_WATCHDOG_MIN_MS },
		{ 999999, CONF_WATCHDOG_MIN_MS },
		{ 1500000, 1500 },
		{ UINT64_MAX - 1, CONF_WATCHDOG_MAX_MS },
		{ UINT64_MAX, DURATION_NEVER },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct worker_state w = up();

		worker_watchdog_own(&w, rows[i].usec);
		cr_expect_eq(worker_watchdog(&w, 10000, 10000), rows[i].ms, "row %zu", i);
	}
}

Test(model, NW09_a_silence_is_watched_from_its_half)
{
	struct worker_state w = up();

	worker_beat(&w, 4000, 6000, 100);
	cr_expect_eq(w.deadline_ms, 4100);
	cr_expect_eq(worker_watch_next(&w, 4000, 100), 2100);
	cr_expect_eq(worker_watch_next(&w, 4000, 2099), 2100);
	cr_expect_eq(worker_watch_next(&w, 4000, 2100), 2600);
	cr_expect_eq(worker_watch_next(&w, 4000, 3900), 4100);
	cr_expect_eq(worker_watch_next(&w, 4000, 5000), 4100);
	worker_beat(&w, 3600000, 0, 100);
	cr_expect_eq(worker_watch_next(&w, 3600000, 1800100), 1801100, "once a second");
	worker_beat(&w, DURATION_NEVER, 6000, 100);
	cr_expect_eq(worker_watch_next(&w, DURATION_NEVER, 200), DURATION_NEVER);
}

Test(model, NW08_a_watchdog_is_extended_within_bounds)
{
	struct worker_state w = up();

	worker_beat(&w, 4000, 6000, 100);
	worker_extend(&w, UINT64_MAX, 200);
	cr_expect_eq(w.deadline_ms, 10100);
	worker_beat(&w, 4000, DURATION_NEVER, 300);
	cr_expect_eq(w.deadline_ms, 4300);
	cr_expect_eq(w.stop_cap_ms, DURATION_NEVER);
}

Test(model, NW09_who_hangs_is_a_failure_whatever_its_code)
{
	static int all[] = { 0, 3 };
	struct conf_restart r = usual;
	struct worker_end e = { .code = 0, .hung = true, .lived_ms = 5 };
	int64_t window[CONF_WINDOW_MAX];
	struct worker_state w = up();

	r.when = CONF_WHEN_FAILURE;
	r.no_restart_codes = all;
	r.n_no_restart_codes = 2;
	cr_expect_not(worker_end_good(&r, &e));
	cr_expect_eq(worker_decide_end(&w, &r, &e, window, 0), WI_END_BACKOFF);
	cr_expect_eq(w.failures, 1);
}

Test(model, RS04_a_clock_that_stands_still_or_jumps_far_decides_the_same)
{
	struct worker_end e = { .code = 1, .lived_ms = 5 };
	int64_t window[CONF_WINDOW_MAX], times[] = { 0, 0, INT64_MAX / 4, INT64_MAX / 4 };
	struct worker_state w = up();

	for (int i = 0; i < 4; i++)
		cr_expect_eq(worker_decide_end(&w, &usual, &e, window, times[i]), WI_END_BACKOFF);
}
