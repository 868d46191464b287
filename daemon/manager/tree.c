/*
 * Owns the directory of the daemon's cgroups and the list of leaves that could not be removed yet;
 * trees that are ending are watched by tree_watch.c. A life born in its leaf is judged by the leaf
 * alone, any other by evidence.c; which of both is the life's in_cgroup, so it holds over managers.
 */
#include "manager/trees.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "manager/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

#define KILL_MS	     10 /* within one call; the watch goes on from there (OR08) */
#define QUIET_PASSES 8	/* that met nobody: a short-lived one may slip through several */
#define REMOVALS_MAX 1024

void tree_leaf(const struct manager *m, uint32_t row, char *ret, size_t size)
{
	ledger_leaf(&m->ledger, row, ret, size);
}

/* Names of groups were checked when they were loaded; this is the last gate before a path (SE06).
 */
static bool leaf_is_sane(const char *leaf)
{
	return strncmp(leaf, "w/", 2) == 0 && leaf[2] != '/' && leaf[2] != '.' &&
	       !strstr(leaf, "..") && !strstr(leaf, "//");
}

int trees_leaf(const struct trees *t, uint32_t row, char ret[static TREES_LEAF_BYTES])
{
	if (t->base < 0 || !ledger_life(&t->m->ledger, row)->in_cgroup)
		return -ENOTSUP;
	tree_leaf(t->m, row, ret, TREES_LEAF_BYTES);
	return leaf_is_sane(ret) ? 0 : -EINVAL;
}

/* A start that never was leaves its number to the next one, and with it a leaf in which somebody
 * may still be on his way out: it is not to be removed under the next one. */
static void keep_leaf(struct trees *t, const char *leaf)
{
	for (size_t i = 0; i < t->n_removals; i++) {
		if (strcmp(t->removals[i], leaf) != 0)
			continue;
		memmove(t->removals[i], t->removals[--t->n_removals], TREES_LEAF_BYTES);
		return;
	}
}

int tree_make(struct manager *m, uint32_t row)
{
	struct trees *t = m->trees;
	char leaf[TREES_LEAF_BYTES];

	if (t->base < 0)
		return -ENOTSUP;
	tree_leaf(m, row, leaf, sizeof(leaf));
	if (!leaf_is_sane(leaf))
		return -EINVAL;
	keep_leaf(t, leaf);
	return cgroup_make(t->base, leaf);
}

/* The directory that a leaf was in: refused while there are others, made again with the next. */
static void remove_parent(const struct trees *t, char leaf[static TREES_LEAF_BYTES])
{
	*strrchr(leaf, '/') = '\0';
	unlinkat(t->base, leaf, AT_REMOVEDIR);
}

/* The directory of a group that is gone from the configuration goes with its last leaf. */
static void remove_group(struct trees *t, uint32_t row, char leaf[static TREES_LEAF_BYTES])
{
	const struct ledger_life *life = ledger_life(&t->m->ledger, row);

	if (life->kind == LIFE_WORKER && life->slot < LEDGER_ROWS &&
	    !ledger_group(&t->m->ledger, ledger_slot(&t->m->ledger, life->slot)->group)->configured)
		remove_parent(t, leaf);
}

/* A thread has no process to begin with. */
static bool is_thread(const struct trees *t, uint32_t row)
{
	return ledger_life(&t->m->ledger, row)->kind == LIFE_THREAD;
}

void tree_remove(struct manager *m, uint32_t row)
{
	struct trees *t = m->trees;
	char leaf[TREES_LEAF_BYTES];

	if (t->base < 0 || is_thread(t, row))
		return;
	tree_leaf(m, row, leaf, sizeof(leaf));
	if (!leaf_is_sane(leaf))
		return;
	if (cgroup_remove(t->base, leaf) == 0) {
		remove_group(t, row, leaf);
		return;
	}
	if (t->n_removals < REMOVALS_MAX) {
		memcpy(t->removals[t->n_removals++], leaf, sizeof(leaf));
		if (!ev_is_active(&t->timer))
			trees_look_in(t, TREES_PAUSE_S);
	} /* else the sweep of the next start takes it */
}

void trees_retry_removals(struct trees *t)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->n_removals; i++)
		if (cgroup_remove(t->base, t->removals[i]) < 0)
			memmove(t->removals[kept++], t->removals[i], TREES_LEAF_BYTES);
		else
			remove_parent(t, t->removals[i]); /* whose group may be gone by now */
	t->n_removals = kept;
}

bool tree_is_empty(struct manager *m, uint32_t row)
{
	struct trees *t = m->trees;
	char leaf[TREES_LEAF_BYTES];

	if (is_thread(t, row))
		return true;
	if (trees_leaf(t, row, leaf) == 0)
		return cgroup_populated(t->base, leaf) == 0;
	return evidence_empty(t->evidence, row);
}

/* --- signals --------------------------------------------------------------------------------- */

