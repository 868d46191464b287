/*
 * Owns the replacement of the running program by the one on disk, in this process. Asked → checked
 * by a helper that is the new program itself, exec'ed from the descriptor that is exec'ed later →
 * passed on (pass.c). The new image is on trial: the guard puts the old one back if it crashes or
 * hangs, we do if its manager or logger does not come up. One upgrade at a time; what is asked for
 * meanwhile comes after it, a signal is dropped.
 */
#include "keeper/trial.h"
#include "keeper/pass.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/names.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CHECK_MS     10000 /* for the pre-flight */
#define TRIAL_MS     1000
#define ROLES_MS     10000 /* for manager and logger to come up */
#define LOOK_MS	     50
#define ROLE_DEATHS  3 /* before it was ready; one may have been killed by somebody */
#define CHECK_FAILED 127
#define CPU_S	     20 /* a helper that spins ends, whatever becomes of us */

static void write_outcome(struct keeper *k, int err, const char *to, const char *text)
{
	struct ledger_header *h = k->ledger.h;
	uint32_t done = atomic_load(&h->upgrade_done), last = k->upgrade.number;
	uint32_t first = last - done > UPGRADES_KEPT ? last - UPGRADES_KEPT : done;

	for (uint32_t n = first + 1; n - 1 != last; n++) {
		struct ledger_upgrade *u = &h->upgrades[n % UPGRADES_KEPT];

		u->number = n;
		u->err = err;
		snprintf(u->from, sizeof(u->from), "%s", k->upgrade.from);
		snprintf(u->to, sizeof(u->to), "%s", to);
		snprintf(u->text, sizeof(u->text), "%s", text);
	}
	atomic_store(&h->upgrade_done, last);
	bell_ring(k->bells[1]);
}

/* It is over: say so to whoever asked, and look whether somebody has asked since. */
static void conclude(struct keeper *k, int err, const char *to, const char *text)
{
	if (err < 0)
		log_error("upgrade failed: %s", text);
	else
		log_info("upgraded from reeved %s to %s", k->upgrade.from, to);
	write_outcome(k, err, to, text);
	close_fd(&k->upgrade.exe);
	close_fd(&k->upgrade.said);
	close_fd(&k->upgrade.from_helper);
	k->upgrade.stage = UPGRADE_NONE;
	k->upgrade.due_ms = KEEPER_NEVER;
	notify_look(k);
	upgrade_look(k);
}

static void refuse(struct keeper *k, int err, const char *what)
{
	char text[256];

	snprintf(text, sizeof(text), "%s: %s", what, strerror(-err));
	conclude(k, err, "", text);
}

/* In the child, since a file system may hang. The descriptor goes to us before it is executed. */
static int check_open(const struct keeper *k, int to_keeper)
{
	const char *path = k->options->program;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		dprintf(STDOUT_FILENO, "%s: %s\n", path, strerror(errno));
		_exit(CHECK_FAILED);
	}
	if (!S_ISREG(st.st_mode)) {
		dprintf(STDOUT_FILENO, "%s: it is no file\n", path);
		_exit(CHECK_FAILED);
	}
	if (fd_send(to_keeper, "", 1, &fd, 1) < 0)
		_exit(CHECK_FAILED);
	return fd;
}

/* Runs in the child: the new program, with what it is to look at and nothing else. */
static void check_exec(const struct keeper *k, const struct pass *p, int to_keeper)
{
	const int needed[] = { p->table, p->state, k->ledger_fd, k->book_fd,
			       store_get(k, RF_CONF) };
	const struct rlimit cpu = { CPU_S, CPU_S };
	char arg[48];
	char *argv[] = { (char *)ROLE_PREFLIGHT, arg, NULL };
	int exe;

	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CPU, &cpu);
	snprintf(arg, sizeof(arg), PREFLIGHT_OPTION "%d", p->table);
	fd_cloexec_from(3);
	if (getppid() != k->ledger.h->keeper_pid || dup2(k->upgrade.said, STDOUT_FILENO) < 0 ||
	    dup2(k->upgrade.said, STDERR_FILENO) < 0)
		_exit(CHECK_FAILED);
	exe = check_open(k, to_keeper);
	for (size_t i = 0; i < ARRAY_LEN(needed); i++)
		fd_set_cloexec(needed[i], false);
	syscall(SYS_execveat, exe, "", argv, environ, AT_EMPTY_PATH);
	dprintf(STDOUT_FILENO, "the new program cannot be executed: %s\n", strerror(errno));
	_exit(CHECK_FAILED);
}

