/*
 * Death at every step of a write (design §1.2): the logger is run by ptrace from the moment it
 * takes bytes from the pipe, killed at each entry and exit of a system call and some instructions
 * later, and a successor finishes. The files must then hold each line once. REEVE_STEPS: how many
 * places behind each system call are tried; without it every STRIDE-th call and one place.
 */
#include "logger_rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINES 12

/* A start of the logger takes ten times as long with AddressSanitizer. */
#ifdef __SANITIZE_ADDRESS__
#define STRIDE 12
#else
#define STRIDE 4
#endif

#if defined(__x86_64__)
static long syscall_of(pid_t pid)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
		return -1;
	return (long)regs.orig_rax;
}
#else
static long syscall_of(pid_t pid)
{
	(void)pid;
	return -1;
}
#endif

static bool stopped(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFSTOPPED(status);
}

/* Run to the entry of the first splice(2). */
static bool run_to_splice(pid_t pid)
{
	for (int i = 0; i < 20000; i++) {
		if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0 || !stopped(pid))
			return false;
		if (syscall_of(pid) == SYS_splice)
			return true;
	}
	return false;
}

/* False if it sleeps in a system call: it is at rest. (A nap is shorter.) */
static bool stops_soon(pid_t pid)
{
	struct timespec limit = { 0, 300 * 1000000 };
	int status = 0;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD); /* blocked by walk() */
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (sigtimedwait(&set, NULL, &limit) < 0 && errno == EAGAIN)
			return false;
	}
	return WIFSTOPPED(status);
}

/* So many stops at system calls, then so many instructions. False if it came to rest before. */
static bool run_on(pid_t pid, int calls, int steps)
{
	for (int i = 0; i < calls + steps; i++) {
		if (ptrace(i < calls ? PTRACE_SYSCALL : PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 ||
		    !stops_soon(pid))
			return false;
	}
	return true;
}

static void fill_pipe(struct rig *r)
{
	int fd = rig_open(r, 0);

	for (int i = 0; i < LINES; i++)
		dprintf(fd, "line %d\n", i);
	dprintf(fd, "unfinished");
	close(fd);
}

/* What stands around a line (the time is not looked at), and a size that few lines fill. */
static const struct {
	const char *before;
	const char *behind;
	int max_size;
} shapes[] = {
	[CONF_FORMAT_TEXT] = { "2026-01-31T12:00:00.123456Z web:0 ", "", 150 },
	[CONF_FORMAT_RAW] = { "", "", 25 },
	[CONF_FORMAT_JSON] = { "{\"time\":\"2026-01-31T12:00:00.123456Z\",\"worker\":\"web:0\","
			       "\"stream\":\"out\",\"line\":\"",
			       "\"}", 330 },
};

static void check_chain(struct rig *r, enum conf_log_format format, const char *when)
{
	int next = 0;

	for (int i = 20; i >= 0; i--) {
		char name[16], *all, *save, *line;

		snprintf(name, sizeof(name), i ? "l.%d" : "l", i);
		all = rig_file(r, name, NULL);
		for (line = all ? strtok_r(all, "\n", &save) : NULL; line;
		     line = strtok_r(NULL, "\n", &save), next++) {
			size_t before = strlen(shapes[format].before);
			char want[64];

			cr_assert_gt(strlen(line), before, "%s: %s: %s", when, name, line);
			line += before;
			snprintf(want, sizeof(want), next < LINES ? "line %d" : "unfinished", next);
			strcat(want, shapes[format].behind);
			cr_assert_str_eq(line, want, "%s: %s: %s", when, name, line);
		}
		free(all);
	}
	cr_assert_eq(next, LINES + 1, "%s: %d lines", when, next);
}

/* False when the logger was at rest before it could be killed. */
static bool die_after(int calls, int steps, enum conf_log_format format)
{
	struct conf_log log = rig_log();
	struct logbook_counters c;
	struct rig r;
	char when[64];
	bool reached;

	log.format = format;
	log.max_size_bytes = shapes[format].max_size;
	log.keep = 20;
	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "l");
	fill_pipe(&r);
	r.traced = true;
	rig_exec(&r);
	cr_assert(stopped(r.pid));
	cr_assert(run_to_splice(r.pid));
	reached = run_on(r.pid, calls, steps);
	rig_kill(&r);
	r.traced = false;
	rig_start(&r);
	cr_assert_eq(rig_drain(&r, 0, true, RIG_LIMIT_MS), 0);
	snprintf(when, sizeof(when), "killed %d calls and %d steps on", calls, steps);
	check_chain(&r, format, when);
	c = rig_counters(&r, 0);
	cr_assert_eq(c.in, c.written);
	cr_assert_eq(c.dropped, 0);
	rig_fini(&r);
	return reached;
}

static void walk(enum conf_log_format format)
{
	const char *text = getenv("REEVE_STEPS");
	int places = text ? atoi(text) : 1, calls = 0;
	uint32_t seed = 12345;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
#if !defined(__x86_64__)
	cr_skip_test("needs to know this processor's registers");
#endif
	for (bool more = true; more; calls += text ? 1 : STRIDE) {
		more = die_after(calls, 0, format);
		for (int i = 0; i < places && more; i++) {
			seed = seed * 1103515245 + 12345;
			die_after(calls, (int)(seed >> 16) % (i % 2 ? 1500 : 120), format);
		}
	}
	cr_log_info("%d stops at system calls from the first byte to rest", calls);
	cr_expect_gt(calls, 20);
}

Test(logger_steps, raw, .timeout = 3600)
{
	walk(CONF_FORMAT_RAW);
}

Test(logger_steps, text, .timeout = 3600)
{
	walk(CONF_FORMAT_TEXT);
}

Test(logger_steps, json, .timeout = 3600)
{
	walk(CONF_FORMAT_JSON);
}
