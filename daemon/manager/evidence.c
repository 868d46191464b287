/*
 * Owns one look at the keeper's children. A look counts for a life if the life's exit record was
 * there before the look began: by then the kernel had made its orphans the keeper's children. So
 * one look serves all ends of a loop turn, however many there are.
 */
#include "manager/evidence.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MEMBERS_MAX  65536
#define READINGS_MAX 8
#define PASSES_MAX   4

struct stranger {
	struct proc_stat stat;
	char marker[EVIDENCE_MARKER]; /* read when first needed */
	bool marker_read;
	bool in_between; /* in exec or exit: what it has in its environment cannot be known now */
};

struct evidence {
	struct manager *m;
	bool no_children_file; /* CONFIG_PROC_CHILDREN is off */
	int children;	       /* the keeper's children file; -1: not open */
	int64_t looked_ms;     /* 0: there is no look */
	uint32_t look;	       /* number of the look */
	uint32_t *ended_by;    /* by life row: the look that found its exit record */
	struct stranger *strangers;
	size_t n, room;
	uint32_t *live;	 /* hash set of the pids of live rows */
	uint32_t *ended; /* and of those with an exit record, behind it */
	size_t live_room;
	bool settled; /* nobody ended unseen while it was looked: who is not here is not there */
};

int evidence_new(struct manager *m, struct evidence **ret)
{
	struct evidence *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->m = m;
	e->children = -1;
	e->ended_by = calloc(LEDGER_ROWS, sizeof(*e->ended_by)); /* pages come when used */
	if (!e->ended_by) {
		free(e);
		return -ENOMEM;
	}
	*ret = e;
	return 0;
}

void evidence_free(struct evidence *e)
{
	if (!e)
		return;
	close_fd(&e->children);
	free(e->ended_by);
	free(e->strangers);
	free(e->live);
	free(e);
}

void evidence_stale(struct evidence *e)
{
	e->looked_ms = 0;
}

void evidence_marker(const struct manager *m, uint32_t row, char ret[static EVIDENCE_MARKER])
{
	const struct ledger_life *life = ledger_life(&m->ledger, row);
	const char *identity = m->ledger.h->identity_text;

	if (life->kind == LIFE_WORKER && life->slot < LEDGER_ROWS) {
		char name[LEDGER_SLOT_NAME];

		ledger_slot_name(&m->ledger, ledger_slot(&m->ledger, life->slot), name);
		snprintf(ret, EVIDENCE_MARKER, "%.32s/%s/%u", identity, name, life->incarnation);
	} else {
		snprintf(ret, EVIDENCE_MARKER, "%.32s/+helper:%u/%u", identity, row,
			 life->incarnation);
	}
}

bool evidence_is_role(const struct manager *m, pid_t pid)
{
	const struct ledger_header *h = m->ledger.h;

	return pid <= 1 || pid == h->keeper_pid || pid == h->manager_pid || pid == h->logger_pid ||
	       pid == getpid();
}

static uint32_t *place_of(const struct evidence *e, uint32_t *set, uint32_t pid)
{
	size_t mask = e->live_room - 1, at = (pid * 2654435761u) & mask;

	while (set[at] && set[at] != pid)
		at = (at + 1) & mask;
	return &set[at];
}

/* Pids of live rows into the set, and which rows have an exit record. */
static int note_rows(struct evidence *e)
{
	const struct ledger *l = &e->m->ledger;
	uint32_t high = l->h->lives_high;
	size_t room = 64;

	while (room < 2 * (size_t)high)
		room *= 2;
	if (room > e->live_room) {
		uint32_t *live = realloc(e->live, 2 * room * sizeof(*live));

		if (!live)
			return -ENOMEM;
		e->live = live;
		e->ended = live + room;
		e->live_room = room;
	}
	memset(e->live, 0, 2 * e->live_room * sizeof(*e->live));
	for (uint32_t row = 0; row < high; row++) {
		uint32_t pid = l->pids[row];

		if (pid == 0)
			continue;
		if (ledger_life(l, row)->exited) {
			e->ended_by[row] = e->look;
			*place_of(e, e->ended, pid) = pid;
		} else {
			*place_of(e, e->live, pid) = pid;
		}
	}
	return 0;
}

/* False if it was found dead. */
static bool add_stranger(struct evidence *e, pid_t pid)
{
	struct stranger s = { 0 };

	/* nearly all are workers; of the others: the rows were read before the children, who was
	 * born in between has a row by now */
	if (*place_of(e, e->live, (uint32_t)pid) || evidence_is_role(e->m, pid) ||
	    ledger_find_pid(&e->m->ledger, pid) != LEDGER_NONE)
		return true;
	if (proc_stat(pid, &s.stat) < 0 || s.stat.state == 'Z' || s.stat.state == 'X')
		return false;
	if (e->n == e->room) {
		size_t room = e->room ? e->room * 2 : 16;
		struct stranger *more = realloc(e->strangers, room * sizeof(*more));

		if (!more)
			return false;
		e->strangers = more;
		e->room = room;
	}
	e->strangers[e->n++] = s;
	return true;
}

