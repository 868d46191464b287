/*
 * Owns the walk to a log file. Each component is opened by itself, relative to the one before, so
 * nothing that is swapped behind us can change what was checked.
 */
#include "logger/place.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINKS_MAX 16
#define TRIES	  8

/* Only root and we can change names in it. */
static bool is_trusted(const struct stat *st)
{
	return (st->st_uid == 0 || st->st_uid == geteuid()) && (st->st_mode & 022) == 0;
}

struct walk {
	int dir; /* where we are, O_PATH */
	struct stat st;
	char rest[PATH_MAX]; /* not walked yet */
	int links;
};

static int step_to(struct walk *w, int fd)
{
	close_fd(&w->dir);
	w->dir = fd;
	return fstat(fd, &w->st) < 0 ? -errno : 0;
}

static int to_root(struct walk *w)
{
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : step_to(w, fd);
}

/* The component is a link: put its text in front of the rest. */
static int follow(struct walk *w, const char *name)
{
	char text[PATH_MAX], rest[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (fstatat(w->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISLNK(st.st_mode))
		return -ENOTDIR;
	if (!is_trusted(&w->st) || (st.st_uid != 0 && st.st_uid != geteuid()) ||
	    ++w->links > LINKS_MAX)
		return -ELOOP;
	n = readlinkat(w->dir, name, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	if (snprintf(rest, sizeof(rest), "%s/%s", text, w->rest) >= (int)sizeof(rest))
		return -ENAMETOOLONG;
	strcpy(w->rest, rest);
	return text[0] == '/' ? to_root(w) : 0;
}

static int step(struct walk *w, const char *name, bool make_dirs)
{
	int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(w->dir, name, flags);

	if (fd < 0 && errno == ENOENT && make_dirs) {
		if (mkdirat(w->dir, name, geteuid() == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
			return -errno;
		fd = openat(w->dir, name, flags);
	}
	if (fd >= 0)
		return step_to(w, fd);
	return errno == ENOTDIR || errno == ELOOP ? follow(w, name) : -errno;
}

static int walk_all(struct walk *w, bool make_dirs)
{
	while (w->rest[0] != '\0') {
		char name[NAME_MAX + 1];
		size_t skip = strspn(w->rest, "/"), len = strcspn(w->rest + skip, "/");
		int r;

		if (len > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, w->rest + skip, len);
		name[len] = '\0';
		memmove(w->rest, w->rest + skip + len, strlen(w->rest + skip + len) + 1);
		if (len == 0)
			continue;
		r = step(w, name, make_dirs);
		if (r < 0)
			return r;
	}
	return 0;
}

int place_dir(const struct place *p, const char **ret_base, bool *ret_trusted)
{
	const char *slash = strrchr(p->path, '/');
	struct walk w = { .dir = -1 };
	int r;

	if (p->path[0] != '/' || slash[1] == '\0')
		return -EINVAL;
	if ((size_t)(slash - p->path) >= sizeof(w.rest))
		return -ENAMETOOLONG;
	memcpy(w.rest, p->path, (size_t)(slash - p->path));
	r = to_root(&w);
	if (r == 0)
		r = walk_all(&w, p->make_dirs);
	if (r < 0) {
		close_fd(&w.dir);
		return r;
	}
	*ret_base = slash + 1;
	*ret_trusted = is_trusted(&w.st);
	return w.dir;
}

static int dress(const struct place *p, int fd)
{
	if (p->has_owner && fchown(fd, p->uid, p->gid) < 0)
		return -errno;
	return fchmod(fd, p->mode) < 0 ? -errno : 0;
}

#define OPEN_FLAGS (O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

/* Without O_TMPFILE (or /proc): a name nobody waits for, moved to the right one when it is done. */
static int make_by_rename(const struct place *p, int dir, const char *base)
{
	char name[NAME_MAX + 1];
	auto_fd fd = -1;
	int r;

	snprintf(name, sizeof(name), ".%.200s.%d", base, (int)getpid());
	unlinkat(dir, name, 0); /* of a logger that was killed in the middle of this */
	fd = openat(dir, name, OPEN_FLAGS | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = dress(p, fd);
	if (r == 0 && linkat(dir, name, dir, base, 0) < 0)
		r = -errno;
	unlinkat(dir, name, 0);
	return r < 0 ? r : give_fd(&fd);
}

/* With an owner: made without a name, dressed, then named. umask is 0 in this process. */
static int make(const struct place *p, int dir, const char *base)
{
	auto_fd fd = -1;
	char self[32];
	int r;

	if (!p->has_owner) {
		fd = openat(dir, base, OPEN_FLAGS | O_CREAT | O_EXCL | O_NOFOLLOW, p->mode);
		return fd < 0 ? -errno : give_fd(&fd);
	}
	snprintf(self, sizeof(self), "/proc/self/fd/%d", dir);
	fd = open(self, OPEN_FLAGS | O_TMPFILE, 0600);
	if (fd < 0)
		return make_by_rename(p, dir, base);
	r = dress(p, fd);
	if (r < 0)
		return r;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, self, dir, base, AT_SYMLINK_FOLLOW) == 0)
		return give_fd(&fd);
	return errno == EEXIST ? -EEXIST : make_by_rename(p, dir, base);
}

static bool is_ours(const struct place *p, const struct stat *st)
{
	return st->st_uid == geteuid() || st->st_uid == 0 || (p->has_owner && st->st_uid == p->uid);
}

/* Where a file stands. */
struct spot {
	int dir;
	const char *base;
	bool trusted;
};

static int find_spot(const struct place *p, struct spot *ret)
{
	ret->dir = place_dir(p, &ret->base, &ret->trusted);
	return ret->dir < 0 ? ret->dir : 0;
}

/* The path of a descriptor as the kernel knows it; 0 on failure. */
static size_t path_of_fd(int fd, char text[static PATH_MAX])
{
	char self[32];
	ssize_t n;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	n = readlink(self, text, PATH_MAX - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	return (size_t)n;
}

/*
 * True if the name it was opened by is its only one. A hard link to somebody else's file that is
 * removed between open and fstat leaves a link count of 1; but then our directory entry is gone
 * for good, a name made later is another entry. So: first the count, then the entry. The kernel
 * lowers the count a little before it drops the entry, both under the lock of the directory, which
 * a rename to the same name takes and does nothing under.
 */
static bool has_one_name(int dir, const char *base, int fd, const struct stat *st)
{
	char above[PATH_MAX], path[PATH_MAX];
	size_t len;

	if (st->st_nlink != 1)
		return false;
	(void)renameat(dir, base, dir, base);
	len = path_of_fd(dir, above);
	if (len == 0 || path_of_fd(fd, path) == 0)
		return false;
	len -= above[len - 1] == '/'; /* the root */
	return strncmp(path, above, len) == 0 && path[len] == '/' &&
	       strcmp(path + len + 1, base) == 0;
}

/* What a file that was there before us must be. */
static int accept_found(const struct place *p, const struct spot *at, int fd, struct stat *st)
{
	if (fstat(fd, st) < 0)
		return -errno;
	if (!S_ISREG(st->st_mode))
		return S_ISDIR(st->st_mode) ? -EISDIR : 0;
	if (at->trusted || (is_ours(p, st) && has_one_name(at->dir, at->base, fd, st)))
		return 0;
	return -EPERM;
}

/* Owner and mode may have been changed in the configuration. The bytes matter more. */
static void dress_found(const struct place *p, int fd, const struct stat *st)
{
	bool right = (st->st_mode & 07777) == p->mode &&
		     (!p->has_owner || (st->st_uid == p->uid && st->st_gid == p->gid));

	if (S_ISREG(st->st_mode) && st->st_nlink == 1 && is_ours(p, st) && !right)
		(void)dress(p, fd);
}

static int read_at(const struct place *p, const struct spot *at, struct stat *ret_st)
{
	auto_fd fd = openat(at->dir, at->base,
			    O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW);
	int r;

	if (fd < 0)
		return -errno;
	r = accept_found(p, at, fd, ret_st);
	return r < 0 ? r : give_fd(&fd);
}

int place_read(const struct place *p, struct stat *ret_st)
{
	struct spot at;
	int r = find_spot(p, &at);

	if (r < 0)
		return r;
	r = read_at(p, &at, ret_st);
	close(at.dir);
	return r;
}

static int open_at(const struct place *p, const struct spot *at, struct stat *ret_st)
{
	for (int i = 0; i < TRIES; i++) {
		auto_fd fd = openat(at->dir, at->base, OPEN_FLAGS | O_NOFOLLOW);
		int r;

		if (fd >= 0) {
			r = accept_found(p, at, fd, ret_st);
			if (r < 0)
				return r;
			dress_found(p, fd, ret_st);
			return give_fd(&fd);
		}
		if (errno != ENOENT)
			return -errno;
		fd = make(p, at->dir, at->base);
		if (fd >= 0)
			return fstat(fd, ret_st) < 0 ? -errno : give_fd(&fd);
		if (fd != -EEXIST)
			return fd;
	}
	return -EEXIST;
}

int place_open(const struct place *p, struct stat *ret_st)
{
	struct spot at;
	int r = find_spot(p, &at);

	if (r < 0)
		return r;
	r = open_at(p, &at, ret_st);
	close(at.dir);
	return r;
}
