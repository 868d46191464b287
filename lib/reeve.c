/*
 * libreeve for programs: datagrams of sd_notify(3), the request to end, descriptors. Owns the one
 * object of its kind. The environment is read at each call: in a forked worker it is another one.
 */
#include "lib/reeve.h"

#include "lib/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FIRST_FD    3 /* sd_listen_fds(3) */
#define BEATS	    4 /* in a period */
#define BEAT_MAX_MS 1000

/* --- notifications ------------------------------------------------------------------------- */

static int notify(const char *text, int flags)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	size_t len = path ? strlen(path) : 0;
	int sock, r = 0;

	if (len == 0)
		return 0;
	if ((path[0] != '/' && path[0] != '@') || len >= sizeof(at.sun_path))
		return -EINVAL;
	memcpy(at.sun_path, path, len);
	if (path[0] == '@')
		at.sun_path[0] = '\0';
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	if (sendto(sock, text, strlen(text), MSG_NOSIGNAL | flags, (const struct sockaddr *)&at,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		r = -errno;
	close(sock);
	return r;
}

int process_notify(const char *text)
{
	return notify(text, 0);
}

bool process_beat_due(const char *period, int64_t *said_ms)
{
	uint64_t usec = period ? strtoull(period, NULL, 10) : 0;
	int64_t gap = usec > 0 && usec / BEATS < BEAT_MAX_MS * 1000 ? (int64_t)(usec / BEATS / 1000)
								    : BEAT_MAX_MS;
	struct timespec now;
	int64_t now_ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	if (*said_ms && now_ms - *said_ms < gap)
		return false;
	*said_ms = now_ms;
	return true;
}

int reeve_ready(void)
{
	return process_notify("READY=1");
}

int reeve_beat(void)
{
	struct process *self = process_self();
	int r;

	if (!getenv("NOTIFY_SOCKET") || !process_beat_due(getenv("WATCHDOG_USEC"), &self->beat_ms))
		return 0;
	r = notify("WATCHDOG=1", MSG_DONTWAIT);
	if (r < 0)
		self->beat_ms = 0; /* the next call says it */
	return r;
}

int reeve_status(const char *text)
{
	char line[256];
	size_t len = strcspn(text, "\n");

	snprintf(line, sizeof(line), "STATUS=%.*s", (int)(len < 240 ? len : 240), text);
	return process_notify(line);
}

int reeve_progress(uint64_t done, uint64_t total)
{
	char line[80];

	snprintf(line, sizeof(line), "X_REEVE_PROGRESS=%" PRIu64 "/%" PRIu64, done, total);
	return process_notify(line);
}

int reeve_jobs(uint64_t finished)
{
	char line[48];

	snprintf(line, sizeof(line), "X_REEVE_JOBS=%" PRIu64, finished);
	return process_notify(line);
}

int reeve_busy(bool busy)
{
	return process_notify(busy ? "X_REEVE_BUSY=1" : "X_REEVE_BUSY=0");
}

/* --- the request to end -------------------------------------------------------------------- */

/* What may be called from a signal handler only. */
static void be_asked(void)
{
	struct process *self = process_self();
	int saved = errno;

	self->stopping = 1;
	if (self->stop_fd >= 0 && eventfd_write(self->stop_fd, 1) < 0)
		self->stopping = 1; /* full: it is readable already */
	errno = saved;
}

static void on_signal(int number)
{
	be_asked();
}

static int open_stop_fd(struct process *self)
{
	self->stop_fd = eventfd(self->stopping ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
	return self->stop_fd < 0 ? -errno : 0;
}

int process_arm(void)
{
	static const int signals[] = { SIGTERM, SIGINT };
	const struct sigaction ours = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct process *self = process_self();
	struct sigaction theirs;
	int r = 0;

	if (self->stop_fd < 0)
		r = open_stop_fd(self);
	if (r < 0 || self->armed)
		return r;
	self->armed = true;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (sigaction(signals[i], NULL, &theirs) == 0 && theirs.sa_handler == SIG_DFL)
			sigaction(signals[i], &ours, NULL);
	return 0;
}

/* The daemon may ask by the worker's own channel, too. */
static void look_at_channel(struct process *self)
{
	struct channel_packet p;
	struct channel_message m;
	ssize_t n = channel_recv(self->worker_channel, &p);

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		close(self->worker_channel);
		self->worker_channel = -1;
		return;
	}
	if (channel_parse(&p, CHANNEL_DAEMON, &m, NULL) == 0 && m.type == CH_STOP)
		be_asked();
	channel_packet_fini(&p);
}

bool reeve_stopping(void)
{
	struct process *self = process_self();

	process_arm();
	if (self->worker_channel >= 0)
		look_at_channel(self);
	return self->stopping != 0;
}

int reeve_stop_fd(void)
{
	int r = process_arm();

	return r < 0 ? r : process_self()->stop_fd;
}

/* --- descriptors --------------------------------------------------------------------------- */

static long number_of(const char *name)
{
	const char *text = getenv(name);
	char *end;
	long n;

	if (!text || !*text)
		return -1;
	n = strtol(text, &end, 10);
	return *end ? -1 : n;
}

static size_t count_fds(void)
{
	long n = number_of("LISTEN_FDS");

	return number_of("LISTEN_PID") == (long)getpid() && n > 0 && n < 65536 ? (size_t)n : 0;
}

/* Names are cut out of a copy that lives as long as the process. */
static void note_names(struct process *self)
{
	const char *names = getenv("LISTEN_FDNAMES");

	self->knows_fds = true;
	self->fd_names = names ? strdup(names) : NULL;
	for (char *at = self->fd_names; at && *at; at++)
		if (*at == ':')
			*at = '\0';
}

size_t reeve_fds(struct reeve_fd *ret, size_t room)
{
	struct process *self = process_self();
	const char *names = getenv("LISTEN_FDNAMES"), *at;
	size_t n = count_fds(), left;

	if (!self->knows_fds)
		note_names(self);
	at = self->fd_names;
	left = at && names ? strlen(names) + 1 : 0;
	for (size_t i = 0; i < n && i < room; i++) {
		size_t len = left > 0 ? strlen(at) + 1 : 0;

		ret[i] = (struct reeve_fd){ left > 0 ? at : "", FIRST_FD + (int)i };
		fcntl(ret[i].fd, F_SETFD, FD_CLOEXEC);
		at += len;
		left -= len < left ? len : left;
	}
	return n;
}

/* --- the one object ------------------------------------------------------------------------ */

/* We are a forked worker now: what the template knew is not true here. */
static int be_reborn(void *arg, const struct birth *b)
{
	struct process *self = arg;
	bool was_armed = self->armed;
	int r;

	/* the birth closed the fd and took the handlers away */
	self->stopping = 0;
	self->stop_fd = -1;
	self->armed = false;
	self->worker_channel = b->channel;
	self->beat_ms = 0;
	self->greeted = self->seeding = false;
	free(self->fd_names);
	self->fd_names = NULL;
	self->knows_fds = false;
	r = was_armed ? process_arm() : 0;
	return r == 0 && self->on_copy ? self->on_copy(self->on_copy_arg, b) : r;
}

struct process *process_self(void)
{
	static struct process self = {
		.stop_fd = -1,
		.worker_channel = -1,
		.forker.birth = { .after_fork = be_reborn, .arg = &self, .early = true },
	};

	return &self;
}
