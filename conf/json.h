/* The canonical form as a JSON value, for the loader's result. */
#ifndef REEVE_CONF_JSON_H
#define REEVE_CONF_JSON_H

#include "conf.h"

#include <jansson.h>

json_t *conf_to_json_value(const struct conf *c);
int conf_from_json_value(json_t *root, struct conf **ret, struct diag *d);

#endif
