/*
 * How an `entry` becomes a command: the runtime of its language, told what to be. The daemon's own
 * environment may name its place by an absolute path:
 *   REEVE_PYTHON_DIR  the directory of the Python package (lib/python/README.md)
 *   REEVE_RUNNER      the program that runs native modules
 * else it is found from where reeved itself is (../share/reeve/python, reeve-runner), so that an
 * installation may be moved and a build directory need not be installed (meson.build links them
 * there), else at the places that the build was configured with.
 * Since 0.2.0.
 */
#ifndef REEVE_MANAGER_ENTRY_H
#define REEVE_MANAGER_ENTRY_H

#include "conf.h"
#include "manager/env.h"

#include <limits.h>

/* What the runtime is to be. All but spawn speak on REEVE_CHANNEL and get their entry there. */
enum entry_role { ENTRY_SPAWN, ENTRY_TEMPLATE, ENTRY_THREADS };

/* The directory of the Python package, for HELLO as well. */
void entry_python_dir(char ret[static PATH_MAX]);

/* The program that runs native modules. */
void entry_runner(char ret[static PATH_MAX]);

/* Append the command line of a group with an entry. */
void entry_argv(struct words *argv, const struct conf_group *g, enum entry_role role);

#endif
