/*
 * Varlink on the wire: JSON objects, each ended by a NUL byte. This is the codec alone: limits,
 * the call and reply envelopes, typed reading of parameters, a JSON writer. No sockets, no loop.
 *
 * What comes from outside is never trusted: the length and the nesting are bounded before the text
 * meets the JSON parser (which recurses), duplicate keys, numbers beyond 64 bits, lone surrogates,
 * NUL in strings and invalid UTF-8 are refused. The outcome is a `struct vl_fault`, which is the
 * error reply to send.
 *
 * Needs jansson ≥ 2.11. Protocol: https://varlink.org/Interface-Definition. Since 0.1.0.
 */
#ifndef REEVE_LIB_VARLINK_H
#define REEVE_LIB_VARLINK_H

#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VL_REQUEST_MAX (1u << 20)  /* bytes of one request, without its NUL */
#define VL_REPLY_MAX   (64u << 20) /* what a client of ours takes in one reply */
#define VL_DEPTH_MAX   32

#define VL_ERROR_INTERFACE_NOT_FOUND	"org.varlink.service.InterfaceNotFound"
#define VL_ERROR_METHOD_NOT_FOUND	"org.varlink.service.MethodNotFound"
#define VL_ERROR_METHOD_NOT_IMPLEMENTED "org.varlink.service.MethodNotImplemented"
#define VL_ERROR_INVALID_PARAMETER	"org.varlink.service.InvalidParameter"
#define VL_ERROR_EXPECTED_MORE		"org.varlink.service.ExpectedMore"

/* An error of the standard interface: its name, and the one parameter that it has. */
struct vl_fault {
	const char *error; /* one of VL_ERROR_*; NULL = none */
	const char *key;   /* "parameter", "method", "interface"; NULL: it has none */
	char value[128];   /* cut at a character, valid UTF-8 */
};

/* Fill *f and return -EBADMSG. value may be NULL (""), or anything from outside. */
int vl_fault_set(struct vl_fault *f, const char *error, const char *key, const char *value);

/*
 * Parse one message (without the NUL) into *ret, a JSON object to be json_decref'ed.
 * -EMSGSIZE beyond max bytes, -ELOOP too deep, -EBADMSG no JSON object within the limits, -ENOMEM.
 */
int vl_parse(const char *text, size_t len, size_t max, json_t **ret);

/* --- calls (what a server reads) --- */

struct vl_request {
	json_t *root; /* owned; everything below lives in it */
	const char *method;
	json_t *parameters; /* an object, or NULL if absent or null */
	bool more, oneway, upgrade;
};
/* 0, or an error with *fault = the reply to send: -EBADMSG the text is no JSON object within the
 * limits (no use in reading on), -EINVAL the envelope is wrong. Unknown members are ignored. */
int vl_request_parse(const char *text, size_t len, struct vl_request *ret, struct vl_fault *fault);
void vl_request_fini(struct vl_request *r);

/* --- parameters --- */

enum vl_type {
	VL_BOOL,    /* bool */
	VL_INT,	    /* int64_t, within min…max */
	VL_STRING,  /* const char *, borrowed from the request; at most max bytes (0 = 4096) */
	VL_STRINGS, /* const json_t *, an array of such strings; at most VL_STRINGS_MAX of them */
	VL_WORD,    /* int, the index in words */
	VL_TYPE_COUNT
};
#define VL_STRINGS_MAX 65536

/* One row a parameter. `offset` is where the value goes in the method's own struct of arguments. */
struct vl_param {
	const char *name;
	enum vl_type type;
	size_t offset;
	bool required;
	int64_t preset;		  /* VL_BOOL, VL_INT, VL_WORD where absent */
	int64_t min, max;	  /* VL_INT; VL_STRING(S): max */
	const char *const *words; /* VL_WORD, NULL-terminated */
};
/* Fill args (all rows are written). A row with the name NULL ends the table. Unknown, missing and
 * mistyped parameters: -EBADMSG with *fault = InvalidParameter{their name}. */
int vl_params_read(const json_t *parameters, const struct vl_param *table, void *args,
		   struct vl_fault *fault);

/* --- building messages; each function appends one whole message with its NUL to *out --- */

#define VL_MORE	  1u
#define VL_ONEWAY 2u
/* parameters are borrowed and may be NULL. 0 or -ENOMEM. */
int vl_put_request(struct str *out, const char *method, const json_t *parameters, unsigned flags);
int vl_put_reply(struct str *out, const json_t *parameters, bool continues);
/* The same with parameters that are JSON text of an object already. */
int vl_put_reply_text(struct str *out, const struct str *parameters, bool continues);
int vl_put_error(struct str *out, const char *error, const json_t *parameters);
int vl_put_fault(struct str *out, const struct vl_fault *fault);

/* --- replies (what a client reads) --- */

struct vl_reply {
	json_t *root;	    /* owned */
	const char *error;  /* NULL = success */
	json_t *parameters; /* an object, never NULL after a parse */
	bool continues;
};
int vl_reply_parse(const char *text, size_t len, struct vl_reply *ret);
void vl_reply_fini(struct vl_reply *r);

/* A JSON string of any bytes: what is no UTF-8 becomes U+FFFD. NULL: no memory. */
json_t *vl_text(const char *text, size_t len);

/*
 * A writer of JSON text, for replies with thousands of rows where a tree of objects would cost
 * more than the rest of the call. `key` is NULL inside arrays and for the outermost value. The
 * caller keeps the brackets balanced. Out of memory shows in out->failed, at the end.
 */
void vl_write_open(struct str *out, const char *key, char bracket);	/* '{' or '[' */
void vl_write_close(struct str *out, char bracket);			/* '}' or ']' */
void vl_write_text(struct str *out, const char *key, const char *text); /* NULL: left out */
void vl_write_bytes(struct str *out, const char *key, const char *text, size_t len);
void vl_write_int(struct str *out, const char *key, int64_t value);
void vl_write_real(struct str *out, const char *key, double value); /* 3 decimals */
void vl_write_bool(struct str *out, const char *key, bool value);
void vl_write_null(struct str *out, const char *key);

#endif
