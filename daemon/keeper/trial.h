/*
 * The guard over the first second of a new image (see trial.c). One per process; NULL where a
 * struct trial * is taken = there is none, nothing is done. Since 0.2.0. Source: sigaltstack(2),
 * execveat(2) 3.19.
 */
#ifndef REEVE_KEEPER_TRIAL_H
#define REEVE_KEEPER_TRIAL_H

#include <stdbool.h>

struct trial;
struct keeper;
struct pass;

/* p->old takes over if we crash, or go on without trial_go_on() for 2 s. argv: of main, borrowed.
 * p is the guard's from here on. 0 or -errno. */
int trial_begin(const struct pass *p, char *const *argv, struct trial **ret);
/* From now on the old image gets what is in k, not what we were given. */
void trial_complete(struct trial *g, const struct keeper *k);
void trial_go_on(struct trial *g);
/* No alarm meanwhile: between a fork and the note of its pid. */
void trial_hold(struct trial *g, bool hold);
/* Put the old image back, with a reason; -errno if it cannot be. */
int trial_give_up(struct trial *g, const char *why);
/* All is well: the old image is let go. */
void trial_end(struct trial **g);

#endif
