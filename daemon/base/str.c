/* Owns struct str's memory and nothing else. */
#include "base/str.h"

#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

void str_fini(struct str *s)
{
	free(s->data);
	*s = (struct str){ 0 };
}

static bool reserve(struct str *s, size_t more)
{
	size_t want = s->len + more + 1, size = s->size ? s->size : 64;
	char *data;

	if (s->failed || want < more)
		return false;
	if (want <= s->size)
		return true;
	while (size < want)
		size *= 2;
	data = realloc(s->data, size);
	if (!data) {
		s->failed = true;
		return false;
	}
	s->data = data;
	s->size = size;
	return true;
}

void str_add_bytes(struct str *s, const void *bytes, size_t len)
{
	if (!reserve(s, len))
		return;
	if (len > 0)
		memcpy(s->data + s->len, bytes, len);
	s->len += len;
	s->data[s->len] = '\0';
}

char *str_extend(struct str *s, size_t n)
{
	if (!reserve(s, n))
		return NULL;
	s->len += n;
	s->data[s->len] = '\0';
	return s->data + s->len - n;
}

void str_add(struct str *s, const char *text)
{
	str_add_bytes(s, text, strlen(text));
}

void str_addf(struct str *s, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	if (n < 0 || !reserve(s, (size_t)n))
		return;
	va_start(ap, format);
	vsnprintf(s->data + s->len, (size_t)n + 1, format, ap);
	va_end(ap);
	s->len += (size_t)n;
}

void str_cut(struct str *s, size_t n)
{
	s->len = n;
	s->data[n] = '\0';
}

void str_eat(struct str *s, size_t n)
{
	if (n == 0)
		return;
	memmove(s->data, s->data + n, s->len - n);
	s->len -= n;
	s->data[s->len] = '\0';
}

size_t str_utf8_next(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 0;
	uint32_t c;

	if (n == 0 || p[0] > 0xf4 || n > len)
		return 0;
	if (n == 1)
		return 1;
	c = p[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3fu);
	}
	if ((n == 3 && (c < 0x800 || (c >= 0xd800 && c <= 0xdfff))) ||
	    (n == 4 && (c < 0x10000 || c > 0x10ffff)))
		return 0;
	return n;
}

bool str_utf8_valid(const char *text, size_t len)
{
	while (len > 0) {
		size_t n = str_utf8_next(text, len);

		if (n == 0)
			return false;
		text += n;
		len -= n;
	}
	return true;
}

size_t str_escape(const char *text, size_t len, char *ret, size_t size)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t out = 0;

	while (len > 0) {
		size_t n = str_utf8_next((const char *)p, len);
		/* C1 controls are two bytes in UTF-8 and some terminals obey them. */
		bool control = n == 0 || p[0] < 0x20 || p[0] == 0x7f ||
			       (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);

		if (out + 5 >= size)
			break;
		if (!control) {
			memcpy(ret + out, p, n);
			out += n;
		} else if (p[0] == '\n' || p[0] == '\t' || p[0] == 0x1b) {
			ret[out++] = '\\';
			ret[out++] = p[0] == '\n' ? 'n' : p[0] == '\t' ? 't' : 'e';
			n = 1;
		} else {
			out += (size_t)snprintf(ret + out, size - out, "\\x%02x", p[0]);
			n = 1;
		}
		p += n;
		len -= n;
	}
	if (size > 0)
		ret[out] = '\0';
	return out;
}

int str_distance(const char *a, const char *b)
{
	size_t la = strnlen(a, 64), lb = strnlen(b, 64);
	int row[65];

	for (size_t j = 0; j <= lb; j++)
		row[j] = (int)j;
	for (size_t i = 1; i <= la; i++) {
		int diagonal = row[0];

		row[0] = (int)i;
		for (size_t j = 1; j <= lb; j++) {
			int above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);

			best = MIN_OF(best, MIN_OF(above, row[j - 1]) + 1);
			diagonal = above;
			row[j] = best;
		}
	}
	return row[lb];
}

const char *str_nearest(const char *word, const char *const *names, size_t n)
{
	int best = 2 + (int)strnlen(word, 64) / 3;
	const char *found = NULL;

	for (size_t i = 0; i < n; i++) {
		int d = str_distance(word, names[i]);

		if (d < best) {
			best = d;
			found = names[i];
		}
	}
	return found;
}

int str_to_int(const char *text, long long min, long long max, long long *ret)
{
	const char *digits = text[0] == '-' ? text + 1 : text;
	char *end;
	long long v;

	if (digits[0] < '0' || digits[0] > '9')
		return -EINVAL;
	errno = 0;
	v = strtoll(text, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno == ERANGE || v < min || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}
