/*
 * Is a fork safe? Asked of /proc before a fork, whatever the template says of itself: other threads
 * would be gone in the child with their locks held, a GPU cannot be used after a fork, an io_uring
 * and a file lock would be shared. What was opened since READY nobody expects in a worker.
 */
#include "manager/template.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "manager/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOOK_FRESH_MS 2 /* forks of one burst share a look */
#define RSS_GROWTH    4 /* a quarter of what it was at READY */
#define RSS_FLOOR     (16u << 20)
#define FDS_FOLLOWED  512u
#define NAMES_MAX     100
#define LOOK_MAX      4096 /* tasks, open files: of more no look is taken, we must not stand still */

/* How it is called in messages, and when its users may do what keeps it from being forked. */
static const char *kind_of(const struct worker *w)
{
	return w->slot->kind == SLOT_TEMPLATE ? "template" : "seed";
}

static const char *name_of(const struct worker *w)
{
	return w->slot->kind == SLOT_TEMPLATE ? w->group->row->name : w->name;
}

static const char *when_instead(const struct worker *w)
{
	return w->slot->kind == SLOT_TEMPLATE ? "in @after_fork" : "after fork_point()";
}

static bool allowed(const struct conf_group *c, const char *thread)
{
	for (char **name = c ? c->fork_allow_threads : NULL; name && *name; name++)
		if (strcmp(*name, thread) == 0)
			return true;
	return false;
}

