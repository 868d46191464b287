/* The parts of one load, shared by load.c, merge.c and check.c. */
#ifndef REEVE_CONF_LOAD_H
#define REEVE_CONF_LOAD_H

#include "key.h"
#include "source.h"

#define GROUPS_MAX 4096

/* A group as found in a file. */
struct found_group {
	const char *name;
	struct value block;
	const struct source *source;
	size_t order; /* of the files, the main one first */
};

struct loading {
	const struct conf_load_options *options;
	struct conf_report *report;
	struct source *sources; /* [0] is the main file */
	size_t n_sources;
	const char *unmatched;	   /* an include pattern that no file matches */
	bool full;		   /* no room for more files; said */
	struct found_group *found; /* sorted by name */
	size_t n_found;
	struct conf *conf;
	/* where things of conf->groups[i] were written, by row of the key table: lines[i * rows] */
	int *lines;
	const char **files;
	size_t rows;
	bool *bad;	 /* by group: something in it could not be read */
	bool *by_env;	 /* by group: REEVE_START_METHOD has decided its start method */
	char **disabled; /* names of groups that are left out */
	int runtime_dir_line;
	char *log_dir; /* of the default of log.file */
};

/* conf_load() of text that is there already; `path` gives it a name and a directory. For tests, and
 * for what `reevectl run` writes itself. */
int load_text(const char *path, const char *text, size_t len,
	      const struct conf_load_options *options, struct conf **ret,
	      struct conf_report *report);

/* include.c: read the files that the main file's `include` names. */
int include_read(struct loading *l);
/* merge.c */
int merge_daemon(struct loading *l);
int merge_groups(struct loading *l);
/* check.c: what concerns more than one key or group. */
void check_group(struct loading *l, size_t i);
void check_all(struct loading *l);

/* A problem of a group, at the line where this key of it was written (else where the group is). */
void load_problem(struct loading *l, size_t group, const char *key, bool warning,
		  const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Was this key of the group written in some file? */
bool load_written(const struct loading *l, size_t group, const char *key);
/* The same, and in the group itself: what stands in `defaults` need not fit each group. */
bool load_written_here(const struct loading *l, size_t group, const char *key);

/* The same, and not as what it would be anyway (a dump writes every key). */
bool load_asked_for(const struct loading *l, size_t group, const char *key);

#endif
