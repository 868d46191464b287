/*
 * The C rows of methods.py: from the request to the first statement of a worker, one way per
 * process. It plays the part of the keeper and the daemon.
 *
 *     methods-native SUBJECT MIB RUNNER MODULE
 *
 * MIB: touched heap of the process that forks. Reads "first N" lines from stdin, answers each with
 * a JSON list of N durations in ns.
 */
#include "lib/adopt.h"
#include "lib/forker.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct bench {
	const char *self, *runner, *module;
	int first[2]; /* pipe: a worker's first statement writes its clock */
	int channel;  /* to the template */
	uint32_t request;
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void __attribute__((noreturn)) die(const char *what)
{
	perror(what);
	exit(1);
}

static void first_statement(int fd)
{
	int64_t now = now_ns();

	_exit(write(fd, &now, sizeof(now)) == (ssize_t)sizeof(now) ? 0 : 1);
}

static int64_t read_first(const struct bench *b)
{
	int64_t at;

	if (read(b->first[0], &at, sizeof(at)) != (ssize_t)sizeof(at))
		die("no first statement");
	return at;
}

/* --- subjects ------------------------------------------------------------------------------ */

static pid_t start_fork(struct bench *b)
{
	pid_t pid = fork();

	if (pid == 0)
		first_statement(b->first[1]);
	return pid;
}

static pid_t adopt(struct bench *b, enum adopt_way way)
{
	struct adopt_result made;
	int r = adopt_fork(way, -1, &made);

	if (r == 0)
		first_statement(b->first[1]);
	return r < 0 ? -1 : made.pid;
}

static pid_t start_adoption(struct bench *b)
{
	return adopt(b, ADOPT_BEST);
}

static pid_t start_twice(struct bench *b)
{
	return adopt(b, ADOPT_DOUBLE);
}

/*
 * The least that a template can be: a process that waits for a byte, forks by adoption and answers
 * with the pid.
 */
static void begin_raw_template(struct bench *b)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		die("socketpair");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid > 0) {
		close(ends[1]);
		b->channel = ends[0];
		return;
	}
	close(ends[0]);
	for (char byte; read(ends[1], &byte, 1) == 1;) {
		pid = start_adoption(b);
		if (write(ends[1], &pid, sizeof(pid)) != (ssize_t)sizeof(pid))
			break;
	}
	_exit(0);
}

static pid_t start_raw_template(struct bench *b)
{
	pid_t pid;

	if (write(b->channel, "", 1) != 1 ||
	    read(b->channel, &pid, sizeof(pid)) != (ssize_t)sizeof(pid))
		die("the template ended");
	return pid;
}

static pid_t start_spawn(struct bench *b)
{
	char fd[16];
	char *argv[] = { (char *)(uintptr_t)b->self, "--first", fd, NULL };
	pid_t pid;

	snprintf(fd, sizeof(fd), "%d", b->first[1]);
	return posix_spawn(&pid, b->self, NULL, NULL, argv, environ) ? -1 : pid;
}

static pid_t start_spawn_runner(struct bench *b)
{
	char *argv[] = { (char *)(uintptr_t)b->runner, "--spawn", (char *)(uintptr_t)b->module,
			 NULL };
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int r;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, b->first[1], 1);
	r = posix_spawn(&pid, b->runner, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return r ? -1 : pid;
}

static void expect(int channel, enum channel_side from, enum channel_type type,
		   struct channel_packet *p, struct channel_message *m)
{
	do {
		if (forker_receive(channel, p) <= 0)
			die("the template ended");
		if (channel_parse(p, from, m, NULL) < 0)
			die("protocol error");
	} while (m->type == CH_LOADING);
	if (m->type != type)
		die(channel_type_name(m->type));
}

