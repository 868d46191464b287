/*
 * Version and Doctor. Doctor is a table of checks: each compares what the configuration needs with
 * what this system gives and names the remedy.
 */
#include "manager/methods.h"
#include "manager/spawn.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "lib/control_description.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>

const char *phase_name(uint32_t phase)
{
	static const char *const words[] = { "run", "warm", "cold", "gone" };

	return words[MIN_OF(phase, PHASE_GONE)];
}

void method_version(struct vl_call *c, const void *args)
{
	const struct manager *m = call_manager(c);
	const struct ledger_header *h = m->ledger.h;
	auto_str out = { 0 };

	vl_write_open(&out, NULL, '{');
	vl_write_text(&out, "version", REEVE_VERSION);
	vl_write_int(&out, "protocol", CONTROL_PROTOCOL);
	vl_write_text(&out, "phase", phase_name(h->phase));
	vl_write_int(&out, "keeper_pid", h->keeper_pid);
	vl_write_int(&out, "manager_pid", getpid());
	if (h->logger_pid > 0)
		vl_write_int(&out, "logger_pid", h->logger_pid);
	write_time(&out, "started_at", h->started_real_us);
	vl_write_text(&out, "config", m->conf->path);
	vl_write_text(&out, "runtime_dir", h->runtime_dir);
	vl_write_close(&out, '}');
	vl_reply_text(c, &out);
}

enum verdict { CHECK_OK, CHECK_DEGRADED, CHECK_UNMET };

struct check {
	enum verdict verdict;
	char text[300], remedy[300];
};

static struct check *say(struct check *r, enum verdict v, const char *remedy)
{
	r->verdict = v;
	snprintf(r->remedy, sizeof(r->remedy), "%s", remedy);
	return r;
}

/* Forked ahead, each with a channel in the keeper; counted as asked for. */
static long long spares_total(const struct manager *m)
{
	long long sum = 0;

	for (size_t i = 0; i < m->n_groups; i++) {
		const struct conf_group *g = m->groups[i]->conf;

		if (g && g->start_method == CONF_START_FORKSERVER)
			sum += MIN_OF(g->template.spares, group_workers_wanted(m->groups[i]));
	}
	return sum;
}

static long long workers_total(const struct manager *m, long long *ret_notify,
			       long long *ret_separate)
{
	long long sum = 0;

	*ret_notify = *ret_separate = 0;
	for (size_t i = 0; i < m->n_groups; i++) {
		const struct conf_group *g = m->groups[i]->conf;
		int n = group_workers_wanted(m->groups[i]);

		sum += n;
		if (g && g->notify)
			*ret_notify += n;
		if (g && g->log.stderr_to == CONF_STDERR_SEPARATE)
			*ret_separate += n;
	}
	return sum;
}

static void check_kernel(const struct manager *m, struct check *r)
{
	struct utsname u;
	int major = 0, minor = 0;

	uname(&u);
	sscanf(u.release, "%d.%d", &major, &minor);
	snprintf(r->text, sizeof(r->text), "Linux %s", u.release);
	if (major < 5 || (major == 5 && minor < 10))
		say(r, CHECK_UNMET, "Reeve needs Linux 5.10 or newer");
}

static void check_cgroup(const struct manager *m, struct check *r)
{
	const struct ledger_header *h = m->ledger.h;

	if (h->cgroup_base[0]) {
		snprintf(r->text, sizeof(r->text), "one cgroup per worker below %.240s%s",
			 h->cgroup_base, h->cgroup_kill_ok ? "" : ", without cgroup.kill");
		if (!h->cgroup_kill_ok)
			say(r, CHECK_DEGRADED, "Linux 5.14 ends a tree in one call");
		return;
	}
	snprintf(r->text, sizeof(r->text), "no cgroups: %.200s",
		 h->cgroup_note[0] ? h->cgroup_note : "switched off");
	say(r, m->conf->daemon.cgroup == CONF_CGROUP_OFF ? CHECK_OK : CHECK_DEGRADED,
	    "run under systemd with Delegate=yes; without cgroups a process that leaves its "
	    "session "
	    "and clears its environment is a stray; daemon.cgroup = \"off\" says that you know");
}

static void check_starts(const struct manager *m, struct check *r)
{
	if (!spawn_describe(m, r->text, sizeof(r->text)))
		say(r, CHECK_DEGRADED,
		    "allow clone3 in the seccomp profile, run Linux 5.16 or newer, set "
		    "fs.suid_dumpable to 0 or 2; starts only take longer");
}

static void check_fds(const struct manager *m, struct check *r)
{
	long long notify, separate, n = workers_total(m, &notify, &separate);
	long long need = n + notify + separate + spares_total(m) + 64;
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	snprintf(r->text, sizeof(r->text),
		 "the keeper needs %lld descriptors (1 per worker, 1 more for a notify socket, 1 "
		 "more for a separate stderr, 1 per spare), it may have %llu",
		 need, (unsigned long long)limit.rlim_cur);
	if ((unsigned long long)need > limit.rlim_cur)
		say(r, CHECK_UNMET,
		    "raise LimitNOFILE= of the unit, or ulimit -n before reeved starts");
}

static long long read_number(const char *path)
{
	char text[64];
	long long n = -1;

	if (fd_read_at(AT_FDCWD, path, text, sizeof(text)) > 0)
		sscanf(text, "%lld", &n);
	return n;
}

