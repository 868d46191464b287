/* The real logger role against real files: formats, rotation, rest. */
#include "logger_rig.h"

#include "base/clock.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

Test(logger_files, text_raw_and_separate_stderr)
{
	struct conf_log text = rig_log(), raw = rig_log();
	struct rig r;
	int out, err, other;

	raw.format = CONF_FORMAT_RAW;
	rig_init(&r);
	rig_stream(&r, 0, "web:0", &text, "web.log");
	rig_stream(&r, LOGBOOK_ERR, "web:0", &text, "web.log");
	rig_start(&r);
	rig_stream(&r, 1, "db:0", &raw, "db.log"); /* added at run time */
	out = rig_open(&r, 0);
	err = rig_open(&r, LOGBOOK_ERR);
	other = rig_open(&r, 1);
	rig_put(out, "hello\nwor");
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	rig_expect_text(&r, "web.log", "web:0 hello\n");
	rig_put(out, "ld\n");
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	rig_put(err, "oops\n");
	cr_assert_eq(rig_drain(&r, LOGBOOK_ERR, false, RIG_LIMIT_MS), 0);
	rig_put(other, "as\tit\x01is\nend");
	cr_assert_eq(rig_drain(&r, 1, true, RIG_LIMIT_MS), 0);
	rig_expect_text(&r, "web.log", "web:0 hello\nweb:0 world\nweb:0! oops\n");
	rig_expect_file(&r, "db.log", "as\tit\x01is\nend\n");
	close(out);
	close(err);
	close(other);
	rig_fini(&r);
}

Test(logger_files, finish_drains_everything)
{
	struct conf_log log = rig_log();
	struct rig r;
	int fd;

	fd = rig_begin(&r, &log);
	rig_put(fd, "one\ntwo");
	close(fd);
	cr_assert_eq(rig_finish(&r), 0);
	rig_expect_text(&r, "web.log", "web:0 one\nweb:0 two\n");
	rig_fini(&r);
}

/* LG12: a life's last words, without newline, are there once the drain is done. */
Test(logger_files, LG12_last_words)
{
	enum { BYTES = 1 << 20 };
	struct conf_log log = rig_log();
	char tail[64], *text;
	struct rig r;
	size_t len;
	pid_t pid;
	int fd;

	log.format = CONF_FORMAT_RAW;
	fd = rig_begin(&r, &log);
	pid = fork();
	if (pid == 0) {
		char *data = malloc(BYTES);

		memset(data, 'x', BYTES);
		for (int i = 99; i < BYTES; i += 100)
			data[i] = '\n';
		memcpy(data + BYTES - 10, "\nlast word", 10);
		for (size_t at = 0; at < BYTES;)
			at += (size_t)write(fd, data + at, BYTES - at);
		raise(SIGKILL);
	}
	close(fd);
	waitpid(pid, NULL, 0);
	cr_assert_eq(rig_drain(&r, 0, true, RIG_LIMIT_MS), 0);
	text = rig_file(&r, "web.log", &len);
	cr_expect_eq(len, BYTES + 1);
	cr_expect_str_eq(text + BYTES - 9, "last word\n");
	cr_expect_eq(logbook_tail(&r.lb, 0, 0, tail, sizeof(tail)), 9);
	cr_expect_str_eq(tail, "last word");
	free(text);
	rig_fini(&r);
}

