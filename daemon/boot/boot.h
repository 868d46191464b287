/*
 * The daemon before its first role is started and after the last one ended. What runs in between
 * is in keeper/, which knows nothing of this folder.
 *
 *   start.c        the steps in order, then the keeper's loop, then the end
 *   adopt.c        its other beginning: after an upgrade
 *   preflight.c    the check before one
 *   load.c         the configuration, by the loader
 *   runtime_dir.c  directory, lock, identity; cleaned at the end
 *   marked.c       processes of an earlier life, by their marker
 *   cgroup.c       the base for workers' leaves: found or made, swept, removed
 */
#ifndef REEVE_BOOT_H
#define REEVE_BOOT_H

#include "keeper/keeper.h"

/* Instead of an exit code: asked to stop before anything was started. */
#define BOOT_ASKED -1

/* main.c calls one of these; the exit code of the program. */
int boot_check(const struct keeper_options *o);
int boot_run(const struct keeper_options *o);
/* PASS_VARIABLE is there: another image was here before us. */
int boot_adopt(char **argv);
/* The role ROLE_PREFLIGHT. */
int preflight_main(int argc, char **argv);

/* start.c, for adopt.c: an empty keeper; its own descriptors beside those passed on; its end. */
void boot_keeper(const struct keeper_options *o, struct keeper *ret);
int boot_descriptors(struct keeper *k);
int boot_watch(struct keeper *k);
void boot_end(struct keeper *k);

/* load.c. 0 with *ret, or an exit code after the problems were printed. */
int boot_load(const struct keeper_options *o, struct conf **ret);
/* What `reevectl run` has prepared for us: the canonical form in a memfd. */
int boot_load_run(const struct keeper_options *o, struct conf **ret);
/* Wait a little; true if a signal asks us to stop before anything was started. */
bool boot_stop_asked(int64_t ms);

/* runtime_dir.c. Messages are logged; 0 or an exit code. */
int runtime_dir_take(struct keeper *k, const struct conf *conf);
/* *ret_known: an earlier life may have left something. */
int runtime_dir_identity(struct keeper *k, uint8_t ret[static 16], bool *ret_known);
/* Does the process hold our lock file open? Only a role of this runtime directory does. */
bool runtime_dir_holds_lock(const struct keeper *k, pid_t pid);
/* Remove sockets and state; lock and identity stay. */
void runtime_dir_clean(struct keeper *k);
/* The private one of `reevectl run`: nobody comes after us. */
void runtime_dir_remove(struct keeper *k, const char *path);

/* marked.c. Kill what an earlier life left, but orphans left on purpose; number killed. */
int sweep_marked(struct keeper *k, const struct conf *conf);

/* cgroup.c. Find (and sweep) the base; with "require" -errno if there is none. */
int cgroup_begin(struct keeper *k, const struct conf *conf, bool *ret_leftovers);
void cgroup_end(struct keeper *k);

#endif
