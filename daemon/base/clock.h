/* The two clocks. Decisions use the monotonic one only; the wall clock is for people. */
#ifndef REEVE_BASE_CLOCK_H
#define REEVE_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC in milliseconds. */
int64_t clock_mono_ms(void);
/* CLOCK_REALTIME in microseconds since the epoch. */
int64_t clock_real_us(void);
/* RFC 3339 UTC with microseconds, "2026-01-31T12:00:00.123456Z" (27 bytes + NUL). */
void clock_format(int64_t real_us, char ret[static 32]);

#endif
