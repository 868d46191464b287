/*
 * The configuration, loaded: plain values, resolved as far as the host allows, owned by one
 * struct conf. Nothing here changes after the load; a reload makes a second struct conf and
 * conf_diff() says what lies between the two.
 *
 * Three forms exist:
 *   file       libconfig text a person wrote; never parsed inside a role, only by the loader, a
 *              short-lived exec'ed helper (loader.h), or by reevectl.
 *   canonical  JSON made from a struct conf (conf_to_json); kept in a memfd by the keeper and read
 *              back by each manager (conf_from_json). A successor goes on with it.
 *   dump       libconfig text made from a struct conf (conf_dump); loads to an equal struct conf.
 *
 * Strings marked "template" may still hold what differs per worker (%i %n %{…i…} %%); conf_expand()
 * finishes them. Everything else (%g %d %t %u %h %H %{env:}) is gone after the load.
 *
 * Since 0.1.0.
 */
#ifndef REEVE_CONF_H
#define REEVE_CONF_H

#include "base/diag.h"
#include "base/names.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#define CONF_GROUP_NAME_MAX 63
#define CONF_STEPS_MAX	    8
#define CONF_WINDOW_MAX	    128 /* bound of restart.limit: restarts remembered per worker */
#define CONF_WORKERS_MAX    60000
/* Bounds of a watchdog, be it written or asked for by a worker (WATCHDOG_USEC). A shorter one would
 * find a busy machine, not a hang. */
#define CONF_WATCHDOG_MIN_MS 1000LL
#define CONF_WATCHDOG_MAX_MS (365LL * 86400 * 1000)
#define CONF_LOG_PATH_MAX    511 /* bytes of a log file's path */
#define CONF_LOG_TO_MAX	     255 /* and of the daemon's own */
/* PATH of the clean environment, unless inherit_env, env_file or env say otherwise. */
#define CONF_BASE_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum conf_cgroup { CONF_CGROUP_AUTO, CONF_CGROUP_OFF, CONF_CGROUP_REQUIRE, CONF_CGROUP_COUNT };
enum conf_stray { CONF_STRAY_KILL, CONF_STRAY_LEAVE, CONF_STRAY_COUNT };
enum conf_start {
	CONF_START_SPAWN,
	CONF_START_FORKSERVER,
	CONF_START_FORK,
	CONF_START_THREADS,
	CONF_START_COUNT
};
enum conf_preload_errors { CONF_PRELOAD_FAIL, CONF_PRELOAD_WARN, CONF_PRELOAD_COUNT };
enum conf_fallback { CONF_FALLBACK_NONE, CONF_FALLBACK_SPAWN, CONF_FALLBACK_COUNT };
enum conf_ready { CONF_READY_EXEC, CONF_READY_NOTIFY, CONF_READY_COUNT };
enum conf_when { CONF_WHEN_ALWAYS, CONF_WHEN_FAILURE, CONF_WHEN_NEVER, CONF_WHEN_COUNT };
enum conf_on_failure {
	CONF_FAIL_QUARANTINE,
	CONF_FAIL_SHUTDOWN,
	CONF_FAIL_IGNORE,
	CONF_FAIL_COUNT
};
enum conf_on_done { CONF_DONE_KEEP, CONF_DONE_SHUTDOWN, CONF_DONE_COUNT };
enum conf_exit_code { CONF_EXIT_FIXED, CONF_EXIT_WORKER, CONF_EXIT_COUNT };
enum conf_target { CONF_TO_MAIN, CONF_TO_PGRP, CONF_TO_TREE, CONF_TO_COUNT };
enum conf_orphans { CONF_ORPHANS_KILL, CONF_ORPHANS_WAIT, CONF_ORPHANS_LEAVE, CONF_ORPHANS_COUNT };
enum conf_log_to {
	CONF_LOG_FILE,
	CONF_LOG_JOURNAL,
	CONF_LOG_STDOUT,
	CONF_LOG_NULL,
	CONF_LOG_TO_COUNT
};
enum conf_log_format { CONF_FORMAT_TEXT, CONF_FORMAT_RAW, CONF_FORMAT_JSON, CONF_FORMAT_COUNT };
enum conf_stderr { CONF_STDERR_MERGE, CONF_STDERR_SEPARATE, CONF_STDERR_NULL, CONF_STDERR_COUNT };
enum conf_overflow { CONF_OVERFLOW_DROP, CONF_OVERFLOW_BLOCK, CONF_OVERFLOW_COUNT };

struct conf_control {
	char *socket; /* absolute */
	mode_t mode;
	char *owner; /* as written, NULL = none */
	bool has_owner;
	uid_t owner_uid;
	gid_t owner_gid;
	char **admins, **operators, **readers; /* "user" or "@unixgroup", NULL-terminated */
	/* resolved at load, so that no role asks the user database: */
	struct conf_who {
		uid_t *uids;
		size_t n_uids;
		gid_t *gids; /* matched against SO_PEERGROUPS */
		size_t n_gids;
	} who_admins, who_operators, who_readers;
};