static int children_by_scan(pid_t pid, struct pids *ret)
{
	struct proc_pair *all = NULL;
	ssize_t n = proc_scan(&all);

	if (n < 0)
		return (int)n;
	for (ssize_t i = 0; i < n; i++)
		if (all[i].ppid == pid)
			pids_add(ret, all[i].pid);
	free(all);
	return ret->failed ? -ENOMEM : 0;
}

static int children_of(struct evidence *e, pid_t pid, struct pids *ret)
{
	int r;

	if (!e->no_children_file) {
		r = proc_children(pid, ret);
		if (r != -ENOTSUP)
			return r;
		e->no_children_file = true;
	}
	return children_by_scan(pid, ret);
}

/* The keeper has one thread: one file says it all. */
static int read_keeper(struct evidence *e, struct pids *ret)
{
	pid_t keeper = e->m->ledger.h->keeper_pid;
	char path[64];

	if (e->children < 0 && !e->no_children_file) {
		snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)keeper, (int)keeper);
		e->children = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	}
	if (e->children < 0 || lseek(e->children, 0, SEEK_SET) < 0)
		return children_of(e, keeper, ret);
	return proc_children_read(e->children, ret);
}

/* *ret_quiet: the keeper says that nobody left while it was read. */
static int read_counted(struct evidence *e, struct pids *ret, bool *ret_quiet)
{
	const struct ledger_header *h = e->m->ledger.h;
	uint64_t done = h->reaps_done, begun = h->reaps_begun;
	int r = read_keeper(e, ret);

	*ret_quiet = done == begun && h->reaps_begun == begun;
	return r;
}

/*
 * All children of the keeper. The kernel's children file leaves out a child when one that stands
 * before it is reaped during the reading (proc_pid_children(5)); that one was in what was read, so
 * two equal readings are complete, and so is one during which nobody was reaped. While too many
 * end, all of /proc is looked at instead.
 */
static int keepers_children(struct evidence *e, struct pids *ret)
{
	pid_t keeper = e->m->ledger.h->keeper_pid;
	struct pids before = { 0 };
	bool settled;
	int r = read_counted(e, ret, &settled);

	for (int i = 0; r == 0 && !settled && !e->no_children_file && i < READINGS_MAX; i++) {
		pids_fini(&before);
		before = *ret;
		*ret = (struct pids){ 0 };
		r = read_counted(e, ret, &settled);
		settled = settled || (ret->n == before.n &&
				      (ret->n == 0 ||
				       memcmp(ret->at, before.at, ret->n * sizeof(*ret->at)) == 0));
	}
	pids_fini(&before);
	if (r < 0 || settled || e->no_children_file)
		return r;
	ret->n = 0;
	return children_by_scan(keeper, ret);
}

/*
 * One pass over all strangers; *dead: on entry who was dead before, on return who is dead now.
 * One that ended after it was listed may have left children, which came up behind the reading:
 * then the pass has not seen all.
 */
static int pass(struct evidence *e, struct pids *dead)
{
	struct pids children = { 0 }, now_dead = { 0 };
	int r = keepers_children(e, &children);

	e->n = 0;
	e->settled = true;
	for (size_t i = 0; r == 0 && i < children.n; i++) {
		pid_t pid = children.at[i];

		if (add_stranger(e, pid))
			continue;
		pids_add(&now_dead, pid);
		if (!*place_of(e, e->ended, (uint32_t)pid) && !pids_have(dead, pid))
			e->settled = false;
	}
	pids_fini(&children);
	pids_fini(dead);
	*dead = now_dead;
	return r;
}

static int look(struct evidence *e)
{
	struct pids dead = { 0 };
	int64_t now = clock_mono_ms();
	int r;

	e->look++;
	e->n = 0;
	e->looked_ms = 0;
	e->settled = false;
	r = note_rows(e);
	for (int i = 0; r == 0 && !e->settled && i < PASSES_MAX; i++)
		r = pass(e, &dead);
	pids_fini(&dead);
	if (r == 0)
		e->looked_ms = now;
	return r;
}

static int look_for(struct evidence *e, uint32_t row)
{
	const struct ledger_life *life = ledger_life(&e->m->ledger, row);

	/* a row that was free in between: what is known of it is of another life */
	if (e->looked_ms > life->born_ms && clock_mono_ms() - e->looked_ms <= EVIDENCE_LOOK_MS &&
	    (!life->exited || e->ended_by[row] == e->look))
		return 0;
	return look(e);
}

/*
 * An empty or unreadable environment says nothing of a process on its way through exec (the new
 * one is not laid out yet) or exit (it is gone, and the file is root's, while what the process has
 * open and locked is not gone yet). And one that has ended since it was listed may have left
 * children behind our back.
 */
