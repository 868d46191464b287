/*
 * What one image of the keeper passes on to the next one in the same process: a table of
 * descriptors (struct role_fd_table, with the kinds below beside those of roles.h) and a state,
 * both memfds whose numbers stand in the environment, `REEVE_ADOPT=TABLE.STATE.OLD.SIGNAL`;
 * arguments and the rest of the environment are those of the first image. OLD is the image that
 * takes over again if this one fails in its first second, -1 = none. SIGNAL: a crash handler came
 * back, that is why; 0: the state says why, or that it is an upgrade.
 *
 * pass_write() and pass_exec() do not allocate: a crash handler calls them. Since 0.2.0.
 */
#ifndef REEVE_KEEPER_PASS_H
#define REEVE_KEEPER_PASS_H

#include "keeper/keeper.h"

#include <limits.h>

#define PASS_VARIABLE "REEVE_ADOPT"
#define PASS_VERSION  1u
#define PASS_TEXT_MAX 80

/* The role that checks, before an upgrade, what it would be given. It says PASS_ACCEPTED and its
 * version, or why not, on its standard output. argv[1] = "--preflight=TABLE". */
#define ROLE_PREFLIGHT	 "reeve-preflight"
#define PREFLIGHT_OPTION "--preflight="
#define PREFLIGHT_OK	 "accepted by reeved "

enum pass_fd_kind {
	PASS_DIR = 256, /* the runtime directory */
	PASS_STORE,	/* our end of the manager's store socket */
	PASS_STATE,
};

/* Fields are appended only; who reads an older one finds zeros. Monotonic times. */
struct keeper_state {
	uint32_t version, bytes;
	char from[24];	 /* version of the image that wrote it */
	char why[256];	 /* "" = an upgrade; else: why the newer image gave up */
	uint32_t number; /* requests for an upgrade up to this one are answered by it */
	int32_t user, forced_level;
	char config[PATH_MAX], program[PATH_MAX];
	char level_word[16], log_to[256];
	uint32_t log_seq;
	struct {
		int32_t pid;
		uint32_t starts;
	} roles[ROLE_COUNT];
	int32_t abandoned[4];
	int64_t first_stop_ms, ack_ms;
	int32_t exit_code;
	char control_path[108];
	uint64_t control_dev, control_ino;
	char cgroup_own[512], cgroup_base[256];
	uint32_t cgroup_enabled;
	uint8_t cgroup_made;
	uint8_t told_ready, told_stopping, told_reloading; /* the service manager */
};

struct pass {
	int table, state; /* memfds */
	int old;	  /* image to come back to, -1 = none */
	int signal;	  /* see above; 0 = none */
	char **env;	  /* of the next image: room for the variable, then ours */
};

/* The environment of the next image; -ENOMEM. */
int pass_prepare(struct pass *p);
/* Fresh memfds, and that; -errno. */
int pass_init(struct pass *p);
void pass_fini(struct pass *p);
/* Write all that is passed on. why NULL = an upgrade. */
int pass_write(const struct keeper *k, const struct pass *p, const char *why);
/* Fill *ret from the state; -EPROTO. */
int pass_read(int fd, struct keeper_state *ret);
/* Become the image behind exe. Returns -errno if that failed, and all is as before. */
int pass_exec(const struct pass *p, int exe, char *const *argv);
/* The numbers in PASS_VARIABLE; -EINVAL. */
int pass_parse(const char *text, struct pass *ret);

#endif
