/*
 * Processes that fork workers: templates (start_method forkserver), which do nothing else, and
 * seeds (start_method fork), which are workers themselves. Both speak reeve-template(7) on a
 * channel that the keeper stores. Nothing they say is trusted: what breaks the protocol is ended
 * with a reason, and nothing else suffers.
 *
 *   template.c         the channel: what arrives on it, what it makes of the slot
 *   template_adopt.c   the channels that a predecessor left
 *   template_rotate.c  which templates a group should have: code reload, recycling
 *   template_look.c    is a fork safe? as /proc shows it
 *   template_plan.c    what is sent: HELLO, FORK
 *   template_show.c    for status and show
 *   handover*.c        one worker from FORK to GO
 *   spare.c            workers that wait before GO (template.spares)
 *   sharing.c          copies of a seed that share little by now
 *
 * A template is a slot of its own kind, so states, back-off, exit records, log stream, tree and
 * stop ladder are those of workers. A group has two such slots, so that a next one can load beside
 * the one that serves. Since 0.2.0.
 */
#ifndef REEVE_MANAGER_TEMPLATE_H
#define REEVE_MANAGER_TEMPLATE_H

#include "lib/channel.h"
#include "manager/manager.h"

#define TEMPLATE_PIPELINE 32 /* forks asked for and not answered yet */

/* A FORK that was sent. */
struct owed {
	uint32_t number, slot;
};

/* The daemon's end of a channel to a process that forks. */
struct forker {
	struct worker *w; /* a template's slot, or a seed */
	uint32_t life;
	int fd;
	ev_io io;
	bool adopted;	    /* from a predecessor, which may have heard more than it noted */
	uint32_t inherited; /* requests up to this number are a predecessor's */
	struct owed *owed;  /* requests that it has not answered */
	size_t n_owed, owed_room;
	/* its last reply to a FORK */
	int64_t answered_ms;
	uint32_t ping; /* number of a PING that is not answered; 0 = none */
	bool ping_due; /* one could not be sent: what the channel holds is older */
	ev_timer eof;  /* between the end of its channel and its own */
	bool returns;  /* sharing.c: the PING asks a seed whether it comes to fork points again */
	ev_timer age;  /* template.max_age */
	int64_t looked_ms;
	bool warned;
	struct log_limit limit;
};

/* ---- template_adopt.c ---- */
/* Take over the channels that a predecessor left; after groups_build(). */
void templates_adopt(struct manager *m);

/* ---- template.c ---- */
/* The life in `row` of w is to have a channel: HELLO is on it, the keeper stores our end. Returns
 * the fd for the process, or -errno with *d. */
