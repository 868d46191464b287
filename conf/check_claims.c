/*
 * Log files and listening addresses, worker by worker: two groups never write and rotate one file
 * (LG13); an address is one socket, which two groups share only if both mean the same by it.
 */
#include "check.h"

#include "base/mem.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

struct claim {
	char *text;
	size_t group; /* n_groups: the daemon itself */
	int index;    /* of the worker; -1 = of all */
	size_t socket;
};

struct claims {
	struct claim *items;
	size_t n, room;
	bool failed;
};

static void add(struct claims *c, const char *text, size_t group, int index, size_t socket)
{
	if (c->n == c->room) {
		size_t room = c->room ? c->room * 2 : 64;
		void *items = realloc(c->items, room * sizeof(*c->items));

		if (!items) {
			c->failed = true;
			return;
		}
		c->items = items;
		c->room = room;
	}
	c->items[c->n] = (struct claim){ strdup(text), group, index, socket };
	if (c->items[c->n].text)
		c->n++;
	else
		c->failed = true;
}

/* One claim for all workers, or one for each where the text differs. */
static void add_template(struct claims *c, const struct conf_group *g, size_t group,
			 const char *text, size_t socket)
{
	bool each = conf_is_per_worker(text);

	for (int i = 0; i < (each ? g->workers : 1) && !c->failed; i++) {
		struct conf_worker w = { g->name, i };
		auto_str out = { 0 };

		conf_expand(text, &w, &out);
		if (out.failed)
			c->failed = true;
		else
			add(c, out.data, group, each ? i : -1, socket);
	}
}

static int by_text(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;
	int c = strcmp(x->text, y->text);

	if (c == 0)
		c = (x->group > y->group) - (x->group < y->group);
	if (c == 0)
		c = (x->socket > y->socket) - (x->socket < y->socket);
	return c ? c : (x->index > y->index) - (x->index < y->index);
}

static void sort(struct claims *c)
{
	if (c->n > 1)
		qsort(c->items, c->n, sizeof(*c->items), by_text);
}

static void fini(struct claims *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->items[i].text);
	free(c->items);
}

