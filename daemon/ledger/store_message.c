/* Messages that add to or take from the descriptors another role holds. */
#include "ledger/roles.h"

#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>

/* The keeper drains its socket at once; a wait this long means that it is stopped or gone. */
#define WAIT_MS 1000

int store_send(int sock, const struct store_message *m, int fd)
{
	return fd_send(sock, m, sizeof(*m), &fd, fd >= 0 ? 1 : 0);
}

static int send_bounded(int sock, const struct store_message *m, int fd)
{
	struct pollfd p = { .fd = sock, .events = POLLOUT };
	int err = store_send(sock, m, fd);

	if (err != -EAGAIN && err != -ETOOMANYREFS)
		return err;
	if (poll(&p, 1, WAIT_MS) != 1)
		return -EAGAIN;
	return store_send(sock, m, fd);
}

int store_put(int sock, enum role_fd_kind kind, uint32_t index, uint32_t aux, const char *name,
	      int fd)
{
	struct store_message m = { .op = STORE_PUT, .kind = kind, .index = index, .aux = aux };

	if (snprintf(m.name, sizeof(m.name), "%s", name ? name : "") >= (int)sizeof(m.name))
		return -ENAMETOOLONG;
	return send_bounded(sock, &m, fd);
}

int store_drop(int sock, enum role_fd_kind kind, uint32_t index, const char *name)
{
	struct store_message m = { .op = STORE_DROP, .kind = kind, .index = index };

	if (snprintf(m.name, sizeof(m.name), "%s", name ? name : "") >= (int)sizeof(m.name))
		return -ENAMETOOLONG;
	return send_bounded(sock, &m, -1);
}

int store_claim(int sock, uint32_t life, int pidfd)
{
	struct store_message m = { .op = STORE_CLAIM, .index = life };

	return send_bounded(sock, &m, pidfd);
}
