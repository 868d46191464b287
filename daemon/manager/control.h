/*
 * The Varlink interface org.reeve.Control on control.sock (lib/varlink_server.h does the protocol).
 */
#ifndef REEVE_MANAGER_CONTROL_H
#define REEVE_MANAGER_CONTROL_H

#include "manager/manager.h"

/* Takes over the inherited listening socket or makes one (mode and owner right from birth: SE01).
 */
int control_init(struct manager *m);
void control_fini(struct manager *m);
/* Something changed: look at the conditions that replies wait for, send events to subscribers.
 * Called once per loop turn in which a state changed, an event was written or a reload moved on. */
void control_wake(struct manager *m);
/* If the socket file was removed or replaced: make it anew (SIGHUP, SIGUSR1). */
void control_check(struct manager *m);
/* Configuration in force changed: rights, socket mode. */
void control_configured(struct manager *m);

#endif
