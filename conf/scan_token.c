/* Owns the lexer. It is more lenient than libconfig's, so that a mistake becomes a token that can
 * be named instead of a syntax error. */
#include "scan_token.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define LINE_MAX_SHOWN 160
#define TEXT_MAX       1000 /* of a word in single quotes; looking on would be quadratic */
#define RUN_CHARS      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_*.+-"

static void say(struct scan *s, int line, const struct str *text)
{
	if (++s->errors >= PROBLEMS_MAX) /* nobody reads on, and each costs time */
		s->stop = s->broken = true;
	report_add(s->report, false, s->file, line, "%s", text->data ? text->data : "");
}

void scan_error(struct scan *s, int line, const char *format, ...)
{
	auto_str text = { 0 };
	char buf[700];
	va_list ap;

	if (s->quiet)
		return;
	va_start(ap, format);
	vsnprintf(buf, sizeof(buf), format, ap);
	va_end(ap);
	str_add(&text, buf);
	say(s, line, &text);
}

/* The source line around `at` without blanks at its ends; nothing where it is long, since a part of
 * a line is no line that can be written. */
static void add_mended(struct scan *s, const char *at, size_t len, const char *by, struct str *out)
{
	const char *from = at, *to = at + len;
	size_t room = 160;

	while (from > s->start && from[-1] != '\n' && at - from < LINE_MAX_SHOWN)
		from--;
	while (from < at && (*from == ' ' || *from == '\t'))
		from++;
	while (to < s->end && *to != '\n' && *to != '\r' &&
	       (size_t)(to - at) < len + LINE_MAX_SHOWN)
		to++;
	while (to > at + len && (to[-1] == ' ' || to[-1] == '\t'))
		to--;
	if ((from > s->start && from[-1] != '\n' && at - from >= LINE_MAX_SHOWN) ||
	    (to < s->end && *to != '\n' && *to != '\r' &&
	     (size_t)(to - at) >= len + LINE_MAX_SHOWN))
		return;
	str_add_bytes(out, from, (size_t)(at - from));
	str_add_bytes(out, by, strnlen(by, room));
	str_add_bytes(out, at + len, (size_t)(to - at) - len);
}

void scan_mended(struct scan *s, int line, const char *at, size_t len, const char *by,
		 const char *format, ...)
{
	auto_str text = { 0 }, mended = { 0 };
	char buf[300], shown[400];
	va_list ap;

	if (s->quiet)
		return;
	va_start(ap, format);
	vsnprintf(buf, sizeof(buf), format, ap);
	va_end(ap);
	add_mended(s, at, len, by, &mended);
	str_add(&text, buf);
	if (mended.len > 0) {
		str_escape(mended.data, mended.len, shown, sizeof(shown));
		str_addf(&text, "; write: %s", shown);
	}
	say(s, line, &text);
}

/* Behind a comment; an open one is said. */
static void skip_comment(struct scan *s)
{
	const char *from = s->p;
	int line = s->line;

	if (*s->p == '#' || s->p[1] == '/') {
		while (s->p < s->end && *s->p != '\n')
			s->p++;
		return;
	}
	for (s->p += 2; s->p < s->end; s->p++) {
		if (*s->p == '\n')
			s->line++;
		if (*s->p == '*' && s->p + 1 < s->end && s->p[1] == '/') {
			s->p += 2;
			return;
		}
	}
	scan_error(s, line, "the comment %.2s that begins here is never closed; it ends with */",
		   from);
}

static void skip_blanks(struct scan *s)
{
	for (; s->p < s->end; s->p++) {
		if (*s->p == '\n') {
			s->line++;
		} else if (*s->p == '#' || (*s->p == '/' && s->p + 1 < s->end &&
					    (s->p[1] == '/' || s->p[1] == '*'))) {
			skip_comment(s);
			s->p--;
		} else if (!strchr(" \t\r\f\v", *s->p)) {
			return;
		}
	}
}

/*
 * Is the quote at `close` the end of a string that runs over a line end, or the beginning of the
 * next string, the end of this one being missing? The end is followed by a mark, a comment or the
 * line end.
 */
static bool closes(const struct scan *s, const char *close)
{
	const char *p = close + 1;

	while (p < s->end && (*p == ' ' || *p == '\t' || *p == '\r'))
		p++;
	return p >= s->end || strchr(";,])}\n#", *p) ||
	       (*p == '/' && p + 1 < s->end && p[1] == '/');
}

/* The quote that ends the string whose text begins at p; NULL if there is none. */
static const char *find_close(const struct scan *s, const char *p)
{
	bool lines = false;

	for (; p < s->end; p++) {
		if (*p == '\\' && p + 1 < s->end)
			p++;
		else if (*p == '"')
			return !lines || closes(s, p) ? p : NULL;
		else if (*p == '\n')
			lines = true;
	}
	return NULL;
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef0123456789ABCDEF", *at = c ? strchr(digits, c) : NULL;

	return at ? (int)((at - digits) % 16) : -1;
}

