/*
 * Verbs that make, leave and end processes. Forked bodies end with exit 0 when their words are
 * used up, so a puppet tree never grows by accident; the storms carry a deadline of their own.
 */
#include "puppet.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t fork_or_fail(void)
{
	pid_t pid = fork();
	if (pid < 0)
		puppet_fail("fork");
	return pid;
}

static _Noreturn void child_runs(struct puppet *p, struct words body)
{
	puppet_run(p, body);
	_exit(0);
}

/* fork=N [ … ] */
static void verb_fork(struct puppet *p, char *arg, struct words body)
{
	long long n = arg ? puppet_number(arg) : 1;
	for (long long i = 0; i < n; i++) {
		pid_t pid = fork_or_fail();
		if (pid == 0)
			child_runs(p, body);
		p->child = pid;
	}
}

/* orphan=N [ … ]: N grandchildren whose parent is gone when the verb returns. */
static void verb_orphan(struct puppet *p, char *arg, struct words body)
{
	long long n = arg ? puppet_number(arg) : 1;
	pid_t middle = fork_or_fail();
	if (middle == 0) {
		for (long long i = 0; i < n; i++)
			if (fork_or_fail() == 0)
				child_runs(p, body);
		_exit(0);
	}
	while (waitpid(middle, NULL, 0) < 0 && errno == EINTR)
		;
}

/* daemon [ … ]: the classical double fork with a session of its own. */
static void verb_daemon(struct puppet *p, char *arg, struct words body)
{
	pid_t middle = fork_or_fail();
	if (middle == 0) {
		setsid();
		if (fork_or_fail() == 0)
			child_runs(p, body);
		_exit(0);
	}
	while (waitpid(middle, NULL, 0) < 0 && errno == EINTR)
		;
}

static void verb_setsid(struct puppet *p, char *arg, struct words body)
{
	if (setsid() < 0)
		journal_write("setsid-error", strerrorname_np(errno));
}

static void verb_setpgid(struct puppet *p, char *arg, struct words body)
{
	if (setpgid(0, 0) < 0)
		journal_write("setpgid-error", strerrorname_np(errno));
}

/* Wipe the environment as the kernel shows it (/proc/self/environ) and as libc knows it. */
static void verb_scrub(struct puppet *p, char *arg, struct words body)
{
	for (char **e = p->env; *e; e++)
		memset(*e, 0, strlen(*e));
	clearenv();
}

/* Close everything, the journal too when told "all". */
static void verb_closefds(struct puppet *p, char *arg, struct words body)
{
	bool all = arg && !strcmp(arg, "all");
	struct rlimit limit = { 1024, 1024 };
	getrlimit(RLIMIT_NOFILE, &limit);
	long end = limit.rlim_cur < 65536 ? (long)limit.rlim_cur : 65536;
	if (all)
		journal_close();
	for (int fd = 0; fd < end; fd++)
		if (fd != journal_fd())
			close(fd);
}

static void verb_reap(struct puppet *p, char *arg, struct words body)
{
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
}

static void verb_exit(struct puppet *p, char *arg, struct words body)
{
	_exit(arg ? puppet_number(arg) : 0);
}

static void verb_abort(struct puppet *p, char *arg, struct words body)
{
	abort();
}

static void verb_spin(struct puppet *p, char *arg, struct words body)
{
	for (volatile long i = 0;; i++)
		;
}

static void exec_words(struct words body, char **env)
{
	char *argv[64] = { 0 };
	if (body.n < 1 || body.n >= 63)
		puppet_fail("exec: words");
	memcpy(argv, body.at, body.n * sizeof(argv[0]));
	execve(argv[0], argv, env);
	puppet_fail(argv[0]);
}

/* exec PROGRAM ARGUMENT…: all words up to the end of the script. */
static void verb_exec(struct puppet *p, char *arg, struct words body)
{
	extern char **environ;
	exec_words(body, environ);
}

static void verb_exec_clean(struct puppet *p, char *arg, struct words body)
{
	char *none[] = { NULL };
	exec_words(body, none);
}

/*
 * storm=CHAINS:MS[:setsid]: chains of processes in which each forks the next and exits, as fast as
 * they can, for at most MS. The caller goes on at once.
 */
static void verb_storm(struct puppet *p, char *arg, struct words body)
{
	long long chains = puppet_number(puppet_piece(&arg, ':'));
	long long end = puppet_now_us() + puppet_number(puppet_piece(&arg, ':')) * 1000;
	bool session = arg && !strcmp(arg, "setsid");
	for (long long i = 0; i < chains; i++) {
		if (fork_or_fail() != 0)
			continue;
		while (puppet_now_us() < end) {
			if (session)
				setsid();
			if (fork() > 0) /* a failed fork is a hop that did not move */
				_exit(0);
		}
		_exit(0);
	}
}

#define WAVE	    5000 /* below every pid_max */
#define STACK_BYTES 4096

