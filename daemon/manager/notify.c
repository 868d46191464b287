/*
 * Owns w->notify_fd and its watcher. The socket names the life: what arrives on it is charged to
 * the worker's current incarnation and to nothing else, whatever it claims. A worker that floods
 * costs a bounded share of each loop turn; its senders block, ours never do.
 */
#include "manager/notify.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "manager/spawn.h"
#include "manager/tree.h"
#include "manager/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define DATAGRAM_BYTES 65536 /* a longer one is dropped whole */
#define PER_TURN       32
#define PER_DRAIN      1024 /* more than the kernel queues for one socket */
#define ATTACHED_MAX   64

/* ret_path: as the worker sees it. */
static int path_of(const struct worker *w, uint32_t life, struct sockaddr_un *ret)
{
	const struct ledger_header *h = w->m->ledger.h;
	const struct ledger_life *l = ledger_life(&w->m->ledger, life);
	int n;

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/n/%u.%u.%016" PRIx64, h->runtime_dir,
		     life, l->incarnation, l->token);
	return n >= (int)sizeof(ret->sun_path) ? -ENAMETOOLONG : 0;
}

static int make_directory(const struct worker *w)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/n", w->m->ledger.h->runtime_dir);
	if (mkdir(path, 0711) < 0)
		return errno == EEXIST ? 0 : -errno;
	return chmod(path, 0711) < 0 ? -errno : 0; /* whatever the umask says */
}

/* The mode is right from birth: the inode takes it from the socket (SE01). */
static int bind_at(int fd, const struct sockaddr_un *at)
{
	int r = 0;
	mode_t umask_before;

	if (fchmod(fd, 0600) < 0)
		return -errno;
	umask_before = umask(0077);
	if (FAIL_OR(NOTIFY_BIND, bind(fd, (const struct sockaddr *)at, sizeof(*at))) < 0)
		r = -errno;
	umask(umask_before);
	return r;
}

static uid_t uid_of(const struct worker *w)
{
	const struct conf_group *c = w->group->conf;

	return c && c->user.set ? c->user.uid : geteuid();
}

static int make_socket(struct worker *w, const struct sockaddr_un *at)
{
	auto_fd fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	uid_t uid = uid_of(w);
	int on = 1, r;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return -errno;
	r = bind_at(fd, at);
	if (r == -ENOENT) {
		r = make_directory(w);
		if (r == 0)
			r = bind_at(fd, at);
	}
	if (r == -EADDRINUSE) { /* the same life, tried again by a successor */
		unlink(at->sun_path);
		r = bind_at(fd, at);
	}
	if (r < 0)
		return r;
	/* nobody but us can write in that directory, so the name is still our socket */
	if (uid != geteuid() && lchown(at->sun_path, uid, (gid_t)-1) < 0) {
		r = -errno;
		unlink(at->sun_path);
		return r;
	}
	return give_fd(&fd);
}

static void said_mainpid(struct worker *w, int64_t pid)
{
	struct tree_member *members = NULL;
	uint32_t life = worker_life_row(w);
	bool ours = false;
	ssize_t n;

	if (pid == worker_pid(w) || life == LEDGER_NONE)
		return;
	/* a walk through /proc for each datagram would be a way to keep us busy */
	if (w->mainpid_said)
		return;
	w->mainpid_said = true;
	n = tree_list(w->m, life, 4096, &members);
	for (ssize_t i = 0; i < n && !ours; i++)
		ours = members[i].pid == pid;
	free(members);
	if (ours)
		log_info("%s: says that its main process is %lld now; it ends when pid %d ends all "
			 "the same (see orphans)",
			 w->name, (long long)pid, (int)worker_pid(w));
	else
		log_warn("%s: MAINPID=%lld ignored: no process of its tree", w->name,
			 (long long)pid);
}

/* As much of the text as there is room for, cut between two characters. */
static void store_status(struct worker *w, const char *text, size_t len)
{
	char *at = w->slot->status;
	size_t room = sizeof(w->slot->status) - 1;

	if (len > room) {
		len = room;
		while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
			len--;
	}
	if (len == strlen(at) && memcmp(at, text, len) == 0)
		return;
	memcpy(at, text, len);
	at[len] = '\0';
	w->m->changed = true;
}

static void apply(struct worker *w, const struct notify_message *n)
{
	struct ledger_slot *slot = w->slot;
	const struct ledger_life *life = worker_life(w);

	/* who speaks has exec'ed: the clock of the start must run before it can be extended */
	if (life && !life->execed)
		spawn_poll(w->m);
	if (n->has_status)
		store_status(w, n->status, n->status_len);
	if (n->has_progress) {
		slot->progress_done = n->progress_done;
		slot->progress_total = n->progress_total;
	}
	if (n->has_extend) {
		worker_extend(&slot->w, n->extend_usec, clock_mono_ms());
		worker_arm(w);
	}
	if (n->has_mainpid)
		said_mainpid(w, n->mainpid);
	if (n->has_errno)
		log_debug("%s: says ERRNO=%d (%s)", w->name, n->error_number,
			  strerror(n->error_number));
	if (n->stopping)
		log_debug("%s: says that it is stopping", w->name);
	if (n->ready)
		worker_ready_now(w);
	if (n->has_watchdog_usec)
		watchdog_own(w, n->watchdog_usec);
	if (n->watchdog)
		watchdog_beat(w);
	if (n->trigger)
		watchdog_trigger(w);
}

