/*
 * The puppet: one worker program for all tests, driven by words.
 *
 * A script is a list of words "verb" or "verb=argument"; verbs that need a body are followed by
 * "[" words "]". Words run in order; at the end of the script the puppet exits with 0. In an
 * argument @pid@ @ppid@ @child@ (last forked) @index@ @inc@ are replaced, and @env:NAME@.
 * tests/support/README.md lists the verbs.
 *
 * The puppet changes nothing about itself before the first word: what `dump` shows is what the
 * supervisor gave.
 */
#ifndef REEVE_TESTS_PUPPET_H
#define REEVE_TESTS_PUPPET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PUPPET_BAD_SCRIPT 121 /* exit code of a script that makes no sense */
#define PUPPET_FAILED	  122 /* exit code when a system call that a verb needs failed */

struct words {
	char **at;
	int n;
};

struct puppet {
	pid_t child;		   /* last forked */
	int argc;		   /* as given to main */
	char **argv, **env;	   /* env: the initial block, for `dump` and `scrub` */
	const char *notify_socket; /* as found at start; survives `scrub` */
	char *index, *incarnation;
};

struct verb {
	const char *name;
	void (*run)(struct puppet *p, char *arg, struct words body);
};

/* puppet.c */
void puppet_run(struct puppet *p, struct words script);
/* Report on stderr and in the journal, then end with PUPPET_FAILED. */
_Noreturn void puppet_fail(const char *what);
long long puppet_number(const char *text); /* with K M G */
/* Cut *rest at the first sep and return the piece before it, NULL when nothing is left. */
char *puppet_piece(char **rest, char sep);
long long puppet_now_us(void);

/* puppet_signal.c: handlers and the journal they write to */
void journal_open(const char *path);
void journal_close(void);
int journal_fd(void);
void journal_write(const char *word, const char *text);
int signal_number(const char *name); /* ends the puppet on a bad name */
bool signal_went(void);		     /* a `go` signal came */
extern const struct verb signal_verbs[];

extern const struct verb process_verbs[];	      /* puppet_process.c */
extern const struct verb io_verbs[];		      /* puppet_io.c */
extern const struct verb notify_verbs[];	      /* puppet_notify.c */
void puppet_dump(struct puppet *p, const char *path); /* puppet_dump.c */

#endif
