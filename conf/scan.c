/* Owns the structure of the scan: settings and blocks, duplicate names, the size caps, and the
 * plain copy that libconfig gets. */
#include "scan.h"

#include "base/mem.h"
#include "scan_token.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define INDENT_MAX 200 /* columns looked at */

struct block {
	unsigned id;
	int line, indent;
	size_t keys;
};

struct counts {
	unsigned blocks;
	size_t keys, pairs;
};

void scan_emit(struct scan *s, int line, const char *text, size_t len)
{
	for (; s->out_line < line; s->out_line++)
		str_add(s->out, "\n");
	str_add_bytes(s->out, text, len);
	str_add(s->out, " ");
}

static void go_back(struct scan *s, size_t len, int line)
{
	if (!s->out->data)
		return;
	s->out->len = len;
	s->out->data[len] = '\0';
	s->out_line = line;
}

/* Columns of blanks before the first token of the line that `at` is in; -1 = `at` is not it. */
static int indent_of(const struct scan *s, const char *at, bool first)
{
	const char *p = at;
	int n = 0;

	while (p > s->start && p[-1] != '\n' && at - p < INDENT_MAX)
		p--;
	for (; *p == ' ' || *p == '\t'; p++)
		n += *p == '\t' ? 8 : 1;
	return first && p != at ? -1 : n;
}

static bool is_boolean(const struct token *t)
{
	return (t->len == 4 && strncasecmp(t->start, "true", 4) == 0) ||
	       (t->len == 5 && strncasecmp(t->start, "false", 5) == 0);
}

static bool good_name(const struct token *t)
{
	if (t->kind != TOKEN_RUN || (!isalpha((unsigned char)t->start[0]) && t->start[0] != '*'))
		return false;
	for (size_t i = 0; i < t->len; i++)
		if (strchr(".+", t->start[i]))
			return false;
	return !is_boolean(t);
}

static bool is_env(const struct scan *s)
{
	return s->outer_len == 3 && strncmp(s->outer, "env", 3) == 0;
}

static void bad_name(struct scan *s, const struct token *t)
{
	const char *letters = "";
	char mended[80];

	for (size_t i = 0; i < t->len; i++)
		if ((unsigned char)t->start[i] >= 0x80)
			letters = " (letters are a-z and A-Z)";
	snprintf(mended, sizeof(mended), "%.*s", (int)MIN_OF(t->len, sizeof(mended) - 1), t->start);
	if (t->kind == TOKEN_STRING && t->len > 2 && t->len < sizeof(mended)) {
		snprintf(mended, sizeof(mended), "%.*s", (int)t->len - 2, t->start + 1);
		scan_mended(s, t->line, t->start, t->len, mended, "names stand without quotes");
	} else if (is_boolean(t)) {
		scan_error(s, t->line, "\"%s\" is no name but a boolean", mended);
	} else if (is_env(s)) {
		scan_error(s, t->line,
			   "\"%.64s\" cannot stand in a block: a letter, then letters, digits, _ "
			   "and -%s; a list takes it, for example: env = [ \"%.64s=value\" ];",
			   mended, letters, mended);
	} else {
		scan_error(s, t->line,
			   "\"%.64s\" is no name: a letter, then letters, digits, _ and -%s",
			   mended, letters);
	}
}

/* stop.signal: names with dots between them, as the manual tells of keys in blocks. */
static bool is_dotted(const struct token *t)
{
	size_t dots = 0;

	for (size_t i = 0; i < t->len; i++) {
		bool first = i == 0 || t->start[i - 1] == '.';

		if (first ? !isalpha((unsigned char)t->start[i])
			  : !isalnum((unsigned char)t->start[i]) && !strchr("._-", t->start[i]))
			return false;
		dots += t->start[i] == '.';
	}
	return t->kind == TOKEN_RUN && dots > 0 && t->start[t->len - 1] != '.';
}

/* Behind the value of such a setting. What is long or on several lines is not written again. */
static void say_dotted(struct scan *s, const struct token *name, const struct token *value)
{
	const char *end = s->token.start;
	auto_str mended = { 0 };
	size_t blocks = 0;

	while (end > value->start && strchr(" \t\r\n", end[-1]))
		end--;
	for (size_t i = 0; i < name->len; i++) {
		bool dot = name->start[i] == '.';

		str_add_bytes(&mended, dot ? ": { " : &name->start[i], dot ? 4 : 1);
		blocks += dot;
	}
	str_add(&mended, " = ");
	str_add_bytes(&mended, value->start, (size_t)(end - value->start));
	for (str_add(&mended, ";"); blocks > 0; blocks--)
		str_add(&mended, blocks > 1 ? " };" : " }");
	if (mended.len < 150 && !memchr(value->start, '\n', (size_t)(end - value->start)))
		scan_mended(s, name->line, name->start, (size_t)(end - name->start), mended.data,
			    "\"%.*s\": a block is written with braces", (int)name->len,
			    name->start);
	else
		scan_error(s, name->line, "\"%.*s\": a block is written with braces",
			   (int)MIN_OF(name->len, (size_t)64), name->start);
}

