/*
 * One client: its buffers, its turn, its clocks. A turn reads a bounded amount, serves a bounded
 * number of messages, sends what it can and then settles: exactly one place (settle) decides what
 * the connection waits for, or that it is over. Invariant: at most one call is in progress, and
 * while answers beyond VL_OUT_LOW wait for the client no further message is served.
 */
#include "lib/varlink_conn.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STALL_SECONDS (VL_STALL_MS / 1000.0)
#define STALL_BYTES   4096 /* sent within a stall period: it still moves */
#define KEEP_BYTES    4096 /* an empty buffer larger than this is given back */

static void turn(struct vl_conn *c);

static bool call_active(const struct vl_conn *c)
{
	return c->call.request.root != NULL;
}

bool vl_conn_idle(const struct vl_conn *c)
{
	return !call_active(c) && c->in_at == c->in.len && vl_conn_pending(c) == 0;
}

/* --- reading --- */

/* Length of the next whole message (its NUL excluded), or -1. */
static ssize_t next_message(struct vl_conn *c)
{
	const char *nul;

	if (c->in_scanned >= c->in.len)
		return -1;
	nul = memchr(c->in.data + c->in_scanned, '\0', c->in.len - c->in_scanned);
	if (!nul) {
		c->in_scanned = c->in.len;
		return -1;
	}
	c->in_scanned = (size_t)(nul - c->in.data);
	return (ssize_t)(c->in_scanned - c->in_at);
}

static bool in_full(const struct vl_conn *c)
{
	return c->in.len - c->in_at > VL_REQUEST_MAX;
}

/* recv without room for control data: fds and credentials sent along are dropped by the kernel. */
static void read_some(struct vl_conn *c)
{
	char buf[16 << 10];
	size_t got = 0;

	while (!c->eof && !c->broken && !in_full(c) && got < VL_TURN_BYTES) {
		ssize_t n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0) {
			c->eof = true;
			c->gone = c->gone || n < 0;
			return;
		}
		str_add_bytes(&c->in, buf, (size_t)n);
		c->broken = c->broken || c->in.failed;
		got += (size_t)n;
		if ((size_t)n < sizeof(buf))
			return;
	}
}

/* --- writing --- */

static void drop_output(struct vl_conn *c)
{
	str_fini(&c->out);
	c->out_at = 0;
}

static void flush(struct vl_conn *c)
{
	if (c->out.failed)
		c->broken = true;
	while (!c->gone && !c->broken && vl_conn_pending(c) > 0) {
		ssize_t n = send(c->fd, c->out.data + c->out_at, vl_conn_pending(c),
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0) {
			c->gone = true;
			break;
		}
		c->out_at += (size_t)n;
		c->moved += (size_t)n;
	}
	if (c->gone || vl_conn_pending(c) == 0)
		drop_output(c);
	else if (vl_conn_pending(c) > VL_OUT_MAX)
		c->broken = true;
}

/* --- serving --- */

static bool may_serve(const struct vl_conn *c)
{
	return !c->broken && !c->closing && !call_active(c) &&
	       (c->gone || vl_conn_pending(c) < (c->drain ? 1 : VL_OUT_LOW));
}

/* False: no whole message is left, or it has to wait. */
static bool serve_one(struct vl_conn *c)
{
	ssize_t len = next_message(c);

	if (len < 0)
		return false;
	c->drain = vl_call_message(c, c->in.data + c->in_at, (size_t)len) == -EAGAIN;
	if (c->drain)
		return false;
	c->in_at += (size_t)len + 1;
	c->in_scanned = c->in_at;
	c->moved = STALL_BYTES; /* a whole request is progress */
	return true;
}

static void serve(struct vl_conn *c)
{
	for (unsigned n = 0; n < VL_TURN_CALLS && may_serve(c); n++)
		if (!serve_one(c))
			break;
	/* Moving the rest to the front is paid for by as many bytes served. */
	if (c->in_at > 0 && c->in_at >= c->in.len - c->in_at) {
		str_eat(&c->in, c->in_at);
		c->in_scanned -= c->in_at;
		c->in_at = 0;
	}
	if (c->in.len == 0 && c->in.size > KEEP_BYTES) {
		str_fini(&c->in);
		c->in_scanned = 0;
	}
}

/* A message that does not end within the limit: say so, then close. */
static void refuse_long(struct vl_conn *c)
{
	struct vl_fault fault;

	if (call_active(c) || c->closing || !in_full(c) || next_message(c) >= 0)
		return;
	vl_fault_set(&fault, VL_ERROR_INVALID_PARAMETER, "parameter", "message too long");
	vl_put_fault(&c->out, &fault);
	c->closing = true;
}

/* A stream that waited for room has it again. */
static void wake_stream(struct vl_conn *c)
{
	void (*ready)(struct vl_call *, void *) = c->call.ready;

	if (!ready || !call_active(c) || c->broken || vl_conn_pending(c) >= VL_OUT_LOW)
		return;
	c->call.ready = NULL;
	ready(&c->call, c->call.ready_data);
}

/* --- settling --- */

static bool over(struct vl_conn *c)
{
	if (c->broken)
		return true;
	if (c->closing)
		return vl_conn_pending(c) == 0;
	return c->eof && !call_active(c) && vl_conn_pending(c) == 0 && next_message(c) < 0;
}