struct conf_daemon {
	char *runtime_dir;
	struct conf_control control;
	int log_level; /* enum log_level */
	char *log_to;  /* "auto" "journal" "stderr" or an absolute path */
	int start_concurrency;
	enum conf_cgroup cgroup;
	int64_t shutdown_timeout_ms; /* DURATION_NEVER */
	int64_t manager_watchdog_ms;
	enum conf_stray stray_orphans;
};

struct conf_restart {
	enum conf_when when;
	int64_t delay_ms, max_delay_ms, reset_after_ms, window_ms,
		retry_ms;      /* retry may be never */
	double factor, jitter; /* jitter: share of the delay, 0.1 = ±10 % */
	int limit;	       /* automatic starts within window; 0 = no limit */
	int *success_codes;
	size_t n_success_codes;
	int *no_restart_codes;
	size_t n_no_restart_codes;
};

struct conf_step {
	int signal;
	enum conf_target to;
	int64_t wait_ms;
};

struct conf_socket {
	char *name;
	char *listen; /* template; "tcp://127.0.0.1:80" "tcp6://[::1]:80" "unix:///p" "unix:@n" */
	int backlog;
	bool reuseport;
	bool per_worker; /* listen differs per worker, or reuseport */
	mode_t mode;	 /* unix paths */
	char *owner;	 /* as written, NULL = none */
	bool has_owner;
	uid_t owner_uid;
	gid_t owner_gid;
};

struct conf_limit {
	int resource; /* RLIMIT_* */
	rlim_t soft, hard;
};

/* "nofile" for RLIMIT_NOFILE. */
const char *limit_name(int resource);

struct conf_log {
	enum conf_log_to to;
	char *file; /* template; absolute */
	enum conf_log_format format;
	enum conf_stderr stderr_to;
	int64_t max_size_bytes; /* 0 = never rotated by size */
	int keep;
	mode_t mode;
	char *owner; /* as written, NULL = none */
	bool has_owner;
	uid_t owner_uid;
	gid_t owner_gid;
	enum conf_overflow overflow;
};

struct conf_user {
	bool set;     /* false: the daemon's own ids */
	char *text;   /* "name[:group]" as written, NULL = not written */
	char **extra; /* extra_groups as written, NULL = not written */
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* supplementary, resolved at load */
	size_t n_groups;
	char *name, *home, *shell; /* for the environment; of the daemon's user if !set */
};

/* How the process that workers are made from lives. Since 0.2.0. */
struct conf_template {
	int64_t load_timeout_ms; /* from exec to its READY; may be never */
	int64_t fork_timeout_ms; /* from the request to the worker's first message */
	int64_t max_age_ms;	 /* then the next generation is loaded; may be never */
	int max_forks;		 /* the same after so many forks; 0 = no bound */
	int spares;		 /* workers forked ahead, before GO */
	enum conf_fallback fallback;
};

struct conf_group {
	char *name;
	char *file; /* where it is written, for messages */
	int line;
	bool enabled; /* always true in a loaded struct conf */
	bool autostart;
	/* What a worker is: one of the two, the other is NULL. */
	char **command; /* templates, NULL-terminated; [0] as written */
	char *entry;	/* "pkg.mod:func" or "/path/mod.so" (conf_entry_is_native); since 0.2.0 */
	int workers;
	char *cwd;	    /* template */
	char **env;	    /* templates "K=V", order of the file, names unique */
	char **env_files;   /* templates, absolute; "-" in front: may be missing */
	char **inherit_env; /* names or globs */
	struct conf_user user;
	mode_t umask;
	char *stdin_path; /* template; NULL = /dev/null */
	enum conf_start start_method;
	/* of the start methods, since 0.2.0: */
	char *python;		   /* absolute; runs an entry "pkg.mod:func" */
	char **preload;		   /* modules, or paths of native ones */
	char **fork_allow_threads; /* names of threads that a fork may leave behind */
	enum conf_preload_errors preload_errors;
	struct conf_template template;
	bool notify;
	char **after; /* group names */
	int64_t settle_ms, start_timeout_ms;
	enum conf_ready ready;
	int64_t watchdog_ms; /* may be never; since 0.2.0 */
	struct conf_restart restart;
	enum conf_on_failure on_failure;
	enum conf_on_done on_done;
	enum conf_exit_code exit_code;
	struct conf_step steps[CONF_STEPS_MAX];
	int n_steps; /* ≥ 1; SIGKILL to the whole tree follows the last */
	int64_t extend_max_ms;
	enum conf_orphans orphans;
	struct conf_limit *limits; /* only those written, plus nofile */
	size_t n_limits;
	int nice, oom_score_adj;
	bool no_new_privs;
	struct conf_socket *sockets;
	size_t n_sockets;
	struct conf_log log;
};

struct conf {
	char *path; /* absolute, of the main file */
	struct conf_daemon daemon;
	struct conf_group *groups; /* sorted by name; enabled ones only */
	size_t n_groups;
};

