/*
 * The fd table a role inherits: read once, copied, its memfd closed. What it names was left open
 * over the exec on purpose and is made CLOEXEC here, before the role can start anything.
 */
#include "ledger/roles.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

static int check(const struct role_fd_table *t, size_t bytes)
{
	if (bytes < sizeof(*t) || t->version != ROLE_FDS_VERSION ||
	    t->n > (bytes - sizeof(*t)) / sizeof(t->rows[0]))
		return -EPROTO;
	for (uint32_t i = 0; i < t->n; i++) {
		if (!memchr(t->rows[i].name, '\0', sizeof(t->rows[i].name)))
			return -EPROTO;
	}
	return 0;
}

int role_fds_read(int fd, struct role_fd_table **ret)
{
	auto_free char *bytes = NULL;
	size_t len;
	int err;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	err = fd_read_all(fd, 64u << 20, &bytes, &len);
	if (err < 0)
		return err;
	err = check((const struct role_fd_table *)bytes, len);
	if (err < 0)
		return err;
	*ret = give_ptr(&bytes);
	return 0;
}

int role_fds_load(const char *arg, struct role_fd_table **ret)
{
	auto_fd fd = -1;
	auto_free struct role_fd_table *t = NULL;
	long long number;
	int err;

	if (!arg || str_to_int(arg, 3, INT_MAX, &number) < 0)
		return -EINVAL;
	fd = (int)number;
	err = role_fds_read(fd, &t);
	if (err < 0)
		return err;
	for (uint32_t i = 0; i < t->n; i++) {
		if (t->rows[i].kind >= RF_KIND_COUNT)
			return -EPROTO;
		if (fd_set_cloexec(t->rows[i].fd, true) < 0)
			return -EBADF;
	}
	*ret = give_ptr(&t);
	return 0;
}

int role_fds_get(const struct role_fd_table *t, enum role_fd_kind kind)
{
	for (uint32_t i = 0; i < t->n; i++) {
		if (t->rows[i].kind == kind)
			return t->rows[i].fd;
	}
	return -1;
}
