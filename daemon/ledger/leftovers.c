/* Owns no state. What is killed is what was looked at: the pidfd is opened before the look. */
#include "ledger/leftovers.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "ledger/leaves.h"

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

#define MARKER	    "REEVE_ID="
#define ENVIRON_MAX (8u << 20)
#define MOURN_MS    1000

void leftovers_each_process(void (*fn)(void *arg, pid_t pid), void *arg)
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

/* The value in an environment block, or NULL. */
static const char *find_marker(const char *text, size_t len)
{
	for (size_t at = 0; at < len; at += strlen(text + at) + 1) {
		if (strncmp(text + at, MARKER, sizeof(MARKER) - 1) == 0)
			return text + at + sizeof(MARKER) - 1;
	}
	return NULL;
}

bool leftovers_group_of(const char *identity, pid_t pid, char *ret, size_t size)
{
	char path[48];
	auto_free char *text = NULL;
	auto_fd fd = -1;
	size_t n = strlen(identity), len = 0;
	const char *marker;

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, ENVIRON_MAX, &text, &len) < 0)
		return false;
	marker = find_marker(text, len);
	if (!marker || strncmp(marker, identity, n) != 0 || marker[n] != '/')
		return false;
	marker += n + 1;
	snprintf(ret, size, "%.*s", (int)MIN_OF(strcspn(marker, ":/"), size - 1), marker);
	return true;
}

bool leftovers_are_left(const struct ledger *l, const char *group)
{
	uint32_t n = atomic_load(&l->h->groups_high);

	for (uint32_t row = 0; row < n && row < LEDGER_GROUPS; row++) {
		const struct ledger_group *g = ledger_group(l, row);

		if (strncmp(g->name, group, sizeof(g->name)) == 0)
			return g->orphans == CONF_ORPHANS_LEAVE;
	}
	return false;
}

struct hunt {
	const char *identity;
	bool (*spare)(void *arg, const char *group);
	void *arg;
	int killed;
};

static void end_marked(void *arg, pid_t pid)
{
	struct hunt *h = arg;
	char group[CONF_GROUP_NAME_MAX + 1];
	auto_fd pidfd = -1;

	if (pid <= 1 || pid == getpid())
		return;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (!leftovers_group_of(h->identity, pid, group, sizeof(group)) ||
	    (h->spare && h->spare(h->arg, group)))
		return;
	/* Without pidfds the number was good a moment ago; nothing better can be had. */
	if ((pidfd >= 0 && syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0) ||
	    (pidfd < 0 && kill(pid, SIGKILL) == 0))
		h->killed++;
}

int leftovers_kill(const char *identity, bool (*spare)(void *arg, const char *group), void *arg)
{
	struct hunt h = { identity, spare, arg, 0 };

	leftovers_each_process(end_marked, &h);
	return h.killed;
}

static bool spare_left(void *arg, const char *group)
{
	return leftovers_are_left(arg, group);
}

void leftovers_mourn(const struct ledger *l)
{
	int64_t end = clock_mono_ms() + MOURN_MS;

	/* What a cgroup holds cannot escape by wiping its environment. */
	leaves_kill(l);
	while (leftovers_kill(l->h->identity_text, spare_left, (void *)l) > 0 &&
	       clock_mono_ms() < end)
		poll(NULL, 0, 1);
	leaves_remove(l, MAX_OF(end - clock_mono_ms(), 0));
}
