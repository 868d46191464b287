/* Options of reeve-runner, and what it says. Exit codes: the worker's; 2: usage. */
#include "lib/runner/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void runner_say(const char *format, ...)
{
	char text[1024] = "reeve-runner: ";
	size_t len = strlen(text);
	va_list list;

	va_start(list, format);
	vsnprintf(text + len, sizeof(text) - len - 1, format, list);
	va_end(list);
	len = strlen(text);
	text[len++] = '\n';
	/* one write: lines of workers that share a pipe do not mix */
	if (write(STDERR_FILENO, text, len) < 0)
		return;
}

uint64_t runner_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int usage(void)
{
	fputs("usage: reeve-runner --spawn MODULE [ARGUMENT…]   run a module as one process\n"
	      "       reeve-runner --template | --threads        as a child of reeved\n"
	      "       reeve-runner --version\n",
	      stderr);
	return 2;
}

/* -1 and a message if there is none. What the module starts shall not find it. */
static int take_channel(void)
{
	const char *text = getenv(CHANNEL_ENV);
	int fd = text ? atoi(text) : -1;

	if (fd < 3 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		runner_say("no channel to reeved (" CHANNEL_ENV "); see reeve-template(7)");
		return -1;
	}
	return fd;
}

static int with_channel(int (*run)(int channel))
{
	int channel = take_channel();

	return channel < 0 ? 2 : run(channel);
}

int main(int argc, char **argv)
{
	if (argc >= 3 && strcmp(argv[1], "--spawn") == 0)
		exit(run_spawn(argv[2], argc - 2, argv + 2));
	if (argc != 2)
		return usage();
	if (strcmp(argv[1], "--template") == 0)
		exit(with_channel(run_template));
	if (strcmp(argv[1], "--threads") == 0)
		exit(with_channel(run_threads));
	if (strcmp(argv[1], "--version") == 0)
		return puts("reeve-runner " REEVE_VERSION) < 0;
	return usage();
}
