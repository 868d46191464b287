/* events: what happened, and with -f what happens. After a broken connection it goes on behind the
 * last one seen, so nothing is shown twice and a gap is said. */
#include "ctl.h"

#include "base/mem.h"

#include <string.h>

static void print_event(struct ctl *c, const json_t *e)
{
	const char *worker = get_text(e, "worker", ""), *from = get_text(e, "from", NULL);
	const char *to = get_text(e, "to", NULL), *cause = get_text(e, "cause", NULL);
	const char *what = get_text(e, "what", NULL), *text = get_text(e, "text", NULL);
	int64_t incarnation = get_int(e, "incarnation", 0);

	str_addf(&c->out, "%lld ", (long long)get_int(e, "seq", 0));
	out_color(c, DIM, get_text(e, "at", "?"));
	str_add(&c->out, " ");
	out_safe(c, *worker ? worker : "daemon");
	if (incarnation > 0)
		str_addf(&c->out, "/%lld", (long long)incarnation);
	if (from && to)
		str_addf(&c->out, ": %s -> ", from);
	else
		str_add(&c->out, ": ");
	if (to)
		out_color(c, state_color(to), to);
	if (cause) {
		str_add(&c->out, to ? " (" : "");
		out_safe(c, cause);
		str_add(&c->out, to ? ")" : "");
	}
	if (what && !to)
		out_safe(c, what);
	if (text) {
		str_add(&c->out, ": ");
		out_safe(c, text);
	}
	str_add(&c->out, "\n");
}

static void print_gap(struct ctl *c, const json_t *gap)
{
	str_addf(&c->out, "-- events %lld to %lld are not kept any more --\n",
		 (long long)get_int(gap, "first", 0), (long long)get_int(gap, "last", 0));
}

static int on_events(struct ctl *c, json_t *parameters, bool last, void *data)
{
	const json_t *gap, *events, *e;
	size_t i;

	if (!parameters)
		return CODE_OK;
	gap = json_object_get(parameters, "gap");
	events = json_object_get(parameters, "events");
	if (json_is_object(gap) && c->set.json)
		out_json(c, json_object_get(parameters, "gap"));
	else if (json_is_object(gap))
		print_gap(c, gap);
	json_array_foreach((json_t *)events, i, e)
	{
		if (c->set.json)
			out_json(c, e);
		else
			print_event(c, e);
	}
	if (json_is_integer(json_object_get(parameters, "next")))
		json_object_set(c->sent, "since", json_object_get(parameters, "next"));
	out_flush(c);
	return CODE_OK;
}

int cmd_events(struct ctl *c)
{
	json_t *p = json_object();
	long long since;

	if (c->n_args > 0)
		with_targets(c, p);
	if (c->set.follow)
		json_object_set_new(p, "follow", json_true());
	if (c->set.since) {
		if (str_to_int(c->set.since, 0, INT64_MAX, &since) < 0) {
			fail("--since %s: the number of an event is needed", c->set.since);
			json_decref(p);
			return CODE_USAGE;
		}
		json_object_set_new(p, "since", json_integer(since));
	}
	return ctl_stream(c, "Events", p, on_events, NULL);
}
