/*
 * The environment of a worker: the same however the daemon was started (SP21). Built anew for each
 * start into memory that is kept for the next one.
 */
#ifndef REEVE_MANAGER_ENV_H
#define REEVE_MANAGER_ENV_H

#include "base/diag.h"
#include "base/str.h"
#include "conf.h"

#include <stdint.h>

#define ENV_VARIABLES_MAX 4096
#define ENV_FILE_BYTES	  (256u << 10)
#define ENV_STRING_BYTES  (128u << 10) /* MAX_ARG_STRLEN of the kernel, NUL included */
#define ENV_PATH	  "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* NUL-terminated strings in one buffer; zero-initialise. As a set of variables each name is there
 * once, the last value wins. */
struct words {
	struct str text;
	struct word {
		uint32_t at, key_bytes, hash;
	} * items;
	size_t n, room;
	char **pointers; /* valid after words_finish, until the next addition */
	size_t pointers_room;
	bool failed; /* out of memory, or too many */
};
void words_clear(struct words *w); /* keeps the memory */
void words_fini(struct words *w);
/* Add one string as it is. */
void words_add(struct words *w, const char *text);
/* Set a variable. */
void env_set(struct words *w, const char *key, const char *value);
void env_setf(struct words *w, const char *key, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Set a variable from "K=V". */
void env_put(struct words *w, const char *pair);
/* Value of a variable, or NULL; valid until the next addition. */
const char *env_get(const struct words *w, const char *key);
/* The NULL-terminated array. -ENOMEM, -E2BIG (with *d naming the string that is too long). */
int words_finish(struct words *w, char ***ret, struct diag *d);

/* Variables of a file: lines K=V, '#' and ';' comments, quotes around a whole value are taken off;
 * nothing is expanded. "-" in front of the path: it may be missing. What somebody else than root,
 * we and `user` can write decides nothing here (SE04): -EPERM. */
int env_add_file(struct words *w, const char *path, uid_t user, struct diag *d);
/* Lines of such a file, for the fuzzed part of it; path is for messages. */
int env_add_lines(struct words *w, const char *path, char *text, size_t len, struct diag *d);
/* Variables of `from` whose name matches one of the patterns. What belongs to one process only
 * (NOTIFY_SOCKET LISTEN_* WATCHDOG_* REEVE_*) must be named in full; so must what belongs to a user
 * (HOME USER LOGNAME SHELL) if the worker is another one. */
void env_inherit(struct words *w, char *const *from, char *const *patterns, bool other_user);

/* PATH HOME USER LOGNAME SHELL LANG, then what the group asks for (reference §3). */
int env_of_group(struct words *w, const struct conf_group *g, const struct conf_worker *who,
		 char *const *from, struct diag *d);

#endif
