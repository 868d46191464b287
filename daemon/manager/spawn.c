/*
 * Owns the pool of jobs (stack and memory of children that have not exec'ed yet) and the timer that
 * looks whether they have. Invariant: a job is used again only once its child cannot read it any
 * more: it has exec'ed (the kernel cleared ctid) or it is dead.
 */
#include "manager/spawn.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mem.h"
#include "manager/notify.h"
#include "manager/proc.h"
#include "manager/spawn_job.h"
#include "manager/template.h"
#include "manager/tree.h"
#include "manager/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define LOOK_SOON     .001 /* seconds; an exec takes about a millisecond */
#define LOOK_LATER    .02
#define SOON_MS	      50 /* a start that takes longer is looked at less often */
#define GUARD_BYTES   4096
#define JOBS_KEPT_MAX 64

struct spawner {
	struct manager *m;
	struct own_values own;
	struct cloner cloner;
	struct job *in_flight, *pool;
	size_t n_pool;
	struct pids unstored; /* slots whose new pipes the keeper has not stored yet */
	ev_timer timer;
};

static const char *const stage_texts[STAGE_COUNT] = {
	[STAGE_NONE] = "starting",
	[STAGE_FDS] = "closing descriptors",
	[STAGE_SIGNALS] = "resetting signals",
	[STAGE_SESSION] = "making a session",
	[STAGE_STDIO] = "opening standard input and output",
	[STAGE_PASS_FDS] = "passing sockets",
	[STAGE_CGROUP] = "joining its cgroup",
	[STAGE_LIMITS] = "setting limits",
	[STAGE_NICE] = "setting nice",
	[STAGE_OOM] = "setting oom_score_adj",
	[STAGE_GROUPS] = "setting supplementary groups",
	[STAGE_GID] = "setting the group id",
	[STAGE_UID] = "setting the user id",
	[STAGE_UMASK] = "setting umask",
	[STAGE_CWD] = "changing directory to",
	[STAGE_NO_NEW_PRIVS] = "setting no_new_privs",
	[STAGE_PDEATH] = "setting the parent-death signal",
	[STAGE_CHECK] = "looking whether it is still wanted",
	[STAGE_EXEC] = "executing",
	[STAGE_PREPARE] = "preparing the start",
};

const char *spawn_stage_text(enum spawn_stage stage)
{
	return stage < STAGE_COUNT ? stage_texts[stage] : "?";
}

/* --- jobs ------------------------------------------------------------------------------------ */

static void job_free(struct job *job)
{
	if (!job)
		return;
	if (job->stack)
		munmap((char *)job->stack - GUARD_BYTES, JOB_STACK_BYTES + GUARD_BYTES);
	words_fini(&job->env);
	words_fini(&job->argv);
	words_fini(&job->texts);
	free(job);
}

static struct job *job_new(void)
{
	struct job *job = calloc(1, sizeof(*job));
	char *low;

	if (!job)
		return NULL;
	low = mmap(NULL, JOB_STACK_BYTES + GUARD_BYTES, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (low == MAP_FAILED) {
		free(job);
		return NULL;
	}
	job->stack = low + GUARD_BYTES;
	if (mprotect(job->stack, JOB_STACK_BYTES, PROT_READ | PROT_WRITE) < 0) {
		job_free(job);
		return NULL;
	}
	return job;
}

static struct job *take_job(struct spawner *s, uint32_t row)
{
	struct job *job = s->pool;

	if (job) {
		s->pool = job->next;
		s->n_pool--;
	} else {
		job = job_new();
		if (!job)
			return NULL;
	}
	job->row = row;
	job->late_said = false;
	job->born_ms = clock_mono_ms();
	return job;
}

static void drop_held(struct job *job)
{
	while (job->n_held > 0)
		close(job->held[--job->n_held]);
}

static void give_back(struct spawner *s, struct job *job)
{
	drop_held(job);
	if (s->n_pool >= JOBS_KEPT_MAX) {
		job_free(job);
		return;
	}
	job->next = s->pool;
	s->pool = job;
	s->n_pool++;
}

/* --- following ------------------------------------------------------------------------------- */

static struct worker *worker_of(const struct spawner *s, uint32_t row)
{
	const struct ledger_life *life = ledger_life(&s->m->ledger, row);
	struct worker *w;

	if (life->kind != LIFE_WORKER || life->slot >= LEDGER_ROWS)
		return NULL;
	w = s->m->by_slot[life->slot];
	return w && worker_life_row(w) == row ? w : NULL;
}

static bool exec_by_stat(pid_t pid)
{
	struct proc_stat s;

	return proc_stat(pid, &s) == 0 && !(s.flags & PROC_FORKNOEXEC) && s.state != 'Z' &&
	       s.state != 'X';
}

bool spawn_has_execed(struct manager *m, uint32_t row)
{
	const struct ledger_life *life = ledger_life(&m->ledger, row);

	if (life->execed)
		return true;
	if (life->stage_errno || !ledger_life_live(&m->ledger, row))
		return false;
	return exec_by_stat((pid_t)m->ledger.pids[row]);
}

enum flight { FLIES, ENDED, EXECED };

static enum flight flight_of(const struct spawner *s, const struct job *job)
{
	const struct ledger_life *life = ledger_life(&s->m->ledger, job->row);

