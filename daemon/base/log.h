/*
 * The daemon's own messages: one line each, level and role in front, to stderr, the journal
 * (stderr that is a journal stream gets <N> priority prefixes) or a file.
 * Low layers do not log (style §4); roles do.
 */
#ifndef REEVE_BASE_LOG_H
#define REEVE_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* role: shown in each line ("reeved", "reeve-manager"), must stay valid. */
void log_init(const char *role, enum log_level level);
/* "auto" and "stderr": stderr; "journal": the journal's stream socket; else an absolute path,
 * opened for append. Returns 0 or -errno; the old destination stays on error. */
int log_open(const char *to);
void log_set_level(enum log_level level);
/* True if a line at this level would be written. */
bool log_on(enum log_level level);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_on(LOG_LEVEL_DEBUG))                                                       \
			log_write(LOG_LEVEL_DEBUG, __VA_ARGS__);                                   \
	} while (0)

/* A rate limit for one kind of message: at most `burst` lines per `per_ms`; what was left out
 * is counted and said with the next line that passes. Zero-initialise. */
struct log_limit {
	int64_t window_ms;
	uint32_t lines, dropped;
};
/* True if a line may pass now; *ret_dropped = how many were left out since the last one. */
bool log_limit_pass(struct log_limit *l, uint32_t burst, int64_t per_ms, uint32_t *ret_dropped);

#endif
