/*
 * The daemon from its first to its last step: start in order, the keeper's loop (keeper/loop.c),
 * the end. Nothing on disk is touched before the configuration is good and the lock is ours; no
 * worker is started before the leftovers of an earlier life are gone.
 */
#include "boot/boot.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>

/*
 * The maps that the roles share are files to this limit, and so are the logs: it is for workers,
 * who get it as it was. Who may not raise it is told when something does not fit.
 */
static void raise_fsize(struct rlimit *ret_before)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	if (getrlimit(RLIMIT_FSIZE, ret_before) < 0)
		*ret_before = all;
	if (ret_before->rlim_cur == RLIM_INFINITY || setrlimit(RLIMIT_FSIZE, &all) == 0)
		return;
	all = (struct rlimit){ ret_before->rlim_max, ret_before->rlim_max };
	setrlimit(RLIMIT_FSIZE, &all);
}

static void say_fsize(void)
{
	struct rlimit own;

	if (getrlimit(RLIMIT_FSIZE, &own) == 0 && own.rlim_cur != RLIM_INFINITY)
		log_error("the file size limit (ulimit -f) is %llu bytes and may not be raised",
			  (unsigned long long)own.rlim_cur);
}

static int step_limits(struct keeper *k, const struct conf *conf)
{
	struct rlimit lim;

	/* One descriptor per worker: the soft limit is for programs that use select(2). */
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	if (fd_write_at(AT_FDCWD, "/proc/self/oom_score_adj", "-900") < 0)
		log_debug("oom_score_adj -900 is not permitted");
	if (k->run.mode != RUN_NONE) /* the command inherits ours */
		return 0;
	if (chdir("/") < 0)
		return -errno;
	umask(022);
	return 0;
}

static int step_subreaper(struct keeper *k, const struct conf *conf)
{
	if (getpid() == 1 || prctl(PR_SET_CHILD_SUBREAPER, 1) == 0)
		return 0;
	k->no_subreaper = errno;
	log_warn("cannot be a subreaper (%s): orphans go to pid 1", strerror(errno));
	return 0;
}

static int step_ledger(struct keeper *k, const struct conf *conf)
{
	uint8_t identity[16];
	bool known;
	int err = runtime_dir_identity(k, identity, &known);
	struct ledger_header *h;

	if (err == 0)
		err = ledger_create(identity, conf->daemon.runtime_dir, &k->ledger_fd, &k->ledger);
	if (err < 0)
		return err;
	h = k->ledger.h;
	fd_read_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", h->boot_id, sizeof(h->boot_id));
	h->boot_id[strcspn(h->boot_id, "\n")] = '\0';
	h->pid1 = getpid() == 1;
	h->user_daemon = geteuid() != 0;
	h->run_mode = k->run.mode;
	h->subreaper_errno = (uint32_t)k->no_subreaper;
	h->fsize_raised = k->fsize.rlim_cur != RLIM_INFINITY;
	h->fsize_soft = k->fsize.rlim_cur;
	h->fsize_hard = k->fsize.rlim_max;
	atomic_store(&h->stray_leave, conf->daemon.stray_orphans == CONF_STRAY_LEAVE);
	atomic_store(&h->watchdog_ms, conf->daemon.manager_watchdog_ms);
	state_say(k, "starting");
	return 0;
}

static int step_leftovers(struct keeper *k, const struct conf *conf)
{
	bool leftovers = false;
	int n, err = cgroup_begin(k, conf, &leftovers);

	if (err < 0)
		return err;
	if (conf->daemon.stray_orphans == CONF_STRAY_LEAVE)
		return 0;
	n = sweep_marked(k, conf);
	if (n > 0 || leftovers)
		log_warn("ended what an earlier life of this daemon had left running");
	return 0;
}

int boot_descriptors(struct keeper *k)
{
	struct utsname u;
	int major = 0, minor = 0;

	uname(&u);
	sscanf(u.release, "%d.%d", &major, &minor);
	k->pid_lookup_fast = major > 5 || (major == 5 && minor >= 13);
	k->self_exe = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	return k->epoll < 0 ? -errno : signals_init(k);
}

static int step_fds(struct keeper *k, const struct conf *conf)
{
	int err = boot_descriptors(k);

	if (err < 0)
		return err;
	for (size_t i = 0; i < ARRAY_LEN(k->bells); i++) {
		k->bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (k->bells[i] < 0)
			return -errno;
	}
	err = logbook_create(&k->book_fd, &k->book);
	return err < 0 ? err : store_init(k);
}

int boot_watch(struct keeper *k)
{
	const int fds[] = { k->signals, k->bells[0] };

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.fd = fds[i] };

		if (epoll_ctl(k->epoll, EPOLL_CTL_ADD, fds[i], &e) < 0)
			return -errno;
	}
	return 0;
}

static int step_watch(struct keeper *k, const struct conf *conf)
{
	return boot_watch(k);
}

/* The configuration in force, for the manager. */
static int step_conf(struct keeper *k, const struct conf *conf)
{
	auto_free char *text = conf_to_json(conf);
	auto_fd fd = -1;
	int err;

	if (!text)
		return -ENOMEM;
	fd = fd_memfd("reeve-conf", 0);
	err = fd < 0 ? fd : fd_write_all(fd, text, strlen(text));
	if (err == 0)
		err = store_put(k->store_pair[1], RF_CONF, 0, 0, "", fd);
	store_receive(k);
	return err;
}

