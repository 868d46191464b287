/*
 * Accepting, the caps, and the clients' list. The list is ordered by activity, so the longest idle
 * client is near its head. Invariant: while accepting is paused, something will resume it: the end
 * of a connection or the resume timer.
 */
#include "lib/varlink_conn.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_BUDGET	32
#define RESUME_SECONDS	1.0
#define IDLE_SECONDS	1.0 /* a client that has just come is not idle yet */
#define CLIENTS_MAX	512
#define CLIENTS_UID_MAX 64

/* --- list --- */

static void list_unlink(struct vl_server *s, struct vl_conn *c)
{
	*(c->prev ? &c->prev->next : &s->first) = c->next;
	*(c->next ? &c->next->prev : &s->last) = c->prev;
	c->prev = c->next = NULL;
}

static void list_append(struct vl_server *s, struct vl_conn *c)
{
	c->prev = s->last;
	*(s->last ? &s->last->next : &s->first) = c;
	s->last = c;
}

void vl_server_add(struct vl_server *s, struct vl_conn *c)
{
	c->active_at = ev_now(s->options.loop);
	list_append(s, c);
	s->clients++;
}

void vl_server_touch(struct vl_server *s, struct vl_conn *c)
{
	c->active_at = ev_now(s->options.loop);
	list_unlink(s, c);
	list_append(s, c);
}

static void pause_accept(struct vl_server *s, bool timer)
{
	s->paused = true;
	ev_io_stop(s->options.loop, &s->accept_io);
	if (timer)
		ev_timer_again(s->options.loop, &s->resume);
}

static void resume_accept(struct vl_server *s)
{
	s->paused = false;
	ev_timer_stop(s->options.loop, &s->resume);
	if (s->reserve_fd < 0)
		s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (s->listen_fd >= 0)
		ev_io_start(s->options.loop, &s->accept_io);
}

void vl_server_remove(struct vl_server *s, struct vl_conn *c)
{
	list_unlink(s, c);
	s->clients--;
	if (s->paused)
		resume_accept(s);
}

/* --- caps --- */

static bool privileged(const struct vl_conn *c)
{
	return c->peer.uid == 0 || c->peer.uid == geteuid();
}

static unsigned clients_of(const struct vl_server *s, uid_t uid)
{
	unsigned n = 0;

	for (const struct vl_conn *c = s->first; c; c = c->next)
		n += c->peer.uid == uid;
	return n;
}

/* Drop the longest idle client (of that uid, or of anyone). False: none is idle. */
static bool drop_idle(struct vl_server *s, const uid_t *uid)
{
	double since = ev_now(s->options.loop) - IDLE_SECONDS;

	for (struct vl_conn *c = s->first; c && c->active_at <= since; c = c->next) {
		if (!vl_conn_idle(c) || (uid && c->peer.uid != *uid))
			continue;
		vl_conn_free(c);
		return true;
	}
	return false;
}

/* Every place is taken by a call in progress: the longest silent one goes, it can come again. Root
 * and our own user last, since they have no cap of their own. */
static bool drop_silent(struct vl_server *s)
{
	double since = ev_now(s->options.loop) - IDLE_SECONDS;
	struct vl_conn *victim = NULL;

	for (struct vl_conn *c = s->first; c && c->active_at <= since; c = c->next)
		if (!victim || (privileged(victim) && !privileged(c)))
			victim = c;
	if (victim)
		vl_conn_free(victim);
	return victim != NULL;
}

/* Over the cap of its uid a new client costs an idle one of the same uid, or it is turned away:
 * it comes again, and nobody else pays for it. */
static void enforce_uid_cap(struct vl_server *s, struct vl_conn *fresh)
{
	uid_t uid = fresh->peer.uid;

	if (privileged(fresh) || clients_of(s, uid) <= s->options.clients_uid_max)
		return;
	if (!drop_idle(s, &uid))
		vl_conn_free(fresh);
}

/* --- accepting --- */

