/*
 * Owns the cgroup below which workers are born (BASE/w) and the one the roles sit in
 * (BASE/daemon): found or made at start, swept of what an earlier life left, removed at the end.
 * Whatever is refused on the way means "no cgroups", with the reason noted for doctor.
 */
#include "boot/boot.h"

#include "base/cgroup_fs.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "ledger/leaves.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define EMPTY_WAIT_MS  5000
#define REMOVE_WAIT_MS 200
#define TAKEN_WAIT_MS  1000 /* for roles of an earlier life to be gone */

static int none(struct keeper *k, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int none(struct keeper *k, int err, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(k->ledger.h->cgroup_note, sizeof(k->ledger.h->cgroup_note), format, ap);
	va_end(ap);
	k->cg.base[0] = '\0';
	return err;
}

static bool is_delegated(const char *path)
{
	char value[4];

	return getxattr(path, "user.delegate", value, sizeof(value)) > 0 ||
	       getxattr(path, "trusted.delegate", value, sizeof(value)) > 0;
}

/* A directory of ours alone in the one that we were started in. */
static int name_private(struct keeper *k)
{
	const char *own = k->cg.own;

	k->cg.made = true;
	return snprintf(k->cg.base, sizeof(k->cg.base), "%s%sreeve-%.8s", own,
			own[strlen(own) - 1] == '/' ? "" : "/", k->ledger.h->identity_text);
}

/* See design.md, "Emptiness of a tree": which subtree may be ours. What was delegated is so as a
 * whole, unless another daemon is there (is_taken) or was when an earlier life of ours came. */
static int choose(struct keeper *k, enum conf_cgroup want)
{
	const char *own = k->cg.own;
	size_t size = sizeof(k->cg.base);
	bool delegated;
	int n;

	if (want == CONF_CGROUP_OFF)
		return none(k, -ENOTSUP, "daemon.cgroup is \"off\"");
	if (cgroup_fs_own(k->cg.own, sizeof(k->cg.own)) < 0)
		return none(k, -ENOENT, "no cgroup v2 file system shows the cgroup of reeved");
	delegated = is_delegated(own);
	if (!delegated && want != CONF_CGROUP_REQUIRE && access("/run/systemd/system", F_OK) == 0)
		return none(k, -EPERM,
			    "%s is not delegated to reeved by systemd (Delegate=yes in its unit)",
			    own);
	n = name_private(k);
	if (delegated && access(k->cg.base, F_OK) < 0) {
		k->cg.made = false;
		n = snprintf(k->cg.base, size, "%s", own);
	}
	if (n >= (int)size)
		return none(k, -ENAMETOOLONG, "%s: the name is too long", own);
	return 0;
}

static int open_base(const struct keeper *k)
{
	int fd = open(k->cg.base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int make(int base, const char *name)
{
	return mkdirat(base, name, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static int make_dirs(struct keeper *k)
{
	auto_fd base = -1;
	int err = 0;

	if (k->cg.made && mkdir(k->cg.base, 0755) < 0 && errno != EEXIST)
		err = -errno;
	if (err == 0)
		base = open_base(k);
	if (err == 0 && base < 0)
		err = base;
	if (err == 0)
		err = make(base, "daemon");
	if (err == 0)
		err = make(base, "w");
	if (err == 0)
		err = cgroup_fs_join(base, "daemon");
	if (err == 0)
		return 0;
	if (base >= 0) {
		unlinkat(base, "w", AT_REMOVEDIR);
		unlinkat(base, "daemon", AT_REMOVEDIR);
	}
	if (k->cg.made)
		rmdir(k->cg.base);
	return none(k, err, "%s: %s", k->cg.base, strerror(-err));
}

struct roles_there {
	const struct keeper *k;
	bool others;
};

static void look_at_role(pid_t pid, void *arg)
{
	struct roles_there *r = arg;

	r->others |= pid != getpid() && !runtime_dir_holds_lock(r->k, pid);
}

/*
 * Another daemon was started in the cgroup that was delegated: its roles sit where ours do, its
 * workers would be our leftovers. We have joined before we look, so of two that start at once one
 * at least sees the other. What hangs of an earlier life of ours holds our lock.
 */
static bool is_taken(const struct keeper *k)
{
	int64_t end = clock_mono_ms() + TAKEN_WAIT_MS;
	auto_fd base = open_base(k);
	struct roles_there r;

	do {
		r = (struct roles_there){ .k = k };
		cgroup_fs_each(base, "daemon", look_at_role, &r);
		if (r.others)
			poll(NULL, 0, 10);
	} while (r.others && clock_mono_ms() < end);
	return r.others;
}

static int make_base(struct keeper *k)
{
	int err = make_dirs(k);

	if (err < 0 || k->cg.made || !is_taken(k))
		return err;
	if (name_private(k) >= (int)sizeof(k->cg.base))
		return none(k, -ENAMETOOLONG, "%s: the name is too long", k->cg.own);
	log_info("another daemon is in %s: workers go to %s", k->cg.own, k->cg.base);
	return make_dirs(k);
}

/* What a tree's end and memory are read from. Absent ones (cgroup v1 has them) are no loss. */
static const char *const wanted[] = { "memory", "pids" };

static bool switch_controller(int base, const char *dir, const char *name, bool on)
{
	char path[600], change[32];

	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dir);
	snprintf(change, sizeof(change), "%c%s", on ? '+' : '-', name);
	return fd_write_at(base, path, change) == 0;
}

static bool has_controller(int base, const char *dir, const char *name)
{
	char path[600], text[256];

	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dir);
	return fd_read_at(base, path, text, sizeof(text)) > 0 && strstr(text, name);
}

static void enable_controllers(struct keeper *k)
{
	auto_fd base = open_base(k);

	for (unsigned i = 0; i < ARRAY_LEN(wanted); i++) {
		if (!has_controller(base, k->cg.own, wanted[i]) &&
		    switch_controller(base, k->cg.own, wanted[i], true))
			k->cg.own_enabled |= 1u << i;
		switch_controller(base, ".", wanted[i], true);
		switch_controller(base, "w", wanted[i], true);
	}
}

/* A cgroup with controllers enabled for its children holds no processes: before we go back. */
static void disable_controllers(struct keeper *k, int base)
{
	for (unsigned i = 0; i < ARRAY_LEN(wanted); i++) {
		switch_controller(base, ".", wanted[i], false);
		if (k->cg.own_enabled & 1u << i)
			switch_controller(base, k->cg.own, wanted[i], false);
	}
}

static bool left_on_purpose(const struct conf *conf, const char *group)
{
	const struct conf_group *g = conf_find_group(conf, group);

	return conf->daemon.stray_orphans == CONF_STRAY_LEAVE ||
	       (g && g->orphans == CONF_ORPHANS_LEAVE);
}

/* base/w/GROUP of an earlier life. */
static bool sweep_group(int base, const struct conf *conf, const char *group)
{
	char path[320];
	bool populated;

	snprintf(path, sizeof(path), "w/%s", group);
	populated = cgroup_fs_populated(base, path);
	if (populated && left_on_purpose(conf, group)) {
		/* Out of the way of this life's leaves. */
		if (make(base, "left") == 0)
			cgroup_fs_move(base, path, "left");
	} else if (populated) {
		cgroup_fs_kill(base, path);
		cgroup_fs_wait_empty(base, path, EMPTY_WAIT_MS);
	}
	cgroup_fs_remove(base, path, 0);
	return populated;
}

static bool sweep(struct keeper *k, const struct conf *conf)
{
	auto_fd base = open_base(k);
	int fd = base < 0 ? -1 : openat(base, "w", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	bool any = false;

	while (d && (e = readdir(d))) {
		if (e->d_type == DT_DIR && e->d_name[0] != '.')
			any |= sweep_group(base, conf, e->d_name);
	}
	if (d)
		closedir(d);
	return any;
}

int cgroup_begin(struct keeper *k, const struct conf *conf, bool *ret_leftovers)
{
	struct ledger_header *h = k->ledger.h;
	int err = choose(k, conf->daemon.cgroup);

	if (err == 0)
		err = make_base(k);
	if (err < 0) {
		if (conf->daemon.cgroup == CONF_CGROUP_REQUIRE) {
			log_error("daemon.cgroup = \"require\": %s", h->cgroup_note);
			return err;
		}
		log_info("no cgroups: %s; trees are followed by parent, session and marker",
			 h->cgroup_note);
		return 0;
	}
	snprintf(h->cgroup_base, sizeof(h->cgroup_base), "%s", k->cg.base);
	*ret_leftovers = sweep(k, conf);
	enable_controllers(k);
	{
		auto_fd base = open_base(k);

		h->cgroup_kill_ok = faccessat(base, "w/cgroup.kill", W_OK, 0) == 0;
	}
	return 0;
}

void cgroup_end(struct keeper *k)
{
	auto_fd base = k->cg.base[0] ? open_base(k) : -1, own = -1;

	if (base < 0)
		return;
	leaves_remove(&k->ledger, REMOVE_WAIT_MS);
	unlinkat(base, "left", AT_REMOVEDIR);
	disable_controllers(k, base);
	own = open(k->cg.own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (own >= 0 && cgroup_fs_join(own, ".") < 0)
		log_debug("%s cannot be entered again", k->cg.own);
	cgroup_fs_remove(base, "daemon", REMOVE_WAIT_MS);
	if (k->cg.made && rmdir(k->cg.base) < 0)
		log_info("%s stays: %s", k->cg.base, strerror(errno));
}
