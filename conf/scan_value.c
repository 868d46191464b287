/*
 * Owns the check of values: numbers that libconfig reads as something else, words without quotes,
 * strings without a comma between them, arrays and lists.
 */
#include "scan_token.h"

#include "base/mem.h"
#include "value.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Where the plain copy stood, to go back to. */
struct place {
	size_t len;
	int line;
};

static struct place here(const struct scan *s)
{
	return (struct place){ s->out->len, s->out_line };
}

static void go_back(struct scan *s, struct place to)
{
	if (!s->out->data)
		return;
	s->out->len = to.len;
	s->out->data[to.len] = '\0';
	s->out_line = to.line;
}

static void emit_text(struct scan *s, int line, const char *text)
{
	scan_emit(s, line, text, strlen(text));
}

/* In place of a value that has been reported. */
static bool emit_bad(struct scan *s, int line)
{
	emit_text(s, line,
		  "\"\\x01"
		  "reeve: reported"
		  "\\x01\"");
	return false;
}

/* A checked string; line ends in it are written as escapes, so that lines still agree. */
static void emit_string(struct scan *s, const struct token *t)
{
	auto_str text = { 0 };

	for (size_t i = 0; i < t->len; i++) {
		char c = t->start[i];

		if (c == '\n')
			str_add(&text, "\\n");
		else if (c == '\t')
			str_add(&text, "\\t");
		else if (c != '\r')
			str_add_bytes(&text, &c, 1);
	}
	if (text.data)
		scan_emit(s, t->line, text.data, text.len);
}

static bool is_hint(const struct scan *s, const char *name)
{
	return s->name_len == strlen(name) && strncmp(s->name, name, s->name_len) == 0;
}

/* Decimal or hexadecimal text → value; false beyond 64 bits. */
static bool integer_value(const char *digits, bool hex, bool negative, long long *ret)
{
	unsigned long long v;

	errno = 0;
	v = strtoull(digits, NULL, hex ? 16 : 10);
	if (errno == ERANGE || v > (unsigned long long)INT64_MAX)
		return false;
	*ret = negative ? -(long long)v : (long long)v;
	return true;
}

static const char *mended_digits(const char *digits)
{
	size_t zeros = strspn(digits, "0");

	return digits[zeros] ? digits + zeros : "0";
}

static bool leading_zero(struct scan *s, const struct token *t, const char *digits)
{
	char mended[48];
	bool mode = is_hint(s, "umask") || is_hint(s, "mode");

	if (mode)
		snprintf(mended, sizeof(mended), "\"%s%.30s\"", strlen(digits) < 4 ? "0" : "",
			 digits);
	else
		snprintf(mended, sizeof(mended), "%s%.30s", *t->start == '-' ? "-" : "",
			 mended_digits(digits));
	scan_mended(s, t->line, t->start, t->len, mended,
		    "%.*s: a leading zero does not make it octal, it would be read as %s%s%s",
		    (int)MIN_OF(t->len, (size_t)40), t->start, *t->start == '-' ? "-" : "",
		    mended_digits(digits), mode ? "; modes are strings" : "");
	return emit_bad(s, t->line);
}

/* [-+]digits, 0xdigits, with L or LL behind for 64 bits. */
static bool scan_integer(struct scan *s, const struct token *t, const char *text)
{
	const char *digits = text + (text[0] == '-' || text[0] == '+');
	bool hex = strncasecmp(digits, "0x", 2) == 0, negative = text[0] == '-';
	size_t n = strspn(digits + (hex ? 2 : 0), hex ? "0123456789abcdefABCDEF" : "0123456789");
	bool wide = digits[n + (hex ? 2 : 0)] == 'L';
	char plain[64], out[40];
	long long v;

	snprintf(plain, sizeof(plain), "%.*s", (int)n, digits + (hex ? 2 : 0));
	if (!hex && n > 1 && plain[0] == '0')
		return leading_zero(s, t, plain);
	if (n > 40 || !integer_value(plain, hex, negative, &v)) {
		scan_error(s, t->line, "%.40s does not fit 64 bits", text);
		return emit_bad(s, t->line);
	}
	if (!wide && (v > INT32_MAX || v < INT32_MIN)) {
		snprintf(out, sizeof(out), "%.*sL", (int)MIN_OF(t->len, (size_t)30), t->start);
		scan_mended(s, t->line, t->start, t->len, out,
			    "%.40s does not fit 32 bits, it would be read as %d", text,
			    (int)(uint32_t)(uint64_t)v);
		return emit_bad(s, t->line);
	}
	snprintf(out, sizeof(out), "%lld%s", v, wide ? "L" : "");
	emit_text(s, t->line, out);
	return true;
}

