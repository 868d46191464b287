/* Owns nothing: /proc is read when somebody asks. */
#include "manager/userns.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define MAP_BYTES 16384 /* 340 lines at most */

/* Lines of "inside outside count". A map that cannot be read forbids nothing. */
static bool is_mapped(const char *path, unsigned id)
{
	char text[MAP_BYTES], *save = NULL;

	if (fd_read_at(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return true;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned inside, outside, count;

		if (sscanf(line, "%u %u %u", &inside, &outside, &count) == 3 && id >= inside &&
		    id - inside < count)
			return true;
	}
	return false;
}

static bool groups_are_denied(void)
{
	char text[16];

	return fd_read_at(AT_FDCWD, "/proc/self/setgroups", text, sizeof(text)) > 0 &&
	       strncmp(text, "deny", 4) == 0;
}

bool userns_is_partial(void)
{
	return !is_mapped("/proc/self/uid_map", (unsigned)-2) ||
	       !is_mapped("/proc/self/gid_map", (unsigned)-2) || groups_are_denied();
}

int userns_check(uid_t uid, gid_t gid, struct diag *d)
{
	if (!is_mapped("/proc/self/uid_map", uid))
		return diag_set(d, -EINVAL,
				"user id %u is not mapped into this user namespace "
				"(/proc/self/uid_map)",
				(unsigned)uid);
	if (!is_mapped("/proc/self/gid_map", gid))
		return diag_set(d, -EINVAL,
				"group id %u is not mapped into this user namespace "
				"(/proc/self/gid_map)",
				(unsigned)gid);
	if (groups_are_denied())
		return diag_set(d, -EPERM,
				"this user namespace denies setgroups (/proc/self/setgroups): no "
				"worker can be another user");
	return 0;
}
