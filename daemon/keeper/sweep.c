/*
 * Killing what is left, by evidence that needs no cooperation. Children: subreaping brings every
 * descendant up to us once its parents are dead, so "kill all children, reap, again" ends every
 * tree.
 */
#include "keeper/keeper.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "ledger/leftovers.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* No exit for so long, or not empty after so long: report what is there. */
#define QUIET_MS 5000
#define CAP_MS	 30000

struct pass {
	struct keeper *k;
	bool strays_too;
	int alive, left; /* to be killed, left on purpose */
	bool name_them;
};

/* Left on purpose: the orphan of a group that leaves them, or a stray where these are left. */
static bool is_left(struct pass *p, pid_t pid)
{
	const struct ledger *l = &p->k->ledger;
	char group[CONF_GROUP_NAME_MAX + 1];

	if (ledger_find_pid(l, pid) != LEDGER_NONE)
		return false;
	if (leftovers_group_of(l->h->identity_text, pid, group, sizeof(group)))
		return leftovers_are_left(l, group);
	return !p->strays_too;
}

static void say_survivor(pid_t pid)
{
	char path[48], stat[512];
	struct stat owner;
	const char *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_at(AT_FDCWD, path, stat, sizeof(stat)) < 0)
		return;
	end = strrchr(stat, ')');
	log_error("pid %.*s, uid %d, state %c, survived SIGKILL",
		  (int)(end ? end - stat + 1 : (ptrdiff_t)strlen(stat)), stat,
		  lstat(path, &owner) == 0 ? (int)owner.st_uid : -1, end && end[1] ? end[2] : '?');
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
		leftovers_each_process(end_if_child, p);
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
