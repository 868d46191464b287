/*
 * The gauge's whole main: reads the memory of the processes in the table that it was given
 * (ledger/gauge.h). Whoever waits for it counts the rows, and ends it when it hangs in one.
 */
#include "base/fd.h"
#include "base/mem.h"
#include "ledger/gauge.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int gauge_main(int argc, char **argv);

/* State and start time; false: it is gone. The name may hold anything but ends at the last ')'. */
static bool who_is(pid_t pid, char *ret_state, uint64_t *ret_starttime)
{
	char path[64], text[1024];
	const char *at;
	unsigned long long starttime;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_at(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return false;
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1,
			  " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
			  "%*d %llu",
			  ret_state, &starttime) != 2)
		return false;
	*ret_starttime = starttime;
	return true;
}

/* The number of kB behind a word at the start of a line. */
static int64_t kilobytes(const char *text, const char *word)
{
	const char *at = strstr(text, word);

	return at ? atoll(at + strlen(word)) * 1024 : 0;
}

static void measure(struct gauge_row *row)
{
	char path[64], text[4096], state;

	/* what waits uninterruptibly may hold the lock that we need (SH12) */
	if (!who_is(row->pid, &state, &row->starttime) || state == 'D')
		return;
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)row->pid);
	if (fd_read_at(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return;
	row->pss_bytes = kilobytes(text, "\nPss:");
	row->private_bytes = kilobytes(text, "\nPrivate_Clean:") +
			     kilobytes(text, "\nPrivate_Dirty:") +
			     kilobytes(text, "\nPrivate_Hugetlb:");
	row->shared_bytes = kilobytes(text, "\nShared_Clean:") +
			    kilobytes(text, "\nShared_Dirty:") +
			    kilobytes(text, "\nShared_Hugetlb:");
	row->known = 1;
}

int gauge_main(int argc, char **argv)
{
	struct gauge_table *t;
	void *map;
	size_t bytes;

	if (fd_map(STDOUT_FILENO, &map, &bytes) < 0 || bytes < sizeof(*t))
		return 2;
	t = map;
	if (t->version != GAUGE_VERSION || (bytes - sizeof(*t)) / sizeof(t->rows[0]) < t->n)
		return 2;
	for (uint32_t i = t->at; i < t->n; i++) {
		t->at = i + 1;
		measure(&t->rows[i]);
	}
	return 0;
}
