/*
 * Owns the destination of the process's own messages (one of the two places with file-level
 * variables, see style §1). A line is one write(2), so lines of the three roles never mix.
 */
#include "base/log.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char *log_role = "reeve";
static enum log_level log_max = LOG_LEVEL_INFO;
static int log_fd = STDERR_FILENO;
static bool log_journal; /* the destination wants <N> prefixes and stamps lines itself */

static const struct {
	const char *name, *prefix;
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error", "<3>" },
	[LOG_LEVEL_WARN] = { "warning", "<4>" },
	[LOG_LEVEL_INFO] = { "info", "<6>" },
	[LOG_LEVEL_DEBUG] = { "debug", "<7>" },
};

/* sd-daemon's rule: JOURNAL_STREAM=dev:ino names the stream our stderr is connected to. */
static bool stderr_is_journal(void)
{
	const char *text = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return text && sscanf(text, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_init(const char *role, enum log_level level)
{
	log_role = role;
	log_max = level;
	log_journal = stderr_is_journal();
}

/* The stream protocol of systemd-journald: a header of seven lines, then plain lines. */
static int open_journal(void)
{
	static const struct sockaddr_un at = { AF_UNIX, "/run/systemd/journal/stdout" };
	auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char header[128];
	int n;

	if (fd < 0 || connect(fd, (const struct sockaddr *)&at, sizeof(at)) < 0)
		return -errno;
	n = snprintf(header, sizeof(header), "%s\n\n6\n1\n0\n0\n0\n", log_role);
	if (fd_write_all(fd, header, (size_t)n) < 0)
		return -EIO;
	return give_fd(&fd);
}

int log_open(const char *to)
{
	int fd = STDERR_FILENO;
	bool journal = false;

	if (strcmp(to, "journal") == 0) {
		fd = open_journal();
		journal = true;
	} else if (to[0] == '/') {
		fd = open(to, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
			  0640);
		if (fd < 0)
			fd = -errno;
	} else {
		journal = stderr_is_journal();
	}
	if (fd < 0)
		return fd;
	if (log_fd != STDERR_FILENO)
		close(log_fd);
	log_fd = fd;
	log_journal = journal;
	return 0;
}

void log_set_level(enum log_level level)
{
	log_max = level;
}

bool log_on(enum log_level level)
{
	return level <= log_max;
}

/* A terminal stopped with Ctrl-S or a full pipe must not stop a role: wait a little, then drop. */
static void write_line(const char *line, size_t len)
{
	struct pollfd p = { .fd = log_fd, .events = POLLOUT };

	if (poll(&p, 1, 100) == 1 && (p.revents & (POLLERR | POLLNVAL)) == 0) {
		ssize_t ignored = write(log_fd, line, len);

		(void)ignored;
	}
}

void log_write(enum log_level level, const char *format, ...)
{
	char line[1200], when[32];
	int n, saved = errno;
	va_list ap;

	if (!log_on(level))
		return;
	if (log_journal) {
		n = snprintf(line, sizeof(line), "%s%s: ", levels[level].prefix, log_role);
	} else {
		clock_format(clock_real_us(), when);
		n = snprintf(line, sizeof(line), "%s %s: %s%s", when, log_role,
			     level == LOG_LEVEL_INFO ? "" : levels[level].name,
			     level == LOG_LEVEL_INFO ? "" : ": ");
	}
	va_start(ap, format);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, format, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	write_line(line, (size_t)n);
	errno = saved;
}

bool log_limit_pass(struct log_limit *l, uint32_t burst, int64_t per_ms, uint32_t *ret_dropped)
{
	int64_t now = clock_mono_ms();

	if (now - l->window_ms >= per_ms || l->window_ms == 0) {
		l->window_ms = now;
		l->lines = 0;
	}
	if (l->lines >= burst) {
		l->dropped++;
		return false;
	}
	l->lines++;
	*ret_dropped = l->dropped;
	l->dropped = 0;
	return true;
}
