/*
 * Owns the text of workers as JSON, in files and in replies to `logs`. Invariant: what
 * record_parse() accepts is one well-formed member, whoever wrote the file; so it can be passed on
 * without being decoded.
 */
#include "logger/record.h"

#include "base/mem.h"
#include "base/str.h"

#include <ctype.h>
#include <string.h>

#define LINE_BEGIN  "\"line\":\""
#define BYTES_BEGIN "\"bytes\":\""

/* Eight bytes that stand for themselves: none a control character, quote, backslash, DEL or beyond
 * ASCII. (A byte below the one subtracted borrows into its top bit.) */
static bool are_plain(uint64_t w)
{
	const uint64_t one = 0x0101010101010101u;
	uint64_t control = w - 0x20 * one, quote = (w ^ '"' * one) - one,
		 slash = (w ^ '\\' * one) - one, del = (w ^ 0x7f * one) - one;

	return ((w | control | quote | slash | del) & 0x80 * one) == 0;
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static size_t plain_run(const char *text, size_t len)
{
	size_t n = 0;
	uint64_t w;

	for (; len - n >= sizeof(w); n += sizeof(w)) {
		memcpy(&w, text + n, sizeof(w));
		if (!are_plain(w))
			break;
	}
	while (n < len && is_plain((unsigned char)text[n]))
		n++;
	return n;
}

static char *put_code(unsigned char c, char *out)
{
	static const char hex[] = "0123456789abcdef";
	static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";

	for (size_t i = 0; i + 1 < sizeof(names); i += 2) {
		if (names[i] == (char)c)
			return mempcpy(out, (char[]){ '\\', names[i + 1] }, 2);
	}
	return mempcpy(out, (char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6);
}

char *record_put_escaped(const char *text, size_t len, char *out)
{
	while (len > 0) {
		size_t n = plain_run(text, len);

		if (n > 0) {
			out = mempcpy(out, text, n);
		} else if ((n = str_utf8_next(text, len)) > 1) {
			out = mempcpy(out, text, n);
		} else if (n == 1 && *text != '\0') {
			out = put_code((unsigned char)*text, out);
		} else {
			return NULL;
		}
		text += n;
		len -= n;
	}
	return out;
}

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *put_base64(const unsigned char *p, size_t len, char *out)
{
	for (size_t i = 0; i < len; i += 3) {
		size_t n = MIN_OF(len - i, 3u);
		uint32_t bits = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
				(n > 2 ? p[i + 2] : 0);

		*out++ = digits[bits >> 18];
		*out++ = digits[bits >> 12 & 63];
		*out++ = n > 1 ? digits[bits >> 6 & 63] : '=';
		*out++ = n > 2 ? digits[bits & 63] : '=';
	}
	return out;
}

char *record_put_member(const char *text, size_t len, char *out)
{
	char *end = record_put_escaped(text, len, mempcpy(out, LINE_BEGIN, strlen(LINE_BEGIN)));

	if (!end)
		end = put_base64((const unsigned char *)text, len,
				 mempcpy(out, BYTES_BEGIN, strlen(BYTES_BEGIN)));
	*end++ = '"';
	return end;
}

/* ---- reading back ---- */

static bool skip(const char **at, const char *end, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(end - *at) < n || memcmp(*at, word, n) != 0)
		return false;
	*at += n;
	return true;
}

/* Bytes of the escape at p, of those that put_code() writes; 0 if it is none. */
static size_t escape_len(const char *p, const char *end)
{
	if (end - p >= 2 && p[1] != '\0' && strchr("\"\\bfnrt", p[1]))
		return 2;
	if (end - p < 6 || memcmp(p, "\\u00", 4) != 0 || memcmp(p + 4, "00", 2) == 0)
		return 0;
	return isxdigit((unsigned char)p[4]) && isxdigit((unsigned char)p[5]) ? 6 : 0;
}

/* Up to the quote that ends it. */
static bool skip_line(const char **at, const char *end)
{
	while (*at < end && **at != '"') {
		size_t n = plain_run(*at, (size_t)(end - *at));

		if (n == 0 && **at == '\\')
			n = escape_len(*at, end);
		else if (n == 0 && (unsigned char)**at >= 0x80)
			n = str_utf8_next(*at, (size_t)(end - *at));
		if (n == 0)
			return false;
		*at += n;
	}
	return skip(at, end, "\"");
}

static bool skip_bytes(const char **at, const char *end)
{
	const char *begin = *at;
	size_t padding = 0;

	while (*at < end && **at != '\0' && strchr(digits, **at))
		(*at)++;
	while (padding < 2 && skip(at, end, "="))
		padding++;
	return (*at - begin) % 4 == 0 && skip(at, end, "\"");
}

static bool skip_member(const char **at, const char *end)
{
	if (skip(at, end, LINE_BEGIN))
		return skip_line(at, end);
	return skip(at, end, BYTES_BEGIN) && skip_bytes(at, end);
}

/* "lost_bytes":N, */
static bool skip_lost(const char **at, const char *end)
{
	if (!skip(at, end, "\"lost_bytes\":"))
		return true;
	while (*at < end && **at >= '0' && **at <= '9')
		(*at)++;
	return skip(at, end, ",");
}

/* Time and worker. */
static bool skip_head(const char **at, const char *end, struct history_line *ret)
{
	if (!skip(at, end, "{\"time\":\"") || end - *at < HISTORY_STAMP)
		return false;
	ret->at = *at;
	if ((*at)[10] != 'T' || (*at)[HISTORY_STAMP - 1] != 'Z' ||
	    plain_run(*at, HISTORY_STAMP) != HISTORY_STAMP)
		return false;
	*at += HISTORY_STAMP;
	if (!skip(at, end, "\",\"worker\":\""))
		return false;
	ret->worker = *at;
	ret->worker_len = plain_run(*at, (size_t)(end - *at));
	*at += ret->worker_len;
	return ret->worker_len > 0;
}

bool record_parse(const char *line, size_t len, struct history_line *ret)
{
	const char *at = line, *end = line + len;
	struct history_line l = { .is_member = true };

	if (!skip_head(&at, end, &l))
		return false;
	l.err = skip(&at, end, "\",\"stream\":\"err\",");
	if ((!l.err && !skip(&at, end, "\",\"stream\":\"out\",")) || !skip_lost(&at, end))
		return false;
	l.text = at;
	if (!skip_member(&at, end))
		return false;
	l.len = (size_t)(at - l.text);
	l.partial = skip(&at, end, ",\"partial\":true");
	if (!skip(&at, end, "}") || at != end)
		return false;
	*ret = l;
	return true;
}
