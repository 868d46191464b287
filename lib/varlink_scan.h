/*
 * Reading JSON text in place, for replies with thousands of equal rows where a tree of objects
 * would cost more than everything else. It finds where values begin and end; numbers and strings
 * are decoded on demand. Nesting is bounded (VL_DEPTH_MAX), nothing is allocated, and text that is
 * no JSON ends with false, never with a read beyond its end. It is no validator: what a string or a
 * number is made of is not checked.
 * Since 0.1.0.
 */
#ifndef REEVE_LIB_VARLINK_SCAN_H
#define REEVE_LIB_VARLINK_SCAN_H

#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A value as it stands in the text; text NULL: absent. */
struct vl_slice {
	const char *text;
	size_t len;
};

/* An object or array being walked through. */
struct vl_scan {
	const char *at, *end;
	bool failed;
};

/* Start at a value; false if it does not begin with the bracket '{' or '['. */
bool vl_scan_open(struct vl_scan *s, struct vl_slice value, char bracket);
/* The next member; *key without its quotes (undecoded). False at the end or on nonsense. */
bool vl_scan_member(struct vl_scan *s, struct vl_slice *key, struct vl_slice *value);
/* The next element of an array. */
bool vl_scan_element(struct vl_scan *s, struct vl_slice *value);
/* Fill ret[i] with the member named keys[i] (NULL ends the names), absent ones with NULL. */
bool vl_scan_fields(struct vl_slice object, const char *const *keys, struct vl_slice *ret);

static inline bool vl_slice_is(struct vl_slice v, const char *word)
{
	size_t i = 0;

	while (i < v.len && word[i] && v.text[i] == word[i])
		i++;
	return i == v.len && !word[i];
}
/* Absent or null. */
static inline bool vl_slice_null(struct vl_slice v)
{
	return !v.text || vl_slice_is(v, "null");
}
double vl_slice_real(struct vl_slice v, double absent);
int64_t vl_slice_int(struct vl_slice v, int64_t absent);
/* Append the text that a JSON string means; nothing if v is no string. */
void vl_slice_text(struct vl_slice v, struct str *out);

#endif
