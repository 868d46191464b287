/*
 * Verbs that speak sd_notify, truly and falsely. Written by hand over sendmsg(2): the lies are the
 * point. "\n" in an argument becomes a newline.
 */
#include "puppet.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FDS_MAX 253 /* SCM_MAX_FD of the kernel */

struct datagram {
	const char *path;
	const void *data;
	size_t len;
	int fds[FDS_MAX];
	int n_fds;
	pid_t forged; /* 0 = the truth */
};

static size_t add_control(char *control, size_t at, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)(control + at);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	return at + CMSG_SPACE(len);
}

static void send_datagram(const struct datagram *d)
{
	_Alignas(struct cmsghdr) char control[2048] = { 0 };
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct iovec data = { (void *)d->data, d->len };
	struct msghdr m = { .msg_name = &to, .msg_iov = &data, .msg_iovlen = 1 };
	size_t used = 0;
	if (!d->path || strlen(d->path) >= sizeof(to.sun_path)) {
		journal_write("notify-error", "no socket");
		return;
	}
	memcpy(to.sun_path, d->path, strlen(d->path));
	m.msg_namelen = offsetof(struct sockaddr_un, sun_path) + strlen(d->path) + 1;
	if (to.sun_path[0] == '@') {
		to.sun_path[0] = '\0';
		m.msg_namelen--;
	}
	if (d->n_fds)
		used = add_control(control, used, SCM_RIGHTS, d->fds, d->n_fds * sizeof(int));
	if (d->forged) {
		struct ucred who = { d->forged, getuid(), getgid() };
		used = add_control(control, used, SCM_CREDENTIALS, &who, sizeof(who));
	}
	m.msg_control = used ? control : NULL;
	m.msg_controllen = used;
	int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		puppet_fail("socket");
	int big = 1 << 20;
	setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	ssize_t n;
	while ((n = sendmsg(sock, &m, MSG_NOSIGNAL)) < 0 && errno == EINTR)
		;
	if (n < 0)
		journal_write("notify-error", strerrorname_np(errno));
	close(sock);
}

static char *unescape(char *text)
{
	char *to = text;
	for (char *from = text; *from; from++) {
		if (from[0] == '\\' && from[1] == 'n') {
			*to++ = '\n';
			from++;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
	return text;
}

static void verb_notify(struct puppet *p, char *arg, struct words body)
{
	char *text = arg ? unescape(arg) : "";
	send_datagram(&(struct datagram){ p->notify_socket, text, strlen(text) });
}

/* notify-to=PATH|TEXT */
static void verb_notify_to(struct puppet *p, char *arg, struct words body)
{
	char *path = puppet_piece(&arg, '|');
	char *text = arg ? unescape(arg) : "";
	send_datagram(&(struct datagram){ path, text, strlen(text) });
}

/* notify-hex=DIGITS */
static void verb_notify_hex(struct puppet *p, char *arg, struct words body)
{
	size_t len = arg ? strlen(arg) / 2 : 0;
	char *data = calloc(1, len + 1);
	if (!data)
		puppet_fail("memory");
	for (size_t i = 0; i < len; i++) {
		char digits[3] = { arg[2 * i], arg[2 * i + 1], 0 };
		data[i] = strtol(digits, NULL, 16);
	}
	send_datagram(&(struct datagram){ p->notify_socket, data, len });
	free(data);
}

/* notify-many=N|TEXT */
static void verb_notify_many(struct puppet *p, char *arg, struct words body)
{
	long long n = puppet_number(puppet_piece(&arg, '|'));
	char *text = arg ? unescape(arg) : "";
	for (long long i = 0; i < n; i++)
		send_datagram(&(struct datagram){ p->notify_socket, text, strlen(text) });
}

/* notify-pad=BYTES|TEXT: TEXT and then that many x. */
static void verb_notify_pad(struct puppet *p, char *arg, struct words body)
{
	long long pad = puppet_number(puppet_piece(&arg, '|'));
	const char *text = arg ? unescape(arg) : "";
	size_t len = strlen(text);
	char *data = malloc(len + pad);
	if (!data)
		puppet_fail("memory");
	memcpy(data, text, len);
	memset(data + len, 'x', pad);
	send_datagram(&(struct datagram){ p->notify_socket, data, len + pad });
	free(data);
}

/* notify-fds=N|TEXT: with N open descriptors attached. */
static void verb_notify_fds(struct puppet *p, char *arg, struct words body)
{
	struct datagram d = { .path = p->notify_socket };
	d.n_fds = puppet_number(puppet_piece(&arg, '|'));
	d.data = arg ? unescape(arg) : "";
	d.len = strlen(d.data);
	if (d.n_fds > FDS_MAX)
		d.n_fds = FDS_MAX;
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < d.n_fds; i++)
		d.fds[i] = fd;
	send_datagram(&d);
	close(fd);
}

/* notify-forge=PID|TEXT: claim to be another process (needs CAP_SYS_ADMIN). */
static void verb_notify_forge(struct puppet *p, char *arg, struct words body)
{
	struct datagram d = { .path = p->notify_socket };
	d.forged = puppet_number(puppet_piece(&arg, '|'));
	d.data = arg ? unescape(arg) : "";
	d.len = strlen(d.data);
	send_datagram(&d);
}

/* barrier[=MS]: BARRIER=1 and wait until the other side has closed the pipe. */
static void verb_barrier(struct puppet *p, char *arg, struct words body)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		puppet_fail("pipe");
	struct datagram d = { .path = p->notify_socket, .data = "BARRIER=1", .len = 9 };
	d.fds[0] = ends[1];
	d.n_fds = 1;
	send_datagram(&d);
	close(ends[1]);
	struct pollfd wait = { .fd = ends[0] };
	int n = poll(&wait, 1, arg ? puppet_number(arg) : 5000);
	journal_write("barrier", n == 1 ? "passed" : "hangs");
	close(ends[0]);
}

const struct verb notify_verbs[] = {
	{ "notify", verb_notify },
	{ "notify-to", verb_notify_to },
	{ "notify-hex", verb_notify_hex },
	{ "notify-many", verb_notify_many },
	{ "notify-pad", verb_notify_pad },
	{ "notify-fds", verb_notify_fds },
	{ "notify-forge", verb_notify_forge },
	{ "barrier", verb_barrier },
	{ NULL, NULL },
};
