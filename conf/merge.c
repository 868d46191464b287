/*
 * Owns the merging rules: presets, `defaults` of the main file, `defaults` of the group's own file,
 * REEVE_START_METHOD, the group. Each layer is read onto the same struct; what a later one writes
 * replaces what an earlier one wrote.
 */
#include "load.h"

#include "base/log.h"
#include "base/mem.h"
#include "user_finish.h"
#include "users.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define LAYERS_MAX 3

struct layer {
	struct value block;
	const struct source *source;
	bool defaults;
};

/* A group on its way: its layers, lowest first, and what is known for expansions. */
struct making {
	struct loading *l;
	const char *name;
	struct layer layers[LAYERS_MAX];
	size_t n_layers;
	struct conf_group *group;
	struct expansion names;
	struct reading r;
	bool by_env; /* its start method is of the environment */
};

static struct value top(const struct source *s, const char *name)
{
	return value_member(value_of_setting(config_root_setting(&s->tree)), name);
}

/* $NAME/TAIL, or what stands in for it. */
static char *user_path(const char *name, const char *fallback, const char *tail)
{
	const char *base = getenv(name);
	auto_str out = { 0 }, path = { 0 };

	str_addf(&path, "%s/%s", base && base[0] == '/' ? base : fallback, tail);
	if (path.data)
		expand_quote(path.data, &out);
	return give_ptr(&out.data);
}

static char *default_runtime_dir(const struct conf_load_options *o)
{
	char fallback[64];

	if (!o->user)
		return strdup("/run/reeve");
	snprintf(fallback, sizeof(fallback), "/run/user/%u", (unsigned)geteuid());
	return user_path("XDG_RUNTIME_DIR", fallback, "reeve");
}

static char *default_log_dir(const struct conf_load_options *o)
{
	const char *home = getenv("HOME");
	struct user_entry self = { 0 };
	auto_str state = { 0 };

	if (!o->user)
		return strdup("/var/log/reeve");
	if ((!home || home[0] != '/') && user_by_uid(geteuid(), &self) == 0)
		home = self.home;
	str_addf(&state, "%s/.local/state", home && home[0] == '/' ? home : "");
	user_entry_fini(&self);
	return state.failed ? NULL : user_path("XDG_STATE_HOME", state.data, "reeve/log");
}

/* Read what a user did not write; text is as in a file. */
static int read_text(struct reading *r, const char *key, const char *text)
{
	const struct conf_key *k = key_find(key);
	json_t *j = json_string(text);
	int err;

	r->key = k;
	r->preset = true;
	err = j ? k->how->read(r, value_of_json(j), key_field(k, r->base)) : -ENOMEM;
	r->preset = false;
	json_decref(j);
	return err;
}

static int read_daemon(struct reading *r, struct value block, struct expansion *names)
{
	struct conf_daemon *d = r->base;
	int err;

	r->early = true;
	err = block_read(r, block, "daemon.");
	names->runtime_dir = d->runtime_dir;
	r->early = false;
	if (err != -ENOMEM)
		err = block_presets(r, "daemon.");
	if (err == 0)
		err = block_read(r, block, "daemon.");
	return err;
}

int merge_daemon(struct loading *l)
{
	const struct source *main = &l->sources[0];
	struct conf_daemon *d = &l->conf->daemon;
	struct value block = top(main, "daemon");
	auto_free int *lines = calloc(l->rows, sizeof(*lines));
	auto_free const char **files = calloc(l->rows, sizeof(*files));
	auto_free char *dir = default_runtime_dir(l->options);
	struct expansion names = { .dir = main->dir };
	struct reading r = { .report = l->report,
			     .options = l->options,
			     .file = main->path,
			     .subject = "daemon",
			     .names = &names,
			     .no_host = l->options->offline,
			     .lines = lines,
			     .files = files,
			     .base = d };
	int err;

	if (!dir || !lines || !files)
		return -ENOMEM;
	err = read_text(&r, "daemon.runtime_dir", dir);
	if (err == 0)
		err = read_daemon(&r, block, &names);
	l->runtime_dir_line = lines[key_row(key_find("daemon.runtime_dir"))];
	if (err < 0)
		return err;
	if (!lines[key_row(key_find("daemon.control.mode"))])
		d->control.mode = d->control.operators[0] || d->control.readers[0] ? 0666 : 0660;
	return 0;
}