/* LG05, LG06: a line without end, any bytes. */
Test(logger_files, LG05_LG06_endless_lines_and_any_bytes)
{
	struct conf_log text = rig_log(), raw = rig_log();
	static char data[1 << 20];
	uint32_t seed = 9;
	char *file;
	size_t len, at = 0;
	struct rig r;
	int one, two;

	raw.format = CONF_FORMAT_RAW;
	for (size_t i = 0; i < sizeof(data); i++) {
		seed = seed * 1103515245 + 12345;
		data[i] = (char)(seed >> 16);
		if (data[i] == '\n')
			data[i] = 'n';
	}
	rig_init(&r);
	rig_stream(&r, 0, "web:0", &text, "text.log");
	rig_stream(&r, 1, "web:1", &raw, "raw.log");
	rig_start(&r);
	one = rig_open(&r, 0);
	two = rig_open(&r, 1);
	cr_assert_eq(write(one, data, sizeof(data)), (ssize_t)sizeof(data));
	cr_assert_eq(write(two, data, sizeof(data)), (ssize_t)sizeof(data));
	cr_assert_eq(rig_drain(&r, 0, true, RIG_LIMIT_MS), 0);
	cr_assert_eq(rig_drain(&r, 1, true, RIG_LIMIT_MS), 0);
	file = rig_file(&r, "raw.log", &len);
	cr_expect_geq(len, sizeof(data));
	cr_expect_arr_eq(file, data, sizeof(data));
	free(file);
	file = rig_file(&r, "text.log", &len);
	for (char *p = file, *nl; p < file + len; p = nl + 1) {
		bool partial = p[33] == '+';
		size_t n;

		nl = memchr(p, '\n', (size_t)(file + len - p));
		cr_assert_eq(memcmp(p + 28, partial ? "web:0+ " : "web:0 ", partial ? 7 : 6), 0);
		n = (size_t)(nl - p) - (partial ? 35 : 34);
		cr_assert_leq(n, LOGBOOK_LINE);
		cr_assert(!partial || n >= LOGBOOK_LINE - 3); /* what looked like a character */
		cr_assert_arr_eq(nl - n, data + at, n);
		at += n;
	}
	cr_expect_eq(at, sizeof(data));
	free(file);
	close(one);
	close(two);
	rig_fini(&r);
}

/* LG10: what the worker holds is blocking. */
Test(logger_files, LG10_the_worker_end_blocks)
{
	struct conf_log log = rig_log();
	struct rig r;
	int fd;

	fd = rig_begin(&r, &log);
	rig_put(fd, "x\n");
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	cr_expect_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	close(fd);
	rig_fini(&r);
}

/* ---- rotation ---- */

static uint64_t count_lines(struct rig *r, const char *name, int keep, uint64_t max_size)
{
	uint64_t n = 0;

	for (int i = keep; i >= 0; i--) {
		char file[64], *text;
		size_t len;

		snprintf(file, sizeof(file), i ? "%s.%d" : "%s", name, i);
		text = rig_file(r, file, &len);
		if (!text)
			continue;
		cr_expect_leq(len, max_size, "%s has %zu bytes", file, len);
		for (char *p = strtok(text, "\n"); p; p = strtok(NULL, "\n"), n++)
			cr_assert_eq(strtoull(strrchr(p, ' '), NULL, 10), n, "%s: %s", file, p);
		free(text);
	}
	return n;
}

static void rotate_with(enum conf_log_format format)
{
	struct conf_log log = rig_log();
	struct rig r;
	int fd;

	log.format = format;
	log.max_size_bytes = 10000;
	log.keep = 500;
	fd = rig_begin(&r, &log);
	for (int i = 0; i < 20000; i++)
		dprintf(fd, "line number %d\n", i);
	cr_assert_eq(rig_drain(&r, 0, true, RIG_LIMIT_MS), 0);
	cr_expect_eq(count_lines(&r, "web.log", 500, 10000), 20000);
	cr_expect_gt(atomic_load(&logbook_sink(&r.lb, 0)->rotations), 10);
	close(fd);
	rig_fini(&r);
}

Test(logger_files, text_rotates_at_line_ends)
{
	rotate_with(CONF_FORMAT_TEXT);
}

Test(logger_files, raw_rotates_at_line_ends)
{
	rotate_with(CONF_FORMAT_RAW);
}

Test(logger_files, json_rotates_at_line_ends)
{
	rotate_with(CONF_FORMAT_JSON);
}

