/*
 * Killing what is left, by evidence that needs no cooperation. Children: subreaping brings every
 * descendant up to us once its parents are dead, so "kill all children, reap, again" ends every
 * tree. Marked processes: what an earlier life of this daemon left, known by REEVE_ID in its
 * environment; an environment that cannot be read is unknown and never a match.
 */
#include "keeper/keeper.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* No exit for so long, or not empty after so long: report what is there. */
#define QUIET_MS 5000
#define CAP_MS	 30000
#define MARKER	 "REEVE_ID="

/* Calls fn for each process number below /proc. */
static void each_process(void (*fn)(void *arg, pid_t pid), void *arg)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (isdigit((unsigned char)e->d_name[0]))
			fn(arg, (pid_t)atol(e->d_name));
	}
	if (d)
		closedir(d);
}

/* Value of REEVE_ID in a process's environment, into ret; false if none or unreadable. */
static bool read_marker(pid_t pid, char *ret, size_t size)
{
	char path[48];
	auto_free char *text = NULL;
	auto_fd fd = -1;
	size_t len = 0;

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, 8u << 20, &text, &len) < 0)
		return false;
	for (size_t at = 0; at < len; at += strlen(text + at) + 1) {
		if (strncmp(text + at, MARKER, sizeof(MARKER) - 1) != 0)
			continue;
		snprintf(ret, size, "%s", text + at + sizeof(MARKER) - 1);
		return true;
	}
	return false;
}

/* "IDENTITY/GROUP:INDEX/INCARNATION" of this identity: the group's name into ret. */
static bool marked_group(const struct keeper *k, const char *marker, char *ret, size_t size)
{
	size_t n = strlen(k->ledger.h->identity_text), len;

	if (strncmp(marker, k->ledger.h->identity_text, n) != 0 || marker[n] != '/')
		return false;
	len = strcspn(marker + n + 1, ":/");
	snprintf(ret, size, "%.*s", (int)MIN_OF(len, size - 1), marker + n + 1);
	return true;
}

static bool orphans_are_left(struct keeper *k, const char *group)
{
	uint32_t n = atomic_load(&k->ledger.h->groups_high);

	for (uint32_t row = 0; row < n && row < LEDGER_GROUPS; row++) {
		const struct ledger_group *g = ledger_group(&k->ledger, row);

		if (strncmp(g->name, group, sizeof(g->name)) == 0)
			return g->orphans == CONF_ORPHANS_LEAVE;
	}
	return false;
}

struct pass {
	struct keeper *k;
	bool strays_too;
	int alive, left; /* to be killed, left on purpose */
	bool name_them;
};

/* Left on purpose: the orphan of a group that leaves them, or a stray where these are left. */
static bool is_left(struct pass *p, pid_t pid)
{
	char marker[256], group[CONF_GROUP_NAME_MAX + 1];
	bool any = atomic_load(&p->k->ledger.h->groups_high) > 0;

	if (ledger_find_pid(&p->k->ledger, pid) != LEDGER_NONE)
		return false;
	if (any && read_marker(pid, marker, sizeof(marker)) &&
	    marked_group(p->k, marker, group, sizeof(group)))
		return orphans_are_left(p->k, group);
	return !p->strays_too;
}

static void say_survivor(pid_t pid)
{
	char path[48], stat[512];
	const char *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_at(AT_FDCWD, path, stat, sizeof(stat)) < 0)
		return;
	end = strrchr(stat, ')');
	log_error("pid %.*s, state %c, survived SIGKILL",
		  (int)(end ? end - stat + 1 : (ptrdiff_t)strlen(stat)), stat,
		  end && end[1] ? end[2] : '?');
}

static void end_child(void *arg, pid_t pid)
{
	struct pass *p = arg;

	if (!kill_allowed(p->k, pid))
		return;
	if (is_left(p, pid)) {
		p->left++;
		return;
	}
	p->alive++;
	if (p->name_them)
		say_survivor(pid);
	else
		kill(pid, SIGKILL);
}

