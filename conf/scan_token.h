/* The tokens of a configuration file, and messages about them. For scan.c and scan_value.c. */
#ifndef REEVE_CONF_SCAN_TOKEN_H
#define REEVE_CONF_SCAN_TOKEN_H

#include "report.h"

#include <stdarg.h>

#define SCAN_DEPTH_MAX	16
#define SCAN_STRING_MAX 131071 /* what execve(2) takes as one argument (MAX_ARG_STRLEN) */
#define SCAN_BLOCK_MAX	5000   /* keys of one block: libconfig searches them one by one (CF08) */
#define SCAN_KEYS_MAX	200000
#define SCAN_PAIRS_MAX	20000000 /* such searches in all: under 2 s */

enum token_kind {
	TOKEN_END,
	TOKEN_MARK,   /* one of = : ; , { } [ ] ( ) */
	TOKEN_RUN,    /* letters, digits and _ * . + -: a name, a number, a boolean, or a mistake */
	TOKEN_STRING, /* "…", checked; raw newlines in it stay as they are */
	TOKEN_TEXT,   /* anything else up to a blank or mark */
	TOKEN_AT,     /* @word */
};

struct token {
	enum token_kind kind;
	const char *start;
	size_t len;
	int line;
	bool bad; /* a string with a mistake that has been said */
};

struct counts; /* keys so far (scan.c) */
struct seen;   /* names seen so far, by block (scan_names.c) */

struct scan {
	const char *start, *p, *end;
	int line;
	const char *file;
	struct conf_report *report;
	struct token token; /* the one looked at */
	bool quiet;	    /* looking ahead: say nothing */
	bool broken;	    /* brackets do not match: there is no plain copy */
	bool stop;	    /* no use in going on */
	int errors;
	struct str *out;
	int out_line;
	int depth;
	struct seen *seen;
	struct counts *counts;
	struct token brace; /* of the block that begins */
	bool in_list;	    /* the value is an element */
	const char *outer;  /* name of the block we are in, for hints */
	size_t outer_len;
	const char *name; /* of the setting whose value is read, for hints */
	size_t name_len;
	int suspect_line; /* a block whose } seems to be missing, by the indentation */
};

/* Go to the next token. */
void token_next(struct scan *s);
static inline bool token_is(const struct scan *s, char mark)
{
	return s->token.kind == TOKEN_MARK && *s->token.start == mark;
}
/* The token after the one looked at; nothing moves and nothing is said. */
struct token token_peek(struct scan *s);

/* A mistake at a line. */
void scan_error(struct scan *s, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The same, followed by the source line with `len` bytes at `at` replaced by `by`. */
void scan_mended(struct scan *s, int line, const char *at, size_t len, const char *by,
		 const char *format, ...) __attribute__((format(printf, 6, 7)));

/* Names of a block's settings. Returns the line of an earlier one of that name, 0 = new, or
 * -ENOMEM. */
int seen_add(struct scan *s, unsigned block, const char *name, size_t len, int line);
struct seen *seen_new(void);
void seen_free(struct seen *seen);

/* scan_value.c: read one value, write it out. False: something was wrong in it. */
bool scan_value(struct scan *s);
/* scan.c: the settings of a block, up to (not including) its } or the end. */
void scan_settings(struct scan *s, bool inner);
/* Write a token out, on its own line. */
void scan_emit(struct scan *s, int line, const char *text, size_t len);

#endif
