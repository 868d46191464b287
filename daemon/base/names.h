/*
 * The value notations users write and read: signals, durations, sizes. One place for parsing and
 * printing, shared by the configuration, the control API and reevectl.
 */
#ifndef REEVE_BASE_NAMES_H
#define REEVE_BASE_NAMES_H

#include <stddef.h>
#include <stdint.h>

#define DURATION_NEVER INT64_MAX

/* "TERM", "SIGTERM", "RTMIN+3" → number; -EINVAL for anything else, numbers included. */
int signal_from_name(const char *name);
/* Number → "TERM", "RTMIN+3"; "SIG?" never happens for 1..64. ret keeps at least 12 bytes. */
const char *signal_to_name(int number, char ret[static 12]);

/* "250ms" "10s" "1m30s" "2h" "1d" → milliseconds; 0 or -EINVAL / -ERANGE (over 10 years). */
int duration_parse(const char *text, int64_t *ret_ms);
/* The shortest notation that parses back; "never" for DURATION_NEVER. */
const char *duration_format(int64_t ms, char ret[static 48]);

/* "64K" "50M" "1G" "2T" or plain bytes; 0 or -EINVAL / -ERANGE. */
int size_parse(const char *text, int64_t *ret_bytes);
const char *size_format(int64_t bytes, char ret[static 32]);

#endif
