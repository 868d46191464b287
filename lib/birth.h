/*
 * What a worker does between the fork in its template and its first line of own code
 * (reeve-template(7), "In the worker").
 * Since 0.2.0.
 */
#ifndef REEVE_LIB_BIRTH_H
#define REEVE_LIB_BIRTH_H

#include "lib/channel.h"
#include "lib/title.h"

#include <signal.h>
#include <sys/types.h>

struct birth {
	/* in */
	const struct channel_message *order; /* the CH_FORK */
	const int *fds;			     /* that came with it */
	size_t n_fds;
	pid_t template_pid;
	bool has_handlers; /* of its template, for signals; else of these only what it ignores: */
	sigset_t ignored;
	struct title title; /* of the template; all zero: not known */
	int (*after_fork)(void *arg, const struct birth *b); /* NULL or a hook; 0 or -errno */
	void *arg;
	const struct birth_guest *guest; /* NULL: none */
	/* no hook of the program's own, whose failure is to be told, has to run before BORN */
	bool early;
	/* out: valid as long as the process, and already so in after_fork */
	int channel;
	char name[64];
	char **argv; /* CT_ARG, or the name alone; NULL at the end */
	int argc;
	char *texts;		/* what argv and environ point into; not to be freed */
	const char *args, *env; /* their texts in one piece each, NUL behind every one; one more
				   behind env */
	size_t args_len, env_len, step;
	bool said; /* BORN */
};

/* An interpreter that lives in the process and goes on in the worker. */
struct birth_guest {
	const char
		*entry; /* the one argument of an order without any; ps shows "reeve: web:3 ARG…" */
	int channel_least; /* the channel gets this number or a higher one, and no variable */
	const int *taken;  /* numbers that it believes to own: /dev/null holds them */
	size_t n_taken;
	sigset_t ignored; /* what it ignores from its start on */
};

/*
 * Become the worker: signals, descriptors, session, limits, directory, environ, random seeds, hook,
 * BORN (an early one before environ), wait for GO, parent-death signal. Returns when it may run.
 * Otherwise the process ends here: with 1 after a FAIL that says where, with 0 if nobody wants it
 * any more.
 */
void birth_run(struct birth *b);

/*
 * The same in parts, for a guest, which is to be told of the fork in between and calls hooks
 * itself: all up to the random seeds, and BORN if it is early; then BORN if it is not, GO and what
 * follows. From the first part until the guest sets a handler of its own, SIGTERM ends the worker
 * with 0: it has begun nothing.
 */
void birth_begin(struct birth *b);
void birth_finish(struct birth *b);

#endif
