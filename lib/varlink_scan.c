/* A walk over JSON text. Invariant: s->at never passes s->end, and after a failure nothing moves.
 */
#include "lib/varlink_scan.h"

#include "lib/varlink.h"

#include <stdlib.h>
#include <string.h>

static bool space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_space(struct vl_scan *s)
{
	while (s->at < s->end && space(*s->at))
		s->at++;
}

static bool stop(struct vl_scan *s)
{
	s->failed = true;
	s->at = s->end;
	return false;
}

/* s->at stands on the opening quote; moves behind the closing one. */
static bool skip_string(struct vl_scan *s)
{
	const char *p = s->at + 1;

	for (;;) {
		const char *quote = memchr(p, '"', (size_t)(s->end - p)), *back;
		size_t n = 0;

		if (!quote)
			return stop(s);
		for (back = quote; back > s->at + 1 && back[-1] == '\\'; back--)
			n++;
		p = quote + 1;
		if (n % 2 == 0)
			break;
	}
	s->at = p;
	return true;
}

static bool skip_brackets(struct vl_scan *s)
{
	unsigned depth = 0;

	while (s->at < s->end) {
		char c = *s->at;

		if (c == '"') {
			if (!skip_string(s))
				return false;
			continue;
		}
		s->at++;
		if (c == '{' || c == '[') {
			if (++depth > VL_DEPTH_MAX)
				return stop(s);
		} else if (c == '}' || c == ']') {
			if (--depth == 0)
				return true;
		}
	}
	return stop(s);
}

static bool scalar_end(char c)
{
	return c == ',' || c == '}' || c == ']' || c == ':' || space(c);
}

static bool take_value(struct vl_scan *s, struct vl_slice *value)
{
	const char *from;

	skip_space(s);
	from = s->at;
	if (s->at == s->end)
		return stop(s);
	if (*s->at == '"') {
		if (!skip_string(s))
			return false;
	} else if (*s->at == '{' || *s->at == '[') {
		if (!skip_brackets(s))
			return false;
	} else {
		while (s->at < s->end && !scalar_end(*s->at))
			s->at++;
	}
	if (s->at == from)
		return stop(s);
	*value = (struct vl_slice){ from, (size_t)(s->at - from) };
	return true;
}

bool vl_scan_open(struct vl_scan *s, struct vl_slice value, char bracket)
{
	*s = (struct vl_scan){ value.text, value.text + value.len, false };
	if (!value.text)
		return stop(s);
	skip_space(s);
	if (s->at == s->end || *s->at != bracket)
		return stop(s);
	s->at++;
	return true;
}

/* Behind the bracket or a value: false at the closing bracket; a comma is passed. */
static bool next(struct vl_scan *s)
{
	skip_space(s);
	if (s->at == s->end)
		return stop(s);
	if (*s->at == ',')
		s->at++;
	else if (*s->at == '}' || *s->at == ']')
		return false;
	skip_space(s);
	return true;
}

bool vl_scan_element(struct vl_scan *s, struct vl_slice *value)
{
	return !s->failed && next(s) && take_value(s, value);
}

bool vl_scan_member(struct vl_scan *s, struct vl_slice *key, struct vl_slice *value)
{
	if (s->failed || !next(s) || s->at == s->end || *s->at != '"' || !take_value(s, key))
		return false;
	key->text++;
	key->len -= 2;
	skip_space(s);
	if (s->at == s->end || *s->at != ':')
		return stop(s);
	s->at++;
	return take_value(s, value);
}

bool vl_scan_fields(struct vl_slice object, const char *const *keys, struct vl_slice *ret)
{
	struct vl_slice key, value;
	struct vl_scan s;
	size_t i, n = 0, guess = 0;

	for (; keys[n]; n++)
		ret[n] = (struct vl_slice){ NULL, 0 };
	if (!vl_scan_open(&s, object, '{'))
		return false;
	while (vl_scan_member(&s, &key, &value)) {
		/* members mostly come in the order of the keys: look on from the last hit */
		for (i = 0; i < n && !vl_slice_is(key, keys[(guess + i) % n]); i++)
			;
		if (i == n)
			continue;
		guess = (guess + i) % n;
		ret[guess++] = value;
	}
	return !s.failed;
}

double vl_slice_real(struct vl_slice v, double absent)
{
	char buf[64], *end;
	double value;

	if (!v.text || v.len >= sizeof(buf))
		return absent;
	memcpy(buf, v.text, v.len);
	buf[v.len] = '\0';
	value = strtod(buf, &end);
	return end == buf ? absent : value;
}

int64_t vl_slice_int(struct vl_slice v, int64_t absent)
{
	char buf[32], *end;
	long long value;

	if (!v.text || v.len >= sizeof(buf))
		return absent;
	memcpy(buf, v.text, v.len);
	buf[v.len] = '\0';
	value = strtoll(buf, &end, 10);
	return end == buf ? absent : value;
}

void vl_slice_text(struct vl_slice v, struct str *out)
{
	json_t *text;

	if (!v.text || v.len < 2 || v.text[0] != '"')
		return;
	if (!memchr(v.text, '\\', v.len)) {
		str_add_bytes(out, v.text + 1, v.len - 2);
		return;
	}
	text = json_loadb(v.text, v.len, JSON_DECODE_ANY, NULL);
	if (json_is_string(text))
		str_add_bytes(out, json_string_value(text), json_string_length(text));
	json_decref(text);
}