Test(logger_files, keep_bounds_the_chain_and_a_gap_is_filled)
{
	struct conf_log log = rig_log();
	struct rig r;
	char a[256], b[256];
	int fd;

	log.format = CONF_FORMAT_RAW;
	log.max_size_bytes = 4;
	log.keep = 2;
	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "l");
	rig_start(&r);
	fd = rig_open(&r, 0);
	for (int i = 1; i <= 4; i++) {
		dprintf(fd, "%03d\n", i);
		cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	}
	rig_expect_file(&r, "l", "004\n");
	rig_expect_file(&r, "l.1", "003\n");
	rig_expect_file(&r, "l.2", "002\n");
	cr_expect_null(rig_file(&r, "l.3", NULL));
	/* A rotation that was cut short after its first step left a gap: l.2 stays. */
	cr_assert_eq(unlink(rig_path(&r, "l.2", a)), 0);
	cr_assert_eq(rename(rig_path(&r, "l.1", a), rig_path(&r, "l.2", b)), 0);
	rig_put(fd, "005\n");
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	rig_expect_file(&r, "l", "005\n");
	rig_expect_file(&r, "l.1", "004\n");
	rig_expect_file(&r, "l.2", "003\n");
	/* A line longer than max_size has a file of its own. */
	rig_put(fd, "a long line\n");
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	rig_expect_file(&r, "l", "a long line\n");
	rig_expect_file(&r, "l.1", "005\n");
	close(fd);
	rig_fini(&r);
}

/* LG14, LG01: renamed or deleted by somebody else. */
Test(logger_files, LG14_external_rotation)
{
	struct conf_log log = rig_log();
	char a[256], b[256];
	struct rig r;
	int fd;

	log.format = CONF_FORMAT_RAW;
	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "l");
	rig_start(&r);
	fd = rig_open(&r, 0);
	rig_put(fd, "one\n");
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	cr_assert_eq(rename(rig_path(&r, "l", a), rig_path(&r, "l.old", b)), 0);
	atomic_fetch_add(&r.lb.h->reopens, 1);
	rig_ring(&r);
	rig_put(fd, "two\n");
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	rig_expect_file(&r, "l.old", "one\n");
	rig_expect_file(&r, "l", "two\n");
	/* Deleted: seen at the next write, without a word. */
	cr_assert_eq(unlink(rig_path(&r, "l", a)), 0);
	rig_put(fd, "three\n");
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	rig_expect_file(&r, "l", "three\n");
	/* Cut to nothing (copytruncate): no hole. */
	cr_assert_eq(truncate(rig_path(&r, "l", a), 0), 0);
	rig_put(fd, "four\n");
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	rig_expect_file(&r, "l", "four\n");
	close(fd);
	rig_fini(&r);
}

/* Live changes: mode and place. */
Test(logger_files, live_changes)
{
	struct conf_log log = rig_log();
	struct stat st;
	char path[256];
	struct rig r;
	int fd;

	log.format = CONF_FORMAT_RAW;
	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "a");
	rig_start(&r);
	fd = rig_open(&r, 0);
	rig_put(fd, "one\n");
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	cr_assert_eq(stat(rig_path(&r, "a", path), &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0640);
	log.mode = 0600;
	rig_stream(&r, 0, "web:0", &log, "a");
	rig_put(fd, "two\n");
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0600);
	rig_stream(&r, 0, "web:0", &log, "b");
	logbook_sink_drop(&r.lb, 0);
	rig_put(fd, "three\n");
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	rig_expect_file(&r, "a", "one\ntwo\n");
	rig_expect_file(&r, "b", "three\n");
	cr_expect_eq(atomic_load(&logbook_sink(&r.lb, 0)->taken), 0);
	close(fd);
	rig_fini(&r);
}

/* At rest: no wake-ups, no open files. */
Test(logger_files, idle_costs_nothing)
{
	struct conf_log log = rig_log();
	uint64_t turns;
	char proc[64], link[300];
	struct rig r;
	int fd;

	fd = rig_begin(&r, &log);
	rig_flood(fd, 1 << 20);
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	poll(NULL, 0, 3000); /* the time after which it is at rest */
	turns = atomic_load(&r.lb.h->turns);
	poll(NULL, 0, 1500);
	cr_expect_eq(atomic_load(&r.lb.h->turns), turns);
	for (int i = 0; i < 64; i++) {
		ssize_t n;

		snprintf(proc, sizeof(proc), "/proc/%d/fd/%d", (int)r.pid, i);
		n = readlink(proc, link, sizeof(link) - 1);
		link[MAX_OF(n, 0)] = '\0';
		cr_expect_null(strstr(link, "web.log"), "the file is open");
	}
	close(fd);
	rig_fini(&r);
}
