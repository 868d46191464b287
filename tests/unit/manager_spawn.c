/* Making processes: every way, every failing step, what is left behind. */
#include "manager_rig.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "manager/child.h"
#include "manager/proc.h"
#include "manager/spawn.h"
#include "manager/tree.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* --- what a worker gets ------------------------------------------------------------------------
 */

static const char plain_conf[] =
	"groups: { web: { command = [ \"/bin/sh\", \"-c\","
	" \"umask; echo $PWD $$ $0; cat /proc/self/stat; ulimit -n; cat /proc/self/oom_score_adj;"
	"   ls /proc/self/fd; env; exit 7\", \"%%n\" ];"
	"  cwd = \"%s\"; umask = \"0027\"; env: { ONE = \"%%{10+i}\"; };"
	"  limits: { nofile = \"77:88\"; };"
	"  log: { file = \"%s/%%g.log\"; }; }; };";

static void body_plain(struct manager *m)
{
	struct worker *w = rig_worker(m, "web");
	int before = rig_count_fds();
	struct ledger_life *life;
	char text[8192], want[300];
	auto_fd pipe = -1;
	uint32_t row;
	ssize_t n;

	row = rig_start(w);
	life = ledger_life(&m->ledger, row);
	rig_check(m->ledger.pids[row] > 1, "the kernel writes the pid");
	rig_code(m, row, 7);
	rig_check(life->ctid == 0 && life->execed && life->stage == STAGE_EXEC &&
		  life->stage_errno == 0);
	rig_until_stored(w);
	pipe = rig_pipe(w, false);
	n = read(pipe, text, sizeof(text) - 1);
	rig_check(n > 0);
	text[n] = '\0';
	rig_check(strncmp(text, "0027\n", 5) == 0, "%s", text);
	snprintf(want, sizeof(want), "\n%s ", rig_dir(m));
	rig_check(strncmp(text + 4, want, strlen(want)) == 0, "%s", text);
	rig_check(strstr(text, " web:0\n"), "%s", text);
	rig_check(strstr(text, "\n77\n0\n0\n1\n2\n3\n"), "limits, oom score, 3 is ls's own: %s",
		  text);
	rig_check(!strstr(text, "\n4\n"), "more descriptors: %s", text);
	rig_check(strstr(text, "\nONE=10\n") && strstr(text, "\nREEVE_WORKER=web:0\n") &&
			  strstr(text, "\nREEVE_INCARNATION=1\n"),
		  "%s", text);
	tree_remove(m, row);
	close_fd(&pipe);
	rig_check(rig_count_fds() == before);
}

Test(manager_spawn, a_clean_room)
{
	struct rig r;

	rig_init(&r, true);
	rig_run(&r, plain_conf, body_plain);
	rig_fini(&r);
}

Test(manager_spawn, a_clean_room_without_cgroups)
{
	struct rig r;

	rig_init(&r, false);
	rig_run(&r, plain_conf, body_plain);
	rig_fini(&r);
}

/* --- failing steps -----------------------------------------------------------------------------
 */

static const struct {
	const char *group;
	enum spawn_stage stage;
	int error;
	const char *text;
} failures[] = {
	{ "cwd", STAGE_CWD, ENOENT, "changing directory to /nowhere: No such file or directory" },
	{ "missing", STAGE_EXEC, ENOENT, "executing /nowhere/x: No such file or directory" },
	{ "bare", STAGE_EXEC, ENOENT, "executing no-such-program: No such file or directory" },
	{ "plain", STAGE_EXEC, EACCES, "executing /etc/passwd: Permission denied" },
	{ "folder", STAGE_EXEC, EACCES, "executing /etc: Permission denied" },
	{ "stdin", STAGE_STDIO, ENOENT,
	  "opening standard input and output /nowhere/in: No such file or directory" },
};

/* What a daemon cannot give is named (root may give all with CAP_SYS_RESOURCE). */
static void body_limits(struct manager *m)
{
	struct worker *w = rig_worker(m, "web");
	struct rlimit own = { 60, 60 };
	const struct ledger_life *life;
	char text[256];
	uint32_t row;

	rig_check(setresuid(65534, 65534, 65534) == 0 || geteuid() != 0);
	rig_check(setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 60 }) == 0 && own.rlim_max == 60);
	row = rig_start(w);
	life = ledger_life(&m->ledger, row);
	rig_code(m, row, CHILD_FAILED_CODE);
	rig_check(life->stage == STAGE_LIMITS && life->stage_errno == EPERM, "%d",
		  (int)life->stage);
	spawn_failure_text(w, life->stage, life->stage_errno, text, sizeof(text));
	rig_check(strcmp(text, "setting limits core (the daemon's own hard limit is 60): "
			       "Operation not permitted") == 0,
		  "%s", text);
}

