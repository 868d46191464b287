/*
 * One written value, from a file (a libconfig setting) or from the canonical form (JSON). The key
 * table's readers see only this, so both forms are read by the same code.
 */
#ifndef REEVE_CONF_VALUE_H
#define REEVE_CONF_VALUE_H

#include <jansson.h>
#include <libconfig.h>
#include <stdbool.h>
#include <stddef.h>

enum value_kind {
	VALUE_NONE,
	VALUE_BAD, /* stands for something the scan has already reported */
	VALUE_BOOL,
	VALUE_INT,
	VALUE_FLOAT,
	VALUE_STRING,
	VALUE_LIST, /* arrays too */
	VALUE_BLOCK,
};

/* What the scan puts in place of a value that it could not accept. */
#define VALUE_BAD_TEXT "\001reeve: reported\001"

struct value {
	const config_setting_t *s; /* one of the two, or neither */
	json_t *j;
};

struct value value_of_setting(const config_setting_t *s);
struct value value_of_json(json_t *j);
enum value_kind value_kind(struct value v);
/* "a string", "an integer", … for messages. */
const char *value_kind_name(enum value_kind k);
int value_line(struct value v);

bool value_bool(struct value v);
long long value_int(struct value v);
double value_float(struct value v); /* integers too */
const char *value_text(struct value v);

/* Elements of a list. */
size_t value_count(struct value v);
struct value value_at(struct value v, size_t i);
/* The block that a file's value stands in; none of JSON. */
struct value value_parent(struct value v);
struct value value_member(struct value v, const char *name);

/* for (struct value_walk w = { .of = v }; value_next(&w);) … w.name, w.value */
struct value_walk {
	struct value of, value;
	const char *name;
	size_t i;
	void *iter;
};
bool value_next(struct value_walk *w);

/* As it would be written, cut to size. Returns buf. */
const char *value_show(struct value v, char *buf, size_t size);

/* A string as it would be written, between quotes; cut to size. Returns buf. */
const char *value_quote(const char *text, char *buf, size_t size);

#endif
