/* What was probably meant by a value that cannot be taken: only what is certain enough to be told
 * as the user's line mended. All return `buf`, or NULL where nothing is. */
#ifndef REEVE_CONF_MEND_H
#define REEVE_CONF_MEND_H

#include "key.h"

#define MEND_SIZE 480 /* of a mended value; what is longer is not proposed */

/* The value as this key would take it. */
const char *mend_value(const struct conf_key *k, struct value v, char *buf, size_t size);
/* The list with `text` (as it is written) in place of its i-th element. */
const char *mend_list(struct value list, size_t i, const char *text, char *buf, size_t size);
/* Would the key take it? */
bool mend_takes(const struct reading *r, const struct conf_key *k, struct value v);
/* The key that was meant by a name that is none below prefix, and what to write for it. */
const struct conf_key *mend_key(const char *prefix, const char *name, const struct reading *r,
				struct value v);
/* 1 for yes, on and the like, 0 for no, -1 for neither. */
int mend_bool(const char *word);

#endif
