/* tree: the processes of every worker, drawn as trees; --graph: the order in which groups start. */
#include "ctl.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 64

struct forest {
	const json_t *list;
	size_t from, to; /* the rows of one worker */
};

static int64_t pid_at(const struct forest *f, size_t i)
{
	return get_int(json_array_get(f->list, i), "pid", 0);
}

/* The row of the parent within the same worker, or -1: a root. */
static ssize_t parent_of(const struct forest *f, size_t i)
{
	int64_t ppid = get_int(json_array_get(f->list, i), "ppid", 0);

	for (size_t k = f->from; k < f->to; k++)
		if (k != i && pid_at(f, k) == ppid)
			return (ssize_t)k;
	return -1;
}

static void print_argv(struct ctl *c, const json_t *p)
{
	const json_t *argv = json_object_get(p, "argv"), *v;
	size_t i;

	if (json_array_size(argv) == 0) {
		out_safe(c, get_text(p, "name", "?"));
		return;
	}
	json_array_foreach((json_t *)argv, i, v)
	{
		str_add(&c->out, i > 0 ? " " : "");
		out_safe(c, json_string_value(v) ? json_string_value(v) : "");
	}
}

static void print_process(struct ctl *c, const json_t *p)
{
	char rss[32], pss[32], private[32], shared[32];

	str_addf(&c->out, "%lld ", (long long)get_int(p, "pid", 0));
	print_argv(c, p);
	format_bytes(get_int(p, "rss_bytes", 0), rss);
	str_addf(&c->out, "  [%s %s", get_text(p, "state", "?"), rss);
	if (get_int(p, "pss_bytes", -1) >= 0) {
		format_bytes(get_int(p, "pss_bytes", 0), pss);
		format_bytes(get_int(p, "private_bytes", 0), private);
		format_bytes(get_int(p, "shared_bytes", 0), shared);
		str_addf(&c->out, " pss %s private %s shared %s", pss, private, shared);
	}
	str_add(&c->out, "]");
	if (get_bool(p, "spare"))
		str_add(&c->out, " spare");
	if (get_bool(p, "orphan"))
		out_color(c, WARN, " orphan");
	str_add(&c->out, "\n");
}

/* The branches of `parent` (-1: roots). `prefix` is what stands left of them. */
static void print_below(struct ctl *c, const struct forest *f, ssize_t parent, const char *prefix,
			int depth)
{
	char deeper[DEPTH_MAX * 4 + 16];
	ssize_t last = -1;

	if (depth >= DEPTH_MAX)
		return;
	for (size_t i = f->from; i < f->to; i++)
		last = parent_of(f, i) == parent ? (ssize_t)i : last;
	for (size_t i = f->from; i < f->to && (ssize_t)i <= last; i++) {
		bool end = (ssize_t)i == last;

		if (parent_of(f, i) != parent)
			continue;
		str_addf(&c->out, "%s%s", prefix, end ? "└─ " : "├─ ");
		print_process(c, json_array_get(f->list, i));
		snprintf(deeper, sizeof(deeper), "%s%s", prefix, end ? "   " : "│  ");
		print_below(c, f, (ssize_t)i, deeper, depth + 1);
	}
}

static void print_forest(struct ctl *c, const json_t *list)
{
	size_t n = json_array_size(list);

	for (size_t from = 0, to; from < n; from = to) {
		const char *worker = get_text(json_array_get(list, from), "worker", "?");
		struct forest f = { list, from, 0 };

		for (to = from + 1; to < n; to++)
			if (strcmp(get_text(json_array_get(list, to), "worker", "?"), worker) != 0)
				break;
		f.to = to;
		out_color(c, BOLD, *worker ? worker : "(strays)");
		str_add(&c->out, "\n");
		print_below(c, &f, -1, "", 0);
	}
	if (n == 0)
		str_add(&c->out, "no processes\n");
}

static void print_dot(struct ctl *c, const json_t *after)
{
	const char *group;
	const json_t *list, *v;
	size_t i;

	str_add(&c->out, "digraph reeve {\n\trankdir = LR;\n");
	json_object_foreach((json_t *)after, group, list)
	{
		str_addf(&c->out, "\t\"%s\";\n", group);
		json_array_foreach((json_t *)list, i, v)
			str_addf(&c->out, "\t\"%s\" -> \"%s\";\n", json_string_value(v), group);
	}
	str_add(&c->out, "}\n");
}

static void print_order(struct ctl *c, const json_t *after)
{
	const char *group;
	const json_t *list, *v;
	size_t i;

	json_object_foreach((json_t *)after, group, list)
	{
		str_addf(&c->out, "%s", group);
		json_array_foreach((json_t *)list, i, v)
			str_addf(&c->out, "%s%s", i == 0 ? " after " : ", ", json_string_value(v));
		str_add(&c->out, "\n");
	}
}

int cmd_tree(struct ctl *c)
{
	json_t *p = json_object(), *reply, *after;
	bool dot = c->set.graph && strcmp(c->set.graph, "dot") == 0;
	int code;

	if (c->set.graph && !dot && strcmp(c->set.graph, "text") != 0) {
		fail("--graph %s: text or dot", c->set.graph);
		json_decref(p);
		return CODE_USAGE;
	}
	if (c->n_args > 0)
		with_targets(c, p);
	if (!c->set.graph)
		json_object_set_new(p, "memory", json_true());
	code = ctl_call(c, "Tree", p, &reply);
	if (code != CODE_OK)
		return code;
	after = json_object_get(reply, "after");
	if (c->set.json)
		out_json(c, reply);
	else if (dot)
		print_dot(c, after);
	else if (c->set.graph)
		print_order(c, after);
	else
		print_forest(c, json_object_get(reply, "processes"));
	json_decref(reply);
	return CODE_OK;
}
