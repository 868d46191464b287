/* Owns nothing. Reads /proc in as few calls as it takes. */
#include "manager/proc.h"

#include "base/fd.h"
#include "base/mem.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define ENVIRON_BYTES (256u << 10) /* of a foreign environment; the marker stands far in front */

/* The name may hold anything, spaces and ")" included: the last ")" ends it. */
int proc_stat_parse(const char *text, size_t len, struct proc_stat *ret)
{
	struct proc_stat s = { 0 };
	const char *open = memchr(text, '(', len), *close = memrchr(text, ')', len);
	uint64_t user, system;
	size_t n;

	if (!open || !close || close < open || (size_t)(close - text) + 2 >= len)
		return -EINVAL;
	s.pid = (pid_t)strtol(text, NULL, 10);
	n = MIN_OF((size_t)(close - open - 1), sizeof(s.comm) - 1);
	memcpy(s.comm, open + 1, n);
	/* fields 3 to 9, 14, 15, 22, 24 of proc(5) */
	if (sscanf(close + 2,
		   "%c %d %d %d %*d %*d %u %*s %*s %*s %*s %" SCNu64 " %" SCNu64
		   " %*d %*d %*d %*d %*d %*d %" SCNu64 " %*s %" SCNd64,
		   &s.state, &s.ppid, &s.pgrp, &s.session, &s.flags, &user, &system, &s.starttime,
		   &s.rss_pages) != 9)
		return -EINVAL;
	s.cpu_ticks = user + system;
	*ret = s;
	return 0;
}

static int open_entry(pid_t pid, const char *name, int flags)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	return fd;
}

