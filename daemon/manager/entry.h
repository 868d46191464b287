/*
 * How an `entry` becomes a command: the runtime of its language, told what to be. Where they are
 * installed is a constant of the build (meson.build); the daemon's own environment may name another
 * place by an absolute path, for tests and builds that are not installed:
 *   REEVE_PYTHON_DIR  the directory of the Python package (lib/python/README.md)
 *   REEVE_RUNNER      the program that runs native modules
 * Since 0.2.0.
 */
#ifndef REEVE_MANAGER_ENTRY_H
#define REEVE_MANAGER_ENTRY_H

#include "conf.h"
#include "manager/env.h"

/* What the runtime is to be. All but spawn speak on REEVE_CHANNEL and get their entry there. */
enum entry_role { ENTRY_SPAWN, ENTRY_TEMPLATE, ENTRY_THREADS };

/* The directory of the Python package, for HELLO as well. */
const char *entry_python_dir(void);

/* Append the command line of a group with an entry. */
void entry_argv(struct words *argv, const struct conf_group *g, enum entry_role role);

#endif