int tree_take(struct manager *m, uint32_t row, pid_t pid)
{
	struct trees *t = m->trees;
	char leaf[TREES_LEAF_BYTES], file[TREES_LEAF_BYTES + 16], text[24];
	int r = trees_leaf(t, row, leaf);

	if (r < 0 || cgroup_has(t->prefix, leaf, pid))
		return r;
	snprintf(file, sizeof(file), "%s/cgroup.procs", leaf);
	snprintf(text, sizeof(text), "%d", (int)pid);
	return fd_write_at(t->base, file, text);
}

/* A set-id program that a plain user's daemon started (OR07). */
static void say_untouchable(struct trees *t, uint32_t row, const struct proc_stat *s)
{
	const struct ledger_life *life = ledger_life(&t->m->ledger, row);
	struct worker *w = life->kind == LIFE_WORKER ? t->m->by_slot[life->slot] : NULL;
	struct tree_member member = { .uid = 0 };
	uint32_t dropped;

	if (!w)
		return;
	proc_details(s->pid, &member);
	snprintf(w->slot->error, sizeof(w->slot->error),
		 "pid %d (%s) of uid %u may not be signalled", (int)s->pid, s->comm,
		 (unsigned)member.uid);
	if (log_limit_pass(&t->untouchable, 5, 60000, &dropped))
		log_warn("%s: %s%s", w->name, w->slot->error,
			 dropped > 0 ? "; others before it were left unsaid" : "");
}

/* Signal one member whose membership was just established; stopped ones are woken to act on it. */
static bool signal_member(struct trees *t, uint32_t row, const char *leaf, pid_t pid, int signal)
{
	struct proc_stat s;
	uint32_t owner;
	int r;

	/* claimed since the look: a worker that a template forked, not the template's */
	owner = leaf ? LEDGER_NONE : ledger_find_pid(&t->m->ledger, pid);
	if (owner != LEDGER_NONE && owner != row)
		return false;
	if (evidence_is_role(t->m, pid) || proc_stat(pid, &s) < 0 || s.state == 'Z')
		return false;
	/* the start time was read before the leaf: if it still holds at the signal, so does the
	 * leaf */
	if (leaf && !cgroup_has(t->prefix, leaf, pid))
		return false;
	r = proc_signal(pid, s.starttime, signal);
	if (r == -EPERM)
		say_untouchable(t, row, &s);
	if (r < 0)
		return false;
	if (signal != SIGKILL && signal != SIGCONT && (s.state == 'T' || s.state == 't'))
		proc_signal(pid, s.starttime, SIGCONT);
	return true;
}

static int members(struct trees *t, uint32_t row, const char *leaf, int64_t max_age_ms,
		   struct pids *ret)
{
	return leaf ? cgroup_pids(t->base, leaf, ret)
		    : evidence_members(t->evidence, row, max_age_ms, ret);
}

/* One pass over all members, but for those in `done`, who are added to it; number signalled. */
static int signal_pass(struct trees *t, uint32_t row, const char *leaf, int signal,
		       int64_t max_age_ms, struct pids *done)
{
	struct pids pids = { 0 };
	int n = 0;

	members(t, row, leaf, max_age_ms, &pids);
	for (size_t i = 0; i < pids.n; i++) {
		if (pids_have(done, pids.at[i]) || !signal_member(t, row, leaf, pids.at[i], signal))
			continue;
		pids_add(done, pids.at[i]);
		n++;
	}
	pids_fini(&pids);
	return n;
}

static int signal_once(struct trees *t, uint32_t row, const char *leaf, int signal)
{
	struct pids done = { 0 };
	int n = signal_pass(t, row, leaf, signal, 0, &done);

	pids_fini(&done);
	return n;
}

struct refusal {
	struct trees *t;
	uint32_t row;
};

static void refused(void *data, struct proc_stat *s)
{
	const struct refusal *r = data;

	say_untouchable(r->t, r->row, s);
}

/*
 * Who comes up behind a pass: orphans of the killed, and a storm, which forks between any two
 * looks. Adds to `done`; number signalled. A short-lived one may slip through several passes.
 */
static int kill_fresh(struct trees *t, uint32_t row, const char *leaf, struct pids *done)
{
	int64_t end = clock_mono_ms() + KILL_MS;
	struct refusal to = { t, row };
	int sum = 0, quiet = 0;

	while (quiet < QUIET_PASSES && clock_mono_ms() < end) {
		int n = leaf ? signal_pass(t, row, leaf, SIGKILL, 0, done)
			     : evidence_kill(t->evidence, row, done, refused, &to);

		quiet = n > 0 ? 0 : quiet + 1;
		sum += MAX_OF(n, 0);
	}
	return sum;
}

/* The first pass may use a look that is milliseconds old, and a main process without company needs
 * no second one: what either misses is found when the main process has ended. So killing N workers
 * is not O(N * N). */
static int kill_passes(struct trees *t, uint32_t row, const char *leaf)
{
	struct pids done = { 0 };
	int n = signal_pass(t, row, leaf, SIGKILL, EVIDENCE_LOOK_MS, &done);

	if (n != 1 || done.at[0] != (pid_t)t->m->ledger.pids[row])
		n += kill_fresh(t, row, leaf, &done);
	pids_fini(&done);
	return n;
}