static bool count_key(struct scan *s, struct block *b, struct counts *c, int line)
{
	c->keys++;
	c->pairs += b->keys++;
	if (b->keys > SCAN_BLOCK_MAX)
		scan_error(s, line, "more than %d keys in one block", SCAN_BLOCK_MAX);
	else if (c->keys > SCAN_KEYS_MAX)
		scan_error(s, line, "more than %d keys in one file", SCAN_KEYS_MAX);
	else if (c->pairs > SCAN_PAIRS_MAX)
		scan_error(s, line, "too many keys in large blocks; split the file with include");
	else
		return true;
	s->stop = s->broken = true;
	return false;
}

/* At the mark behind a name. False: there is no value to read. */
static bool scan_mark(struct scan *s, const struct token *name)
{
	struct token t = s->token;
	bool value;

	if (token_is(s, '=') || token_is(s, ':')) {
		token_next(s);
		if (token_is(s, '=') || token_is(s, ':')) {
			scan_mended(s, s->token.line, t.start,
				    (size_t)(s->token.start + 1 - t.start), "=",
				    "one = or : is enough");
			token_next(s);
		}
		value = s->token.kind != TOKEN_END &&
			(s->token.kind != TOKEN_MARK || strchr("{[(", *s->token.start));
		if (!value)
			scan_error(s, t.line, "%.*s has no value",
				   (int)MIN_OF(name->len, (size_t)64), name->start);
		return value;
	}
	value = t.line == name->line && t.kind != TOKEN_END &&
		(t.kind != TOKEN_MARK || strchr("{[(", *t.start));
	if (!value) {
		scan_error(s, name->line, "%.*s has no value; for example: %.*s = ...;",
			   (int)MIN_OF(name->len, (size_t)64), name->start,
			   (int)MIN_OF(name->len, (size_t)64), name->start);
		return false;
	}
	scan_mended(s, name->line, name->start + name->len, 0, token_is(s, '{') ? ":" : " =",
		    "after %.*s a = or : is missing", (int)MIN_OF(name->len, (size_t)64),
		    name->start);
	return value;
}

/* One setting. Whatever is wrong with it leaves it out of the plain copy. */
static void scan_setting(struct scan *s, struct block *b, struct counts *c)
{
	struct token name = s->token;
	size_t out_len = s->out->len;
	int out_line = s->out_line, before;
	bool keep = true, dotted = false;
	struct token value;

	if (!count_key(s, b, c, name.line))
		return;
	if (!good_name(&name)) {
		dotted = is_dotted(&name) && !is_env(s);
		if (!dotted)
			bad_name(s, &name);
		keep = false;
	} else {
		before = seen_add(s, b->id, name.start, name.len, name.line);
		if (before > 0)
			scan_error(s, name.line, "%.*s%s%.*s is written twice, first in line %d",
				   (int)MIN_OF(s->outer_len, (size_t)64), s->outer ? s->outer : "",
				   s->outer_len ? ": " : "", (int)MIN_OF(name.len, (size_t)64),
				   name.start, before);
		if (before < 0)
			s->out->failed = true;
		keep = before == 0;
	}
	scan_emit(s, name.line, name.start, name.len);
	token_next(s);
	if (!scan_mark(s, &name)) {
		go_back(s, out_len, out_line);
		return;
	}
	scan_emit(s, s->token.line, token_is(s, '{') ? ":" : "=", 1);
	s->name = name.start;
	s->name_len = name.len;
	s->in_list = false;
	value = s->token;
	scan_value(s);
	if (dotted && !s->broken)
		say_dotted(s, &name, &value);
	scan_emit(s, s->out_line, ";", 1);
	if (!keep)
		go_back(s, out_len, out_line);
}

/* @include "x" and the like: up to the line end. */
static void scan_at(struct scan *s)
{
	struct token t = s->token;
	struct token next = token_peek(s);

	if (t.len >= 8 && strncmp(t.start, "@include", 8) == 0)
		scan_error(s, t.line, "@include is not read; write: include = [ %.*s ];",
			   next.kind == TOKEN_STRING ? (int)MIN_OF(next.len, (size_t)200) : 18,
			   next.kind == TOKEN_STRING ? next.start : "\"conf.d/*.conf\"   ");
	else
		scan_error(s, t.line, "%.*s means nothing here", (int)MIN_OF(t.len, (size_t)40),
			   t.start);
	while (s->token.line == t.line && s->token.kind != TOKEN_END && !s->stop)
		token_next(s);
}

