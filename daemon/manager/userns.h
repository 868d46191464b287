/*
 * User namespaces (user_namespaces(7)): which ids a worker can have here. The kernel answers EINVAL
 * to an id that is not mapped and EPERM to setgroups(2) where that is denied; neither says why.
 *
 * Since 0.2.0. Source: Linux 3.8; /proc/PID/setgroups 3.19.
 */
#ifndef REEVE_MANAGER_USERNS_H
#define REEVE_MANAGER_USERNS_H

#include "base/diag.h"

#include <stdbool.h>
#include <sys/types.h>

/* False where all ids are: nothing has to be checked. */
bool userns_is_partial(void);
/* 0, or -EINVAL / -EPERM with *d: what a worker of this user and group would fail at. */
int userns_check(uid_t uid, gid_t gid, struct diag *d);

#endif
