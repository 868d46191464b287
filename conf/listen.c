/* Owns the check of listening addresses. Hosts are literal: the daemon never asks a resolver. */
#include "listen.h"

#include "base/mem.h"
#include "base/str.h"
#include "conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

struct verdict {
	char *why, *mended;
	size_t why_size, mended_size;
};

static int refuse(struct verdict *v, const char *why)
{
	snprintf(v->why, v->why_size, "%s", why);
	return -EINVAL;
}

/* "PORT": 1 to 65535, no sign, no leading zero. */
static int check_port(struct verdict *v, const char *port)
{
	long long n;

	if (str_to_int(port, 1, 65535, &n) < 0 || port[0] == '0')
		return refuse(v, "the port is a number from 1 to 65535");
	return 0;
}

static int check_tcp(struct verdict *v, const char *rest)
{
	const char *colon = strrchr(rest, ':');
	char host[128];
	struct in_addr a;

	if (!colon)
		return refuse(v, "no port; tcp://HOST:PORT");
	snprintf(host, sizeof(host), "%.*s", (int)(colon - rest), rest);
	if (inet_pton(AF_INET, host, &a) == 1)
		return check_port(v, colon + 1);
	if (strchr(host, ':')) {
		snprintf(v->mended, v->mended_size, "\"tcp6://%s%.*s%s:%s\"",
			 host[0] == '[' ? "" : "[", 100, host, host[0] == '[' ? "" : "]",
			 colon + 1);
		return refuse(v, "an IPv6 address needs tcp6://");
	}
	if (!host[0] || strcmp(host, "*") == 0)
		snprintf(v->mended, v->mended_size, "\"tcp://0.0.0.0:%s\"", colon + 1);
	else if (strcmp(host, "localhost") == 0)
		snprintf(v->mended, v->mended_size, "\"tcp://127.0.0.1:%s\"", colon + 1);
	return refuse(v, "the host is no IPv4 address (names are not looked up)");
}

/* "::1:80": the port is behind the last colon. */
static int no_brackets(struct verdict *v, const char *rest)
{
	const char *colon = strrchr(rest, ':');
	char host[128];
	struct in6_addr a;

	snprintf(host, sizeof(host), "%.*s", (int)(colon ? colon - rest : 0), rest);
	if (rest[0] != '[' && inet_pton(AF_INET6, host, &a) == 1)
		snprintf(v->mended, v->mended_size, "\"tcp6://[%s]:%s\"", host, colon + 1);
	return refuse(v, "an IPv6 address and port are written tcp6://[HOST]:PORT");
}

static int check_tcp6(struct verdict *v, const char *rest)
{
	const char *end = strstr(rest, "]:");
	char host[128];
	struct in6_addr a;

	if (rest[0] != '[' || !end)
		return no_brackets(v, rest);
	snprintf(host, sizeof(host), "%.*s", (int)(end - rest - 1), rest + 1);
	if (inet_pton(AF_INET6, host, &a) != 1)
		return refuse(v, "the host is no IPv6 address (names are not looked up)");
	return check_port(v, end + 2);
}

static int check_unix(struct verdict *v, const char *rest)
{
	size_t room = sizeof(((struct sockaddr_un *)0)->sun_path);

	if (strncmp(rest, "///", 3) == 0)
		rest += 2;
	else if (rest[0] == '/' && rest[1] == '/')
		return refuse(v, "a unix path is absolute: unix:///PATH");
	if (rest[0] == '/') {
		snprintf(v->mended, v->mended_size, "\"unix://%s\"", rest);
		if (rest[1] == '\0')
			return refuse(v, "no path");
	} else if (rest[0] != '@' || rest[1] == '\0') {
		return refuse(v, "a unix socket is unix:///PATH or unix:@NAME");
	}
	if (strlen(rest) >= room) {
		v->mended[0] = '\0';
		return refuse(v, "a unix socket's name has at most 107 bytes");
	}
	return 0;
}

static const struct {
	const char *scheme;
	int (*check)(struct verdict *v, const char *rest);
} schemes[] = {
	{ "tcp://", check_tcp },
	{ "tcp6://", check_tcp6 },
	{ "unix:", check_unix },
};

static int check_one(struct verdict *v, const char *text)
{
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		size_t n = strlen(schemes[i].scheme);

		if (strncmp(text, schemes[i].scheme, n) != 0)
			continue;
		if (strncmp(text, "unix:/", 6) == 0 && strncmp(text, "unix:///", 8) != 0) {
			snprintf(v->mended, v->mended_size, "\"unix:///%.*s\"", 100,
				 text + 5 + strspn(text + 5, "/"));
			return refuse(v, "a unix path is written unix:///PATH");
		}
		return schemes[i].check(v, text + n);
	}
	if (text[0] == '/')
		snprintf(v->mended, v->mended_size, "\"unix://%.*s\"", 100, text);
	return refuse(v, "not tcp://HOST:PORT, tcp6://[HOST]:PORT, unix:///PATH or unix:@NAME");
}

int listen_check(const char *text, int index, char *why, size_t why_size, char *mended,
		 size_t mended_size)
{
	struct verdict v = { why, mended, why_size, mended_size };
	struct conf_worker w = { "g", index };
	auto_str out = { 0 };

	mended[0] = '\0';
	conf_expand(text, &w, &out);
	return out.failed ? -ENOMEM : check_one(&v, out.data);
}
