/* Columns as wide as their widest cell, two spaces apart. The last column is not padded. */
#include "ctl.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void table_begin(struct table *t, size_t n_columns)
{
	*t = (struct table){ .n_columns = n_columns };
}

void table_fini(struct table *t)
{
	str_fini(&t->text);
	free(t->cells);
	*t = (struct table){ 0 };
}

/* Decode one character of valid UTF-8. */
static uint32_t decode(const char **text)
{
	const unsigned char *p = (const unsigned char *)*text;
	int more = p[0] < 0x80 ? 0 : p[0] < 0xe0 ? 1 : p[0] < 0xf0 ? 2 : 3;
	uint32_t c = more ? p[0] & (0x3fu >> more) : p[0];

	for (int i = 1; i <= more && p[i]; i++)
		c = c << 6 | (p[i] & 0x3f);
	*text += more + 1;
	return c;
}

struct range {
	uint32_t from, to;
};

static bool within(const struct range *ranges, size_t n, uint32_t c)
{
	for (size_t i = 0; i < n; i++)
		if (c >= ranges[i].from && c <= ranges[i].to)
			return true;
	return false;
}

/* The wide blocks and the combining marks that matter; a wrong guess costs alignment only. */
static int char_width(uint32_t c)
{
	static const struct range none[] = {
		{ 0x300, 0x36f },   { 0x483, 0x489 },	{ 0x591, 0x5bd },   { 0x610, 0x61a },
		{ 0x64b, 0x65f },   { 0x1ab0, 0x1aff }, { 0x1dc0, 0x1dff }, { 0x200b, 0x200f },
		{ 0x20d0, 0x20ff }, { 0xfe00, 0xfe0f }, { 0xfe20, 0xfe2f }
	};
	static const struct range wide[] = { { 0x1100, 0x115f },   { 0x2e80, 0x303e },
					     { 0x3041, 0xa4cf },   { 0xac00, 0xd7a3 },
					     { 0xf900, 0xfaff },   { 0xfe30, 0xfe6f },
					     { 0xff00, 0xff60 },   { 0xffe0, 0xffe6 },
					     { 0x1f300, 0x1f64f }, { 0x1f680, 0x1f6ff },
					     { 0x1f900, 0x1faff }, { 0x20000, 0x3fffd } };

	if (c < 0x300)
		return 1;
	if (within(none, ARRAY_LEN(none), c))
		return 0;
	return within(wide, ARRAY_LEN(wide), c) ? 2 : 1;
}

int text_width(const char *text)
{
	int width = 0;

	while (*text)
		width += char_width(decode(&text));
	return width;
}

static bool plain(const char *text)
{
	while (*text >= 0x20 && *text < 0x7f)
		text++;
	return *text == '\0';
}

static bool make_room(struct table *t)
{
	size_t room = t->room ? t->room * 2 : 64;
	struct cell *cells;

	if (t->n_cells < t->room)
		return true;
	cells = realloc(t->cells, room * sizeof(*cells));
	if (!cells)
		return false;
	t->cells = cells;
	t->room = room;
	return true;
}

static struct cell *add_cell(struct table *t, enum color color, const char *text)
{
	size_t len = strlen(text), at = t->text.len;
	auto_free char *safe = NULL;
	struct cell *cell;
	int width = (int)len;

	if (!plain(text)) {
		safe = malloc(4 * len + 8);
		if (!safe)
			return NULL;
		len = str_escape(text, len, safe, 4 * len + 8);
		text = safe;
		width = text_width(safe);
	}
	str_add_bytes(&t->text, text, len + 1);
	if (t->text.failed || !make_room(t))
		return NULL;
	cell = &t->cells[t->n_cells++];
	*cell = (struct cell){ .at = (uint32_t)at,
			       .width = (uint16_t)MIN_OF(width, UINT16_MAX),
			       .color = (uint8_t)color };
	return cell;
}

void table_cell(struct table *t, enum color color, const char *text)
{
	add_cell(t, color, text);
}

void table_cellf(struct table *t, enum color color, const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	add_cell(t, color, text);
}

void table_number(struct table *t, enum color color, const char *text)
{
	struct cell *cell = add_cell(t, color, text);

	if (cell)
		cell->right = true;
}

void table_numberf(struct table *t, enum color color, const char *format, ...)
{
	char text[64];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	table_number(t, color, text);
}

static void pad(struct str *out, int n)
{
	static const char spaces[] = "                                ";

	for (; n > 0; n -= 32)
		str_add_bytes(out, spaces, (size_t)MIN_OF(n, 32));
}

static void print_row(const struct table *t, size_t row, const int *widths, struct ctl *c)
{
	for (size_t i = 0; i < t->n_columns; i++) {
		const struct cell *cell = &t->cells[row * t->n_columns + i];
		/* a header stands as its column does */
		const struct cell *model =
			row == 0 && t->n_cells > t->n_columns ? &t->cells[t->n_columns + i] : cell;
		int gap = widths[i] - cell->width;

		if (model->right)
			pad(&c->out, gap);
		out_color(c, cell->color, t->text.data + cell->at);
		if (i + 1 == t->n_columns)
			break;
		pad(&c->out, model->right ? 2 : gap + 2);
	}
	/* an empty last cell needs no way to it */
	while (c->out.len > 0 && c->out.data[c->out.len - 1] == ' ')
		c->out.len--;
	str_add(&c->out, "\n");
}

void table_print(struct table *t, struct ctl *c)
{
	int widths[16] = { 0 };

	if (t->n_columns > ARRAY_LEN(widths))
		return;
	for (size_t i = 0; i < t->n_cells; i++)
		widths[i % t->n_columns] = MAX_OF(widths[i % t->n_columns], t->cells[i].width);
	for (size_t row = 0; row < t->n_cells / t->n_columns; row++)
		print_row(t, row, widths, c);
}
