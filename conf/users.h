/* Users and groups: the notation, and the user database behind it. Asked by the loader only. */
#ifndef REEVE_CONF_USERS_H
#define REEVE_CONF_USERS_H

#include "base/diag.h"

#include <stdbool.h>
#include <sys/types.h>

struct user_entry {
	uid_t uid;
	gid_t gid;
	bool known; /* false: a bare number that the database does not hold */
	char *name, *home, *shell;
};
void user_entry_fini(struct user_entry *e);

/*
 * A user name or a plain decimal uid. look = false: only the notation is checked, ids of names are
 * (uid_t)-1. 0, -EINVAL with *d, -ENOMEM.
 */
int user_find(const char *text, bool look, struct user_entry *ret, struct diag *d);
/* The user of this uid, known or not. */
int user_by_uid(uid_t uid, struct user_entry *ret);
int group_find(const char *text, bool look, gid_t *ret, struct diag *d);
/* "user[:group]"; *ret_has_group = the second part is there, *ret_gid its gid. */
int user_group_find(const char *text, bool look, struct user_entry *ret, bool *ret_has_group,
		    gid_t *ret_gid, struct diag *d);
/* Supplementary groups of a user from the database. */
int user_groups(const char *name, gid_t gid, gid_t **ret, size_t *ret_n);

#endif
