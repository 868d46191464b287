/*
 * Owns the queue of requests and the one helper that serves its head. Nothing of it has to outlive
 * the manager: whoever asked loses the connection with us, and a successor ends the helper.
 */
#include "manager/gauge.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "manager/spawn.h"
#include "manager/tree.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#define LOOK_S	 .1
#define STALL_MS 2000  /* in one process: it is left out */
#define TOTAL_MS 10000 /* for a whole request: the rest is left out */
#define KILL_MS	 2000  /* a helper that outlives SIGKILL so long is not waited for */

struct gauge_request {
	struct gauge_request *next;
	struct manager *m;
	struct gauge_table *table;
	size_t bytes;
	int fd;
	gauge_done_fn *done; /* NULL: was called */
	void *arg;
	int64_t began_ms; /* the first helper was started; 0 = not yet */
};

struct gauge {
	struct gauge_request *head, **tail;
	uint32_t life;		      /* of the helper, LEDGER_NONE = none */
	struct gauge_request *served; /* by it: the head, or NULL if that was dropped */
	uint32_t first, at;	      /* rows begun at its start, and at the last look */
	int64_t moved_ms;	      /* it began a row */
	int64_t killed_ms;	      /* asked to be killed; 0 = not */
	ev_timer look, soon;
};

static int by_pid(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return (x > y) - (x < y);
}

_Static_assert(offsetof(struct gauge_row, pid) == 0, "rows are sorted and searched by their pid");
_Static_assert(sizeof(pid_t) == sizeof(int32_t), "pids are compared as they are stored");

/* Sorted, each once. */
static int make_table(struct gauge_request *q, struct pids *pids)
{
	void *map;
	int r;

	if (pids->n > 1)
		qsort(pids->at, pids->n, sizeof(*pids->at), by_pid);
	q->fd = fd_memfd("reeve-gauge", sizeof(*q->table) + pids->n * sizeof(q->table->rows[0]));
	if (q->fd < 0)
		return q->fd;
	r = fd_map(q->fd, &map, &q->bytes);
	if (r < 0)
		return r;
	q->table = map;
	q->table->version = GAUGE_VERSION;
	for (size_t i = 0; i < pids->n; i++)
		if (i == 0 || pids->at[i] != pids->at[i - 1])
			q->table->rows[q->table->n++].pid = pids->at[i];
	return 0;
}

static void request_free(struct gauge_request *q)
{
	if (q->table)
		munmap(q->table, q->bytes);
	close_fd(&q->fd);
	free(q);
}

/* The head is answered as far as it is. */
static void answer(struct manager *m)
{
	struct gauge *g = m->gauge;
	struct gauge_request *q = g->head;
	gauge_done_fn *done = q->done;

	g->head = q->next;
	if (!g->head)
		g->tail = &g->head;
	q->next = NULL;
	q->done = NULL;
	done(q->arg);
}

static void serve(struct manager *m);

/* The helper has ended, or will not even be killed: its row is then freed when it is. */
static void let_go(struct manager *m, bool go_on)
{
	struct gauge *g = m->gauge;
	struct gauge_request *q = g->served;

	g->life = LEDGER_NONE;
	g->served = NULL;
	ev_timer_stop(m->loop, &g->look);
	if (q && !go_on)
		answer(m);
	serve(m);
}

static void end_helper(struct manager *m, int64_t now)
{
	struct gauge *g = m->gauge;

	if (g->killed_ms && now - g->killed_ms >= KILL_MS) {
		let_go(m, false);
		return;
	}
	if (!g->killed_ms) {
		g->killed_ms = now;
		ledger_ask_kill(&m->ledger, g->life, SIGKILL, CONF_TO_MAIN);
		bell_ring(m->bell_keeper);
	}
	ev_timer_again(m->loop, &g->look);
}

static void look(struct ev_loop *loop, ev_timer *t, int events)
{
	struct manager *m = t->data;
	struct gauge *g = m->gauge;
	int64_t now = clock_mono_ms();

	if (g->served && g->at != g->served->table->at) {
		g->at = g->served->table->at;
		g->moved_ms = now;
	}
	/* nobody waits for it any more, or it hangs */
	if (!g->served || now - g->moved_ms >= STALL_MS || now - g->served->began_ms >= TOTAL_MS)
		end_helper(m, now);
	else
		ev_timer_again(m->loop, &g->look);
}

