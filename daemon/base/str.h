/* Text: a growing buffer, escaping for terminals, edit distance. */
#ifndef REEVE_BASE_STR_H
#define REEVE_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>

/* A growing byte buffer, always NUL-terminated once written to. Zero-initialise; str_fini frees.
 * After a failed allocation `failed` stays set and additions are ignored: check once, at the end.
 */
struct str {
	char *data;
	size_t len, size;
	bool failed;
};
void str_fini(struct str *s);
void str_add(struct str *s, const char *text);
void str_add_bytes(struct str *s, const void *bytes, size_t len);
/* n more bytes at the end: where they are, to be written by the caller, or NULL. */
char *str_extend(struct str *s, size_t n);
void str_addf(struct str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Keep the first n bytes; there are as many, and a buffer. */
void str_cut(struct str *s, size_t n);
/* Drop n bytes from the front. */
void str_eat(struct str *s, size_t n);
#define auto_str __attribute__((cleanup(str_fini))) struct str

/* Copy text with control characters and invalid UTF-8 shown as \xNN, \n, \t, \e; always
 * terminated. Returns the length written. What a worker said goes through this (SE10). */
size_t str_escape(const char *text, size_t len, char *ret, size_t size);
/* Bytes of the character at text, 1 to 4; 0 if it is no UTF-8. */
size_t str_utf8_next(const char *text, size_t len);
bool str_utf8_valid(const char *text, size_t len);
/* Levenshtein distance, capped at 64-byte names; for "did you mean". */
int str_distance(const char *a, const char *b);
/* The candidate nearest to word (distance ≤ 1 + len/3), or NULL. */
const char *str_nearest(const char *word, const char *const *names, size_t n);
/* Whole decimal number within bounds; 0 or -EINVAL / -ERANGE. */
int str_to_int(const char *text, long long min, long long max, long long *ret);

#endif
