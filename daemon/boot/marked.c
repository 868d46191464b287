/*
 * What an earlier life of this daemon left, known by REEVE_ID in its environment; an environment
 * that cannot be read is unknown and never a match.
 */
#include "boot/boot.h"

#include "base/clock.h"
#include "base/mem.h"
#include "ledger/leftovers.h"

#include <poll.h>

/* They are killed again and again for so long. */
#define SWEEP_MS 5000

static bool spare(void *arg, const char *group)
{
	const struct conf_group *g = conf_find_group(arg, group);

	return g && g->orphans == CONF_ORPHANS_LEAVE;
}

int sweep_marked(struct keeper *k, const struct conf *conf)
{
	int64_t end = clock_mono_ms() + SWEEP_MS;
	int killed, total = 0;

	do {
		killed = leftovers_kill(k->ledger.h->identity_text, spare, (void *)conf);
		total = MAX_OF(total, killed);
		while (reap_round(k) > 0)
			;
		if (killed)
			poll(NULL, 0, 2);
	} while (killed && clock_mono_ms() < end);
	if (killed)
		log_error("%d processes of an earlier life of this daemon survived SIGKILL",
			  killed);
	return total;
}
