/*
 * The birth of a forked worker: a table of steps in a fixed order. Everything is in our own copy of
 * the template's memory, and we are the only thread; so malloc() is fine here. The block of texts
 * that environ and argv point into lives as long as the process.
 */
#include "lib/birth.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- signals ------------------------------------------------------------------------------- */

static volatile pid_t *unbegun_pid(void)
{
	static volatile pid_t pid;

	return &pid;
}

/* A child that was forked without the guest's knowledge is no worker: the default. */
static void end_unbegun(int number)
{
	if (getpid() == *unbegun_pid())
		_exit(0);
	signal(number, SIG_DFL);
	raise(number);
}

static void end_unbegun_by_term(void)
{
	const struct sigaction unbegun = { .sa_handler = end_unbegun };

	*unbegun_pid() = getpid();
	sigaction(SIGTERM, &unbegun, NULL);
}

/* Each call counts in a worker that is made in a few hundred µs: only what is not so already. */
static int step_signals(struct birth *b)
{
	const struct sigaction plain = { .sa_handler = SIG_DFL },
			       ignore = { .sa_handler = SIG_IGN };
	sigset_t none;

	for (int i = 1; i <= SIGRTMAX; i++) {
		bool is_ignored = b->has_handlers || sigismember(&b->ignored, i) > 0;
		bool wanted = b->guest && sigismember(&b->guest->ignored, i) > 0;

		if (wanted && (b->has_handlers || !is_ignored))
			sigaction(i, &ignore, NULL);
		else if (!wanted && is_ignored)
			sigaction(i, &plain, NULL);
	}
	if (b->guest)
		end_unbegun_by_term();
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

/* --- descriptors --------------------------------------------------------------------------- */

static void close_by_list(unsigned first, unsigned last)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		unsigned fd = (unsigned)atoi(e->d_name);

		if (e->d_name[0] != '.' && fd >= first && fd <= last && fd != (unsigned)dirfd(dir))
			close((int)fd);
	}
	if (dir)
		closedir(dir);
}

/* close_range(2): Linux 5.9. */
static void close_between(unsigned first, unsigned last)
{
	if (first <= last && syscall(SYS_close_range, first, last, 0u) < 0)
		close_by_list(first, last);
}

/* A sorted list. */
static void keep(int *kept, size_t *n, int fd)
{
	size_t at = (*n)++;

	for (; at > 0 && kept[at - 1] > fd; at--)
		kept[at] = kept[at - 1];
	kept[at] = fd;
}

/* Close all of 0, 1, 2, … but these. */
static void close_all_but(const int *kept, size_t n)
{
	unsigned next = 0;

	for (size_t i = 0; i < n; i++) {
		if ((unsigned)kept[i] > next)
			close_between(next, (unsigned)kept[i] - 1);
		next = (unsigned)kept[i] + 1;
	}
	close_between(next, UINT_MAX);
}

/* Of the standard numbers those that nothing came for. */
static int fill_stdio(const struct birth *b)
{
	bool came[3] = { false };

	for (size_t i = 0; i < b->n_fds; i++) {
		int target = channel_fd_target(b->order, i);

		if (target >= 0 && target <= 2)
			came[target] = true;
	}
	for (int fd = 0; fd <= 2; fd++)
		if (!came[fd] && open("/dev/null", fd ? O_WRONLY : O_RDONLY) != fd)
			return -EBADF;
	return 0;
}

/* Who believes to own a number may close it, or write to it, and hits nobody else's. */
static int fill_taken(const struct birth_guest *g)
{
	int null = g->n_taken > 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
	bool is_taken = false;

	if (g->n_taken > 0 && null < 0)
		return -errno;
	for (size_t i = 0; i < g->n_taken; i++) {
		is_taken = is_taken || g->taken[i] == null;
		if (fcntl(g->taken[i], F_GETFD) < 0 && dup3(null, g->taken[i], O_CLOEXEC) < 0)
			return -errno;
	}
	if (null >= 0 && !is_taken)
		close(null);
	return 0;
}

