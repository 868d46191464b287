/*
 * Owns the mapping of the file that a test arms failpoints in (test builds only). What happens is
 * decided by memory alone: nothing is opened, allocated or logged where a point is met.
 */
#include "base/failpoint.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_LOOK_NS 200000

static const struct {
	char role; /* K keeper, M manager, L logger, C child between clone and exec */
	const char *name;
} points[] = {
#define FAILPOINT(role, id, name) { role, name },
#include "base/failpoint_list.h"
#undef FAILPOINT
};

/* Of the process, as errno is: code that meets a point has no argument to carry it. */
static struct failpoint_file *file;

static int map(const char *path)
{
	struct failpoint_file *f;
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	f = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (f == MAP_FAILED)
		return -errno;
	if ((size_t)st.st_size < sizeof(*f) + FP_COUNT * sizeof(f->row[0]) ||
	    f->magic != FAILPOINT_MAGIC || f->rows != FP_COUNT || f->stride != sizeof(f->row[0]))
		return -EPROTO;
	for (int i = 0; i < FP_COUNT; i++)
		if (strncmp(f->row[i].name, points[i].name, sizeof(f->row[i].name)) != 0)
			return -EPROTO;
	file = f;
	return 0;
}

void failpoint_init(int argc, char **argv, const char *role)
{
	const char *path = getenv("REEVE_FAILPOINTS");

	if (argc == 2 && strcmp(argv[1], "--failpoints") == 0) {
		for (int i = 0; i < FP_COUNT; i++)
			printf("%c %s\n", points[i].role, points[i].name);
		exit(0);
	}
	if (!path)
		return;
	if (map(path) < 0) {
		fprintf(stderr, "reeved: REEVE_FAILPOINTS: %s is not of this build\n", path);
		exit(1);
	}
	if (role && strcmp(role, "reeve-manager") == 0)
		atomic_store(&file->manager_pid, (int32_t)getpid());
	if (role && strcmp(role, "reeve-logger") == 0)
		atomic_store(&file->logger_pid, (int32_t)getpid());
}

/* True if this visit counts. */
static bool take(struct failpoint_row *row)
{
	if (atomic_load(&row->skip) > 0 && atomic_fetch_sub(&row->skip, 1) > 0)
		return false;
	return atomic_load(&row->times) > 0 && atomic_fetch_sub(&row->times, 1) > 0;
}

static void kill_pid(int32_t pid)
{
	if (pid > 1)
		kill(pid, SIGKILL);
}

static void hold(struct failpoint_row *row)
{
	const struct timespec look = { 0, PAUSE_LOOK_NS };

	while (atomic_load(&row->action) == FAIL_PAUSE)
		nanosleep(&look, NULL);
}

int failpoint_meet(enum failpoint at)
{
	struct failpoint_row *row;
	int action;

	if (!file)
		return 0;
	row = &file->row[at];
	atomic_fetch_add(&row->hits, 1);
	action = atomic_load(&row->action);
	if (action == FAIL_NOTHING || !take(row))
		return 0;
	atomic_fetch_add(&row->happened, 1);
	switch (action) {
	case FAIL_KILL:
		kill(getpid(), SIGKILL);
		_exit(137); /* pid 1 of a namespace */
	case FAIL_ERRNO:
		return -atomic_load(&row->value);
	case FAIL_PAUSE:
		hold(row);
		return 0;
	case FAIL_KILL_MANAGER:
		kill_pid(atomic_load(&file->manager_pid));
		return 0;
	case FAIL_KILL_LOGGER:
		kill_pid(atomic_load(&file->logger_pid));
		return 0;
	default:
		return 0;
	}
}

int64_t failpoint_clock_offset_us(void)
{
	return file ? atomic_load(&file->real_offset_us) : 0;
}

int64_t failpoint_mono_offset_us(void)
{
	return file ? atomic_load(&file->mono_offset_us) : 0;
}
