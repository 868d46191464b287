/* Owns the JSON of `logs`. A line that is no UTF-8, or holds a NUL, goes as base64: JSON carries
 * neither without loss. */
#include "logger/reply.h"

#include "base/mem.h"

#include <string.h>

void reply_begin(struct str *out)
{
	str_add(out, "{\"parameters\":{\"lines\":[");
}

/* The bytes that JSON wants escaped; text was checked to be UTF-8. */
static void add_escaped(struct str *out, const char *text, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	size_t from = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		char code[7] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15], '\0' };

		if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
			continue;
		str_add_bytes(out, text + from, i - from);
		str_add(out, code);
		from = i + 1;
	}
	str_add_bytes(out, text + from, len - from);
}

static void add_base64(struct str *out, const unsigned char *p, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		size_t n = MIN_OF(len - i, 3u);
		uint32_t bits = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
				(n > 2 ? p[i + 2] : 0);
		char code[4] = { digits[bits >> 18], digits[bits >> 12 & 63],
				 n > 1 ? digits[bits >> 6 & 63] : '=',
				 n > 2 ? digits[bits & 63] : '=' };

		str_add_bytes(out, code, sizeof(code));
	}
}

static void add_text(struct str *out, const char *text, size_t len)
{
	if (str_utf8_valid(text, len) && !memchr(text, '\0', len)) {
		str_add(out, ",\"line\":\"");
		add_escaped(out, text, len);
	} else {
		str_add(out, ",\"bytes\":\"");
		add_base64(out, (const unsigned char *)text, len);
	}
	str_add(out, "\"");
}

void reply_add(struct str *out, const struct reply_line *l)
{
	bool first = out->len > 0 && out->data[out->len - 1] == '[';

	str_add(out, first ? "{\"worker\":\"" : ",{\"worker\":\"");
	add_escaped(out, l->worker, l->worker_len);
	if (l->at) {
		str_add(out, "\",\"at\":\"");
		str_add_bytes(out, l->at, l->at_len);
	}
	str_add(out, l->err ? "\",\"stream\":\"err\"" : "\",\"stream\":\"out\"");
	if (l->len[1] == 0) {
		add_text(out, l->text[0], l->len[0]);
	} else {
		auto_str joined = { 0 };

		str_add_bytes(&joined, l->text[0], l->len[0]);
		str_add_bytes(&joined, l->text[1], l->len[1]);
		if (!joined.failed)
			add_text(out, joined.data, joined.len);
		out->failed |= joined.failed;
	}
	if (l->end > 0)
		str_addf(out, ",\"place\":\"%u:%llu\"", l->stream, (unsigned long long)l->end);
	str_add(out, l->partial ? ",\"partial\":true}" : "}");
}

void reply_end(struct str *out, uint64_t lost, const char *places, bool continues)
{
	str_add(out, "]");
	if (lost > 0)
		str_addf(out, ",\"lost_bytes\":%llu", (unsigned long long)lost);
	if (places[0])
		str_addf(out, ",\"places\":\"%s\"", places);
	str_add(out, continues ? "},\"continues\":true}" : "}}");
	str_add_bytes(out, "", 1);
}

void reply_failed(struct str *out, const char *text)
{
	str_add(out, "{\"error\":\"org.reeve.Control.Failed\",\"parameters\":{\"text\":\"");
	add_escaped(out, text, strlen(text));
	str_add(out, "\"}}");
	str_add_bytes(out, "", 1);
}
