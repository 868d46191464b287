/*
 * worker-glibc MARKS INDEX MODE: the worker that users see. Says one line, marks that it is up,
 * waits for a signal. MODE: obey · deaf (ignores TERM) · deaf10 (deaf if INDEX ends in 0).
 * USR1 makes it crash. The same program without libc is worker-nolibc.c.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mark.h"

static void crash(int number)
{
	_exit(70);
}

int main(int argc, char **argv)
{
	struct timespec now;
	struct mark mark = { .kind = MARK_UP };
	int fd;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (argc != 4)
		return 2;
	mark.at_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	mark.pid = (uint32_t)getpid();
	mark.index = (uint16_t)atoi(argv[2]);
	if (strcmp(argv[3], "deaf") == 0 ||
	    (strcmp(argv[3], "deaf10") == 0 && mark.index % 10 == 0))
		signal(SIGTERM, SIG_IGN);
	signal(SIGUSR1, crash);
	if (write(STDOUT_FILENO, "ready\n", 6) != 6)
		return 3;
	fd = open(argv[1], O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, &mark, sizeof mark) != sizeof mark)
		return 4;
	close(fd);
	for (;;)
		pause();
}