/* `stop` in its short form means one step; steps of a lower layer are then given up. */
static int prepare_stop(struct making *m, const struct layer *layer)
{
	static const char *const shorthand[] = { "signal", "to", "timeout" };
	struct value stop = value_member(layer->block, "stop");
	const char *word = NULL;

	for (size_t i = 0; i < ARRAY_LEN(shorthand) && value_kind(stop) == VALUE_BLOCK; i++)
		if (value_kind(value_member(stop, shorthand[i])))
			word = shorthand[i];
	if (!word)
		return 0;
	if (value_kind(value_member(stop, "steps"))) {
		report_add(m->l->report, false, layer->source->path, value_line(stop),
			   "%s: stop has %s and steps; write one of them, "
			   "for example: stop = { steps = ( { signal = \"TERM\"; wait = \"10s\"; } "
			   "); };",
			   m->name, word);
		return -EINVAL;
	}
	if (m->group->n_steps > 1)
		m->group->steps[0] = (struct conf_step){ SIGTERM, CONF_TO_MAIN, 10000 };
	m->group->n_steps = 1;
	return 0;
}

static void enter_layer(struct making *m, const struct layer *layer)
{
	m->r.file = layer->source->path;
	m->r.defaults = layer->defaults;
	m->r.subject = layer->defaults ? "defaults" : m->name;
	m->names.dir = layer->source->dir;
}

static bool written_here(const struct making *m, const char *key)
{
	return m->r.lines[key_row(key_find(key))] > 0;
}

static void forget(struct making *m, const char *key)
{
	m->r.lines[key_row(key_find(key))] = 0;
}

/* A worker is a command or an entry: what a layer says takes the place of what a lower one said. */
static int prepare_kind(struct making *m, const struct layer *layer)
{
	bool command = value_kind(value_member(layer->block, "command")) != VALUE_NONE;
	struct value entry = value_member(layer->block, "entry");

	if (command && value_kind(entry)) {
		report_add(m->l->report, false, layer->source->path, value_line(entry),
			   "%s: command and entry: a worker is one of the two; leave out one of "
			   "them",
			   layer->defaults ? "defaults" : m->name);
		return -EINVAL;
	}
	if (command) {
		free(give_ptr(&m->group->entry));
		forget(m, "group.entry");
	} else if (value_kind(entry)) {
		strings_free(give_ptr(&m->group->command));
		forget(m, "group.command");
	}
	return 0;
}

/* REEVE_START_METHOD: the method, and whether a ! asks to override the groups. 1 = not set. */
static int parse_environment(struct making *m, enum conf_start *ret, bool *ret_forced)
{
	const char *text = getenv("REEVE_START_METHOD");
	char word[32];
	size_t len;

	if (!text || !text[0])
		return 1;
	len = strlen(text);
	*ret_forced = text[len - 1] == '!';
	snprintf(word, sizeof(word), "%.*s", (int)MIN_OF(len - *ret_forced, sizeof(word) - 1),
		 text);
	for (int i = 0; i < CONF_START_COUNT; i++) {
		if (strcmp(word, conf_word(CONF_WORDS_START, i)) == 0) {
			*ret = (enum conf_start)i;
			return 0;
		}
	}
	report_add(m->l->report, false, "", 0,
		   "REEVE_START_METHOD=%s in the environment: not one of the words; allowed: "
		   "spawn forkserver fork threads, with ! behind to override groups with an entry; "
		   "write: REEVE_START_METHOD=spawn",
		   word);
	return -EINVAL;
}

/*
 * The environment stands between the defaults and the group (§3). An entry runs under each method;
 * whether a command can be more than spawned only its own group can say.
 */
static int read_start_method(struct making *m, bool *ret_by_env)
{
	struct conf_group *g = m->group;
	enum conf_start method;
	bool forced;
	int r = parse_environment(m, &method, &forced);

	if (r != 0)
		return r < 0 ? r : 0;
	if (g->entry ? !forced && written_here(m, "group.start_method")
		     : method != CONF_START_SPAWN || written_here(m, "group.start_method"))
		return 0;
	g->start_method = method;
	*ret_by_env = true;
	return 0;
}