static int fork_check(struct keeper *k, const struct pass *p)
{
	int pair[2], err = 0;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		check_exec(k, p, pair[1]);
	if (pid < 0)
		err = -errno;
	k->upgrade.helper = MAX_OF(pid, 0);
	k->upgrade.from_helper = pair[0];
	close(pair[1]);
	return err;
}

static int check_start(struct keeper *k)
{
	struct pass p;
	int err = pass_init(&p);

	if (err == 0)
		err = pass_write(k, &p, NULL);
	k->upgrade.said = err < 0 ? -1 : fd_memfd("reeve-preflight", 0);
	if (err == 0)
		err = k->upgrade.said < 0 ? k->upgrade.said : fork_check(k, &p);
	pass_fini(&p);
	return err;
}

static void begin(struct keeper *k, const char *why)
{
	int err;

	k->upgrade.number = atomic_load(&k->ledger.h->upgrade_want);
	snprintf(k->upgrade.from, sizeof(k->upgrade.from), "%s", REEVE_VERSION);
	if (atomic_load(&k->ledger.h->phase) != PHASE_RUN) {
		conclude(k, -ESHUTDOWN, "", "the daemon is shutting down");
		return;
	}
	if (k->run.mode != RUN_NONE) {
		conclude(k, -EOPNOTSUPP, "", "`reevectl run` ends with its command, as it is");
		return;
	}
	log_info("upgrade (%s): checking %s", why, k->options->program);
	k->upgrade.stage = UPGRADE_CHECK;
	k->upgrade.due_ms = clock_mono_ms() + CHECK_MS;
	err = check_start(k);
	if (err < 0)
		refuse(k, err, "starting the check");
}

void upgrade_look(struct keeper *k)
{
	struct ledger_header *h = k->ledger.h;

	if (k->upgrade.stage == UPGRADE_NONE && !k->done &&
	    atomic_load(&h->upgrade_want) != atomic_load(&h->upgrade_done))
		begin(k, "asked for by a client");
}

void upgrade_signal(struct keeper *k)
{
	if (k->upgrade.stage == UPGRADE_NONE)
		begin(k, "SIGUSR2");
	else
		log_debug("SIGUSR2: an upgrade is under way");
}

/* What the helper said, one line: text is why it does not accept. It may be any program. */
static bool read_verdict(struct keeper *k, int how, int status, char *text, size_t size)
{
	char raw[200];
	ssize_t n = pread(k->upgrade.said, raw, sizeof(raw) - 1, 0);

	raw[MAX_OF(n, 0)] = '\0';
	str_escape(raw, strcspn(raw, "\n"), text, size);
	if (how == CLD_EXITED && status == 0 &&
	    strncmp(raw, PREFLIGHT_OK, sizeof(PREFLIGHT_OK) - 1) == 0)
		return true;
	if (how == CLD_EXITED && (status == 0 || n <= 0))
		snprintf(text, size,
			 "the new program is no reeved that can take over (exit code %d)", status);
	else if (how != CLD_EXITED)
		snprintf(text, size, "the check of the new program was ended by %s",
			 signal_to_name(status, (char[12]){ 0 }));
	return false;
}

static int take_program(struct keeper *k)
{
	size_t n = 1;
	char byte;

	return fd_recv(k->upgrade.from_helper, &byte, 1, &k->upgrade.exe, &n) == 1 && n == 1
		       ? 0
		       : -EPROTO;
}

