/*
 * Owns the runtime directory: who may be in it (one daemon, by a lock that all three roles hold),
 * which identity it has, and the small file that says how the daemon is when nobody answers. A
 * second instance touches nothing here.
 */
#include "boot/boot.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define LOCK_WAIT_MS  10000
#define LOCK_RETRY_MS 50
/* A manager has that long for its last duty, see leftovers_mourn(). */
#define ORPHAN_MS 2000
/* "/n/ROW.INCARNATION.TOKEN" below the directory has to fit a socket's name (CT13). */
#define LONGEST_SOCKET ((int)sizeof("/n/65535.4294967295.0123456789abcdef") - 1)
#define DIR_MAX	       ((int)sizeof(((struct sockaddr_un *)0)->sun_path) - 1 - LONGEST_SOCKET)

static int check_names(const struct conf *conf)
{
	const char *dir = conf->daemon.runtime_dir, *sock = conf->daemon.control.socket;
	const int room = (int)sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

	if ((int)strlen(dir) > DIR_MAX) {
		log_error("%s: the runtime directory's name is too long (%zu bytes, at most %d: "
			  "names of sockets in it end at %d)",
			  dir, strlen(dir), DIR_MAX, room);
		return EXIT_CONFIG;
	}
	if (sock && (int)strlen(sock) > room) {
		log_error("%s: the control socket's name is too long (%zu bytes, at most %d)", sock,
			  strlen(sock), room);
		return EXIT_CONFIG;
	}
	return 0;
}

static int open_dir(const char *path)
{
	auto_fd fd = -1;
	struct stat st;

	if (mkdir(path, 0755) == 0) {
		/* umask must not decide who finds the control socket */
		if (chmod(path, 0755) < 0)
			return -errno;
	} else if (errno != EEXIST) {
		int err = errno;

		log_error("%s: making the runtime directory: %s%s", path, strerror(err),
			  err == ENOENT ? " above it; XDG_RUNTIME_DIR (of a plain user) or "
					  "daemon.runtime_dir names another place"
					: "");
		return -err;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		log_error("%s: opening the runtime directory: %s", path, strerror(errno));
		return -errno;
	}
	if (st.st_uid != geteuid() || (st.st_mode & 022)) {
		log_error("%s: the runtime directory must belong to uid %u and nobody else may "
			  "write to it (it belongs to %u, mode %04o)",
			  path, (unsigned)geteuid(), (unsigned)st.st_uid,
			  (unsigned)(st.st_mode & 07777));
		return -EPERM;
	}
	return give_fd(&fd);
}

struct holder {
	long pid, manager_pid;
	bool going; /* ending its workers, or gone itself */
	bool dead;
};

static long number_after(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? atol(at + strlen(key)) : 0;
}

bool runtime_dir_holds_lock(const struct keeper *k, pid_t pid)
{
	char path[64];
	struct stat ours, st;
	bool found = false;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	while (d && !found && fstat(k->lock, &ours) == 0 && (e = readdir(d)))
		found = fstatat(dirfd(d), e->d_name, &st, 0) == 0 && st.st_ino == ours.st_ino &&
			st.st_dev == ours.st_dev;
	if (d)
		closedir(d);
	return found;
}

/* Killed and not reaped yet by whoever started it, or its number is another's by now. */
static bool is_keeper_dead(const struct keeper *k, pid_t pid)
{
	char path[48], stat[512];
	const char *end;

	if (pid <= 1)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_at(AT_FDCWD, path, stat, sizeof(stat)) < 0)
		return kill(pid, 0) < 0 && errno == ESRCH;
	end = strrchr(stat, ')');
	if (end && (strncmp(end, ") Z", 3) == 0 || strncmp(end, ") X", 3) == 0))
		return true;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	return access(path, R_OK | X_OK) == 0 && !runtime_dir_holds_lock(k, pid);
}

/* What the holder of the lock says of itself. */
static struct holder read_holder(const struct keeper *k)
{
	struct holder h = { 0 };
	char text[512] = "\n";

	/* None: it is about to write its first, or has removed its last. */
	if (fd_read_at(k->dir, KEEPER_STATE_FILE, text + 1, sizeof(text) - 1) <= 0)
		return (struct holder){ .going = true };
	h.pid = number_after(text, "\npid=");
	h.manager_pid = number_after(text, "\nmanager_pid=");
	h.dead = is_keeper_dead(k, (pid_t)h.pid);
	h.going = h.dead || strstr(text, "\nstate=ending");
	return h;
}