static int read_layers(struct making *m, bool early)
{
	int err = 0;

	m->r.early = early;
	for (size_t i = 0; i < m->n_layers; i++) {
		const struct layer *layer = &m->layers[i];
		int e;

		enter_layer(m, layer);
		if (!early && (prepare_stop(m, layer) < 0 || prepare_kind(m, layer) < 0))
			err = -EINVAL;
		e = block_read(&m->r, layer->block, "group.");
		if (e == -ENOMEM)
			return e;
		err = e < 0 ? e : err;
	}
	return err;
}

static int read_presets(struct making *m)
{
	struct conf_group *g = m->group;
	auto_str file = { 0 };
	struct rlimit rl;
	int err;

	str_addf(&file, "%s/%%g.log", m->l->log_dir);
	if (file.failed)
		return -ENOMEM;
	g->n_steps = 1;
	err = block_presets(&m->r, "group.");
	if (err == 0)
		err = read_text(&m->r, "group.log.file", file.data);
	if (err == 0)
		err = read_text(&m->r, "group.log.to", m->l->options->pid1 ? "stdout" : "file");
	g->inherit_env = calloc(1, sizeof(*g->inherit_env));
	g->limits = calloc(1, sizeof(*g->limits));
	if (err < 0 || !g->inherit_env || !g->limits)
		return err < 0 ? err : -ENOMEM;
	if (m->l->options->pid1)
		err = strings_push(&g->inherit_env, strdup("*"));
	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		rl = (struct rlimit){ 1024, 1024 };
	g->limits[0] = (struct conf_limit){ RLIMIT_NOFILE, MIN_OF(rl.rlim_max, 1024), rl.rlim_max };
	g->n_limits = 1;
	return err;
}

/* From presets to the last layer. -EINVAL: said, but the struct is as good as it gets. */
static int read_group(struct making *m)
{
	struct conf_group *g = m->group;
	int err, e;

	m->r.base = g;
	m->r.names = &m->names;
	m->names.group = m->name;
	m->names.runtime_dir = m->l->conf->daemon.runtime_dir;
	err = read_presets(m);
	if (err < 0)
		return err;
	m->r.no_host = true; /* a group that is left out needs no users */
	m->r.report = NULL;
	e = read_layers(m, true);
	m->r.no_host = m->l->options->offline || !g->enabled;
	m->r.report = m->l->report;
	err = e == -ENOMEM ? e : read_layers(m, true);
	if (err == -ENOMEM)
		return err;
	e = user_finish(&g->user, m->r.no_host);
	if (e < 0 && err == 0) {
		report_add(m->l->report, false, g->file, g->line,
			   "%s: the supplementary groups of %s could not be found", m->name,
			   g->user.name ? g->user.name : "its user");
		err = e;
	}
	m->names.user = g->user.name;
	m->names.home = g->user.home;
	e = read_layers(m, false);
	if (e != -ENOMEM && read_start_method(m, &m->by_env) < 0)
		e = -EINVAL;
	return e < 0 ? e : err;
}

static bool written(const struct making *m, const char *key)
{
	return m->r.lines[key_row(key_find(key))] != 0;
}

/* Presets that depend on other keys. */
static int finish_group(struct making *m)
{
	struct conf_group *g = m->group;

	if (!written(m, "group.notify"))
		g->notify =
			g->ready == CONF_READY_NOTIFY ||
			(g->watchdog_ms != DURATION_NEVER && g->start_method != CONF_START_THREADS);
	if (g->command || g->entry)
		return 0;
	for (size_t i = 0; i < m->n_layers; i++) /* one that could not be read has been reported */
		if (value_kind(value_member(m->layers[i].block, "command")) ||
		    value_kind(value_member(m->layers[i].block, "entry")))
			return -EINVAL;
	report_add(m->l->report, false, g->file, g->line,
		   "%s: no command and no entry; for example: command = [ \"/usr/bin/program\", "
		   "\"argument\" ];",
		   m->name);
	return -EINVAL;
}

static void add_layer(struct making *m, const struct source *s, struct value block, bool defaults)
{
	if (value_kind(block) == VALUE_BLOCK)
		m->layers[m->n_layers++] = (struct layer){ block, s, defaults };
}

