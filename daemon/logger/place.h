/* Opening a log file so that nobody who can write near it can make us write elsewhere (SE02). */
#ifndef REEVE_LOGGER_PLACE_H
#define REEVE_LOGGER_PLACE_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

struct place {
	const char *path; /* absolute */
	bool make_dirs;	  /* make what is missing above it */
	mode_t mode;
	bool has_owner;
	uid_t uid;
	gid_t gid;
};

/*
 * Open the directory of p->path (O_PATH). Symbolic links on the way are followed only where nobody
 * but root and we can write. *ret_base points into p->path. *ret_trusted: nobody else can write to
 * the directory. -errno; -ELOOP for a link that is not followed.
 */
int place_dir(const struct place *p, const char **ret_base, bool *ret_trusted);

/*
 * Open p->path for appending (O_NONBLOCK, CLOEXEC); a file that is missing is made, with its owner
 * and mode from the moment it has a name. An existing regular file gets them, if it is ours alone.
 * Refused: a link (-ELOOP); a file with several names, or of a stranger, in a directory that others
 * can write (-EPERM). Returns the fd or -errno.
 */
int place_open(const struct place *p, struct stat *ret_st);

/* Open an existing file for reading, under the same conditions. */
int place_read(const struct place *p, struct stat *ret_st);

#endif
