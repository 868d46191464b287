/*
 * writer MARKS INDEX GATE LINE BLOCK LINES: writes LINES lines of LINE bytes, BLOCK bytes a write.
 * Each line is "WWWWW SSSSSSSSSS fill\n": the writer's index and a sequence number from 0, so that
 * checklines finds every line that was lost, doubled, moved or torn. It begins when GATE (a FIFO)
 * is opened for writing and waits for a signal at the end.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mark.h"

#define HEAD   17 /* "WWWWW SSSSSSSSSS " */
#define DIGITS 10

struct writer {
	const char *marks;
	uint16_t index;
	size_t line, block;
	unsigned long lines;
	char *buffer;
};

static void send_mark(const struct writer *w, enum mark_kind kind)
{
	struct timespec now;
	struct mark mark = { .pid = (uint32_t)getpid(), .index = w->index, .kind = (uint16_t)kind };
	int fd = open(w->marks, O_WRONLY | O_CLOEXEC);

	clock_gettime(CLOCK_MONOTONIC, &now);
	mark.at_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (fd < 0 || write(fd, &mark, sizeof mark) != sizeof mark)
		_exit(4);
	close(fd);
}

static void fill_buffer(struct writer *w)
{
	char head[32];

	w->buffer = malloc(w->block);
	if (!w->buffer)
		_exit(5);
	memset(w->buffer, '.', w->block);
	for (size_t at = 0; at < w->block; at += w->line) {
		snprintf(head, sizeof head, "%05u %010u ", (unsigned)w->index,
			 (unsigned)(at / w->line));
		memcpy(w->buffer + at, head, HEAD);
		w->buffer[at + w->line - 1] = '\n';
	}
}

/* Printing the number anew would cost the writer more than writing the line. */
static void add(char *digits, unsigned n)
{
	for (char *p = digits + DIGITS - 1; n > 0 && p >= digits; p--) {
		unsigned sum = (unsigned)(*p - '0') + n;

		*p = (char)('0' + sum % 10);
		n = sum / 10;
	}
}

static void write_block(const struct writer *w)
{
	size_t done = 0;

	while (done < w->block) {
		ssize_t n = write(STDOUT_FILENO, w->buffer + done, w->block - done);

		if (n <= 0)
			_exit(6);
		done += (size_t)n;
	}
}

static void write_all(const struct writer *w)
{
	unsigned per_block = (unsigned)(w->block / w->line);

	for (unsigned long done = 0; done < w->lines; done += per_block) {
		write_block(w);
		for (size_t at = 0; at < w->block; at += w->line)
			add(w->buffer + at + HEAD - 1 - DIGITS, per_block);
	}
}

int main(int argc, char **argv)
{
	struct writer w = { 0 };
	int gate;

	if (argc != 7)
		return 2;
	w.marks = argv[1];
	w.index = (uint16_t)atoi(argv[2]);
	w.line = strtoul(argv[4], NULL, 10);
	w.block = strtoul(argv[5], NULL, 10);
	w.lines = strtoul(argv[6], NULL, 10);
	if (w.line <= HEAD || w.block % w.line != 0)
		return 2;
	fill_buffer(&w);
	send_mark(&w, MARK_UP);
	gate = open(argv[3], O_RDONLY | O_CLOEXEC);
	if (gate < 0)
		return 3;
	send_mark(&w, MARK_BEGIN);
	write_all(&w);
	send_mark(&w, MARK_END);
	for (;;)
		pause();
}
