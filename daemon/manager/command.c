/*
 * The command of `reevectl run`, as the manager sees it: its words, its end by an operator's hand,
 * and what a killed keeper leaves on disk. Its start is in spawn_command.c, its end by itself is
 * that of any worker (shutdown.c).
 */
#include "ledger/command.h"

#include "base/mem.h"
#include "manager/worker.h"

#include <fcntl.h>
#include <string.h>

int command_load(struct manager *m, struct diag *d)
{
	int r;

	if (m->ledger.h->run_mode == RUN_NONE)
		return 0;
	r = command_read(role_fds_get(m->fds, RF_COMMAND), &m->command);
	return r < 0 ? diag_set(d, r, "reading the command: %s", strerror(-r)) : 0;
}

/* The one worker there is. */
static const struct worker *only_worker(const struct manager *m)
{
	return m->n_groups && m->groups[0]->n_workers ? m->groups[0]->workers[0] : NULL;
}

void command_step(struct manager *m)
{
	const struct worker *w = m->command ? only_worker(m) : NULL;

	if (w && w->slot->w.state == WS_STOPPED && !w->slot->w.wanted_up &&
	    m->ledger.h->phase == PHASE_RUN)
		op_shutdown(m, false);
}

void command_mourn(struct manager *m)
{
	static const char *const files[] = { "control.sock", "keeper", ".keeper.new", "identity",
					     "lock" };
	const char *path = m->ledger.h->runtime_dir;
	auto_fd dir = -1;

	if (!m->command)
		return;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	for (size_t i = 0; dir >= 0 && i < ARRAY_LEN(files); i++)
		unlinkat(dir, files[i], 0);
	if (dir >= 0)
		unlinkat(dir, "n", AT_REMOVEDIR);
	rmdir(path);
}
