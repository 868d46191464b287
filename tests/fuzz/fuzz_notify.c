/* Datagrams from workers, and the files they are started with: what strangers may write. */
#include "base/mem.h"
#include "manager/env.h"
#include "manager/notify.h"
#include "manager/proc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What it points to lies inside the datagram, and numbers are within what callers rely on. */
static void check_message(const char *text, size_t size)
{
	struct notify_message m;

	notify_parse(text, size, &m);
	if (m.has_status && (m.status < text || m.status + m.status_len > text + size))
		abort();
	if (m.has_status && m.status_len > 0 && memchr(m.status, '\n', m.status_len))
		abort();
	if (m.has_mainpid && (m.mainpid < 0 || m.mainpid > INT32_MAX))
		abort();
	if (m.has_errno && (m.error_number < 0 || m.error_number > 4095))
		abort();
	if (m.has_progress && (m.progress_done > INT64_MAX || m.progress_total > INT64_MAX))
		abort();
}

static void check_env(const char *text, size_t size)
{
	auto_free char *copy = malloc(size + 1);
	struct words w = { 0 };
	struct diag d = { 0 };
	char **all;

	memcpy(copy, text, size);
	copy[size] = '\0';
	if (env_add_lines(&w, "file", copy, size, &d) == 0 && words_finish(&w, &all, &d) == 0) {
		for (; *all; all++)
			if (!strchr(*all, '=') || **all == '=')
				abort();
	}
	words_fini(&w);
}

static void check_stat(const char *text, size_t size)
{
	auto_free char *copy = malloc(size + 1);
	struct proc_stat s;

	memcpy(copy, text, size);
	copy[size] = '\0';
	if (proc_stat_parse(copy, size, &s) == 0 && !memchr(s.comm, '\0', sizeof(s.comm)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* an exact copy: a read beyond the end is seen by the sanitizer */
	auto_free char *text = malloc(size ? size : 1);

	memcpy(text, data, size);
	check_message(text, size);
	check_env(text, size);
	check_stat(text, size);
	return 0;
}