static int accept_one(struct vl_server *s)
{
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

/* No fd is left: the reserved one serves one client, the rest wait for its end (CT12, SP09). */
static void accept_on_reserve(struct vl_server *s)
{
	int fd = -EMFILE;

	if (s->reserve_fd >= 0) {
		close_fd(&s->reserve_fd);
		fd = accept_one(s);
	}
	pause_accept(s, true);
	if (fd >= 0)
		vl_conn_new(s, fd, true);
}

static bool out_of_fds(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOBUFS || err == -ENOMEM;
}

/* False: no more this turn. */
static bool accept_next(struct vl_server *s)
{
	int fd;

	if (s->clients >= s->options.clients_max) {
		struct pollfd p = { s->listen_fd, POLLIN, 0 };

		if (poll(&p, 1, 0) <= 0) /* nobody waits: nobody has to go */
			return false;
		if (!drop_idle(s, NULL) && !drop_silent(s)) {
			pause_accept(s, true);
			return false;
		}
	}
	fd = accept_one(s);
	if (out_of_fds(fd)) {
		accept_on_reserve(s);
		return false;
	}
	if (fd == -EAGAIN || fd == -EWOULDBLOCK)
		return false;
	if (fd < 0) /* ECONNABORTED and the like are about that client; EBADF is caught below */
		return fd != -EBADF && fd != -EINVAL && fd != -ENOTSOCK;
	if (vl_conn_new(s, fd, false) == 0)
		enforce_uid_cap(s, s->last);
	return true;
}

static void on_accept(struct ev_loop *loop, ev_io *w, int events)
{
	struct vl_server *s = w->data;

	for (unsigned n = 0; n < ACCEPT_BUDGET && !s->paused; n++)
		if (!accept_next(s))
			return;
}

static void on_resume(struct ev_loop *loop, ev_timer *w, int events)
{
	resume_accept(w->data);
}

void vl_server_listen(struct vl_server *s, int fd)
{
	ev_io_stop(s->options.loop, &s->accept_io);
	s->listen_fd = fd;
	if (fd < 0)
		return;
	fd_set_nonblock(fd, true);
	ev_io_set(&s->accept_io, fd, EV_READ);
	resume_accept(s);
}

/* --- clients that left while we do not read from them --- */

/* EPOLLHUP is reported for events = 0 too: both directions are closed (unix(7), epoll_ctl(2)). */
void vl_server_watch_hup(struct vl_server *s, struct vl_conn *c, bool on)
{
	struct epoll_event event = { .events = 0, .data.ptr = c };

	if (on == c->hup_on || s->hup_fd < 0)
		return;
	if (epoll_ctl(s->hup_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, c->fd, &event) == 0 || !on)
		c->hup_on = on;
}

static void on_hup(struct ev_loop *loop, ev_io *w, int events)
{
	struct vl_server *s = w->data;
	struct epoll_event event;

	/* One an iteration: serving it may free others. The fd stays readable for the rest. */
	if (epoll_wait(s->hup_fd, &event, 1, 0) == 1)
		vl_conn_hup(event.data.ptr);
}

/* --- birth and death --- */

int vl_server_new(const struct vl_server_options *options, struct vl_server **ret)
{
	struct vl_server *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->options = *options;
	if (s->options.clients_max == 0)
		s->options.clients_max = CLIENTS_MAX;
	if (s->options.clients_uid_max == 0)
		s->options.clients_uid_max = CLIENTS_UID_MAX;
	s->listen_fd = -1;
	s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	s->hup_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->hup_fd < 0) {
		close_fd(&s->reserve_fd);
		free(s);
		return -EMFILE;
	}
	ev_io_init(&s->accept_io, on_accept, -1, EV_READ);
	ev_io_init(&s->hup_io, on_hup, s->hup_fd, EV_READ);
	ev_timer_init(&s->resume, on_resume, 0, RESUME_SECONDS);
	s->accept_io.data = s->hup_io.data = s->resume.data = s;
	ev_io_start(s->options.loop, &s->hup_io);
	*ret = s;
	return 0;
}

void vl_server_free(struct vl_server *s)
{
	if (!s)
		return;
	vl_server_listen(s, -1);
	while (s->first)
		vl_conn_free(s->first);
	ev_timer_stop(s->options.loop, &s->resume);
	ev_io_stop(s->options.loop, &s->hup_io);
	close_fd(&s->reserve_fd);
	close_fd(&s->hup_fd);
	free(s);
}

unsigned vl_server_clients(const struct vl_server *s)
{
	return s->clients;
}

unsigned vl_server_calls(const struct vl_server *s)
{
	return s->calls;
}

int vl_server_adopt(struct vl_server *s, int fd)
{
	return vl_conn_new(s, fd, false);
}
