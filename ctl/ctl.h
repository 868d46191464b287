/*
 * reevectl: one struct for what the command line said and what the verbs share. A verb is a row of
 * the table in verbs.c and a function in cmd_*.c that returns an exit code. Output is collected in
 * ctl.out and written at once, or as it comes in the verbs that follow something.
 */
#ifndef REEVE_CTL_H
#define REEVE_CTL_H

#include "base/str.h"
#include "lib/varlink_client.h"
#include "lib/varlink_scan.h"

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#define CONTROL "org.reeve.Control."

/* A contract: reevectl(1). */
enum exit_code {
	CODE_OK = 0,
	CODE_FAILED = 1,
	CODE_USAGE = 2,
	CODE_FALSE = 3,
	CODE_TIMEOUT = 4,
	CODE_NO_DAEMON = 5,
	CODE_NOT_PERMITTED = 6,
	CODE_NO_TARGET = 7,
	CODE_CONFIG = 78,
	CODE_INTERRUPTED = 130,
};

/* Options; the rows are in options.c, a verb says which it takes. */
enum option {
	OPT_SOCKET,
	OPT_USER,
	OPT_SYSTEM,
	OPT_JSON,
	OPT_NO_COLOR,
	OPT_HELP,
	OPT_VERSION,
	OPT_NO_WAIT,
	OPT_TIMEOUT,
	OPT_WATCH,
	OPT_ALL,
	OPT_FAILED,
	OPT_MEMORY,
	OPT_COLD,
	OPT_SIGNAL,
	OPT_TO,
	OPT_FOLLOW,
	OPT_LINES,
	OPT_SINCE,
	OPT_STREAM,
	OPT_FOR,
	OPT_OFFLINE,
	OPT_DRY_RUN,
	OPT_GRAPH,
	OPT_TERMINAL,
	OPT_COUNT
};
#define OPT(name) (1u << OPT_##name)

struct settings {
	const char *socket, *signal, *to, *since, *stream, *state, *graph;
	bool user, system, json, no_color, help, version, no_wait, watch, all, failed, memory, cold,
		follow, offline, dry_run, terminal;
	int64_t timeout_ms, lines; /* -1 = not given */
};

struct ctl {
	struct settings set;
	const struct verb *verb;
	bool verb_given;   /* not the default one */
	const char **args; /* targets and the like */
	size_t n_args;
	char socket[128];
	struct vl_client client;
	int keeper_fd;	     /* pidfd of the keeper while we want it to end, else -1 */
	json_t *sent;	     /* parameters of the call in progress */
	int64_t deadline_ms; /* of the whole command, from --timeout */
	bool color;	     /* on stdout */
	bool progress;	     /* stderr is a terminal: say what we wait for */
	bool line_open;	     /* a progress line stands there */
	sigset_t mask;	     /* of signals, as we were started */
	struct str out;
};

struct verb {
	const char *name;
	const char *usage; /* of arguments: "TARGET…" */
	const char *help;  /* one line */
	unsigned options;  /* beside those that every verb takes */
	size_t min_args, max_args;
	int (*run)(struct ctl *c);
};

/* verbs.c */
extern const struct verb verbs[];
extern const size_t n_verbs;
const struct verb *verb_find(const char *name);
/* What a verb of another tool is called here, or NULL. */
const char *verb_pointer(const char *name);

/* options.c: 0, or CODE_USAGE after a message. Fills set, verb, args. */
int options_parse(struct ctl *c, int argc, char **argv);
/* One line an option of the verb, for help. */
void options_help(const struct verb *v, struct str *out);

/* connect.c */
/* Choose the socket: -s, REEVE_SOCKET, the user's, the system's. CODE_OK or CODE_USAGE. */
int socket_choose(struct ctl *c);
int ctl_connect(struct ctl *c);
/* Say why there is no daemon (err of vl_client_connect) and return the exit code. */
int say_no_daemon(const struct ctl *c, int err);

/* call.c */
/* parameters are stolen. CODE_OK with *ret (the reply's parameters, to be json_decref'ed), or an
 * exit code after a message. */
int ctl_call(struct ctl *c, const char *method, json_t *parameters, json_t **ret);
/* The same with every reply handed to on_reply (parameters borrowed); it returns CODE_OK to go on,
 * or an exit code to end. parameters NULL: the connection broke, the call is sent again; what came
 * so far comes once more, unless on_reply changes c->sent. */