static const struct {
	const char *what;
	int (*take)(struct keeper *k, const struct conf *conf);
} steps[] = {
	{ "preparing the process", step_limits },   { "becoming a subreaper", step_subreaper },
	{ "making the ledger", step_ledger },	    { "preparing cgroups", step_leftovers },
	{ "making descriptors", step_fds },	    { "watching descriptors", step_watch },
	{ "storing the configuration", step_conf },
};

#ifdef REEVE_FAILPOINTS
_Static_assert(ARRAY_LEN(steps) == FP_BOOT_CONF - FP_BOOT_LIMITS + 1, "one point each");
#endif

static int prepare(struct keeper *k, const struct conf *conf)
{
	int err, code = runtime_dir_take(k, conf);

	if (code)
		return code;
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		err = FAIL_ERR_AT(BOOT_LIMITS, i);
		if (err == 0)
			err = steps[i].take(k, conf);
		if (err < 0) {
			log_error("%s: %s", steps[i].what, strerror(-err));
			if (err == -EFBIG)
				say_fsize();
			return EXIT_FAILURE;
		}
	}
	err = run_begin(k, conf);
	if (err < 0)
		log_error("preparing the command: %s", strerror(-err));
	return err < 0 ? EXIT_FAILURE : 0;
}

static int open_log(struct keeper *k, const struct conf *conf)
{
	int level =
		k->options->forced_level >= 0 ? k->options->forced_level : conf->daemon.log_level;
	int err;

	log_set_level((enum log_level)level);
	snprintf(k->level_word, sizeof(k->level_word), "%s", conf_word(CONF_WORDS_LEVEL, level));
	if (snprintf(k->log_to, sizeof(k->log_to), "%s",
		     conf->daemon.log_to ? conf->daemon.log_to : "auto") >=
	    (int)sizeof(k->log_to)) {
		log_error("daemon.log.to: the name is too long");
		return EXIT_CONFIG;
	}
	err = log_open(k->log_to);
	if (err < 0) {
		log_error("daemon.log.to: opening %s: %s", k->log_to, strerror(-err));
		return EXIT_FAILURE;
	}
	return 0;
}

static void run(struct keeper *k)
{
	log_info("reeved %s started, pid %d, configuration %s", REEVE_VERSION, (int)getpid(),
		 k->options->config);
	notify_begin(k);
	FAIL_HERE(BOOT_LOGGER);
	role_start(k, ROLE_IS_LOGGER);
	FAIL_HERE(BOOT_MANAGER);
	role_start(k, ROLE_IS_MANAGER);
	keeper_loop(k);
}

void boot_end(struct keeper *k)
{
	if (k->epoll >= 0)
		store_fini(k);
	if (k->ledger.h) {
		FAIL_HERE(END_CGROUP);
		cgroup_end(k);
		FAIL_HERE(END_FILES);
		runtime_dir_clean(k);
		FAIL_HERE(END_UNLOCK);
	}
	notify_end(k);
	run_end(k);
	/* For all who share it: a role that hangs in a system call must not keep the next one out.
	 */
	if (k->ledger.h)
		flock(k->lock, LOCK_UN);
	logbook_fini(&k->book);
	ledger_fini(&k->ledger);
}

void boot_keeper(const struct keeper_options *o, struct keeper *ret)
{
	*ret = (struct keeper){
		.options = o,
		.epoll = -1,
		.signals = -1,
		.dir = -1,
		.lock = -1,
		.self_exe = -1,
		.ledger_fd = -1,
		.book_fd = -1,
		.bells = { -1, -1, -1 },
		.store_pair = { -1, -1 },
		.logger_store = { -1, -1 },
		.logs_pair = { -1, -1 },
		.roles = { { .name = ROLE_MANAGER, .retry_ms = KEEPER_NEVER },
			   { .name = ROLE_LOGGER, .retry_ms = KEEPER_NEVER } },
		.round_ms = KEEPER_NEVER,
		.ack_ms = KEEPER_NEVER,
		.gone_ms = KEEPER_NEVER,
		.log_judge_ms = KEEPER_NEVER,
		.upgrade.exe = -1,
		.upgrade.said = -1,
		.upgrade.from_helper = -1,
		.upgrade.due_ms = KEEPER_NEVER,
		.run.command = -1,
		.run.limit_ms = DURATION_NEVER,
		.run.cold_ms = KEEPER_NEVER,
		.manager_word = "starting",
	};
}

int boot_run(const struct keeper_options *o)
{
	struct keeper k;
	struct conf *conf = NULL;
	auto_free char *private_dir = NULL;
	int code;

	boot_keeper(o, &k);
	log_init(ROLE_KEEPER, LOG_LEVEL_INFO);
	raise_fsize(&k.fsize);
	if (o->run)
		k.run.mode = o->run_terminal ? RUN_TERMINAL : RUN_PLAIN;
	code = o->run ? boot_load_run(o, &conf) : boot_load(o, &conf);
	if (code)
		return code == BOOT_ASKED ? 0 : code;
	code = open_log(&k, conf);
	if (code == 0)
		code = prepare(&k, conf);
	if (o->run)
		private_dir = strdup(conf->daemon.runtime_dir);
	conf_free(conf);
	malloc_trim(0);
	if (code == 0) {
		run(&k);
		code = run_code(&k, k.exit_code);
	}
	boot_end(&k);
	if (private_dir)
		runtime_dir_remove(&k, private_dir);
	return code == BOOT_ASKED ? 0 : code;
}
