/*
 * sd_notify messages of workers: one socket per life, RUNTIME/n/ROW.INCARNATION.TOKEN in a 0711
 * directory, owned by the worker, sender uid checked. The sender is known by the socket it used,
 * not by what it claims. Drained before an exit is processed (NW02).
 */
#ifndef REEVE_MANAGER_NOTIFY_H
#define REEVE_MANAGER_NOTIFY_H

#include "manager/manager.h"

/* Parsed datagram (notify_parse.c, pure, fuzzed). */
struct notify_message {
	bool ready, stopping, reloading, has_status, has_progress, has_extend, watchdog;
	bool has_mainpid, has_errno, has_watchdog_usec, trigger;
	int64_t mainpid;
	int error_number;
	uint64_t extend_usec, watchdog_usec, progress_done, progress_total;
	const char *status; /* into the datagram */
	size_t status_len;
};
/* Never fails: what it does not understand it leaves out. */
void notify_parse(const char *text, size_t len, struct notify_message *ret);

/* Make the socket of a life, hand it to the keeper, start reading; path into ret for NOTIFY_SOCKET.
 */
int notify_open(struct worker *w, uint32_t life, char *ret_path, size_t size);
/* The path that it has, or will have; -ENAMETOOLONG. */
int notify_path(const struct worker *w, uint32_t life, char *ret_path, size_t size);
/* Recovery: go on with an inherited socket. */
void notify_adopt(struct worker *w, uint32_t life, int fd);
/* Read all that waits (bounded); called by the loop and before an exit is processed. */
void notify_drain(struct worker *w);
/* The life is over: close, unlink, drop from the keeper's store. */
void notify_close(struct worker *w, uint32_t life);

#endif
