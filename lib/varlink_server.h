/*
 * A Varlink server on libev: any number of listening sockets, many clients, one interface beside
 * org.varlink.service. It knows nothing of what the methods do.
 *
 * What it promises, whatever clients do:
 *  - one client costs its own connection and nothing else: requests are bounded (VL_REQUEST_MAX),
 *    answers are bounded (VL_OUT_MAX), a turn of the loop serves at most VL_TURN_CALLS calls and
 *    VL_TURN_BYTES bytes of each connection, a stalled one is dropped after VL_STALL_MS;
 *  - pipelined requests are answered in order, one at a time; a client that has closed its sending
 *    side still gets its answers;
 *  - beyond the cap of a uid or the total the longest idle client is dropped; where none is idle,
 *    the new one of that uid is turned away, or the longest silent one gives its place;
 *  - without fds (EMFILE) one client at a time is still served on a reserved one, and nothing
 *    spins;
 *  - fds that clients send are never installed (the socket is read without room for them);
 *  - credentials are read from the kernel once a connection (SO_PEERCRED, SO_PEERGROUPS) and
 *    handed to the authorisation of every call.
 *
 * One thread; every function is called from the loop's thread. Since 0.1.0.
 */
#ifndef REEVE_LIB_VARLINK_SERVER_H
#define REEVE_LIB_VARLINK_SERVER_H

#include "lib/varlink.h"

#include <ev.h>
#include <sys/types.h>

#define VL_OUT_MAX    (4u << 20)   /* bytes waiting for one client; more drops it */
#define VL_OUT_LOW    (128u << 10) /* below this a stream may go on (vl_call_has_room) */
#define VL_TURN_BYTES (64u << 10)
#define VL_TURN_CALLS 16
#define VL_STALL_MS   30000 /* no byte moved in a request or an answer for this long */
#define VL_ARGS_MAX   256   /* bytes of a method's struct of arguments */

struct vl_server;
struct vl_call;

struct vl_peer {
	pid_t pid; /* of the process that connected; for messages only, never for a decision */
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t n_groups;
};

#define VL_STREAM 1u /* the method must be called with `more` */
#define VL_GIVES  2u /* its handler uses vl_call_give_fd() */
struct vl_method {
	const char *name; /* "Stop" */
	int right;	  /* a class of the caller's, for authorise */
	unsigned flags;
	const struct vl_param *params;
	size_t args_size; /* of the struct that params describe, ≤ VL_ARGS_MAX */
	/* Answer now, or vl_call_keep() the call and answer later. args live until the return;
	 * strings in them until the final answer. */
	void (*handle)(struct vl_call *call, const void *args);
};

struct vl_interface {
	const char *name;	 /* "org.reeve.Control" */
	const char *description; /* text of the .varlink file */
	const struct vl_method *methods;
	size_t n_methods;
};

struct vl_server_options {
	struct ev_loop *loop;
	const struct vl_interface *interface;
	const char *vendor, *product, *version, *url; /* for GetInfo */
	/* Called before every handler, after the parameters are read. False: it has answered. */
	bool (*authorise)(struct vl_call *call, const struct vl_method *method);
	void *data;		  /* vl_call_data() */
	unsigned clients_max;	  /* total; 0 = 512 */
	unsigned clients_uid_max; /* of one uid, other than root and our own; 0 = 64 */
};

/* Everything in *options is borrowed for the server's life. 0 or -errno. */
int vl_server_new(const struct vl_server_options *options, struct vl_server **ret);
/* Drops every client; calls that are kept are cancelled. Accepts NULL. */
void vl_server_free(struct vl_server *s);
/* Accept clients from fd, a listening stream socket; made non-blocking. It stays the caller's.
 * A second call replaces the first socket; -1: accept no more. */
void vl_server_listen(struct vl_server *s, int fd);
/* Clients connected; calls that are kept. */
unsigned vl_server_clients(const struct vl_server *s);
unsigned vl_server_calls(const struct vl_server *s);
/* Serve a connected socket (ownership taken). 0 or -errno (fd closed). */
int vl_server_adopt(struct vl_server *s, int fd);

/* --- inside and after a handler --- */

void *vl_call_data(const struct vl_call *c);
const struct vl_peer *vl_call_peer(const struct vl_call *c);
const char *vl_call_method(const struct vl_call *c); /* "org.reeve.Control.Stop" */
bool vl_call_more(const struct vl_call *c);	     /* called with `more` */

/*
 * Keep the call beyond the handler. cancel is called once if the client goes away (or the server
 * ends) before the final answer; after it, as after the final answer, the call must not be used.
 * A call that is `oneway` is cancelled as soon as its handler returns.
 */
void vl_call_keep(struct vl_call *c, void (*cancel)(struct vl_call *c, void *data), void *data);
/* For streams: ready is called (from the loop) when there is room again after vl_call_has_room()
 * said no. */
bool vl_call_has_room(const struct vl_call *c);
void vl_call_when_room(struct vl_call *c, void (*ready)(struct vl_call *c, void *data), void *data);

/* Final answers; the call is over. parameters are stolen; NULL (no memory) drops the client. */
void vl_reply(struct vl_call *c, json_t *parameters);
void vl_reply_empty(struct vl_call *c);
void vl_reply_text(struct vl_call *c, const struct str *parameters);
void vl_error(struct vl_call *c, const char *error, json_t *parameters);
void vl_error_parameter(struct vl_call *c, const char *name);
/* One of several answers, only if vl_call_more(); the call goes on. */
void vl_reply_more(struct vl_call *c, json_t *parameters);
void vl_reply_more_text(struct vl_call *c, const struct str *parameters);

/*
 * Give the connection away, only in handlers of methods marked VL_GIVES: the caller gets its fd
 * (non-blocking, ownership) and answers by itself; the call is over and the client no longer counts
 * here. Requests that the client has sent behind this one are lost.
 */
int vl_call_give_fd(struct vl_call *c);

#endif
