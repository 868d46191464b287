/* Owns the command lines of Reeve's own runtimes. */
#include "manager/entry.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const roles[][2] = {
	[ENTRY_SPAWN] = { "spawn", "--spawn" },
	[ENTRY_TEMPLATE] = { "template", "--template" },
	[ENTRY_THREADS] = { "threads", "--threads" },
};

/* Is it there, seen from the directory of this program? */
static bool is_near(const char *where, char ret[static PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", ret, PATH_MAX - 1);
	char *slash;

	ret[MAX_OF(n, 0)] = '\0';
	slash = strrchr(ret, '/');
	if (!slash || (size_t)(slash - ret) + strlen(where) + 2 >= PATH_MAX)
		return false;
	strcpy(slash + 1, where);
	return access(ret, F_OK) == 0;
}

/*
 * Absolute and there: by the environment, near this program as it was built or installed, or where
 * it was to be installed.
 */
static void find(const char *variable, const char *built, const char *near, const char *installed,
		 char ret[static PATH_MAX])
{
	const char *own = getenv(variable);

	if (own && own[0] == '/' && strlen(own) < PATH_MAX)
		strcpy(ret, own);
	else if (!is_near(built, ret) && !is_near(near, ret))
		strcpy(ret, installed);
}

void entry_python_dir(char ret[static PATH_MAX])
{
	const char *near = "../share/reeve/python";

	find("REEVE_PYTHON_DIR", near, near, REEVE_PYTHON_DIR, ret);
}

void entry_runner(char ret[static PATH_MAX])
{
	find("REEVE_RUNNER", "reeve-runner", "../bin/reeve-runner", REEVE_RUNNER, ret);
}

void entry_argv(struct words *argv, const struct conf_group *g, enum entry_role role)
{
	bool native = conf_entry_is_native(g->entry);
	char path[PATH_MAX];

	if (native) {
		entry_runner(path);
	} else {
		words_add(argv, g->python);
		entry_python_dir(path);
	}
	words_add(argv, path);
	words_add(argv, roles[role][native]);
	if (role == ENTRY_SPAWN)
		words_add(argv, g->entry);
}