static struct making make(struct loading *l, const struct source *s, const char *name,
			  struct value block)
{
	struct making m = { .l = l, .name = name };

	m.r = (struct reading){ .report = l->report, .options = l->options, .subject = name };
	add_layer(&m, &l->sources[0], top(&l->sources[0], "defaults"), true);
	if (s != &l->sources[0])
		add_layer(&m, s, top(s, "defaults"), true);
	add_layer(&m, s, block, false);
	return m;
}

/* Mistakes in `defaults` are found even where no group is there to use them. */
static int check_defaults(struct loading *l, const struct source *s)
{
	auto_free int *lines = calloc(l->rows, sizeof(*lines));
	auto_free const char **files = calloc(l->rows, sizeof(*files));
	struct conf_group scratch = { .name = NULL };
	struct making m = make(l, s, "defaults", (struct value){ NULL, NULL });
	int err;

	if (!lines || !files)
		return -ENOMEM;
	m.group = &scratch;
	m.r.lines = lines;
	m.r.files = files;
	err = read_group(&m);
	block_fini("group.", &scratch);
	return err;
}

static int make_group(struct loading *l, const struct found_group *f)
{
	struct making m = make(l, f->source, f->name, f->block);
	size_t at = l->conf->n_groups;
	int err;

	m.group = &l->conf->groups[at];
	m.r.lines = &l->lines[at * l->rows];
	m.r.files = &l->files[at * l->rows];
	memset(m.r.lines, 0, l->rows * sizeof(*m.r.lines));
	m.group->name = strdup(f->name);
	m.group->file = strdup(f->source->path);
	m.group->line = value_line(f->block);
	l->conf->n_groups++;
	if (!m.group->name || !m.group->file)
		return -ENOMEM;
	err = read_group(&m);
	if (err == -ENOMEM)
		return err;
	if (finish_group(&m) < 0)
		err = -EINVAL;
	l->bad[at] = err < 0;
	l->by_env[at] = m.by_env;
	if (m.group->enabled)
		return err;
	block_fini("group.", m.group);
	free(m.group->name);
	free(m.group->file);
	memset(m.group, 0, sizeof(*m.group));
	l->conf->n_groups--;
	return strings_push(&l->disabled, strdup(f->name)) < 0 ? -ENOMEM : err;
}

static bool good_name(struct loading *l, const struct source *s, const char *name, int line)
{
	static const char *const reserved[] = { "all", "true", "false" };
	char mended[CONF_GROUP_NAME_MAX + 2];
	bool certain;
	size_t n = 0;

	for (const char *c = name; *c && n < CONF_GROUP_NAME_MAX; c++)
		if (isalnum((unsigned char)*c) || (n > 0 && (*c == '-' || *c == '_')))
			mended[n++] = (char)tolower((unsigned char)*c);
	mended[n] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(reserved); i++) {
		if (strcmp(name, reserved[i]) == 0) {
			report_add(l->report, false, s->path, line,
				   "group \"%s\": this name is reserved; write: %s-1: { ... };",
				   name, name);
			return false;
		}
	}
	if (strcmp(name, mended) == 0 && strlen(name) <= CONF_GROUP_NAME_MAX)
		return true;
	/* A name that was cut or is empty now is nobody's. */
	certain = mended[0] && strlen(name) <= CONF_GROUP_NAME_MAX;
	report_add(l->report, false, s->path, line,
		   "group \"%.80s\": a name is a small letter followed by at most 62 of "
		   "a-z 0-9 _ -%s%s%s",
		   name, certain ? "; write: " : "", certain ? mended : "",
		   certain ? ": { ... };" : "");
	return false;
}

static int find_in(struct loading *l, const struct source *s, size_t order)
{
	struct value_walk w = { .of = top(s, "groups") };
	size_t n = value_kind(w.of) == VALUE_BLOCK ? value_count(w.of) : 0;
	void *bigger = realloc(l->found, (l->n_found + n + 1) * sizeof(*l->found));

	if (!bigger)
		return -ENOMEM;
	l->found = bigger;
	while (value_next(&w)) {
		if (!good_name(l, s, w.name, value_line(w.value)))
			continue;
		if (value_kind(w.value) == VALUE_BLOCK)
			l->found[l->n_found++] = (struct found_group){ w.name, w.value, s, order };
		else if (value_kind(w.value) != VALUE_BAD)
			report_add(l->report, false, s->path, value_line(w.value),
				   "%s: %s where a block is meant; for example: %s: { command = "
				   "\"/usr/bin/program\"; };",
				   w.name, value_kind_name(value_kind(w.value)), w.name);
	}
	return 0;
}

