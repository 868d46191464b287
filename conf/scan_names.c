/* Owns the set of names seen by the scan: one hash table for all blocks, so that a block of
 * thousands of names costs no search (libconfig's own check is quadratic). */
#include "scan_token.h"

#include <errno.h>
#include <string.h>

struct seen {
	struct seen_name {
		const char *name; /* in the file's text; NULL = free */
		size_t len;
		unsigned block;
		int line;
	} * slots;
	size_t size, n; /* size: a power of two */
};

static size_t hash(unsigned block, const char *name, size_t len)
{
	size_t h = 14695981039346656037ull ^ block;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * 1099511628211ull;
	return h ^ (h >> 29);
}

static struct seen_name *find(struct seen *t, unsigned block, const char *name, size_t len)
{
	for (size_t i = hash(block, name, len);; i++) {
		struct seen_name *slot = &t->slots[i & (t->size - 1)];

		if (!slot->name || (slot->block == block && slot->len == len &&
				    memcmp(slot->name, name, len) == 0))
			return slot;
	}
}

static int grow(struct seen *t)
{
	struct seen bigger = { .size = t->size ? t->size * 2 : 256, .n = t->n };

	bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < t->size; i++) {
		struct seen_name *old = &t->slots[i];

		if (old->name)
			*find(&bigger, old->block, old->name, old->len) = *old;
	}
	free(t->slots);
	*t = bigger;
	return 0;
}

int seen_add(struct scan *s, unsigned block, const char *name, size_t len, int line)
{
	struct seen *t = s->seen;
	struct seen_name *slot;

	if (t->n * 2 >= t->size && grow(t) < 0)
		return -ENOMEM;
	slot = find(t, block, name, len);
	if (slot->name)
		return slot->line;
	*slot = (struct seen_name){ name, len, block, line };
	t->n++;
	return 0;
}

struct seen *seen_new(void)
{
	return calloc(1, sizeof(struct seen));
}

void seen_free(struct seen *seen)
{
	if (seen)
		free(seen->slots);
	free(seen);
}