/* One escape at p (behind the backslash) into *text. The bytes taken, 0 = a mistake, said. */
static size_t read_escape(struct scan *s, int line, const char *p, struct str *text)
{
	static const char letters[] = "\\\"nrtf", values[] = "\\\"\n\r\t\f";
	const char *at = *p ? strchr(letters, *p) : NULL;
	char mended[4] = { '\\', '\\', *p, '\0' };
	int high, low;
	char c;

	if (at) {
		str_add_bytes(text, &values[at - letters], 1);
		return 1;
	}
	if (*p != 'x') {
		scan_mended(s, line, p - 1, 2, mended,
			    "\\%c is no escape; known are \\\\ \\\" \\n "
			    "\\r \\t \\f \\x41",
			    *p >= ' ' ? *p : '?');
		return 0;
	}
	high = p + 2 < s->end ? hex_digit(p[1]) : -1;
	low = high >= 0 ? hex_digit(p[2]) : -1;
	if (low < 0) {
		scan_error(s, line, "\\x needs two hexadecimal digits, as in \\x41");
		return 0;
	}
	if (high == 0 && low == 0) {
		scan_error(s, line,
			   "\\x00 would end the string here: a string cannot hold it; "
			   "leave it out");
		return 0;
	}
	c = (char)(high * 16 + low);
	str_add_bytes(text, &c, 1);
	return 3;
}

/* Go through the string's text; false if there is a mistake in it. */
static bool check_string(struct scan *s, const char *p, const char *close)
{
	auto_str text = { 0 };
	int line = s->line;
	bool good = true;

	while (p < close) {
		unsigned char c = (unsigned char)*p;

		if (c == '\\') {
			size_t n = read_escape(s, line, p + 1, &text);

			good &= n > 0;
			p += 1 + (n ? n : 1);
			continue;
		}
		if (c == '\n')
			line++;
		if ((c < 0x20 && !strchr("\n\r\t", c)) || c == 0x7f) {
			scan_error(s, line,
				   "a raw control character in a string, which is written \\x%02x",
				   c);
			good = false;
		}
		str_add_bytes(&text, p++, 1);
	}
	if (text.len > SCAN_STRING_MAX) {
		scan_error(s, s->line, "a string of %zu bytes; at most %d are possible", text.len,
			   SCAN_STRING_MAX);
		return false;
	}
	if (good && text.data && !str_utf8_valid(text.data, text.len)) {
		scan_error(s, s->line, "the \\x escapes of this string give no valid UTF-8");
		return false;
	}
	return good && !text.failed;
}

static size_t span(const struct scan *s, const char *chars, bool in)
{
	const char *p = s->p;

	while (p < s->end && *p && (strchr(chars, *p) != NULL) == in)
		p++;
	return (size_t)(p - s->p);
}

static void read_string(struct scan *s)
{
	const char *close = find_close(s, s->p + 1);
	struct token *t = &s->token;

	t->kind = TOKEN_STRING;
	if (!close) {
		/* Where it was meant to end nobody knows: before a ; or the marks at the line end.
		 */
		size_t line = span(s, "\n", false);
		const char *end = memchr(s->p, ';', line);

		end = end ? end : s->p + line;
		while (end > s->p + 1 && strchr(" \t\r,)]}", end[-1]))
			end--;
		scan_mended(s, s->line, end, 0, "\"",
			    "the string that begins here is never closed");
		t->bad = true;
		s->p = end;
	} else {
		t->bad = !check_string(s, s->p + 1, close);
		for (const char *p = s->p; p < close; p++)
			s->line += *p == '\n';
		s->p = close + 1;
	}
	t->len = (size_t)(s->p - t->start);
}

/* '…', /path, $NAME: up to the closing quote, or to a blank or mark. */
static size_t text_length(const struct scan *s)
{
	const char *close = NULL;

	if (*s->p == '\'') {
		size_t room = MIN_OF((size_t)(s->end - s->p), (size_t)TEXT_MAX);
		const char *line = memchr(s->p, '\n', room);

		room = line ? (size_t)(line - s->p) : room;
		close = memchr(s->p + 1, '\'', room - 1);
	}
	if (close)
		return (size_t)(close + 1 - s->p);
	return MAX_OF(span(s, " \t\r\n;,{}[]()\"", false), 1);
}

void token_next(struct scan *s)
{
	struct token *t = &s->token;

	skip_blanks(s);
	*t = (struct token){ .start = s->p, .line = s->line };
	if (s->stop || s->p >= s->end)
		return;
	if (*s->p == '"') {
		read_string(s);
		return;
	}
	if (strchr("=:;,{}[]()", *s->p)) {
		t->kind = TOKEN_MARK;
		t->len = 1;
	} else if (strchr(RUN_CHARS, *s->p)) {
		t->kind = TOKEN_RUN;
		t->len = span(s, RUN_CHARS, true);
		/* a path or the like that only begins as a run: a/b, x@y, 50%, h:p stays two */
		if (s->p + t->len < s->end && ((unsigned char)s->p[t->len] >= 0x80 ||
					       strchr("/@%$~!&|<>'`^?\\", s->p[t->len]))) {
			t->kind = TOKEN_TEXT;
			t->len = text_length(s);
		}
	} else {
		t->kind = *s->p == '@' ? TOKEN_AT : TOKEN_TEXT;
		t->len = text_length(s);
	}
	s->p += t->len;
}

struct token token_peek(struct scan *s)
{
	struct scan ahead = *s;

	ahead.quiet = true;
	token_next(&ahead);
	return ahead.token;
}
