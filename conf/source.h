/* One file of the configuration: opened with all checks, scanned, parsed. */
#ifndef REEVE_CONF_SOURCE_H
#define REEVE_CONF_SOURCE_H

#include "report.h"

#include <libconfig.h>
#include <sys/types.h>

#define SOURCE_BYTES_MAX  (4 << 20)
#define SOURCES_BYTES_MAX (16 << 20) /* of all files together */

struct source {
	char *path; /* absolute */
	char *dir;  /* %d */
	dev_t dev;
	ino_t ino;
	size_t bytes;
	bool parsed;
	config_t tree; /* valid if parsed */
};

/*
 * Read the file at this absolute path. 0, or -EINVAL with at least one error in the report; the
 * source may be parsed all the same, with what was wrong cut out, so that one pass shows all.
 * place_*: where the file was named ("" for the main file).
 */
int source_read(const char *path, const char *place_file, int place_line,
		const struct conf_load_options *options, struct conf_report *report,
		struct source *ret);
/* The same for text that is there already. */
int source_parse(const char *path, const char *text, size_t len, struct conf_report *report,
		 struct source *ret);
void source_fini(struct source *s);

#endif
