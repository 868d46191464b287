/*
 * What a worker does between the fork in its template and its first line of own code
 * (reeve-template(7), "In the worker").
 * Since 0.2.0.
 */
#ifndef REEVE_LIB_BIRTH_H
#define REEVE_LIB_BIRTH_H

#include "lib/channel.h"
#include "lib/title.h"

#include <sys/types.h>

struct birth {
	/* in */
	const struct channel_message *order; /* the CH_FORK */
	const int *fds;			     /* that came with it */
	size_t n_fds;
	pid_t template_pid;
	struct title title; /* of the template; all zero: not known */
	int (*after_fork)(void *arg, const struct birth *b); /* NULL or a hook; 0 or -errno */
	void *arg;
	/* out: valid as long as the process, and already so in after_fork */
	int channel;
	char name[64];
	char **argv; /* CT_ARG, or the name alone; NULL at the end */
	int argc;
	char *texts; /* what argv and environ point into; not to be freed */
};

/*
 * Become the worker: signals, descriptors, session, limits, environ, random seeds, hook, BORN, wait
 * for GO, parent-death signal. Returns when it may run. Otherwise the process ends here: with 1
 * after a FAIL that says where, with 0 if nobody wants it any more.
 */
void birth_run(struct birth *b);

#endif
