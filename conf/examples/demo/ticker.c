/*
 * A native worker of the demo: counts ticks, says so in its log and in its status, and saves its
 * count (it takes a second for that) when it is asked to stop.
 */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* sd_notify(3) without a library: one datagram to the socket that the environment names. */
static void notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t len = path ? strlen(path) : 0;

	if (len == 0 || len >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, len);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to, size) < 0)
		perror("notify");
	close(fd);
}

int main(void)
{
	const struct timespec second = { .tv_sec = 1 };
	unsigned long ticks = 0;
	sigset_t stop;
	char status[64];

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	notify("READY=1");
	/* Waiting for the signal is the clock: a time-out is a tick. */
	while (sigtimedwait(&stop, NULL, &second) != SIGTERM) {
		snprintf(status, sizeof(status), "STATUS=tick %lu", ++ticks);
		notify(status);
		if (ticks % 5 == 0)
			printf("tick %lu\n", ticks);
	}
	notify("STOPPING=1");
	printf("asked to stop, saving %lu ticks\n", ticks);
	nanosleep(&second, NULL);
	puts("saved");
	return 0;
}