static const struct claim *find(const struct claims *c, const char *text)
{
	size_t low = 0, high = c->n;

	while (low < high) {
		size_t mid = (low + high) / 2;
		int cmp = strcmp(c->items[mid].text, text);

		if (cmp == 0)
			return &c->items[mid];
		if (cmp < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* "/var/log/a.log.3" is where "/var/log/a.log" goes when it is rotated. */
static const struct claim *rotated_from(const struct claims *c, const struct claim *x)
{
	const char *dot = strrchr(x->text, '.');
	char text[4096];

	if (!dot || !dot[1] || strspn(dot + 1, "0123456789") != strlen(dot + 1))
		return NULL;
	snprintf(text, sizeof(text), "%.*s", (int)(dot - x->text), x->text);
	return find(c, text);
}

static void say_file(struct loading *l, const struct claim *a, const struct claim *b,
		     const char *what)
{
	const struct conf_group *g = &l->conf->groups[a->group];

	if (a->group == l->conf->n_groups)
		load_problem(l, b->group, "group.log.file", false,
			     "log.file = \"%.300s\" is %s the daemon's own log.to; write: "
			     "file = \"/var/log/reeve/%%g.log\";",
			     b->text, what);
	else
		load_problem(l, b->group, "group.log.file", false,
			     "log.file = \"%.300s\" is %s the log of group %s (%s:%d); two groups "
			     "cannot write one file; write: file = \"/var/log/reeve/%%g.log\";",
			     b->text, what, g->name, g->file, g->line);
}

/* ".9999" goes behind it when it is rotated. */
static bool check_length(struct loading *l, const struct claim *c)
{
	const struct conf_group *g = &l->conf->groups[c->group];
	const char *name = strrchr(c->text, '/');
	size_t most = NAME_MAX - (size_t)snprintf(NULL, 0, ".%d", g->log.keep);
	size_t len = name ? strlen(name + 1) : 0;

	if (strlen(c->text) > CONF_LOG_PATH_MAX)
		load_problem(l, c->group, "group.log.file", false,
			     "log.file = \"%.120s...\": %zu bytes, at most %d are possible; write: "
			     "file = \"/var/log/reeve/%%g.log\";",
			     c->text, strlen(c->text), CONF_LOG_PATH_MAX);
	else if (len > most)
		load_problem(l, c->group, "group.log.file", false,
			     "log.file = \"%.120s...\": the file's name has %zu bytes, at most %zu "
			     "are possible with its rotated names; write: "
			     "file = \"/var/log/reeve/%%g.log\";",
			     c->text, len, most);
	else
		return true;
	return false;
}

static void check_lengths(struct loading *l, const struct claims *c)
{
	size_t said = l->conf->n_groups;

	for (size_t i = 0; i < c->n; i++) {
		if (c->items[i].group == l->conf->n_groups || c->items[i].group == said)
			continue;
		if (!check_length(l, &c->items[i]))
			said = c->items[i].group; /* once for a group */
	}
}

static void check_files(struct loading *l)
{
	const struct conf *conf = l->conf;
	struct claims c = { 0 };
	size_t said = conf->n_groups;

	if (conf->daemon.log_to[0] == '/')
		add(&c, conf->daemon.log_to, conf->n_groups, -1, 0);
	for (size_t i = 0; i < conf->n_groups; i++)
		if (conf->groups[i].log.to == CONF_LOG_FILE && conf->groups[i].log.file)
			add_template(&c, &conf->groups[i], i, conf->groups[i].log.file, 0);
	check_lengths(l, &c);
	sort(&c);
	for (size_t i = 0; i < c.n; i++) {
		const struct claim *x = &c.items[i];
		const struct claim *base = x->group < conf->n_groups ? rotated_from(&c, x) : NULL;

		if (base && base->group != x->group && x->group != said) {
			say_file(l, base, x, "a rotated name of");
			said = x->group;
		}
		if (i == 0 || strcmp(x[-1].text, x->text) != 0 || x[-1].group == x->group)
			continue;
		if (x->group == conf->n_groups)
			say_file(l, x, &x[-1], "also");
		else if (x->group != said) /* once for a group, not for each of its workers */
			say_file(l, &x[-1], x, "also");
		said = x->group;
	}
	fini(&c);
}

static bool same_socket(const struct conf_socket *a, const struct conf_socket *b)
{
	struct conf_socket x = *a;

	x.name = b->name; /* each group has its own name for it */
	return block_equal("group.sockets.", &x, b);
}

static void check_address(struct loading *l, const struct claim *a, const struct claim *b)
{
	const struct conf_group *g = &l->conf->groups[a->group];
	const struct conf_socket *x = &g->sockets[a->socket];
	const struct conf_socket *y = &l->conf->groups[b->group].sockets[b->socket];

	if (a->group == b->group)
		load_problem(l, b->group, "group.sockets", false,
			     "sockets: two sockets or workers listen on %s", b->text);
	else if (x->per_worker || y->per_worker)
		load_problem(l, b->group, "group.sockets", false,
			     "sockets: %s is also listened on by a worker of group %s (%s:%d)",
			     b->text, g->name, g->file, g->line);
	else if (!same_socket(x, y))
		load_problem(
			l, b->group, "group.sockets", false,
			"sockets: %s is the socket of group %s (%s:%d) too, with other backlog, "
			"mode or owner; write them alike",
			b->text, g->name, g->file, g->line);
}

static void check_addresses(struct loading *l)
{
	const struct conf *conf = l->conf;
	struct claims c = { 0 };

	for (size_t i = 0; i < conf->n_groups; i++)
		for (size_t s = 0; s < conf->groups[i].n_sockets; s++)
			add_template(&c, &conf->groups[i], i, conf->groups[i].sockets[s].listen, s);
	sort(&c);
	for (size_t i = 1; i < c.n; i++)
		if (strcmp(c.items[i - 1].text, c.items[i].text) == 0)
			check_address(l, &c.items[i - 1], &c.items[i]);
	fini(&c);
}

void check_claims(struct loading *l)
{
	check_files(l);
	check_addresses(l);
}
