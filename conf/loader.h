/*
 * The fence around libconfig: the loader is reeved itself exec'ed as `reeve-loader`, with a
 * deadline, CPU and memory limits and a parent-death signal. It loads a file and writes a result
 * to fd 1, a memfd or pipe its starter holds. Its exit code is 0 (loaded), 78 (errors) or else
 * (it crashed, ran out of time or memory).
 *
 * Result: one JSON object
 *   { "problems": [ { "file", "line", "text", "warning" } ], "conf": {canonical} | null,
 *     "boot": { "runtime_dir", "cgroup", "log_level", "log_to" } }
 * Since 0.1.0.
 */
#ifndef REEVE_CONF_LOADER_H
#define REEVE_CONF_LOADER_H

#include "conf.h"

#define LOADER_NAME	    "reeve-loader"
#define LOADER_DEADLINE_MS  20000
#define LOADER_CPU_S	    10
#define LOADER_MEMORY_BYTES (512LL << 20)

/* argv for the helper: reeve-loader [--offline] [--user] [--pid1] FILE. NULL-terminated into argv
 * (room for 8); strings are borrowed. */
void loader_argv(const char *path, const struct conf_load_options *o, const char *argv[static 8]);
/* The helper's whole main: sets its own limits, loads, writes the result to fd 1. */
int loader_main(int argc, char **argv);
/* Read a result. 0 with *ret; -EINVAL with the report filled (a garbled or missing result becomes
 * an error in the report, naming wait_status). */
int loader_result(const char *text, size_t len, int wait_status, const char *path,
		  struct conf **ret, struct conf_report *report);

#endif