/*
 * Numbers that come and numbers that are wanted may overlap: first all of them go above the highest
 * wanted one, then each to its place. The channel comes to stand right above.
 */
static int step_fds(struct birth *b)
{
	int high[CHANNEL_FDS_MAX], kept[CHANNEL_FDS_MAX];
	int above = b->guest ? b->guest->channel_least : 3;
	size_t n = 0;

	for (size_t i = 0; i < b->n_fds; i++) {
		int target = channel_fd_target(b->order, i);

		if (target == INT_MAX)
			return -EBADF;
		above = target >= above ? target + 1 : above;
	}
	for (size_t i = 0; i < b->n_fds; i++) {
		high[i] = fcntl(b->fds[i], F_DUPFD_CLOEXEC, above);
		if (high[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < b->n_fds; i++) {
		int target = channel_fd_target(b->order, i);

		if (target < 0)
			continue;
		if (dup2(high[i], target) < 0)
			return -errno;
		keep(kept, &n, target);
	}
	if (high[0] != above && dup3(high[0], above, O_CLOEXEC) < 0)
		return -errno;
	b->channel = above;
	keep(kept, &n, above);
	close_all_but(kept, n);
	return 0;
}

static int step_stdio(struct birth *b)
{
	int r = fill_stdio(b);

	return r == 0 && b->guest ? fill_taken(b->guest) : r;
}

/* --- the process --------------------------------------------------------------------------- */

static int step_session(struct birth *b)
{
	return setsid() < 0 ? -errno : 0;
}

static int step_limits(struct birth *b)
{
	struct channel_record r;

	for (size_t i = 0; channel_find(b->order, CT_LIMIT, i, &r); i++) {
		struct channel_limit l = channel_limit_of(&r);
		struct rlimit limit = { l.soft == UINT64_MAX ? RLIM_INFINITY : l.soft,
					l.hard == UINT64_MAX ? RLIM_INFINITY : l.hard };

		if (setrlimit((__rlimit_resource_t)l.resource, &limit) < 0)
			return -errno;
	}
	return 0;
}

static int step_nice(struct birth *b)
{
	struct channel_record r;

	if (!channel_find(b->order, CT_NICE, 0, &r))
		return 0;
	return setpriority(PRIO_PROCESS, 0, channel_i32(b->order, CT_NICE, 0)) < 0 ? -errno : 0;
}

static int step_umask(struct birth *b)
{
	struct channel_record r;

	if (channel_find(b->order, CT_UMASK, 0, &r))
		umask((mode_t)channel_u32(b->order, CT_UMASK, 022) & 07777);
	return 0;
}

static int step_cwd(struct birth *b)
{
	char path[PATH_MAX];

	if (channel_text(b->order, CT_CWD, path, sizeof(path)) >= sizeof(path))
		return -ENAMETOOLONG;
	return path[0] && chdir(path) < 0 ? -errno : 0;
}

/* --- texts --------------------------------------------------------------------------------- */

/* One block, as the kernel lays it out at exec: arguments (or a title of them), environment. */
struct texts {
	char *block, *at;
	char **args, **env; /* into the block, NULL at the end */
	size_t n_args, n_env;
};

static void add_text(struct texts *t, char **list, size_t *n, const void *text, size_t len)
{
	memcpy(t->at, text, len);
	t->at[len] = '\0';
	list[(*n)++] = t->at;
	t->at += len + 1;
}

/* What only we know, or what the daemon cannot know: these replace what was sent. */
static bool is_ours(const unsigned char *text, size_t len)
{
	static const char *const names[] = { CHANNEL_ENV "=", "LISTEN_PID=", "WATCHDOG_PID=" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (len >= strlen(names[i]) && memcmp(text, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

static bool has_prefix(char *const *list, const char *prefix)
{
	for (; *list; list++)
		if (strncmp(*list, prefix, strlen(prefix)) == 0)
			return true;
	return false;
}

/* NAME=NUMBER. Not by printf(): each page of the C library that is not yet mapped is a page fault.
 */
static void add_number(struct texts *t, const char *name, int number)
{
	char text[64], *at = text + sizeof(text);
	size_t len = strlen(name);

	do
		*--at = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	at -= len;
	memcpy(at, name, len);
	add_text(t, t->env, &t->n_env, at, (size_t)(text + sizeof(text) - at));
}

static void add_environment(struct birth *b, struct texts *t)
{
	struct channel_record r;

	for (size_t at = 0; channel_next(b->order, &at, &r);)
		if (r.tag == CT_ENV && !is_ours(r.data, r.len))
			add_text(t, t->env, &t->n_env, r.data, r.len);
	if (has_prefix(t->env, "LISTEN_FDS="))
		add_number(t, "LISTEN_PID=", getpid());
	if (has_prefix(t->env, "WATCHDOG_USEC="))
		add_number(t, "WATCHDOG_PID=", getpid());
	if (!b->guest)
		add_number(t, CHANNEL_ENV "=", b->channel);
}

/*
 * Texts of an older life (ours is the copy of a copy) may still be pointed to, by what getenv()
 * gave away: they stay, in a chain.
 */
static int make_texts(struct birth *b, struct texts *ret)
{
	size_t n_args = channel_count(b->order, CT_ARG) + 2; /* the name, NULL */
	size_t n_env = channel_count(b->order, CT_ENV) + 4;  /* three of ours, NULL */
	size_t entry = b->guest ? 2 * strlen(b->guest->entry) : 0;
	char **memory = calloc(1, (1 + n_args + n_env) * sizeof(char *) + 2 * b->order->len +
					  2 * sizeof(b->name) + entry + 256);

	if (!memory)
		return -ENOMEM;
	memory[0] = b->texts;
	b->texts = (char *)memory;
	*ret = (struct texts){ .args = memory + 1,
			       .env = memory + 1 + n_args,
			       .block = (char *)(memory + 1 + n_args + n_env) };
	return 0;
}

static void add_arguments(struct birth *b, struct texts *t)
{
	const char *only = b->guest ? b->guest->entry : b->name;
	struct channel_record r;

	for (size_t at = 0; channel_next(b->order, &at, &r);)
		if (r.tag == CT_ARG)
			add_text(t, t->args, &t->n_args, r.data, r.len);
	if (t->n_args == 0)
		add_text(t, t->args, &t->n_args, only, strlen(only));
	b->argv = t->args;
	b->argc = (int)t->n_args;
	b->args = t->block;
	b->args_len = (size_t)(t->at - t->block);
}

/* "reeve: web:3 ARG ARG": where it begins. */
static char *add_title(const struct birth *b, struct texts *t)
{
	char *begin = t->at;

	t->at += sprintf(t->at, "reeve: %s", b->name);
	for (size_t i = 0; i < t->n_args; i++)
		t->at += sprintf(t->at, " %s", t->args[i]);
	t->at++;
	return begin;
}

static int step_environment(struct birth *b)
{
	struct texts t;
	char *shown;
	int err = make_texts(b, &t);

	if (err < 0)
		return err;
	shown = t.at = t.block;
	add_arguments(b, &t);
	if (b->guest)
		shown = add_title(b, &t);
	b->env = t.at;
	add_environment(b, &t);
	b->env_len = (size_t)(t.at - b->env);
	environ = t.env;
	title_set_name(b->name);
	/* where the kernel cannot, ps shows the template's */
	title_set(&b->title, shown, (size_t)(b->env - shown), b->env_len);
	return 0;
}

/* Every copy would draw the same numbers. */
static int step_random(struct birth *b)
{
	unsigned seeds[3];

	if (getrandom(seeds, sizeof(seeds), 0) != (ssize_t)sizeof(seeds))
		return -EIO;
	srand(seeds[0]);
	srandom(seeds[1]);
	srand48((long)seeds[2]);
	return 0;
}

static int step_after_fork(struct birth *b)
{
	return b->after_fork ? b->after_fork(b->arg, b) : 0;
}

/* --- the daemon ---------------------------------------------------------------------------- */

static int step_born(struct birth *b)
{
	struct channel_packet p;
	int r;

	if (b->said)
		return 0;
	b->said = true;
	channel_begin(&p, CH_BORN, 0);
	channel_add_text(&p, CT_NAME, b->name);
	channel_add_i32(&p, CT_PID, getpid());
	r = channel_send(b->channel, &p);
	/* the daemon does not want us any more */
	if (r == -EPIPE || r == -ECONNRESET)
		_exit(0);
	return r;
}

/* While the daemon answers, the rest is done. */
static int step_born_early(struct birth *b)
{
	return b->early ? step_born(b) : 0;
}

static int step_go(struct birth *b)
{
	struct pollfd wait = { b->channel, POLLIN, 0 };
	struct channel_packet p;
	struct channel_message m;
	ssize_t n;
	int r;

	do {
		poll(&wait, 1, -1);
		n = channel_recv(b->channel, &p);
	} while (n == -EAGAIN);
	if (n == 0 || n == -ECONNRESET)
		_exit(0);
	if (n < 0)
		return (int)n;
	r = channel_parse(&p, CHANNEL_DAEMON, &m, NULL);
	channel_packet_fini(&p);
	if (r == 0 && m.type == CH_STOP)
		_exit(0);
	return r == 0 && m.type == CH_GO ? 0 : -EPROTO;
}

/*
 * Set last: the parent was the middle process until we were adopted, and a change of user takes it
 * away again. Whoever is our parent at GO is the keeper, which has claimed us; if it is another one
 * afterwards, the keeper died before the signal was set. The channel says nothing about that: the
 * daemon may have closed it behind its GO.
 */
static int step_parent(struct birth *b)
{
	pid_t parent = getppid();

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	if (getppid() != parent || parent == b->template_pid)
		_exit(0);
	return 0;
}

static const struct {
	const char *stage;
	int (*run)(struct birth *b);
} steps[] = {
	{ "signals", step_signals },
	{ "descriptors", step_fds },
	{ "stdio", step_stdio },
	{ "session", step_session },
	{ "limits", step_limits },
	{ "nice", step_nice },
	{ "umask", step_umask },
	{ "cwd", step_cwd },
	{ "born", step_born_early }, /* what follows fails by a hook or for want only */
	{ "environment", step_environment },
	{ "random", step_random },
	{ "after_fork", step_after_fork },
	{ "born", step_born },
	{ "go", step_go },
	{ "parent", step_parent },
};

static void __attribute__((noreturn)) fail(const struct birth *b, const char *stage, int error)
{
	struct channel_packet p;
	char text[PATH_MAX + 64], path[PATH_MAX] = "";

	if (strcmp(stage, "cwd") == 0)
		channel_text(b->order, CT_CWD, path, sizeof(path));
	snprintf(text, sizeof(text), "%s%s%s", path, path[0] ? ": " : "", strerror(-error));
	channel_begin(&p, CH_FAIL, 0);
	channel_add_text(&p, CT_STAGE, stage);
	channel_add_i32(&p, CT_ERRNO, -error);
	channel_add_text(&p, CT_TEXT, text);
	/* after its GO nobody may read the channel any more */
	if (channel_send(b->channel, &p) < 0 || b->said)
		dprintf(2, "reeve: %s: %s\n", stage, text);
	_exit(1);
}

/* From where the last part has ended up to that step, which is not taken; NULL: to the end. */
static void run_steps(struct birth *b, int (*end)(struct birth *b))
{
	for (; b->step < sizeof(steps) / sizeof(steps[0]); b->step++) {
		int r;

		if (steps[b->step].run == end)
			return;
		r = steps[b->step].run(b);
		if (r < 0)
			fail(b, steps[b->step].stage, r);
	}
}

void birth_begin(struct birth *b)
{
	b->step = 0;
	b->said = false;
	b->channel = b->fds[0];
	channel_text(b->order, CT_NAME, b->name, sizeof(b->name));
	run_steps(b, step_after_fork);
}

void birth_finish(struct birth *b)
{
	struct sigaction now;

	/* the guest may have put back the default, of which it knows nothing else */
	if (b->guest && sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
		end_unbegun_by_term();
	run_steps(b, NULL);
}

void birth_run(struct birth *b)
{
	birth_begin(b);
	birth_finish(b);
}