static int start_helper(struct manager *m)
{
	static const char *const argv[] = { ROLE_GAUGE, NULL };
	struct gauge *g = m->gauge;
	struct diag d = { 0 };
	uint32_t row = ledger_take_life(&m->ledger, LIFE_HELPER, LEDGER_NONE);
	int r;

	if (row == LEDGER_NONE)
		return -1;
	ledger_life(&m->ledger, row)->born_ms = clock_mono_ms();
	r = spawn_helper(m, row, argv, g->head->fd, &d);
	if (r < 0) {
		ledger_free_life(&m->ledger, row);
		log_debug("memory cannot be measured: %s", d.text);
		return r;
	}
	g->life = row;
	g->served = g->head;
	g->first = g->at = g->head->table->at;
	g->moved_ms = clock_mono_ms();
	g->killed_ms = 0;
	if (!g->head->began_ms)
		g->head->began_ms = g->moved_ms;
	ev_timer_again(m->loop, &g->look);
	return 0;
}

static void serve(struct manager *m)
{
	struct gauge *g = m->gauge;

	while (g->head && g->life == LEDGER_NONE)
		if (g->head->table->n == 0 || start_helper(m) < 0)
			answer(m);
}

static void serve_soon(struct ev_loop *loop, ev_timer *t, int events)
{
	serve(t->data);
}

static struct gauge *gauge_of(struct manager *m)
{
	struct gauge *g = m->gauge ? m->gauge : calloc(1, sizeof(*g));

	if (!g || m->gauge)
		return g;
	g->tail = &g->head;
	g->life = LEDGER_NONE;
	ev_init(&g->look, look);
	g->look.repeat = LOOK_S;
	ev_timer_init(&g->soon, serve_soon, 0., 0.);
	g->look.data = g->soon.data = m;
	m->gauge = g;
	return g;
}

struct gauge_request *gauge_begin(struct manager *m, struct pids *pids, gauge_done_fn *done,
				  void *arg)
{
	struct gauge *g = gauge_of(m);
	struct gauge_request *q = g ? calloc(1, sizeof(*q)) : NULL;

	if (!q)
		return NULL;
	q->fd = -1;
	q->m = m;
	q->done = done;
	q->arg = arg;
	if (pids->failed || make_table(q, pids) < 0) {
		request_free(q);
		return NULL;
	}
	pids_fini(pids);
	*g->tail = q;
	g->tail = &q->next;
	/* from the loop, so that the answer never comes before we have returned */
	ev_timer_start(m->loop, &g->soon);
	return q;
}

const struct gauge_row *gauge_find(const struct gauge_request *q, pid_t pid)
{
	const struct gauge_row *row =
		q ? bsearch(&pid, q->table->rows, q->table->n, sizeof(q->table->rows[0]), by_pid)
		  : NULL;

	return row && row->known ? row : NULL;
}

void gauge_drop(struct gauge_request *q)
{
	if (!q)
		return;
	if (q->done) { /* in the queue still */
		struct gauge *g = q->m->gauge;
		struct gauge_request **at = &g->head;

		while (*at != q)
			at = &(*at)->next;
		*at = q->next;
		if (g->tail == &q->next)
			g->tail = at;
		if (g->served == q)
			g->served = NULL;
	}
	request_free(q);
}

/* Ended in the middle: the next one goes on behind the process that this one hung in. */
static bool goes_on(const struct gauge *g, const struct gauge_request *q)
{
	return q->table->at < q->table->n && q->table->at != g->first &&
	       clock_mono_ms() - q->began_ms < TOTAL_MS;
}

bool gauge_helper_ended(struct manager *m, uint32_t row)
{
	struct gauge *g = m->gauge;
	struct gauge_request *q;

	if (!g || g->life != row)
		return false;
	q = g->served;
	tree_remove(m, row);
	ledger_free_life(&m->ledger, row);
	let_go(m, q && goes_on(g, q));
	return true;
}

void gauge_fini(struct manager *m)
{
	if (!m->gauge)
		return;
	ev_timer_stop(m->loop, &m->gauge->look);
	ev_timer_stop(m->loop, &m->gauge->soon);
	free(m->gauge);
	m->gauge = NULL;
}
