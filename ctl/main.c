/* reevectl: the command line of reeved. Finds the verb, runs it, writes what it said. */
#include "ctl.h"

#include "base/clock.h"
#include "base/names.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Colours on a terminal that takes them; https://no-color.org. */
static bool wants_color(const struct settings *set)
{
	const char *off = getenv("NO_COLOR"), *term = getenv("TERM");

	if (set->no_color || set->json || (off && *off) || (term && term[0] == 'd'))
		return false;
	return isatty(STDOUT_FILENO);
}

/* From the first statement on: what `run` becomes answers to every signal, and reads those that
 * waited (SH28). All other verbs let them act as soon as it is clear that they are meant. */
static void hold_signals(struct ctl *c)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &c->mask);
}

static int run(struct ctl *c, int argc, char **argv)
{
	int code = options_parse(c, argc, argv);

	if (code != CODE_OK)
		return code;
	if (c->verb->run != cmd_run)
		sigprocmask(SIG_SETMASK, &c->mask, NULL);
	if (c->set.version) {
		str_addf(&c->out, "reevectl %s\n", REEVE_VERSION);
		return CODE_OK;
	}
	c->color = wants_color(&c->set);
	c->progress = !c->set.json && isatty(STDERR_FILENO);
	if (c->set.timeout_ms >= 0 && c->set.timeout_ms != DURATION_NEVER)
		c->deadline_ms = clock_mono_ms() + c->set.timeout_ms;
	if (c->set.help)
		return cmd_help(c);
	/* run has a daemon of its own */
	code = c->verb->run == cmd_run ? CODE_OK : socket_choose(c);
	if (code != CODE_OK)
		return code;
	return c->verb->run(c);
}

int main(int argc, char **argv)
{
	struct ctl c = {
		.set = { .timeout_ms = -1, .lines = -1 },
		.client = VL_CLIENT_INIT,
		.keeper_fd = -1,
		.deadline_ms = VL_NO_DEADLINE,
	};
	int code;

	hold_signals(&c);
	c.args = calloc((size_t)argc + 1, sizeof(*c.args));
	if (!c.args)
		return CODE_FAILED;
	code = run(&c, argc, argv);
	progress_line(&c, NULL);
	out_flush(&c);
	vl_client_close(&c.client);
	str_fini(&c.out);
	free(c.args);
	return code;
}
