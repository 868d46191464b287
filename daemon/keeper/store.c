/*
 * Owns the descriptors that have to outlive manager and logger. They come from the manager by
 * message and go to each new role by inheritance, under our own numbers; the table is therefore
 * kept by fd number. Log pipes are told to the logger as they come; what does not fit its socket
 * waits in a backlog, in order.
 */
#include "keeper/keeper.h"

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Kept free for ourselves; half of it may go to what is not one per worker. */
#define OWN_FDS 24

static bool is_log(uint32_t kind)
{
	return kind == RF_LOG_OUT || kind == RF_LOG_ERR;
}

static bool may_store(const struct store_message *m)
{
	if (m->op > STORE_CLAIM || !memchr(m->name, '\0', sizeof(m->name)))
		return false;
	if (m->op == STORE_CLAIM)
		return m->index < LEDGER_ROWS;
	switch (m->kind) {
	case RF_CONF:
	case RF_CONTROL:
	case RF_SOCKET:
		return true;
	case RF_NOTIFY:
	case RF_CHANNEL:
	case RF_LOG_OUT:
	case RF_LOG_ERR:
		return m->index < LEDGER_ROWS;
	default:
		return false;
	}
}

/* Where the fd number of a slot's pipe is noted for the manager, which reopens it for writing. */
static _Atomic int32_t *noted(struct keeper *k, uint32_t kind, uint32_t slot)
{
	struct ledger_fds *f = ledger_fds(&k->ledger, slot);

	return kind == RF_LOG_OUT ? &f->out : &f->err;
}

static int find(struct keeper *k, uint32_t kind, uint32_t index, const char *name)
{
	struct store *s = &k->store;

	if (is_log(kind))
		return atomic_load(noted(k, kind, index)) - 1;
	for (int fd = 0; fd < s->n; fd++) {
		const struct stored *e = &s->by_fd[fd];

		if (e->kind == kind + 1 && e->index == index &&
		    strcmp(e->name ? e->name : "", name) == 0)
			return fd;
	}
	return -1;
}

int store_get(const struct keeper *k, enum role_fd_kind kind)
{
	for (int fd = 0; fd < k->store.n; fd++) {
		if (k->store.by_fd[fd].kind == kind + 1u)
			return fd;
	}
	return -1;
}

static void count(struct keeper *k, int change)
{
	k->store.count += change;
	atomic_store(&k->ledger.h->fds_room, k->store.limit - k->store.count);
}

/* Without descriptors of our own we could neither start a role nor end the daemon. */
static void set_limit(struct keeper *k)
{
	auto_fd lowest = dup(STDERR_FILENO);
	struct rlimit lim = { .rlim_cur = 1024 };

	getrlimit(RLIMIT_NOFILE, &lim);
	/* all below it are open: stored, or our own */
	k->store.limit =
		(int)MIN_OF(lim.rlim_cur, (rlim_t)INT_MAX) - (lowest - k->store.count) - OWN_FDS;
	count(k, 0);
}

static void refuse(struct keeper *k)
{
	uint32_t dropped;

	if (log_limit_pass(&k->store.refusals, 1, 60000, &dropped))
		log_warn("no descriptors left: what the manager sends is not kept (raise the limit "
			 "on open files)");
}

static void forget(struct keeper *k, int fd)
{
	struct stored *e = &k->store.by_fd[fd];

	if (is_log(e->kind - 1))
		atomic_store(noted(k, e->kind - 1, e->index), 0);
	if (fd == k->store.control) {
		/* The manager's copy would keep it in the set. */
		epoll_ctl(k->epoll, EPOLL_CTL_DEL, fd, NULL);
		k->store.control = -1;
		k->control_armed = false;
	}
	free(e->name);
	*e = (struct stored){ 0 };
	close(fd);
	count(k, -1);
}

