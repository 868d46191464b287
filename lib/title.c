/* Titles. Owns nothing: the kernel is told of memory that the caller keeps. */
#include "lib/title.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/prctl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Fields of proc_pid_stat(5), counted from the one behind the name (field 3). */
enum {
	FIELD_START_CODE = 26 - 3,
	FIELD_END_CODE = 27 - 3,
	FIELD_START_STACK = 28 - 3,
	FIELD_START_DATA = 45 - 3,
	FIELD_END_DATA = 46 - 3,
	FIELD_START_BRK = 47 - 3,
	FIELDS = 48 - 3,
};

static int read_stat(char *ret, size_t size)
{
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, ret, size - 1);
	close(fd);
	if (n <= 0)
		return -EIO;
	ret[n] = '\0';
	return 0;
}

/* The numbers behind the name, which may hold anything, brackets too. */
static int read_fields(uint64_t *ret)
{
	char text[1024], *at, *end;
	int r = read_stat(text, sizeof(text));

	if (r < 0)
		return r;
	at = strrchr(text, ')');
	if (!at || strlen(at) < 4)
		return -EIO;
	at += 3; /* ") S" */
	ret[0] = 0;
	for (int i = 1; i < FIELDS; i++) {
		ret[i] = (uint64_t)strtoumax(at, &end, 10);
		if (end == at)
			return -EIO;
		at = end;
	}
	return 0;
}

int title_prepare(struct title *ret)
{
	uint64_t f[FIELDS];
	int r = read_fields(f);

	*ret = (struct title){ 0 };
	if (r < 0)
		return r;
	*ret = (struct title){ f[FIELD_START_CODE], f[FIELD_END_CODE],	f[FIELD_START_DATA],
			       f[FIELD_END_DATA],   f[FIELD_START_BRK], f[FIELD_START_STACK] };
	return 0;
}

int title_set(const struct title *t, const char *block, size_t args_len, size_t env_len)
{
	const uint64_t at = (uintptr_t)block;
	struct prctl_mm_map map = {
		.start_code = t->start_code,
		.end_code = t->end_code,
		.start_data = t->start_data,
		.end_data = t->end_data,
		.start_brk = t->start_brk,
		.brk = (uintptr_t)sbrk(0),
		.start_stack = t->start_stack,
		.arg_start = at,
		.arg_end = at + args_len,
		.env_start = at + args_len,
		.env_end = at + args_len + env_len,
		.exe_fd = UINT32_MAX,
	};

	if (!t->start_stack)
		return -ENODATA;
	return prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0) < 0 ? -errno : 0;
}

void title_set_name(const char *name)
{
	prctl(PR_SET_NAME, name, 0, 0, 0);
}