	if (life->use == LIFE_FREE || s->m->ledger.pids[job->row] != job->pid || life->exited)
		return ENDED;
	if (job->shared) {
		if (life->ctid != 0)
			return FLIES;
		return life->stage_errno ? ENDED : EXECED;
	}
	if (life->stage_errno)
		return ENDED;
	return exec_by_stat((pid_t)job->pid) ? EXECED : FLIES;
}

static void check_deadline(struct spawner *s, struct job *job, int64_t now)
{
	struct worker *w = worker_of(s, job->row);
	const struct ledger_life *life = ledger_life(&s->m->ledger, job->row);

	if (job->late_said || now - job->born_ms < SPAWN_DEADLINE_MS)
		return;
	job->late_said = true;
	log_error("%s: spawn timeout: %s for %d s, killing it", w ? w->name : "helper",
		  spawn_stage_text(life->stage), SPAWN_DEADLINE_MS / 1000);
	if (ledger_ask_kill(&s->m->ledger, job->row, SIGKILL, CONF_TO_MAIN) == 0)
		bell_ring(s->m->bell_keeper);
}

/* Take out of the list what does not fly any more; tell workers afterwards, when the list is whole.
 */
static void look_at_jobs(struct spawner *s)
{
	int64_t now = clock_mono_ms();
	struct pids execed = { 0 };

	for (struct job **at = &s->in_flight; *at;) {
		struct job *job = *at;
		enum flight f = flight_of(s, job);

		if (f == FLIES) {
			check_deadline(s, job, now);
			at = &job->next;
			continue;
		}
		*at = job->next;
		if (f == EXECED) {
			pids_add(&execed, (pid_t)job->row);
		}
		give_back(s, job);
	}
	for (size_t i = 0; i < execed.n; i++) {
		struct worker *w = worker_of(s, (uint32_t)execed.at[i]);

		FAIL_HERE(SPAWN_EXECED);
		if (w)
			worker_execed(w);
		/* after it: who finds it marked does not set its clock again */
		ledger_life(&s->m->ledger, (uint32_t)execed.at[i])->execed = 1;
	}
	pids_fini(&execed);
}

/* Close our copy of pipes that the keeper holds now. */
static void look_at_pipes(struct spawner *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->unstored.n; i++) {
		uint32_t row = (uint32_t)s->unstored.at[i];
		const struct ledger_fds *fds = ledger_fds(&s->m->ledger, row);
		struct worker *w = s->m->by_slot[row];

		if (w && fds->out > 0)
			close_fd(&w->pipe_out);
		if (w && fds->err > 0)
			close_fd(&w->pipe_err);
		if (w && (w->pipe_out >= 0 || w->pipe_err >= 0))
			s->unstored.at[kept++] = (pid_t)row;
	}
	s->unstored.n = kept;
}

static void arm(struct spawner *s)
{
	int64_t youngest = INT64_MIN;
	double pause = LOOK_LATER;

	if (!s->in_flight && s->unstored.n == 0)
		return;
	for (const struct job *job = s->in_flight; job; job = job->next)
		youngest = MAX_OF(youngest, job->born_ms);
	if (s->in_flight && clock_mono_ms() - youngest < SOON_MS)
		pause = LOOK_SOON;
	if (ev_is_active(&s->timer))
		return;
	ev_timer_set(&s->timer, pause, 0.);
	ev_timer_start(s->m->loop, &s->timer);
}

void spawn_poll(struct manager *m)
{
	look_at_jobs(m->spawner);
	look_at_pipes(m->spawner);
	arm(m->spawner);
}

static void timer_fired(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct spawner *s = timer->data;

	spawn_poll(s->m);
}

/* --- starts ---------------------------------------------------------------------------------- */

static void follow(struct spawner *s, struct job *job, pid_t pid)
{
	job->pid = (uint32_t)pid;
	drop_held(job);
	job->next = s->in_flight;
	s->in_flight = job;
	ev_now_update(s->m->loop);
	ev_timer_stop(s->m->loop, &s->timer);
	arm(s);
}

static int start(struct spawner *s, struct job *job, int leaf, struct diag *d)
{
	pid_t pid = FAIL_ERR(SPAWN_CLONE);

	if (pid == 0)
		pid = cloner_clone(&s->cloner, &s->m->ledger, job, leaf);
	FAIL_HERE(SPAWN_CLONED);
	if (pid < 0)
		return diag_set(d, pid, "making the process: %s", strerror(-pid));
	follow(s, job, pid);
	return 0;
}

/* New pipes, until the keeper has them. */
static void note_pipes(struct spawner *s, const struct worker *w)
{
	if (w->pipe_out < 0 && w->pipe_err < 0)
		return;
	pids_add(&s->unstored, (pid_t)w->row);
	arm(s);
}

