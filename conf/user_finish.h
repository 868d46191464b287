/* The end of reading a group's user, after `user` and `extra_groups` of all layers are in. */
#ifndef REEVE_CONF_USER_FINISH_H
#define REEVE_CONF_USER_FINISH_H

#include "conf.h"

/* Fill what was not written with the daemon's own, and the supplementary groups. no_host: ask no
 * database. 0, -EINVAL (a group vanished meanwhile), -E2BIG, -ENOMEM. */
int user_finish(struct conf_user *u, bool no_host);

#endif
