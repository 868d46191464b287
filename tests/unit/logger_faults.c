/* The real logger role against destinations that fail, stall, or belong to somebody else. */
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

static bool is_failing(struct rig *r)
{
	return atomic_load(&logbook_sink(&r->lb, 0)->state) == SINK_FAILING;
}

static bool is_well(struct rig *r)
{
	struct logbook_counters c = rig_counters(r, 0);

	return !is_failing(r) && c.in == c.written + c.dropped;
}

/* Well, and what came after the flood of 4 MiB has gone through. */
static bool has_again(struct rig *r)
{
	return is_well(r) && rig_counters(r, 0).in == (4 << 20) + 6;
}

static bool has_dropped(struct rig *r)
{
	return rig_counters(r, 0).dropped > 0;
}

/* LG01: a directory in place of the file; the worker goes on, the loss is told. */
Test(logger_faults, LG01_directory_in_place_of_the_file)
{
	struct conf_log log = rig_log();
	struct logbook_counters c;
	char path[256], text[700], *file;
	size_t len;
	struct rig r;
	int fd;

	log.format = CONF_FORMAT_RAW;
	rig_init(&r);
	cr_assert_eq(mkdir(rig_path(&r, "l", path), 0755), 0);
	rig_stream(&r, 0, "web:0", &log, "l");
	rig_start(&r);
	fd = rig_open(&r, 0);
	rig_flood(fd, 4 << 20);
	rig_wait(&r, has_dropped, "dropped bytes");
	cr_expect(is_failing(&r));
	cr_expect(logbook_sink_trouble(&r.lb, 0, text, sizeof(text)));
	cr_expect_not_null(strstr(text, "Is a directory"), "%s", text);
	cr_expect_eq(rig_drain(&r, 0, true, RIG_LIMIT_MS), 0, "a failing file holds no drain up");
	cr_assert_eq(rmdir(path), 0);
	rig_put(fd, "again\n");
	rig_wait(&r, has_again, "recovery");
	cr_expect_not(logbook_sink_trouble(&r.lb, 0, text, sizeof(text)));
	c = rig_counters(&r, 0);
	cr_expect_eq(c.in, (4 << 20) + 6);
	file = rig_file(&r, "l", &len);
	snprintf(text, sizeof(text), "-- %llu bytes lost --\n", (unsigned long long)c.dropped);
	cr_expect_eq(strncmp(file, text, strlen(text)), 0, "%.60s", file);
	cr_expect_eq(len, c.written + strlen(text));
	cr_expect_str_eq(file + len - 6, "again\n");
	free(file);
	close(fd);
	rig_fini(&r);
}