static bool scan_float(struct scan *s, const struct token *t, const char *text)
{
	double f = strtod(text, NULL);
	char out[48];

	if (!isfinite(f)) {
		scan_error(s, t->line, "%.40s is too large for a number", text);
		return emit_bad(s, t->line);
	}
	snprintf(out, sizeof(out), "%.17g", f);
	if (!strpbrk(out, ".e"))
		strcat(out, ".0");
	emit_text(s, t->line, out);
	return true;
}

/* 10s, 1m30s, 50M, 5 minutes: digits, perhaps a blank, then letters. */
static bool is_amount(const char *word)
{
	size_t digits = strspn(word, "0123456789."), blanks = strspn(word + digits, " ");
	const char *unit = word + digits + blanks;

	return digits > 0 && isalpha((unsigned char)unit[0]) && !strpbrk(unit, "/:@%$.-");
}

/* A word, path, duration or the like without quotes; all its parts on this line are one. */
static bool scan_bare(struct scan *s, const struct token *t, size_t len)
{
	static const char *const yes[] = { "yes", "on", "enable", "enabled", "y" };
	static const char *const no[] = { "no", "off", "disable", "disabled", "n" };
	char word[100], mended[140];
	bool quoted = t->start[0] == '\'' && len > 1 && t->start[len - 1] == '\'';
	const char *why = "text needs double quotes";

	snprintf(word, sizeof(word), "%.*s", (int)MIN_OF(len, sizeof(word) - 1), t->start);
	snprintf(mended, sizeof(mended), "\"%.*s\"", (int)(strnlen(word, 98) - (quoted ? 2 : 0)),
		 word + quoted);
	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		bool is_yes = strcasecmp(word, yes[i]) == 0;

		if (!is_yes && strcasecmp(word, no[i]) != 0)
			continue;
		why = "a boolean is true or false";
		snprintf(mended, sizeof(mended), "%s", is_yes ? "true" : "false");
	}
	if (is_amount(word))
		why = "a duration or a size needs quotes";
	scan_mended(s, t->line, t->start, len, mended, "%.60s: %s", word, why);
	return emit_bad(s, t->line);
}

/* Does the run look like an integer (i), a float (f), a boolean (b), or neither (0)? */
static char classify(const char *text)
{
	const char *p = text + (text[0] == '-' || text[0] == '+');
	size_t digits;

	if (strcasecmp(text, "true") == 0 || strcasecmp(text, "false") == 0)
		return 'b';
	if (strncasecmp(p, "0x", 2) == 0) {
		digits = strspn(p + 2, "0123456789abcdefABCDEF");
		p += 2 + digits;
		return digits && (!*p || strcmp(p, "L") == 0 || strcmp(p, "LL") == 0) ? 'i' : 0;
	}
	digits = strspn(p, "0123456789");
	p += digits;
	if (digits && (!*p || strcmp(p, "L") == 0 || strcmp(p, "LL") == 0))
		return 'i';
	if (*p == '.') {
		size_t more = strspn(p + 1, "0123456789");

		digits += more;
		p += 1 + more;
	}
	if (digits && (*p == 'e' || *p == 'E')) {
		size_t sign = p[1] == '-' || p[1] == '+', more = strspn(p + 1 + sign, "0123456789");

		p += more ? 1 + sign + more : 0;
	}
	return digits && !*p ? 'f' : 0;
}

