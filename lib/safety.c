/*
 * Fork safety. Owns nothing. The usual answer has to be cheap: the number of threads is the link
 * count of /proc/self/task, and only fds that are regular files are asked for locks.
 */
#include "lib/safety.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPAWN_INSTEAD "use start_method = \"spawn\""

static void __attribute__((format(printf, 2, 3)))
blame(struct safety_report *r, const char *format, ...)
{
	va_list list;

	if (r->n == SAFETY_CULPRITS)
		return;
	va_start(list, format);
	vsnprintf(r->text[r->n++], sizeof(r->text[0]), format, list);
	va_end(list);
}

static ssize_t read_file(const char *path, char *ret, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, ret, size - 1);
	close(fd);
	if (n < 0)
		return -errno;
	ret[n] = '\0';
	return n;
}

/* --- threads ------------------------------------------------------------------------------- */

/* Two links and one for each thread: proc_task_getattr() in the kernel's fs/proc/base.c. */
static uint32_t count_tasks(void)
{
	struct stat st;

	return stat("/proc/self/task", &st) == 0 && st.st_nlink > 2 ? (uint32_t)st.st_nlink - 2 : 0;
}

static bool is_allowed(const struct safety *s, const char *name)
{
	/* the kernel keeps 15 bytes of a name */
	for (size_t i = 0; i < s->n_allowed; i++)
		if (strncmp(s->allowed[i], name, 15) == 0)
			return true;
	return false;
}

/* Append the name of a thread that is not allowed; false if it is, or has ended meanwhile. */
static bool name_thread(const struct safety *s, int tid, char *list, size_t size)
{
	char path[64], name[32];
	size_t len = strlen(list);

	snprintf(path, sizeof(path), "/proc/self/task/%d/comm", tid);
	if (read_file(path, name, sizeof(name)) <= 0)
		return false;
	name[strcspn(name, "\n")] = '\0';
	if (is_allowed(s, name))
		return false;
	snprintf(list + len, size - len, "%s%s", len ? ", " : "", name);
	return true;
}

static int check_tasks(const struct safety *s, struct safety_report *r)
{
	uint32_t tasks = count_tasks(), bad = 0;
	char names[100] = "";
	struct dirent *e;
	DIR *dir;

	if (tasks == 1)
		return 0;
	dir = opendir("/proc/self/task");
	if (!dir)
		return -errno;
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.' && atoi(e->d_name) != getpid())
			bad += name_thread(s, atoi(e->d_name), names, sizeof(names));
	closedir(dir);
	if (bad > 0)
		blame(r, "%u threads (%s); start them in after_fork, or " SPAWN_INSTEAD, bad + 1,
		      names);
	return 0;
}

/* --- descriptors --------------------------------------------------------------------------- */

