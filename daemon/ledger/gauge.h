/*
 * What the manager asks its gauge, a helper that is reeved exec'ed again under this name: the
 * proportional, private and shared memory of many processes. To read smaps_rollup takes the kernel
 * a walk over every page table of the process, under the lock of its memory, which somebody in an
 * uninterruptible wait may hold: nothing for a loop.
 *
 * The table is a memfd that the helper has as fd 1. It reads the rows from `at` on and ends. Each
 * field has one writer: M = manager, before the helper is started, H = the helper.
 *
 * Since 0.2.0. Source: proc_pid_smaps(5), smaps_rollup 4.14.
 */
#ifndef REEVE_LEDGER_GAUGE_H
#define REEVE_LEDGER_GAUGE_H

#include <stdatomic.h>
#include <stdint.h>

#define ROLE_GAUGE    "reeve-gauge"
#define GAUGE_VERSION 1u

struct gauge_row {
	int32_t pid;		/* M */
	_Atomic uint32_t known; /* H: 1 once the rest is valid */
	uint64_t starttime;	/* H: ticks since boot, whose memory this is */
	int64_t pss_bytes;	/* H: each page divided by the number of processes that have it */
	int64_t private_bytes;	/* H: pages that it alone has */
	int64_t shared_bytes;	/* H: pages that others have too */
};

struct gauge_table {
	uint32_t version, n; /* M */
	_Atomic uint32_t at; /* H: rows begun; a row that is begun and not known was not readable */
	uint32_t zero;
	struct gauge_row rows[];
};

#endif
