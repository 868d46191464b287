/*
 * Text for users about something they can mend: caller-owned, fixed size, nothing to free.
 * A function that fills one returns -errno beside it.
 */
#ifndef REEVE_BASE_DIAG_H
#define REEVE_BASE_DIAG_H

struct diag {
	char file[256]; /* where it was found; empty if there is no file */
	int line;	/* from 1; 0 if there is no line */
	char text[768]; /* what was found, what is allowed, how to mend it */
};

/* Fill *d (may be NULL) and return err, so that `return diag_set(d, -EINVAL, …)` reads well. */
int diag_set(struct diag *d, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int diag_at(struct diag *d, int err, const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

#endif
