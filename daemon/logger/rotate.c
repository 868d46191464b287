/*
 * Owns the names of rotated files. A gap in the chain ends it: what a rotation that was cut short
 * had moved already is not moved again, so it can be repeated at any point without loss.
 */
#include "logger/sink.h"

#include "base/failpoint.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SURPLUS_MAX 1000

struct chain {
	int dir;
	const char *base;
};

/* False if the name is too long to exist. */
static bool name_of(const struct chain *c, int n, char name[static NAME_MAX + 1])
{
	int len = n == 0 ? snprintf(name, NAME_MAX + 1, "%s", c->base)
			 : snprintf(name, NAME_MAX + 1, "%s.%d", c->base, n);

	return len <= NAME_MAX;
}

static bool exists(const struct chain *c, int n)
{
	char name[NAME_MAX + 1];
	struct stat st;

	return name_of(c, n, name) && fstatat(c->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int move(const struct chain *c, int from, int to)
{
	char a[NAME_MAX + 1], b[NAME_MAX + 1];

	if (!name_of(c, from, a) || !name_of(c, to, b))
		return -ENAMETOOLONG;
	return FAIL_OR(ROTATE_MOVE, renameat(c->dir, a, c->dir, b)) < 0 ? -errno : 0;
}

/* After `keep` was lowered. */
static void drop_surplus(const struct chain *c, int keep)
{
	char name[NAME_MAX + 1];

	for (int n = keep + 1; n <= keep + SURPLUS_MAX && name_of(c, n, name); n++) {
		if (unlinkat(c->dir, name, 0) < 0)
			break;
	}
}

int rotate_names(const struct place *p, int keep)
{
	struct chain c;
	bool trusted;
	auto_fd dir = place_dir(p, &c.base, &trusted);
	int hole = 1, r;

	if (dir < 0)
		return dir;
	c.dir = dir;
	if (keep <= 0) {
		r = unlinkat(dir, c.base, 0) < 0 && errno != ENOENT ? -errno : 0;
		drop_surplus(&c, 0);
		return r;
	}
	while (hole < keep && exists(&c, hole))
		hole++;
	for (int n = hole; n >= 1; n--) {
		r = move(&c, n - 1, n);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	FAIL_HERE(ROTATE_DROP);
	drop_surplus(&c, keep);
	return 0;
}
