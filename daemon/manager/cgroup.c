/* Owns no state: each call goes by path from the base directory, which nobody but us renames. */
#include "manager/cgroup.h"

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_BYTES 256
#define DEPTH_MAX  16 /* of cgroups that a worker makes below its leaf */

static int path_to(char *ret, const char *leaf, const char *file)
{
	return snprintf(ret, PATH_BYTES, "%s/%s", leaf, file) >= PATH_BYTES ? -ENAMETOOLONG : 0;
}

int cgroup_make(int base, const char *leaf)
{
	char group[PATH_BYTES];
	const char *slash = strrchr(leaf, '/');
	int fd;

	if (FAIL_OR(LEAF_MAKE, mkdirat(base, leaf, 0755)) < 0 && errno == ENOENT && slash) {
		snprintf(group, sizeof(group), "%.*s", (int)(slash - leaf), leaf);
		if (mkdirat(base, group, 0755) < 0 && errno != EEXIST)
			return -errno;
		if (mkdirat(base, leaf, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	/* whatever mkdir said of an older directory: only the open decides */
	fd = FAIL_OR(LEAF_OPEN,
		     openat(base, leaf, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
	return fd < 0 ? -errno : fd;
}

typedef int visit_fn(int dir, void *arg);

/* Visit the cgroups below dir, deepest first; `remove`: take each away after its visit. */
static int walk(int dir, int depth, bool remove, visit_fn *visit, void *arg)
{
	int r = 0, top = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *e;
	DIR *list;

	if (top < 0)
		return -errno;
	list = fdopendir(top);
	if (!list) {
		close(top);
		return -ENOMEM;
	}
	while (r == 0 && depth < DEPTH_MAX && (e = readdir(list))) {
		auto_fd sub = -1;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		sub = openat(top, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (sub < 0)
			continue;
		r = walk(sub, depth + 1, remove, visit, arg);
		if (remove && unlinkat(top, e->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
			r = -errno;
	}
	closedir(list);
	return r == 0 && visit ? visit(dir, arg) : r;
}

int cgroup_remove(int base, const char *leaf)
{
	auto_fd dir = -1;
	int r;

	if (FAIL_OR(LEAF_REMOVE, unlinkat(base, leaf, AT_REMOVEDIR)) == 0 || errno == ENOENT)
		return 0;
	r = cgroup_populated(base, leaf);
	if (r != 0)
		return r < 0 ? r : -EBUSY;
	dir = openat(base, leaf, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	r = dir < 0 ? -errno : walk(dir, 0, true, NULL, NULL);
	if (r < 0)
		return r;
	return unlinkat(base, leaf, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

int cgroup_value(int base, const char *leaf, const char *file, const char *key, uint64_t *ret)
{
	char path[PATH_BYTES], text[4096], *at = text;
	size_t len = key ? strlen(key) : 0;
	ssize_t n;

	if (path_to(path, leaf, file) < 0)
		return -ENAMETOOLONG;
	n = fd_read_at(base, path, text, sizeof(text));
	if (n < 0)
		return (int)n;
	while (key && !(strncmp(at, key, len) == 0 && at[len] == ' ')) {
		at = strchr(at, '\n');
		if (!at)
			return -ENODATA;
		at++;
	}
	*ret = strtoull(at + (key ? len + 1 : 0), NULL, 10);
	return 0;
}

int cgroup_populated(int base, const char *leaf)
{
	uint64_t v;
	int r = cgroup_value(base, leaf, "cgroup.events", "populated", &v);

	if (r == -ENOENT || r == -ENODEV)
		return 0;
	return r < 0 ? r : v != 0;
}

bool cgroup_frozen(int base, const char *leaf)
{
	uint64_t v;

	return cgroup_value(base, leaf, "cgroup.freeze", NULL, &v) == 0 && v == 1;
}

static int write_file(int base, const char *leaf, const char *file, const char *text)
{
	char path[PATH_BYTES];

	if (path_to(path, leaf, file) < 0)
		return -ENAMETOOLONG;
	return fd_write_at(base, path, text);
}

int cgroup_freeze(int base, const char *leaf, bool frozen)
{
	return write_file(base, leaf, "cgroup.freeze", frozen ? "1" : "0");
}

int cgroup_kill(int base, const char *leaf)
{
	return write_file(base, leaf, "cgroup.kill", "1");
}

static int add_pids(int dir, void *arg)
{
	struct pids *ret = arg;
	FILE *list;
	int pid, fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0; /* gone meanwhile */
	list = fdopen(fd, "r");
	if (!list) {
		close(fd);
		return -ENOMEM;
	}
	while (fscanf(list, "%d", &pid) == 1)
		if (pid > 1)
			pids_add(ret, pid);
	fclose(list);
	return ret->failed ? -ENOMEM : 0;
}

int cgroup_pids(int base, const char *leaf, struct pids *ret)
{
	auto_fd dir = openat(base, leaf, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (dir < 0)
		return errno == ENOENT ? 0 : -errno;
	return walk(dir, 0, false, add_pids, ret);
}

bool cgroup_has(const char *prefix, const char *leaf, pid_t pid)
{
	char path[512], want[512];
	const char *at;
	size_t len;

	if (proc_cgroup(pid, path, sizeof(path)) < 0)
		return false;
	len = (size_t)snprintf(want, sizeof(want), "%s/%s", prefix, leaf);
	at = *prefix ? (strncmp(path, want, len) == 0 ? path : NULL) : strstr(path, want);
	return at && (at[len] == '\0' || at[len] == '/');
}

void cgroup_prefix(char *ret, size_t size)
{
	static const char own[] = "/daemon";
	ssize_t n = proc_cgroup(getpid(), ret, size);
	size_t len = sizeof(own) - 1;

	if (n < (ssize_t)len || strcmp(ret + n - len, own) != 0)
		*ret = '\0';
	else
		ret[(size_t)n - len] = '\0';
}
