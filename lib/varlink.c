/*
 * The envelopes of Varlink and the typed reading of parameters. Invariant: text that is longer or
 * deeper than the limits never reaches the JSON parser, and nothing here keeps state.
 */
#include "lib/varlink.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>

int vl_fault_set(struct vl_fault *f, const char *error, const char *key, const char *value)
{
	size_t len = value ? strlen(value) : 0;

	*f = (struct vl_fault){ .error = error, .key = key };
	if (len >= sizeof(f->value))
		len = sizeof(f->value) - 1;
	/* Cut before a character, not inside: step back over continuation bytes. */
	while (value && value[len] != '\0' && len > 0 && ((unsigned char)value[len] & 0xc0) == 0x80)
		len--;
	if (len > 0)
		memcpy(f->value, value, len);
	return -EBADMSG;
}

/* The deepest nesting of brackets outside strings; stops counting beyond max. */
static unsigned nesting(const char *text, size_t len, unsigned max)
{
	unsigned depth = 0, deepest = 0;
	bool quoted = false;

	for (size_t i = 0; i < len && deepest <= max; i++) {
		char c = text[i];

		if (quoted) {
			if (c == '\\')
				i++;
			else if (c == '"')
				quoted = false;
		} else if (c == '"') {
			quoted = true;
		} else if (c == '{' || c == '[') {
			depth++;
			deepest = MAX_OF(deepest, depth);
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return deepest;
}

int vl_parse(const char *text, size_t len, size_t max, json_t **ret)
{
	json_error_t error;
	json_t *root;

	if (len > max)
		return -EMSGSIZE;
	if (nesting(text, len, VL_DEPTH_MAX) > VL_DEPTH_MAX)
		return -ELOOP;
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EBADMSG;
	if (!json_is_object(root)) {
		json_decref(root);
		return -EBADMSG;
	}
	*ret = root;
	return 0;
}

/* A boolean member of the envelope; absent and null are false. */
static int read_flag(const json_t *root, const char *name, bool *ret, struct vl_fault *fault)
{
	const json_t *v = json_object_get(root, name);

	if (v && !json_is_boolean(v) && !json_is_null(v))
		return vl_fault_set(fault, VL_ERROR_INVALID_PARAMETER, "parameter", name);
	*ret = json_is_true(v);
	return 0;
}

static int read_envelope(struct vl_request *r, struct vl_fault *fault)
{
	json_t *method = json_object_get(r->root, "method");
	json_t *parameters = json_object_get(r->root, "parameters");
	int err;

	if (!json_is_string(method))
		return vl_fault_set(fault, VL_ERROR_INVALID_PARAMETER, "parameter", "method");
	if (parameters && !json_is_object(parameters) && !json_is_null(parameters))
		return vl_fault_set(fault, VL_ERROR_INVALID_PARAMETER, "parameter", "parameters");
	r->method = json_string_value(method);
	r->parameters = json_is_object(parameters) ? parameters : NULL;
	err = read_flag(r->root, "more", &r->more, fault);
	if (err == 0)
		err = read_flag(r->root, "oneway", &r->oneway, fault);
	if (err == 0)
		err = read_flag(r->root, "upgrade", &r->upgrade, fault);
	return err;
}

int vl_request_parse(const char *text, size_t len, struct vl_request *ret, struct vl_fault *fault)
{
	struct vl_request r = { 0 };
	int err;

	err = vl_parse(text, len, VL_REQUEST_MAX, &r.root);
	if (err < 0)
		return vl_fault_set(fault, VL_ERROR_INVALID_PARAMETER, "parameter",
				    err == -ELOOP      ? "message nested too deeply"
				    : err == -EMSGSIZE ? "message too long"
						       : "message is no JSON object");
	err = read_envelope(&r, fault);
	if (err < 0) {
		vl_request_fini(&r);
		return -EINVAL;
	}
	*ret = r;
	return 0;
}

void vl_request_fini(struct vl_request *r)
{
	if (!r)
		return;
	json_decref(r->root);
	*r = (struct vl_request){ 0 };
}

int vl_reply_parse(const char *text, size_t len, struct vl_reply *ret)
{
	struct vl_reply r = { 0 };
	json_t *parameters, *error;
	int err;

	err = vl_parse(text, len, VL_REPLY_MAX, &r.root);
	if (err < 0)
		return err;
	error = json_object_get(r.root, "error");
	parameters = json_object_get(r.root, "parameters");
	if (!parameters || json_is_null(parameters)) {
		parameters = json_object();
		if (!parameters || json_object_set_new(r.root, "parameters", parameters) < 0) {
			vl_reply_fini(&r);
			return -ENOMEM;
		}
	}
	if (!json_is_object(parameters) || (error && !json_is_string(error))) {
		vl_reply_fini(&r);
		return -EBADMSG;
	}
	r.parameters = parameters;
	r.error = json_string_value(error);
	r.continues = json_is_true(json_object_get(r.root, "continues"));
	*ret = r;
	return 0;
}

void vl_reply_fini(struct vl_reply *r)
{
	if (!r)
		return;
	json_decref(r->root);
	*r = (struct vl_reply){ 0 };
}

/* --- parameters --- */

static bool string_fits(const struct vl_param *p, const json_t *v)
{
	size_t max = p->max > 0 ? (size_t)p->max : 4096;

	return json_is_string(v) && json_string_length(v) <= max;
}

static bool strings_fit(const struct vl_param *p, const json_t *v)
{
	if (!json_is_array(v) || json_array_size(v) > VL_STRINGS_MAX)
		return false;
	for (size_t i = 0; i < json_array_size(v); i++)
		if (!string_fits(p, json_array_get(v, i)))
			return false;
	return true;
}

static int word_index(const struct vl_param *p, const json_t *v)
{
	if (json_is_string(v))
		for (int i = 0; p->words[i]; i++)
			if (strcmp(p->words[i], json_string_value(v)) == 0)
				return i;
	return -1;
}

static bool read_bool(const struct vl_param *p, const json_t *v, void *to)
{
	*(bool *)to = v ? json_is_true(v) : p->preset != 0;
	return !v || json_is_boolean(v);
}

static bool read_int(const struct vl_param *p, const json_t *v, void *to)
{
	int64_t n = v ? json_integer_value(v) : p->preset;

	*(int64_t *)to = n;
	return !v || (json_is_integer(v) && n >= p->min && n <= p->max);
}

static bool read_string(const struct vl_param *p, const json_t *v, void *to)
{
	*(const char **)to = json_string_value(v);
	return !v || string_fits(p, v);
}

static bool read_strings(const struct vl_param *p, const json_t *v, void *to)
{
	*(const json_t **)to = v;
	return !v || strings_fit(p, v);
}

static bool read_word(const struct vl_param *p, const json_t *v, void *to)
{
	int i = v ? word_index(p, v) : (int)p->preset;

	*(int *)to = i;
	return !v || i >= 0;
}

static bool (*const readers[VL_TYPE_COUNT])(const struct vl_param *, const json_t *, void *) = {
	[VL_BOOL] = read_bool,	     [VL_INT] = read_int,   [VL_STRING] = read_string,
	[VL_STRINGS] = read_strings, [VL_WORD] = read_word,
};

/* The first member of parameters that no row knows, or NULL. */
static const char *unknown_member(const json_t *parameters, const struct vl_param *table)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)parameters, key, value)
	{
		const struct vl_param *p = table;

		while (p->name && strcmp(p->name, key) != 0)
			p++;
		if (!p->name)
			return key;
	}
	return NULL;
}

int vl_params_read(const json_t *parameters, const struct vl_param *table, void *args,
		   struct vl_fault *fault)
{
	const char *unknown;

	for (const struct vl_param *p = table; p->name; p++) {
		const json_t *v = json_object_get(parameters, p->name);

		if (json_is_null(v))
			v = NULL;
		if ((!v && p->required) || !readers[p->type](p, v, (char *)args + p->offset))
			return vl_fault_set(fault, VL_ERROR_INVALID_PARAMETER, "parameter",
					    p->name);
	}
	unknown = unknown_member(parameters, table);
	if (unknown)
		return vl_fault_set(fault, VL_ERROR_INVALID_PARAMETER, "parameter", unknown);
	return 0;
}
