/* Owns nothing but the order of a few pairs. */
#include "logger/marks.h"

#include <string.h>

void marks_add(struct marks *m, uint64_t end, int64_t stamp_us)
{
	if (m->n > 0 && m->at[m->n - 1].stamp_us == stamp_us) {
		m->at[m->n - 1].end = end;
		return;
	}
	if (m->n == MARKS) {
		m->at[1].stamp_us = m->at[0].stamp_us;
		memmove(&m->at[0], &m->at[1], (MARKS - 1) * sizeof(m->at[0]));
		m->n--;
	}
	m->at[m->n].end = end;
	m->at[m->n].stamp_us = stamp_us;
	m->n++;
}

int64_t marks_find(const struct marks *m, uint64_t at)
{
	for (uint32_t i = 0; i < m->n; i++) {
		if (at < m->at[i].end)
			return m->at[i].stamp_us;
	}
	return 0;
}
