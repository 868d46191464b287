/* Owns nothing: a view on libconfig's tree or jansson's, whichever there is. */
#include "value.h"

#include <stdio.h>
#include <string.h>

struct value value_of_setting(const config_setting_t *s)
{
	return (struct value){ .s = s };
}

struct value value_of_json(json_t *j)
{
	return (struct value){ .j = j };
}

static enum value_kind kind_of_setting(const config_setting_t *s)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_BOOL:
		return VALUE_BOOL;
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return VALUE_INT;
	case CONFIG_TYPE_FLOAT:
		return VALUE_FLOAT;
	case CONFIG_TYPE_STRING:
		return strcmp(config_setting_get_string(s), VALUE_BAD_TEXT) == 0 ? VALUE_BAD
										 : VALUE_STRING;
	case CONFIG_TYPE_ARRAY:
	case CONFIG_TYPE_LIST:
		return VALUE_LIST;
	case CONFIG_TYPE_GROUP:
		return VALUE_BLOCK;
	default:
		return VALUE_NONE;
	}
}

enum value_kind value_kind(struct value v)
{
	if (v.s)
		return kind_of_setting(v.s);
	if (!v.j)
		return VALUE_NONE;
	switch (json_typeof(v.j)) {
	case JSON_TRUE:
	case JSON_FALSE:
		return VALUE_BOOL;
	case JSON_INTEGER:
		return VALUE_INT;
	case JSON_REAL:
		return VALUE_FLOAT;
	case JSON_STRING:
		return VALUE_STRING;
	case JSON_ARRAY:
		return VALUE_LIST;
	case JSON_OBJECT:
		return VALUE_BLOCK;
	default:
		return VALUE_NONE;
	}
}

const char *value_kind_name(enum value_kind k)
{
	static const char *const names[] = {
		[VALUE_NONE] = "nothing",   [VALUE_BAD] = "nothing",   [VALUE_BOOL] = "a boolean",
		[VALUE_INT] = "an integer", [VALUE_FLOAT] = "a float", [VALUE_STRING] = "a string",
		[VALUE_LIST] = "a list",    [VALUE_BLOCK] = "a block",
	};

	return names[k];
}

int value_line(struct value v)
{
	return v.s ? (int)v.s->line : 0;
}

bool value_bool(struct value v)
{
	return v.s ? config_setting_get_bool(v.s) != 0 : json_is_true(v.j);
}

long long value_int(struct value v)
{
	if (!v.s)
		return json_integer_value(v.j);
	if (config_setting_type(v.s) == CONFIG_TYPE_INT64)
		return config_setting_get_int64(v.s);
	return config_setting_get_int(v.s);
}

double value_float(struct value v)
{
	if (value_kind(v) == VALUE_INT)
		return (double)value_int(v);
	return v.s ? config_setting_get_float(v.s) : json_real_value(v.j);
}

const char *value_text(struct value v)
{
	return v.s ? config_setting_get_string(v.s) : json_string_value(v.j);
}

size_t value_count(struct value v)
{
	if (v.s)
		return (size_t)config_setting_length(v.s);
	return json_is_object(v.j) ? json_object_size(v.j) : json_array_size(v.j);
}

struct value value_at(struct value v, size_t i)
{
	if (v.s)
		return value_of_setting(config_setting_get_elem(v.s, (unsigned)i));
	return value_of_json(json_array_get(v.j, i));
}

struct value value_member(struct value v, const char *name)
{
	if (v.s)
		return value_of_setting(config_setting_get_member(v.s, name));
	return value_of_json(json_object_get(v.j, name));
}

struct value value_parent(struct value v)
{
	return value_of_setting(v.s ? config_setting_parent(v.s) : NULL);
}

bool value_next(struct value_walk *w)
{
	if (value_kind(w->of) != VALUE_BLOCK)
		return false;
	if (w->of.s) {
		if (w->i >= value_count(w->of))
			return false;
		w->value = value_at(w->of, w->i++);
		w->name = config_setting_name(w->value.s);
		return true;
	}
	w->iter = w->iter ? json_object_iter_next(w->of.j, w->iter) : json_object_iter(w->of.j);
	if (!w->iter)
		return false;
	w->name = json_object_iter_key(w->iter);
	w->value = value_of_json(json_object_iter_value(w->iter));
	return true;
}

/* A string between quotes, control characters escaped, cut with dots when it is long. */
const char *value_quote(const char *text, char *buf, size_t size)
{
	size_t n = 0;

	buf[n++] = '"';
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (n + 10 > size) {
			n += (size_t)snprintf(buf + n, size - n, "...");
			break;
		}
		if (c == '"' || c == '\\')
			buf[n++] = '\\';
		if (c < 0x20 || c == 0x7f)
			n += (size_t)snprintf(buf + n, size - n, c == '\n' ? "\\n" : "\\x%02x", c);
		else
			buf[n++] = (char)c;
	}
	snprintf(buf + n, size - n, "\"");
	return buf;
}

/* Short lists of plain values in full, others as "[ ... ]". */
static void show_list(struct value v, char *buf, size_t size)
{
	char shown[64];
	size_t n = (size_t)snprintf(buf, size, "[");

	for (size_t i = 0; i < value_count(v); i++) {
		struct value e = value_at(v, i);

		value_show(e, shown, sizeof(shown));
		if (value_kind(e) >= VALUE_LIST || n + strlen(shown) + 16 > size) {
			n += (size_t)snprintf(buf + n, size - n, "%s ...", i ? "," : "");
			break;
		}
		n += (size_t)snprintf(buf + n, size - n, "%s %s", i ? "," : "", shown);
	}
	snprintf(buf + n, size - n, " ]");
}

const char *value_show(struct value v, char *buf, size_t size)
{
	switch (value_kind(v)) {
	case VALUE_BOOL:
		snprintf(buf, size, "%s", value_bool(v) ? "true" : "false");
		break;
	case VALUE_INT:
		snprintf(buf, size, "%lld", value_int(v));
		break;
	case VALUE_FLOAT:
		snprintf(buf, size, "%g", value_float(v));
		break;
	case VALUE_STRING:
		value_quote(value_text(v), buf, size);
		break;
	case VALUE_LIST:
		show_list(v, buf, size);
		break;
	case VALUE_BLOCK:
		snprintf(buf, size, "{ ... }");
		break;
	default:
		snprintf(buf, size, "nothing");
	}
	return buf;
}