static int kill_leaf(struct trees *t, uint32_t row, const char *leaf)
{
	/* looked at before: they may be gone when the call returns */
	bool somebody = cgroup_populated(t->base, leaf) == 1, frozen;
	int n;

	if (t->m->ledger.h->cgroup_kill_ok && cgroup_kill(t->base, leaf) == 0)
		return somebody;
	/* nothing forks while it is frozen; what was signalled dies at the thaw */
	frozen = cgroup_freeze(t->base, leaf, true) == 0;
	n = frozen ? signal_once(t, row, leaf, SIGKILL) : kill_passes(t, row, leaf);
	cgroup_freeze(t->base, leaf, false);
	return n;
}

/* Once more, from the watch. By evidence only the orphans are met: in a storm a look at everything
 * is long. Whether there was somebody who had not been there a moment before. */
bool trees_kill_again(struct trees *t, uint32_t row)
{
	char leaf[TREES_LEAF_BYTES];
	struct pids done = { 0 };
	int n;

	if (trees_leaf(t, row, leaf) == 0) {
		kill_leaf(t, row, leaf);
		return false;
	}
	n = kill_fresh(t, row, NULL, &done);
	if (n > 0)
		n = kill_fresh(t, row, NULL, &done);
	pids_fini(&done);
	return n > 0;
}

int tree_kill(struct manager *m, uint32_t row, int signal)
{
	struct trees *t = m->trees;
	char leaf[TREES_LEAF_BYTES];
	bool in_cgroup = trees_leaf(t, row, leaf) == 0;
	struct watch *w = trees_find_watch(t, row);

	if (w && signal == SIGKILL)
		w->kill = true;
	if (signal == SIGKILL)
		return in_cgroup ? kill_leaf(t, row, leaf) : kill_passes(t, row, NULL);
	/* a handler does not run in a frozen cgroup (SH11) */
	if (in_cgroup && signal != SIGSTOP && cgroup_frozen(t->base, leaf))
		cgroup_freeze(t->base, leaf, false);
	return signal_once(t, row, in_cgroup ? leaf : NULL, signal);
}

bool tree_frozen(struct manager *m, uint32_t row)
{
	char leaf[TREES_LEAF_BYTES];
	uint64_t v;

	return trees_leaf(m->trees, row, leaf) == 0 &&
	       cgroup_value(m->trees->base, leaf, "cgroup.events", "frozen", &v) == 0 && v == 1;
}

void tree_thaw(struct manager *m, uint32_t row)
{
	struct trees *t = m->trees;
	char leaf[TREES_LEAF_BYTES];

	if (trees_leaf(t, row, leaf) == 0 && cgroup_frozen(t->base, leaf))
		cgroup_freeze(t->base, leaf, false);
}

/* --- life of the module ---------------------------------------------------------------------- */

static int open_base(struct trees *t)
{
	const char *path = t->m->ledger.h->cgroup_base;

	if (!*path)
		return 0;
	t->base = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (t->base < 0)
		return -errno;
	if (mkdirat(t->base, "w", 0755) < 0 && errno != EEXIST)
		return -errno;
	cgroup_prefix(t->prefix, sizeof(t->prefix));
	t->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (t->inotify < 0)
		log_warn("no inotify (%s): ends of trees are looked for by a timer",
			 strerror(errno));
	return 0;
}

int trees_init(struct manager *m)
{
	struct trees *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->m = m;
	t->base = t->inotify = -1;
	t->strangers_reaped = m->ledger.h->strangers_reaped;
	t->removals = calloc(REMOVALS_MAX, sizeof(*t->removals));
	r = t->removals ? evidence_new(m, &t->evidence) : -ENOMEM;
	if (r == 0)
		r = open_base(t);
	m->trees = t;
	if (r < 0) {
		trees_fini(m);
		return r;
	}
	trees_start_watching(t);
	return 0;
}

void trees_fini(struct manager *m)
{
	struct trees *t = m->trees;

	if (!t)
		return;
	ev_timer_stop(m->loop, &t->timer);
	ev_io_stop(m->loop, &t->io);
	while (t->watches)
		tree_unwatch(m, t->watches->life);
	drop_fd(&t->inotify);
	drop_fd(&t->base);
	evidence_free(t->evidence);
	free(t->removals);
	free(t);
	m->trees = NULL;
}

int tree_members(struct manager *m, uint32_t row, int64_t max_age_ms, struct pids *ret)
{
	char leaf[TREES_LEAF_BYTES];

	if (is_thread(m->trees, row))
		return 0;
	if (trees_leaf(m->trees, row, leaf) == 0)
		return cgroup_pids(m->trees->base, leaf, ret);
	return evidence_members(m->trees->evidence, row, max_age_ms, ret);
}

int tree_leaf_value(struct manager *m, uint32_t row, const char *file, const char *key,
		    uint64_t *ret)
{
	char leaf[TREES_LEAF_BYTES];
	int r = trees_leaf(m->trees, row, leaf);

	return r < 0 ? r : cgroup_value(m->trees->base, leaf, file, key, ret);
}

int tree_stray_pids(struct manager *m, struct pids *ret)
{
	return evidence_strays(m->trees->evidence, ret);
}
