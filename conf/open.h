/* Opening a configuration file without trusting the way to it (SE03, CF09). */
#ifndef REEVE_CONF_OPEN_H
#define REEVE_CONF_OPEN_H

#include "conf.h"

/*
 * Open an absolute path for reading, each directory and link on the way opened and checked: owner
 * root or ourselves, not writable by others (a sticky directory may be). The file itself must be
 * regular. options->offline leaves owners and modes unchecked. Returns the fd, or -errno with *d.
 */
int open_checked(const char *path, const struct conf_load_options *options,
		 struct conf_report *report, dev_t *ret_dev, ino_t *ret_ino, struct diag *d);
/* The same for a directory (O_RDONLY, for its entries). */
int open_checked_dir(const char *path, const struct conf_load_options *options, struct diag *d);

#endif
