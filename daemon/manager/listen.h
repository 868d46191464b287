/* One listening socket from its listen text; used by sockets.c only. */
#ifndef REEVE_MANAGER_LISTEN_H
#define REEVE_MANAGER_LISTEN_H

#include "base/diag.h"
#include "conf.h"

/* "tcp://1.2.3.4:80" "tcp6://[::1]:80" "unix:///path" "unix:@name" → a listening, CLOEXEC,
 * non-blocking-free socket, or -errno with *d. A unix path gets mode and owner of s from birth; a
 * socket there that nobody answers on is replaced, anything else is left alone. */
int listen_make(const struct conf_socket *s, const char *text, struct diag *d);
/* Remove the path of a unix socket, if it still is a socket. Nothing for others. */
void listen_unlink(const char *text);

#endif
