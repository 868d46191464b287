/*
 * Owns the places of a follower: how far each stream was given to it. A stream's totals outlive
 * every logger, so whoever brings its places back after a break goes on at the very byte. They
 * belong to one log book: of another one everything is new.
 */
#include "logger/client.h"

#include "base/mem.h"
#include "logger/ring.h"

#include <stdlib.h>

void places_tell(struct client *c, const struct tail *t)
{
	if (c->phase == CLIENT_TAILS) /* before that they are told all at once */
		str_addf(&c->places, "%s%u:%llu", c->places.len > 0 ? ";" : "", t->stream,
			 (unsigned long long)t->cursor);
}

void places_tell_all(struct logger *lg, struct client *c)
{
	str_addf(&c->places, "%lld", (long long)lg->lb.h->born_us);
	for (uint32_t i = 0; i < c->n_tails; i++)
		places_tell(c, &c->tails[i]);
}

/* A stream that the client did not know: what its ring holds since the last life in it ended. */
static uint64_t begin_of(const struct logger *lg, uint32_t stream)
{
	uint64_t end = atomic_load(&logbook_stream(&lg->lb, stream)->end_at);
	uint64_t oldest = logbook_oldest(&lg->lb, stream);

	return end <= ring_total(&lg->lb, stream) ? MAX_OF(end, oldest) : oldest;
}

/* By stream, the number of its tail + 1. However many places a client names, each is found at once;
 * without memory for this all is new. */
static uint32_t *index_of_tails(const struct client *c)
{
	uint32_t *at = calloc(LOGBOOK_STREAMS, sizeof(*at));

	for (uint32_t i = 0; at && i < c->n_tails; i++)
		at[c->tails[i].stream] = i + 1;
	return at;
}

void places_take(struct logger *lg, struct client *c, const char *text)
{
	char *end;
	bool same = strtoll(text, &end, 10) == lg->lb.h->born_us;
	auto_free uint32_t *index = index_of_tails(c);

	for (uint32_t i = 0; i < c->n_tails; i++)
		c->tails[i].cursor = begin_of(lg, c->tails[i].stream);
	while (index && same && *end == ';') {
		uint32_t stream = (uint32_t)strtoul(end + 1, &end, 10);
		uint64_t total = *end == ':' ? strtoull(end + 1, &end, 10) : 0;

		if (stream < LOGBOOK_STREAMS && index[stream])
			c->tails[index[stream] - 1].cursor =
				MIN_OF(total, ring_total(&lg->lb, stream));
	}
	c->phase = CLIENT_TAILS;
	if (c->follow)
		places_tell_all(lg, c);
}