/* LG02: a full disk. */
Test(logger_faults, LG02_full_disk)
{
	struct conf_log log = rig_log();
	struct logbook_counters c;
	char path[256], big[256];
	struct rig r;
	char *file, *line, *save;
	int fd, hog;
	uint64_t told = 0, bytes = 0;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		cr_skip_test("needs a mount namespace");
	rig_init(&r);
	cr_assert_eq(mkdir(rig_path(&r, "disk", path), 0755), 0);
	cr_assert_eq(mount("tmpfs", path, "tmpfs", 0, "size=1m"), 0);
	log.format = CONF_FORMAT_RAW;
	rig_stream(&r, 0, "web:0", &log, "disk/l");
	rig_start(&r);
	fd = rig_open(&r, 0);
	hog = open(rig_path(&r, "disk/hog", big), O_WRONLY | O_CREAT, 0600);
	cr_assert_eq(ftruncate(hog, 0), 0);
	cr_assert_eq(posix_fallocate(hog, 0, 900000), 0);
	rig_flood(fd, 4 << 20);
	rig_wait(&r, has_dropped, "dropped bytes");
	cr_expect_eq(atomic_load(&logbook_sink(&r.lb, 0)->error), ENOSPC);
	close(hog);
	unlink(big);
	rig_put(fd, "again\n");
	rig_wait(&r, is_well, "recovery");
	c = rig_counters(&r, 0);
	file = rig_file(&r, "disk/l", NULL);
	for (line = strtok_r(file, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long n;

		if (sscanf(line, "-- %llu bytes lost --", &n) == 1)
			told += n;
		else
			bytes += strlen(line) + 1;
	}
	cr_expect_eq(told, c.dropped);
	cr_expect_eq(bytes, c.written);
	free(file);
	close(fd);
	rig_kill(&r);
	umount(path);
	rig_fini(&r);
}

/* overflow = "block": nothing is dropped, the worker waits. */
Test(logger_faults, a_blocking_log_makes_the_worker_wait)
{
	enum { BYTES = 3 << 20 };
	struct conf_log log = rig_log();
	struct pollfd p;
	char path[256], *file;
	struct rig r;
	size_t len, put_bytes = 0;
	int fd;

	log.format = CONF_FORMAT_RAW;
	log.overflow = CONF_OVERFLOW_BLOCK;
	rig_init(&r);
	cr_assert_eq(mkdir(rig_path(&r, "l", path), 0755), 0);
	rig_stream(&r, 0, "web:0", &log, "l");
	rig_start(&r);
	fd = rig_open(&r, 0);
	p = (struct pollfd){ .fd = fd, .events = POLLOUT };
	cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	while (put_bytes < BYTES && poll(&p, 1, 1500) == 1) {
		char block[4096];
		ssize_t n;

		memset(block, 'b', sizeof(block));
		block[sizeof(block) - 1] = '\n';
		n = write(fd, block, sizeof(block));
		put_bytes += n > 0 ? (size_t)n : 0;
	}
	cr_expect_lt(put_bytes, BYTES, "the worker was not held back");
	cr_expect_eq(rig_counters(&r, 0).dropped, 0);
	cr_assert_eq(rmdir(path), 0);
	rig_wait(&r, is_well, "recovery");
	cr_assert_eq(rig_drain(&r, 0, true, RIG_LIMIT_MS), 0);
	cr_expect_eq(rig_counters(&r, 0).dropped, 0);
	file = rig_file(&r, "l", &len);
	cr_expect_eq(len, put_bytes);
	free(file);
	close(fd);
	rig_fini(&r);
}

/* LG07: no rotation of what is no file. */
Test(logger_faults, LG07_special_files)
{
	struct conf_log log = rig_log();
	struct rig r;
	char path[256], buf[100] = "";
	struct stat st;
	int fifo, full, null;

	log.format = CONF_FORMAT_RAW;
	log.max_size_bytes = 10;
	rig_init(&r);
	cr_assert_eq(mkfifo(rig_path(&r, "fifo", path), 0600), 0);
	rig_stream(&r, 0, "web:0", &log, "fifo");
	rig_stream(&r, 1, "web:1", &log, "/dev/full");
	rig_stream(&r, 2, "web:2", &log, "/dev/null");
	rig_start(&r);
	full = rig_open(&r, 1);
	rig_put(full, "no room\n");
	null = rig_open(&r, 2);
	rig_put(null, "gone and more\n");
	cr_expect_eq(rig_drain(&r, 2, true, RIG_LIMIT_MS), 0);
	cr_expect_eq(rig_counters(&r, 2).written, 14);
	cr_expect_eq(rig_drain(&r, 1, true, RIG_LIMIT_MS), 0);
	cr_expect_eq(atomic_load(&logbook_sink(&r.lb, 1)->error), ENOSPC);
	/* A FIFO nobody reads is a failing destination; with a reader it is one that works. */
	fifo = rig_open(&r, 0);
	rig_put(fifo, "a line longer than max_size\n");
	rig_wait(&r, is_failing, "ENXIO");
	cr_expect_eq(atomic_load(&logbook_sink(&r.lb, 0)->error), ENXIO);
	int reader = open(path, O_RDONLY | O_NONBLOCK);
	rig_wait(&r, is_well, "a reader of the FIFO");
	cr_expect_eq(read(reader, buf, sizeof(buf)), 28);
	cr_expect_str_eq(buf, "a line longer than max_size\n");
	cr_expect_eq(stat(path, &st), 0);
	cr_expect(S_ISFIFO(st.st_mode));
	cr_expect_null(rig_file(&r, "fifo.1", NULL));
	close(reader);
	close(fifo);
	close(full);
	close(null);
	rig_fini(&r);
}

static bool has_stalled(struct rig *r)
{
	return is_failing(r) && atomic_load(&logbook_sink(&r->lb, 0)->error) == ETIMEDOUT;
}

/* LG15, LG04: a reader of stdout that stops, then goes on; lines stay whole. */
Test(logger_faults, LG15_a_stalled_stdout)
{
	struct conf_log log = rig_log();
	struct logbook_counters c;
	struct rig r;
	int fd, ends[2];
	char *all = malloc(8 << 20), *line, *save;
	uint64_t told = 0, bytes = 0;
	size_t len = 0;
	struct pollfd p;

	log.to = CONF_LOG_STDOUT;
	log.format = CONF_FORMAT_RAW;
	rig_init(&r);
	cr_assert_eq(pipe(ends), 0);
	r.out = ends[1];
	rig_stream(&r, 0, "web:0", &log, "");
	rig_start(&r);
	fd = rig_open(&r, 0);
	rig_flood(fd, 4 << 20);
	cr_expect_eq(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0, "the daemon's stdout is not ours");
	rig_wait(&r, has_stalled, "a stall");
	rig_wait(&r, has_dropped, "dropped bytes");
	rig_put(fd, "again\n");
	p = (struct pollfd){ .fd = ends[0], .events = POLLIN };
	while (poll(&p, 1, has_again(&r) ? 0 : RIG_LIMIT_MS) == 1) {
		ssize_t n = read(ends[0], all + len, 65536);

		cr_assert_gt(n, 0);
		len += (size_t)n;
	}
	all[len] = '\0';
	c = rig_counters(&r, 0);
	cr_expect_eq(c.in, (4 << 20) + 6);
	for (line = strtok_r(all, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long n;

		if (sscanf(line, "-- %llu bytes lost --", &n) == 1)
			told += n;
		else
			bytes += strlen(line) + 1;
	}
	cr_expect_eq(told, c.dropped);
	/* The write that the stall cut in two is counted as dropped, its beginning is out. */
	cr_expect_geq(bytes, c.written);
	cr_expect_leq(bytes, c.written + 65536 + 4096);
	free(all);
	close(fd);
	close(ends[0]);
	close(ends[1]);
	rig_fini(&r);
}

/* SE02: links, hard links; owner and mode. */
Test(logger_faults, SE02_no_link_is_followed)
{
	struct conf_log log = rig_log();
	char dir[256], decoy[256], path[256], *text;
	struct stat st;
	struct rig r;
	int fd, sink;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	rig_init(&r);
	fd = open(rig_path(&r, "decoy", decoy), O_WRONLY | O_CREAT, 0600);
	rig_put(fd, "secret\n");
	close(fd);
	cr_assert_eq(mkdir(rig_path(&r, "theirs", dir), 0755), 0);
	cr_assert_eq(chown(dir, 65534, 65534), 0);
	cr_assert_eq(symlink(decoy, rig_path(&r, "theirs/link", path)), 0);
	cr_assert_eq(link(decoy, rig_path(&r, "theirs/hard", path)), 0);
	cr_assert_eq(symlink("/etc", rig_path(&r, "theirs/dir", path)), 0);
	rig_stream(&r, 0, "web:0", &log, "theirs/link");
	rig_stream(&r, 1, "web:1", &log, "theirs/hard");
	rig_stream(&r, 2, "web:2", &log, "theirs/dir/reeve-must-not-be-here");
	log.mode = 0604;
	log.has_owner = true;
	log.owner_uid = 65534;
	log.owner_gid = 65533;
	sink = (int)rig_stream(&r, 3, "web:3", &log, "theirs/right");
	rig_start(&r);
	for (uint32_t i = 0; i < 4; i++) {
		fd = rig_open(&r, i);
		rig_put(fd, "x\n");
		close(fd);
		cr_expect_eq(rig_drain(&r, i, true, RIG_LIMIT_MS), 0);
	}
	cr_expect_eq(atomic_load(&logbook_sink(&r.lb, 0)->error), ELOOP);
	cr_expect_eq(atomic_load(&logbook_sink(&r.lb, 1)->error), EPERM);
	cr_expect_eq(atomic_load(&logbook_sink(&r.lb, 2)->error), ELOOP);
	cr_expect_eq(atomic_load(&logbook_sink(&r.lb, (uint32_t)sink)->error), 0);
	text = rig_file(&r, "decoy", NULL);
	cr_expect_str_eq(text, "secret\n");
	free(text);
	cr_expect_eq(access("/etc/reeve-must-not-be-here", F_OK), -1);
	cr_assert_eq(stat(rig_path(&r, "theirs/right", path), &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0604);
	cr_expect_eq(st.st_uid, 65534);
	cr_expect_eq(st.st_gid, 65533);
	rig_fini(&r);
}

/* Swap what stands at theirs/x as fast as possible, as the one who owns the directory. */
static void swap_for_ever(const char *dir, const char *decoy)
{
	if (setgid(65534) < 0 || setuid(65534) < 0 || chdir(dir) < 0)
		_exit(1);
	for (;;) {
		(void)!symlink(decoy, "s");
		(void)!rename("s", "x");
		(void)!link(decoy, "h");
		(void)!rename("h", "x");
		close(open("r", O_WRONLY | O_CREAT, 0666));
		(void)!rename("r", "x");
		unlink("x");
	}
}

Test(logger_faults, SE02_swaps_in_a_race)
{
	struct conf_log log = rig_log();
	char dir[256], decoy[256];
	struct stat st;
	struct rig r;
	pid_t pid;
	int fd;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	rig_init(&r);
	cr_assert_eq(chmod(r.dir, 0755), 0);
	fd = open(rig_path(&r, "decoy", decoy), O_WRONLY | O_CREAT, 0666);
	rig_put(fd, "secret\n");
	close(fd);
	cr_assert_eq(chmod(decoy, 0666), 0); /* or hard links to it are forbidden */
	cr_assert_eq(mkdir(rig_path(&r, "theirs", dir), 0755), 0);
	cr_assert_eq(chown(dir, 65534, 65534), 0);
	log.format = CONF_FORMAT_RAW;
	log.mode = 0600;
	log.has_owner = true;
	log.owner_uid = log.owner_gid = 65534;
	log.max_size_bytes = 8;
	rig_stream(&r, 0, "web:0", &log, "theirs/x");
	rig_start(&r);
	pid = fork();
	if (pid == 0)
		swap_for_ever(dir, decoy);
	fd = rig_open(&r, 0);
	for (int i = 0; i < 2000; i++) {
		rig_put(fd, "evil\n");
		atomic_fetch_add(&r.lb.h->reopens, 1);
		cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	rig_expect_file(&r, "decoy", "secret\n");
	cr_assert_eq(stat(decoy, &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0666);
	cr_expect_eq(st.st_uid, 0);
	cr_expect_gt(rig_counters(&r, 0).written, 0);
	close(fd);
	rig_fini(&r);
}

/* Where splice(2) is refused. */
Test(logger_faults, works_without_splice)
{
	struct conf_log log = rig_log();
	struct rig r;
	size_t len;
	int fd;

	log.format = CONF_FORMAT_RAW;
	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "l");
	atomic_store(&r.lb.h->spliceless, 1);
	rig_start(&r);
	fd = rig_open(&r, 0);
	rig_flood(fd, 4 << 20);
	cr_assert_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	free(rig_file(&r, "l", &len));
	cr_expect_eq(len, 4 << 20);
	close(fd);
	rig_fini(&r);
}

/* A hang in a file: the successor leaves it alone for a while, others go on. */
Test(logger_faults, a_hanging_file_is_quarantined)
{
	struct conf_log log = rig_log();
	char text[700];
	struct rig r;
	int bad, good;

	rig_init(&r);
	rig_stream(&r, 0, "web:0", &log, "bad");
	rig_stream(&r, 1, "web:1", &log, "good");
	rig_start(&r);
	rig_kill(&r);
	atomic_store(&r.lb.h->hang_sink, 0);
	atomic_fetch_add(&r.lb.h->hangs, 1);
	rig_start(&r);
	bad = rig_open(&r, 0);
	good = rig_open(&r, 1);
	rig_put(bad, "held\n");
	rig_put(good, "goes on\n");
	cr_expect_eq(rig_drain(&r, 1, false, RIG_LIMIT_MS), 0);
	cr_expect_eq(rig_drain(&r, 0, false, RIG_LIMIT_MS), 0);
	rig_expect_text(&r, "good", "web:1 goes on\n");
	cr_expect_null(rig_file(&r, "bad", NULL));
	cr_expect_eq(atomic_load(&logbook_sink(&r.lb, 0)->state), SINK_QUARANTINED);
	cr_expect(logbook_sink_trouble(&r.lb, 0, text, sizeof(text)));
	cr_expect_not_null(strstr(text, "hung"), "%s", text);
	rig_wait(&r, is_well, "the end of the quarantine");
	rig_expect_text(&r, "bad", "web:0 held\n");
	close(bad);
	close(good);
	rig_fini(&r);
}