Test(manager_spawn, a_limit_that_cannot_be_given)
{
	struct rig r;

	rig_init(&r, false);
	rig_run(&r,
		"groups: { web: { command = [ \"/bin/true\" ]; limits: { core = 100; };"
		" log: { file = \"%s/l\"; to = \"null\"; }; }; };",
		body_limits);
	rig_fini(&r);
}

static const char failing_conf[] =
	"defaults: { log: { file = \"%s/%%g.log\"; }; };"
	"groups: {"
	" cwd: { command = [ \"/bin/true\" ]; cwd = \"/nowhere\"; };"
	" missing: { command = [ \"/nowhere/x\" ]; };"
	" bare: { command = [ \"no-such-program\" ]; env: { PATH = \"/usr/bin:relative::/bin\"; }; "
	"};"
	" plain: { command = [ \"/etc/passwd\" ]; };"
	" folder: { command = [ \"/etc\" ]; };"
	" stdin: { command = [ \"/bin/true\" ]; stdin = \"/nowhere/in\"; };"
	"};";

static void body_failures(struct manager *m)
{
	for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
		struct worker *w = rig_worker(m, failures[i].group);
		uint32_t row = rig_row(w);
		const struct ledger_life *life = ledger_life(&m->ledger, row);
		struct diag d = { 0 };
		char text[256];

		rig_check(spawn_worker(w, row, &d) == 0, "%s: %s", failures[i].group, d.text);
		rig_code(m, row, CHILD_FAILED_CODE);
		spawn_poll(m);
		rig_check(life->stage == failures[i].stage &&
				  life->stage_errno == failures[i].error && !life->execed,
			  "%s: stage %d errno %d execed %d", failures[i].group, (int)life->stage,
			  life->stage_errno, (int)life->execed);
		spawn_failure_text(w, life->stage, life->stage_errno, text, sizeof(text));
		rig_check(strcmp(text, failures[i].text) == 0, "%s", text);
		rig_check(!spawn_has_execed(m, row));
	}
}

Test(manager_spawn, each_failing_step_is_named)
{
	struct rig r;

	rig_init(&r, true);
	rig_run(&r, failing_conf, body_failures);
	rig_fini(&r);
}

/* A start that is overtaken by a shutdown, a new life, or the keeper's end never runs. */
static void body_unwanted(struct manager *m)
{
	struct worker *w = rig_worker(m, "web");
	const struct ledger_life *life;
	struct diag d = { 0 };
	uint32_t row;

	for (int way = 0; way < 2; way++) {
		m->ledger.h->phase = way == 0 ? PHASE_WARM : PHASE_RUN;
		m->ledger.h->keeper_pid += way;
		row = rig_row(w);
		life = ledger_life(&m->ledger, row);
		rig_check(spawn_worker(w, row, &d) == 0, "%s", d.text);
		m->ledger.h->keeper_pid -= way;
		rig_code(m, row, CHILD_FAILED_CODE);
		rig_check(life->stage == STAGE_CHECK && life->stage_errno == ECANCELED,
			  "stage %d errno %d", (int)life->stage, life->stage_errno);
		rig_check(access(d.text, F_OK) < 0);
	}
}

Test(manager_spawn, an_overtaken_start_never_runs)
{
	struct rig r;

	rig_init(&r, false);
	rig_run(&r,
		"groups: { web: { command = [ \"/bin/sh\", \"-c\", \"exit 3\" ];"
		" log: { file = \"%s/l\"; }; }; };",
		body_unwanted);
	rig_fini(&r);
}

static void body_unprepared(struct manager *m)
{
	struct worker *w = rig_worker(m, "web");
	int before = rig_count_fds();
	struct diag d = { 0 };
	uint32_t row = rig_row(w);
	char leaf[128], path[400];

	rig_check(spawn_worker(w, row, &d) == -ENOENT);
	rig_check(strstr(d.text, "env_file") && strstr(d.text, "/nowhere/env"), "%s", d.text);
	w = rig_worker(m, "port");
	row = rig_row(w);
	rig_check(spawn_worker(w, row, &d) < 0);
	rig_check(strstr(d.text, "tcp://192.0.2.1:80"), "%s", d.text);
	rig_check(rig_count_fds() == before);
	tree_leaf(m, row, leaf, sizeof(leaf));
	snprintf(path, sizeof(path), "%s/%s", m->ledger.h->cgroup_base, leaf);
	rig_check(access(path, F_OK) < 0, "the leaf is left");
}

