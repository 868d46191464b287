/*
 * Building, sending and receiving packets of the channel. Owns nothing: a packet is the caller's.
 * What they may hold is in channel_read.c.
 */
#include "lib/channel_layout.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

/* --- sending ------------------------------------------------------------------------------- */

/* Keeps the length in the header true, so that a packet can be sent after any addition. */
static void put_header(struct channel_packet *p, unsigned type, uint32_t request)
{
	struct header h = { .type = (uint16_t)type, .bytes = (uint32_t)p->len, .request = request };

	memcpy(p->bytes, &h, sizeof(h));
}

void channel_begin(struct channel_packet *p, enum channel_type type, uint32_t request)
{
	p->len = HEADER_BYTES;
	p->error = 0;
	p->n_fds = 0;
	p->pid = 0;
	p->pidfd = -1;
	put_header(p, type, request);
}

size_t channel_room(const struct channel_packet *p)
{
	size_t used = p->len + RECORD_BYTES;

	return used < sizeof(p->bytes) ? sizeof(p->bytes) - used : 0;
}

static void add_record(struct channel_packet *p, unsigned tag, unsigned flags, const void *data,
		       size_t len)
{
	struct record_header r = { .tag = (uint16_t)tag,
				   .flags = (uint16_t)flags,
				   .bytes = (uint32_t)len };
	uint32_t total;

	if (p->error || len > channel_room(p) || p->len + RECORD_BYTES > sizeof(p->bytes)) {
		p->error = -EMSGSIZE;
		return;
	}
	memcpy(p->bytes + p->len, &r, sizeof(r));
	p->len += RECORD_BYTES;
	if (len > 0)
		memcpy(p->bytes + p->len, data, len);
	memset(p->bytes + p->len + len, 0, padded(len) - len);
	p->len += padded(len);
	total = (uint32_t)p->len;
	memcpy(p->bytes + offsetof(struct header, bytes), &total, sizeof(total));
}

void channel_add(struct channel_packet *p, enum channel_tag tag, const void *data, size_t len)
{
	add_record(p, tag, 0, data, len);
}

void channel_add_optional(struct channel_packet *p, unsigned tag, const void *data, size_t len)
{
	add_record(p, tag, OPTIONAL, data, len);
}

void channel_add_text(struct channel_packet *p, enum channel_tag tag, const char *text)
{
	add_record(p, tag, 0, text, strlen(text));
}

void channel_add_u32(struct channel_packet *p, enum channel_tag tag, uint32_t value)
{
	add_record(p, tag, 0, &value, sizeof(value));
}

void channel_add_i32(struct channel_packet *p, enum channel_tag tag, int32_t value)
{
	add_record(p, tag, 0, &value, sizeof(value));
}

void channel_add_u64(struct channel_packet *p, enum channel_tag tag, uint64_t value)
{
	add_record(p, tag, 0, &value, sizeof(value));
}

void channel_add_u64_pair(struct channel_packet *p, enum channel_tag tag, uint64_t a, uint64_t b)
{
	const uint64_t pair[2] = { a, b };

	add_record(p, tag, 0, pair, sizeof(pair));
}

void channel_add_limit(struct channel_packet *p, uint32_t resource, uint64_t soft, uint64_t hard)
{
	const struct channel_limit limit = { resource, 0, soft, hard };

	add_record(p, CT_LIMIT, 0, &limit, sizeof(limit));
}

void channel_add_versions(struct channel_packet *p)
{
	const uint32_t range[2] = { CHANNEL_VERSION, CHANNEL_VERSION };

	add_record(p, CT_VERSIONS, 0, range, sizeof(range));
}

void channel_add_fds(struct channel_packet *p, const int *fds, const int32_t *map, size_t n)
{
	if (n > CHANNEL_FDS_MAX || p->n_fds > 0) {
		p->error = -EMSGSIZE;
		return;
	}
	add_record(p, CT_FD_MAP, 0, map, n * sizeof(*map));
	memcpy(p->fds, fds, n * sizeof(*fds));
	p->n_fds = n;
}

int channel_send(int sock, const struct channel_packet *p)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
	} control;
	struct iovec iov = { (void *)(uintptr_t)p->bytes, p->len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (p->error)
		return p->error;
	if (p->n_fds > 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * p->n_fds);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * p->n_fds);
		memcpy(CMSG_DATA(c), p->fds, sizeof(int) * p->n_fds);
	}
	for (;;) {
		if (sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

/* --- receiving ----------------------------------------------------------------------------- */

int channel_want_sender(int sock)
{
	const int on = 1;

	if (setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return -errno;
	/* Before Linux 6.5 there is none: the pid alone has to do. */
	setsockopt(sock, SOL_SOCKET, SO_PASSPIDFD, &on, sizeof(on));
	return 0;
}

void channel_packet_fini(struct channel_packet *p)
{
	for (size_t i = 0; i < p->n_fds; i++)
		if (p->fds[i] >= 0)
			close(p->fds[i]);
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->n_fds = 0;
	p->pidfd = -1;
}

/* False: descriptors were lost, by want of room. */
static bool take_fds(struct channel_packet *p, const struct cmsghdr *c)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	bool all = true;

	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
		if (p->n_fds < CHANNEL_FDS_MAX) {
			p->fds[p->n_fds++] = fd;
		} else {
			close(fd);
			all = false;
		}
	}
	return all;
}

static bool take_control(struct channel_packet *p, struct msghdr *m)
{
	bool all = !(m->msg_flags & MSG_CTRUNC);

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct ucred who;

		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS) {
			all = take_fds(p, c) && all;
		} else if (c->cmsg_type == SCM_CREDENTIALS &&
			   c->cmsg_len >= CMSG_LEN(sizeof(who))) {
			memcpy(&who, CMSG_DATA(c), sizeof(who));
			p->pid = who.pid;
			p->uid = who.uid;
		} else if (c->cmsg_type == SCM_PIDFD && c->cmsg_len >= CMSG_LEN(sizeof(int))) {
			/* a negative one is the kernel's error: the sender is gone already */
			memcpy(&p->pidfd, CMSG_DATA(c), sizeof(int));
			if (p->pidfd < 0)
				p->pidfd = -1;
		}
	}
	return all;
}

ssize_t channel_recv(int sock, struct channel_packet *p)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX) +
			   CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { p->bytes, sizeof(p->bytes) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	ssize_t n;

	p->len = p->n_fds = 0;
	p->error = 0;
	p->pid = 0;
	p->uid = (uid_t)-1;
	p->pidfd = -1;
	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (!take_control(p, &m)) {
		channel_packet_fini(p);
		return -EMFILE;
	}
	if (m.msg_flags & MSG_TRUNC) {
		channel_packet_fini(p);
		return -EMSGSIZE;
	}
	if (n == 0)
		channel_packet_fini(p);
	p->len = (size_t)n;
	return n;
}