/* A manager that hung when its keeper was killed would hold the lock for ever. Its number is from a
 * file: what is killed is what was looked at. */
static void end_orphaned_manager(const struct keeper *k, const struct holder *h)
{
	auto_fd pidfd = h->manager_pid > 1 ? (int)syscall(SYS_pidfd_open, h->manager_pid, 0) : -1;

	if (!h->dead || h->manager_pid <= 1 || !runtime_dir_holds_lock(k, (pid_t)h->manager_pid))
		return;
	log_warn("killing the manager (pid %ld) that outlived its keeper", h->manager_pid);
	if (pidfd < 0 || syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0)
		kill((pid_t)h->manager_pid, SIGKILL);
}

static int wait_for_lock(struct keeper *k, const char *path)
{
	int64_t start = clock_mono_ms(), waited;
	struct holder h;

	while (flock(k->lock, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR) {
			log_error("%s/lock: %s", path, strerror(errno));
			return EXIT_FAILURE;
		}
		h = read_holder(k);
		waited = clock_mono_ms() - start;
		if (!h.going || waited >= LOCK_WAIT_MS) {
			log_error("%s: another daemon owns this runtime directory (pid %ld)", path,
				  h.pid);
			return EXIT_BUSY;
		}
		if (waited == 0)
			log_info("%s: waiting for pid %ld to end its workers", path, h.pid);
		if (waited >= ORPHAN_MS)
			end_orphaned_manager(k, &h);
		if (boot_stop_asked(LOCK_RETRY_MS))
			return BOOT_ASKED;
	}
	return 0;
}

static int take_lock(struct keeper *k, const char *path)
{
	k->lock = openat(k->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (k->lock < 0) {
		log_error("%s/lock: %s", path, strerror(errno));
		return EXIT_FAILURE;
	}
	return wait_for_lock(k, path);
}

int runtime_dir_take(struct keeper *k, const struct conf *conf)
{
	const char *path = conf->daemon.runtime_dir;
	int code = check_names(conf);

	if (code)
		return code;
	k->dir = open_dir(path);
	if (k->dir < 0)
		return EXIT_FAILURE;
	return take_lock(k, path);
}

static bool parse_identity(const char *text, uint8_t ret[static 16])
{
	for (int i = 0; i < 16; i++) {
		unsigned byte;

		if (strspn(text + 2 * i, "0123456789abcdef") < 2 ||
		    sscanf(text + 2 * i, "%2x", &byte) != 1)
			return false;
		ret[i] = (uint8_t)byte;
	}
	return true;
}

int runtime_dir_identity(struct keeper *k, uint8_t ret[static 16], bool *ret_known)
{
	char text[64];

	*ret_known = fd_read_at(k->dir, "identity", text, sizeof(text)) >= 32 &&
		     parse_identity(text, ret);
	if (*ret_known)
		return 0;
	if (getrandom(ret, 16, 0) != 16)
		return -EIO;
	for (int i = 0; i < 16; i++)
		snprintf(text + 2 * i, 4, "%02x\n", ret[i]);
	return fd_replace_at(k->dir, "identity", text, 0600);
}

static void clean_notify_dir(int dir)
{
	int fd = openat(dir, "n", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			unlinkat(fd, e->d_name, 0);
	}
	closedir(d);
	unlinkat(dir, "n", AT_REMOVEDIR);
}

void runtime_dir_clean(struct keeper *k)
{
	struct stat st;
	const struct store *s = &k->store;

	/* Only what is still ours: somebody may have put another socket there (CT01). */
	if (s->control_path[0] && lstat(s->control_path, &st) == 0 && st.st_dev == s->control_dev &&
	    st.st_ino == s->control_ino)
		unlink(s->control_path);
	clean_notify_dir(k->dir);
	unlinkat(k->dir, KEEPER_STATE_FILE, 0);
}

void runtime_dir_remove(struct keeper *k, const char *path)
{
	if (k->dir >= 0) {
		unlinkat(k->dir, "lock", 0);
		unlinkat(k->dir, "identity", 0);
	}
	rmdir(path);
}
