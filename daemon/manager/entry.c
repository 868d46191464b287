/* Owns the command lines of Reeve's own runtimes. */
#include "manager/entry.h"

#include <stdlib.h>

static const char *const roles[][2] = {
	[ENTRY_SPAWN] = {"spawn",	   "--spawn"   },
	[ENTRY_TEMPLATE] = { "template", "--template"},
	[ENTRY_THREADS] = { "threads",  "--threads" },
};

static const char *place(const char *variable, const char *installed)
{
	const char *own = getenv(variable);

	return own && own[0] == '/' ? own : installed;
}

const char *entry_python_dir(void)
{
	return place("REEVE_PYTHON_DIR", REEVE_PYTHON_DIR);
}

void entry_argv(struct words *argv, const struct conf_group *g, enum entry_role role)
{
	bool native = conf_entry_is_native(g->entry);

	words_add(argv, native ? place("REEVE_RUNNER", REEVE_RUNNER) : g->python);
	if (!native)
		words_add(argv, entry_python_dir());
	words_add(argv, roles[role][native]);
	if (role == ENTRY_SPAWN)
		words_add(argv, g->entry);
}
