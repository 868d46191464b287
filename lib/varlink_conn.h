/* Inside the server: one connection and its one call. Not for users of the library. */
#ifndef REEVE_LIB_VARLINK_CONN_H
#define REEVE_LIB_VARLINK_CONN_H

#include "lib/varlink_server.h"

struct vl_conn;

struct vl_call {
	struct vl_conn *conn;
	struct vl_request request; /* root is set from the dispatch to the final answer */
	bool kept;
	void (*cancel)(struct vl_call *c, void *data);
	void *cancel_data;
	void (*ready)(struct vl_call *c, void *data); /* waiting for room */
	void *ready_data;
};

struct vl_conn {
	struct vl_server *server;
	struct vl_conn *prev, *next; /* least recently active first */
	int fd;
	struct vl_peer peer;
	gid_t *groups;
	double active_at;

	ev_io read_io, write_io;
	ev_timer again; /* 0 s: the rest of a turn, after everyone else's */
	ev_timer stall;
	struct str in, out;
	size_t in_at;	   /* start of the next message */
	size_t in_scanned; /* no NUL between in_at and here */
	size_t out_at;	   /* sent up to here */
	size_t moved;	   /* bytes sent since the stall timer was armed */
	struct vl_call call;

	bool eof;	 /* the client sends no more */
	bool gone;	 /* nobody reads our answers */
	bool closing;	 /* close when all is sent */
	bool broken;	 /* close now */
	bool given;	 /* the fd belongs to somebody else now */
	bool drain;	 /* the next message waits until all answers are sent */
	bool in_turn;	 /* the turn settles at its end, nobody else may free the object */
	bool hup_on;	 /* in the server's hup set */
	bool on_reserve; /* its fd is the one kept for EMFILE */
};

struct vl_server {
	struct vl_server_options options;
	struct vl_conn *first, *last;
	unsigned clients, calls;
	int listen_fd, reserve_fd, hup_fd;
	bool paused;
	ev_io accept_io, hup_io;
	ev_timer resume;
};

/* varlink_conn.c */
int vl_conn_new(struct vl_server *s, int fd, bool on_reserve);
void vl_conn_free(struct vl_conn *c);
/* Flush what a call outside the connection's turn has put, and settle in the next loop turn. */
void vl_conn_kick(struct vl_conn *c);
/* Nothing in progress and nothing half done. */
bool vl_conn_idle(const struct vl_conn *c);
/* The client closed both directions. */
void vl_conn_hup(struct vl_conn *c);
static inline size_t vl_conn_pending(const struct vl_conn *c)
{
	return c->out.len - c->out_at;
}

/* varlink_server.c */
void vl_server_add(struct vl_server *s, struct vl_conn *c);
void vl_server_touch(struct vl_server *s, struct vl_conn *c);
void vl_server_remove(struct vl_server *s, struct vl_conn *c);
void vl_server_watch_hup(struct vl_server *s, struct vl_conn *c, bool on);

/* varlink_call.c: one message of the client, whole and without its NUL. -EAGAIN: not before what
 * is in the output buffer is sent. */
int vl_call_message(struct vl_conn *c, const char *text, size_t len);
void vl_call_cancel(struct vl_call *c);

/* varlink_service.c: org.varlink.service */
extern const struct vl_interface vl_service_interface;

#endif
