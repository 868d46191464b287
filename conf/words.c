/* Owns the words of the configuration's enums; the order is the enum's. */
#include "conf.h"

#include "base/mem.h"

#define WORDS_MAX 5

/* clang-format off: version 14 crashes on it */
static const char *const words[CONF_WORDS_COUNT][WORDS_MAX] = {
	[CONF_WORDS_CGROUP] = { "auto", "off", "require" },
	[CONF_WORDS_STRAY] = { "kill", "leave" },
	[CONF_WORDS_START] = { "spawn" },
	[CONF_WORDS_READY] = { "exec", "notify" },
	[CONF_WORDS_WHEN] = { "always", "failure", "never" },
	[CONF_WORDS_ON_FAILURE] = { "quarantine", "shutdown", "ignore" },
	[CONF_WORDS_ON_DONE] = { "keep", "shutdown" },
	[CONF_WORDS_EXIT_CODE] = { "fixed", "worker" },
	[CONF_WORDS_TARGET] = { "main", "pgrp", "tree" },
	[CONF_WORDS_ORPHANS] = { "kill", "wait", "leave" },
	[CONF_WORDS_LOG_TO] = { "file", "journal", "stdout", "null" },
	[CONF_WORDS_FORMAT] = { "text", "raw" },
	[CONF_WORDS_STDERR] = { "merge", "separate", "null" },
	[CONF_WORDS_OVERFLOW] = { "drop", "block" },
	[CONF_WORDS_LEVEL] = { "error", "warn", "info", "debug" },
};
/* clang-format on */

const char *conf_word(enum conf_words which, int value)
{
	if ((unsigned)which >= CONF_WORDS_COUNT || value < 0 || value >= WORDS_MAX)
		return NULL;
	return words[which][value];
}
