/* Owns nothing: reads the clocks and formats wall-clock times without locale or time zone. */
#include "base/clock.h"
#include "base/failpoint.h"

#include <stdio.h>
#include <time.h>

int64_t clock_mono_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
#ifdef REEVE_FAILPOINTS
	t.tv_sec += failpoint_mono_offset_us() / 1000000;
#endif
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t clock_real_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
#ifdef REEVE_FAILPOINTS
	t.tv_sec += failpoint_clock_offset_us() / 1000000;
#endif
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void clock_format(int64_t real_us, char ret[static 32])
{
	time_t sec = (time_t)(real_us / 1000000);
	struct tm tm;

	gmtime_r(&sec, &tm);
	snprintf(ret, 32, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ",
		 (unsigned)(tm.tm_year + 1900) % 10000u, (unsigned)tm.tm_mon + 1u,
		 (unsigned)tm.tm_mday, (unsigned)tm.tm_hour, (unsigned)tm.tm_min,
		 (unsigned)tm.tm_sec, (unsigned)(real_us % 1000000));
}
