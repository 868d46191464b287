/* Owns no state: what cgroup v2 does by reading and writing files. */
#include "base/cgroup_fs.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FREEZE_WAIT_MS 200
#define DEPTH_MAX      32

/* mountinfo writes blanks and backslashes as \ooo. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*out++ = (char)strtol((char[]){ s[1], s[2], s[3], 0 }, NULL, 8);
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

/* Where cgroup2 is mounted, and which of its directories is there. */
static int find_mount(char *text, char **ret_root, char **ret_at)
{
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *type = strstr(line, " - "), *word[5], *inner = NULL;

		if (!type || strncmp(type + 3, "cgroup2 ", 8) != 0)
			continue;
		word[0] = strtok_r(line, " ", &inner);
		for (int i = 1; i < 5; i++)
			word[i] = word[i - 1] ? strtok_r(NULL, " ", &inner) : NULL;
		if (!word[4])
			continue;
		unescape(word[3]);
		unescape(word[4]);
		*ret_root = word[3];
		*ret_at = word[4];
		return 0;
	}
	return -ENOENT;
}

int cgroup_fs_own(char *ret, size_t size)
{
	char lines[4096], *path, *root, *at;
	auto_free char *mounts = NULL;
	auto_fd fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	size_t n;

	if (fd_read_at(AT_FDCWD, "/proc/self/cgroup", lines, sizeof(lines)) < 0 || fd < 0 ||
	    fd_read_all(fd, 16u << 20, &mounts, NULL) < 0)
		return -ENOENT;
	path = strncmp(lines, "0::", 3) == 0 ? lines : strstr(lines, "\n0::");
	if (!path || find_mount(mounts, &root, &at) < 0)
		return -ENOENT;
	path = strchr(path, '/');
	if (!path)
		return -ENOENT;
	path[strcspn(path, "\n")] = '\0';
	/* Outside of our cgroup namespace there is no name for it. */
	if (strncmp(path, "/..", 3) == 0)
		return -ENOENT;
	n = strcmp(root, "/") == 0 ? 0 : strlen(root);
	if (strncmp(path, root, n) != 0)
		return -ENOENT;
	if (strcmp(path + n, "/") == 0)
		n++;
	return snprintf(ret, size, "%s%s", at, path + n) < (int)size ? 0 : -ENAMETOOLONG;
}

static int write_in(int dir, const char *path, const char *file, const char *text)
{
	char name[512];

	if (snprintf(name, sizeof(name), "%s/%s", path, file) >= (int)sizeof(name))
		return -ENAMETOOLONG;
	return fd_write_at(dir, name, text);
}

int cgroup_fs_join(int dir, const char *path)
{
	return write_in(dir, path, "cgroup.procs", "0");
}

static bool event_is(int dir, const char *path, const char *line)
{
	char name[512], text[256];

	snprintf(name, sizeof(name), "%s/cgroup.events", path);
	return fd_read_at(dir, name, text, sizeof(text)) > 0 && strstr(text, line);
}

bool cgroup_fs_populated(int dir, const char *path)
{
	return event_is(dir, path, "populated 1");
}

bool cgroup_fs_wait_empty(int dir, const char *path, int64_t wait_ms)
{
	int64_t end = clock_mono_ms() + wait_ms;
	bool populated;

	while ((populated = cgroup_fs_populated(dir, path)) && clock_mono_ms() < end)
		poll(NULL, 0, 1);
	return !populated;
}

/* Call fn for the cgroup and all below it, the deepest first. */
static void walk(int dir, const char *path, int depth,
		 void (*fn)(int dir, const char *path, void *arg), void *arg)
{
	int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && depth < DEPTH_MAX && (e = readdir(d))) {
		char below[512];

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		if (snprintf(below, sizeof(below), "%s/%s", path, e->d_name) < (int)sizeof(below))
			walk(dir, below, depth + 1, fn, arg);
	}
	if (d)
		closedir(d);
	fn(dir, path, arg);
}

void cgroup_fs_each(int dir, const char *path, void (*fn)(pid_t pid, void *arg), void *arg)
{
	char name[512];
	auto_free char *text = NULL;
	auto_fd fd = -1;
	char *at, *end;

	snprintf(name, sizeof(name), "%s/cgroup.procs", path);
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, 16u << 20, &text, NULL) < 0)
		return;
	for (at = text; *at; at = end) {
		long pid = strtol(at, &end, 10);

		if (end == at)
			break;
		/* 0 = lives in another pid namespace */
		if (pid > 1)
			fn((pid_t)pid, arg);
		while (*end == '\n')
			end++;
	}
}

static void kill_one(pid_t pid, void *arg)
{
	if (pid != getpid())
		kill(pid, SIGKILL);
}

static void kill_members(int dir, const char *path, void *arg)
{
	cgroup_fs_each(dir, path, kill_one, NULL);
}

int cgroup_fs_kill_each(int dir, const char *path)
{
	int64_t end = clock_mono_ms() + FREEZE_WAIT_MS;

	/* Frozen they cannot fork faster than they are found. A killed task leaves a frozen
	 * cgroup by itself. */
	write_in(dir, path, "cgroup.freeze", "1");
	while (!event_is(dir, path, "frozen 1") && cgroup_fs_populated(dir, path) &&
	       clock_mono_ms() < end)
		poll(NULL, 0, 1);
	walk(dir, path, 0, kill_members, NULL);
	return write_in(dir, path, "cgroup.freeze", "0");
}

int cgroup_fs_kill(int dir, const char *path)
{
	if (write_in(dir, path, "cgroup.kill", "1") == 0)
		return 0;
	return cgroup_fs_kill_each(dir, path);
}

struct move {
	int dir;
	const char *to;
};

static void move_one(pid_t pid, void *arg)
{
	const struct move *m = arg;
	char text[16];

	snprintf(text, sizeof(text), "%d", (int)pid);
	write_in(m->dir, m->to, "cgroup.procs", text);
}

static void move_members(int dir, const char *path, void *arg)
{
	cgroup_fs_each(dir, path, move_one, arg);
}

void cgroup_fs_move(int dir, const char *path, const char *to)
{
	struct move m = { dir, to };

	walk(dir, path, 0, move_members, &m);
}

static void remove_one(int dir, const char *path, void *arg)
{
	if (unlinkat(dir, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
		*(int *)arg = -errno;
}

int cgroup_fs_remove(int dir, const char *path, int64_t wait_ms)
{
	int64_t end = clock_mono_ms() + wait_ms;
	int err = 0;

	walk(dir, path, 0, remove_one, &err);
	while (err == -EBUSY && clock_mono_ms() < end) {
		poll(NULL, 0, 1);
		err = 0;
		walk(dir, path, 0, remove_one, &err);
	}
	return err;
}
