/*
 * A blocking Varlink client with deadlines, for tools. Deadlines are clock_mono_ms() values;
 * VL_NO_DEADLINE waits for ever. While it waits it also watches an fd of the caller's (a signalfd,
 * say): when that becomes readable, the function returns -EINTR and may be called again.
 *
 * Errors, besides -ENOMEM and -EINTR:
 *   -ENOENT, -ECONNREFUSED  nobody listens there
 *   -EACCES, -EPERM	     the socket may not be used by us
 *   -ENAMETOOLONG	     the path does not fit a socket address (107 bytes)
 *   -ETIMEDOUT		     the deadline passed
 *   -ECONNRESET	     the connection ended before the (final) reply
 *   -EBADMSG		     what came is no Varlink reply
 *
 * One client is one connection and one call at a time. Since 0.1.0.
 */
#ifndef REEVE_LIB_VARLINK_CLIENT_H
#define REEVE_LIB_VARLINK_CLIENT_H

#include "lib/varlink.h"

#define VL_NO_DEADLINE INT64_MAX

struct vl_client {
	int fd;
	int interrupt_fd; /* watched while waiting; -1 = none */
	struct str in;
	size_t in_at, in_scanned;
};
#define VL_CLIENT_INIT                                                                             \
	{                                                                                          \
		.fd = -1, .interrupt_fd = -1                                                       \
	}

/* Connect; a full backlog is waited for until the deadline (CT04). An open connection is closed
 * first; interrupt_fd stays. */
int vl_client_connect(struct vl_client *c, const char *path, int64_t deadline_ms);
/* Close the connection; accepts a client that has none. */
void vl_client_close(struct vl_client *c);

/* Send a call; parameters are borrowed, may be NULL. flags: VL_MORE, VL_ONEWAY. */
int vl_client_send(struct vl_client *c, const char *method, const json_t *parameters,
		   unsigned flags, int64_t deadline_ms);
/* Wait for the next reply. An error reply is a success here: see ret->error. */
int vl_client_receive(struct vl_client *c, int64_t deadline_ms, struct vl_reply *ret);
/* The next reply as it came, NUL-terminated, without parsing: valid until the next call of any
 * function on c. For replies of a known shape that are too large for a tree of objects. */
int vl_client_receive_text(struct vl_client *c, int64_t deadline_ms, const char **ret,
			   size_t *ret_len);

#endif
