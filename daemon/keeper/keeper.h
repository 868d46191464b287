/*
 * The keeper, the main process: subreaper, reaper, holder of fds, deliverer of signals, owner of
 * the shutdown phase. It decides nothing about groups and reads nothing from outside but signals.
 * Its start and its end are in boot/.
 *
 *   loop.c         descriptors and clocks
 *   state.c        the file `reevectl` reads when no manager answers
 *   roles.c        manager and logger: start, replace
 *   store.c        descriptors that outlive the others
 *   reap.c         every exit, into the ledger
 *   claim.c        adopted processes, on the manager's word and our own check
 *   kill.c         signals for workers on the manager's request
 *   signals.c      our own signals, as requests
 *   run.c          one command instead of a configuration: its signals, its exit code
 *   terminal.c     the terminal of that command
 *   shutdown.c     phases, cold, the end of the daemon
 *   sweep.c        killing what is left of our children
 *   watch.c        roles that make no progress
 *   notify.c       the service manager
 *   upgrade.c      the program on disk instead of the one that runs, in this process
 *   pass.c         what one image hands to the next (pass.h)
 *   trial.c        the first second of a new image (trial.h)
 */
#ifndef REEVE_KEEPER_H
#define REEVE_KEEPER_H

#include "base/log.h"
#include "conf.h"
#include "ledger/ledger.h"
#include "ledger/logbook.h"
#include "ledger/roles.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <termios.h>

struct signalfd_siginfo;

#define EXIT_USAGE    2
#define EXIT_BUSY     69
#define EXIT_SURVIVOR 70
#define EXIT_CONFIG   78

/* Deadline of something that is not due. */
#define KEEPER_NEVER INT64_MAX

struct keeper_options {
	char *config;  /* absolute */
	char *program; /* absolute: what an upgrade executes */
	char **argv;   /* of main, borrowed */
	bool check, offline, user;
	int forced_level; /* enum log_level, -1 = as configured */
	/* `reevectl run`: the canonical configuration's memfd, whether the command gets the
	 * terminal, and its words */
	bool run, run_terminal;
	int run_conf;
	char **command;
};

enum role_kind { ROLE_IS_MANAGER, ROLE_IS_LOGGER, ROLE_COUNT };

struct role {
	const char *name;
	pid_t pid;	 /* 0 = not running */
	bool ended_well; /* the last one, with code 0 */
	uint32_t starts, early_deaths;
	uint64_t turns_before;	      /* of the manager, when this one was started */
	int64_t started_ms, retry_ms; /* retry_ms: not before; KEEPER_NEVER = not to be started */
	int64_t judge_ms, abort_ms;   /* watch.c: time to look for progress; when ABRT was sent */
	uint64_t judge_turns;	      /* progress when judge_ms was set */
	uint32_t doubts;
	struct log_limit deaths;
};

struct stored {	       /* by fd number */
	uint32_t kind; /* enum role_fd_kind + 1; 0 = not stored */
	uint32_t index, aux;
	char *name; /* NULL = "" */
};

struct told { /* what the logger has to be told once its socket has room again */
	uint32_t op, kind, index;
};

struct store {
	struct stored *by_fd;
	int n;
	struct told *backlog;
	size_t n_backlog, backlog_size;
	int count, limit; /* stored; what may be stored */
	struct log_limit refusals;
	int control; /* the control socket, -1 = none */
	/* the control socket's path, to be removed at the end if it is still ours */
	char control_path[108];
	dev_t control_dev;
	ino_t control_ino;
};

struct cgroups {
	char own[512];	      /* absolute path of the cgroup we were started in; "" = unknown */
	char base[256];	      /* "" = none */
	unsigned own_enabled; /* controllers we enabled for the children of own, by bit */
	bool made;	      /* base was made by us and goes away with us */
};

enum upgrade_stage {
	UPGRADE_NONE,
	UPGRADE_CHECK,
	UPGRADE_READY, /* accepted: at the end of this turn */
	UPGRADE_TRIAL,
};

struct upgrade {
	enum upgrade_stage stage;
	uint32_t number; /* requests up to this one are answered by it */
	char from[24];	 /* version of the program that is to be replaced */
	int64_t began_ms, due_ms;
	/* check */
	int exe, said;	 /* the new program; what the helper wrote. -1 = none */
	int from_helper; /* socket on which it sends the program that it has opened */
	pid_t helper;	 /* 0 = none */
	/* trial */
	struct trial *trial;
};

