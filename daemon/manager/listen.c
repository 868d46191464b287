/*
 * Owns nothing. Hosts are literal: no name is looked up. The directory of a unix path is opened
 * once, and the socket is bound and given away inside it by descriptor, so that a link put in its
 * place meanwhile is never followed (SE02).
 */
#include "manager/listen.h"

#include "base/mem.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	};
	socklen_t len;
};

static bool split_port(const char *text, char *host, size_t size, uint16_t *ret)
{
	const char *colon = strrchr(text, ':');
	long long port;

	if (!colon || (size_t)(colon - text) >= size || str_to_int(colon + 1, 0, 65535, &port) < 0)
		return false;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	*ret = htons((uint16_t)port);
	return true;
}

static bool parse_tcp(const char *text, struct address *a)
{
	char host[64];

	a->in.sin_family = AF_INET;
	a->len = sizeof(a->in);
	return split_port(text, host, sizeof(host), &a->in.sin_port) &&
	       inet_pton(AF_INET, host, &a->in.sin_addr) == 1;
}

static bool parse_tcp6(const char *text, struct address *a)
{
	char host[80];
	size_t len;

	a->in6.sin6_family = AF_INET6;
	a->len = sizeof(a->in6);
	if (!split_port(text, host, sizeof(host), &a->in6.sin6_port))
		return false;
	len = strlen(host);
	if (len < 3 || host[0] != '[' || host[len - 1] != ']')
		return false;
	host[len - 1] = '\0';
	return inet_pton(AF_INET6, host + 1, &a->in6.sin6_addr) == 1;
}

static bool parse_abstract(const char *text, struct address *a)
{
	size_t len = strlen(text);

	a->un.sun_family = AF_UNIX;
	if (len == 0 || len > sizeof(a->un.sun_path) - 1)
		return false;
	memcpy(a->un.sun_path + 1, text, len);
	a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
	return true;
}

static const char *after(const char *text, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

static int set_options(int fd, const struct conf_socket *s, int family)
{
	const int on = 1;

	if (family == AF_UNIX)
		return 0;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (s->reuseport && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
		return -errno;
	/* tcp:// and tcp6:// of one port stand side by side */
	if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
		return -errno;
	return 0;
}

static int make_plain(const struct conf_socket *s, const struct address *a)
{
	auto_fd fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = set_options(fd, s, a->any.sa_family);
	if (r < 0)
		return r;
	if (bind(fd, &a->any, a->len) < 0 || listen(fd, s->backlog) < 0)
		return -errno;
	return give_fd(&fd);
}

/* --- unix paths ------------------------------------------------------------------------------ */

struct place {
	int dir;
	const char *name;
	struct sockaddr_un at; /* through /proc/self/fd, so any directory is short enough */
};

static int find_place(const char *path, struct place *ret)
{
	char directory[4096];
	const char *slash = strrchr(path, '/');
	int n;

	if (*path != '/' || !slash[1] || (size_t)(slash - path) >= sizeof(directory))
		return -EINVAL;
	snprintf(directory, sizeof(directory), "%.*s", slash == path ? 1 : (int)(slash - path),
		 path);
	ret->dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (ret->dir < 0)
		return -errno;
	ret->name = slash + 1;
	ret->at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(ret->at.sun_path, sizeof(ret->at.sun_path), "/proc/self/fd/%d/%s", ret->dir,
		     ret->name);
	if (n < (int)sizeof(ret->at.sun_path))
		return 0;
	close_fd(&ret->dir);
	return -ENAMETOOLONG;
}

/* The mode is right from birth: the inode takes it from the socket's own (SE01). */
static int bind_with_mode(int fd, const struct place *p, mode_t mode)
{
	mode_t before;
	int r = 0;

	if (fchmod(fd, mode) < 0)
		return -errno;
	before = umask(0);
	if (bind(fd, (const struct sockaddr *)&p->at, sizeof(p->at)) < 0)
		r = -errno;
	umask(before);
	return r;
}

/* Take a socket out of the way that a dead process left behind. */
static int remove_stale(const struct place *p)
{
	auto_fd probe = -1;
	struct stat st;

	if (fstatat(p->dir, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return -errno;
	if (connect(probe, (const struct sockaddr *)&p->at, sizeof(p->at)) == 0 ||
	    errno != ECONNREFUSED)
		return -EADDRINUSE;
	return unlinkat(p->dir, p->name, 0) < 0 ? -errno : 0;
}

static int give_to_owner(const struct place *p, const struct conf_socket *s)
{
	auto_fd fd = -1;
	struct stat st;

	if (!s->has_owner)
		return 0;
	fd = openat(p->dir, p->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	/* whoever may write in that directory may have put something else there */
	if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1)
		return -EPERM;
	if (fchownat(fd, "", s->owner_uid, s->owner_gid, AT_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

static int make_unix(const struct conf_socket *s, const struct place *p)
{
	auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = bind_with_mode(fd, p, s->mode);
	if (r == -EADDRINUSE) {
		r = remove_stale(p);
		if (r == 0)
			r = bind_with_mode(fd, p, s->mode);
	}
	if (r < 0)
		return r;
	r = give_to_owner(p, s);
	if (r == 0 && listen(fd, s->backlog) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(p->dir, p->name, 0);
		return r;
	}
	return give_fd(&fd);
}

static int make_path(const struct conf_socket *s, const char *path)
{
	struct place p = { .dir = -1 };
	int r = find_place(path, &p);

	if (r == 0)
		r = make_unix(s, &p);
	drop_fd(&p.dir);
	return r;
}

/* --- all ------------------------------------------------------------------------------------- */

int listen_make(const struct conf_socket *s, const char *text, struct diag *d)
{
	struct address a = { 0 };
	const char *rest;
	bool good = false;
	int r = -EINVAL;

	if ((rest = after(text, "tcp://"))) {
		good = parse_tcp(rest, &a);
	} else if ((rest = after(text, "tcp6://"))) {
		good = parse_tcp6(rest, &a);
	} else if ((rest = after(text, "unix:@"))) {
		good = parse_abstract(rest, &a);
	} else if ((rest = after(text, "unix://"))) {
		r = make_path(s, rest);
	}
	if (good)
		r = make_plain(s, &a);
	if (r == -EEXIST)
		return diag_set(d, r, "socket %s: %s: there is something that is no socket",
				s->name, text);
	if (r < 0)
		return diag_set(d, r, "socket %s: listening on %s: %s", s->name, text,
				strerror(-r));
	return r;
}

void listen_unlink(const char *text)
{
	const char *path = after(text, "unix://");
	struct place p = { .dir = -1 };
	struct stat st;

	if (!path || find_place(path, &p) < 0)
		return;
	if (fstatat(p.dir, p.name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode))
		unlinkat(p.dir, p.name, 0);
	close_fd(&p.dir);
}