/* Descriptors are closed at once: a BARRIER's sender waits for just that (NW15). Finds who sent. */
static bool take_control(struct msghdr *msg, struct ucred *ret)
{
	bool known = false;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof(*ret))) {
			memcpy(ret, CMSG_DATA(c), sizeof(*ret));
			known = true;
		} else if (c->cmsg_type == SCM_RIGHTS) {
			size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			for (size_t i = 0; i < n; i++) {
				int fd;

				memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
				close(fd);
			}
		}
	}
	return known;
}

static void refuse(struct worker *w, const char *why, long long detail)
{
	uint32_t dropped;

	if (log_limit_pass(&w->notify_limit, 10, 60000, &dropped))
		log_warn("%s: notification dropped: %s (%lld)%s", w->name, why, detail,
			 dropped > 0 ? "; others before it were left unsaid" : "");
}

/* One datagram; false when none waits. It is looked at, acted on, and only then taken: what a
 * manager that dies had not noted, its successor reads. */
static bool receive(struct worker *w)
{
	char text[DATAGRAM_BYTES];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred)) +
			   CMSG_SPACE(sizeof(int) * ATTACHED_MAX)];
	} control;
	struct iovec iov = { text, sizeof(text) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	struct notify_message n;
	struct ucred from = { .uid = (uid_t)-1 };
	ssize_t len =
		recvmsg(w->notify_fd, &msg, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC | MSG_TRUNC);

	if (len < 0)
		return errno == EINTR;
	if (!take_control(&msg, &from)) {
		refuse(w, "sender unknown", 0);
	} else if (from.uid != 0 && from.uid != w->notify_uid) {
		refuse(w, "sent by another user", (long long)from.uid);
	} else if (msg.msg_flags & MSG_TRUNC) {
		refuse(w, "too long", (long long)len);
	} else {
		FAIL_HERE(NOTIFY_READ);
		notify_parse(text, (size_t)len, &n);
		apply(w, &n);
	}
	FAIL_HERE(NOTIFY_TAKE);
	recv(w->notify_fd, NULL, 0, MSG_DONTWAIT);
	return true;
}

static void readable(struct ev_loop *loop, ev_io *io, int events)
{
	struct worker *w = io->data;

	for (int i = 0; i < PER_TURN && w->notify_fd >= 0 && receive(w); i++)
		;
}

void notify_drain(struct worker *w)
{
	for (int i = 0; i < PER_DRAIN && w->notify_fd >= 0 && receive(w); i++)
		;
}

void notify_adopt(struct worker *w, uint32_t life, int fd)
{
	struct sockaddr_un at;
	struct stat st;

	/* the owner of the name is the user of this life, also after a reload changed the group's
	 */
	w->notify_uid = uid_of(w);
	if (path_of(w, life, &at) == 0 && lstat(at.sun_path, &st) == 0)
		w->notify_uid = st.st_uid;
	w->notify_fd = fd;
	w->mainpid_said = false;
	ledger_life(&w->m->ledger, life)->notify = 1;
	ev_io_init(&w->notify_io, readable, fd, EV_READ);
	w->notify_io.data = w;
	ev_io_start(w->m->loop, &w->notify_io);
}

int notify_path(const struct worker *w, uint32_t life, char *ret_path, size_t size)
{
	struct sockaddr_un at;
	int r = path_of(w, life, &at);

	if (r < 0 || strlen(at.sun_path) >= size)
		return -ENAMETOOLONG;
	strcpy(ret_path, at.sun_path);
	return 0;
}

int notify_open(struct worker *w, uint32_t life, char *ret_path, size_t size)
{
	struct ledger_life *l = ledger_life(&w->m->ledger, life);
	struct sockaddr_un at;
	auto_fd fd = -1;
	int r;

	if (l->token == 0 && getrandom(&l->token, sizeof(l->token), GRND_NONBLOCK) < 0)
		return -errno;
	r = path_of(w, life, &at);
	if (r < 0 || strlen(at.sun_path) >= size)
		return -ENAMETOOLONG;
	fd = make_socket(w, &at);
	if (fd < 0)
		return fd;
	r = FAIL_ERR(NOTIFY_STORE);
	if (r == 0)
		r = store_put(w->m->store, RF_NOTIFY, life, l->incarnation, "", fd);
	FAIL_HERE(NOTIFY_STORED);
	if (r < 0) {
		unlink(at.sun_path);
		return r;
	}
	strcpy(ret_path, at.sun_path);
	notify_adopt(w, life, give_fd(&fd));
	return 0;
}

void notify_close(struct worker *w, uint32_t life)
{
	struct ledger_life *l = ledger_life(&w->m->ledger, life);
	struct sockaddr_un at;

	if (w->notify_fd >= 0) {
		ev_io_stop(w->m->loop, &w->notify_io);
		close_fd(&w->notify_fd);
	}
	if (!l->notify)
		return;
	if (path_of(w, life, &at) == 0)
		unlink(at.sun_path);
	store_drop(w->m->store, RF_NOTIFY, life, "");
	l->notify = 0;
}
