/* Messages and JSON text into a growing buffer. Invariant: what is appended is valid JSON and
 * valid UTF-8, whatever bytes it was made from. */
#include "lib/varlink.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int dump_to_str(const char *bytes, size_t len, void *data)
{
	struct str *out = data;

	str_add_bytes(out, bytes, len);
	return out->failed ? -1 : 0;
}

static void put_json(struct str *out, const json_t *value)
{
	if (json_dump_callback(value, dump_to_str, out, JSON_COMPACT | JSON_ENCODE_ANY) < 0)
		out->failed = true;
}

/* End the message; a buffer that ran out of memory is said once, here. */
static int put_end(struct str *out)
{
	str_add_bytes(out, "", 1);
	return out->failed ? -ENOMEM : 0;
}

int vl_put_request(struct str *out, const char *method, const json_t *parameters, unsigned flags)
{
	str_add(out, "{\"method\":");
	vl_write_text(out, NULL, method);
	if (parameters) {
		str_add(out, ",\"parameters\":");
		put_json(out, parameters);
	}
	if (flags & VL_MORE)
		str_add(out, ",\"more\":true");
	if (flags & VL_ONEWAY)
		str_add(out, ",\"oneway\":true");
	str_add(out, "}");
	return put_end(out);
}

int vl_put_reply(struct str *out, const json_t *parameters, bool continues)
{
	str_add(out, "{\"parameters\":");
	if (parameters)
		put_json(out, parameters);
	else
		str_add(out, "{}");
	str_add(out, continues ? ",\"continues\":true}" : "}");
	return put_end(out);
}

int vl_put_reply_text(struct str *out, const struct str *parameters, bool continues)
{
	if (parameters->failed)
		return -ENOMEM;
	str_add(out, "{\"parameters\":");
	str_add_bytes(out, parameters->data, parameters->len);
	str_add(out, continues ? ",\"continues\":true}" : "}");
	return put_end(out);
}

int vl_put_error(struct str *out, const char *error, const json_t *parameters)
{
	str_add(out, "{\"error\":");
	vl_write_text(out, NULL, error);
	str_add(out, ",\"parameters\":");
	if (parameters)
		put_json(out, parameters);
	else
		str_add(out, "{}");
	str_add(out, "}");
	return put_end(out);
}

int vl_put_fault(struct str *out, const struct vl_fault *fault)
{
	str_add(out, "{\"error\":");
	vl_write_text(out, NULL, fault->error);
	str_add(out, ",\"parameters\":");
	vl_write_open(out, NULL, '{');
	if (fault->key)
		vl_write_text(out, fault->key, fault->value);
	vl_write_close(out, '}');
	str_add(out, "}");
	return put_end(out);
}