static void check_pids(const struct manager *m, struct check *r)
{
	long long notify, separate, n = workers_total(m, &notify, &separate);
	long long max = read_number("/proc/sys/kernel/pid_max");

	snprintf(r->text, sizeof(r->text), "%lld workers, the kernel has %lld pids", n, max);
	if (max > 0 && n * 2 > max)
		say(r, CHECK_UNMET, "raise kernel.pid_max, or run fewer workers");
}

static void check_nproc(const struct manager *m, struct check *r)
{
	long long notify, separate, n = workers_total(m, &notify, &separate);
	struct rlimit limit;

	getrlimit(RLIMIT_NPROC, &limit);
	if (limit.rlim_cur == RLIM_INFINITY) {
		snprintf(r->text, sizeof(r->text), "processes of a user are not limited");
		return;
	}
	snprintf(r->text, sizeof(r->text), "%lld workers, at most %llu processes of a user", n,
		 (unsigned long long)limit.rlim_cur);
	if (m->ledger.h->user_daemon && (unsigned long long)n > limit.rlim_cur)
		say(r, CHECK_UNMET, "raise ulimit -u, or limits.nproc of the groups");
}

static void check_memory(const struct manager *m, struct check *r)
{
	long long over = read_number("/proc/sys/vm/overcommit_memory");

	snprintf(r->text, sizeof(r->text), "vm.overcommit_memory = %lld", over);
	if (over == 2)
		say(r, CHECK_DEGRADED,
		    "with strict overcommit a start may fail for want of memory; it is "
		    "tried again and not charged");
}

static void check_splice(const struct manager *m, struct check *r)
{
	snprintf(r->text, sizeof(r->text), "log pipes are read with splice(2)");
	if (m->book.h->spliceless) {
		snprintf(r->text, sizeof(r->text),
			 "splice(2) is refused, log pipes are read with read(2)");
		say(r, CHECK_DEGRADED,
		    "allow splice in the seccomp filter; without it a kill -9 of the "
		    "logger may lose or double one read");
	}
}

static void check_sinks(const struct manager *m, struct check *r)
{
	unsigned failing = m->book.h->sinks_failing;
	char text[200];

	snprintf(r->text, sizeof(r->text), "all log destinations take data");
	for (uint32_t i = 0; failing && i < m->book.h->sinks_high; i++) {
		if (!logbook_sink(&m->book, i)->used ||
		    !logbook_sink_trouble(&m->book, i, text, sizeof(text)))
			continue;
		snprintf(r->text, sizeof(r->text), "%s%s", text, failing > 1 ? ", and others" : "");
		say(r, CHECK_UNMET, "make room or mend the path; it is tried again by itself");
		return;
	}
}

static void check_socket(const struct manager *m, struct check *r)
{
	struct stat st;

	snprintf(r->text, sizeof(r->text), "control socket %s", m->conf->daemon.control.socket);
	if (stat(m->conf->daemon.control.socket, &st) < 0 || st.st_ino != m->control->inode ||
	    !S_ISSOCK(st.st_mode))
		say(r, CHECK_UNMET,
		    "the socket file is gone or another's: SIGUSR1 to the daemon makes it "
		    "anew");
}

static void check_restarts(const struct manager *m, struct check *r)
{
	unsigned managers = m->ledger.h->manager_starts, loggers = m->ledger.h->logger_starts;

	snprintf(r->text, sizeof(r->text), "manager started %u times, logger %u times", managers,
		 loggers);
	if (managers + loggers > 2 + m->ledger.h->role_changes)
		say(r, CHECK_DEGRADED,
		    "look for the reason in the daemon's own log; no worker was harmed");
}

static void check_orphans(const struct manager *m, struct check *r)
{
	int err = (int)m->ledger.h->subreaper_errno;

	snprintf(r->text, sizeof(r->text), "processes whose parent died come to the keeper");
	if (err == 0)
		return;
	snprintf(r->text, sizeof(r->text), "processes whose parent died go to pid 1: prctl: %s",
		 strerror(err));
	say(r, CHECK_DEGRADED,
	    "allow prctl(PR_SET_CHILD_SUBREAPER) in the seccomp filter; until then only a cgroup "
	    "finds "
	    "them all");
}

static const struct {
	const char *name;
	void (*run)(const struct manager *m, struct check *r);
} checks[] = {
	{ "kernel", check_kernel },	    { "cgroups", check_cgroup },
	{ "starts", check_starts },	    { "orphans", check_orphans },
	{ "descriptors", check_fds },	    { "pids", check_pids },
	{ "processes", check_nproc },	    { "memory", check_memory },
	{ "log reading", check_splice },    { "log destinations", check_sinks },
	{ "control socket", check_socket }, { "roles", check_restarts },
};

void method_doctor(struct vl_call *c, const void *args)
{
	static const char *const words[] = { "ok", "degraded", "unmet" };
	const struct manager *m = call_manager(c);
	auto_str out = { 0 };

	vl_write_open(&out, NULL, '{');
	vl_write_open(&out, "checks", '[');
	for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
		struct check r = { 0 };

		checks[i].run(m, &r);
		vl_write_open(&out, NULL, '{');
		vl_write_text(&out, "name", checks[i].name);
		vl_write_text(&out, "status", words[r.verdict]);
		vl_write_text(&out, "text", r.text);
		vl_write_text(&out, "remedy", r.verdict == CHECK_OK ? NULL : r.remedy);
		vl_write_close(&out, '}');
	}
	vl_write_close(&out, ']');
	vl_write_close(&out, '}');
	vl_reply_text(c, &out);
}
