/* wait: until every worker of the targets is in a state, or can no longer come there. */
#include "ctl.h"

#include "base/mem.h"

#include <string.h>

static const char *const states[] = { "stopped", "waiting", "starting",	   "ready", "stopping",
				      "killing", "backoff", "quarantined", "done",  "stuck" };
#define STATES "stopped waiting starting ready stopping killing backoff quarantined done stuck"

int cmd_wait(struct ctl *c)
{
	const char *near;
	bool known = false;
	json_t *p, *reply;
	int code;

	if (!c->set.state) {
		fail("usage: reevectl wait TARGET… --for STATE; states are: " STATES);
		return CODE_USAGE;
	}
	for (size_t i = 0; i < ARRAY_LEN(states); i++)
		known = known || strcmp(states[i], c->set.state) == 0;
	if (!known) {
		near = str_nearest(c->set.state, states, ARRAY_LEN(states));
		fail("--for %s: there is no such state%s%s; states are: " STATES, c->set.state,
		     near ? "; did you mean " : "", near ? near : "");
		return CODE_USAGE;
	}
	p = with_targets(c, json_pack("{s:s}", "state", c->set.state));
	if (c->deadline_ms != VL_NO_DEADLINE)
		json_object_set_new(p, "timeout_ms", json_integer(c->set.timeout_ms));
	progress_line(c, "waiting");
	code = ctl_call(c, "Wait", p, &reply);
	progress_line(c, NULL);
	if (code != CODE_OK)
		return code;
	code = say_results(c, json_object_get(reply, "results"));
	json_decref(reply);
	return code;
}
