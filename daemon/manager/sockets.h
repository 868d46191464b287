/*
 * Listening sockets of groups: made by the manager, stored by the keeper under their expanded
 * listen text, so that they outlive workers, reloads and managers. The same listen in two groups is
 * one socket.
 */
#ifndef REEVE_MANAGER_SOCKETS_H
#define REEVE_MANAGER_SOCKETS_H

#include "manager/manager.h"

int sockets_init(struct manager *m); /* adopts the inherited ones */
/* Our copies; at the end of the daemon (no worker is left) the files of unix paths too. */
void sockets_fini(struct manager *m);
/* The worker's sockets in the order of the configuration, made if needed; fds are borrowed. names:
 * "http:admin" for LISTEN_FDNAMES. Up to 64. Number, or -errno with *d naming socket and address.
 */
int sockets_for(struct worker *w, int fds[static 64], struct str *names, struct diag *d);
/* Close and drop those that no configured group uses any more; unlink their unix paths. */
void sockets_prune(struct manager *m);

#endif