static void stray(struct scan *s, bool after_separator)
{
	struct token t = s->token;
	bool discard = false;

	if (token_is(s, ';') || token_is(s, ','))
		scan_mended(s, t.line, t.start, 1, "",
			    after_separator ? "%.1s after another one" : "%.1s without a setting",
			    t.start);
	else if (token_is(s, '=') || token_is(s, ':'))
		scan_error(s, t.line, "%.1s without a name before it", t.start);
	else if (t.kind == TOKEN_MARK && strchr("}])", *t.start))
		scan_error(s, t.line, "%.1s closes nothing", t.start);
	else
		scan_error(s, t.line, "%.*s means nothing here", (int)MIN_OF(t.len, (size_t)40),
			   t.start);
	if (token_is(s, '=') || token_is(s, ':')) { /* its value goes with it */
		token_next(s);
		if (s->token.kind == TOKEN_END ||
		    (s->token.kind == TOKEN_MARK && !strchr("{[(", *s->token.start)))
			return;
		discard = true;
	}
	if (discard || token_is(s, '{') || token_is(s, '[') || token_is(s, '(')) {
		size_t len = s->out->len;
		int line = s->out_line;

		scan_value(s);
		go_back(s, len, line);
	} else {
		if (token_is(s, '}') || token_is(s, ']') || token_is(s, ')'))
			s->broken = true;
		token_next(s);
	}
}

/* A } further left than its { says that an inner one is missing. */
static void look_at_indent(struct scan *s, const struct block *b)
{
	int indent = indent_of(s, s->token.start, true);

	if (indent >= 0 && indent < b->indent && !s->suspect_line && s->token.line != b->line)
		s->suspect_line = b->line;
}

/* `a/b: …` is lexed as a text that holds the mark: where a name is meant it ends there. */
static void cut_name(struct scan *s)
{
	struct token *t = &s->token;
	size_t n = 0;

	while (n < t->len && !strchr("=:", t->start[n]))
		n++;
	if (t->kind != TOKEN_TEXT || n == 0 || n == t->len)
		return;
	s->p = t->start + n;
	t->len = n;
}

static void settings(struct scan *s, bool inner, struct counts *c)
{
	struct block b = { .id = c->blocks++, .line = s->brace.line };
	bool separator = true; /* at the beginning none may stand either */

	b.indent = inner ? indent_of(s, s->brace.start, false) : 0;
	while (!s->stop && s->token.kind != TOKEN_END) {
		bool is_separator = token_is(s, ';') || token_is(s, ',');

		if (token_is(s, '}') && inner) {
			look_at_indent(s, &b);
			return;
		}
		if (is_separator && !separator) {
			token_next(s);
		} else if (s->token.kind == TOKEN_RUN || s->token.kind == TOKEN_STRING ||
			   s->token.kind == TOKEN_TEXT) {
			cut_name(s);
			scan_setting(s, &b, c);
		} else if (s->token.kind == TOKEN_AT) {
			scan_at(s);
		} else {
			stray(s, b.keys > 0);
		}
		separator = is_separator;
	}
}

void scan_settings(struct scan *s, bool inner)
{
	settings(s, inner, s->counts);
}

/* Things that make the rest unreadable. False: stop. */
static bool check_bytes(struct scan *s)
{
	const char *nul = memchr(s->p, '\0', (size_t)(s->end - s->p));
	int line = 1;

	if (s->end - s->p >= 2 &&
	    (memcmp(s->p, "\xff\xfe", 2) == 0 || memcmp(s->p, "\xfe\xff", 2) == 0)) {
		scan_error(s, 1, "this is UTF-16; save it as UTF-8");
		return false;
	}
	if (s->end - s->p >= 3 && memcmp(s->p, "\xef\xbb\xbf", 3) == 0) {
		scan_error(s, 1,
			   "the file begins with a byte order mark; save it as UTF-8 without one");
		s->start = s->p += 3;
	}
	for (const char *p = s->p; nul && p < nul; p++)
		line += *p == '\n';
	if (nul) {
		scan_error(s, line, "a NUL byte; this is no text");
		return false;
	}
	if (str_utf8_valid(s->p, (size_t)(s->end - s->p)))
		return true;
	for (const char *p = s->p; p < s->end; line++) {
		const char *end = memchr(p, '\n', (size_t)(s->end - p));

		end = end ? end : s->end;
		if (!str_utf8_valid(p, (size_t)(end - p))) {
			scan_error(s, line, "bytes that are no UTF-8; save the file as UTF-8");
			break;
		}
		p = end + 1;
	}
	return false;
}

int scan_text(const char *text, size_t len, const char *file, struct conf_report *report,
	      struct str *out)
{
	struct counts counts = { 0 };
	struct scan s = { .start = text,
			  .p = text,
			  .end = text + len,
			  .line = 1,
			  .file = file,
			  .report = report,
			  .out = out,
			  .out_line = 1,
			  .counts = &counts };

	s.seen = seen_new();
	if (!s.seen)
		return -ENOMEM;
	str_add(out, "");
	if (check_bytes(&s)) {
		token_next(&s);
		settings(&s, false, &counts);
	} else {
		s.broken = true;
	}
	seen_free(s.seen);
	if (out->failed)
		return -ENOMEM;
	if (s.broken)
		str_fini(out);
	return s.errors > 0 ? -EINVAL : 0;
}
