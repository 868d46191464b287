/*
 * Walks a path component by component with descriptors, so that what was checked is what is opened
 * (SE03). Symbolic links are followed here, with the directory that holds them checked before.
 */
#include "open.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LINKS_MAX 40

struct walk {
	const char *path; /* as asked, for messages */
	const struct conf_load_options *options;
	struct diag *d;
	char rest[PATH_MAX * 2]; /* what is still to be walked */
	int dir;
	int links;
};

/*
 * In a user namespace files of unmapped users show the overflow uid, which nobody here can become:
 * as good as root's.
 */
static bool is_unmapped(uid_t uid)
{
	char text[64];
	unsigned inside, outside, count;

	if (fd_read_at(AT_FDCWD, "/proc/sys/kernel/overflowuid", text, sizeof(text)) < 0 ||
	    (uid_t)strtoul(text, NULL, 10) != uid)
		return false;
	return fd_read_at(AT_FDCWD, "/proc/self/uid_map", text, sizeof(text)) > 0 &&
	       sscanf(text, "%u %u %u", &inside, &outside, &count) == 3 && count < 4294967295u;
}

/* Who owns the program that reads can make it do anything already: a build in somebody's tree. */
static bool owns_program(uid_t uid)
{
	struct stat st;

	return stat("/proc/self/exe", &st) == 0 && st.st_uid == uid;
}

static bool trusted_owner(uid_t uid)
{
	return uid == 0 || uid == geteuid() || owns_program(uid) || is_unmapped(uid);
}

/*
 * A group may write if it is root's, or the owner's private one, which has the owner's number. An
 * access list that lets somebody write shows as a writable group.
 */
static bool group_may_write(int fd, const struct stat *st)
{
	if (!(st->st_mode & S_IWGRP))
		return false;
	if (fd >= 0 && fgetxattr(fd, "system.posix_acl_access", NULL, 0) > 0)
		return true;
	return st->st_gid != 0 && st->st_gid != st->st_uid;
}

/* The directory that the walk has come to, as the kernel calls it. */
static const char *where(const struct walk *w, char ret[static PATH_MAX])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", w->dir);
	n = readlink(link, ret, PATH_MAX - 1);
	if (n < 0)
		return "a directory on the way";
	ret[n] = '\0';
	return ret;
}

static int check_dir(struct walk *w)
{
	char dir[PATH_MAX];
	struct stat st;

	if (fstat(w->dir, &st) < 0)
		return diag_set(w->d, -errno, "%s: %s", w->path, strerror(errno));
	if (w->options->offline)
		return 0;
	if (!trusted_owner(st.st_uid) && !w->options->pid1)
		return diag_set(
			w->d, -EPERM,
			"%s: %s belongs to uid %u, who could replace the file; it must belong to "
			"root or to the daemon's user",
			w->path, where(w, dir), (unsigned)st.st_uid);
	if (!(st.st_mode & S_ISVTX) && ((st.st_mode & S_IWOTH) || group_may_write(-1, &st)))
		return diag_set(w->d, -EPERM,
				"%s: its directory is writable by others (mode %04o); chmod go-w "
				"%s",
				w->path, (unsigned)st.st_mode & 07777, where(w, dir));
	return 0;
}

static int check_file(struct walk *w, int fd, const struct stat *st, struct conf_report *report)
{
	struct statfs fs;

	if (!S_ISREG(st->st_mode))
		return diag_set(w->d, -EINVAL, "%s: not a regular file", w->path);
	if (fstatfs(fd, &fs) == 0 && (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC))
		return diag_set(w->d, -EINVAL, "%s: made by the kernel, not an ordinary file",
				w->path);
	if (w->options->offline)
		return 0;
	if ((st->st_mode & S_IWOTH) || group_may_write(fd, st))
		return diag_set(w->d, -EPERM, "%s: writable by others (mode %04o); chmod go-w %s",
				w->path, (unsigned)st->st_mode & 07777, w->path);
	if (trusted_owner(st->st_uid))
		return 0;
	if (w->options->pid1) { /* a container's bind mount often belongs to a host user */
		report_add(report, true, w->path, 0, "belongs to uid %u, who could change it",
			   (unsigned)st->st_uid);
		return 0;
	}
	return diag_set(w->d, -EPERM,
			"%s: belongs to uid %u; it must belong to root or to the daemon's user; "
			"chown %u %s",
			w->path, (unsigned)st->st_uid, (unsigned)geteuid(), w->path);
}

static int open_root(struct walk *w)
{
	close_fd(&w->dir);
	w->dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return w->dir < 0 ? diag_set(w->d, -errno, "/: %s", strerror(errno)) : 0;
}

