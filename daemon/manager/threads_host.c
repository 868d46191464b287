/*
 * Which hosts there should be, level-triggered: one for each group of threads of which a slot is
 * wanted; it ends after its last slot. New code or another configuration means a new process, so
 * that all slots are renewed together.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "manager/template.h"
#include "manager/threads.h"
#include "manager/worker.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define CRASH_BYTES 65536 /* stacks of many threads */

bool threads_host_busy(const struct worker *host)
{
	const struct group *g = host->group;

	for (uint32_t i = 0; i < g->n_workers; i++)
		if (g->workers[i] && threads_has(g->workers[i]))
			return true;
	return false;
}

static bool is_current(const struct worker *host)
{
	return host->slot->w.generation == host->group->row->generation;
}

bool threads_renews(const struct group *g)
{
	return !group_threads(g->conf) || (g->host && is_current(g->host));
}

bool threads_blocks(const struct worker *w)
{
	const struct group *g = w->group;
	const struct worker *host = g->host;

	if (!group_threads(g->conf) || w->slot->kind != SLOT_WORKER)
		return false;
	if (host && host->slot->w.state == WS_QUARANTINED)
		return false; /* it will hardly come: the start fails, and says why */
	return !host || host->slot->w.state != WS_READY || !host->forker || host->forker->fd < 0 ||
	       !is_current(host);
}

static bool needed(const struct group *g)
{
	if (!group_threads(g->conf) || g->m->ledger.h->phase != PHASE_RUN)
		return false;
	for (uint32_t i = 0; i < g->n_workers; i++)
		if (g->workers[i] && g->workers[i]->slot->w.wanted_up &&
		    g->workers[i]->slot->w.state != WS_DONE)
			return true;
	return false;
}

static void want(struct worker *host, bool up)
{
	if (up && !host->slot->w.wanted_up)
		worker_forget(&host->slot->w);
	host->slot->w.wanted_up = up;
	host->surplus = !up && !group_threads(host->group->conf);
	host->discard = host->discard && host->surplus;
	worker_reconcile(host);
}

/* Its slots first, then the process. */
static void renew(struct group *g)
{
	enum worker_status state = (enum worker_status)g->host->slot->w.state;

	if (is_current(g->host) || g->host->slot->life[0] == LEDGER_NONE ||
	    (state != WS_READY && state != WS_STARTING))
		return;
	for (uint32_t i = 0; i < g->n_workers; i++) {
		struct worker *w = g->workers[i];

		if (w && threads_has(w) &&
		    (w->slot->w.state == WS_READY || w->slot->w.state == WS_STARTING))
			worker_post(w, WI_RENEW);
	}
	if (!threads_host_busy(g->host))
		worker_post(g->host, WI_RENEW);
}

void threads_step(struct manager *m)
{
	for (size_t i = 0; i < m->n_groups; i++) {
		struct group *g = m->groups[i];
		bool up;

		if (!g->host && !group_threads(g->conf))
			continue;
		up = needed(g);
		if (up && !g->host && group_add_host(g) < 0)
			continue;
		if (!g->host)
			continue;
		want(g->host, up || threads_host_busy(g->host));
		if (up)
			renew(g);
	}
}

void threads_host_gone(struct worker *host)
{
	struct group *g = host->group;
	const struct ledger_life *life = worker_life(host);
	int how = life && life->exited ? life->exit_how : CLD_EXITED;
	int status = life && life->exited ? life->exit_status : 0, lost = 0;

	for (uint32_t i = 0; i < g->n_workers; i++) {
		struct worker *w = g->workers[i];

		if (!w || !threads_has(w) || worker_life(w)->exited)
			continue;
		lost += w->slot->w.state == WS_READY || w->slot->w.state == WS_STARTING;
		threads_lost(w, how, status);
	}
	if (lost > 0)
		log_warn("%s: its process is gone, and with it %d slot%s", host->name, lost,
			 lost == 1 ? "" : "s");
}

/* It was not lost with its process: the process was lost with it. */
static void blame(struct worker *w, const struct exit_record *host)
{
	struct ledger_exits *x = ledger_exits(&w->m->ledger, w->row);
	struct exit_record *rec = &x->records[(w->slot->exits - 1) % EXITS_KEPT];

	if (w->slot->exits == 0 || rec->cause != CAUSE_PARENT_GONE ||
	    rec->at_real_us < host->at_real_us)
		return;
	memcpy(rec->lines, host->lines, sizeof(rec->lines));
	rec->lines_len = host->lines_len;
	rec->cause = host->cause;
}

static const char *find_last(const char *text, const char *word)
{
	const char *found = NULL;

	for (; (text = strstr(text, word)); text++)
		found = text;
	return found;
}

/* Both runtimes write the name of the slot that a crash happened in: reeve-runner in its last line,
 * Python in the stack of the thread that it calls the current one. */
static struct worker *named_in(const struct group *g, const char *text)
{
	const char *line = find_last(text, "reeve-runner: ");
	const char *at = line ? line : find_last(text, "Current thread");
	char name[CONF_GROUP_NAME_MAX + 2];
	unsigned index;

	snprintf(name, sizeof(name), "%s:", g->row->name);
	at = at ? strstr(at, name) : NULL;
	if (!at || sscanf(at + strlen(name), "%5u", &index) != 1 || index >= g->n_workers)
		return NULL;
	return g->workers[index];
}

void threads_last_words(struct worker *host, const struct exit_record *rec)
{
	struct worker *w;
	char *text;
	size_t n;

	if (rec->cause != CAUSE_SIGNAL)
		return;
	text = malloc(CRASH_BYTES + 1);
	if (!text)
		return;
	n = logbook_tail(&host->m->book, host->row, rec->from[0], text, CRASH_BYTES);
	text[n] = '\0';
	for (char *nul = text; (nul = memchr(nul, '\0', n - (size_t)(nul - text)));)
		*nul = ' '; /* what it wrote is no text that ends there */
	w = named_in(host->group, text);
	free(text);
	if (!w)
		return;
	log_error("%s: its process crashed in %s", host->name, w->name);
	blame(w, rec);
}
