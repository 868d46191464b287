/*
 * floor LOGDIR N STOP_MS MAX_BYTES KEEP PROGRAM ARG...: the least that a supervisor of N workers
 * has to do, and nothing else: a pipe, a log file and a pidfd for each, clone and exec, respawn,
 * rotation at line ends, TERM and after STOP_MS KILL. One thread, one epoll loop, no configuration,
 * no control, no recovery. "%i" as an argument becomes the worker's index.
 * All its system calls are assumed to succeed; what fails ends it with a message.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK  65536
#define LOG_FD 3 /* where the child finds its pipe */

/* What an epoll event means: kind in the low bits, index of the worker above. */
enum { ON_LOG, ON_EXIT, ON_SIGNAL, ON_TIMER, KINDS = 4 };

struct worker {
	pid_t pid;
	int pidfd, log_in, log_out;
	size_t log_bytes;
};

struct floor {
	const char *log_dir;
	unsigned n, alive, keep;
	long stop_ms;
	size_t max_bytes;
	char **command;
	int epoll, signals, timer;
	bool stopping, keep_open; /* log files stay open while there are fds enough */
	struct worker *workers;
	char chunk[CHUNK];
	_Alignas(16) char stack[65536];
};

static void watch(struct floor *f, int fd, uint64_t kind, uint64_t index)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = index * KINDS + kind };

	if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &e) != 0)
		err(1, "epoll_ctl");
}

/* --- log files ---------------------------------------------------------------------------- */

static void log_path(const struct floor *f, unsigned index, unsigned generation, char *path)
{
	int n = snprintf(path, 512, "%s/bench-%u.log", f->log_dir, index);

	if (generation > 0)
		snprintf(path + n, 512 - (size_t)n, ".%u", generation);
}

static void open_log(struct floor *f, unsigned index)
{
	char path[512];

	log_path(f, index, 0, path);
	f->workers[index].log_out =
		open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
	if (f->workers[index].log_out < 0)
		err(1, "%s", path);
}

static void close_log(struct worker *w)
{
	close(w->log_out);
	w->log_out = -1;
}

static void rotate(struct floor *f, unsigned index)
{
	char from[512], to[512];

	close_log(&f->workers[index]);
	for (unsigned g = f->keep; g > 0; g--) {
		log_path(f, index, g - 1, from);
		log_path(f, index, g, to);
		rename(from, to);
	}
	open_log(f, index);
	f->workers[index].log_bytes = 0;
}

static void write_log(struct floor *f, unsigned index, const char *data, size_t n)
{
	struct worker *w = &f->workers[index];

	if (w->log_out < 0)
		open_log(f, index);
	if (write(w->log_out, data, n) != (ssize_t)n)
		err(1, "write to the log of worker %u", index);
	w->log_bytes += n;
	if (!f->keep_open)
		close_log(w);
}

/* A file is full at the last line end before its limit. */
static void take_log(struct floor *f, unsigned index, const char *data, size_t n)
{
	struct worker *w = &f->workers[index];

	if (w->log_bytes + n > f->max_bytes) {
		const char *end = memrchr(data, '\n', n);

		if (end) {
			size_t head = (size_t)(end + 1 - data);

			write_log(f, index, data, head);
			rotate(f, index);
			data += head;
			n -= head;
		}
	}
	if (n > 0)
		write_log(f, index, data, n);
}

/* A dying worker closes its pipe before it can be reaped: to poll the end of file until then would
 * keep it from the processor. */
static bool read_log(struct floor *f, unsigned index)
{
	struct worker *w = &f->workers[index];
	ssize_t n = w->log_in < 0 ? 0 : read(w->log_in, f->chunk, sizeof f->chunk);

	if (n > 0) {
		take_log(f, index, f->chunk, (size_t)n);
	} else if (n == 0 && w->log_in >= 0) {
		close(w->log_in);
		w->log_in = -1;
	}
	return n > 0;
}

/* --- workers ------------------------------------------------------------------------------ */

/* The child shares the table of fds until it copies the first four: a vfork would copy thousands
 * and exec close them again, which makes the start of N workers O(N * N). */
static int run_child(void *argv)
{
	sigset_t none;

	sigemptyset(&none);
	close_range(LOG_FD + 1, ~0u, CLOSE_RANGE_UNSHARE);
	setsid();
	dup2(LOG_FD, STDOUT_FILENO);
	dup2(LOG_FD, STDERR_FILENO);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(((char **)argv)[0], argv);
	_exit(127);
}

