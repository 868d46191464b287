/*
 * A line of a json log: what it says as a member of the object, and the object read back. Text is
 * "line":"…"; what is no UTF-8, or holds a NUL, is "bytes":"…" in base64, since JSON carries
 * neither without loss. Pure. Since 0.2.0. Source: RFC 8259; base64: RFC 4648.
 */
#ifndef REEVE_LOGGER_RECORD_H
#define REEVE_LOGGER_RECORD_H

#include "logger/history.h"

/* The longest member of a text of this length: all of it control characters. */
#define RECORD_MEMBER_MAX(len) (6 * (len) + 16)

/* Write the member, RECORD_MEMBER_MAX(len) bytes at most and no NUL; returns its end. */
char *record_put_member(const char *text, size_t len, char *out);
/* Escape for the inside of a JSON string, at most 6 bytes for one; NULL if it is no UTF-8, or holds
 * a NUL. Returns the end. */
char *record_put_escaped(const char *text, size_t len, char *out);

/* Take a line of a json log apart, as format.c makes it. ret->text is the member as it stands, safe
 * to be passed on. False if it is anything else. */
bool record_parse(const char *line, size_t len, struct history_line *ret);

#endif