/* One read: these files are made at the time of the read, and short. */
static ssize_t read_entry(pid_t pid, const char *name, char *buf, size_t size)
{
	auto_fd fd = open_entry(pid, name, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = read(fd, buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

int proc_stat(pid_t pid, struct proc_stat *ret)
{
	char text[1024];
	ssize_t n = read_entry(pid, "stat", text, sizeof(text));

	if (n < 0)
		return (int)n;
	return proc_stat_parse(text, (size_t)n, ret);
}

void pids_fini(struct pids *p)
{
	free(p->at);
	*p = (struct pids){ 0 };
}

void pids_add(struct pids *p, pid_t pid)
{
	if (p->n == p->room) {
		size_t room = p->room ? p->room * 2 : 64;
		pid_t *at = realloc(p->at, room * sizeof(*at));

		if (!at) {
			p->failed = true;
			return;
		}
		p->at = at;
		p->room = room;
	}
	p->at[p->n++] = pid;
}

bool pids_have(const struct pids *p, pid_t pid)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->at[i] == pid)
			return true;
	return false;
}

int proc_children_read(int fd, struct pids *ret)
{
	char text[8192];
	pid_t pid = 0;
	bool digits = false;
	ssize_t n;

	while ((n = read(fd, text, sizeof(text))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (isdigit((unsigned char)text[i])) {
				pid = pid * 10 + (text[i] - '0');
				digits = true;
			} else if (digits) {
				pids_add(ret, pid);
				pid = 0;
				digits = false;
			}
		}
	}
	if (digits)
		pids_add(ret, pid);
	return n < 0 ? -errno : ret->failed ? -ENOMEM : 0;
}

static int add_children(int dir, struct pids *ret)
{
	auto_fd fd = openat(dir, "children", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? -ENOTSUP : -errno;
	return proc_children_read(fd, ret);
}

int proc_children(pid_t pid, struct pids *ret)
{
	int r = 0, top = open_entry(pid, "task", O_RDONLY | O_DIRECTORY);
	struct dirent *e;
	DIR *dir;

	if (top < 0)
		return top;
	dir = fdopendir(top);
	if (!dir) {
		close(top);
		return -ENOMEM;
	}
	while (r == 0 && (e = readdir(dir))) {
		auto_fd task = -1;

		if (e->d_name[0] == '.')
			continue;
		task = openat(top, e->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (task >= 0) /* else that task has just ended */
			r = add_children(task, ret);
	}
	closedir(dir);
	return ret->failed ? -ENOMEM : r;
}

ssize_t proc_scan(struct proc_pair **ret)
{
	auto_free struct proc_pair *pairs = NULL;
	size_t n = 0, room = 0;
	struct dirent *e;
	DIR *dir = opendir("/proc");

	if (!dir)
		return -errno;
	while ((e = readdir(dir))) {
		struct proc_stat s;

		if (!isdigit((unsigned char)e->d_name[0]) || proc_stat(atoi(e->d_name), &s) < 0)
			continue;
		if (n == room) {
			struct proc_pair *more;

			room = room ? room * 2 : 256;
			more = realloc(pairs, room * sizeof(*more));
			if (!more) {
				closedir(dir);
				return -ENOMEM;
			}
			pairs = more;
		}
		pairs[n++] = (struct proc_pair){ s.pid, s.ppid };
	}
	closedir(dir);
	*ret = give_ptr(&pairs);
	return (ssize_t)n;
}

/* Copies the marker out of so much of an environment; -ENOENT if it is not in there. */
static int find_marker(const char *text, size_t len, char *ret, size_t size)
{
	static const char name[] = "REEVE_ID=";

	for (const char *p = text; p < text + len; p += strnlen(p, (size_t)(text + len - p)) + 1) {
		size_t left = (size_t)(text + len - p), n;

		if (left < sizeof(name) || memcmp(p, name, sizeof(name) - 1) != 0)
			continue;
		p += sizeof(name) - 1;
		n = strnlen(p, (size_t)(text + len - p));
		if (n == (size_t)(text + len - p))
			return -ENOENT; /* cut */
		if (n >= size)
			return -ENAMETOOLONG;
		memcpy(ret, p, n + 1);
		return 0;
	}
	return -ENOENT;
}

static int find_marker_far(int fd, const char *head, size_t len, char *ret, size_t size)
{
	auto_free char *text = malloc(ENVIRON_BYTES);
	ssize_t n;

	if (!text)
		return -ENOMEM;
	memcpy(text, head, len);
	while (len < ENVIRON_BYTES && (n = read(fd, text + len, ENVIRON_BYTES - len)) > 0)
		len += (size_t)n;
	return find_marker(text, len, ret, size);
}

/* Is its environment not laid out yet? True from the middle of exec on to its end. */
static bool is_in_exec(pid_t pid)
{
	char text[1024];
	const char *at;
	ssize_t n = read_entry(pid, "stat", text, sizeof(text));
	uint64_t env_end;

	at = n > 0 ? strrchr(text, ')') : NULL;
	/* field 51 of proc(5); ")" ends field 2 */
	for (int i = 2; at && i < 51; i++)
		at = strchr(at + 1, ' ');
	return at && sscanf(at, "%" SCNu64, &env_end) == 1 && env_end == 0;
}

int proc_marker(pid_t pid, char *ret, size_t size)
{
	auto_fd fd = open_entry(pid, "environ", O_RDONLY);
	char head[4096];
	ssize_t n;
	int r;

	*ret = '\0';
	if (fd < 0)
		return fd;
	n = read(fd, head, sizeof(head));
	if (n < 0)
		return -errno;
	if (n == 0)
		return is_in_exec(pid) ? -EAGAIN : 0;
	r = find_marker(head, (size_t)n, ret, size);
	if (r == -ENOENT && n == sizeof(head))
		r = find_marker_far(fd, head, (size_t)n, ret, size);
	return r == -ENOENT ? 0 : r;
}

static bool field(const char *text, const char *name, int base, unsigned long long *ret)
{
	const char *at = strstr(text, name);

	if (!at)
		return false;
	*ret = strtoull(at + strlen(name), NULL, base);
	return true;
}

int proc_details(pid_t pid, struct tree_member *m)
{
	const unsigned long long term = 1ull << (SIGTERM - 1);
	unsigned long long uid = 0, threads = 0, ignored = 0, caught = 0, blocked = 0;
	char text[4096];
	ssize_t n = read_entry(pid, "status", text, sizeof(text));

	if (n < 0)
		return (int)n;
	field(text, "\nUid:", 10, &uid);
	field(text, "\nThreads:", 10, &threads);
	field(text, "\nSigIgn:", 16, &ignored);
	field(text, "\nSigCgt:", 16, &caught);
	field(text, "\nSigBlk:", 16, &blocked);
	m->uid = (uid_t)uid;
	m->threads = (int)threads;
	m->ignores_term = ((ignored | caught | blocked) & term) != 0;
	return 0;
}

ssize_t proc_cgroup(pid_t pid, char *ret, size_t size)
{
	char text[4096];
	ssize_t n = read_entry(pid, "cgroup", text, sizeof(text));
	char *line = text, *end;

	if (n < 0)
		return n;
	while (line && strncmp(line, "0::", 3) != 0) {
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	if (!line)
		return -ENOENT;
	line += 3;
	end = strchrnul(line, '\n');
	*end = '\0';
	if ((size_t)(end - line) >= size)
		return -ENAMETOOLONG;
	strcpy(ret, line);
	return end - line;
}

/* A pidfd pins the process; the start time read after that says whether it is the one meant. Where
 * there is none (5.3, seccomp) the same look comes as late as it can. */
int proc_signal(pid_t pid, uint64_t starttime, int signal)
{
	auto_fd fd = -1;
	struct proc_stat s;
	int r;

	if (pid <= 1 || pid == getpid())
		return -EINVAL;
	fd = (int)syscall(SYS_pidfd_open, pid, 0u);
	r = proc_stat(pid, &s);
	if (r < 0)
		return r;
	if (s.starttime != starttime)
		return -ESRCH;
	if (fd >= 0) {
		if (syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0u) == 0)
			return 0;
		if (errno != ENOSYS && errno != EPERM)
			return -errno;
	}
	return kill(pid, signal) < 0 ? -errno : 0;
}
