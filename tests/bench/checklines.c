/*
 * checklines LINE FORMAT WRITERS LINES FILE...: reads the log files of `writer`, the oldest first,
 * and counts what happened to its lines; one JSON object on stdout. FORMAT is raw, text ("TIME NAME
 * " stands before each line) or json. Other lines (of a supervisor's own) count as `foreign`, but
 * a piece of a writer's line counts as `cut`.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD 17

struct tally {
	size_t line;
	const char *format;
	unsigned writers;
	unsigned long lines;
	unsigned long *next; /* by writer: the sequence number that comes next */
	unsigned long good, cut, doubled, gap, foreign;
	unsigned long long bytes;
};

static bool all_digits(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isdigit((unsigned char)s[i]))
			return false;
	return true;
}

/* What the worker wrote, of an object; *end is moved before what stands behind. NULL if it is none.
 */
static const char *open_object(const char *s, const char **end)
{
	static const char member[] = ",\"line\":\"";
	size_t n = (size_t)(*end - s);
	const char *text = memmem(s, n, member, sizeof member - 1);

	if (!text || s[0] != '{' || memcmp(*end - 2, "\"}", 2) != 0)
		return NULL;
	*end -= 2;
	return text + sizeof member - 1;
}

/* The line after "TIME NAME ", or NULL. */
static const char *skip_prefix(const char *s, const char *end)
{
	for (int i = 0; i < 2; i++) {
		s = memchr(s, ' ', (size_t)(end - s));
		if (!s)
			return NULL;
		s++;
	}
	return s;
}

static bool is_whole(const struct tally *t, const char *s, size_t n)
{
	if (n != t->line - 1 || !all_digits(s, 5) || s[5] != ' ' || !all_digits(s + 6, 10) ||
	    s[HEAD - 1] != ' ')
		return false;
	for (size_t i = HEAD; i < n; i++)
		if (s[i] != '.')
			return false;
	return true;
}

static void count_line(struct tally *t, const char *s, size_t n)
{
	const char *end = s + n;
	unsigned long writer, sequence;

	if (t->format[0] == 't')
		s = skip_prefix(s, end);
	else if (t->format[0] == 'j')
		s = open_object(s, &end);
	if (!s || !is_whole(t, s, (size_t)(end - s))) {
		if (s && (memchr(s, '.', (size_t)(end - s)) || all_digits(s, (size_t)(end - s))))
			t->cut++;
		else
			t->foreign++;
		return;
	}
	writer = strtoul(s, NULL, 10);
	sequence = strtoul(s + 6, NULL, 10);
	if (writer >= t->writers) {
		t->foreign++;
	} else if (sequence < t->next[writer]) {
		t->doubled++;
	} else {
		t->gap += sequence - t->next[writer];
		t->next[writer] = sequence + 1;
		t->good++;
	}
}

static int read_file(struct tally *t, const char *path)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	ssize_t n;

	if (!file) {
		perror(path);
		return 1;
	}
	while ((n = getline(&line, &room, file)) > 0) {
		t->bytes += (unsigned long long)n;
		if (line[n - 1] != '\n')
			t->cut++;
		else
			count_line(t, line, (size_t)n - 1);
	}
	free(line);
	return fclose(file) != 0;
}

int main(int argc, char **argv)
{
	struct tally t = { 0 };
	unsigned long lost = 0;

	if (argc < 5)
		return 2;
	t.line = strtoul(argv[1], NULL, 10);
	t.format = argv[2];
	t.writers = (unsigned)strtoul(argv[3], NULL, 10);
	t.lines = strtoul(argv[4], NULL, 10);
	t.next = calloc(t.writers ? t.writers : 1, sizeof *t.next);
	if (!t.next)
		return 1;
	for (int i = 5; i < argc; i++)
		if (read_file(&t, argv[i]) != 0)
			return 1;
	lost = t.lines * t.writers - t.good;
	printf("{\"good\":%lu,\"lost\":%lu,\"cut\":%lu,\"doubled\":%lu,\"gap\":%lu,\"foreign\":%lu,"
	       "\"bytes\":%llu}\n",
	       t.good, lost, t.cut, t.doubled, t.gap, t.foreign, t.bytes);
	free(t.next);
	return 0;
}