/* Length of the valid UTF-8 sequence at p, or 0; overlong forms and surrogates are invalid. */
static size_t sequence(const unsigned char *p, size_t len)
{
	size_t n = p[0] < 0x80	 ? 1
		   : p[0] < 0xc2 ? 0
		   : p[0] < 0xe0 ? 2
		   : p[0] < 0xf0 ? 3
		   : p[0] < 0xf5 ? 4
				 : 0;

	if (n == 0 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

json_t *vl_text(const char *text, size_t len)
{
	auto_str clean = { 0 };
	size_t n;

	if (str_utf8_valid(text, len) && !memchr(text, '\0', len))
		return json_stringn(text, len);
	for (size_t i = 0; i < len; i += n ? n : 1) {
		n = sequence((const unsigned char *)text + i, len - i);
		if (n > 0 && text[i] != '\0')
			str_add_bytes(&clean, text + i, n);
		else
			str_add(&clean, "\xef\xbf\xbd");
	}
	return clean.failed ? NULL : json_stringn(clean.data ? clean.data : "", clean.len);
}

#define KEY_MAX 60

/* A comma is needed after anything but an opening bracket, a colon or nothing. One addition for
 * all of it: keys are a third of a large reply. */
static void put_key(struct str *out, const char *key)
{
	char last = out->len > 0 ? out->data[out->len - 1] : '{';
	char text[KEY_MAX + 4] = "", *p = text;
	size_t len = key ? strlen(key) : 0;

	if (last != '{' && last != '[' && last != ':')
		*p++ = ',';
	if (key && len <= KEY_MAX) {
		*p++ = '"';
		p = mempcpy(p, key, len);
		*p++ = '"';
		*p++ = ':';
	}
	str_add_bytes(out, text, (size_t)(p - text));
	if (len > KEY_MAX)
		str_addf(out, "\"%s\":", key);
}

void vl_write_open(struct str *out, const char *key, char bracket)
{
	put_key(out, key);
	str_add_bytes(out, &bracket, 1);
}

void vl_write_close(struct str *out, char bracket)
{
	str_add_bytes(out, &bracket, 1);
}

void vl_write_text(struct str *out, const char *key, const char *text)
{
	if (text)
		vl_write_bytes(out, key, text, strlen(text));
}

/* Bytes that stand in a JSON string as they are. */
static bool plain(unsigned char c)
{
	return c >= 0x20 && c != '"' && c != '\\' && c < 0x7f;
}

/* Most text is plain: copied in one piece. */
static bool put_plain(struct str *out, const char *text, size_t len)
{
	char *at;

	for (size_t i = 0; i < len; i++)
		if (!plain((unsigned char)text[i]))
			return false;
	at = str_extend(out, len + 2);
	if (!at)
		return true; /* out says that it failed */
	at[0] = at[len + 1] = '"';
	if (len > 0)
		memcpy(at + 1, text, len);
	return true;
}

static void put_special(struct str *out, unsigned char c)
{
	if (c == '"' || c == '\\')
		str_addf(out, "\\%c", c);
	else if (c == '\n')
		str_add(out, "\\n");
	else if (c == '\0' || c >= 0x80) /* NUL is refused by most parsers, ours too */
		str_add(out, "\xef\xbf\xbd");
	else
		str_addf(out, "\\u%04x", c);
}

void vl_write_bytes(struct str *out, const char *key, const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t i = 0, n;

	put_key(out, key);
	if (put_plain(out, text, len))
		return;
	str_add_bytes(out, "\"", 1);
	while (i < len) {
		for (n = 0; i + n < len && plain(p[i + n]); n++)
			;
		if (n == 0 && p[i] >= 0x80)
			n = sequence(p + i, len - i);
		if (n == 2 && p[i] == 0xc2 && p[i + 1] < 0xa0) { /* C1: a terminal may obey them */
			str_addf(out, "\\u%04x", p[i + 1]);
			i += n;
		} else if (n > 0) {
			str_add_bytes(out, text + i, n);
			i += n;
		} else {
			put_special(out, p[i++]);
		}
	}
	str_add_bytes(out, "\"", 1);
}

/* Decimal digits of value, at the end of buf; printf is the dearest part of a large reply. */
static char *digits_of(uint64_t value, char *end)
{
	do {
		*--end = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	return end;
}

void vl_write_int(struct str *out, const char *key, int64_t value)
{
	char buf[24], *end = buf + sizeof(buf);
	char *p = digits_of(value < 0 ? -(uint64_t)value : (uint64_t)value, end);

	if (value < 0)
		*--p = '-';
	put_key(out, key);
	str_add_bytes(out, p, (size_t)(end - p));
}

void vl_write_real(struct str *out, const char *key, double value)
{
	char buf[40], *end = buf + sizeof(buf), *p;
	uint64_t thousandths;

	if (!(value > -1e15 && value < 1e15)) /* NaN and infinities are no JSON */
		value = 0;
	thousandths = (uint64_t)((value < 0 ? -value : value) * 1000.0 + 0.5);
	p = digits_of(thousandths % 1000 + 1000, end); /* 1ddd: the 1 gives way to the point */
	*p = '.';
	p = digits_of(thousandths / 1000, p);
	if (value < 0 && thousandths > 0)
		*--p = '-';
	put_key(out, key);
	str_add_bytes(out, p, (size_t)(end - p));
}

void vl_write_bool(struct str *out, const char *key, bool value)
{
	put_key(out, key);
	str_add(out, value ? "true" : "false");
}

void vl_write_null(struct str *out, const char *key)
{
	put_key(out, key);
	str_add(out, "null");
}