typedef int reply_fn(struct ctl *c, json_t *parameters, bool last, void *data);
int ctl_stream(struct ctl *c, const char *method, json_t *parameters, reply_fn *on_reply,
	       void *data);
/* The same with the text of the parameters; text.text NULL: it starts over. */
typedef int text_fn(struct ctl *c, struct vl_slice parameters, bool last, void *data);
int ctl_stream_text(struct ctl *c, const char *method, json_t *parameters, text_fn *on_text,
		    void *data);
/* say.c. The exit code that an error of the daemon means, after a message about it. */
int say_error(struct ctl *c, const char *method, const struct vl_reply *reply);
/* Add the targets given on the command line ("targets", or key). */
json_t *with_targets(const struct ctl *c, json_t *parameters);
/* CODE_OK, or CODE_USAGE after a message if one of the first n arguments cannot name a group. */
int need_groups(const struct ctl *c, size_t n);
/* wait, timeout_ms and an operation id, as every changing method takes them. */
json_t *with_waiting(const struct ctl *c, json_t *parameters);
/* The exit code that results amount to. */
int code_of_results(const json_t *results);
/* Print each result, too. */
int say_results(struct ctl *c, const json_t *results);

/* print.c */
enum color { PLAIN, GOOD, BAD, WARN, DIM, BOLD, COLOR_COUNT };
void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Write c->out to stdout and empty it. */
void out_flush(struct ctl *c);
void out_color(struct ctl *c, enum color color, const char *text);
/* Text from outside, control characters escaped (SE10). */
void out_safe(struct ctl *c, const char *text);
/* A JSON value with a newline, keys in their order. */
void out_json(struct ctl *c, const json_t *value);
/* One line on the terminal that is written over by the next; NULL takes it away. */
void progress_line(struct ctl *c, const char *text);
enum color state_color(const char *state);
/* "3d4h", "12m30s", "4.2s": two units at most. */
void format_span(double seconds, char ret[static 32]);
void format_bytes(int64_t bytes, char ret[static 32]);

/* table.c: columns as wide as they must be. Cells are copied and escaped. */
struct table {
	size_t n_columns, n_cells, room;
	struct cell {
		uint32_t at; /* in text */
		uint16_t width;
		uint8_t color; /* enum color */
		bool right;
	} * cells;
	struct str text;
};
void table_begin(struct table *t, size_t n_columns);
void table_cell(struct table *t, enum color color, const char *text);
void table_cellf(struct table *t, enum color color, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Numbers: aligned to the right. */
void table_number(struct table *t, enum color color, const char *text);
void table_numberf(struct table *t, enum color color, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void table_print(struct table *t, struct ctl *c);
void table_fini(struct table *t);
/* Columns a terminal needs for UTF-8 text. */
int text_width(const char *text);

/* JSON members with a default, for rendering. */
const char *get_text(const json_t *o, const char *key, const char *absent);
int64_t get_int(const json_t *o, const char *key, int64_t absent);
double get_real(const json_t *o, const char *key, double absent);
bool get_bool(const json_t *o, const char *key);

/* render.c: what more than one verb shows. worker_keys: as `status --json` shows them, in this
 * order. */
extern const char *const worker_keys[];
void fill_absent(json_t *o, const char *const *keys);
/* Why a worker is as it is, in a few words. */
void describe_worker(const json_t *w, struct str *out);
void print_problems(const json_t *problems, struct str *out);
void print_changes(struct ctl *c, const json_t *changes);

/* cmd_*.c */
#define VERBS(X)                                                                                   \
	X(check)                                                                                   \
	X(doctor)                                                                                  \
	X(dump)                                                                                    \
	X(events)                                                                                  \
	X(help)                                                                                    \
	X(kill)                                                                                    \
	X(logs)                                                                                    \
	X(plan)                                                                                    \
	X(ready)                                                                                   \
	X(reload)                                                                                  \
	X(reset)                                                                                   \
	X(restart)                                                                                 \
	X(run)                                                                                     \
	X(scale)                                                                                   \
	X(show)                                                                                    \
	X(shutdown)                                                                                \
	X(start)                                                                                   \
	X(status)                                                                                  \
	X(stop)                                                                                    \
	X(tree)                                                                                    \
	X(upgrade)                                                                                 \
	X(version)                                                                                 \
	X(wait)
#define DECLARE_VERB(name) int cmd_##name(struct ctl *c);
VERBS(DECLARE_VERB)

#endif
