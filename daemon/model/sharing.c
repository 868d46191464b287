/*
 * Owns the bounds of how little a copy may share. The share is one of all its memory: of PSS alone
 * it would grow with the number of copies, which divides what they share and not what they do not.
 */
#include "model/sharing.h"

#define OWN_PERCENT 75
#define OWN_BYTES   (8 << 20) /* less is not worth a restart */

int sharing_own(const struct sharing *s)
{
	int64_t all = s->private_bytes + s->shared_bytes;

	return all > 0 ? (int)((double)s->private_bytes * 100. / (double)all) : 0;
}

static int64_t patience(const struct sharing *s)
{
	return (int64_t)SHARING_PATIENCE_MS << s->anew;
}

bool sharing_asks(const struct sharing *s)
{
	return (s->anew && (!s->copy || s->age_ms < SHARING_PATIENCE_MS)) ||
	       (s->copy && s->age_ms >= patience(s));
}

enum sharing_verdict sharing_judge(const struct sharing *s)
{
	if (!s->copy) /* the seed makes none any more */
		return s->anew ? SHARING_USELESS : SHARING_WELL;
	if (s->private_bytes < OWN_BYTES || sharing_own(s) < OWN_PERCENT)
		return SHARING_WELL;
	if (s->age_ms >= patience(s))
		return SHARING_DECAYED;
	return s->anew && s->age_ms < SHARING_PATIENCE_MS ? SHARING_USELESS : SHARING_WELL;
}
