/*
 * libreeve-template.so: the loop of the Python template, loaded by ctypes (reeve/_serve.py).
 * Between two forks nothing of Python runs, so that the template writes to none of the pages that
 * it shares with its workers. Needs no headers of Python: the few functions of it are found by
 * name.
 *
 * All of it is called with the GIL held. It is given up while there is nothing to do, for threads
 * that were allowed.
 */
#include "lib/python/serve.h"

#include "lib/forker.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

struct python {
	void (*before_fork)(void), (*after_in_parent)(void), (*after_in_child)(void);
	void *(*release)(void);
	void (*acquire)(void *state);
	int (*run_handlers)(void); /* of signals; -1: an exception is set */
};

struct server {
	struct forker forker;
	struct forker_guest guest;
	struct birth_guest worker;
	struct python python;
	int *taken;
	char *entry;
	char *known; /* variables, NUL behind every one, one more at the end; NULL: not known */
	struct reeve_template_told *told;
};

static struct server *server_self(void)
{
	static struct server self;

	return &self;
}

/* --- what a worker is told ----------------------------------------------------------------- */

static const char *next_text(const char *text)
{
	return text + strlen(text) + 1;
}

/* In a list that ends with an empty text: one that begins so. */
static bool has_text(const char *list, const char *text, size_t len)
{
	for (; *list; list = next_text(list))
		if (strncmp(list, text, len) == 0)
			return true;
	return false;
}

static bool add_text(struct reeve_template_told *t, const char *text, size_t len)
{
	size_t used = t->args_len + t->env_len;

	if (len + 1 > sizeof(t->texts) - used)
		return false;
	memcpy(t->texts + used, text, len);
	t->texts[used + len] = '\0';
	t->env_len += (uint32_t)len + 1;
	return true;
}

/* What differs only: each object that Python makes anew writes to a page that was shared. */
static bool tell_changes(struct reeve_template_told *t, const char *known, const char *env)
{
	for (const char *at = env; *at; at = next_text(at))
		if (!has_text(known, at, strlen(at) + 1) && !add_text(t, at, strlen(at)))
			return false;
	for (const char *at = known; *at; at = next_text(at)) {
		size_t name = strcspn(at, "=");

		if (!has_text(env, at, name + 1) && !add_text(t, at, name))
			return false;
	}
	return true;
}

/* An order is a packet: all of it does fit. The environment ends with an empty text (birth.h). */
static void tell(struct reeve_template_told *t, const char *known, const struct birth *b)
{
	t->channel = (uint32_t)b->channel;
	t->args_len = (uint32_t)b->args_len;
	t->env_len = 0;
	memcpy(t->texts, b->args, b->args_len);
	t->whole = !known || !tell_changes(t, known, b->env);
	if (!t->whole)
		return;
	t->env_len = (uint32_t)b->env_len;
	if (b->args_len + b->env_len > sizeof(t->texts))
		t->env_len = 0;
	memcpy(t->texts + t->args_len, b->env, t->env_len);
}

/* --- around a fork ------------------------------------------------------------------------- */

static void before(void *arg)
{
	((struct server *)arg)->python.before_fork();
}

static void after(void *arg)
{
	((struct server *)arg)->python.after_in_parent();
}

/* While the daemon answers BORN, Python puts its own house in order. */
static void become(void *arg, struct birth *b)
{
	struct server *s = arg;

	birth_begin(b);
	tell(s->told, s->known, b);
	s->python.after_in_child();
	if (b->early)
		birth_finish(b);
}

/* --- setting up ---------------------------------------------------------------------------- */

const char *reeve_template_version(void)
{
	return REEVE_VERSION;
}

/* ISO C has no cast from an object to a function; POSIX has this. */
static bool find(void *ret, const char *name)
{
	void *found = dlsym(RTLD_DEFAULT, name);

	memcpy(ret, &found, sizeof(found));
	return found;
}

static bool find_python(struct python *p)
{
	return find(&p->before_fork, "PyOS_BeforeFork") &&
	       find(&p->after_in_parent, "PyOS_AfterFork_Parent") &&
	       find(&p->after_in_child, "PyOS_AfterFork_Child") &&
	       find(&p->release, "PyEval_SaveThread") &&
	       find(&p->acquire, "PyEval_RestoreThread") &&
	       find(&p->run_handlers, "PyErr_CheckSignals");
}

static int copy_facts(struct server *s, const char *entry, const int *taken, size_t n_taken)
{
	free(s->entry);
	free(s->taken);
	s->entry = strdup(entry);
	s->taken = calloc(n_taken + 1, sizeof(int));
	if (!s->entry || !s->taken)
		return -ENOMEM;
	memcpy(s->taken, taken, n_taken * sizeof(int));
	return 0;
}

int reeve_template_open(int channel, bool seed, const char *entry, int channel_least,
			const int *taken, size_t n_taken, struct reeve_template_told *told)
{
	struct server *s = server_self();
	struct forker *f = &s->forker;
	int r = find_python(&s->python) ? copy_facts(s, entry, taken, n_taken) : -ENOSYS;

	if (r < 0)
		return r;
	s->told = told;
	f->channel = channel;
	f->seed = seed;
	f->guest = &s->guest;
	f->birth.arg = s;
	f->birth.guest = &s->worker;
	s->guest = (struct forker_guest){ .before = before, .after = after, .become = become };
	s->worker = (struct birth_guest){ .entry = s->entry,
					  .channel_least = channel_least,
					  .taken = s->taken,
					  .n_taken = n_taken };
	sigemptyset(&s->worker.ignored);
	sigaddset(&s->worker.ignored, SIGPIPE);
	sigaddset(&s->worker.ignored, SIGXFSZ);
	title_prepare(&f->birth.title);
	f->is_good = false;
	return safety_remember(&f->safety);
}

int reeve_template_know(const char *env, size_t len)
{
	struct server *s = server_self();

	free(s->known);
	s->known = env ? calloc(1, len + 1) : NULL;
	if (env && !s->known)
		return -ENOMEM;
	if (env)
		memcpy(s->known, env, len);
	return 0;
}

/* --- serving ------------------------------------------------------------------------------- */

/* 0: a packet has come. 1: a handler of Python has raised. */
static int wait_for_packet(struct server *s)
{
	struct pollfd news = { s->forker.channel, POLLIN, 0 };

	for (;;) {
		void *state = s->python.release();
		int n = poll(&news, 1, -1), err = errno;

		s->python.acquire(state);
		if (n > 0)
			return 0;
		if (err != EINTR)
			return -err;
		if (s->python.run_handlers() < 0)
			return 1;
	}
}

int reeve_template_serve(bool wait, reeve_template_look *look, bool always, bool early)
{
	struct server *s = server_self();
	int r;

	s->guest.look = look;
	s->guest.always = always;
	s->forker.birth.early = early;
	if (!wait)
		return forker_turn(&s->forker, false);
	for (;;) {
		r = wait_for_packet(s);
		if (r != 0)
			return r < 0 ? r : FORKER_NOTHING;
		r = forker_turn(&s->forker, false);
		if (r < 0 || r == FORKER_WORKER || r == FORKER_QUIT)
			return r;
	}
}

const char *reeve_template_why(void)
{
	const char *why = server_self()->forker.why;

	return why ? why : "";
}

void reeve_template_finish(void)
{
	birth_finish(&server_self()->forker.birth);
}