/* Names of threads that are not allowed for; the number of all tasks, or -errno. */
static int look_at_tasks(const struct worker *w, pid_t pid, char names[static NAMES_MAX],
			 int *ret_others)
{
	char path[64], comm[32];
	struct dirent *e;
	size_t at = 0;
	int n = 0;
	DIR *dir;

	*ret_others = 0;
	names[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (n < LOOK_MAX && (e = readdir(dir))) {
		int tid = atoi(e->d_name);

		if (tid <= 0)
			continue;
		n++;
		if (tid == pid)
			continue;
		snprintf(path, sizeof(path), "%d/comm", tid);
		if (fd_read_at(dirfd(dir), path, comm, sizeof(comm)) <= 0)
			continue; /* gone meanwhile */
		comm[strcspn(comm, "\n")] = '\0';
		if (allowed(w->group->conf, comm))
			continue;
		(*ret_others)++;
		if (at < NAMES_MAX)
			at += (size_t)snprintf(names + at, NAMES_MAX - at, "%s%s", at ? ", " : "",
					       comm);
	}
	closedir(dir);
	return n;
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool is_gpu(const char *what)
{
	return begins(what, "/dev/nvidia") || begins(what, "/dev/kfd") || begins(what, "/dev/dri/");
}

static bool holds_lock(pid_t pid, int fd)
{
	char path[64], text[1024];

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, fd);
	return fd_read_at(AT_FDCWD, path, text, sizeof(text)) > 0 && strstr(text, "\nlock:");
}

static bool is_expected(const struct ledger_template *t, int fd)
{
	if (!t->fd_map_valid || (unsigned)fd >= FDS_FOLLOWED)
		return true;
	return t->fd_map[fd / 64] >> (fd % 64) & 1;
}

/* One open file; 0, or -EBUSY with its fault in *d. */
static int look_at_fd(struct forker *f, pid_t pid, int fd, const char *what, struct diag *d)
{
	const char *kind = kind_of(f->w), *name = name_of(f->w), *when = when_instead(f->w);

	if (is_gpu(what))
		return diag_set(d, -EBUSY,
				"%s %s: %s is open (fd %d), a GPU does not survive a fork; use "
				"start_method = \"spawn\"",
				kind, name, what, fd);
	if (begins(what, "anon_inode:[io_uring]"))
		return diag_set(d, -EBUSY, "%s %s: an io_uring is open (fd %d); set it up %s", kind,
				name, fd, when);
	if (what[0] == '/' && !begins(what, "/dev/") && holds_lock(pid, fd))
		return diag_set(d, -EBUSY, "%s %s: holds a lock on %s (fd %d); take it %s", kind,
				name, what, fd, when);
	/* what came with a FORK that it is working on, or has not put away yet, is no surprise; nor
	 * is its own look at itself */
	if (f->w->slot->kind == SLOT_TEMPLATE && f->n_owed == 0 && f->ping == 0 && !f->ping_due &&
	    !begins(what, "/proc/") && !is_expected(&f->w->slot->template, fd)) {
		f->w->slot->template.recycle = RECYCLE_FD;
		return diag_set(d, -EBUSY,
				"%s %s: fd %d (%s) was not open at READY; open it %s or while "
				"loading",
				kind, name, fd, what, when);
	}
	return 0;
}

typedef int each_fd(void *arg, int fd, const char *what);

static int walk_fds(pid_t pid, each_fd *each, void *arg)
{
	char path[64], what[256];
	struct dirent *e;
	int n = 0, r = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (r == 0 && (e = readdir(dir))) {
		ssize_t len;

		if (e->d_name[0] == '.')
			continue;
		len = readlinkat(dirfd(dir), e->d_name, what, sizeof(what) - 1);
		if (len < 0)
			continue;
		what[len] = '\0';
		if (++n > LOOK_MAX) {
			r = -E2BIG;
			break;
		}
		r = each(arg, atoi(e->d_name), what);
	}
	closedir(dir);
	return r < 0 ? r : n;
}

static int note_fd(void *arg, int fd, const char *what)
{
	struct ledger_template *t = arg;

	if ((unsigned)fd < FDS_FOLLOWED)
		t->fd_map[fd / 64] |= 1ull << (fd % 64);
	return 0;
}

void template_note_fds(struct forker *f)
{
	struct ledger_template *t = &f->w->slot->template;
	pid_t pid = worker_pid(f->w);
	int n;

	memset(t->fd_map, 0, sizeof(t->fd_map));
	n = pid ? walk_fds(pid, note_fd, t) : -ESRCH;
	t->fd_map_valid = n >= 0;
	if (n >= 0)
		t->fds = (uint32_t)n;
}

static int is_socket(void *arg, int fd, const char *what)
{
	return strcmp(what, arg) == 0 ? -EEXIST : 0;
}

bool template_holds(pid_t pid, ino_t socket)
{
	char what[40];

	snprintf(what, sizeof(what), "socket:[%llu]", (unsigned long long)socket);
	return walk_fds(pid, is_socket, what) == -EEXIST;
}

struct look {
	struct forker *f;
	pid_t pid;
	struct diag *d;
	char shared[160]; /* what is worth a warning */
	size_t at;
};

static int each(void *arg, int fd, const char *what)
{
	struct look *l = arg;

	if (!l->f->warned && fd > 2 && l->at < sizeof(l->shared) &&
	    (begins(what, "socket:") || begins(what, "pipe:") || strstr(what, "[eventpoll]")))
		l->at += (size_t)snprintf(l->shared + l->at, sizeof(l->shared) - l->at,
					  "%sfd %d %s", l->at ? ", " : "", fd, what);
	return look_at_fd(l->f, l->pid, fd, what, l->d);
}

static int look_at_fds(struct forker *f, pid_t pid, struct diag *d)
{
	struct look l = { .f = f, .pid = pid, .d = d };
	int n = walk_fds(pid, each, &l);

	if (n == -E2BIG)
		return diag_set(d, -EBUSY,
				"%s %s: has more than %d open files, too many to be looked at "
				"before each fork",
				kind_of(f->w), name_of(f->w), LOOK_MAX);
	if (n < 0)
		return n;
	f->w->slot->template.fds = (uint32_t)n;
	/* its channel is one of them, seldom is another; a seed has what is declared, too */
	if (!f->warned && f->w->slot->kind == SLOT_TEMPLATE && strchr(l.shared, ','))
		log_warn("template %s has open %s; its workers get only what is declared",
			 f->w->group->row->name, l.shared);
	f->warned = true;
	return 0;
}

static void look_at_memory(struct forker *f, pid_t pid)
{
	struct ledger_template *t = &f->w->slot->template;
	uint64_t before = t->rss_ready_bytes;
	struct proc_stat s;

	if (proc_stat(pid, &s) < 0)
		return;
	t->rss_bytes = (uint64_t)s.rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
	if (f->w->slot->kind == SLOT_TEMPLATE && before && !t->recycle &&
	    t->rss_bytes > before + MAX_OF(before / RSS_GROWTH, RSS_FLOOR)) {
		t->recycle = RECYCLE_MEMORY;
		log_info("%s: has grown from %llu to %llu KiB since READY: the next one is loaded",
			 f->w->name, (unsigned long long)before / 1024,
			 (unsigned long long)t->rss_bytes / 1024);
		f->w->m->changed = true;
	}
}

static void say(struct forker *f, struct diag *d)
{
	struct worker *w = f->w;
	char text[sizeof(w->slot->error)];
	uint32_t dropped;

	str_escape(d->text, strlen(d->text), text, sizeof(text));
	snprintf(d->text, sizeof(d->text), "%s", text);
	if (log_limit_pass(&f->limit, 1, 10000, &dropped) || !w->slot->template.unsafe)
		log_error("%s", text);
	/* of a seed its own word counts: it may have gone on meanwhile */
	if (w->slot->kind == SLOT_TEMPLATE)
		w->slot->template.unsafe = 1;
	snprintf(w->slot->error, sizeof(w->slot->error), "%s", text);
	w->m->changed = true;
}

bool seed_works(const struct worker *w)
{
	const struct ledger_template *t = &w->slot->template;

	/* a predecessor may have let it go on and not have noted it */
	return w->slot->kind == SLOT_WORKER && !t->unsafe &&
	       (t->released || (w->forker && w->forker->adopted));
}

int template_look(struct forker *f, struct diag *d)
{
	struct ledger_template *t = &f->w->slot->template;
	pid_t pid = worker_pid(f->w);
	char names[NAMES_MAX];
	int others, n, r;

	if (!pid)
		return diag_set(d, -EAGAIN, "%s is gone", f->w->name);
	if (f->ping_due)
		template_ping(f);
	if (seed_works(f->w) || (clock_mono_ms() - f->looked_ms < LOOK_FRESH_MS && !t->unsafe))
		return 0;
	n = look_at_tasks(f->w, pid, names, &others);
	if (n < 0)
		return diag_set(d, -EAGAIN, "%s cannot be looked at: %s", f->w->name, strerror(-n));
	t->tasks = (uint32_t)n;
	r = others ? diag_set(d, -EBUSY, "%s %s: %d threads (%s); start %s %s", kind_of(f->w),
			      name_of(f->w), others + 1, names,
			      others == 1 ? "its thread" : "their threads", when_instead(f->w))
		   : look_at_fds(f, pid, d);
	if (r == -EBUSY)
		say(f, d);
	if (r < 0)
		return r == -EBUSY && !(t->recycle && template_comes(f->w->group)) ? r : -EAGAIN;
	if (t->unsafe)
		f->w->slot->error[0] = '\0';
	t->unsafe = 0;
	f->looked_ms = clock_mono_ms();
	look_at_memory(f, pid);
	return 0;
}
