/*
 * A module as a template, as a seed, and alone. The template is single-threaded and does nothing
 * between messages; everything that it has loaded is shared with the workers it forks.
 */
#include "lib/runner/runner.h"

#include "lib/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct job {
	struct module module;
	struct context context;
};

/* --- worker -------------------------------------------------------------------------------- */

/* In a forked worker, before it runs. */
static int on_copy(void *arg, const struct birth *b)
{
	struct job *job = arg;
	int r = process_arm();

	if (r < 0)
		return r;
	context_from_birth(&job->context, b);
	if (!job->module.m->after_fork)
		return 0;
	r = job->module.m->after_fork(job->module.data, &job->context.ctx);
	return r > 0 ? -ECANCELED : r;
}

static int before_fork(void *arg)
{
	const struct process *self = arg;
	const struct job *job = self->on_copy_arg;
	int r = job->module.m->before_fork(job->module.data);

	return r > 0 ? -ECANCELED : r;
}

static void set_hooks(struct job *job)
{
	struct process *self = process_self();

	self->on_copy = on_copy;
	self->on_copy_arg = job;
	self->forker.birth.early = !job->module.m->after_fork;
	/* one that is not there changes nothing between two forks */
	self->forker.before_fork = job->module.m->before_fork ? before_fork : NULL;
}

static int work(struct job *job)
{
	return module_run(&job->module, &job->context.ctx);
}

int run_spawn(const char *entry, int argc, char **argv)
{
	static struct job job;
	char why[512];

	if (module_open(&job.module, entry, why, sizeof(why)) < 0) {
		runner_say("%s", why);
		return 1;
	}
	set_hooks(&job);
	if (process_arm() < 0)
		return 1;
	context_from_environment(&job.context, argc, argv);
	return work(&job);
}

/* --- loading ------------------------------------------------------------------------------- */

/* Libraries that start threads as soon as they are loaded ask these. Workers get their own. */
static void forbid_threads(void)
{
	static const char *const names[] = {
		"OMP_NUM_THREADS",	  "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS",
		"MKL_NUM_THREADS",	  "BLIS_NUM_THREADS",	  "NUMEXPR_NUM_THREADS",
		"VECLIB_MAXIMUM_THREADS", "RAYON_NUM_THREADS",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		setenv(names[i], "1", 1);
}

static void say_loading(int channel, const char *what)
{
	struct channel_packet p;

	channel_begin(&p, CH_LOADING, 0);
	channel_add_text(&p, CT_TEXT, what);
	forker_send(channel, &p);
}

/* Each preload, and what came of it, into READY. */
static void preload(struct forker *f, const struct channel_message *hello,
		    struct channel_packet *ready)
{
	struct channel_record r;
	char path[PATH_MAX], why[512];

	for (size_t i = 0; channel_find(hello, CT_PRELOAD, i, &r); i++) {
		snprintf(path, sizeof(path), "%.*s", (int)r.len, (const char *)r.data);
		say_loading(f->channel, path);
		channel_add_text(ready, CT_PRELOAD, path);
		if (module_preload(path, why, sizeof(why)) < 0)
			channel_add_text(ready, CT_ERROR, why);
	}
}

/* The entry is a preload of its own: READY says what came of it. 0 or -errno, and why. */
static int load_entry(struct module *m, int channel, const struct channel_message *hello,
		      struct channel_packet *ready)
{
	char path[PATH_MAX], why[512] = "HELLO names no entry";
	int r = -EINVAL;

	if (channel_text(hello, CT_ENTRY, path, sizeof(path)) > 0) {
		say_loading(channel, path);
		r = module_open(m, path, why, sizeof(why));
	}
	channel_add_text(ready, CT_PRELOAD, path);
	if (r < 0) {
		runner_say("%s", why);
		channel_add_text(ready, CT_ERROR, why);
	}
	return r;
}

/* Preloads first: the entry finds them loaded. */
static int load(struct job *job, struct forker *f, const struct channel_message *hello)
{
	struct channel_packet ready;
	uint64_t begin = runner_now_us();

	channel_begin(&ready, CH_READY, 0);
	preload(f, hello, &ready);
	if (load_entry(&job->module, f->channel, hello, &ready) < 0) {
		f->refusal = "an entry that could not be loaded";
		return forker_ready_send(f, &ready, runner_now_us() - begin);
	}
	set_hooks(job);
	if (!(job->module.m->flags & REEVE_FORK_SAFE))
		f->refusal = "a module that does not say that it is REEVE_FORK_SAFE; "
			     "use start_method = \"spawn\"";
	return forker_ready_send(f, &ready, runner_now_us() - begin);
}

/* --- roles --------------------------------------------------------------------------------- */

static int end_by_error(const struct forker *f, int error)
{
	if (error == -EPROTO || error == -EPROTONOSUPPORT || error == -EBADMSG)
		runner_say("protocol error: %s", f->why ? f->why : strerror(-error));
	return error == -ECONNRESET ? 0 : 1;
}

/* A seed is a worker, which says READY at its first fork_point(). */
static int run_seed(struct job *job, const struct channel_message *hello)
{
	struct process *self = process_self();
	struct channel_packet unsaid;

	channel_begin(&unsaid, CH_READY, 0);
	if (load_entry(&job->module, self->forker.channel, hello, &unsaid) < 0)
		return 1;
	set_hooks(job);
	self->greeted = true;
	if (process_arm() < 0)
		return 1;
	context_from_environment(&job->context, 0, NULL);
	return work(job);
}

/* What the module has started and left is nobody's else: no zombies. */
static void reap_strangers(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static int serve(struct job *job, struct forker *f)
{
	int r;

	do {
		r = forker_turn(f, true);
		if (r == FORKER_SERVED || r == FORKER_PINGED || r == FORKER_UNWANTED)
			reap_strangers();
	} while (r == FORKER_SERVED || r == FORKER_PINGED || r == FORKER_UNWANTED);
	if (r == FORKER_WORKER)
		return work(job);
	return r == FORKER_QUIT ? 0 : end_by_error(f, r);
}

int run_template(int channel)
{
	static struct job job;
	struct forker *f = &process_self()->forker;
	struct channel_packet p;
	struct channel_message hello;
	int r = forker_hello(f, channel, RUNNER_RUNTIME, &p, &hello);

	if (r < 0)
		return end_by_error(f, r);
	if (f->seed)
		return run_seed(&job, &hello);
	signal(SIGINT, SIG_IGN);
	forbid_threads();
	r = load(&job, f, &hello);
	return r < 0 ? end_by_error(f, r) : serve(&job, f);
}