void conf_free(struct conf *c);
const struct conf_group *conf_find_group(const struct conf *c, const char *name);

/* All that was found wrong (or odd) in one pass. */
struct conf_report {
	struct conf_problem {
		struct diag at;
		bool warning;
	} * items;
	size_t n, errors;
};
void conf_report_fini(struct conf_report *r);
/* One problem as users read it: "FILE:LINE: error: TEXT\n". */
void conf_report_print(const struct conf_report *r, struct str *out);

struct conf_load_options {
	bool user;    /* defaults of a plain user's daemon (runtime_dir, log.file) */
	bool offline; /* check nothing that depends on this host (users, paths, PATH) */
	bool pid1;    /* defaults of a container's init: log to stdout, inherit_env [ "*" ] */
};
/*
 * Read, check and resolve. Returns 0 and *ret (free with conf_free), or -EINVAL with at least one
 * error in *report, or -ENOMEM. Warnings may be there in both cases. Blocks (files, user database)
 * and takes what time libconfig takes: roles call it only through the loader.
 */
int conf_load(const char *path, const struct conf_load_options *options, struct conf **ret,
	      struct conf_report *report);

/* canonical form; NULL / -EINVAL (with *d) on failure. Unknown fields are ignored. */
char *conf_to_json(const struct conf *c);
int conf_from_json(const char *text, size_t len, struct conf **ret, struct diag *d);

/* dump form of the whole, or of one group. */
void conf_dump(const struct conf *c, struct str *out);
void conf_dump_group(const struct conf_group *g, struct str *out);

/* What a reload does. One change per key that differs; group "" = the daemon block. */
enum conf_change_kind { CONF_ADD, CONF_REMOVE, CONF_LIVE, CONF_RENEW, CONF_DAEMON };
struct conf_change {
	char group[CONF_GROUP_NAME_MAX + 1];
	enum conf_change_kind kind;
	char key[128];	  /* "env.PORT" "log.keep" "workers"; empty for add and remove */
	char reason[256]; /* "env.PORT changed" "workers: 4 -> 8" "command changed" */
};
/* Returns the number of changes; *ret to be freed. -ENOMEM. */
ssize_t conf_diff(const struct conf *from, const struct conf *to, struct conf_change **ret);

/* Equal for two groups if and only if no key of class "renew" differs between them (64-bit FNV-1a
 * over those keys as text): a change of it is a new generation. */
uint64_t conf_group_hash(const struct conf_group *g);

/* Over the keys that renew workers: equal hashes = no renewal needed. Stable over versions of Reeve
 * as long as no such key is written that one of them does not know. */
uint64_t conf_group_hash(const struct conf_group *g);

/* Finish a template for one worker. Appends to out. Cannot fail on checked configurations. */
struct conf_worker {
	const char *group;
	int index;
};
void conf_expand(const char *template_text, const struct conf_worker *w, struct str *out);
/* True if the template differs from worker to worker. */
bool conf_is_per_worker(const char *template_text);

/* Is an entry a native module? Else it is a Python function. Since 0.2.0. */
static inline bool conf_entry_is_native(const char *entry)
{
	return entry[0] == '/';
}

/* True for names that only Reeve sets: NOTIFY_SOCKET LISTEN_* WATCHDOG_* REEVE_*. */
bool conf_env_reserved(const char *name);

/* The table of keys (table.c), for the manual, `reevectl check` and tests. Sorted by path. */
struct conf_key {
	const char *path;    /* "daemon.control.mode", "group.restart.delay" */
	const char *type;    /* as the manual words it: "duration", "\"kill\"|\"leave\"" */
	const char *preset;  /* default as written, "" = none */
	const char *example; /* a value, as written */
	const char *help;
	enum conf_change_kind change;
	/* the rest is for the library itself (key.h) */
	const struct conf_type *how;
	size_t offset, aux;
	long long min, max;
	unsigned flags;
	int words;
};
const struct conf_key *conf_keys(size_t *ret_n);

/* Index ↔ words of the enums above, e.g. conf_word(CONF_WORDS_READY, 1) = "notify". */
enum conf_words {
	CONF_WORDS_CGROUP,
	CONF_WORDS_STRAY,
	CONF_WORDS_START,
	CONF_WORDS_PRELOAD_ERRORS,
	CONF_WORDS_FALLBACK,
	CONF_WORDS_READY,
	CONF_WORDS_WHEN,
	CONF_WORDS_ON_FAILURE,
	CONF_WORDS_ON_DONE,
	CONF_WORDS_EXIT_CODE,
	CONF_WORDS_TARGET,
	CONF_WORDS_ORPHANS,
	CONF_WORDS_LOG_TO,
	CONF_WORDS_FORMAT,
	CONF_WORDS_STDERR,
	CONF_WORDS_OVERFLOW,
	CONF_WORDS_LEVEL,
	CONF_WORDS_COUNT
};
const char *conf_word(enum conf_words which, int value);

#endif
