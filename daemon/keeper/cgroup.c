/*
 * Owns the cgroup below which workers are born (BASE/w) and the one the roles sit in
 * (BASE/daemon): found or made at start, swept of what an earlier life left, removed at the end.
 * Whatever is refused on the way means "no cgroups", with the reason noted for doctor.
 */
#include "keeper/keeper.h"

#include "keeper/cgroup_fs.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

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

/* See design.md, "Emptiness of a tree": which subtree may be ours. */
static int choose(struct keeper *k, enum conf_cgroup want)
{
	const char *own = k->cg.own;
	size_t size = sizeof(k->cg.base);
	int n;

	if (want == CONF_CGROUP_OFF)
		return none(k, -ENOTSUP, "daemon.cgroup is \"off\"");
	if (cgroup_fs_own(k->cg.own, sizeof(k->cg.own)) < 0)
		return none(k, -ENOENT, "no cgroup v2 file system shows the cgroup of reeved");
	if (is_delegated(own)) {
		n = snprintf(k->cg.base, size, "%s", own);
	} else if (want == CONF_CGROUP_REQUIRE || access("/run/systemd/system", F_OK) < 0) {
		n = snprintf(k->cg.base, size, "%s%sreeve-%.8s", own,
			     own[strlen(own) - 1] == '/' ? "" : "/", k->ledger.h->identity_text);
		k->cg.made = true;
	} else {
		return none(k, -EPERM,
			    "%s is not delegated to reeved by systemd (Delegate=yes in its unit)",
			    own);
	}
	if (n >= (int)size)
		return none(k, -ENAMETOOLONG, "%s: the name is too long", own);
	return 0;
}

static int open_base(struct keeper *k)
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

static void wait_empty(int base, const char *path)
{
	int64_t end = clock_mono_ms() + EMPTY_WAIT_MS;

	while (cgroup_fs_populated(base, path) && clock_mono_ms() < end)
		poll(NULL, 0, 1);
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
		wait_empty(base, path);
	}
	cgroup_fs_remove(base, path);
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
		err = make_dirs(k);
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

/* Leaves of live workers, where the group leaves its orphans. */
static void kill_live_leaves(struct keeper *k, int base, uint32_t group)
{
	uint32_t n = atomic_load(&k->ledger.h->lives_high);

	for (uint32_t row = 0; row < n && row < LEDGER_ROWS; row++) {
		const struct ledger_life *life = ledger_life(&k->ledger, row);
		const struct ledger_slot *slot;
		char path[320];

		if (!ledger_life_live(&k->ledger, row) || life->kind != LIFE_WORKER ||
		    life->slot >= LEDGER_ROWS)
			continue;
		slot = ledger_slot(&k->ledger, life->slot);
		if (slot->group != group)
			continue;
		snprintf(path, sizeof(path), "w/%s/%u.%u", ledger_group(&k->ledger, group)->name,
			 slot->index, life->incarnation);
		cgroup_fs_kill(base, path);
	}
}

static bool any_left_group(struct keeper *k)
{
	uint32_t n = atomic_load(&k->ledger.h->groups_high);

	for (uint32_t row = 0; row < n && row < LEDGER_GROUPS; row++) {
		const struct ledger_group *g = ledger_group(&k->ledger, row);

		if (g->name[0] && g->orphans == CONF_ORPHANS_LEAVE)
			return true;
	}
	return false;
}

bool cgroup_kill_workers(struct keeper *k)
{
	uint32_t n = atomic_load(&k->ledger.h->groups_high);
	auto_fd base = k->cg.base[0] ? open_base(k) : -1;
	char path[320];

	if (base < 0)
		return false;
	if (!any_left_group(k))
		return cgroup_fs_kill(base, "w") == 0;
	for (uint32_t row = 0; row < n && row < LEDGER_GROUPS; row++) {
		const struct ledger_group *g = ledger_group(&k->ledger, row);

		if (!g->name[0])
			continue;
		snprintf(path, sizeof(path), "w/%s", g->name);
		if (g->orphans == CONF_ORPHANS_LEAVE)
			kill_live_leaves(k, base, row);
		else
			cgroup_fs_kill(base, path);
	}
	return true;
}

bool cgroup_workers_empty(struct keeper *k)
{
	auto_fd base = k->cg.base[0] ? open_base(k) : -1;

	if (base < 0 || any_left_group(k))
		return true;
	wait_empty(base, "w");
	return !cgroup_fs_populated(base, "w");
}

/* A task leaves its cgroup a moment after it was reaped (6.18: when it has been switched out). */
static void remove_soon(int dir, const char *path)
{
	int64_t end = clock_mono_ms() + REMOVE_WAIT_MS;

	while (cgroup_fs_remove(dir, path) == -EBUSY && clock_mono_ms() < end)
		poll(NULL, 0, 1);
}

void cgroup_end(struct keeper *k)
{
	auto_fd base = k->cg.base[0] ? open_base(k) : -1, own = -1;

	if (base < 0)
		return;
	if (any_left_group(k))
		cgroup_fs_remove(base, "w");
	else
		remove_soon(base, "w");
	unlinkat(base, "left", AT_REMOVEDIR);
	disable_controllers(k, base);
	own = open(k->cg.own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (own >= 0 && cgroup_fs_join(own, ".") < 0)
		log_debug("%s cannot be entered again", k->cg.own);
	remove_soon(base, "daemon");
	if (k->cg.made && rmdir(k->cg.base) < 0)
		log_info("%s stays: %s", k->cg.base, strerror(errno));
}