/* Put a link's text in front of the rest. */
static int follow(struct walk *w, const char *name, uid_t owner)
{
	char link[PATH_MAX], rest[sizeof(w->rest)];
	ssize_t n = readlinkat(w->dir, name, link, sizeof(link) - 1);
	struct stat st;

	if (n < 0)
		return diag_set(w->d, -errno, "%s: %s", w->path, strerror(errno));
	link[n] = '\0';
	if (++w->links > LINKS_MAX)
		return diag_set(w->d, -ELOOP, "%s: too many symbolic links", w->path);
	/* In a sticky directory anybody can make a link. */
	if (!w->options->offline && !trusted_owner(owner) && fstat(w->dir, &st) == 0 &&
	    (st.st_mode & S_ISVTX))
		return diag_set(w->d, -EPERM, "%s: the link \"%s\" belongs to uid %u", w->path,
				name, (unsigned)owner);
	n = snprintf(rest, sizeof(rest), "%s%s%s", link, w->rest[0] ? "/" : "", w->rest);
	if (n >= (ssize_t)sizeof(rest))
		return diag_set(w->d, -ENAMETOOLONG, "%s: too long", w->path);
	memcpy(w->rest, rest, (size_t)n + 1);
	return link[0] == '/' ? open_root(w) : 0;
}

/* Take the next component off the rest. False at the end. */
static bool next_name(struct walk *w, char name[static NAME_MAX + 2])
{
	size_t skip = strspn(w->rest, "/"), n = strcspn(w->rest + skip, "/");

	snprintf(name, NAME_MAX + 2, "%.*s", (int)MIN_OF(n, (size_t)NAME_MAX + 1), w->rest + skip);
	skip += n;
	skip += strspn(w->rest + skip, "/");
	memmove(w->rest, w->rest + skip, strlen(w->rest + skip) + 1);
	return n > 0;
}

/* Walk up to the last component, whose name is returned; w->dir is its directory. */
static int walk(struct walk *w, char name[static NAME_MAX + 2])
{
	int err = open_root(w);

	while (err == 0) {
		struct stat st;
		int next;

		if (!next_name(w, name))
			strcpy(name, ".");
		err = check_dir(w);
		if (err < 0)
			break;
		if (fstatat(w->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return diag_set(w->d, -errno, "%s: %s", w->path, strerror(errno));
		if (S_ISLNK(st.st_mode)) {
			err = follow(w, name, st.st_uid);
			continue;
		}
		if (!w->rest[0])
			return 0;
		next = openat(w->dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return diag_set(w->d, -errno, "%s: %s", w->path, strerror(errno));
		close_fd(&w->dir);
		w->dir = next;
	}
	return err;
}

int open_checked(const char *path, const struct conf_load_options *options,
		 struct conf_report *report, dev_t *ret_dev, ino_t *ret_ino, struct diag *d)
{
	struct walk w = { .path = path, .options = options, .d = d, .dir = -1 };
	char name[NAME_MAX + 2];
	struct stat st;
	int err;

	if (strlen(path) >= PATH_MAX)
		return diag_set(d, -ENAMETOOLONG, "%.64s...: path too long", path);
	strcpy(w.rest, path);
	err = walk(&w, name);

	auto_fd dir = w.dir;

	if (err < 0)
		return err;
	/* Opening a device may do something; non-blocking, so that a FIFO cannot hold us (CF09). */
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
		return diag_set(d, -EINVAL, "%s: not a regular file", path);
	auto_fd fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return diag_set(d, -errno, "%s: %s", path,
				errno == ENXIO ? "not a regular file" : strerror(errno));
	if (fstat(fd, &st) < 0)
		return diag_set(d, -errno, "%s: %s", path, strerror(errno));
	err = check_file(&w, fd, &st, report);
	if (err < 0)
		return err;
	*ret_dev = st.st_dev;
	*ret_ino = st.st_ino;
	return give_fd(&fd);
}

int open_checked_dir(const char *path, const struct conf_load_options *options, struct diag *d)
{
	struct walk w = { .path = path, .options = options, .d = d, .dir = -1 };
	char name[NAME_MAX + 2];
	int err, fd;

	if (strlen(path) + 2 >= PATH_MAX)
		return diag_set(d, -ENAMETOOLONG, "%.64s...: path too long", path);
	snprintf(w.rest, sizeof(w.rest), "%s/.", path); /* so that the last one is checked too */
	err = walk(&w, name);

	auto_fd dir = w.dir;

	if (err < 0)
		return err;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? diag_set(d, -errno, "%s: %s", path, strerror(errno)) : fd;
}