static void end_if_child(void *arg, pid_t pid)
{
	char path[48], stat[512];
	const char *end;
	int ppid;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_at(AT_FDCWD, path, stat, sizeof(stat)) < 0)
		return;
	end = strrchr(stat, ')');
	if (end && sscanf(end + 1, " %*c %d", &ppid) == 1 && ppid == getpid())
		end_child(arg, pid);
}

static void each_child(struct pass *p)
{
	auto_fd fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
	auto_free char *text = NULL;
	char *at, *end;

	/* The file needs CONFIG_PROC_CHILDREN. */
	if (fd < 0 || fd_read_all(fd, 16u << 20, &text, NULL) < 0) {
		each_process(end_if_child, p);
		return;
	}
	for (at = text; *at; at = end) {
		long pid = strtol(at, &end, 10);

		if (end == at)
			break;
		end_child(p, (pid_t)pid);
		while (*end == ' ')
			end++;
	}
}

/* Reap all there is; true if something ended. */
static bool reap_all(struct keeper *k)
{
	bool any = false;
	int n;

	while ((n = reap_round(k)) > 0)
		any = true;
	return any;
}

/* Until a child ends, but not for long: new children show only when we look. */
static void wait_for_child(struct keeper *k, int ms)
{
	struct pollfd p = { .fd = k->signals, .events = POLLIN };

	if (k->signals >= 0 && poll(&p, 1, ms) == 1)
		signals_read(k);
	if (notify_due(k) <= clock_mono_ms())
		notify_run(k, clock_mono_ms());
}

int sweep_children(struct keeper *k, bool strays_too)
{
	int64_t now = clock_mono_ms(), cap = now + CAP_MS, quiet = now + QUIET_MS;
	struct pass p = { .k = k, .strays_too = strays_too };

	for (;;) {
		p.alive = p.left = 0;
		each_child(&p);
		if (reap_all(k))
			quiet = clock_mono_ms() + QUIET_MS;
		if (p.alive == 0)
			break;
		now = clock_mono_ms();
		if (now >= cap || now >= quiet) {
			p.alive = 0;
			p.name_them = true;
			each_child(&p);
			break;
		}
		wait_for_child(k, 5);
	}
	if (p.left > 0)
		log_info("%d processes are left running on purpose (orphans or stray_orphans)",
			 p.left);
	return p.alive;
}

struct hunt {
	struct keeper *k;
	const struct conf *conf;
	int killed;
};

static bool group_leaves(const struct conf *conf, const char *name)
{
	const struct conf_group *g = conf_find_group(conf, name);

	return g && g->orphans == CONF_ORPHANS_LEAVE;
}

static void end_marked(void *arg, pid_t pid)
{
	struct hunt *h = arg;
	char marker[256], group[CONF_GROUP_NAME_MAX + 1];
	auto_fd pidfd = -1;

	if (pid <= 1 || pid == getpid())
		return;
	/* Opened before the look, so that what is looked at is what is killed. */
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (!read_marker(pid, marker, sizeof(marker)) ||
	    !marked_group(h->k, marker, group, sizeof(group)) || group_leaves(h->conf, group))
		return;
	if (pidfd < 0 || syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0) {
		if (errno == ESRCH || kill(pid, SIGKILL) < 0)
			return;
	}
	h->killed++;
}

int sweep_marked(struct keeper *k, const struct conf *conf)
{
	int64_t end = clock_mono_ms() + QUIET_MS;
	struct hunt h = { .k = k, .conf = conf };
	int total = 0;

	do {
		h.killed = 0;
		each_process(end_marked, &h);
		total = MAX_OF(total, h.killed);
		reap_all(k);
		if (h.killed)
			poll(NULL, 0, 2);
	} while (h.killed && clock_mono_ms() < end);
	if (h.killed)
		log_error("%d processes of an earlier life of this daemon survived SIGKILL",
			  h.killed);
	return total;
}
