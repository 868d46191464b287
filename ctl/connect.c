/*
 * Which daemon, and what to say when there is none. reevectl never starts one (CT03). The keeper's
 * state file stands beside the socket; it tells whether a manager is only being replaced.
 */
#include "ctl.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYSTEM_SOCKET	   "/run/reeve/control.sock"
#define CONNECT_TIMEOUT_MS 30000

static bool set_path(struct ctl *c, const char *dir, const char *rest)
{
	int n = snprintf(c->socket, sizeof(c->socket), "%s%s", dir, rest);

	return n > 0 && (size_t)n < sizeof(c->socket);
}

static int too_long(const char *path)
{
	fail("the path of the socket is too long (at most 107 bytes): %s", path);
	return CODE_USAGE;
}

int socket_choose(struct ctl *c)
{
	const char *given = c->set.socket, *runtime = getenv("XDG_RUNTIME_DIR");
	char fallback[32];
	struct stat st;

	if (c->set.user && c->set.system) {
		fail("--user or --system, not both");
		return CODE_USAGE;
	}
	if (!given && !c->set.user && !c->set.system)
		given = getenv("REEVE_SOCKET");
	if (given && *given)
		return set_path(c, given, "") ? CODE_OK : too_long(given);
	if (!runtime || runtime[0] != '/') { /* as the daemon does */
		snprintf(fallback, sizeof(fallback), "/run/user/%u", (unsigned)geteuid());
		runtime = fallback;
	}
	if (c->set.user || (!c->set.system && geteuid() != 0)) {
		if (!set_path(c, runtime, "/reeve/control.sock"))
			return too_long(runtime);
		if (c->set.user || stat(c->socket, &st) == 0)
			return CODE_OK;
	}
	set_path(c, SYSTEM_SOCKET, "");
	return CODE_OK;
}

/* The value of KEY= in the state file, cut at its line. */
static bool state_value(const char *text, const char *key, char *ret, size_t size)
{
	const char *at = strstr(text, key);
	size_t len = at ? strcspn(at + strlen(key), "\n") : 0;

	if (!at || len == 0)
		return false;
	str_escape(at + strlen(key), len, ret, size);
	return true;
}

static bool pid_lives(const char *pid)
{
	long long n;

	return str_to_int(pid, 2, INT32_MAX, &n) == 0 && (kill((pid_t)n, 0) == 0 || errno == EPERM);
}

/* "keeper pid 812 runs; its manager is being restarted since …"; false: nothing is known of one. */
static bool say_keeper(const struct ctl *c)
{
	char dir[sizeof(c->socket)], text[1024], pid[16] = "", manager[64] = "", since[64] = "",
						 state[64] = "";
	char *slash;
	ssize_t n;

	memcpy(dir, c->socket, sizeof(dir));
	slash = strrchr(dir, '/');
	if (!slash)
		return false;
	snprintf(slash, sizeof(dir) - (size_t)(slash - dir), "/keeper");
	n = fd_read_at(AT_FDCWD, dir, text, sizeof(text));
	if (n <= 0 || !state_value(text, "pid=", pid, sizeof(pid)))
		return false;
	state_value(text, "state=", state, sizeof(state));
	state_value(text, "manager=", manager, sizeof(manager));
	state_value(text, "since=", since, sizeof(since));
	if (pid_lives(pid))
		fail("keeper pid %s runs (%s); its manager is %s since %s", pid, state, manager,
		     since);
	else
		fail("the keeper that was here, pid %s, is gone", pid);
	return true;
}

int say_no_daemon(const struct ctl *c, int err)
{
	switch (err) {
	case -EACCES:
	case -EPERM:
		fail("%s: not permitted; ask for a place in the daemon's control.readers, "
		     "operators "
		     "or admins",
		     c->socket);
		return CODE_NOT_PERMITTED;
	case -ENAMETOOLONG:
		return too_long(c->socket);
	case -EINTR:
		return CODE_INTERRUPTED;
	case -ETIMEDOUT:
		fail("%s: the daemon does not answer", c->socket);
		break;
	default:
		fail("no daemon answers at %s (%s)", c->socket, strerror(-err));
		break;
	}
	if (!say_keeper(c) && err != -ETIMEDOUT)
		fail("`reeved -c FILE` starts one; one that has another socket is named by -s or "
		     "REEVE_SOCKET");
	return err == -ETIMEDOUT && c->deadline_ms != VL_NO_DEADLINE ? CODE_TIMEOUT
								     : CODE_NO_DAEMON;
}

/* Ctrl-C ends our waiting, never what we wait for: it is read where we wait, not handled. */
static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int ctl_connect(struct ctl *c)
{
	int64_t deadline = clock_mono_ms() + CONNECT_TIMEOUT_MS;
	int err;

	if (c->client.fd >= 0)
		return CODE_OK;
	if (c->client.interrupt_fd < 0)
		c->client.interrupt_fd = open_signals();
	err = vl_client_connect(&c->client, c->socket,
				c->deadline_ms < deadline ? c->deadline_ms : deadline);
	return err < 0 ? say_no_daemon(c, err) : CODE_OK;
}
