/*
 * The scan of a file's tokens before libconfig sees it: finds as many mistakes as possible in one
 * pass, above all those that libconfig accepts silently, and writes out a plain copy that holds
 * only tokens it understood, line by line where they stood.
 */
#ifndef REEVE_CONF_SCAN_H
#define REEVE_CONF_SCAN_H

#include "report.h"

/*
 * 0, -EINVAL with errors in the report, or -ENOMEM. Even with errors *out may be filled: what was
 * wrong is left out or replaced by VALUE_BAD_TEXT, so that the rest can be checked. out->data is
 * NULL if the structure itself is broken.
 */
int scan_text(const char *text, size_t len, const char *file, struct conf_report *report,
	      struct str *out);

#endif
