/*
 * What the three roles say to each other besides the ledger and the log book: descriptors by
 * inheritance, additions at run time, doorbells.
 *
 * A role is reeved exec'ed again with argv[0] = its name and argv[1] = the number of a memfd that
 * holds its fd table. All fds of the table are open under the numbers it gives; nothing else is.
 * argv[2] = daemon.log.level (a word), argv[3] = daemon.log.to, argv[4] = "forced" if the level was
 * given by an option and a reload must not change it.
 * All signals are blocked (but those that say the process is broken), those of a terminal ignored.
 * The logger has a parent-death signal; the manager has a last duty first (leftovers.h).
 */
#ifndef REEVE_LEDGER_ROLES_H
#define REEVE_LEDGER_ROLES_H

#include <stddef.h>
#include <stdint.h>

#define ROLE_KEEPER  "reeved"
#define ROLE_MANAGER "reeve-manager"
#define ROLE_LOGGER  "reeve-logger"

/* Who gets it: M manager, L logger. The keeper holds all. */
enum role_fd_kind {
	RF_LEDGER,	 /* M    memfd */
	RF_LOGBOOK,	 /* M L  memfd */
	RF_LOCK,	 /* M L  open file description that says "a daemon is here" */
	RF_BELL_KEEPER,	 /* M L  eventfd: rung for the keeper */
	RF_BELL_MANAGER, /* M L  eventfd: rung for the manager */
	RF_BELL_LOGGER,	 /* M L  eventfd: rung for the logger */
	RF_STORE, /* M    SOCK_SEQPACKET, manager's end: struct store_message (+ 1 fd) to the keeper
		   */
	RF_LOGGER_STORE, /*   L  SOCK_SEQPACKET, logger's end: struct store_message (+ 1 fd) from
			    the keeper */
	RF_LOGS_OUT,	 /* M    SOCK_SEQPACKET, manager's end: clients handed to the logger */
	RF_LOGS_IN,	 /*   L  the logger's end of it */
	RF_CONF,	 /* M    memfd: canonical configuration in force */
	RF_CONTROL,	 /* M    listening control socket; index = 0 */
	RF_SOCKET,  /* M    listening socket of workers; name = its key (expanded listen text) */
	RF_NOTIFY,  /* M    notify socket; index = life row, aux = incarnation */
	RF_LOG_OUT, /*   L  log pipe of a slot (index), O_RDWR|O_NONBLOCK */
	RF_LOG_ERR, /*   L  log pipe of its separate stderr */
	RF_CHANNEL, /* M    channel to a template, a host or a forked worker; index = life row, aux
		       = incarnation (since 0.2.0) */
	RF_COMMAND, /* M    memfd: the words of `reevectl run` (command.h) */
	RF_KIND_COUNT
};

#define ROLE_FD_NAME 192

struct role_fd {
	int32_t fd;
	uint32_t kind; /* enum role_fd_kind */
	uint32_t index, aux;
	char name[ROLE_FD_NAME];
};

/* The memfd: a count, then rows. */
struct role_fd_table {
	uint32_t version, n;
	struct role_fd rows[];
};
#define ROLE_FDS_VERSION 1u

/* Read a table and check its form; kinds and descriptors are the caller's to check. -EPROTO. */
int role_fds_read(int fd, struct role_fd_table **ret);
/* Parse argv[1], map the table (read-only, malloc'ed copy), mark all its fds CLOEXEC. */
int role_fds_load(const char *arg, struct role_fd_table **ret);
/* First fd of a kind, or -1. */
int role_fds_get(const struct role_fd_table *t, enum role_fd_kind kind);

/* Additions and removals, manager → keeper (RF_STORE) and keeper → logger (RF_LOGGER_STORE). The
 * queue belongs to the socket: what a manager sent before it died still arrives. A second PUT for
 * the same {kind, index, name} replaces the first. PUTs of RF_LOG_* are passed on to the logger. */
enum store_op { STORE_PUT, STORE_DROP, STORE_CLAIM };
struct store_message {
	uint32_t op, kind, index, aux;
	char name[ROLE_FD_NAME];
};
int store_put(int sock, enum role_fd_kind kind, uint32_t index, uint32_t aux, const char *name,
	      int fd);
/* Claim a process that became the keeper's child by adoption for the life in row `life`: the keeper
 * checks that it is its own unreaped child, writes its pid into the row and says so in life.claim
 * (and by the ring and bell). Needs pidfds (5.3; P_PIDFD 5.4). */
int store_claim(int sock, uint32_t life, int pidfd);
int store_drop(int sock, enum role_fd_kind kind, uint32_t index, const char *name);
/* What both are made of; -EAGAIN at once if the socket is full (the two above wait up to 1 s). */
int store_send(int sock, const struct store_message *m, int fd);

/* Doorbells: eventfds. */
void bell_ring(int fd);
void bell_clear(int fd);

#endif