Test(manager_spawn, a_failed_preparation_leaves_nothing)
{
	struct rig r;

	rig_init(&r, true);
	rig_run(&r,
		"defaults: { log: { file = \"%s/%%g\"; }; }; groups: {"
		" web: { command = [ \"/bin/true\" ]; env_file = [ \"-/nowhere/may\","
		"  \"/nowhere/env\" ]; };"
		" port: { command = [ \"/bin/true\" ];"
		"  sockets = ( { name = \"a\"; listen = \"tcp://192.0.2.1:80\"; } ); }; };",
		body_unprepared);
	rig_fini(&r);
}

/* --- ways of cloning ---------------------------------------------------------------------------
 */

/* SP18: with shared memory the kernel would give the score to us as well. */
static void body_oom(struct manager *m)
{
	struct worker *w = rig_worker(m, "web");
	char text[32], path[64];
	auto_free char *said = NULL;
	uint32_t row;

	rig_fifo(m, "up");
	row = rig_start(w);
	said = rig_text(m, "up");
	snprintf(path, sizeof(path), "/proc/%u/oom_score_adj", m->ledger.pids[row]);
	rig_check(fd_read_at(AT_FDCWD, path, text, sizeof(text)) > 0 && atoi(text) == 300, "%s",
		  text);
	rig_check(fd_read_at(AT_FDCWD, "/proc/self/oom_score_adj", text, sizeof(text)) > 0 &&
			  atoi(text) == 0,
		  "%s", text);
}

Test(manager_spawn, sp18_a_score_is_the_childs_alone)
{
	struct rig r;

	rig_init(&r, true);
	rig_run(&r,
		"groups: { web: { command = [ \"/bin/sh\", \"-c\", \"echo > %s/up; sleep 1000\" ];"
		" oom_score_adj = 300; log: { file = \"%s/l\"; }; }; };",
		body_oom);
	rig_fini(&r);
}

static void clone_by(struct manager *m, enum clone_way way, bool cgroup)
{
	char *argv[] = { "/bin/sh", "-c", "exit 5", NULL }, *envp[] = { NULL };
	_Alignas(16) static char stack[65536];
	uint32_t row = ledger_take_life(&m->ledger, LIFE_HELPER, LEDGER_NONE);
	struct ledger_life *life = ledger_life(&m->ledger, row);
	struct child_plan plan = { .life = life,
				   .header = m->ledger.h,
				   .parent = m->ledger.h->keeper_pid,
				   .cgroup_procs = -1,
				   .cwd = "/",
				   .candidates = { "/bin/sh" },
				   .argv = argv,
				   .envp = envp,
				   .stdio = { 0, 1, 2 } };
	auto_fd leaf = cgroup ? tree_make(m, row) : -1;
	pid_t pid = child_clone(way, &plan, stack, sizeof(stack), leaf, &m->ledger.pids[row],
				&life->ctid);

	rig_check(pid > 0, "way %d: %s", way, strerror(-pid));
	rig_check(m->ledger.pids[row] == (uint32_t)pid);
	rig_code(m, row, 5);
}

static void body_ways(struct manager *m)
{
	clone_by(m, CLONE_WAY_COPY, false);
	clone_by(m, CLONE_WAY_COPY_PLAIN, false);
	if (*m->ledger.h->cgroup_base)
		clone_by(m, CLONE_WAY_COPY, true);
}

Test(manager_spawn, copying_ways)
{
	struct rig r;

	rig_init(&r, true);
	rig_run(&r, "groups: { };", body_ways);
	rig_fini(&r);
}

/* --- many ------------------------------------------------------------------------------------- */

static bool all_exited(struct manager *m, void *arg)
{
	const struct group *g = arg;

	spawn_poll(m);
	for (uint32_t i = 0; i < g->n_workers; i++)
		if (!worker_life(g->workers[i])->exited)
			return false;
	return true;
}

static void body_many(struct manager *m)
{
	struct group *g = manager_find_group(m, "web");
	int before = rig_count_fds();

	for (uint32_t i = 0; i < g->n_workers; i++) {
		struct diag d = { 0 };

		rig_check(spawn_worker(g->workers[i], rig_row(g->workers[i]), &d) == 0, "%s",
			  d.text);
		kill(getpid(), SIGURG); /* SP12: ours alone */
	}
	rig_until(m, all_exited, g, "200 exits");
	for (uint32_t i = 0; i < g->n_workers; i++) {
		const struct ledger_life *life = worker_life(g->workers[i]);

		rig_check(life->exit_how == CLD_EXITED && life->exit_status == (int)i,
			  "%u: how %d status %d stage %d", i, life->exit_how, life->exit_status,
			  (int)life->stage);
		rig_until_stored(g->workers[i]);
		tree_remove(m, worker_life_row(g->workers[i]));
	}
	rig_check(rig_count_fds() == before, "%d instead of %d", rig_count_fds(), before);
}