static void start(struct floor *f, unsigned index)
{
	struct worker *w = &f->workers[index];
	char number[16], *argv[32];
	size_t n = 0;
	int pipes[2];

	snprintf(number, sizeof number, "%u", index);
	for (; f->command[n] && n < 31; n++)
		argv[n] = strcmp(f->command[n], "%i") == 0 ? number : f->command[n];
	argv[n] = NULL;
	if (pipe2(pipes, O_CLOEXEC) != 0)
		err(1, "pipe");
	fcntl(pipes[0], F_SETFL, O_NONBLOCK);
	w->log_in = pipes[0];
	dup3(pipes[1], LOG_FD, O_CLOEXEC);
	close(pipes[1]);
	w->pid = clone(run_child, f->stack + sizeof f->stack,
		       CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, argv);
	if (w->pid < 0)
		err(1, "clone");
	dup3(STDIN_FILENO, LOG_FD, O_CLOEXEC);
	w->pidfd = (int)syscall(SYS_pidfd_open, w->pid, 0);
	if (w->pidfd < 0)
		err(1, "pidfd_open");
	watch(f, w->pidfd, ON_EXIT, index);
	watch(f, w->log_in, ON_LOG, index);
	f->alive++;
}

static void on_exit_of(struct floor *f, unsigned index)
{
	struct worker *w = &f->workers[index];
	siginfo_t info;

	if (waitid(P_PID, (id_t)w->pid, &info, WEXITED) != 0)
		err(1, "waitid");
	while (read_log(f, index))
		;
	close(w->pidfd);
	if (w->log_in >= 0)
		close(w->log_in);
	w->pid = 0;
	f->alive--;
	if (!f->stopping)
		start(f, index);
}

static void signal_all(const struct floor *f, int number)
{
	for (unsigned i = 0; i < f->n; i++)
		if (f->workers[i].pid > 0)
			kill(f->workers[i].pid, number);
}

static void begin_stop(struct floor *f)
{
	struct itimerspec at = { .it_value = { f->stop_ms / 1000, f->stop_ms % 1000 * 1000000 } };
	struct signalfd_siginfo info;

	if (read(f->signals, &info, sizeof info) != sizeof info)
		err(1, "signalfd");
	f->stopping = true;
	signal_all(f, SIGTERM);
	timerfd_settime(f->timer, 0, &at, NULL);
}

static void dispatch(struct floor *f, uint64_t what)
{
	unsigned index = (unsigned)(what / KINDS);
	uint64_t expirations;

	switch (what % KINDS) {
	case ON_LOG:
		read_log(f, index);
		break;
	case ON_EXIT:
		on_exit_of(f, index);
		break;
	case ON_SIGNAL:
		begin_stop(f);
		break;
	case ON_TIMER:
		if (read(f->timer, &expirations, sizeof expirations) > 0)
			signal_all(f, SIGKILL);
		break;
	}
}

static void run(struct floor *f)
{
	struct epoll_event events[64];

	while (!f->stopping || f->alive > 0) {
		int n = epoll_wait(f->epoll, events, 64, -1);

		for (int i = 0; i < n; i++)
			dispatch(f, events[i].data.u64);
	}
}

static void prepare(struct floor *f)
{
	struct rlimit files;
	sigset_t term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	f->keep_open = 3ul * f->n + 16 < files.rlim_max;
	f->workers = calloc(f->n, sizeof *f->workers);
	dup3(STDIN_FILENO, LOG_FD, O_CLOEXEC); /* nothing else may get this number */
	f->epoll = epoll_create1(EPOLL_CLOEXEC);
	f->signals = signalfd(-1, &term, SFD_CLOEXEC);
	f->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (!f->workers || f->epoll < 0 || f->signals < 0 || f->timer < 0)
		err(1, "preparing");
	watch(f, f->signals, ON_SIGNAL, 0);
	watch(f, f->timer, ON_TIMER, 0);
}

int main(int argc, char **argv)
{
	static struct floor f;

	if (argc < 7)
		errx(2, "usage: floor LOGDIR N STOP_MS MAX_BYTES KEEP PROGRAM ARG...");
	f.log_dir = argv[1];
	f.n = (unsigned)atoi(argv[2]);
	f.stop_ms = atol(argv[3]);
	f.max_bytes = strtoul(argv[4], NULL, 10);
	f.keep = (unsigned)atoi(argv[5]);
	f.command = argv + 6;
	prepare(&f);
	for (unsigned i = 0; i < f.n; i++) {
		f.workers[i].log_out = -1;
		start(&f, i);
	}
	run(&f);
	return 0;
}
