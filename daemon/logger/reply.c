/* Owns the JSON of `logs`. */
#include "logger/reply.h"

#include "logger/record.h"

#include <string.h>

void reply_begin(struct str *out)
{
	str_add(out, "{\"parameters\":{\"lines\":[");
}

static void add_escaped(struct str *out, const char *text, size_t len)
{
	size_t at = out->len;
	char *to = str_extend(out, RECORD_MEMBER_MAX(len)), *end;

	if (!to)
		return;
	end = record_put_escaped(text, len, to);
	str_cut(out, end ? (size_t)(end - out->data) : at);
}

static void add_member(struct str *out, const char *text, size_t len)
{
	char *to = str_extend(out, RECORD_MEMBER_MAX(len));

	if (to)
		str_cut(out, (size_t)(record_put_member(text, len, to) - out->data));
}

static void add_text(struct str *out, const struct reply_line *l)
{
	auto_str joined = { 0 };

	if (l->is_member) {
		str_add_bytes(out, l->text[0], l->len[0]);
		return;
	}
	if (l->len[1] == 0) {
		add_member(out, l->text[0], l->len[0]);
		return;
	}
	str_add_bytes(&joined, l->text[0], l->len[0]);
	str_add_bytes(&joined, l->text[1], l->len[1]);
	if (!joined.failed)
		add_member(out, joined.data, joined.len);
	out->failed |= joined.failed;
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
	str_add(out, l->err ? "\",\"stream\":\"err\"," : "\",\"stream\":\"out\",");
	add_text(out, l);
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
