/*
 * Expansion: %g %i %n %{8000+i} %{02d:1+i} %d %t %u %h %H %{env:NAME} %%. What differs per worker
 * (%i, %n, arithmetic with i) and %% stay in the text as a "template"; conf_expand() ends them.
 */
#ifndef REEVE_CONF_EXPAND_H
#define REEVE_CONF_EXPAND_H

#include "base/diag.h"
#include "base/str.h"

#include <stdbool.h>

/* What is known where a text stands; NULL = has no meaning there. */
struct expansion {
	const char *group, *dir, *runtime_dir, *user, *home;
};

/*
 * Append text with all but the per-worker parts replaced. per_worker: those are allowed.
 * 0, or -EINVAL with *d (text only).
 */
int expand_load(const char *text, const struct expansion *e, bool per_worker, struct str *out,
		struct diag *d);
/* Append text as it has to be written for expand_load to give it back: % doubled. */
void expand_quote(const char *text, struct str *out);

#endif
