/* Owns what a logger is given. The logger's program is named by REEVE_LOGGER_ROLE. */
#include "logger_rig.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

void rig_die(const char *what, int err)
{
	fprintf(stderr, "rig: %s: %s\n", what, strerror(err));
	abort();
}

static int must(const char *what, int r)
{
	if (r < 0)
		rig_die(what, r == -1 ? errno : -r);
	return r;
}

void rig_init(struct rig *r)
{
	struct diag d = { 0 };
	struct logbook header;

	*r = (struct rig){ .out = -1, .program = getenv("REEVE_LOGGER_ROLE") };
	if (!r->program)
		rig_die("REEVE_LOGGER_ROLE is not set", EINVAL);
	snprintf(r->dir, sizeof(r->dir), "/tmp/reeve-logger.XXXXXX");
	if (!mkdtemp(r->dir))
		rig_die("mkdtemp", errno);
	must("logbook_create", logbook_create(&r->book, &header));
	logbook_fini(&header);
	if (logbook_open(r->book, &r->lb, &d) < 0)
		rig_die(d.text, EPROTO);
	r->bell_logger = must("eventfd", eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	r->bell_manager = must("eventfd", eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	r->bell_keeper = must("eventfd", eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	must("socketpair", socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, r->store));
	must("socketpair", socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, r->logs));
	for (int i = 0; i < RIG_STREAMS; i++)
		r->pipes[i] = r->errs[i] = -1;
}

static void remove_tree(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		char sub[512];

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name);
		if (e->d_type == DT_DIR)
			remove_tree(sub);
		else
			unlink(sub);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

void rig_fini(struct rig *r)
{
	rig_kill(r);
	for (int i = 0; i < RIG_STREAMS; i++) {
		close_fd(&r->pipes[i]);
		close_fd(&r->errs[i]);
	}
	logbook_fini(&r->lb);
	close(r->book);
	close(r->bell_logger);
	close(r->bell_manager);
	close(r->bell_keeper);
	for (int i = 0; i < 2; i++) {
		close_fd(&r->store[i]);
		close_fd(&r->logs[i]);
	}
	remove_tree(r->dir);
}

static void add_row(struct role_fd_table *t, int fd, enum role_fd_kind kind, uint32_t index)
{
	if (fd >= 0)
		t->rows[t->n++] = (struct role_fd){ .fd = fd, .kind = kind, .index = index };
}

static int make_table(struct rig *r)
{
	size_t size = sizeof(struct role_fd_table) + (2 * RIG_STREAMS + 8) * sizeof(struct role_fd);
	struct role_fd_table *t = calloc(1, size);
	int fd = must("memfd", fd_memfd("fds", 0));

	if (!t)
		rig_die("calloc", ENOMEM);
	t->version = ROLE_FDS_VERSION;
	add_row(t, r->book, RF_LOGBOOK, 0);
	add_row(t, r->bell_logger, RF_BELL_LOGGER, 0);
	add_row(t, r->bell_manager, RF_BELL_MANAGER, 0);
	add_row(t, r->bell_keeper, RF_BELL_KEEPER, 0);
	add_row(t, r->store[1], RF_LOGGER_STORE, 0);
	add_row(t, r->logs[1], RF_LOGS_IN, 0);
	for (int i = 0; i < RIG_STREAMS; i++) {
		add_row(t, r->pipes[i], RF_LOG_OUT, (uint32_t)i);
		add_row(t, r->errs[i], RF_LOG_ERR, (uint32_t)i);
	}
	must("write", fd_write_all(fd, t, size));
	for (uint32_t i = 0; i < t->n; i++)
		fd_set_cloexec(t->rows[i].fd, false);
	fd_set_cloexec(fd, false);
	free(t);
	return fd;
}

static void close_table(struct rig *r, int table)
{
	close(table);
	fd_cloexec_from(3);
}

void rig_exec(struct rig *r)
{
	int table = make_table(r);
	char number[16];

	atomic_store(&r->lb.h->started, 0);
	snprintf(number, sizeof(number), "%d", table);
	r->pid = must("fork", fork());
	if (r->pid == 0) {
		if (r->out >= 0)
			dup2(r->out, STDOUT_FILENO);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (r->traced)
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		execl(r->program, ROLE_LOGGER, number, (char *)NULL);
		_exit(127);
	}
	close_table(r, table);
}

void rig_start(struct rig *r)
{
	int64_t limit = clock_mono_ms() + 20000;

	rig_exec(r);
	while (atomic_load(&r->lb.h->started) == 0) {
		if (clock_mono_ms() > limit)
			rig_die("the logger does not start", ETIMEDOUT);
		poll(NULL, 0, 1);
	}
}

void rig_kill(struct rig *r)
{
	if (r->pid <= 0)
		return;
	kill(r->pid, SIGKILL);
	waitpid(r->pid, NULL, 0);
	r->pid = 0;
}

int rig_finish(struct rig *r)
{
	int status = 0;

	atomic_store(&r->lb.h->finish, 1);
	rig_ring(r);
	waitpid(r->pid, &status, 0);
	r->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void rig_ring(struct rig *r)
{
	bell_ring(r->bell_logger);
}

struct conf_log rig_log(void)
{
	return (struct conf_log){ .to = CONF_LOG_FILE,
				  .format = CONF_FORMAT_TEXT,
				  .keep = 5,
				  .mode = 0640,
				  .overflow = CONF_OVERFLOW_DROP };
}

const char *rig_path(struct rig *r, const char *name, char buf[static 256])
{
	snprintf(buf, 256, "%s%s%s", name[0] == '/' ? "" : r->dir, name[0] == '/' ? "" : "/", name);
	return buf;
}

uint32_t rig_stream(struct rig *r, uint32_t stream, const char *label, const struct conf_log *log,
		    const char *name)
{
	uint32_t row = stream % LOGBOOK_ROWS;
	int *slot = stream >= LOGBOOK_ERR ? &r->errs[row] : &r->pipes[row];
	int ends[2], sink;
	char path[256], self[40];

	sink = must("logbook_sink_put",
		    logbook_sink_put(&r->lb, log, rig_path(r, name, path), false));
	must("stream_set", logbook_stream_set(&r->lb, stream, (uint32_t)sink, label,
					      stream >= LOGBOOK_ERR ? STREAM_ERR : 0));
	if (*slot >= 0)
		return (uint32_t)sink;
	must("pipe", pipe2(ends, O_CLOEXEC));
	snprintf(self, sizeof(self), "/proc/self/fd/%d", ends[0]);
	*slot = must("open", open(self, O_RDWR | O_NONBLOCK | O_CLOEXEC));
	close(ends[0]);
	close(ends[1]);
	if (r->pid > 0)
		must("store_put",
		     store_put(r->store[0], stream >= LOGBOOK_ERR ? RF_LOG_ERR : RF_LOG_OUT, row, 0,
			       "", *slot));
	return (uint32_t)sink;
}

int rig_open(struct rig *r, uint32_t stream)
{
	uint32_t row = stream % LOGBOOK_ROWS;
	char self[40];

	snprintf(self, sizeof(self), "/proc/self/fd/%d",
		 stream >= LOGBOOK_ERR ? r->errs[row] : r->pipes[row]);
	return must("open", open(self, O_WRONLY | O_CLOEXEC));
}

int rig_begin(struct rig *r, const struct conf_log *log)
{
	rig_init(r);
	rig_stream(r, 0, "web:0", log, "web.log");
	rig_start(r);
	return rig_open(r, 0);
}

int rig_drain(struct rig *r, uint32_t stream, bool end_of_life, int ms)
{
	uint32_t request = logbook_drain(&r->lb, stream, end_of_life);
	struct pollfd p = { .fd = r->bell_manager, .events = POLLIN };
	int64_t limit = clock_mono_ms() + ms;

	rig_ring(r);
	while (!logbook_drained(&r->lb, stream, request)) {
		int64_t left = limit - clock_mono_ms();

		/* A drain that is done without the bell is a failure too. */
		if (left <= 0 || poll(&p, 1, (int)left) != 1)
			return -ETIMEDOUT;
		bell_clear(r->bell_manager);
	}
	return 0;
}

char *rig_file(struct rig *r, const char *name, size_t *ret_len)
{
	char path[256], *text = NULL;
	auto_fd fd = open(rig_path(r, name, path), O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || fd_read_all(fd, (size_t)4 << 30, &text, ret_len) < 0)
		return NULL;
	return text;
}

/* ---- what the tests share ---- */

void rig_put(int fd, const char *text)
{
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

void rig_expect_file(struct rig *r, const char *name, const char *want)
{
	char *text = rig_file(r, name, NULL);

	cr_assert_not_null(text, "%s does not exist", name);
	cr_expect_str_eq(text, want);
	free(text);
}

/* Text without the stamps. */
void rig_expect_text(struct rig *r, const char *name, const char *want)
{
	char *text = rig_file(r, name, NULL), *to = text;

	cr_assert_not_null(text, "%s does not exist", name);
	for (char *p = text; *p;) {
		char *nl = strchr(p, '\n');
		size_t len = nl ? (size_t)(nl + 1 - p) : strlen(p);
		size_t skip = len > 28 && p[26] == 'Z' ? 28 : 0;

		memmove(to, p + skip, len - skip);
		to += len - skip;
		p += len;
	}
	*to = '\0';
	cr_expect_str_eq(text, want);
	free(text);
}

void rig_wait(struct rig *r, bool (*cond)(struct rig *r), const char *what)
{
	int64_t limit = clock_mono_ms() + RIG_LIMIT_MS;

	while (!cond(r)) {
		cr_assert_lt(clock_mono_ms(), limit, "never came: %s", what);
		poll(NULL, 0, 2);
	}
}

struct logbook_counters rig_counters(struct rig *r, uint32_t stream)
{
	struct logbook_counters c;

	logbook_counters(&r->lb, stream, 0, 0, &c);
	return c;
}

/* Write until the ring cannot hold it. */
void rig_flood(int fd, size_t bytes)
{
	static char block[4096];

	memset(block, 'f', sizeof(block));
	block[99] = block[sizeof(block) - 1] = '\n';
	for (size_t at = 0; at < bytes; at += sizeof(block))
		cr_assert_eq(write(fd, block, sizeof(block)), (ssize_t)sizeof(block));
}
