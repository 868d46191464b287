/*
 * limit: bare kernel operations, the bound that nothing can pass.
 *   limit run N PROGRAM ARG...       vfork and exec N times; who dies is reaped and exec'ed again;
 *                                    at TERM kill and reap all
 *   limit log FILE HOW PROGRAM ARG...  one worker's pipe into a file. HOW: read · nap (rest up to
 *                                    1 ms when a read came back short) · splice (pipe to a memfd,
 *                                    from there to the file)
 *   limit reply SOCKET BYTES         answers each request (ended by NUL) with BYTES bytes
 * "%i" as an argument becomes the worker's index.
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIPE_BYTES (1 << 20)

/* The signals that the caller waits for are blocked; a worker starts with none blocked. */
static pid_t start(char **command, unsigned index, int out)
{
	char number[16], *argv[32];
	size_t n = 0;
	pid_t pid;

	snprintf(number, sizeof number, "%u", index);
	for (; command[n] && n < 31; n++)
		argv[n] = strcmp(command[n], "%i") == 0 ? number : command[n];
	argv[n] = NULL;
	pid = vfork();
	if (pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (out >= 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			dup2(out, STDOUT_FILENO);
		}
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0)
		err(1, "vfork");
	return pid;
}

/* --- run ---------------------------------------------------------------------------------- */

static void respawn(pid_t *pids, unsigned n, pid_t dead, char **command)
{
	for (unsigned i = 0; i < n; i++) {
		if (pids[i] != dead)
			continue;
		waitpid(dead, NULL, 0);
		pids[i] = start(command, i, -1);
		return;
	}
}

static void end_all(const pid_t *pids, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
	for (unsigned i = 0; i < n; i++)
		waitpid(pids[i], NULL, 0);
}

static int run(unsigned n, char **command)
{
	pid_t *pids = calloc(n, sizeof *pids);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	sigset_t set;
	siginfo_t info;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (!pids || dup2(null, STDOUT_FILENO) < 0)
		err(1, "preparing");
	for (unsigned i = 0; i < n; i++)
		pids[i] = start(command, i, -1);
	while (sigwaitinfo(&set, &info) != SIGTERM)
		respawn(pids, n, info.si_pid, command);
	end_all(pids, n);
	free(pids);
	return 0;
}

/* --- log ---------------------------------------------------------------------------------- */

static void write_file(int file, const char *data, size_t n)
{
	if (write(file, data, n) != (ssize_t)n)
		err(1, "write");
}

static void read_and_write(int in, int file, bool nap)
{
	static char chunk[PIPE_BYTES];
	ssize_t n;

	while ((n = read(in, chunk, sizeof chunk)) > 0) {
		write_file(file, chunk, (size_t)n);
		if (nap && n < PIPE_BYTES / 2)
			nanosleep(&(struct timespec){ .tv_nsec = 500000 }, NULL);
	}
}

static void splice_and_write(int in, int file)
{
	int memory = memfd_create("ring", MFD_CLOEXEC);
	char *ring;
	off_t at = 0;
	ssize_t n;

	if (memory < 0 || ftruncate(memory, PIPE_BYTES) != 0)
		err(1, "memfd");
	ring = mmap(NULL, PIPE_BYTES, PROT_READ, MAP_SHARED, memory, 0);
	if (ring == MAP_FAILED)
		err(1, "mmap");
	for (;;) {
		off_t from = at % PIPE_BYTES;
		off_t to = from;

		n = splice(in, NULL, memory, &to, (size_t)(PIPE_BYTES - from), 0);
		if (n <= 0)
			return;
		write_file(file, ring + from, (size_t)n);
		at += n;
	}
}

/* TERM ends it; the worker dies with it. */
static int copy_log(const char *path, const char *how, char **command)
{
	int pipes[2], file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

	if (file < 0 || pipe2(pipes, O_CLOEXEC) != 0)
		err(1, "%s", path);
	fcntl(pipes[0], F_SETPIPE_SZ, PIPE_BYTES);
	start(command, 0, pipes[1]);
	close(pipes[1]);
	if (strcmp(how, "splice") == 0)
		splice_and_write(pipes[0], file);
	else
		read_and_write(pipes[0], file, strcmp(how, "nap") == 0);
	return 0;
}

/* --- reply -------------------------------------------------------------------------------- */

static void serve(int client, const char *reply, size_t n)
{
	char request[4096];
	ssize_t got;

	while ((got = read(client, request, sizeof request)) > 0) {
		if (request[got - 1] != '\0')
			continue;
		for (size_t done = 0; done < n;) {
			ssize_t sent = write(client, reply + done, n - done);

			if (sent <= 0)
				return;
			done += (size_t)sent;
		}
	}
}

static int reply_to_all(const char *path, size_t n)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *reply = malloc(n);
	int client;

	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	if (!reply || bind(listener, (void *)&address, sizeof address) != 0 ||
	    listen(listener, 16) != 0)
		err(1, "%s", path);
	memset(reply, 'x', n);
	reply[n - 1] = '\0';
	while ((client = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		serve(client, reply, n);
		close(client);
	}
	return 1;
}

int main(int argc, char **argv)
{
	if (argc >= 4 && strcmp(argv[1], "run") == 0)
		return run((unsigned)atoi(argv[2]), argv + 3);
	if (argc >= 5 && strcmp(argv[1], "log") == 0)
		return copy_log(argv[2], argv[3], argv + 4);
	if (argc == 4 && strcmp(argv[1], "reply") == 0)
		return reply_to_all(argv[2], strtoul(argv[3], NULL, 10));
	errx(2, "usage: limit run|log|reply …");
}