/* The terminal of `reevectl run -t` (terminal.c). */
struct terminal {
	bool given;	       /* the command's process group has it, by us */
	bool modes_known;      /* modes: as they were when we came */
	struct termios modes;  /* to be put back */
	struct termios theirs; /* the command's, while it is stopped */
	bool theirs_known;
};

/* `reevectl run` (run.c). */
struct run {
	enum run_mode mode;
	int command;	     /* memfd with its words, -1 = none */
	uint64_t waiting;    /* signals that came before it was there; bit 0 is signal 1 */
	int64_t asked_ms[2]; /* first TERM, first INT; 0 = none */
	int64_t limit_ms;    /* from the first of them to the cold stop; DURATION_NEVER */
	int64_t cold_ms;     /* then */
	bool ended;	     /* the command has */
	int code;	     /* with what, as a shell says it */
	struct terminal term;
};

struct keeper {
	const struct keeper_options *options;
	struct ledger ledger;
	struct logbook book;
	int epoll, signals;
	int dir;      /* the runtime directory */
	int lock;     /* one open file description that all roles hold */
	int self_exe; /* the binary that we are */
	int ledger_fd, book_fd;
	int bells[3];			  /* keeper, manager, logger */
	int store_pair[2];		  /* ours, the manager's */
	int logger_store[2];		  /* ours, the logger's */
	int logs_pair[2];		  /* the manager's, the logger's */
	char level_word[16], log_to[256]; /* daemon.log in force */
	uint32_t log_seq;
	struct role roles[ROLE_COUNT];
	pid_t abandoned[4]; /* roles that SIGKILL has not ended yet; 0 = free */
	struct store store;
	struct cgroups cg;
	struct run run;
	struct rlimit fsize; /* RLIMIT_FSIZE as we were started */
	int no_subreaper;    /* the errno, if it is refused */
	/* reap.c */
	int64_t round_ms; /* a round over all children is due */
	int64_t last_round_ms;
	bool pid_lookup_fast; /* waitid(P_PID) walks no list: Linux 5.13 */
	bool news;	      /* the manager's bell is to be rung */
	/* shutdown.c */
	int64_t first_stop_ms; /* first stopping signal; 0 = none */
	int64_t ack_ms;	       /* the manager has to know the phase by then */
	int64_t gone_ms;       /* the manager has to be gone by then */
	bool done;	       /* leave the loop */
	int exit_code;
	/* watch.c */
	bool control_armed; /* a connection will wake us */
	int64_t log_judge_ms;
	uint64_t log_turns;
	struct upgrade upgrade;
	bool replacing; /* a role is ended to be started anew: no death */
	/* notify.c */
	struct notifier *notifier; /* NULL = no service manager */
	char manager_word[16];	   /* in runtime_dir/keeper */
};

/* loop.c: until k->done. */
void keeper_loop(struct keeper *k);

/* state.c: RUNTIME_DIR/keeper. */
#define KEEPER_STATE_FILE "keeper"
void state_say(struct keeper *k, const char *state);

/* roles.c */
void role_start(struct keeper *k, enum role_kind kind);
/* It was reaped. */
void role_ended(struct keeper *k, enum role_kind kind, int how, int status);
/* End it now and reap it; one in an uninterruptible call is left behind (role_left_behind). */
void role_kill(struct keeper *k, enum role_kind kind);
/* A role that was left behind has ended at last: false if pid is none. */
bool role_left_behind(const struct keeper *k, pid_t pid);
void role_left_ended(struct keeper *k, pid_t pid);
/* The same for one that an upgrade replaces; nothing is logged or charged. */
void role_replace(struct keeper *k, enum role_kind kind);
/* Its first turn is over. */
bool role_is_up(const struct keeper *k, enum role_kind kind);
int64_t roles_due(const struct keeper *k);
void roles_run(struct keeper *k, int64_t now);

/* store.c */
int store_init(struct keeper *k);
void store_fini(struct keeper *k);
/* Around the descriptors that another image has passed on: first what store_init does with new
 * sockets; then each stored one (fd is taken, -errno = closed); then the limit is known. */
int store_begin(struct keeper *k);
int store_adopt(struct keeper *k, const struct store_message *m, int fd);
void store_adopted(struct keeper *k);
/* Take what the manager sent. */
void store_receive(struct keeper *k);
/* The logger's socket has room. */
void store_flush(struct keeper *k);
/* A new logger was given all: forget the backlog, new sockets. */
int store_fresh_logger(struct keeper *k);
/* The role's fd table as a memfd. */
int store_table(struct keeper *k, enum role_kind kind);
int store_get(const struct keeper *k, enum role_fd_kind kind);

