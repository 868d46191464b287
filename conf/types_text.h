/* What the types that hold text share. */
#ifndef REEVE_CONF_TYPES_TEXT_H
#define REEVE_CONF_TYPES_TEXT_H

#include "key.h"

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

/* Expand a text (or, of the canonical form, copy it). */
int text_expand(struct reading *r, struct value v, const char *text, char **ret);

/* Expand, and make sure it is an absolute path. */
int path_read(struct reading *r, struct value v, const char *text, char **ret);

/* The functions of a type whose field is one owned string, or NULL. text_set takes ownership. */
void text_set(void *field, char *text);
json_t *text_write(const struct conf_key *k, const void *field, enum write_form form);
bool text_equal(const struct conf_key *k, const void *a, const void *b);
void text_fini(const struct conf_key *k, void *field);

#define LIST_MAX 4096 /* elements of any list */

typedef int list_item_fn(struct reading *r, struct value v, const char *text, char **ret);
/* Each string of a list through `item`; the list is never NULL on success. */
int list_read(struct reading *r, struct value v, list_item_fn *item, char ***ret);
json_t *list_write(const struct conf_key *k, const void *field, enum write_form form);
bool list_equal(const struct conf_key *k, const void *a, const void *b);
void list_fini(const struct conf_key *k, void *field);

#endif
