/*
 * kill -9 of the logger at any moment (design §1.2): no line is lost, torn or doubled, over
 * rotation, in each format, with several writers in one file. REEVE_KILLS sets how often.
 */
#include "logger_rig.h"

#include "base/clock.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WRITERS 6

static uint32_t step(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

struct shared {
	_Atomic int stop;
	_Atomic uint32_t lines[WRITERS]; /* written by each */
};

/* Lines "<writer> <number> xxx…x." of any length; several in one write, or one in two writes. */
static void write_lines(int fd, uint32_t writer, struct shared *sh)
{
	static char block[64 * 1024];
	uint32_t seed = 77 + writer, n = 0;

	while (!atomic_load(&sh->stop)) {
		size_t len = 0;

		for (uint32_t i = step(&seed) % 20 + 1; i > 0; i--) {
			size_t pad = step(&seed) % (writer == 1 ? 3000 : 150);

			len += (size_t)sprintf(block + len, "%u %u ", writer, n++);
			memset(block + len, 'x', pad);
			len += pad;
			block[len++] = '.';
			block[len++] = '\n';
		}
		for (size_t at = 0; at < len;) {
			size_t part =
				step(&seed) % 4 == 0 ? step(&seed) % (len - at) + 1 : len - at;
			ssize_t put = write(fd, block + at, part);

			if (put < 0)
				_exit(1);
			at += (size_t)put;
		}
		atomic_store(&sh->lines[writer], n);
		if (writer >= 3) /* the slow ones */
			poll(NULL, 0, 1);
	}
	_exit(0);
}

static void check_line(const char *file, char *line, uint32_t next[])
{
	uint32_t writer, n;
	int used = 0;
	char *rest;

	cr_assert_eq(sscanf(line, "%u %u %n", &writer, &n, &used), 2, "%s: torn: %.200s", file,
		     line);
	cr_assert_lt(writer, WRITERS);
	cr_assert_eq(n, next[writer], "%s: writer %u: line %u follows %u", file, writer, n,
		     next[writer] - 1);
	rest = line + used;
	rest += strspn(rest, "x");
	cr_assert_str_eq(rest, ".", "%s: writer %u line %u is torn: %.100s", file, writer, n, line);
	next[writer]++;
}

/* What the worker wrote, in place; NULL if the line is torn. */
static char *take_line(char *line, const char *format)
{
	char *end = line + strlen(line);

	if (strcmp(format, "text") == 0) { /* "TIME web:N " */
		if (end - line <= 28 || line[26] != 'Z')
			return NULL;
		line = strchr(line + 28, ' ');
		return line ? line + 1 : NULL;
	}
	if (strcmp(format, "json") == 0) {
		char *text = strstr(line, "\"stream\":\"out\",\"line\":\"");

		if (!text || strncmp(line, "{\"time\":\"", 9) != 0 || strcmp(end - 2, "\"}") != 0)
			return NULL;
		end[-2] = '\0';
		return text + 23;
	}
	return line;
}

/* The chain of rotated files, the oldest first. They are named after their format. */
static void check_files(struct rig *r, const char *format, uint32_t next[])
{
	for (int i = 10000; i >= 0; i--) {
		char file[128], *all, *line, *save;

		snprintf(file, sizeof(file), i > 0 ? "%s.%d" : "%s", format, i);
		all = rig_file(r, file, NULL);
		if (!all)
			continue;
		for (line = strtok_r(all, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
			line = take_line(line, format);
			cr_assert_not_null(line, "%s: torn", file);
			check_line(file, line, next);
		}
		free(all);
	}
}

static const char *const names[CONF_FORMAT_COUNT] = {
	[CONF_FORMAT_TEXT] = "text",
	[CONF_FORMAT_RAW] = "raw",
	[CONF_FORMAT_JSON] = "json",
};

static void start_writers(struct rig *r, struct shared *sh, pid_t pids[])
{
	struct conf_log log = rig_log();

	log.max_size_bytes = 1 << 20;
	log.keep = 10000;
	for (uint32_t i = 0; i < WRITERS; i++) {
		char label[16];
		int fd;

		snprintf(label, sizeof(label), "web:%u", i);
		log.format = i % CONF_FORMAT_COUNT;
		rig_stream(r, i, label, &log, names[log.format]);
		fd = rig_open(r, i);
		pids[i] = fork();
		cr_assert_geq(pids[i], 0);
		if (pids[i] == 0)
			write_lines(fd, i, sh);
		close(fd);
	}
}

static void kill_often(struct rig *r, int kills)
{
	uint32_t seed = 4711;

	for (int i = 0; i < kills; i++) {
		struct timespec t = { 0, step(&seed) % 4000000 };

		rig_exec(r);
		if (i % 8 == 0) { /* let it come to work now and then */
			t.tv_nsec += 4000000;
		}
		nanosleep(&t, NULL);
		rig_kill(r);
	}
}

Test(logger_kill, no_line_is_lost_torn_or_doubled, .timeout = 600)
{
	const char *text = getenv("REEVE_KILLS");
	int kills = text ? atoi(text) : 400;
	struct shared *sh =
		mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t next[WRITERS] = { 0 };
	pid_t pids[WRITERS];
	struct rig r;

	cr_assert_neq(sh, MAP_FAILED);
	rig_init(&r);
	start_writers(&r, sh, pids);
	kill_often(&r, kills);
	rig_start(&r);
	atomic_store(&sh->stop, 1);
	for (int i = 0; i < WRITERS; i++)
		waitpid(pids[i], NULL, 0);
	for (uint32_t i = 0; i < WRITERS; i++)
		cr_assert_eq(rig_drain(&r, i, true, 20000), 0);
	cr_assert_eq(rig_finish(&r), 0);
	for (int i = 0; i < CONF_FORMAT_COUNT; i++)
		check_files(&r, names[i], next);
	for (uint32_t i = 0; i < WRITERS; i++) {
		struct logbook_counters c;

		cr_expect_eq(next[i], atomic_load(&sh->lines[i]), "writer %u: %u of %u lines", i,
			     next[i], atomic_load(&sh->lines[i]));
		logbook_counters(&r.lb, i, 0, 0, &c);
		cr_expect_eq(c.dropped, 0);
		cr_expect_eq(c.in, c.written);
		cr_log_info("writer %u: %u lines, %llu bytes", i, next[i],
			    (unsigned long long)c.in);
	}
	rig_fini(&r);
	munmap(sh, sizeof(*sh));
}
