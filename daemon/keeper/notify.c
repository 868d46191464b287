/*
 * What the service manager is told. The manager says what (ledger header, sd_*), the keeper sends
 * it, being the main pid. The watchdog is fed only while the chain is healthy: a role that hangs
 * or is missing starves it.
 */
#include "keeper/pass.h"

#include "base/clock.h"
#include "base/str.h"
#include "base/systemd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct notifier {
	struct systemd sd;
	uint32_t seq;
	bool ready, stopping, reloading;
	int64_t feed_ms, period_ms; /* watchdog; KEEPER_NEVER = none */
};

void notify_begin(struct keeper *k)
{
	struct notifier *n;
	uint64_t usec = 0;

	if (!getenv("NOTIFY_SOCKET"))
		return;
	n = calloc(1, sizeof(*n));
	if (!n || systemd_open(&n->sd) < 0) {
		log_warn("NOTIFY_SOCKET is set but libsystemd.so.0 cannot be opened: the service "
			 "manager is told nothing");
		free(n);
		return;
	}
	n->feed_ms = KEEPER_NEVER;
	if (n->sd.watchdog(0, &usec) > 0 && usec > 0) {
		n->period_ms = (int64_t)(usec / 2000);
		n->feed_ms = clock_mono_ms();
	}
	k->notifier = n;
}

static uint64_t monotonic_usec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Ready, reloading, stopping: each is said when it begins (and READY again when a reload ends).
 * An upgrade is a reload to the service manager. */
static void add_states(struct notifier *n, const struct ledger_header *h, bool upgrading,
		       struct str *out)
{
	bool reloading = atomic_load(&h->sd_reloading) != 0 || upgrading;

	if (!n->ready && atomic_load(&h->sd_ready)) {
		n->ready = true;
		str_add(out, "READY=1\n");
	}
	if (n->ready && reloading != n->reloading) {
		n->reloading = reloading;
		if (reloading)
			str_addf(out, "RELOADING=1\nMONOTONIC_USEC=%llu\n",
				 (unsigned long long)monotonic_usec());
		else
			str_add(out, "READY=1\n");
	}
	if (!n->stopping && atomic_load(&h->phase) >= PHASE_WARM) {
		n->stopping = true;
		str_add(out, "STOPPING=1\n");
	}
}

static void add_status(struct notifier *n, const struct ledger_header *h, struct str *out)
{
	uint32_t seq = atomic_load(&h->sd_seq);
	unsigned long long extend = atomic_load(&h->sd_extend_usec);
	char status[sizeof(h->sd_status)];

	if (seq == n->seq)
		return;
	n->seq = seq;
	memcpy(status, h->sd_status, sizeof(status));
	status[sizeof(status) - 1] = '\0';
	status[strcspn(status, "\n")] = '\0';
	if (status[0])
		str_addf(out, "STATUS=%s\n", status);
	if (extend)
		str_addf(out, "EXTEND_TIMEOUT_USEC=%llu\n", extend);
}

void notify_look(struct keeper *k)
{
	struct notifier *n = k->notifier;
	auto_str out = { 0 };

	if (!n)
		return;
	add_states(n, k->ledger.h, k->upgrade.stage == UPGRADE_TRIAL, &out);
	add_status(n, k->ledger.h, &out);
	if (out.len > 0 && !out.failed)
		n->sd.notify(0, out.data);
}

int64_t notify_due(const struct keeper *k)
{
	return k->notifier ? k->notifier->feed_ms : KEEPER_NEVER;
}

/* Each role runs and is not being replaced because it hangs. */
static bool chain_is_healthy(const struct keeper *k)
{
	for (int i = 0; i < ROLE_COUNT; i++) {
		if (k->roles[i].pid <= 0 || k->roles[i].abort_ms != KEEPER_NEVER)
			return false;
	}
	return true;
}

void notify_run(struct keeper *k, int64_t now)
{
	struct notifier *n = k->notifier;
	bool ending = k->gone_ms != KEEPER_NEVER;

	n->feed_ms = now + n->period_ms;
	if (ending || chain_is_healthy(k))
		n->sd.notify(0, "WATCHDOG=1");
}

void notify_end(struct keeper *k)
{
	if (k->notifier)
		systemd_close(&k->notifier->sd);
	free(k->notifier);
	k->notifier = NULL;
}

void notify_tell(const struct keeper *k, struct keeper_state *s)
{
	const struct notifier *n = k->notifier;

	if (!n)
		return;
	s->told_ready = n->ready;
	s->told_stopping = n->stopping;
	s->told_reloading = n->reloading;
}

void notify_resume(struct keeper *k, const struct keeper_state *s)
{
	struct notifier *n = k->notifier;

	if (!n)
		return;
	n->ready = s->told_ready;
	n->stopping = s->told_stopping;
	n->reloading = s->told_reloading;
}
