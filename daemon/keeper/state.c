/*
 * RUNTIME_DIR/keeper: how the daemon is, for `reevectl` when no manager answers and for the next
 * daemon that waits for the lock.
 */
#include "keeper/keeper.h"

#include "base/clock.h"
#include "base/fd.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void state_say(struct keeper *k, const char *state)
{
	char text[256], now[32];
	int err;

	/* Whatever happens to a role meanwhile: who comes now waits for the end. */
	if (k->ledger.h && atomic_load(&k->ledger.h->phase) > PHASE_RUN)
		state = "ending";
	clock_format(clock_real_us(), now);
	snprintf(text, sizeof(text), "pid=%d\nstate=%s\nmanager=%s\nmanager_pid=%d\nsince=%s\n",
		 (int)getpid(), state, k->manager_word, (int)k->roles[ROLE_IS_MANAGER].pid, now);
	err = fd_replace_at(k->dir, KEEPER_STATE_FILE, text, 0644);
	if (err < 0)
		log_debug("writing %s: %s", KEEPER_STATE_FILE, strerror(-err));
}
