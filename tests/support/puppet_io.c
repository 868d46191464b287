/*
 * Verbs that write, wait and serve. A write that fails is noted in the journal with its errno and
 * ends the verb; SIGPIPE is left as it was given.
 */
#include "puppet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536

static bool put(int fd, const void *data, size_t len)
{
	const char *at = data;
	while (len) {
		ssize_t n = write(fd, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			journal_write("write-error", strerrorname_np(errno));
			return false;
		}
		at += n;
		len -= n;
	}
	return true;
}

static void put_line(int fd, const char *text)
{
	char line[4096];
	int n = snprintf(line, sizeof(line), "%s\n", text ? text : "");
	put(fd, line, n < (int)sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static void verb_out(struct puppet *p, char *arg, struct words body)
{
	put_line(1, arg);
}

static void verb_err(struct puppet *p, char *arg, struct words body)
{
	put_line(2, arg);
}

/* Text without a newline. */
static void verb_bare(struct puppet *p, char *arg, struct words body)
{
	put(1, arg, strlen(arg));
}

/* hex=DIGITS: those bytes. */
static void verb_hex(struct puppet *p, char *arg, struct words body)
{
	for (char *at = arg; at[0] && at[1]; at += 2) {
		char digits[3] = { at[0], at[1], 0 };
		char byte = strtol(digits, NULL, 16);
		if (!put(1, &byte, 1))
			return;
	}
}

static void nap_us(long long us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };
	if (us)
		nanosleep(&t, NULL);
}

/* lines=N:MICROSECONDS:PREFIX: "PREFIX K\n" for K from 0, a write each; N = 0: for ever. */
static void verb_lines(struct puppet *p, char *arg, struct words body)
{
	char line[512];
	long long n = puppet_number(puppet_piece(&arg, ':'));
	long long us = puppet_number(puppet_piece(&arg, ':'));
	const char *prefix = arg ? arg : "line";
	for (long long i = 0; n == 0 || i < n; i++) {
		int len = snprintf(line, sizeof(line), "%s %lld\n", prefix, i);
		if (!put(1, line, len) || signal_went())
			return;
		nap_us(us);
	}
}

/* fill=BYTES[:C]: that many bytes C and no newline. */
static void verb_fill(struct puppet *p, char *arg, struct words body)
{
	static char block[CHUNK];
	long long left = puppet_number(puppet_piece(&arg, ':'));
	memset(block, arg && *arg ? *arg : 'x', sizeof(block));
	while (left > 0 && put(1, block, left < CHUNK ? left : CHUNK))
		left -= CHUNK;
}

/* noise=BYTES:SEED: pseudo-random bytes; the harness makes the same ones (xorshift64). */
static void verb_noise(struct puppet *p, char *arg, struct words body)
{
	static unsigned char block[CHUNK];
	long long left = puppet_number(puppet_piece(&arg, ':'));
	uint64_t state = puppet_number(arg);
	while (left > 0) {
		size_t len = left < CHUNK ? left : CHUNK;
		for (size_t i = 0; i < len; i++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			block[i] = state >> 24;
		}
		if (!put(1, block, len))
			return;
		left -= len;
	}
}

/* gate=FIFO: until somebody has opened the FIFO for writing. */
static void verb_gate(struct puppet *p, char *arg, struct words body)
{
	int fd;
	while ((fd = open(arg, O_RDONLY | O_CLOEXEC)) < 0 && errno == EINTR && !signal_went())
		;
	if (fd < 0 && errno != EINTR)
		puppet_fail(arg);
	if (fd >= 0)
		close(fd);
}

/* hold=PATH: open and keep. */
static void verb_hold(struct puppet *p, char *arg, struct words body)
{
	if (open(arg, O_RDWR | O_CREAT, 0666) < 0)
		puppet_fail(arg);
}

/* tty=PATH: open a terminal as an unsuspecting program does, without O_NOCTTY. */
static void verb_tty(struct puppet *p, char *arg, struct words body)
{
	if (open(arg, O_RDWR) < 0)
		journal_write("tty-error", strerrorname_np(errno));
}

/* append=PATH:TEXT */
static void verb_append(struct puppet *p, char *arg, struct words body)
{
	char *path = puppet_piece(&arg, ':');
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		puppet_fail(path);
	put_line(fd, arg);
	close(fd);
}

/* Read stdin to its end and note how much there was; a signal that is counted does not end it. */
static void verb_stdin(struct puppet *p, char *arg, struct words body)
{
	char block[4096], text[64];
	long long total = 0;
	ssize_t n;
	while ((n = read(0, block, sizeof(block))) > 0 || (n < 0 && errno == EINTR))
		total += n > 0 ? n : 0;
	snprintf(text, sizeof(text), "%lld %s", total, n < 0 ? strerrorname_np(errno) : "end");
	journal_write("stdin", text);
}

/* serve=FD: answer every connection with "INDEX INCARNATION PID\n", until a `go` signal. */
static void verb_serve(struct puppet *p, char *arg, struct words body)
{
	int fd = puppet_number(arg);
	char text[64];
	int len =
		snprintf(text, sizeof(text), "%s %s %d\n", p->index, p->incarnation, (int)getpid());
	journal_write("serving", arg);
	while (!signal_went()) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (client < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (client < 0)
			puppet_fail("accept");
		put(client, text, len);
		close(client);
	}
}

/* script=FILE: words from a file, one per line. */
static void verb_script(struct puppet *p, char *arg, struct words body)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	struct words script = { NULL, 0 };
	FILE *file = fopen(arg, "re");
	if (!file)
		puppet_fail(arg);
	while ((len = getline(&line, &size, file)) > 0) {
		if (line[len - 1] == '\n')
			line[len - 1] = '\0';
		script.at = realloc(script.at, (script.n + 1) * sizeof(char *));
		if (!script.at)
			puppet_fail("memory");
		script.at[script.n++] = strdup(line);
	}
	free(line);
	fclose(file);
	puppet_run(p, script);
}

const struct verb io_verbs[] = {
	{ "out", verb_out },	 { "err", verb_err },	    { "bare", verb_bare },
	{ "hex", verb_hex },	 { "lines", verb_lines },   { "fill", verb_fill },
	{ "noise", verb_noise }, { "gate", verb_gate },	    { "hold", verb_hold },
	{ "tty", verb_tty },	 { "append", verb_append }, { "stdin", verb_stdin },
	{ "serve", verb_serve }, { "script", verb_script }, { NULL, NULL },
};