static void check_top(struct loading *l, const struct source *s, bool main)
{
	static const char *const known[] = { "include", "daemon", "defaults", "groups" };
	struct value_walk w = { .of = value_of_setting(config_root_setting(&s->tree)) };

	while (value_next(&w)) {
		int line = value_line(w.value);
		size_t i = 0;
		const char *near;

		while (i < ARRAY_LEN(known) && strcmp(known[i], w.name) != 0)
			i++;
		near = str_nearest(w.name, known, ARRAY_LEN(known));
		if (i == ARRAY_LEN(known) && near)
			report_add(
				l->report, false, s->path, line,
				"unknown key \"%.64s\"; the nearest is \"%s\"; write: %s: { ... };",
				w.name, near, near);
		else if (i == ARRAY_LEN(known))
			report_add(l->report, false, s->path, line,
				   "unknown key \"%.64s\"; known here: include daemon defaults "
				   "groups; a group stands in groups: write: groups: { %.64s: { "
				   "... }; };",
				   w.name, w.name);
		else if (i < 2 && !main)
			report_add(l->report, false, s->path, line,
				   "an included file holds no %s; move it to %s", known[i],
				   l->sources[0].path);
		else if (i > 0 && value_kind(w.value) != VALUE_BLOCK &&
			 value_kind(w.value) != VALUE_BAD)
			report_add(l->report, false, s->path, line,
				   "%s: %s where a block is meant; for example: %s: { ... };",
				   w.name, value_kind_name(value_kind(w.value)), w.name);
	}
}

static int by_name(const void *a, const void *b)
{
	const struct found_group *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c ? c : (x->order > y->order) - (x->order < y->order);
}

static bool in_two_places(struct loading *l, const struct found_group *a,
			  const struct found_group *b)
{
	if (strcmp(a->name, b->name) != 0)
		return false;
	report_add(l->report, false, b->source->path, value_line(b->block),
		   "group \"%s\" is also in %s:%d; a group stands in one place", b->name,
		   a->source->path, value_line(a->block));
	return true;
}

static int make_groups(struct loading *l)
{
	int err = 0;

	l->conf->groups = calloc(l->n_found + 1, sizeof(*l->conf->groups));
	l->lines = calloc((l->n_found + 1) * l->rows, sizeof(*l->lines));
	l->files = calloc((l->n_found + 1) * l->rows, sizeof(*l->files));
	l->bad = calloc(l->n_found + 1, sizeof(*l->bad));
	l->by_env = calloc(l->n_found + 1, sizeof(*l->by_env));
	if (!l->conf->groups || !l->lines || !l->files || !l->bad || !l->by_env)
		return -ENOMEM;
	for (size_t i = 0; i < l->n_found && err != -ENOMEM; i++)
		if (i == 0 || !in_two_places(l, &l->found[i - 1], &l->found[i]))
			err = make_group(l, &l->found[i]);
	return err;
}

int merge_groups(struct loading *l)
{
	int err;

	l->log_dir = default_log_dir(l->options);
	if (!l->log_dir)
		return -ENOMEM;
	for (size_t i = 0; i < l->n_sources; i++) {
		const struct source *s = &l->sources[i];

		if (!s->parsed)
			continue;
		check_top(l, s, i == 0);
		err = find_in(l, s, i);
		if (err == 0 && value_kind(top(s, "defaults")) == VALUE_BLOCK)
			err = check_defaults(l, s);
		if (err == -ENOMEM)
			return err;
	}
	if (l->n_found > 1)
		qsort(l->found, l->n_found, sizeof(*l->found), by_name);
	if (l->n_found > GROUPS_MAX)
		report_add(l->report, false, l->sources[0].path, 0,
			   "%zu groups; at most %d are possible", l->n_found, GROUPS_MAX);
	return l->n_found > GROUPS_MAX ? -EINVAL : make_groups(l);
}
