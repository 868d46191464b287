/* How the library's own parts add to a report. All accept NULL: then nothing is said. */
#ifndef REEVE_CONF_REPORT_H
#define REEVE_CONF_REPORT_H

#include "conf.h"

#include <stdlib.h>

#define PROBLEMS_MAX 1000 /* errors that are kept */
#define WARNINGS_MAX 200

void report_add(struct conf_report *r, bool warning, const char *file, int line, const char *format,
		...) __attribute__((format(printf, 5, 6)));
/* By file and line. */
void report_sort(struct conf_report *r);

#endif