static void read_marker(struct evidence *e, struct stranger *s)
{
	int r = proc_marker(s->stat.pid, s->marker, sizeof(s->marker));
	struct proc_stat now;

	s->marker_read = true;
	if (r == 0 && s->marker[0])
		return;
	s->marker[0] = '\0';
	if (proc_stat(s->stat.pid, &now) < 0 || now.starttime != s->stat.starttime ||
	    now.state == 'Z' || now.state == 'X')
		e->settled = false;
	else
		s->in_between = r == -EAGAIN || (now.flags & PROC_EXITING);
}

static bool belongs(struct evidence *e, struct stranger *s, uint32_t row, const char *marker)
{
	pid_t main = (pid_t)e->m->ledger.pids[row];

	if (main > 0 && (s->stat.session == main || s->stat.pgrp == main))
		return true;
	if (!s->marker_read)
		read_marker(e, s);
	return strcmp(s->marker, marker) == 0;
}

bool evidence_empty(struct evidence *e, uint32_t row)
{
	char marker[EVIDENCE_MARKER];

	if (look_for(e, row) < 0 || !e->settled)
		return false;
	if (e->n == 0)
		return true;
	evidence_marker(e->m, row, marker);
	for (size_t i = 0; i < e->n; i++)
		if (belongs(e, &e->strangers[i], row, marker) || e->strangers[i].in_between)
			return false;
	if (!e->settled)
		e->looked_ms = 0; /* found out just now: the next one looks again */
	return e->settled;
}

/* The look may be older than the pid. */
static bool still_there(const struct stranger *s)
{
	struct proc_stat now;

	return proc_stat(s->stat.pid, &now) == 0 && now.starttime == s->stat.starttime;
}

/* Descendants of what is in the list from `at` on; the list grows while it is walked. */
static int add_descendants(struct evidence *e, struct pids *ret, size_t at)
{
	for (; at < ret->n && ret->n < MEMBERS_MAX; at++) {
		int r = children_of(e, ret->at[at], ret);

		if (r < 0 && r != -ESRCH)
			return r;
	}
	return 0;
}

int evidence_members(struct evidence *e, uint32_t row, int64_t max_age_ms, struct pids *ret)
{
	char marker[EVIDENCE_MARKER];
	size_t first = ret->n;
	int r = 0;

	if (e->looked_ms == 0 || clock_mono_ms() - e->looked_ms >= max_age_ms)
		r = look(e);
	if (r < 0)
		return r;
	evidence_marker(e->m, row, marker);
	if (ledger_life_live(&e->m->ledger, row))
		pids_add(ret, (pid_t)e->m->ledger.pids[row]);
	for (size_t i = 0; i < e->n; i++)
		if (belongs(e, &e->strangers[i], row, marker) && still_there(&e->strangers[i]))
			pids_add(ret, e->strangers[i].stat.pid);
	return add_descendants(e, ret, first);
}

/* A stranger that belongs to the life, read just now; NULL if it does not, or is gone. */
static struct stranger *meet(struct evidence *e, pid_t pid, uint32_t row, const char *marker)
{
	e->n = 0;
	if (!add_stranger(e, pid) || e->n == 0)
		return NULL;
	return belongs(e, &e->strangers[0], row, marker) ? &e->strangers[0] : NULL;
}

/* No look: nothing is kept, and nothing need be complete. */
int evidence_kill(struct evidence *e, uint32_t row, struct pids *done,
		  void (*refused)(void *, struct proc_stat *), void *data)
{
	char marker[EVIDENCE_MARKER];
	struct pids children = { 0 };
	int r = note_rows(e), n = 0;

	e->looked_ms = 0;
	if (r == 0)
		r = read_keeper(e, &children);
	evidence_marker(e->m, row, marker);
	/* the youngest stand last: of a storm, those in front have ended by now */
	for (size_t i = children.n; r == 0 && i-- > 0;) {
		struct stranger *s = NULL;
		int error;

		if (!pids_have(done, children.at[i]))
			s = meet(e, children.at[i], row, marker);
		error = s ? proc_signal(s->stat.pid, s->stat.starttime, SIGKILL) : -ESRCH;
		if (error == -EPERM)
			refused(data, &s->stat);
		if (error < 0)
			continue;
		pids_add(done, s->stat.pid);
		n++;
	}
	e->n = 0;
	pids_fini(&children);
	return r < 0 ? r : n;
}

static bool has_owner(struct evidence *e, struct stranger *s)
{
	const struct ledger *l = &e->m->ledger;
	char marker[EVIDENCE_MARKER];

	for (uint32_t row = 0; row < l->h->lives_high; row++) {
		if (ledger_life(l, row)->use == LIFE_FREE)
			continue;
		evidence_marker(e->m, row, marker);
		if (belongs(e, s, row, marker))
			return true;
	}
	return false;
}

int evidence_strays(struct evidence *e, struct pids *ret)
{
	int r = look(e);

	for (size_t i = 0; r == 0 && i < e->n; i++)
		if (!has_owner(e, &e->strangers[i]))
			pids_add(ret, e->strangers[i].stat.pid);
	return r;
}
