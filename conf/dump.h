/* Values as libconfig text. */
#ifndef REEVE_CONF_DUMP_H
#define REEVE_CONF_DUMP_H

#include "key.h"

/* One value; depth counts tabs of what it begins on new lines. */
void dump_value(json_t *j, int depth, struct str *out);

#endif
