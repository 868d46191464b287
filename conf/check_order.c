/* Checks `after`. Depth-first without recursion: a chain may be as long as there are groups. */
#include "check.h"

#include "base/mem.h"

#include <string.h>

#define NEAREST_MAX 100 /* a search through all names costs time */

enum visit { UNSEEN, OPEN, DONE };

struct order {
	struct loading *l;
	enum visit *visits;
	size_t *stack, *next; /* next: which `after` of stack[i] comes next */
	size_t depth;
};

static size_t find(const struct conf *c, const char *name)
{
	const struct conf_group *g = conf_find_group(c, name);

	return g ? (size_t)(g - c->groups) : c->n_groups;
}

static bool is_disabled(const struct loading *l, const char *name)
{
	for (char **d = l->disabled; d && *d; d++)
		if (strcmp(*d, name) == 0)
			return true;
	return false;
}

static const char *nearest(const struct loading *l, const char *name)
{
	const struct conf *c = l->conf;
	auto_free const char **names = calloc(c->n_groups + 1, sizeof(*names));

	if (!names || l->report->errors > NEAREST_MAX)
		return NULL;
	for (size_t i = 0; i < c->n_groups; i++)
		names[i] = c->groups[i].name;
	return str_nearest(name, names, c->n_groups);
}

static void check_names(struct loading *l, size_t i)
{
	const struct conf_group *g = &l->conf->groups[i];

	for (char **a = g->after; a && *a; a++) {
		size_t other = find(l->conf, *a);
		const char *near;

		if (other == i) {
			load_problem(l, i, "group.after", false,
				     "after = [ \"%s\" ]: a group cannot wait for itself; write: "
				     "after = [ ];",
				     *a);
		} else if (other < l->conf->n_groups) {
			if (!l->conf->groups[other].autostart && g->autostart)
				load_problem(
					l, i, "group.after", true,
					"after: %s is not started with the daemon (autostart = "
					"false), so this group waits until somebody does",
					*a);
			if (l->conf->groups[other].workers == 0)
				load_problem(
					l, i, "group.after", true,
					"after: %s has 0 workers and so is never ready until it "
					"is scaled",
					*a);
		} else if (is_disabled(l, *a)) {
			load_problem(l, i, "group.after", false,
				     "after = [ \"%s\" ]: that group is left out (enabled = false)",
				     *a);
		} else {
			near = nearest(l, *a);
			load_problem(l, i, "group.after", false,
				     "after = [ \"%.64s\" ]: there is no such group%s%s%s", *a,
				     near ? "; write: after = [ \"" : "", near ? near : "",
				     near ? "\" ];" : "");
		}
	}
}

/* The stack from the group that is met again up to the top is the cycle. */
static void say_cycle(struct order *o, size_t again)
{
	auto_str path = { 0 };
	size_t from = o->depth;

	while (from > 0 && o->stack[from - 1] != again)
		from--;
	for (size_t i = from - 1; i < o->depth; i++)
		str_addf(&path, "%s -> ", o->l->conf->groups[o->stack[i]].name);
	str_add(&path, o->l->conf->groups[again].name);
	load_problem(o->l, o->stack[o->depth - 1], "group.after", false,
		     "after: these groups wait for each other: %s", path.data ? path.data : "");
}

static void push(struct order *o, size_t i)
{
	o->visits[i] = OPEN;
	o->next[o->depth] = 0;
	o->stack[o->depth++] = i;
}

static void visit(struct order *o, size_t start)
{
	const struct conf *c = o->l->conf;

	push(o, start);
	while (o->depth > 0) {
		size_t top = o->stack[o->depth - 1], other;
		char **after = c->groups[top].after;
		const char *name = after ? after[o->next[o->depth - 1]] : NULL;

		if (!name) {
			o->visits[top] = DONE;
			o->depth--;
			continue;
		}
		o->next[o->depth - 1]++;
		other = find(c, name);
		if (other == c->n_groups || other == top || o->visits[other] == DONE)
			continue;
		if (o->visits[other] == OPEN)
			say_cycle(o, other);
		else
			push(o, other);
	}
}

void check_order(struct loading *l)
{
	size_t n = l->conf->n_groups;
	auto_free enum visit *visits = calloc(n + 1, sizeof(*visits));
	auto_free size_t *stack = calloc(n + 1, sizeof(*stack));
	auto_free size_t *next = calloc(n + 1, sizeof(*next));
	struct order o = { l, visits, stack, next, 0 };

	if (!visits || !stack || !next)
		return;
	for (size_t i = 0; i < n; i++)
		check_names(l, i);
	for (size_t i = 0; i < n; i++)
		if (visits[i] == UNSEEN)
			visit(&o, i);
}
