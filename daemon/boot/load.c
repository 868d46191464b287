/*
 * The configuration is loaded by an exec'ed helper with a deadline (see loader.h); nothing on disk
 * is touched before it is good. All signals are blocked here and waited for.
 */
#include "boot/boot.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "loader.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RESULT_MAX (256u << 20)

static pid_t start_loader(const char *const *argv, int out)
{
	pid_t parent = getpid(), pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == parent && dup2(out, STDOUT_FILENO) >= 0)
		execve("/proc/self/exe", (char *const *)argv, environ);
	_exit(127);
}

/* A signal that ends or changes a wait, or -1 when the time is over. */
static int wait_signal(int64_t ms)
{
	const struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	return sigtimedwait(&set, NULL, &t);
}

bool boot_stop_asked(int64_t ms)
{
	int sig = wait_signal(ms);

	return sig > 0 && sig != SIGCHLD;
}

/* The wait status, or -errno: -ETIME over the deadline, -EINTR when we are asked to stop. */
static int wait_loader(pid_t pid, int *ret_status)
{
	int64_t end = clock_mono_ms() + LOADER_DEADLINE_MS;
	int err = 0;

	while (waitpid(pid, ret_status, WNOHANG) == 0) {
		int64_t left = end - clock_mono_ms();
		int sig = left > 0 ? wait_signal(left) : 0;

		if (sig == SIGCHLD || sig < 0)
			continue;
		err = sig > 0 ? -EINTR : -ETIME;
		kill(pid, SIGKILL);
		waitpid(pid, ret_status, 0);
		break;
	}
	return err;
}

static void print_report(const struct conf_report *r)
{
	auto_str out = { 0 };

	conf_report_print(r, &out);
	if (out.data)
		fd_write_all(STDERR_FILENO, out.data, out.len);
}

static int read_result(int fd, int status, const struct keeper_options *o, struct conf **ret)
{
	struct conf_report report = { 0 };
	auto_free char *text = NULL;
	size_t len = 0;
	int err;

	lseek(fd, 0, SEEK_SET);
	err = fd_read_all(fd, RESULT_MAX, &text, &len);
	if (err < 0)
		fprintf(stderr, "reeved: reading the loader's result: %s\n", strerror(-err));
	else
		err = loader_result(text, len, status, o->config, ret, &report);
	print_report(&report);
	conf_report_fini(&report);
	return err < 0 ? EXIT_CONFIG : 0;
}

int boot_load(const struct keeper_options *o, struct conf **ret)
{
	const struct conf_load_options load = { .user = o->user,
						.offline = o->offline,
						.pid1 = getpid() == 1 };
	const char *argv[8];
	auto_fd out = fd_memfd("reeve-loaded", 0);
	int status = 0, err;
	pid_t pid;

	loader_argv(o->config, &load, argv);
	pid = out < 0 ? -1 : start_loader(argv, out);
	if (pid < 0) {
		fprintf(stderr, "reeved: starting the loader: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	err = wait_loader(pid, &status);
	if (err == -EINTR)
		return BOOT_ASKED;
	if (err == -ETIME) {
		fprintf(stderr, "reeved: %s: loading took longer than %d s\n", o->config,
			LOADER_DEADLINE_MS / 1000);
		return EXIT_CONFIG;
	}
	err = read_result(out, status, o, ret);
	/* The result is large and short-lived; the keeper stays small. */
	malloc_trim(0);
	return err;
}

int boot_load_run(const struct keeper_options *o, struct conf **ret)
{
	auto_fd fd = o->run_conf;
	auto_free char *text = NULL;
	struct diag d = { 0 };
	size_t len;
	int err = lseek(fd, 0, SEEK_SET) < 0 ? -errno : fd_read_all(fd, RESULT_MAX, &text, &len);

	if (err == 0)
		err = conf_from_json(text, len, ret, &d);
	else
		diag_set(&d, err, "reading it: %s", strerror(-err));
	if (err < 0)
		fprintf(stderr, "reeved: --run: no configuration of reevectl: %s\n", d.text);
	return err < 0 ? EXIT_USAGE : 0;
}

int boot_check(const struct keeper_options *o)
{
	struct conf *conf = NULL;
	int code = boot_load(o, &conf);

	if (code == 0)
		printf("%s: no errors\n", o->config);
	conf_free(conf);
	return code == BOOT_ASKED ? 128 + SIGINT : code;
}
