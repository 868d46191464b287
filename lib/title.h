/*
 * What ps(1) and /proc show of a worker that was forked: its own command line and environment
 * instead of the template's. Reeve finds processes by the variable REEVE_ID in /proc/PID/environ.
 * Since 0.2.0. Source: PR_SET_MM_MAP(2const), Linux 3.18 with CONFIG_CHECKPOINT_RESTORE; without
 * it only the name of the process changes.
 */
#ifndef REEVE_LIB_TITLE_H
#define REEVE_LIB_TITLE_H

#include <stddef.h>
#include <stdint.h>

/* Where the parts of this process lie; the same in every copy of it. */
struct title {
	uint64_t start_code, end_code, start_data, end_data, start_brk, start_stack;
};

/* Ask the kernel. 0 or -errno; *ret is all zero then. */
int title_prepare(struct title *ret);

/*
 * Show the texts at block, each ended by NUL: args_len bytes of arguments, behind them env_len
 * bytes of environment. They stay the caller's and must stay where they are. 0 or -errno.
 */
int title_set(const struct title *t, const char *block, size_t args_len, size_t env_len);
/* The name of the process (comm), cut to 15 bytes. */
void title_set_name(const char *name);

#endif
