#include "manager_rig.h"

#include "base/fd.h"
#include "base/mem.h"
#include "keeper/keeper.h"
#include "manager/notify.h"
#include "manager/proc.h"
#include "manager/sockets.h"
#include "manager/spawn.h"
#include "manager/tree.h"
#include "manager/worker.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Between the two processes. */
struct rig_shared {
	char complaint[1000];
	bool finished;
};

static struct rig *rig_of(const struct manager *m)
{
	return ev_userdata(m->loop);
}

const char *rig_dir(const struct manager *m)
{
	return rig_of(m)->dir;
}

void rig_complain(const struct manager *m, const char *file, int line, const char *format, ...)
{
	struct rig_shared *s = rig_of(m)->shared;
	int n = snprintf(s->complaint, sizeof(s->complaint), "%s:%d: ", file, line);
	va_list ap;

	va_start(ap, format);
	vsnprintf(s->complaint + n, sizeof(s->complaint) - (size_t)n, format, ap);
	va_end(ap);
	_exit(1);
}

/* --- the host ----------------------------------------------------------------------------------
 */

/* A directory for leaves in the cgroup that we are in. */
static void find_cgroup(struct rig *r)
{
	char line[512], own[256];
	FILE *mounts = fopen("/proc/self/mounts", "re");
	ssize_t n = proc_cgroup(getpid(), own, sizeof(own));

	while (mounts && n > 0 && fgets(line, sizeof(line), mounts)) {
		char at[128], type[32];

		if (sscanf(line, "%*s %127s %31s", at, type) != 2 || strcmp(type, "cgroup2") != 0)
			continue;
		snprintf(r->cgroup, sizeof(r->cgroup), "%.100s%.60s/rig-%d", at,
			 strcmp(own, "/") == 0 ? "" : own, (int)getpid());
		break;
	}
	if (mounts)
		fclose(mounts);
	if (!*r->cgroup || mkdir(r->cgroup, 0755) < 0) {
		r->cgroup[0] = '\0';
		r->said = "no cgroup v2 that is ours";
	}
}

static void remove_below(const char *path, bool cgroup)
{
	DIR *dir = opendir(path);
	char sub[600];
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name);
		if (e->d_type == DT_DIR)
			remove_below(sub, cgroup);
		else if (!cgroup)
			unlink(sub);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

