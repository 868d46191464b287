/* Verbs that change something: one call with an operation id, progress while it runs, a line and
 * an exit code for its results. */
#include "ctl.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/names.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* "3/8 done, waiting for web:3 stopping, pid 812, KILL in 4s" */
static void show_step(struct ctl *c, const json_t *step)
{
	const json_t *blocking = json_object_get(step, "blocking");
	const char *first = json_string_value(json_array_get(blocking, 0));
	char line[400], safe[300] = "";

	if (!json_is_object(step))
		return;
	if (first)
		str_escape(first, strlen(first), safe, sizeof(safe));
	snprintf(line, sizeof(line), "%lld/%lld done%s%s%s", (long long)get_int(step, "done", 0),
		 (long long)get_int(step, "total", 0), first ? ", " : "", safe,
		 json_array_size(blocking) > 1 ? " …" : "");
	progress_line(c, line);
}

static int on_results(struct ctl *c, json_t *parameters, bool last, void *data)
{
	if (!parameters)
		return CODE_OK;
	if (!last) {
		show_step(c, json_object_get(parameters, "step"));
		return CODE_OK;
	}
	progress_line(c, NULL);
	return say_results(c, json_object_get(parameters, "results"));
}

static int change(struct ctl *c, const char *method, json_t *parameters)
{
	json_t *reply;
	int code;

	with_waiting(c, parameters);
	if (c->progress && (c->verb->options & OPT(NO_WAIT)))
		return ctl_stream(c, method, parameters, on_results, NULL);
	code = ctl_call(c, method, parameters, &reply);
	if (code != CODE_OK)
		return code;
	code = say_results(c, json_object_get(reply, "results"));
	json_decref(reply);
	return code;
}

int cmd_start(struct ctl *c)
{
	return change(c, "Start", with_targets(c, json_object()));
}

int cmd_stop(struct ctl *c)
{
	json_t *p = with_targets(c, json_object());

	if (c->set.cold)
		json_object_set_new(p, "cold", json_true());
	return change(c, "Stop", p);
}

int cmd_restart(struct ctl *c)
{
	return change(c, "Restart", with_targets(c, json_object()));
}

int cmd_reset(struct ctl *c)
{
	return change(c, "Reset", with_targets(c, json_object()));
}

int cmd_kill(struct ctl *c)
{
	static const char *const words[] = { "main", "pgrp", "tree" };
	json_t *p;
	bool known = !c->set.to;

	for (size_t i = 0; i < ARRAY_LEN(words) && c->set.to; i++)
		known = known || strcmp(c->set.to, words[i]) == 0;
	if (!known) {
		fail("--to %s: main, pgrp or tree", c->set.to);
		return CODE_USAGE;
	}
	if (c->set.signal && signal_from_name(c->set.signal) < 0) {
		fail("-s %s: a signal by name is needed, like TERM, SIGUSR1, RTMIN+3",
		     c->set.signal);
		return CODE_USAGE;
	}
	p = with_targets(c, json_object());
	if (c->set.signal)
		json_object_set_new(p, "signal", json_string(c->set.signal));
	if (c->set.to)
		json_object_set_new(p, "to", json_string(c->set.to));
	return change(c, "Kill", p);
}

int cmd_scale(struct ctl *c)
{
	long long n;

	if (need_groups(c, 1) != CODE_OK)
		return CODE_USAGE;
	if (str_to_int(c->args[1], 0, 65536, &n) < 0) {
		fail("usage: reevectl scale GROUP N; N is a number of workers, not %s", c->args[1]);
		return CODE_USAGE;
	}
	return change(c, "Scale",
		      json_pack("{s:o, s:I}", "group", vl_text(c->args[0], strlen(c->args[0])),
				"workers", (json_int_t)n));
}

/* --- shutdown --- */

/* Until the keeper has ended: its process if we can see it, else the end of the connection. */
static int wait_gone(struct ctl *c)
{
	struct pollfd p[2] = {
		{ c->keeper_fd >= 0 ? c->keeper_fd : c->client.fd, POLLIN, 0 },
		{ c->client.interrupt_fd, POLLIN, 0 },
	};
	int64_t left = -1;
	int n;

	progress_line(c, "shutting down");
	do {
		if (c->deadline_ms != VL_NO_DEADLINE)
			left = MAX_OF(c->deadline_ms - clock_mono_ms(), 0);
		n = poll(p, 2, (int)MIN_OF(left, 1000000));
	} while ((n < 0 && errno == EINTR) || (n == 0 && left > 0));
	progress_line(c, NULL);
	if (p[1].revents) {
		fail("not waiting any longer; the daemon goes on shutting down");
		return CODE_INTERRUPTED;
	}
	if (n == 0) {
		fail("not over within the time; the daemon goes on shutting down");
		return CODE_TIMEOUT;
	}
	return CODE_OK;
}

int cmd_shutdown(struct ctl *c)
{
	json_t *reply = NULL, *p;
	int code = ctl_call(c, "Version", json_object(), &reply);

	if (code != CODE_OK)
		return code;
	/* Opened before the request: the number cannot be somebody else's yet. */
	if (get_int(reply, "keeper_pid", 0) > 1)
		c->keeper_fd =
			(int)syscall(SYS_pidfd_open, (pid_t)get_int(reply, "keeper_pid", 0), 0);
	json_decref(reply);
	reply = NULL;
	p = with_waiting(c, json_object());
	json_object_del(p, "wait");
	json_object_del(p, "timeout_ms");
	if (c->set.cold)
		json_object_set_new(p, "cold", json_true());
	code = ctl_call(c, "Shutdown", p, &reply);
	json_decref(reply);
	if (code == CODE_OK && !c->set.no_wait)
		code = wait_gone(c);
	close_fd(&c->keeper_fd);
	return code;
}