int template_channel(struct worker *w, uint32_t row, struct diag *d);
/* To a seed: nobody waits for a copy of it. */
void template_ping(struct forker *f);
/* Hear what comes from the one who was made in this life. NULL: out of memory. */
struct forker *template_listen(struct worker *w, uint32_t life, int fd);
/* A successor listens now: READY may have been heard and not noted. */
void template_resume(struct forker *f);
/* The life is over, or was never born. Idempotent. */
void template_close(struct worker *w);
/* Hear what it has said by now; what a channel holds that nobody made larger. */
void template_drain(struct worker *w);
/* It is at fault: said, shown, and ended with this cause; it is not heard any more. */
void template_bad(struct worker *w, enum exit_cause cause, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The number of the next request. */
uint32_t template_number(struct forker *f);
/* Send a FORK for the worker of a slot. -EAGAIN: it is busy. -EPIPE: it is gone. */
int template_ask(struct forker *f, const struct channel_packet *p, uint32_t number, uint32_t slot);
/* It has not answered this request. */
bool template_owes(const struct forker *f, uint32_t number);

/* ---- template_rotate.c ---- */
/* Workers of the group are forked. */
static inline bool group_forks(const struct conf_group *c)
{
	return c &&
	       (c->start_method == CONF_START_FORKSERVER || c->start_method == CONF_START_FORK);
}
/* Who makes what is started now; NULL: nobody can. */
struct worker *template_serving(const struct group *g);
/* Make the group's templates fit what is wanted. Cheap; called whenever something changed. */
void templates_step(struct manager *m);
/* The next life of w is to be forked. */
bool template_makes(const struct worker *w);
/* A template that loads, or will, may still make workers of the group. */
bool template_comes(const struct group *g);
/* w cannot be started now and will be when its template is there. */
bool template_blocks(const struct worker *w);
/* Why a template or host of the group is not there, for people: its error, else its last words.
 * False: nothing is known, it is only not ready. */
bool maker_trouble(const struct group *g, char *ret, size_t size);
/* What w waits for: "web/template", or NULL. */
const char *template_waits_for(const struct worker *w);
/* The group's workers can be renewed: who makes the new ones has the new code. */
bool template_renews(const struct group *g);
/* The new code cannot be loaded: the renewal stands still. */
bool template_held(const struct group *g);
/* READY, or adopted: count its time; a worker was let go: count its forks. */
void template_age(struct forker *f);
void template_forked(struct worker *w);
/* A life of a template's slot ends. */
void template_failed(struct worker *w);

/* ---- template_look.c ---- */
/* At READY: what is open is from now on expected. */
void template_note_fds(struct forker *f);
/* 0: a fork is safe now. -EBUSY: *d names the culprit. -ESRCH: it is gone. */
int template_look(struct forker *f, struct diag *d);
/* A seed that has left its first fork point, where it was safe. What it runs and has open now is
 * its own affair: at its next fork point, if there is one, it looks at itself. */
bool seed_works(const struct worker *w);
/* The process has this socket open. */
bool template_holds(pid_t pid, ino_t socket);

/* ---- template_plan.c ---- */
int template_hello(struct worker *w, const char *mode, int fd);
/* Ask f to fork the worker of the life in `row`; channel: the worker's end of its own. 0, or
 * -EAGAIN, -E2BIG… with *d. */
int template_order(struct worker *w, uint32_t row, struct forker *f, int channel, uint32_t number,
		   struct diag *d);

/* ---- template_show.c ---- */
void template_write(struct str *out, const char *key, const struct worker *t);
/* Those of a group, as "templates". */
void templates_write(struct str *out, const struct group *g);
/* What a worker's process was made from: "exec", "web/template/3", "web:0/2". */
void template_source(const struct worker *w, char *ret, size_t size);

/* ---- handover.c, handover_born.c ---- */
/* Make the life in `row` of w: 0, it is under way; else as spawn_worker(). */
int handover_begin(struct worker *w, uint32_t row, struct diag *d);
/* Claimed, refused, or ended before GO. True: it is not to be looked at any further now. */
bool handover_look(struct worker *w);
/* The worker is to be stopped before GO. True: there was such a hand-over; its end is posted, or
 * comes with the exit record where there is a process. */
bool handover_cancel(struct worker *w);
/* The life is over: let go of what it has here. */
void handover_close(struct worker *w);
/* Nobody ran for a while: who is on the way has all its time again. */
void handover_put_off(struct worker *w);
/* Somebody that w was asked for may be on the way still: neither claimed nor given up. */
bool handover_waits(const struct worker *w);
/* The one who was asked is gone. */
void handover_orphaned(struct forker *f);
/* Replies of the one who was asked. */
void handover_spawned(struct manager *m, const struct owed *o);
void handover_failed(struct manager *m, const struct owed *o, int err, const char *text);
/* What a predecessor began. */
void handover_resume(struct worker *w);
/* The life has not been let go yet: what becomes of it is no end of a worker. */
static inline bool handover_pending(const struct ledger_life *life)
{
	return life && (life->handover == HAND_ASKED || life->handover == HAND_BORN);
}
/* The same for a spare, in life[1] of the slot. */
int handover_begin_spare(struct worker *w, uint32_t row, struct diag *d);

/* ---- spare.c ---- */
/* Make the spares fit what is wanted. Cheap; called whenever something changed. */
void spares_step(struct manager *m);
/* The next life of w cannot be made now: template_blocks(), or its spare is on its way. */
bool spare_blocks(const struct worker *w);
/* The parked spare of w becomes its life: 1; 0: it has none; -EAGAIN with *d: not now. */
int spare_take(struct worker *w, struct diag *d);
/* It is taken: all that has to be done before its GO. */
int spare_goes(struct worker *w);
/* Its life has news; what a predecessor left. */
void spare_look(struct worker *w);
void spare_resume(struct worker *w);
/* Some are there still. */
bool spares_left(const struct manager *m);
/* Parked ones of the group, if t serves it: they may be of one that has died since. */
uint32_t spares_of(const struct worker *t);
/* The row of a spare of w that is a process, on its way in or out as well; LEDGER_NONE: none. */
uint32_t spare_row(const struct worker *w);

/* ---- sharing.c ---- */
/* Measure what copies share with their seeds, when it is time. Cheap; called whenever something
 * changed. */
void sharing_step(struct manager *m);
void sharing_fini(struct manager *m);

#endif
