/*
 * start_method = "threads": one process, the host, runs a thread for each slot of its group. The
 * host is a slot of its own kind, "web/host", with states, back-off, log, tree and channel like a
 * template (template.h). A worker of the group has no process of its own: its life (LIFE_THREAD)
 * is begun by START, told by SLOT, ended when asked by STOP. What cannot be asked any more ends
 * with the process, and all slots with it.
 *
 * START and STOP may be sent again at any time: a host answers a START that it has seen with what
 * has become of that incarnation. So a successor asks again, and nothing is done twice.
 *
 *   threads.c       the slots
 *   threads_host.c  the host: when there is to be one, renewal, its end
 *
 * Since 0.2.0.
 */
#ifndef REEVE_MANAGER_THREADS_H
#define REEVE_MANAGER_THREADS_H

#include "lib/channel.h"
#include "manager/manager.h"

struct forker;

static inline bool group_threads(const struct conf_group *c)
{
	return c && c->start_method == CONF_START_THREADS;
}
/* The current life of w is a thread. */
bool threads_has(const struct worker *w);

/* ---- threads.c ---- */
/* Begin the life in `row` of w, bound to its slot. 0, or as spawn_worker(). */
int threads_start(struct worker *w, uint32_t row, struct diag *d);
/* Ask it to end. */
void threads_stop(struct worker *w);
/* It did not, or is to end cold: with its process. */
void threads_kill(struct worker *w);
/* A predecessor may have asked, and may have heard. */
void threads_resume(struct worker *w);
/* It ended with its process, of which how and status (CLD_…) are. */
void threads_lost(struct worker *w, int how, int status);
/* What a host says. -EBADMSG: it made that up. */
int threads_said(struct worker *host, const struct channel_message *m);
int threads_failed(struct worker *host, const struct channel_message *m);
/* "web/host/3": the process that w runs in. */
void threads_source(const struct worker *w, char *ret, size_t size);
/* For the log. */
void threads_say_end(const struct worker *w, const struct worker_end *e);
/* Why w cannot be ended cold: others that are not named by the same request (worker.named) live in
 * its process. NULL: it can. */
const char *threads_company(const struct worker *w);

/* ---- threads_host.c ---- */
/* Make the hosts fit what is wanted. Cheap; called whenever something changed. */
void threads_step(struct manager *m);
/* A slot's life cannot begin yet. */
bool threads_blocks(const struct worker *w);
/* The group's workers may be renewed one by one: their host is of the generation in force. */
bool threads_renews(const struct group *g);
/* A slot lives in it still: it ends after them. */
bool threads_host_busy(const struct worker *host);
/* The host's process has ended and all that it said was heard: so have its slots. */
void threads_host_gone(struct worker *host);
/* Its last words are there: do they name a slot? */
void threads_last_words(struct worker *host, const struct exit_record *rec);

#endif