/* The daemon's side of a hand-over, without claim. */
static pid_t start_template(struct bench *b)
{
	static const int32_t map[] = { CHANNEL_FD_OWN, 1, 2 };
	struct channel_packet p;
	struct channel_message m;
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		die("socketpair");
	channel_want_sender(ends[0]);
	channel_begin(&p, CH_FORK, ++b->request);
	channel_add_text(&p, CT_NAME, "bench:0");
	channel_add_u32(&p, CT_INDEX, 0);
	channel_add_u32(&p, CT_COUNT, 1);
	channel_add_u32(&p, CT_INCARNATION, b->request);
	channel_add_u32(&p, CT_GENERATION, 1);
	channel_add_text(&p, CT_ENV, "PATH=/usr/bin:/bin");
	channel_add_text(&p, CT_CWD, "/");
	channel_add_u32(&p, CT_UMASK, 022);
	channel_add_fds(&p, (int[]){ ends[1], b->first[1], 2 }, map, 3);
	forker_send(b->channel, &p);
	close(ends[1]);
	expect(ends[0], CHANNEL_WORKER, CH_BORN, &p, &m);
	pid = p.pid;
	channel_packet_fini(&p);
	channel_begin(&p, CH_GO, 0);
	forker_send(ends[0], &p);
	expect(b->channel, CHANNEL_TEMPLATE, CH_SPAWNED, &p, &m);
	close(ends[0]);
	return pid;
}

static void begin_template(struct bench *b)
{
	char fd[16], *argv[] = { (char *)(uintptr_t)b->runner, "--template", NULL };
	struct channel_packet p;
	struct channel_message m;
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) < 0)
		die("socketpair");
	fcntl(ends[0], F_SETFD, FD_CLOEXEC);
	b->channel = ends[0];
	snprintf(fd, sizeof(fd), "%d", ends[1]);
	setenv(CHANNEL_ENV, fd, 1);
	if (posix_spawn(&pid, b->runner, NULL, NULL, argv, environ) != 0)
		die(b->runner);
	close(ends[1]);
	channel_begin(&p, CH_HELLO, 0);
	channel_add_versions(&p);
	channel_add_text(&p, CT_MODE, "template");
	channel_add_text(&p, CT_GROUP, "bench");
	channel_add_text(&p, CT_ENTRY, b->module);
	forker_send(b->channel, &p);
	expect(b->channel, CHANNEL_TEMPLATE, CH_HELLO, &p, &m);
	expect(b->channel, CHANNEL_TEMPLATE, CH_READY, &p, &m);
}

static const struct subject {
	const char *name;
	pid_t (*start)(struct bench *b);
	void (*begin)(struct bench *b);
} subjects[] = {
	{ "adoption", start_adoption, NULL },
	{ "raw template", start_raw_template, begin_raw_template },
	{ "fork", start_fork, NULL },
	{ "fork twice", start_twice, NULL },
	{ "reeve-runner template", start_template, begin_template },
	{ "posix_spawn", start_spawn, NULL },
	{ "reeve-runner spawn", start_spawn_runner, NULL },
};

/* --- program ------------------------------------------------------------------------------- */

static void measure(struct bench *b, const struct subject *s, int n)
{
	for (int i = 0; i < n; i++) {
		int64_t begin = now_ns(), at;
		pid_t pid = s->start(b);

		if (pid <= 0)
			die(s->name);
		at = read_first(b);
		printf("%s%lld", i ? ", " : "[", (long long)(at - begin));
		if (waitpid(pid, NULL, 0) != pid)
			die("waitpid");
	}
	puts("]");
	fflush(stdout);
}

static void touch_heap(size_t mib)
{
	volatile char *heap = mib ? malloc(mib << 20) : NULL;

	if (mib && !heap)
		die("malloc");
	for (size_t i = 0; i < mib << 20; i += 4096)
		heap[i] = 1;
}

int main(int argc, char **argv)
{
	struct bench b = { .self = "/proc/self/exe" };
	const struct subject *s = NULL;
	char line[64];

	if (argc == 3 && strcmp(argv[1], "--first") == 0)
		first_statement(atoi(argv[2]));
	for (size_t i = 0; argc == 5 && i < sizeof(subjects) / sizeof(subjects[0]); i++)
		if (strcmp(subjects[i].name, argv[1]) == 0)
			s = &subjects[i];
	if (!s)
		return fputs("usage: methods-native SUBJECT MIB RUNNER MODULE\n", stderr), 2;
	b.runner = argv[3];
	b.module = argv[4];
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	setenv("BENCH_HEAP_MIB", argv[2], 1);
	if (pipe(b.first) < 0)
		die("pipe");
	if (s->begin != begin_template)
		touch_heap((size_t)atoi(argv[2]));
	if (s->begin)
		s->begin(&b);
	puts("{}");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		int n;

		if (sscanf(line, "first %d", &n) == 1)
			measure(&b, s, n);
	}
	return 0;
}
