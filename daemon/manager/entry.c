/* Owns the command lines of Reeve's own runtimes. */
#include "manager/entry.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const roles[][2] = {
	[ENTRY_SPAWN] = {"spawn",	   "--spawn"   },
	[ENTRY_TEMPLATE] = { "template", "--template"},
	[ENTRY_THREADS] = { "threads",  "--threads" },
};

/* Absolute and there, by the environment, beside this program, or where it was to be installed. */
static void find(const char *variable, const char *beside, const char *installed,
		 char ret[static PATH_MAX])
{
	const char *own = getenv(variable);
	ssize_t n;
	char *slash;

	if (own && own[0] == '/' && strlen(own) < PATH_MAX) {
		strcpy(ret, own);
		return;
	}
	n = readlink("/proc/self/exe", ret, PATH_MAX - 1);
	ret[MAX_OF(n, 0)] = '\0';
	slash = strrchr(ret, '/');
	if (slash && (size_t)(slash - ret) + strlen(beside) + 2 < PATH_MAX) {
		strcpy(slash + 1, beside);
		if (access(ret, F_OK) == 0)
			return;
	}
	strcpy(ret, installed);
}

void entry_python_dir(char ret[static PATH_MAX])
{
	find("REEVE_PYTHON_DIR", "../share/reeve/python", REEVE_PYTHON_DIR, ret);
}

void entry_argv(struct words *argv, const struct conf_group *g, enum entry_role role)
{
	bool native = conf_entry_is_native(g->entry);
	char path[PATH_MAX];

	if (native) {
		find("REEVE_RUNNER", "reeve-runner", REEVE_RUNNER, path);
	} else {
		words_add(argv, g->python);
		entry_python_dir(path);
	}
	words_add(argv, path);
	words_add(argv, roles[role][native]);
	if (role == ENTRY_SPAWN)
		words_add(argv, g->entry);
}
