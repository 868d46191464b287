/* Owns the words of the configuration's enums; the order is the enum's. */
#include "conf.h"

#include <string.h>

/* Words of one enum, each ended by a NUL. */
static const char *const words[CONF_WORDS_COUNT] = {
	[CONF_WORDS_CGROUP] = "auto\0off\0require\0",
	[CONF_WORDS_STRAY] = "kill\0leave\0",
	[CONF_WORDS_START] = "spawn\0forkserver\0fork\0threads\0",
	[CONF_WORDS_PRELOAD_ERRORS] = "fail\0warn\0",
	[CONF_WORDS_FALLBACK] = "none\0spawn\0",
	[CONF_WORDS_READY] = "exec\0notify\0",
	[CONF_WORDS_WHEN] = "always\0failure\0never\0",
	[CONF_WORDS_ON_FAILURE] = "quarantine\0shutdown\0ignore\0",
	[CONF_WORDS_ON_DONE] = "keep\0shutdown\0",
	[CONF_WORDS_EXIT_CODE] = "fixed\0worker\0",
	[CONF_WORDS_TARGET] = "main\0pgrp\0tree\0",
	[CONF_WORDS_ORPHANS] = "kill\0wait\0leave\0",
	[CONF_WORDS_LOG_TO] = "file\0journal\0stdout\0null\0",
	[CONF_WORDS_FORMAT] = "text\0raw\0json\0",
	[CONF_WORDS_STDERR] = "merge\0separate\0null\0",
	[CONF_WORDS_OVERFLOW] = "drop\0block\0",
	[CONF_WORDS_LEVEL] = "error\0warn\0info\0debug\0",
};

const char *conf_word(enum conf_words which, int value)
{
	const char *word;

	if ((unsigned)which >= CONF_WORDS_COUNT || value < 0)
		return NULL;
	word = words[which];
	while (*word && value-- > 0)
		word += strlen(word) + 1;
	return *word ? word : NULL;
}