/* `5 minutes`: what follows on the same line and is no setting belongs to the word. */
static size_t bare_length(struct scan *s, const struct token *t)
{
	size_t len = t->len;

	for (;;) {
		struct token next = s->token;
		struct token after = token_peek(s);

		if ((next.kind != TOKEN_RUN && next.kind != TOKEN_TEXT) || next.line != t->line ||
		    (after.kind == TOKEN_MARK && strchr("=:", *after.start)))
			return len;
		len = (size_t)(next.start + next.len - t->start);
		token_next(s);
	}
}

static bool scan_run(struct scan *s)
{
	struct token t = s->token;
	char text[80];
	size_t len;
	char kind;

	snprintf(text, sizeof(text), "%.*s", (int)MIN_OF(t.len, sizeof(text) - 1), t.start);
	kind = t.kind == TOKEN_RUN && t.len < sizeof(text) ? classify(text) : 0;
	token_next(s);
	len = bare_length(s, &t);
	if (!kind || len != t.len)
		return scan_bare(s, &t, len);
	if (kind == 'i')
		return scan_integer(s, &t, text);
	if (kind == 'f')
		return scan_float(s, &t, text);
	emit_text(s, t.line, strcasecmp(text, "true") == 0 ? "true" : "false");
	return true;
}

/* Strings in a row are joined by libconfig, whatever stands between them. */
static bool scan_string(struct scan *s)
{
	struct token first = s->token, t = first;
	bool good = !t.bad;
	struct place start = here(s);

	emit_string(s, &t);
	for (token_next(s); s->token.kind == TOKEN_STRING; token_next(s)) {
		/* In a list a comma is missing, elsewhere one string was meant. */
		const char *gap = t.start + t.len - !s->in_list;
		size_t len = s->in_list || s->token.line != t.line
				     ? 0
				     : (size_t)(s->token.start + 1 - gap);

		if (good && !s->token.bad)
			scan_mended(s, t.line, gap, len, s->in_list ? "," : "",
				    "two strings without a comma between them, which would be "
				    "joined to one");
		good = false;
		t = s->token;
	}
	if (good)
		return true;
	go_back(s, start);
	return emit_bad(s, first.line);
}

/* What an array holds: all of one kind. */
static char element_kind(const struct scan *s)
{
	char text[80];

	if (s->token.kind == TOKEN_STRING)
		return 's';
	if (s->token.kind != TOKEN_RUN || s->token.len >= sizeof(text))
		return 0;
	snprintf(text, sizeof(text), "%.*s", (int)s->token.len, s->token.start);
	return classify(text);
}

static const char *kind_name(char kind)
{
	return kind == 's'   ? "a string"
	       : kind == 'i' ? "an integer"
	       : kind == 'f' ? "a float"
			     : "a boolean";
}

struct elements {
	char open, close;
	int line;
	const char *at;
	struct token comma; /* the last one */
	char kind;	    /* of the first, for arrays */
	bool good, first;
};

static bool scan_element(struct scan *s, struct elements *e)
{
	char kind = element_kind(s);
	struct token t = s->token;

	s->in_list = true;
	if (e->open == '[' && t.kind == TOKEN_MARK) {
		scan_error(s, t.line,
			   "[ ] holds plain values only; a list of blocks or lists is written ( )");
		scan_value(s);
		return false;
	}
	if (e->open == '[' && kind && e->kind && kind != e->kind) {
		char mended[100];

		snprintf(mended, sizeof(mended), "\"%.*s\"", (int)MIN_OF(t.len, (size_t)90),
			 t.start);
		if (e->kind == 's' && t.kind == TOKEN_RUN)
			scan_mended(s, t.line, t.start, t.len, mended,
				    "[ ] holds values of one kind: %s after %s", kind_name(kind),
				    kind_name(e->kind));
		else
			scan_error(s, t.line, "[ ] holds values of one kind: %s after %s",
				   kind_name(kind), kind_name(e->kind));
		scan_value(s);
		return false;
	}
	e->kind = e->kind ? e->kind : kind;
	return scan_value(s);
}

