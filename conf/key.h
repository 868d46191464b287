/*
 * The library from file to struct conf, each part one file:
 * - open.c the way to a file; source.c one file; scan*.c its tokens; include.c the others
 * - table.c THE TABLE OF KEYS; types_*.c users.c listen.c expand.c arith.c what values mean
 * - value.c a value of a file or of JSON; block.c a block, read by the table
 * - merge.c presets, defaults, group; check*.c what concerns several keys or groups
 * - say.c messages about values; report.c the list of them
 * - json.c dump.c the ways out; diff.c what a reload changes; loader.c the helper process
 *
 * A new key is a row in table.c, a field in conf.h and a paragraph in reeve.conf.5.scd.
 *
 * How a row of the key table is read, written and compared. A type is a handful of functions over
 * a field found by offsetof; all that the library does with keys goes through them.
 */
#ifndef REEVE_CONF_KEY_H
#define REEVE_CONF_KEY_H

#include "conf.h"
#include "expand.h"
#include "report.h"
#include "value.h"

/* Flags of a row. */
enum {
	KEY_ELEMENT = 1,    /* a field of a list's element, not of the group */
	KEY_EARLY = 2,	    /* read before the others: %u and %h come from it */
	KEY_NEVER = 4,	    /* a duration that may be "never" */
	KEY_PER_WORKER = 8, /* a text that may hold %i, %n and arithmetic */
	KEY_SHORTHAND = 16, /* another row holds the same in full: not written, not compared */
	KEY_REQUIRED = 32,  /* an element without it is an error */
	KEY_ACCESS = 64,    /* who may do what: no value is ever proposed but the user's own */
};

enum write_form {
	WRITE_DUMP,	 /* as a person would write it */
	WRITE_CANONICAL, /* with what the load has resolved */
};

/* Who reads: where the value is written and what is known there. */
struct reading {
	struct conf_report *report; /* NULL: say nothing */
	const struct conf_load_options *options;
	const char *file;    /* where the values are written; NULL for presets */
	const char *subject; /* "web", "defaults", "" for the daemon */
	const struct conf_key *key;
	const struct expansion *names;
	bool canonical;	    /* values are finished: no expansion, no look-ups */
	bool no_host;	    /* offline, or a disabled group: look nothing up */
	bool early;	    /* only KEY_EARLY rows (or only the others) are read now */
	const char *member; /* of a block that is one value: the name within env or limits */
	bool in_list;	    /* the value is element `at` of the key's list */
	struct value list;
	size_t at;
	bool preset;   /* values come from the table */
	bool defaults; /* a layer that other groups share: its lines are kept negative */
	int *lines;    /* by row: line of the last value read; NULL = not wanted */
	const char **files;
	void *base; /* the struct that the rows' offsets count from */
};

struct conf_type {
	size_t size; /* of the field where it is plain memory and memcmp says "equal" */
	/* Replace the field. 0, -EINVAL (said in the report; the field stays) or -ENOMEM. */
	int (*read)(struct reading *r, struct value v, void *field);
	/* NULL = leave the key out, or no memory. */
	json_t *(*write)(const struct conf_key *k, const void *field, enum write_form form);
	bool (*equal)(const struct conf_key *k, const void *a, const void *b);
	void (*fini)(const struct conf_key *k, void *field);
};

/* table.c */
const struct conf_key *key_find(const char *path);
/* The first row whose path begins with prefix ("group.restart."); NULL if there is none. */
const struct conf_key *key_find_block(const char *prefix);
static inline size_t key_row(const struct conf_key *k)
{
	size_t n;

	return (size_t)(k - conf_keys(&n));
}
static inline void *key_field(const struct conf_key *k, void *base)
{
	return (char *)base + k->offset;
}
static inline const void *key_field_const(const struct conf_key *k, const void *base)
{
	return (const char *)base + k->offset;
}
/* "group.restart.delay" → "restart.delay" */
const char *key_short(const struct conf_key *k);
/* "group.restart.delay" → "delay" */
const char *key_last(const struct conf_key *k);
bool key_is_daemon(const struct conf_key *k);

/* block.c: read the members of a block whose keys are PREFIX.name onto r->base. */
int block_read(struct reading *r, struct value v, const char *prefix);
/* Read the presets of every row below prefix. */
int block_presets(struct reading *r, const char *prefix);
bool key_equal(const struct conf_key *k, const void *a, const void *b);
void block_fini(const char *prefix, void *base);
bool block_equal(const char *prefix, const void *a, const void *b);
/* An object with the members below prefix, for list elements. */
json_t *block_write(const char *prefix, const void *base, enum write_form form);

/*
 * say.c: all return -EINVAL; a value that the scan has reported already stays silent.
 * `mended` is the value, or in a list the element, that was certainly meant; "" = nobody knows;
 * NULL = what mend.c makes of it, else the key's example.
 */
int say_bad(struct reading *r, struct value v, const char *mended, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
int say_wrong_kind(struct reading *r, struct value v);
/* An element of this key's list lacks a member. */
int say_missing(struct reading *r, struct value v);
/* A plain value where a block is meant, whose keys are below prefix. */
int say_no_block(struct reading *r, struct value v, const char *prefix, const char *name);
int say_unknown_key(struct reading *r, struct value v, const char *prefix, const char *name);

/* types_*.c */
extern const struct conf_type type_bool, type_int, type_float, type_duration, type_size, type_mode,
	type_word, type_signal, type_workers;
extern const struct conf_type type_path, type_stdin, type_log_to, type_strings, type_env_files,
	type_inherit, type_name, type_listen;
extern const struct conf_type type_command, type_env;
extern const struct conf_type type_entry, type_preload;
extern const struct conf_type type_codes, type_limits, type_steps, type_sockets;
extern const struct conf_type type_user, type_extra_groups, type_owner, type_who;

/* host.c: CPUs of the affinity mask and the cgroup quota, rounded up, at least 1. */
int host_cpus(void);

/* strings.c: NULL-terminated lists. */
size_t strings_count(char *const *list);
void strings_free(char **list);
bool strings_equal(char *const *a, char *const *b);
char **strings_copy(char *const *list);
/* Append (takes ownership of s, also on failure). 0 or -ENOMEM. */
int strings_push(char ***list, char *s);
json_t *strings_write(char *const *list);

#endif