struct burst {
	int gate[2]; /* they live until its end of file */
	int code;
};

/* In memory that all of them share: nothing but system calls. */
static int orphan_waits(void *arg)
{
	const struct burst *b = arg;
	char byte;

	while (syscall(SYS_read, b->gate[0], &byte, 1) < 0)
		;
	syscall(SYS_exit_group, b->code);
	return 0;
}

static void one_wave(struct burst *b, long long n)
{
	char *stacks = mmap(NULL, (size_t)n * STACK_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t middle;

	if (stacks == MAP_FAILED || pipe2(b->gate, O_CLOEXEC) < 0)
		puppet_fail("pipe");
	middle = fork_or_fail();
	if (middle == 0) {
		close(b->gate[1]);
		/* the last wave may hold the numbers until it is reaped */
		for (long long i = 1; i <= n; i++)
			while (clone(orphan_waits, stacks + i * STACK_BYTES, CLONE_VM | SIGCHLD,
				     b) < 0)
				if (errno != EAGAIN || sched_yield() < 0)
					puppet_fail("clone");
		_exit(0);
	}
	while (waitpid(middle, NULL, 0) < 0 && errno == EINTR)
		;
	close(b->gate[0]);
	close(b->gate[1]);
	munmap(stacks, (size_t)n * STACK_BYTES);
}

/*
 * burst=N[:CODE]: N orphans, 5000 of which end in the same moment; the verb returns when the last
 * have been let go. They share the memory of a process that is gone, so that they cost little.
 */
static void verb_burst(struct puppet *p, char *arg, struct words body)
{
	long long n = puppet_number(puppet_piece(&arg, ':'));
	struct burst b = { .code = arg ? puppet_number(arg) : 0 };

	for (; n > 0; n -= WAVE)
		one_wave(&b, n < WAVE ? n : WAVE);
}

/* flock=PATH: one holder per path, for "never two processes in one slot". */
static void verb_flock(struct puppet *p, char *arg, struct words body)
{
	int fd = open(arg, O_RDWR | O_CREAT, 0666);
	if (fd < 0)
		puppet_fail(arg);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		journal_write("double", arg);
}

static bool holds(struct puppet *p, char *arg)
{
	char *what = puppet_piece(&arg, ':');
	if (!strcmp(what, "inc"))
		return atoi(p->incarnation) == puppet_number(arg);
	if (!strcmp(what, "inc-from"))
		return atoi(p->incarnation) >= puppet_number(arg);
	if (!strcmp(what, "index"))
		return atoi(p->index) == puppet_number(arg);
	if (!strcmp(what, "file"))
		return access(arg, F_OK) == 0;
	if (!strcmp(what, "mod7"))
		return atoi(p->incarnation) % 7 == puppet_number(arg);
	if (!strcmp(what, "even"))
		return atoi(p->index) % 2 == 0;
	puppet_fail(what);
}

/* if=inc:N | inc-from:N | index:N | even: | file:PATH [ … ] */
static void verb_if(struct puppet *p, char *arg, struct words body)
{
	if (holds(p, arg))
		puppet_run(p, body);
}

static void verb_ifnot(struct puppet *p, char *arg, struct words body)
{
	if (!holds(p, arg))
		puppet_run(p, body);
}

static void verb_loop(struct puppet *p, char *arg, struct words body)
{
	long long n = puppet_number(arg);
	for (long long i = 0; n == 0 || i < n; i++)
		puppet_run(p, body);
}

static void verb_chdir(struct puppet *p, char *arg, struct words body)
{
	if (chdir(arg) < 0)
		puppet_fail(arg);
}

static void verb_subreaper(struct puppet *p, char *arg, struct words body)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

/* For a set-id puppet: be root in every id. */
static void verb_become_root(struct puppet *p, char *arg, struct words body)
{
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		puppet_fail("become-root");
}

static void verb_dump(struct puppet *p, char *arg, struct words body)
{
	puppet_dump(p, arg);
}

const struct verb process_verbs[] = {
	{ "fork", verb_fork },
	{ "orphan", verb_orphan },
	{ "daemon", verb_daemon },
	{ "setsid", verb_setsid },
	{ "setpgid", verb_setpgid },
	{ "scrub", verb_scrub },
	{ "closefds", verb_closefds },
	{ "reap", verb_reap },
	{ "exit", verb_exit },
	{ "abort", verb_abort },
	{ "spin", verb_spin },
	{ "exec", verb_exec },
	{ "exec-clean", verb_exec_clean },
	{ "storm", verb_storm },
	{ "burst", verb_burst },
	{ "flock", verb_flock },
	{ "if", verb_if },
	{ "ifnot", verb_ifnot },
	{ "loop", verb_loop },
	{ "chdir", verb_chdir },
	{ "subreaper", verb_subreaper },
	{ "become-root", verb_become_root },
	{ "dump", verb_dump },
	{ NULL, NULL },
};
