/*
 * When is a copy of a seed (start_method "fork") worth to be made anew? Pure, as worker.h.
 * Since 0.2.0.
 */
#ifndef REEVE_MODEL_SHARING_H
#define REEVE_MODEL_SHARING_H

#include <stdbool.h>
#include <stdint.h>

/* A copy, and a seed, is left alone for so long: what it loads late, the other may load, too. */
#define SHARING_PATIENCE_MS (10 * 60 * 1000)
/* Twice as long for each time that it was made anew before, up to a week. */
#define SHARING_ANEW_MAX 10

struct sharing {
	int64_t private_bytes; /* pages that it alone has */
	int64_t shared_bytes;  /* pages that others have, too */
	int64_t age_ms;	       /* since it was ready */
	bool copy;	       /* made by a fork, not executed */
	int anew;	       /* so often in a row the one before it shared too little */
};

enum sharing_verdict {
	SHARING_WELL,
	SHARING_DECAYED, /* to be made anew */
	SHARING_USELESS, /* it was, and that did not help: nor will it again */
	SHARING_VERDICTS
};

/* A verdict other than WELL is possible: it is worth to be measured. */
bool sharing_asks(const struct sharing *s);
enum sharing_verdict sharing_judge(const struct sharing *s);
/* How much of its memory is its own, in percent. */
int sharing_own(const struct sharing *s);

#endif
