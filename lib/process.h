/*
 * What libreeve knows of the process that it is in; for the files of libreeve and reeve-runner.
 * One process has one life under Reeve, so there is one such object.
 * Since 0.2.0.
 */
#ifndef REEVE_LIB_PROCESS_H
#define REEVE_LIB_PROCESS_H

#include "lib/forker.h"

#include <signal.h>

struct process {
	volatile int stopping; /* set by a signal handler */
	int stop_fd;	       /* eventfd, -1: not yet */
	bool armed;	       /* the handlers are ours */
	int worker_channel;    /* of a forked worker; -1: none */
	bool knows_fds;
	char *fd_names;	 /* copy of LISTEN_FDNAMES; NULL: none */
	int64_t beat_ms; /* when the last sign of life was said, CLOCK_MONOTONIC; 0: not yet */
	bool greeted;	 /* HELLO was said and answered on the forker's channel */
	bool seeding;	 /* READY, too */
	struct forker forker;
	/* in a forked worker, before GO; NULL or 0 or -errno */
	int (*on_copy)(void *arg, const struct birth *b);
	void *on_copy_arg;
};

struct process *process_self(void);
/* Install the handlers for SIGTERM and SIGINT. 0 or -errno. */
int process_arm(void);
/* One datagram to NOTIFY_SOCKET; without one nothing. */
int process_notify(const char *text);
/*
 * A sign of life is worth saying: four times in a watchdog's period, and once a second at least, so
 * that a worker may beat in its innermost loop. period: WATCHDOG_USEC of the worker, or NULL;
 * *said_ms is taken forward if it is.
 */
bool process_beat_due(const char *period, int64_t *said_ms);

#endif
