/*
 * What is wrong with "the next release" of reeved (see meson.build), for tests of upgrades: the
 * word in NEXT_FAULT says where it fails. Linked in by --wrap around functions of the real program.
 */
#include "boot/boot.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int manager_main(int argc, char **argv);
int logger_main(int argc, char **argv);

#define WRAP(type, name, parameters)                                                               \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters

static void fail_if(const char *crash, const char *hang)
{
	const char *word = getenv("NEXT_FAULT");

	if (word && strcmp(word, crash) == 0)
		raise(SIGSEGV);
	while (word && strcmp(word, hang) == 0)
		pause();
}

WRAP(int, preflight_main, (int argc, char **argv))
{
	fail_if("check-crash", "check-hang");
	return __real_preflight_main(argc, argv);
}

/* Nothing is complete yet: what was passed on goes back as it came. */
WRAP(int, boot_descriptors, (struct keeper * k))
{
	fail_if("early-crash", "early-hang");
	return __real_boot_descriptors(k);
}

/* The roles of the new program run already. */
WRAP(void, keeper_loop, (struct keeper * k))
{
	fail_if("late-crash", "late-hang");
	__real_keeper_loop(k);
}

WRAP(int, manager_main, (int argc, char **argv))
{
	fail_if("manager-crash", "manager-hang");
	return __real_manager_main(argc, argv);
}

WRAP(int, logger_main, (int argc, char **argv))
{
	fail_if("logger-crash", "logger-hang");
	return __real_logger_main(argc, argv);
}

/* It has taken note that all trees are gone. */
WRAP(int64_t, shutdown_due, (const struct keeper *k))
{
	if (k->gone_ms != KEEPER_NEVER)
		fail_if("gone-crash", "");
	return __real_shutdown_due(k);
}