/* reap.c. hint: a pid that probably ended, 0 = none. */
void reap_hint(struct keeper *k, pid_t hint);
/* All that have ended; the number of them, -ECHILD when there are no children at all. */
int reap_round(struct keeper *k);
/* Ring the manager's bell, once for all that ended. */
void reap_tell(struct keeper *k);
int64_t reap_due(const struct keeper *k);
void reap_run(struct keeper *k, int64_t now);

/* claim.c. The process behind pidfd is to be the life in row: only if it is our own child. */
void claim_take(struct keeper *k, uint32_t row, int pidfd);

/* kill.c */
void kill_requests(struct keeper *k);
void kill_scan(struct keeper *k);
/* False for pids that are never signalled: 0, -1, 1, ourselves, our roles. */
bool kill_allowed(const struct keeper *k, pid_t pid);

/* As a request of the manager does it: to the process or, to = CONF_TO_PGRP, its group. 0 or an
 * errno. */
int kill_one(struct keeper *k, pid_t pid, int signal, int to);

/* signals.c */
int signals_init(struct keeper *k);
void signals_read(struct keeper *k);
/* Stop the daemon as a whole, as Ctrl-Z does, by this signal's default action; returns when it is
 * continued, or at once where the kernel does not stop us. */
void signals_suspend(struct keeper *k, int signal);

/* run.c: `reevectl run`. All but run_begin may be called in any mode and then do nothing. */
int run_begin(struct keeper *k, const struct conf *conf);
/* The terminal is given back. */
void run_end(struct keeper *k);
/* Signals of our own to be read besides the usual ones. */
void run_signals(const struct keeper *k, sigset_t *set);
/* True: it was for the command. */
bool run_signal(struct keeper *k, const struct signalfd_siginfo *s);
/* A child stopped, continued or ended. */
void run_child(struct keeper *k);
/* The exit record of the life is written. */
void run_ended(struct keeper *k, uint32_t row);
/* The manager made a process. */
void run_look(struct keeper *k);
/* What we end with instead of code. */
int run_code(const struct keeper *k, int code);
int64_t run_due(const struct keeper *k);
void run_run(struct keeper *k, int64_t now);
/* Pid of the command while it lives, else 0. */
pid_t run_pid(const struct keeper *k);

/* terminal.c: `reevectl run -t`. */
int terminal_begin(struct keeper *k);
void terminal_end(struct keeper *k);
/* The command stopped: stop with it, and go on with it. */
void terminal_stopped(struct keeper *k);
/* Give it to the command again, if it is ours now. */
void terminal_resume(struct keeper *k);

/* shutdown.c */
void shutdown_enter(struct keeper *k, enum phase phase, const char *why);
void shutdown_signal(struct keeper *k, const char *why);
/* The manager's wishes, after each bell. */
void shutdown_look(struct keeper *k);
/* After an upgrade, once the ledger is there. */
void shutdown_resume(struct keeper *k);
int64_t shutdown_due(const struct keeper *k);
void shutdown_run(struct keeper *k, int64_t now);

/* sweep.c. Kill and reap all children but roles (and what is left on purpose); number that
 * survived, named in the log. */
int sweep_children(struct keeper *k, bool strays_too);

/* watch.c */
void watch_look(struct keeper *k);
void watch_late(struct keeper *k, int64_t now);
int64_t watch_due(const struct keeper *k);
void watch_run(struct keeper *k, int64_t now);

/* notify.c */
void notify_begin(struct keeper *k);
void notify_look(struct keeper *k);
int64_t notify_due(const struct keeper *k);
void notify_run(struct keeper *k, int64_t now);
void notify_end(struct keeper *k);
struct keeper_state;
void notify_tell(const struct keeper *k, struct keeper_state *s);
/* After notify_begin(). */
void notify_resume(struct keeper *k, const struct keeper_state *s);

/* upgrade.c */
struct trial;
/* Has a client asked for one? After each bell. */
void upgrade_look(struct keeper *k);
void upgrade_signal(struct keeper *k);
/* The helper was reaped. */
void upgrade_checked(struct keeper *k, int how, int status);
/* We are the new image / the old one again. */
void upgrade_begin_trial(struct keeper *k, struct trial *trial);
void upgrade_came_back(struct keeper *k, const char *why);
/* The trial ends well, now. Nothing if there is none. */
void upgrade_settle(struct keeper *k);
int64_t upgrade_due(const struct keeper *k);
void upgrade_run(struct keeper *k, int64_t now);

#endif
