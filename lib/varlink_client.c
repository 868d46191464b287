/* A connection, a buffer, and poll(2) with a deadline around both. Invariant: the socket is
 * non-blocking once connected, so every wait ends at the deadline or at the interrupt fd. */
#include "lib/varlink_client.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define READ_BYTES	 (256u << 10)
#define CONNECT_SLICE_MS 250

static int remaining_ms(int64_t deadline_ms)
{
	int64_t left;

	if (deadline_ms == VL_NO_DEADLINE)
		return -1;
	left = deadline_ms - clock_mono_ms();
	return left <= 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

/* 0 when fd has events; -ETIMEDOUT, -EINTR. */
static int wait_for(const struct vl_client *c, short events, int64_t deadline_ms)
{
	for (;;) {
		struct pollfd p[2] = { { c->fd, events, 0 }, { c->interrupt_fd, POLLIN, 0 } };
		int n = poll(p, 2, remaining_ms(deadline_ms));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && p[1].revents)
			return -EINTR;
		if (n > 0)
			return 0;
		if (n == 0 && remaining_ms(deadline_ms) == 0)
			return -ETIMEDOUT;
	}
}

/* True if the caller's fd asks to stop. */
static bool interrupted(const struct vl_client *c)
{
	struct pollfd p = { c->interrupt_fd, POLLIN, 0 };

	return c->interrupt_fd >= 0 && poll(&p, 1, 0) > 0;
}

/*
 * connect(2) of a blocking Unix socket waits for room in the backlog, and the send timeout bounds
 * it (unix(7)): the kernel wakes us in turn, where retrying a non-blocking connect would be a race
 * among thousands of clients.
 */
static int connect_slices(struct vl_client *c, const struct sockaddr_un *address,
			  int64_t deadline_ms)
{
	for (;;) {
		int left = remaining_ms(deadline_ms);
		int slice = left < 0 ? CONNECT_SLICE_MS : MIN_OF(left, CONNECT_SLICE_MS);
		struct timeval tv = { 0, MAX_OF(slice, 1) * 1000 };

		setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
		if (connect(c->fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (interrupted(c))
			return -EINTR;
		if (left == 0)
			return -ETIMEDOUT;
	}
}

int vl_client_connect(struct vl_client *c, const char *path, int64_t deadline_ms)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = strlen(path);
	int err;

	vl_client_close(c);
	if (len == 0)
		return -ENOENT;
	if (len >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, len);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	err = connect_slices(c, &address, deadline_ms);
	if (err == 0)
		err = fd_set_nonblock(c->fd, true);
	if (err < 0)
		vl_client_close(c);
	return err;
}

void vl_client_close(struct vl_client *c)
{
	close_fd(&c->fd);
	str_fini(&c->in);
	c->in_at = c->in_scanned = 0;
}

/* --- sending --- */

int vl_client_send(struct vl_client *c, const char *method, const json_t *parameters,
		   unsigned flags, int64_t deadline_ms)
{
	auto_str out = { 0 };
	size_t sent = 0;
	int err;

	if (c->fd < 0)
		return -ECONNRESET;
	err = vl_put_request(&out, method, parameters, flags);
	while (err == 0 && sent < out.len) {
		ssize_t n = send(c->fd, out.data + sent, out.len - sent, MSG_NOSIGNAL);

		if (n >= 0)
			sent += (size_t)n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			err = wait_for(c, POLLOUT, deadline_ms);
		else if (errno != EINTR)
			err = errno == EPIPE ? -ECONNRESET : -errno;
	}
	return err;
}

/* --- receiving --- */

static int read_some(struct vl_client *c)
{
	ssize_t n;

	/* Make room without initialising it: str_add_bytes would want the bytes first. */
	if (c->in.size - c->in.len <= READ_BYTES / 2) {
		size_t size = MAX_OF(c->in.size * 2, (size_t)READ_BYTES);
		char *data = realloc(c->in.data, size);

		if (!data)
			return -ENOMEM;
		c->in.data = data;
		c->in.size = size;
	}
	do {
		n = recv(c->fd, c->in.data + c->in.len, c->in.size - c->in.len - 1, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ECONNRESET;
	c->in.len += (size_t)n;
	c->in.data[c->in.len] = '\0';
	return 0;
}

static bool next_message(struct vl_client *c, const char **ret, size_t *ret_len)
{
	char *nul;

	if (c->in_scanned >= c->in.len)
		return false;
	nul = memchr(c->in.data + c->in_scanned, '\0', c->in.len - c->in_scanned);
	if (!nul) {
		c->in_scanned = c->in.len;
		return false;
	}
	*ret = c->in.data + c->in_at;
	*ret_len = (size_t)(nul - *ret);
	c->in_at = c->in_scanned = (size_t)(nul + 1 - c->in.data);
	return true;
}

int vl_client_receive_text(struct vl_client *c, int64_t deadline_ms, const char **ret,
			   size_t *ret_len)
{
	int err;

	if (c->fd < 0)
		return -ECONNRESET;
	while (!next_message(c, ret, ret_len)) {
		if (c->in_at > 0) {
			str_eat(&c->in, c->in_at);
			c->in_scanned -= c->in_at;
			c->in_at = 0;
		}
		if (c->in.len > VL_REPLY_MAX)
			return -EBADMSG;
		err = read_some(c);
		if (err == -EAGAIN || err == -EWOULDBLOCK)
			err = wait_for(c, POLLIN, deadline_ms);
		if (err < 0)
			return err;
	}
	return 0;
}

int vl_client_receive(struct vl_client *c, int64_t deadline_ms, struct vl_reply *ret)
{
	const char *text;
	size_t len;
	int err;

	err = vl_client_receive_text(c, deadline_ms, &text, &len);
	return err < 0 ? err : vl_reply_parse(text, len, ret);
}