/* Everything is passed on; returns only if that failed, and nothing was changed. */
static void hand_over(struct keeper *k)
{
	struct pass p;
	int err = pass_init(&p);

	k->upgrade.stage = UPGRADE_TRIAL;
	notify_look(k);
	store_receive(k);
	if (err == 0)
		err = pass_write(k, &p, NULL);
	p.old = k->self_exe;
	if (err == 0)
		err = pass_exec(&p, k->upgrade.exe, k->options->argv);
	p.old = -1;
	pass_fini(&p);
	refuse(k, err, "executing it");
}

void upgrade_checked(struct keeper *k, int how, int status)
{
	char text[256];
	bool good = read_verdict(k, how, status, text, sizeof(text));

	k->upgrade.helper = 0;
	if (good && take_program(k) < 0) {
		snprintf(text, sizeof(text), "its check has kept the program for itself");
		good = false;
	}
	if (!good) {
		conclude(k, -ENOEXEC, "", text);
		return;
	}
	/* Not here: other signals of this turn have been read and not been served. */
	k->upgrade.stage = UPGRADE_READY;
	k->upgrade.due_ms = 0;
}

/* --- in the new image --- */

void upgrade_begin_trial(struct keeper *k, struct trial *trial)
{
	k->upgrade.trial = trial;
	k->upgrade.stage = UPGRADE_TRIAL;
	k->upgrade.began_ms = clock_mono_ms();
	k->upgrade.due_ms = k->upgrade.began_ms + LOOK_MS;
	trial_complete(trial, k);
}

void upgrade_came_back(struct keeper *k, const char *why)
{
	char text[256];

	snprintf(text, sizeof(text), "%s; reeved %s is back", why, REEVE_VERSION);
	conclude(k, -EIO, "", text);
}

void upgrade_settle(struct keeper *k)
{
	struct ledger_header *h = k->ledger.h;

	if (k->upgrade.stage != UPGRADE_TRIAL)
		return;
	trial_end(&k->upgrade.trial);
	if (atomic_load(&h->fields) < LEDGER_FIELDS)
		atomic_store(&h->fields, LEDGER_FIELDS);
	conclude(k, 0, REEVE_VERSION, "");
}

static void give_up(struct keeper *k, const char *why)
{
	int err;

	log_error("%s: putting the old program back", why);
	err = trial_give_up(k->upgrade.trial, why);
	log_error("putting the old program back: %s", strerror(-err));
	upgrade_settle(k);
}

static void run_trial(struct keeper *k, int64_t now)
{
	bool up = true;

	k->upgrade.due_ms = now + LOOK_MS;
	trial_go_on(k->upgrade.trial);
	for (int i = 0; i < ROLE_COUNT; i++) {
		char why[64];

		snprintf(why, sizeof(why), "the new %s ended before it was ready",
			 k->roles[i].name);
		if (k->roles[i].early_deaths >= ROLE_DEATHS) {
			give_up(k, why);
			return;
		}
		up = up && k->roles[i].pid > 0 && role_is_up(k, (enum role_kind)i);
	}
	if (up && now - k->upgrade.began_ms >= TRIAL_MS)
		upgrade_settle(k);
	else if (!up && now - k->upgrade.began_ms >= ROLES_MS)
		give_up(k, "its manager and logger did not come up within 10 s");
}

int64_t upgrade_due(const struct keeper *k)
{
	return k->upgrade.due_ms;
}

void upgrade_run(struct keeper *k, int64_t now)
{
	if (k->upgrade.stage == UPGRADE_TRIAL) {
		run_trial(k, now);
		return;
	}
	if (k->upgrade.stage == UPGRADE_READY) {
		if (atomic_load(&k->ledger.h->phase) == PHASE_RUN)
			hand_over(k);
		else
			conclude(k, -ESHUTDOWN, "", "the daemon is shutting down");
	} else if (k->upgrade.stage == UPGRADE_CHECK) {
		kill(k->upgrade.helper, SIGKILL); /* our child, not reaped yet */
		k->upgrade.helper = 0;		  /* a stranger when it ends, perhaps much later */
		conclude(k, -ETIME, "", "its check took more than 10 s");
	}
}
