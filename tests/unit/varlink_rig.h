/*
 * A Varlink server and its clients in one thread: the test drives the loop until what it waits for
 * is there. The service test.Bench has a method for each way to answer.
 */
#ifndef REEVE_UNIT_VARLINK_RIG_H
#define REEVE_UNIT_VARLINK_RIG_H

#include "lib/varlink_server.h"

#include <stdbool.h>

struct bench {
	struct ev_loop *loop;
	struct vl_server *server;
	struct vl_call *kept;
	int cancelled, refused, streamed, given;
	bool any_uid;
	int listen_fd;
	char path[108];
};

extern struct bench rig;

/* Start the server with these caps; end it. */
void rig_begin(const struct vl_server_options *caps);
void rig_end(void);

/* A connected client, non-blocking. */
int client(void);
void say(int fd, const char *text);
void turn_once(void);
/* Drive the loop until the client has a whole message, or its end (""). */
const char *hear(int fd);
void expect(int fd, const char *text);

#define ECHO(text)   "{\"method\":\"test.Bench.Echo\",\"parameters\":{\"text\":\"" text "\"}}"
#define ANSWER(text) "{\"parameters\":{\"text\":\"" text "\"}}"
#define CALL(name)   "{\"method\":\"test.Bench." name "\"}"
#define FAULT(name, key, value)                                                                    \
	"{\"error\":\"org.varlink.service." name "\",\"parameters\":{\"" key "\":\"" value "\"}}"

#endif
