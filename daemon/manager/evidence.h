/*
 * Which processes belong to a life where there are no cgroups: its main process and what descends
 * from it; of the keeper's children that are in no row ("strangers") those whose session or process
 * group is the main process, or whose environment holds the life's marker; and their descendants.
 * What none of that says of a process is not charged to any worker: it is a stray.
 */
#ifndef REEVE_MANAGER_EVIDENCE_H
#define REEVE_MANAGER_EVIDENCE_H

#include "manager/proc.h"

#define EVIDENCE_LOOK_MS 10 /* a look is not believed longer than this */

struct evidence;
int evidence_new(struct manager *m, struct evidence **ret);
void evidence_free(struct evidence *e);
/* What was read before is not true any more. */
void evidence_stale(struct evidence *e);

/* REEVE_ID of a life: IDENTITY/GROUP:INDEX/INCARNATION. */
#define EVIDENCE_MARKER (33 + CONF_GROUP_NAME_MAX + 32)
void evidence_marker(const struct manager *m, uint32_t life, char ret[static EVIDENCE_MARKER]);

/* The main process is gone: does any live stranger belong to it? */
bool evidence_empty(struct evidence *e, uint32_t life);
/* All members that live, parents first, appended. Orphans may be those of a look that is less than
 * max_age_ms old (0: look now); a look at thousands of children costs a millisecond. */
int evidence_members(struct evidence *e, uint32_t life, int64_t max_age_ms, struct pids *ret);
/* SIGKILL to each orphan of the life the moment it is seen, but for those in `done`, who are added
 * to it: the one way to meet a process that forks the next and ends. Number signalled, or -errno;
 * refused() is told who may not be signalled. */
int evidence_kill(struct evidence *e, uint32_t life, struct pids *done,
		  void (*refused)(void *, struct proc_stat *), void *data);
/* Strangers that belong to no life, appended. */
int evidence_strays(struct evidence *e, struct pids *ret);
/* Our own roles: never counted, never signalled. */
bool evidence_is_role(const struct manager *m, pid_t pid);

/* tree.c, for tree_list.c: pids of a life's members; a number from a file of its leaf; strays. */
int tree_members(struct manager *m, uint32_t life, int64_t max_age_ms, struct pids *ret);
int tree_leaf_value(struct manager *m, uint32_t life, const char *file, const char *key,
		    uint64_t *ret);
int tree_stray_pids(struct manager *m, struct pids *ret);

#endif
