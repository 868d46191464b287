/* Owns the order of a load: files, blocks of the top level, daemon, groups, checks. Goes on after
 * errors, so that one pass shows them all; a struct conf leaves only without any. */
#include "load.h"

#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void load_problem(struct loading *l, size_t group, const char *key, bool warning,
		  const char *format, ...)
{
	const struct conf_group *g = &l->conf->groups[group];
	const struct conf_key *k = key ? key_find(key) : NULL;
	size_t at = k ? group * l->rows + key_row(k) : 0;
	const char *file = g->file;
	const char *subject = g->name;
	int line = g->line;
	char text[600];
	va_list ap;

	if (k && l->lines[at] != 0) {
		/* A line that many groups share is warned of once. */
		if (l->lines[at] < 0 && warning)
			subject = "defaults";
		line = abs(l->lines[at]);
		file = l->files[at];
	}
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	report_add(l->report, warning, file, line, "%s: %s", subject, text);
}

bool load_written(const struct loading *l, size_t group, const char *key)
{
	const struct conf_key *k = key_find(key);

	return k && l->lines[group * l->rows + key_row(k)] != 0;
}

bool load_written_here(const struct loading *l, size_t group, const char *key)
{
	const struct conf_key *k = key_find(key);

	return k && l->lines[group * l->rows + key_row(k)] > 0;
}

bool load_asked_for(const struct loading *l, size_t group, const char *key)
{
	struct conf_group presets = { .name = NULL };
	struct reading r = { .options = l->options, .no_host = true, .base = &presets };
	bool asked;

	if (!load_written_here(l, group, key) || block_presets(&r, key) < 0)
		return false;
	asked = !key_equal(key_find(key), &presets, &l->conf->groups[group]);
	block_fini(key, &presets);
	return asked;
}

static void free_group(struct conf_group *g)
{
	block_fini("group.", g);
	free(g->name);
	free(g->file);
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	block_fini("daemon.", &c->daemon);
	for (size_t i = 0; i < c->n_groups; i++)
		free_group(&c->groups[i]);
	free(c->groups);
	free(c->path);
	free(c);
}

const struct conf_group *conf_find_group(const struct conf *c, const char *name)
{
	size_t low = 0, high = c->n_groups;

	while (low < high) {
		size_t mid = (low + high) / 2;
		int cmp = strcmp(c->groups[mid].name, name);

		if (cmp == 0)
			return &c->groups[mid];
		if (cmp < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static void fini(struct loading *l)
{
	for (size_t i = 0; i < l->n_sources; i++)
		source_fini(&l->sources[i]);
	free(l->sources);
	free(l->found);
	free(l->lines);
	free(l->files);
	free(l->bad);
	free(l->by_env);
	strings_free(l->disabled);
	free(l->log_dir);
	conf_free(l->conf);
}

/* Relative to the working directory; roles only pass absolute ones (CF17). */
static char *make_absolute(const char *path)
{
	auto_str out = { 0 };
	char cwd[PATH_MAX];

	if (path[0] == '/')
		return strdup(path);
	if (!getcwd(cwd, sizeof(cwd)))
		return NULL;
	str_addf(&out, "%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd,
		 strncmp(path, "./", 2) == 0 ? path + 2 : path);
	return give_ptr(&out.data);
}

/* Make room for the main file, which is read from the path or is `text`. */
static int read_main(struct loading *l, const char *path, const char *text, size_t len)
{
	int err;

	l->sources = calloc(1, sizeof(*l->sources));
	l->conf = calloc(1, sizeof(*l->conf));
	if (!l->sources || !l->conf)
		return -ENOMEM;
	l->conf->path = make_absolute(path);
	if (!l->conf->path)
		return -ENOMEM;
	if (text)
		err = source_parse(l->conf->path, text, len, l->report, &l->sources[0]);
	else
		err = source_read(l->conf->path, "", 0, l->options, l->report, &l->sources[0]);
	if (err != -ENOMEM && l->sources[0].path)
		l->n_sources = 1;
	return err;
}

/* All that is wrong is in the report by now. */
static int build(struct loading *l)
{
	int err = include_read(l);

	if (err != -ENOMEM)
		err = merge_daemon(l);
	if (err != -ENOMEM)
		err = merge_groups(l);
	if (err == -ENOMEM)
		return err;
	for (size_t i = 0; i < l->conf->n_groups; i++)
		if (!l->bad[i]) /* what follows from a mistake is none */
			check_group(l, i);
	check_all(l);
	return 0;
}

static int load(const char *path, const char *text, size_t len,
		const struct conf_load_options *options, struct conf **ret,
		struct conf_report *report)
{
	struct loading l = { .options = options, .report = report };
	int err;

	conf_keys(&l.rows);
	err = read_main(&l, path, text, len);
	if (err != -ENOMEM && l.n_sources > 0 && l.sources[0].parsed)
		err = build(&l);
	report_sort(report);
	if (err != -ENOMEM && report->errors > 0)
		err = -EINVAL;
	if (err == 0)
		*ret = give_ptr(&l.conf);
	fini(&l);
	return err;
}

int conf_load(const char *path, const struct conf_load_options *options, struct conf **ret,
	      struct conf_report *report)
{
	return load(path, NULL, 0, options, ret, report);
}

int load_text(const char *path, const char *text, size_t len,
	      const struct conf_load_options *options, struct conf **ret,
	      struct conf_report *report)
{
	return load(path, text, len, options, ret, report);
}