/* Nobody was born. */
static void undo(struct spawner *s, struct worker *w, struct job *job)
{
	if (w->slot->life[0] == job->row) { /* a spare has neither */
		template_close(w);
		notify_close(w, job->row);
	}
	if (job->plan.life->in_cgroup)
		tree_remove(w->m, job->row);
	job->plan.life->in_cgroup = 0;
	give_back(s, job);
}

int spawn_worker(struct worker *w, uint32_t row, struct diag *d)
{
	struct spawner *s = w->m->spawner;
	struct job *job = take_job(s, row);
	int leaf = -1, r;

	if (!job)
		return diag_set(d, -ENOMEM, "out of memory");
	r = spawn_plan_worker(job, w, &s->own, &leaf, d);
	if (r == 0)
		r = start(s, job, leaf, d);
	if (r == 0 && w->m->command)
		bell_ring(w->m->bell_keeper); /* signals may wait for it */
	note_pipes(s, w);
	if (r < 0)
		undo(s, w, job);
	return r;
}

int spawn_prepare(struct worker *w, uint32_t row, struct job **ret, int *ret_leaf, struct diag *d)
{
	struct spawner *s = w->m->spawner;

	*ret = take_job(s, row);
	if (!*ret)
		return diag_set(d, -ENOMEM, "out of memory");
	return spawn_plan_worker(*ret, w, &s->own, ret_leaf, d);
}

void spawn_prepared(struct worker *w, uint32_t row, struct job *job, bool failed)
{
	struct spawner *s = w->m->spawner;

	if (!job)
		return;
	note_pipes(s, w);
	if (failed)
		undo(s, w, job);
	else
		give_back(s, job);
}

int spawn_helper(struct manager *m, uint32_t row, const char *const *argv, int out_fd,
		 struct diag *d)
{
	struct spawner *s = m->spawner;
	struct job *job = take_job(s, row);
	int leaf = -1, r;

	if (!job)
		return diag_set(d, -ENOMEM, "out of memory");
	r = spawn_plan_helper(job, m, argv, out_fd, &s->own, &leaf, d);
	if (r == 0)
		r = start(s, job, leaf, d);
	if (r < 0) {
		if (job->plan.life->in_cgroup)
			tree_remove(m, row);
		job->plan.life->in_cgroup = 0;
		give_back(s, job);
	}
	return r;
}

bool spawn_describe(const struct manager *m, char *ret, size_t size)
{
	return cloner_describe(&m->spawner->cloner, ret, size);
}

/* --- life of the module ---------------------------------------------------------------------- */

/* We run with the score that workers get by default, so that most children need not set theirs. */
static int own_oom_score(void)
{
	char text[32];

	if (fd_read_at(AT_FDCWD, "/proc/self/oom_score_adj", text, sizeof(text)) < 0)
		return 0;
	if (atoi(text) == 0 || fd_write_at(AT_FDCWD, "/proc/self/oom_score_adj", "0") == 0)
		return 0;
	log_info("oom_score_adj is %d and may not be lowered: workers without a higher one keep it",
		 atoi(text));
	return atoi(text);
}

/* Lives that a predecessor cloned: their memory was its own. */
static void adopt_flights(struct spawner *s)
{
	const struct ledger *l = &s->m->ledger;

	for (uint32_t row = 0; row < l->h->lives_high; row++) {
		struct ledger_life *life = ledger_life(l, row);
		struct job *job;

		if (life->execed || life->handover != HAND_NONE || !ledger_life_live(l, row))
			continue;
		job = take_job(s, row);
		if (!job)
			return; /* life_look() asks spawn_has_execed() */
		job->pid = l->pids[row];
		job->shared = false;
		job->born_ms = life->born_ms;
		job->next = s->in_flight;
		s->in_flight = job;
	}
}

int spawn_init(struct manager *m)
{
	struct spawner *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->m = m;
	s->own.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (s->own.null_fd < 0) {
		int r = -errno;

		free(s);
		return r;
	}
	s->own.nice = getpriority(PRIO_PROCESS, 0);
	s->own.oom = own_oom_score();
	s->own.partial_ids = userns_is_partial();
	cloner_init(&s->cloner);
	ev_init(&s->timer, timer_fired);
	s->timer.data = s;
	m->spawner = s;
	adopt_flights(s);
	arm(s);
	return 0;
}

void spawn_fini(struct manager *m)
{
	struct spawner *s = m->spawner;

	if (!s)
		return;
	ev_timer_stop(m->loop, &s->timer);
	for (struct job *job = s->in_flight, *next; job; job = next) {
		next = job->next;
		/* a child may be running on it: the process is about to end anyway */
		if (flight_of(s, job) != FLIES || !job->shared)
			job_free(job);
	}
	for (struct job *job = s->pool, *next; job; job = next) {
		next = job->next;
		job_free(job);
	}
	pids_fini(&s->unstored);
	close(s->own.null_fd);
	free(s);
	m->spawner = NULL;
}
