/* Owns `include`: names and globs of the main file, relative to it, in lexical order. The library's
 * own @include is never used: given a directory it ends the process (CF06). */
#include "load.h"

#include "base/mem.h"
#include "open.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define FILES_MAX 1000

struct including {
	struct loading *l;
	const char *file; /* where the name is written */
	int line;
};

static int problem(struct including *in, const char *name, const char *why)
{
	report_add(in->l->report, false, in->file, in->line, "include \"%.200s\": %s", name, why);
	return -EINVAL;
}

static int add_file(struct including *in, const char *path)
{
	struct loading *l = in->l;
	struct source s = { 0 }, *bigger;
	size_t bytes;
	int err;

	if (l->full)
		return -EINVAL;
	if (l->n_sources > FILES_MAX)
		return problem(in, path, "more than 1000 included files");
	err = source_read(path, in->file, in->line, l->options, l->report, &s);
	if (!s.path)
		return err;
	bytes = s.bytes;
	for (size_t i = 0; i < l->n_sources; i++) {
		bytes += l->sources[i].bytes;
		if (l->sources[i].dev != s.dev || l->sources[i].ino != s.ino)
			continue;
		source_fini(&s);
		return problem(in, path,
			       i == 0 ? "this is the main file itself"
				      : "this file is included twice");
	}
	if (bytes > SOURCES_BYTES_MAX) {
		source_fini(&s);
		l->full = true;
		return problem(in, path, "all files together are larger than 16 MiB");
	}
	bigger = realloc(l->sources, (l->n_sources + 1) * sizeof(*bigger));
	if (!bigger) {
		source_fini(&s);
		return -ENOMEM;
	}
	l->sources = bigger;
	l->sources[l->n_sources++] = s;
	return err;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in dir that match, sorted. */
static int match(struct including *in, const char *name, int dir_fd, const char *pattern,
		 char ***ret)
{
	DIR *dir = fdopendir(dir_fd);
	char **list = calloc(1, sizeof(*list));
	struct dirent *e;
	size_t n = 0;
	int err = dir && list ? 0 : -ENOMEM;

	if (!dir)
		close(dir_fd);
	while (err == 0 && (e = readdir(dir))) {
		if (fnmatch(pattern, e->d_name, FNM_PERIOD) != 0)
			continue;
		err = strings_push(&list, strdup(e->d_name));
		if (err == 0 && ++n > FILES_MAX)
			err = problem(in, name, "matches more than 1000 files");
	}
	if (dir)
		closedir(dir);
	if (err < 0) {
		strings_free(list);
		return err;
	}
	qsort(list, n, sizeof(*list), by_text);
	*ret = list;
	return 0;
}

static int add_glob(struct including *in, const char *name, const char *path)
{
	const char *slash = strrchr(path, '/');
	auto_free char *dir = strndup(path, MAX_OF((size_t)(slash - path), 1));
	char **list = NULL;
	struct diag d;
	int err, fd;

	if (!dir)
		return -ENOMEM;
	if (strpbrk(dir, "*?["))
		return problem(in, name, "a pattern may stand in the last part of the path only");
	fd = open_checked_dir(dir, in->l->options, &d);
	if (fd == -ENOENT) { /* a pattern may match nothing */
		in->l->unmatched = name;
		return 0;
	}
	if (fd < 0)
		return problem(in, name, d.text);
	err = match(in, name, fd, slash + 1, &list);
	if (err == 0 && !list[0])
		in->l->unmatched = name;
	for (size_t i = 0; list && list[i]; i++) {
		char file[PATH_MAX + 300];
		int e;

		snprintf(file, sizeof(file), "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, list[i]);
		e = add_file(in, file);
		err = e < 0 ? e : err;
		if (e == -ENOMEM)
			break;
	}
	strings_free(list);
	return err;
}

static int add_one(struct including *in, const char *name)
{
	const struct source *main = &in->l->sources[0];
	char path[PATH_MAX];
	int n;

	if (!name[0])
		return problem(in, name, "an empty name");
	if (name[0] == '/')
		n = snprintf(path, sizeof(path), "%s", name);
	else
		n = snprintf(path, sizeof(path), "%s/%s",
			     strcmp(main->dir, "/") == 0 ? "" : main->dir, name);
	if (n >= (int)sizeof(path))
		return problem(in, name, "path too long");
	if (strpbrk(name, "*?["))
		return add_glob(in, name, path);
	return add_file(in, path);
}

int include_read(struct loading *l)
{
	auto_free char *file = strdup(l->sources[0].path);
	struct value list =
		value_member(value_of_setting(config_root_setting(&l->sources[0].tree)), "include");
	struct including in = { l, file, value_line(list) };
	int err = 0;

	if (!file)
		return -ENOMEM;
	if (value_kind(list) == VALUE_NONE || value_kind(list) == VALUE_BAD)
		return 0;
	if (value_kind(list) != VALUE_LIST) {
		char shown[200];

		value_show(list, shown, sizeof(shown));
		report_add(l->report, false, file, in.line,
			   "include = %s: %s where a list is meant; write: include = [ %s ];",
			   shown, value_kind_name(value_kind(list)), shown);
		return -EINVAL;
	}
	for (size_t i = 0; i < value_count(list) && err != -ENOMEM; i++) {
		struct value v = value_at(list, i);
		int e;

		in.line = value_line(v);
		if (value_kind(v) == VALUE_BAD)
			continue;
		e = value_kind(v) == VALUE_STRING ? add_one(&in, value_text(v))
						  : problem(&in, "", "names are strings");
		err = e < 0 ? e : err;
	}
	return err;
}
