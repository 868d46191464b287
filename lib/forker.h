/*
 * The template's side of the channel, for reeve-runner and for fork_point(): answers HELLO, says
 * READY, and serves FORK and PING. One packet at a time; it never allocates.
 * Since 0.2.0.
 */
#ifndef REEVE_LIB_FORKER_H
#define REEVE_LIB_FORKER_H

#include "lib/adopt.h"
#include "lib/birth.h"
#include "lib/channel.h"
#include "lib/safety.h"

#define FORKER_ALLOWED 32

struct forker {
	int channel;
	bool seed; /* works between its fork points: fds may come and go */
	struct safety safety;
	char allowed[FORKER_ALLOWED][64];
	uint32_t count;	     /* of the group, from HELLO */
	uint32_t served;     /* forks so far */
	const char *why;     /* after -EPROTO: what was wrong */
	const char *refusal; /* why this process may never be forked; NULL */
	enum adopt_way way;  /* of the next fork */
	struct birth birth;  /* in the worker; the hook and its argument are the caller's to set */
	int (*before_fork)(void *arg);	  /* in the template; NULL or 0 or -errno */
	const struct forker_guest *guest; /* NULL: none */
	bool is_good; /* the last look has found nothing, and no code but ours has run since */
};

/* An interpreter in this process. All are called with birth.arg. */
struct forker_guest {
	/*
	 * In front of a fork that the short look does not allow, or always where `always` is set:
	 * its hooks, then its own look. The fds came with the order. 0; 1: refused, and answered.
	 */
	int (*look)(void *arg, uint32_t request, const int *fds, size_t n_fds);
	bool always;
	void (*before)(void *arg); /* around each fork, in the template */
	void (*after)(void *arg);
	void (*become)(void *arg, struct birth *b); /* instead of birth_run() */
};

enum forker_event {
	FORKER_NOTHING = 0, /* only without waiting */
	FORKER_SERVED,	    /* a fork was done, or refused */
	FORKER_WORKER,	    /* we are the new worker, after its GO */
	FORKER_PINGED,
	FORKER_QUIT,	 /* QUIT, or nobody there any more */
	FORKER_UNWANTED, /* a fork was refused that nobody wants any more */
};

/*
 * Wait for HELLO and answer it. runtime: "native 0.2.0". What the daemon said stays in *keep, *ret
 * points into it. -EPROTO (f->why), -EPROTONOSUPPORT, -ECONNRESET: the end instead.
 */
int forker_hello(struct forker *f, int channel, const char *runtime, struct channel_packet *keep,
		 struct channel_message *ret);
/*
 * Send READY, which the caller has begun and put CT_PRELOAD and CT_ERROR into, and UNSAFE if there
 * are culprits already.
 */
int forker_ready_send(struct forker *f, struct channel_packet *ready, uint64_t load_us);
/* Serve one packet, waiting for it or not. enum forker_event or -EPROTO. */
int forker_turn(struct forker *f, bool wait);

/* Receive one packet, waiting for it. Bytes, 0 at the end, or -errno. */
ssize_t forker_receive(int channel, struct channel_packet *p);
/* Send, waiting while the socket is full. */
int forker_send(int channel, const struct channel_packet *p);

#endif