Test(manager_spawn, every_code_of_many)
{
	struct rig r;

	rig_init(&r, true);
	rig_run(&r,
		"groups: { web: { command = [ \"/bin/sh\", \"-c\", \"exit %%i\" ]; workers = 200;"
		" log: { file = \"%s/l\"; }; }; };",
		body_many);
	rig_fini(&r);
}

/* SP13: a file system that never answers. The mount has no server, so the exec waits for ever. */
static void body_hung(struct manager *m)
{
	struct worker *hung = rig_worker(m, "hung");
	struct diag d = { 0 };
	char dir[100], options[100];
	auto_fd fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	uint32_t row = rig_row(hung);
	int64_t begin;

	snprintf(dir, sizeof(dir), "%s/fuse", rig_dir(m));
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
	mkdir(dir, 0755);
	if (fuse < 0 || mount("rig", dir, "fuse", MS_NODEV | MS_NOSUID, options) < 0)
		return; /* not here: the live suite says so */
	begin = clock_mono_ms();
	rig_check(spawn_worker(hung, row, &d) == 0, "%s", d.text);
	rig_check(clock_mono_ms() - begin < 1000, "the loop waited");
	rig_code(m, rig_start(rig_worker(m, "good")), 9);
	rig_check(!ledger_life(&m->ledger, row)->execed && !ledger_life(&m->ledger, row)->exited);
	rig_check(ledger_ask_kill(&m->ledger, row, SIGKILL, CONF_TO_MAIN) == 0);
	bell_ring(m->bell_keeper);
	rig_until_exit(m, row);
	rig_check(ledger_life(&m->ledger, row)->exit_how == CLD_KILLED);
	umount2(dir, MNT_DETACH);
}

Test(manager_spawn, sp13_exec_from_a_hung_file_system)
{
	struct rig r;

	if (geteuid() != 0)
		cr_skip("mounting needs root");
	rig_init(&r, true);
	rig_run(&r,
		"defaults: { log: { file = \"%s/%%g\"; }; }; groups: {"
		" hung: { command = [ \"%s/fuse/program\" ]; };"
		" good: { command = [ \"/bin/sh\", \"-c\", \"exit 9\" ]; }; };",
		body_hung);
	rig_fini(&r);
}

/* A successor finds out by itself who has exec'ed. */
static void body_successor(struct manager *m)
{
	struct worker *w = rig_worker(m, "web");
	uint32_t row;

	rig_fifo(m, "up");
	row = rig_start(w);
	free(rig_text(m, "up"));
	ledger_life(&m->ledger, row)->execed = 0;
	spawn_fini(m);
	rig_check(spawn_init(m) == 0);
	rig_check(spawn_has_execed(m, row));
	spawn_poll(m);
	rig_check(ledger_life(&m->ledger, row)->execed);
}

Test(manager_spawn, a_successor_knows)
{
	struct rig r;

	rig_init(&r, true);
	rig_run(&r,
		"groups: { web: { command = [ \"/bin/sh\", \"-c\", \"echo > %s/up; sleep 1000\" ];"
		" log: { file = \"%s/l\"; }; }; };",
		body_successor);
	rig_fini(&r);
}

/* SP05: what we ignore or block, the worker gets as if it had never been. */
static void body_signals(struct manager *m)
{
	struct worker *w = manager_find_worker(m, "web", 0);
	auto_fd pipe = -1;
	char text[200];
	sigset_t all;
	ssize_t n;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGRTMIN + 3, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	spawn_fini(m);
	rig_check(spawn_init(m) == 0);
	rig_code(m, rig_start(w), 0);
	rig_until_stored(w);
	pipe = rig_pipe(w, false);
	n = read(pipe, text, sizeof(text) - 1);
	rig_check(n > 0);
	text[n] = '\0';
	rig_check(strcmp(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n") == 0, "%s",
		  text);
}

Test(manager_spawn, sp05_signals_are_reset)
{
	struct rig r;

	rig_init(&r, true);
	rig_run(&r,
		"groups: { web: { command = [ \"/bin/grep\", \"-E\", \"Sig(Blk|Ign)\","
		" \"/proc/self/status\" ]; log: { file = \"%s/l\"; }; }; };",
		body_signals);
	rig_fini(&r);
}
