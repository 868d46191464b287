/* The checks after all is read, shared by the files check*.c. */
#ifndef REEVE_CONF_CHECK_H
#define REEVE_CONF_CHECK_H

#include "load.h"

/* check_host.c: warnings about one group on this host: program, directories, limits. */
void check_host(struct loading *l, size_t i);
/* check_start.c: what the start method makes of the other keys. */
void check_start(struct loading *l, size_t i);
/* check_order.c: `after`: unknown, left out, itself, cycles. */
void check_order(struct loading *l);
/* check_claims.c: files and addresses that two workers would both use. */
void check_claims(struct loading *l);

#endif
