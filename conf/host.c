/* What this host gives: CPUs, a program in a PATH. Asked by the loader only. */
#include "key.h"

#include "base/fd.h"
#include "base/mem.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CPUS_MAX 8192

static int affinity_cpus(void)
{
	cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
	size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
	int n = 0;

	if (set && sched_getaffinity(0, size, set) == 0)
		n = CPU_COUNT_S(size, set);
	CPU_FREE(set);
	return n > 0 ? n : 1;
}

/* "max 100000" or "150000 100000" → CPUs, rounded up; 0 = no quota. */
static int quota_cpus(const char *dir)
{
	char path[PATH_MAX + 64], text[64];
	long long quota, period;

	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", dir);
	if (fd_read_at(AT_FDCWD, path, text, sizeof(text)) < 0 ||
	    sscanf(text, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0)
		return 0;
	return (int)MIN_OF((quota + period - 1) / period, CPUS_MAX);
}

int host_cpus(void)
{
	char text[PATH_MAX], *dir, *end;
	int n = affinity_cpus();

	if (fd_read_at(AT_FDCWD, "/proc/self/cgroup", text, sizeof(text)) < 0)
		return n;
	dir = strstr(text, "0::/");
	if (!dir)
		return n;
	dir += 3;
	dir[strcspn(dir, "\n")] = '\0';
	while (dir[0]) { /* every ancestor may have a quota of its own */
		int q = quota_cpus(dir);

		if (q > 0)
			n = MIN_OF(n, q);
		end = strrchr(dir, '/');
		*end = '\0';
	}
	return n;
}
