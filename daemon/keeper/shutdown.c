/*
 * Owns the phase: run -> warm -> cold -> gone, only forward. Warm is the manager's work; a manager
 * that does not take note of it is replaced. Cold is ours alone: first the manager goes (it might
 * be about to make a worker), then every tree, then the logger writes what the pipes still hold.
 */
#include "keeper/keeper.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "ledger/leaves.h"

#include <poll.h>
#include <signal.h>

/* A second signal sooner than this is the first one, typed twice (SH04). */
#define SECOND_MS 250
#define ACK_MS	  2000
/* After "gone" the manager answers its clients and ends; the logger writes what is left. */
#define GONE_MS	      500
#define LOGGER_END_MS 2000
#define LOGGER_STARTS 5 /* of such that end before that */
/* Cgroups that were killed are waited for. */
#define EMPTY_WAIT_MS 5000

static const char *const names[] = { "running", "warm", "cold", "gone" };

static void set_phase(struct keeper *k, enum phase phase, const char *why)
{
	struct ledger_header *h = k->ledger.h;
	int64_t now = clock_mono_ms();

	FAIL_HERE(PHASE_TIME);
	atomic_store(&h->phase_ms, now);
	FAIL_HERE(PHASE_SET);
	atomic_store(&h->phase, phase);
	FAIL_HERE(PHASE_TOLD);
	bell_ring(k->bells[1]);
	log_info("%s shutdown%s%s", names[phase], why ? ": " : "", why ? why : "");
	state_say(k, "ending");
}

/* The logger ends by itself once it has written what the pipes held. One that died is replaced also
 * now: only who has read them may say that they are empty. */
static void let_logger_end(struct keeper *k)
{
	struct role *logger = &k->roles[ROLE_IS_LOGGER];
	int64_t end = clock_mono_ms() + LOGGER_END_MS, now;
	uint32_t most = logger->starts + LOGGER_STARTS;

	while (!logger->ended_well && (now = clock_mono_ms()) < end) {
		struct pollfd p = { .fd = k->signals, .events = POLLIN };

		if (logger->pid == 0 && logger->starts == most)
			break;
		if (logger->pid == 0)
			role_start(k, ROLE_IS_LOGGER);
		if (poll(&p, 1, logger->pid ? (int)(end - now) : 10) == 1)
			signals_read(k);
		reap_round(k);
	}
}

/* All trees are gone (or named as survivors): the rest of the daemon ends. */
static void finish(struct keeper *k)
{
	k->done = true;
	role_kill(k, ROLE_IS_MANAGER);
	FAIL_HERE(END_FINISH);
	k->roles[ROLE_IS_LOGGER].ended_well = false;
	atomic_store(&k->book.h->finish, 1);
	bell_ring(k->bells[2]);
	let_logger_end(k);
	if (!k->roles[ROLE_IS_LOGGER].ended_well)
		log_warn("the logger did not finish in %d s: its last lines may be lost",
			 LOGGER_END_MS / 1000);
	FAIL_HERE(END_LOGGER);
	role_kill(k, ROLE_IS_LOGGER);
}

static void end_all(struct keeper *k, bool strays_too)
{
	int left;

	upgrade_settle(k); /* what comes takes longer than any trial */
	k->gone_ms = 0;	   /* no successors from here on */
	FAIL_HERE(END_BEGIN);
	role_kill(k, ROLE_IS_MANAGER);
	FAIL_HERE(END_MANAGER);
	leaves_kill(&k->ledger);
	FAIL_HERE(END_SWEEP);
	left = sweep_children(k, strays_too);
	if (left == 0 && !leaves_empty(&k->ledger, EMPTY_WAIT_MS))
		left = 1;
	if (left) {
		log_error("%d processes survived the cold stop", left);
		k->exit_code = EXIT_SURVIVOR;
	}
	finish(k);
}

static void cold(struct keeper *k)
{
	if (k->exit_code == 0)
		k->exit_code = atomic_load(&k->ledger.h->exit_code);
	end_all(k, true);
}

static void gone(struct keeper *k)
{
	bool leave = atomic_load(&k->ledger.h->stray_leave);

	k->exit_code = atomic_load(&k->ledger.h->exit_code);
	end_all(k, !leave);
}

void shutdown_enter(struct keeper *k, enum phase phase, const char *why)
{
	if (k->done || atomic_load(&k->ledger.h->phase) >= phase)
		return;
	set_phase(k, phase, why);
	notify_look(k);
	if (phase == PHASE_COLD)
		cold(k);
	else
		k->ack_ms = clock_mono_ms() + ACK_MS;
}

void shutdown_signal(struct keeper *k, const char *why)
{
	int64_t now = clock_mono_ms();

	if (k->first_stop_ms == 0) {
		k->first_stop_ms = now;
		shutdown_enter(k, PHASE_WARM, why);
	} else if (now - k->first_stop_ms >= SECOND_MS) {
		shutdown_enter(k, PHASE_COLD, why);
	}
}

void shutdown_look(struct keeper *k)
{
	struct ledger_header *h = k->ledger.h;
	uint32_t want = atomic_load(&h->phase_want), phase = atomic_load(&h->phase);

	if (k->done)
		return;
	if (want > phase && want <= PHASE_COLD) {
		shutdown_enter(k, (enum phase)want, "asked for by the manager");
		if (k->done)
			return;
	}
	if (atomic_load(&h->phase_ack) >= atomic_load(&h->phase))
		k->ack_ms = KEEPER_NEVER;
	if (atomic_load(&h->gone) && phase < PHASE_GONE) {
		set_phase(k, PHASE_GONE, NULL);
		k->gone_ms = clock_mono_ms() + GONE_MS;
	}
}

/* The image before us may have come as far as that; the phase is only forward. */
void shutdown_resume(struct keeper *k)
{
	const struct ledger_header *h = k->ledger.h;

	if (atomic_load(&h->phase) == PHASE_GONE)
		k->gone_ms = atomic_load(&h->phase_ms) + GONE_MS;
}

int64_t shutdown_due(const struct keeper *k)
{
	if (k->gone_ms != KEEPER_NEVER && k->roles[ROLE_IS_MANAGER].pid == 0)
		return 0;
	return MIN_OF(k->ack_ms, k->gone_ms);
}

void shutdown_run(struct keeper *k, int64_t now)
{
	if (k->gone_ms != KEEPER_NEVER) {
		gone(k);
		return;
	}
	shutdown_look(k);
	if (k->done || k->ack_ms == KEEPER_NEVER)
		return;
	log_warn("the manager takes no note of the %s shutdown: replacing it",
		 names[atomic_load(&k->ledger.h->phase)]);
	k->ack_ms = now + ACK_MS;
	role_kill(k, ROLE_IS_MANAGER);
}