void rig_init(struct rig *r, bool cgroups)
{
	*r = (struct rig){ .said = NULL };
	strcpy(r->dir, "/tmp/reeve-rig-XXXXXX");
	cr_assert_not_null(mkdtemp(r->dir));
	chmod(r->dir, 0755);
	r->shared = mmap(NULL, sizeof(*r->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(r->shared, MAP_FAILED);
	if (cgroups)
		find_cgroup(r);
}

void rig_drop(struct rig *r)
{
	if (*r->cgroup)
		remove_below(r->cgroup, true);
	remove_below(r->dir, false);
}

void rig_fini(struct rig *r)
{
	rig_drop(r);
	cr_assert(r->shared->complaint[0] == '\0', "%s", r->shared->complaint);
	cr_assert(r->shared->finished, "the manager died");
	munmap(r->shared, sizeof(*r->shared));
}

/* --- the keeper --------------------------------------------------------------------------------
 */

#define must(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			snprintf(r->shared->complaint, sizeof(r->shared->complaint),               \
				 "%s:%d: keeper: %s", __FILE__, __LINE__, #condition);             \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static void keeper_begin(struct rig *r, struct keeper *k)
{
	static const uint8_t identity[16] = "a rig";
	char probe[256];
	sigset_t child;

	*k = (struct keeper){ .round_ms = KEEPER_NEVER,
			      .gone_ms = 0, /* no successor, no word about it */
			      .logger_store = { -1, -1 } };
	must(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	must(ledger_create(identity, r->dir, &k->ledger_fd, &k->ledger) == 0);
	must(logbook_create(&k->book_fd, &k->book) == 0);
	snprintf(k->ledger.h->cgroup_base, sizeof(k->ledger.h->cgroup_base), "%s", r->cgroup);
	snprintf(probe, sizeof(probe), "%s/cgroup.kill", r->cgroup);
	k->ledger.h->cgroup_kill_ok = *r->cgroup && access(probe, F_OK) == 0;
	for (int i = 0; i < 3; i++)
		k->bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	k->dir = open(r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(store_init(k) == 0);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	k->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	must(k->signals >= 0);
}

static void keeper_serve(struct rig *r, struct keeper *k)
{
	struct pollfd fds[] = { { k->signals, POLLIN, 0 },
				{ k->bells[0], POLLIN, 0 },
				{ k->store_pair[0], POLLIN, 0 } };
	struct signalfd_siginfo si;

	while (k->roles[ROLE_IS_MANAGER].pid) {
		must(poll(fds, 3, 3 * RIG_DEADLINE_S * 1000) > 0);
		while (read(k->signals, &si, sizeof(si)) == sizeof(si))
			;
		bell_clear(k->bells[0]);
		store_receive(k);
		kill_requests(k);
		while (reap_round(k) > 0)
			;
		reap_tell(k);
	}
}

/* Whoever is left is ours: we are the subreaper. */
static void end_all_children(void)
{
	struct pids left = { 0 };

	do {
		left.n = 0;
		proc_children(getpid(), &left);
		for (size_t i = 0; i < left.n; i++)
			kill(left.at[i], SIGKILL);
	} while (left.n > 0 && waitpid(-1, NULL, 0) > 0);
	pids_fini(&left);
}

/* --- the manager -------------------------------------------------------------------------------
 */

static void bell_rang(struct ev_loop *loop, ev_io *io, int events)
{
	struct manager *m = io->data;

	bell_clear(m->bell);
	trees_news(m);
}

static struct conf *load(struct manager *m, const char *conf_text)
{
	struct conf_report report = { 0 };
	struct conf_load_options options = { .offline = true }; /* paths come and go */
	const char *dir = rig_dir(m);
	struct conf *conf = NULL;
	char path[128], text[16384];
	auto_fd fd = -1;

	snprintf(path, sizeof(path), "%s/rig.conf", dir);
	snprintf(text, sizeof(text), conf_text, dir, dir, dir, dir, dir, dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	rig_check(fd >= 0 && fd_write_all(fd, text, strlen(text)) == 0);
	conf_load(path, &options, &conf, &report);
	rig_check(conf, "%s", report.n ? report.items[0].at.text : "?");
	conf_report_fini(&report);
	return conf;
}

static void manager_run(struct rig *r, struct keeper *k, const char *conf_text,
			void (*body)(struct manager *m))
{
	struct role_fd_table none = { ROLE_FDS_VERSION, 0 };
	struct manager *m = calloc(1, sizeof(*m));

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	m->loop = ev_loop_new(EVFLAG_AUTO);
	ev_set_userdata(m->loop, r);
	m->ledger = k->ledger;
	m->book = k->book;
	m->fds = &none;
	m->store = k->store_pair[1];
	m->bell_keeper = k->bells[0];
	m->bell = k->bells[1];
	m->bell_logger = k->bells[2];
	m->logs_out = -1;
	m->inputs_tail = &m->inputs_head;
	m->starts_tail = &m->starts_head;
	m->by_slot = calloc(LEDGER_ROWS, sizeof(*m->by_slot));
	m->conf = load(m, conf_text);
	rig_check(groups_build(m) == 0);
	rig_check(trees_init(m) == 0);
	rig_check(spawn_init(m) == 0);
	rig_check(sockets_init(m) == 0);
	ev_io_init(&m->bell_io, bell_rang, m->bell, EV_READ);
	m->bell_io.data = m;
	ev_io_start(m->loop, &m->bell_io);
	alarm(2 * RIG_DEADLINE_S); /* bodies may block */
	body(m);
	r->shared->finished = true;
	_exit(0);
}

static void run_keeper(struct rig *r, const char *conf_text, void (*body)(struct manager *m))
{
	struct keeper k;
	pid_t pid;

	keeper_begin(r, &k);
	pid = fork();
	if (pid == 0)
		manager_run(r, &k, conf_text, body);
	k.roles[ROLE_IS_MANAGER].pid = pid;
	k.roles[ROLE_IS_MANAGER].name = "rig";
	k.ledger.h->manager_pid = pid;
	keeper_serve(r, &k);
	end_all_children();
	_exit(0);
}

/* The test's own process has threads, which would swallow the keeper's signals. */
void rig_run(struct rig *r, const char *conf_text, void (*body)(struct manager *m))
{
	pid_t pid = fork();

	if (pid == 0)
		run_keeper(r, conf_text, body);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

struct wait {
	struct manager *m;
	const char *what;
};

static void deadline_fired(struct ev_loop *loop, ev_timer *timer, int events)
{
	const struct wait *wait = timer->data;

	rig_complain(wait->m, __FILE__, __LINE__, "did not happen: %s", wait->what);
}

void rig_until(struct manager *m, bool (*condition)(struct manager *m, void *arg), void *arg,
	       const char *what)
{
	struct wait wait = { m, what };
	ev_timer deadline;

	ev_timer_init(&deadline, deadline_fired, RIG_DEADLINE_S, 0.);
	deadline.data = &wait;
	ev_now_update(m->loop);
	ev_timer_start(m->loop, &deadline);
	while (!condition(m, arg))
		ev_run(m->loop, EVRUN_ONCE);
	ev_timer_stop(m->loop, &deadline);
}

uint32_t rig_row(struct worker *w)
{
	struct manager *m = w->m;
	uint32_t row = ledger_take_life(&m->ledger, LIFE_WORKER, w->row);
	struct ledger_life *life = ledger_life(&m->ledger, row);

	life->incarnation = ++w->slot->w.incarnation;
	life->generation = 1;
	w->slot->life[0] = row;
	return row;
}

static bool off_the_ground(struct manager *m, void *arg)
{
	const struct ledger_life *life = ledger_life(&m->ledger, *(uint32_t *)arg);

	spawn_poll(m);
	return life->exited || life->execed;
}

uint32_t rig_start(struct worker *w)
{
	uint32_t row = rig_row(w);
	struct manager *m = w->m;
	struct diag d = { 0 };
	int r = spawn_worker(w, row, &d);

	rig_check(r == 0, "%s", d.text);
	rig_until(w->m, off_the_ground, &row, "exec");
	return row;
}

static bool has_exited(struct manager *m, void *arg)
{
	return ledger_life(&m->ledger, *(uint32_t *)arg)->exited;
}

void rig_until_exit(struct manager *m, uint32_t row)
{
	rig_until(m, has_exited, &row, "exit");
}

void rig_fifo(struct manager *m, const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", rig_dir(m), name);
	rig_check(mkfifo(path, 0622) == 0 && chmod(path, 0622) == 0);
}

char *rig_text(struct manager *m, const char *name)
{
	char path[200], *text;
	auto_fd fd = -1;
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", rig_dir(m), name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	rig_check(fd >= 0 && fd_read_all(fd, 1 << 20, &text, &len) == 0, "%s", path);
	return text;
}

int rig_pipe(struct worker *w, bool err)
{
	const struct ledger_fds *fds = ledger_fds(&w->m->ledger, w->row);
	struct manager *m = w->m;
	char path[64];
	int fd, number = err ? fds->err : fds->out;

	rig_check(number > 0, "the keeper has no pipe");
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", m->ledger.h->keeper_pid, number - 1);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	rig_check(fd >= 0);
	return fd;
}

int rig_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = -1; /* the directory's own */

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

struct worker *rig_worker(struct manager *m, const char *group)
{
	struct worker *w = manager_find_worker(m, group, 0);

	rig_check(w, "%s", group);
	return w;
}

void rig_code(struct manager *m, uint32_t row, int code)
{
	const struct ledger_life *life = ledger_life(&m->ledger, row);

	rig_until_exit(m, row);
	rig_check(life->exit_how == CLD_EXITED && life->exit_status == code,
		  "how %d status %d stage %d errno %d, wanted code %d", life->exit_how,
		  life->exit_status, (int)life->stage, life->stage_errno, code);
}

static bool stored(struct manager *m, void *arg)
{
	struct worker *w = arg;

	spawn_poll(m);
	return w->pipe_out < 0 && w->pipe_err < 0;
}

void rig_until_stored(struct worker *w)
{
	rig_until(w->m, stored, w, "the keeper shows the pipe");
}