/* At something that cannot stand between elements. True: go on with the list. */
static bool no_comma(struct scan *s, struct elements *e)
{
	struct token t = s->token;
	struct token next = token_peek(s);

	e->good = false;
	if (t.kind == TOKEN_END) {
		scan_error(s, e->line, "the %c that begins here is never closed; it ends with %c",
			   e->open, e->close);
		s->broken = true;
		return false;
	}
	if (token_is(s, ';') && e->open == '(' && next.kind == TOKEN_MARK &&
	    strchr("{(", *next.start)) {
		scan_mended(s, t.line, t.start, 1, ",", "elements are separated by commas");
		token_next(s);
		return true;
	}
	if (t.kind == TOKEN_MARK && !strchr("{[(", *t.start)) {
		char close[2] = { e->close, '\0' };

		scan_mended(s, t.line, t.start, strchr("}])", *t.start) ? 1 : 0, close,
			    "the %c of line %d is not closed", e->open, e->line);
		if (strchr("])", *t.start))
			token_next(s);
		return false;
	}
	scan_mended(s, t.line, t.start, 0, ", ", "a comma is missing between two elements");
	return true;
}

/* Up to and with the closing bracket. */
static void scan_elements(struct scan *s, struct elements *e)
{
	while (!s->stop) {
		struct token t = s->token;

		if (token_is(s, e->close)) {
			if (!e->first) {
				scan_mended(s, e->comma.line, e->comma.start, 1, "",
					    "a comma before the %c that ends the list", e->close);
				e->good = false;
			}
			token_next(s);
			return;
		}
		if (token_is(s, ',')) {
			scan_mended(s, t.line, t.start, 1, "", "a comma without a value before it");
			e->good = false;
			token_next(s);
			continue;
		}
		if (t.kind == TOKEN_END || (t.kind == TOKEN_MARK && !strchr("{[(", *t.start))) {
			no_comma(s, e);
			return;
		}
		if (!e->first)
			emit_text(s, t.line, ",");
		e->first = false;
		if (!scan_element(s, e) && e->open == '[')
			e->good = false;
		if (token_is(s, e->close)) {
			token_next(s);
			return;
		}
		e->comma = s->token;
		if (s->stop)
			return;
		if (token_is(s, ','))
			token_next(s);
		else if (!no_comma(s, e))
			return;
	}
}

static bool scan_list(struct scan *s, char open, char close)
{
	struct elements e = { .open = open,
			      .close = close,
			      .line = s->token.line,
			      .at = s->token.start,
			      .good = true,
			      .first = true };
	struct place start = here(s);
	char text[2] = { open, '\0' };

	emit_text(s, e.line, text);
	token_next(s);
	scan_elements(s, &e);
	if (e.good) {
		text[0] = close;
		emit_text(s, s->out_line, text);
		return true;
	}
	go_back(s, start);
	return emit_bad(s, e.line);
}

static bool scan_block(struct scan *s)
{
	struct token open = s->token;
	const char *outer = s->outer;
	size_t outer_len = s->outer_len;

	emit_text(s, open.line, "{");
	token_next(s);
	s->brace = open;
	s->outer = s->name;
	s->outer_len = s->name_len;
	scan_settings(s, true);
	s->outer = outer;
	s->outer_len = outer_len;
	if (!token_is(s, '}')) {
		if (!s->stop) {
			if (s->suspect_line)
				scan_error(s, open.line,
					   "the { of line %d is never closed (going by the "
					   "indentation, a }; is missing for the { of line %d); "
					   "it ends with };",
					   open.line, s->suspect_line);
			else
				scan_error(s, open.line,
					   "the { of line %d is never closed; it ends with };",
					   open.line);
		}
		s->broken = true;
		s->stop = true; /* one such message is enough */
		return false;
	}
	emit_text(s, s->token.line, "}");
	token_next(s);
	return true;
}

bool scan_value(struct scan *s)
{
	bool good;

	if (s->token.kind == TOKEN_STRING)
		return scan_string(s);
	if (s->token.kind != TOKEN_MARK)
		return scan_run(s);
	if (++s->depth > SCAN_DEPTH_MAX) {
		scan_error(s, s->token.line, "nested more than %d deep", SCAN_DEPTH_MAX);
		s->stop = s->broken = true;
		return false;
	}
	good = token_is(s, '{')	  ? scan_block(s)
	       : token_is(s, '[') ? scan_list(s, '[', ']')
				  : scan_list(s, '(', ')');
	s->depth--;
	return good;
}
