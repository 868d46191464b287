/*
 * One request for a fork, between handover.c (asked, answered, given up) and handover_born.c (what
 * the worker itself says, its claim, its GO). Since 0.2.0.
 */
#ifndef REEVE_MANAGER_HANDOVER_H
#define REEVE_MANAGER_HANDOVER_H

#include "manager/template.h"

#define HANDOVER_LOOK_FIRST_S                                                                      \
	.0005 /* between two looks whether it is the keeper's child by now                         \
	       */

struct request {
	struct worker *w;
	uint32_t row, number;
	uint32_t source; /* slot of the one who was asked */
	bool gone;	 /* and who is not there any more */
	int fd, pidfd;
	ino_t peer; /* of the worker's end of fd */
	pid_t pid;
	ev_io io;
	ev_timer clock, look;
	double pause;
	bool spare; /* for life[1] of the slot: see spare.c */
	bool claim_sent, cancelled, late;
};

/* It is in the row with its pid, or will be: its end is seen by the keeper. */
static inline bool request_has_process(const struct request *r)
{
	return r->claim_sent;
}

/* ---- handover.c ---- */
/* It is over for us; the life is not. NULL is allowed. */
void request_close(struct request *r);
/* Ask the keeper to end the process of the row. */
void request_ask_end(const struct request *r);
/* Its process may be on the way, and is in no row: end what can be found of it. */
void request_end_unclaimed(const struct worker *w, uint32_t row);
/* The start failed, and is charged like any other that fails before exec. */
void request_fail(struct request *r, int err, const char *text);
/* Nobody was born, and it was not the worker's fault: begin again, but not for ever. */
void request_again(struct request *r, const char *why);

/* ---- handover_born.c ---- */
/* Watchers: the worker's channel, the look at its parent. */
void request_readable(struct ev_loop *loop, ev_io *io, int events);
void request_look_fired(struct ev_loop *loop, ev_timer *t, int events);
/* Ask the keeper for it once it is the keeper's child; the keeper looks for itself. */
void request_claim(struct request *r);
int request_go(int fd);
/* It runs: from here on it is a worker like any other. */
void request_runs(struct worker *w, uint32_t row);

/* Move it where the one who forked could not make it; -errno. */
int request_into_leaf(const struct request *r);

/* ---- spare.c: what becomes of the request for a spare ---- */
void spare_parks(struct request *r);
void spare_fails(struct request *r, const char *text);

#endif