static int make_room(struct store *s, int fd)
{
	struct stored *bigger;
	int n = s->n ? s->n : 64;

	if (fd < s->n)
		return 0;
	while (n <= fd)
		n *= 2;
	bigger = realloc(s->by_fd, (size_t)n * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	memset(bigger + s->n, 0, (size_t)(n - s->n) * sizeof(*bigger));
	s->by_fd = bigger;
	s->n = n;
	return 0;
}

static void note_control(struct store *s, int fd)
{
	struct sockaddr_un un = { 0 };
	socklen_t len = sizeof(un) - 1;
	struct stat st;

	s->control_path[0] = '\0';
	if (getsockname(fd, (struct sockaddr *)&un, &len) < 0 || un.sun_path[0] != '/' ||
	    lstat(un.sun_path, &st) < 0)
		return;
	snprintf(s->control_path, sizeof(s->control_path), "%s", un.sun_path);
	s->control_dev = st.st_dev;
	s->control_ino = st.st_ino;
}

static int send_told(struct keeper *k, const struct told *t)
{
	const struct store_message m = { .op = t->op, .kind = t->kind, .index = t->index };
	int fd = t->op == STORE_PUT ? find(k, t->kind, t->index, "") : -1;

	if (t->op == STORE_PUT && fd < 0)
		return 0; /* dropped since; the drop follows */
	return store_send(k->logger_store[0], &m, fd);
}

static void want_room(struct keeper *k, bool want)
{
	struct epoll_event e = { .events = want ? EPOLLOUT : 0, .data.fd = k->logger_store[0] };

	epoll_ctl(k->epoll, EPOLL_CTL_MOD, k->logger_store[0], &e);
}

static void tell_logger(struct keeper *k, uint32_t op, uint32_t kind, uint32_t index)
{
	struct store *s = &k->store;
	const struct told t = { op, kind, index };
	struct told *bigger;

	if (s->n_backlog == 0 && send_told(k, &t) == 0)
		return;
	if (s->n_backlog == s->backlog_size) {
		size_t size = s->backlog_size ? s->backlog_size * 2 : 256;

		bigger = realloc(s->backlog, size * sizeof(*bigger));
		if (!bigger) {
			/* A new logger inherits all that is stored. */
			log_warn("out of memory: replacing the logger");
			role_kill(k, ROLE_IS_LOGGER);
			return;
		}
		s->backlog = bigger;
		s->backlog_size = size;
	}
	s->backlog[s->n_backlog++] = t;
	want_room(k, true);
}

void store_flush(struct keeper *k)
{
	struct store *s = &k->store;
	size_t sent = 0;

	while (sent < s->n_backlog && send_told(k, &s->backlog[sent]) == 0)
		sent++;
	s->n_backlog -= sent;
	memmove(s->backlog, s->backlog + sent, s->n_backlog * sizeof(*s->backlog));
	if (s->n_backlog == 0)
		want_room(k, false);
}

/* Into the table, which owns it then, instead of an older one (-1 = none). */
static int keep(struct keeper *k, const struct store_message *m, int *fd, int old)
{
	char *name = NULL;
	struct stored *e;

	if (make_room(&k->store, *fd) < 0 || (m->name[0] && !(name = strdup(m->name))))
		return -ENOMEM;
	FAIL_HERE(STORE_PUT);
	if (old >= 0)
		forget(k, old);
	e = &k->store.by_fd[*fd];
	*e = (struct stored){ m->kind + 1, m->index, m->aux, name };
	count(k, 1);
	if (is_log(m->kind))
		atomic_store(noted(k, m->kind, m->index), *fd + 1);
	if (m->kind == RF_CONTROL) {
		note_control(&k->store, *fd);
		k->store.control = *fd;
	}
	*fd = -1; /* the table owns it */
	FAIL_HERE(STORE_NOTED);
	return 0;
}

static void put(struct keeper *k, const struct store_message *m, int *fd)
{
	int old = find(k, m->kind, m->index, m->name);

	if (old < 0 && k->store.count >= k->store.limit + OWN_FDS / 2) {
		refuse(k);
		return;
	}
	if (keep(k, m, fd, old) < 0) {
		log_warn("out of memory: a descriptor of the manager is not kept");
		return;
	}
	if (is_log(m->kind))
		tell_logger(k, STORE_PUT, m->kind, m->index);
}

static void drop(struct keeper *k, const struct store_message *m)
{
	int fd = find(k, m->kind, m->index, m->name);

	if (fd < 0)
		return;
	FAIL_HERE(STORE_DROP);
	forget(k, fd);
	if (is_log(m->kind))
		tell_logger(k, STORE_DROP, m->kind, m->index);
}

void store_receive(struct keeper *k)
{
	for (;;) {
		struct store_message m;
		auto_fd fd = -1;
		size_t n_fds = 1;
		ssize_t n = fd_recv(k->store_pair[0], &m, sizeof(m), &fd, &n_fds);

		if (n == -EAGAIN || n == 0)
			return;
		if (n == -EMFILE) {
			refuse(k);
			continue;
		}
		if (n < 0)
			return;
		if (n != sizeof(m) || !may_store(&m) || (m.op != STORE_DROP) != (n_fds == 1)) {
			log_warn("the manager sent something that cannot be kept");
			continue;
		}
		if (m.op == STORE_PUT) {
			put(k, &m, &fd);
			/* after the count has changed: the manager subtracts what is on its way */
			if (is_log(m.kind))
				atomic_fetch_add(&k->ledger.h->pipes_seen, 1);
		}
		if (m.op == STORE_CLAIM)
			claim_take(k, m.index, fd);
		if (m.op == STORE_DROP)
			drop(k, &m);
	}
}

static int pair(int ret[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}

static int watch_fd(struct keeper *k, int fd, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.fd = fd };

	return epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

int store_begin(struct keeper *k)
{
	int err = watch_fd(k, k->store_pair[0], EPOLLIN);

	k->store.control = -1;
	if (err == 0)
		err = store_fresh_logger(k);
	if (err == 0)
		set_limit(k);
	return err;
}

int store_init(struct keeper *k)
{
	int err = pair(k->store_pair);

	if (err == 0)
		err = pair(k->logs_pair);
	return err < 0 ? err : store_begin(k);
}

int store_adopt(struct keeper *k, const struct store_message *m, int fd)
{
	auto_fd mine = fd;

	return m->op == STORE_PUT && may_store(m) ? keep(k, m, &mine, -1) : -EPROTO;
}

void store_adopted(struct keeper *k)
{
	set_limit(k);
}

int store_fresh_logger(struct keeper *k)
{
	int err;

	close_fd(&k->logger_store[0]);
	close_fd(&k->logger_store[1]);
	k->store.n_backlog = 0;
	err = pair(k->logger_store);
	return err < 0 ? err : watch_fd(k, k->logger_store[0], 0);
}

void store_fini(struct keeper *k)
{
	for (int fd = 0; fd < k->store.n; fd++) {
		if (k->store.by_fd[fd].kind)
			forget(k, fd);
	}
	free(k->store.by_fd);
	free(k->store.backlog);
}

/* Who gets what: see roles.h. */
#define M 1u
#define L 2u

static const uint8_t given[RF_KIND_COUNT] = {
	[RF_LEDGER] = M,
	[RF_LOGBOOK] = M | L,
	[RF_LOCK] = M | L,
	[RF_BELL_KEEPER] = M | L,
	[RF_BELL_MANAGER] = M | L,
	[RF_BELL_LOGGER] = M | L,
	[RF_STORE] = M,
	[RF_LOGGER_STORE] = L,
	[RF_LOGS_OUT] = M,
	[RF_LOGS_IN] = L,
	[RF_CONF] = M,
	[RF_CONTROL] = M,
	[RF_SOCKET] = M,
	[RF_NOTIFY] = M,
	[RF_CHANNEL] = M,
	[RF_LOG_OUT] = L,
	[RF_LOG_ERR] = L,
	[RF_COMMAND] = M,
};

static void add_row(struct str *out, int fd, uint32_t kind, uint32_t index, uint32_t aux,
		    const char *name)
{
	struct role_fd row = { .fd = fd, .kind = kind, .index = index, .aux = aux };

	snprintf(row.name, sizeof(row.name), "%s", name ? name : "");
	str_add_bytes(out, &row, sizeof(row));
}

int store_table(struct keeper *k, enum role_kind role)
{
	const struct {
		int fd;
		uint32_t kind;
	} own[] = {
		{ k->ledger_fd, RF_LEDGER },
		{ k->book_fd, RF_LOGBOOK },
		{ k->lock, RF_LOCK },
		{ k->bells[0], RF_BELL_KEEPER },
		{ k->bells[1], RF_BELL_MANAGER },
		{ k->bells[2], RF_BELL_LOGGER },
		{ k->store_pair[1], RF_STORE },
		{ k->logger_store[1], RF_LOGGER_STORE },
		{ k->logs_pair[0], RF_LOGS_OUT },
		{ k->logs_pair[1], RF_LOGS_IN },
		{ k->run.mode == RUN_NONE ? -1 : k->run.command, RF_COMMAND },
	};
	const uint32_t mask = role == ROLE_IS_MANAGER ? M : L;
	struct role_fd_table head = { .version = ROLE_FDS_VERSION };
	auto_str out = { 0 };
	auto_fd fd = fd_memfd("reeve-fds", 0);
	int err;

	if (fd < 0)
		return fd;
	str_add_bytes(&out, &head, sizeof(head));
	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		if (own[i].fd >= 0 && (given[own[i].kind] & mask))
			add_row(&out, own[i].fd, own[i].kind, 0, 0, NULL);
	}
	for (int i = 0; i < k->store.n; i++) {
		const struct stored *e = &k->store.by_fd[i];

		if (e->kind && (given[e->kind - 1] & mask))
			add_row(&out, i, e->kind - 1, e->index, e->aux, e->name);
	}
	if (out.failed)
		return -ENOMEM;
	head.n = (uint32_t)((out.len - sizeof(head)) / sizeof(struct role_fd));
	memcpy(out.data, &head, sizeof(head));
	err = fd_write_all(fd, out.data, out.len);
	return err < 0 ? err : give_fd(&fd);
}
