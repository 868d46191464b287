/*
 * What tree.c and tree_watch.c share; nobody else includes it.
 */
#ifndef REEVE_MANAGER_TREES_H
#define REEVE_MANAGER_TREES_H

#include "manager/evidence.h"
#include "manager/tree.h"

#define TREES_LEAF_BYTES 128
#define TREES_PAUSE_S	 .2 /* the longest between two looks at a tree that ends */

struct watch {
	struct watch *next;
	uint32_t life, incarnation;
	int wd;	   /* of the leaf's cgroup.events, or -1: looked at by the timer */
	bool kill; /* SIGKILL was asked for: again at each look */
	bool due;  /* to be looked at now */
};

struct trees {
	struct manager *m;
	struct evidence *evidence;
	int base;	  /* -1: no cgroups */
	char prefix[256]; /* path of the base as /proc/PID/cgroup shows it; "" = unknown */
	int inotify;
	ev_io io;
	ev_timer timer;
	double pause;
	uint64_t strangers_reaped;
	struct log_limit untouchable;
	struct watch *watches;
	char (*removals)[TREES_LEAF_BYTES];
	size_t n_removals;
};

/* ---- tree.c ---- */
/* The leaf that a life was born in; -ENOTSUP without one. */
int trees_leaf(const struct trees *t, uint32_t row, char ret[static TREES_LEAF_BYTES]);
/* SIGKILL once more, from the watch. Whether there was somebody who had not been there a moment
 * before. */
bool trees_kill_again(struct trees *t, uint32_t row);
void trees_retry_removals(struct trees *t);

/* ---- tree_watch.c ---- */
struct watch *trees_find_watch(const struct trees *t, uint32_t row);
/* The next look comes after so many seconds. */
void trees_look_in(struct trees *t, double pause);
void trees_start_watching(struct trees *t);

#endif