static void arm_stall(struct vl_conn *c, bool waiting)
{
	struct ev_loop *loop = c->server->options.loop;

	if (!waiting) {
		ev_timer_stop(loop, &c->stall);
		c->moved = 0;
	} else if (!ev_is_active(&c->stall)) {
		c->moved = 0;
		ev_timer_again(loop, &c->stall);
	}
}

static void watch(struct ev_loop *loop, ev_io *io, bool on)
{
	if (on)
		ev_io_start(loop, io);
	else
		ev_io_stop(loop, io);
}

/* Arm exactly what can move this connection on; free it if nothing can. */
static void settle(struct vl_conn *c)
{
	struct ev_loop *loop = c->server->options.loop;
	bool reading, message;

	if (c->gone && call_active(c))
		vl_call_cancel(&c->call);
	if (over(c)) {
		vl_conn_free(c);
		return;
	}
	message = next_message(c) >= 0;
	reading = !c->eof && !c->closing && !in_full(c);
	watch(loop, &c->read_io, reading);
	watch(loop, &c->write_io, vl_conn_pending(c) > 0);
	vl_server_watch_hup(c->server, c, !reading && !c->gone);
	if ((message && may_serve(c)) || (c->call.ready && vl_conn_pending(c) < VL_OUT_LOW))
		ev_timer_start(loop, &c->again);
	/* Half a request, or an answer that nobody takes; a connection on the reserved fd in any
	 * case, others wait for it. */
	arm_stall(c, vl_conn_pending(c) > 0 || c->on_reserve ||
			     (!call_active(c) && !message && c->in.len > c->in_at));
}

static void turn(struct vl_conn *c)
{
	c->in_turn = true;
	vl_server_touch(c->server, c);
	ev_timer_stop(c->server->options.loop, &c->again);
	read_some(c);
	flush(c);
	wake_stream(c);
	serve(c);
	refuse_long(c);
	flush(c);
	c->in_turn = false;
	settle(c);
}

static void on_io(struct ev_loop *loop, ev_io *w, int events)
{
	turn(w->data);
}

static void on_again(struct ev_loop *loop, ev_timer *w, int events)
{
	turn(w->data);
}

static void on_stall(struct ev_loop *loop, ev_timer *w, int events)
{
	struct vl_conn *c = w->data;

	if (c->moved >= STALL_BYTES && !c->on_reserve) {
		c->moved = 0;
		return;
	}
	vl_conn_free(c);
}

void vl_conn_kick(struct vl_conn *c)
{
	if (c->in_turn)
		return;
	flush(c);
	/* Not now: the caller is in the middle of something of its own. */
	ev_timer_start(c->server->options.loop, &c->again);
	watch(c->server->options.loop, &c->write_io, vl_conn_pending(c) > 0);
}

void vl_conn_hup(struct vl_conn *c)
{
	c->gone = true;
	turn(c);
}

/* --- birth and death --- */

/* The kernel's word on who connected. uid -1 is nobody's (SE07). */
static int read_peer(struct vl_conn *c)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	gid_t few[64];

	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	if (cred.uid == (uid_t)-1 || cred.gid == (gid_t)-1)
		return -EPERM;
	c->peer = (struct vl_peer){ .pid = cred.pid, .uid = cred.uid, .gid = cred.gid };
	len = sizeof(few);
	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERGROUPS, few, &len) < 0 && errno != ERANGE)
		return 0; /* before 4.13, or a socket without them: no groups, fewer rights */
	if (len == 0)
		return 0;
	c->groups = malloc(len);
	if (!c->groups)
		return -ENOMEM;
	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERGROUPS, c->groups, &len) < 0)
		return 0;
	c->peer.groups = c->groups;
	c->peer.n_groups = len / sizeof(gid_t);
	return 0;
}

static void init_watchers(struct vl_conn *c)
{
	ev_io_init(&c->read_io, on_io, c->fd, EV_READ);
	ev_io_init(&c->write_io, on_io, c->fd, EV_WRITE);
	ev_timer_init(&c->again, on_again, 0, 0);
	ev_timer_init(&c->stall, on_stall, 0, c->on_reserve ? 5.0 : STALL_SECONDS);
	c->read_io.data = c->write_io.data = c->again.data = c->stall.data = c;
}

int vl_conn_new(struct vl_server *s, int fd, bool on_reserve)
{
	auto_fd own = fd;
	struct vl_conn *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return -ENOMEM;
	c->server = s;
	c->fd = fd;
	c->on_reserve = on_reserve;
	c->call.conn = c;
	err = fd_set_nonblock(fd, true);
	if (err == 0)
		err = read_peer(c);
	if (err < 0) {
		free(c->groups);
		free(c);
		return err;
	}
	init_watchers(c);
	give_fd(&own);
	vl_server_add(s, c);
	settle(c);
	return 0;
}

void vl_conn_free(struct vl_conn *c)
{
	struct ev_loop *loop = c->server->options.loop;

	if (call_active(c))
		vl_call_cancel(&c->call);
	ev_io_stop(loop, &c->read_io);
	ev_io_stop(loop, &c->write_io);
	ev_timer_stop(loop, &c->again);
	ev_timer_stop(loop, &c->stall);
	vl_server_watch_hup(c->server, c, false);
	if (!c->given)
		close_fd(&c->fd);
	vl_server_remove(c->server, c);
	str_fini(&c->in);
	str_fini(&c->out);
	free(c->groups);
	free(c);
}