bool safety_is_gpu(const char *path)
{
	static const char *const prefixes[] = { "/dev/nvidia", "/dev/dri/",    "/dev/kfd",
						"/dev/accel",  "/dev/davinci", "/dev/habanalabs",
						"/dev/hl",     "/dev/mali",    "/dev/dxg" };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(path, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static bool has_lock(int fd)
{
	char path[48], text[2048];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return read_file(path, text, sizeof(text)) > 0 && strstr(text, "\nlock:") != NULL;
}

static bool is_remembered(const struct safety *s, int fd, const struct stat *st)
{
	for (size_t i = 0; i < s->n_fds; i++)
		if (s->fds[i].fd == fd)
			return s->fds[i].dev == st->st_dev && s->fds[i].ino == st->st_ino;
	return false;
}

static void check_fd(const struct safety *s, int fd, struct safety_report *r)
{
	char path[48], target[160];
	struct stat st;
	bool fresh;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return;
	fresh = s->remembered && !is_remembered(s, fd, &st);
	if (!fresh && (S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode) ||
		       (S_ISREG(st.st_mode) && !has_lock(fd))))
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = '\0';
	if (S_ISCHR(st.st_mode) && safety_is_gpu(target))
		blame(r, "an open GPU device (%s); " SPAWN_INSTEAD, target);
	else if (strcmp(target, "anon_inode:[io_uring]") == 0)
		blame(r, "an io_uring (fd %d); set it up in after_fork, or " SPAWN_INSTEAD, fd);
	else if (S_ISREG(st.st_mode) && has_lock(fd))
		blame(r, "a lock on %s (fd %d); take it in after_fork, or " SPAWN_INSTEAD, target,
		      fd);
	else if (fresh)
		blame(r,
		      "fd %d (%s) was opened after READY; open it in after_fork, or " SPAWN_INSTEAD,
		      fd, target);
}

/* Call visit for each open fd except the directory itself; -errno. */
static int each_fd(const int *own, size_t n_own, void (*visit)(void *arg, int fd), void *arg)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;

	if (!dir)
		return -errno;
	while ((e = readdir(dir))) {
		int fd = atoi(e->d_name);
		bool skip = e->d_name[0] == '.' || fd == dirfd(dir);

		for (size_t i = 0; i < n_own; i++)
			skip = skip || own[i] == fd;
		if (!skip)
			visit(arg, fd);
	}
	closedir(dir);
	return 0;
}

static void remember_fd(void *arg, int fd)
{
	struct safety *s = arg;
	struct stat st;

	if (s->n_fds < SAFETY_FDS && fstat(fd, &st) == 0)
		s->fds[s->n_fds++] = (struct safety_fd){ fd, st.st_dev, st.st_ino };
}

int safety_remember(struct safety *s)
{
	int r;

	s->n_fds = 0;
	r = each_fd(NULL, 0, remember_fd, s);
	s->remembered = r == 0;
	return r;
}

/* --- devices that are mapped, their fd closed ---------------------------------------------- */

static void check_maps(struct safety_report *r)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];

	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		char *path = strchr(line, '/');

		if (!path || !safety_is_gpu(path))
			continue;
		path[strcspn(path, "\n")] = '\0';
		blame(r, "a mapped GPU device (%.120s); " SPAWN_INSTEAD, path);
		break;
	}
	fclose(f);
}

/* ------------------------------------------------------------------------------------------- */

struct fd_look {
	const struct safety *s;
	struct safety_report *r;
};

static void look_at_fd(void *arg, int fd)
{
	struct fd_look *look = arg;

	check_fd(look->s, fd, look->r);
}

int safety_check(const struct safety *s, const int *own, size_t n_own, bool thorough,
		 struct safety_report *ret)
{
	struct fd_look look = { s, ret };
	int r;

	ret->n = 0;
	r = check_tasks(s, ret);
	if (r == 0)
		r = each_fd(own, n_own, look_at_fd, &look);
	if (r < 0)
		return r;
	if (thorough && ret->n == 0)
		check_maps(ret);
	return (int)ret->n;
}

static void count_fd(void *arg, int fd)
{
	++*(uint32_t *)arg;
}

/* Since Linux 6.2 that is the size of the directory, before it was 0. */
static uint32_t count_fds(void)
{
	uint32_t n = 0;
	struct stat st;

	if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
		return (uint32_t)st.st_size;
	each_fd(NULL, 0, count_fd, &n);
	return n;
}

bool safety_unchanged(const struct safety *s, size_t n_own)
{
	return s->remembered && s->n_fds < SAFETY_FDS && count_tasks() == 1 &&
	       count_fds() == s->n_fds + n_own;
}

void safety_figures(struct safety_figures *ret)
{
	unsigned long long size, resident;
	char text[128];

	*ret = (struct safety_figures){ .tasks = count_tasks() };
	ret->fds = count_fds();
	if (read_file("/proc/self/statm", text, sizeof(text)) > 0 &&
	    sscanf(text, "%llu %llu", &size, &resident) == 2)
		ret->rss_bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
