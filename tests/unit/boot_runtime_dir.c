/* The runtime directory: who may be in it, its identity, what is said and what is removed. */
#include "boot/boot.h"

#include "base/mem.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct rig {
	char dir[64], run[80];
	struct conf conf;
	struct keeper k;
};

static void begin(struct rig *r)
{
	log_init("test", LOG_LEVEL_ERROR);
	*r = (struct rig){ .dir = "/tmp/reeve-unit-XXXXXX", .k = { .dir = -1, .lock = -1 } };
	cr_assert_not_null(mkdtemp(r->dir));
	snprintf(r->run, sizeof(r->run), "%s/run", r->dir);
	r->conf.daemon.runtime_dir = r->run;
}

static void end(struct rig *r)
{
	static const char *const names[] = { "lock", "identity", "keeper" };
	char path[160];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", r->run, names[i]);
		unlink(path);
	}
	rmdir(r->run);
	cr_assert_eq(rmdir(r->dir), 0);
	close_fd(&r->k.lock);
	close_fd(&r->k.dir);
}

static void put_file(const struct rig *r, const char *name, const char *text)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", r->run, name);
	f = fopen(path, "we");
	cr_assert_not_null(f);
	fputs(text, f);
	fclose(f);
}

Test(keeper_runtime_dir, made_with_the_right_mode_whatever_the_umask)
{
	struct rig r;
	struct stat st;

	begin(&r);
	umask(0777);
	cr_assert_eq(runtime_dir_take(&r.k, &r.conf), 0);
	umask(022);
	cr_assert_eq(stat(r.run, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0755);
	end(&r);
}

Test(keeper_runtime_dir, refuses_a_directory_others_may_write)
{
	struct rig r;

	begin(&r);
	cr_assert_eq(mkdir(r.run, 0755), 0);
	cr_assert_eq(chmod(r.run, 0777), 0);
	cr_assert_eq(runtime_dir_take(&r.k, &r.conf), EXIT_FAILURE);
	end(&r);
}

Test(keeper_runtime_dir, refuses_a_link)
{
	struct rig r;
	char target[96];

	begin(&r);
	snprintf(target, sizeof(target), "%s/elsewhere", r.dir);
	cr_assert_eq(mkdir(target, 0755), 0);
	cr_assert_eq(symlink(target, r.run), 0);
	cr_assert_eq(runtime_dir_take(&r.k, &r.conf), EXIT_FAILURE);
	cr_assert_eq(unlink(r.run), 0);
	cr_assert_eq(rmdir(target), 0);
	end(&r);
}

/* CT13: the longest socket in it has to fit. */
Test(keeper_runtime_dir, ct13_long_names_are_refused_before_anything_is_made)
{
	struct rig r;
	char name[100];

	begin(&r);
	snprintf(name, sizeof(name), "%s/%0*d", r.dir, 90 - (int)strlen(r.dir), 0);
	r.conf.daemon.runtime_dir = name;
	cr_assert_eq(runtime_dir_take(&r.k, &r.conf), EXIT_CONFIG);
	cr_assert_eq(access(name, F_OK), -1);
	end(&r);
}

/* CT01: a running daemon is not waited for, and nothing of it is touched. */
Test(keeper_runtime_dir, ct01_second_instance_loses)
{
	struct rig r;
	struct keeper second = { .dir = -1, .lock = -1 };
	char text[64];

	begin(&r);
	cr_assert_eq(runtime_dir_take(&r.k, &r.conf), 0);
	snprintf(text, sizeof(text), "pid=%d\nstate=running\n", (int)getpid());
	put_file(&r, "keeper", text);
	cr_assert_eq(runtime_dir_take(&second, &r.conf), EXIT_BUSY);
	end(&r);
}

/* Has the process opened this file? */
static bool has_open(pid_t pid, const struct stat *file)
{
	char path[64];
	struct stat st;

	for (int fd = 0; fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		if (stat(path, &st) == 0 && st.st_ino == file->st_ino && st.st_dev == file->st_dev)
			return true;
	}
	return false;
}

/* Holds the lock until its parent has come for it. */
static void hold_lock(const char *run, int say)
{
	char path[160];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/lock", run);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (flock(fd, LOCK_EX) < 0 || fstat(fd, &st) < 0 || write(say, "x", 1) != 1)
		_exit(1);
	while (!has_open(getppid(), &st))
		poll(NULL, 0, 1);
	_exit(0);
}

/* One that is ending its workers is waited for. */
Test(keeper_runtime_dir, successor_waits_for_the_end)
{
	struct rig r;
	struct keeper second = { .dir = -1, .lock = -1 };
	int said[2], status;
	char byte;
	pid_t pid;

	begin(&r);
	cr_assert_eq(runtime_dir_take(&r.k, &r.conf), 0);
	put_file(&r, "keeper", "pid=1\nstate=ending\n");
	close_fd(&r.k.lock);
	cr_assert_eq(pipe2(said, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		hold_lock(r.run, said[1]);
	cr_assert_eq(read(said[0], &byte, 1), 1);
	cr_assert_eq(runtime_dir_take(&second, &r.conf), 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	end(&r);
}

Test(keeper_runtime_dir, identity_is_kept_and_mended)
{
	struct rig r;
	uint8_t first[16], second[16];
	bool known;

	begin(&r);
	cr_assert_eq(runtime_dir_take(&r.k, &r.conf), 0);
	cr_assert_eq(runtime_dir_identity(&r.k, first, &known), 0);
	cr_assert_not(known);
	cr_assert_eq(runtime_dir_identity(&r.k, second, &known), 0);
	cr_assert(known);
	cr_assert_arr_eq(first, second, 16);
	put_file(&r, "identity", "0123456789abcdef0123456789abcdeg\n");
	cr_assert_eq(runtime_dir_identity(&r.k, second, &known), 0);
	cr_assert_not(known);
	put_file(&r, "identity", "0123456789abcdef0123456789abcdef\n");
	cr_assert_eq(runtime_dir_identity(&r.k, second, &known), 0);
	cr_assert(known);
	cr_assert_eq(second[15], 0xef);
	end(&r);
}

Test(keeper_runtime_dir, clean_leaves_lock_and_identity)
{
	struct rig r;
	char path[160];
	uint8_t id[16];
	bool known;

	begin(&r);
	cr_assert_eq(runtime_dir_take(&r.k, &r.conf), 0);
	cr_assert_eq(runtime_dir_identity(&r.k, id, &known), 0);
	state_say(&r.k, "running");
	snprintf(path, sizeof(path), "%s/n", r.run);
	cr_assert_eq(mkdir(path, 0711), 0);
	put_file(&r, "n/1.1.aa", "");
	snprintf(path, sizeof(path), "%s/keeper", r.run);
	cr_assert_eq(access(path, F_OK), 0);
	runtime_dir_clean(&r.k);
	cr_assert_eq(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/n", r.run);
	cr_assert_eq(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/identity", r.run);
	cr_assert_eq(access(path, F_OK), 0);
	end(&r);
}
