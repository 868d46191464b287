/*
 * The keeper's other beginning: another image of it, in this process, has passed on all it had
 * (keeper/pass.h). What was decided at the first start is not decided again. Until the trial is
 * over, whatever fails here puts the old image back.
 */
#include "boot/boot.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/names.h"
#include "keeper/trial.h"
#include "keeper/pass.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

struct adoption {
	struct pass pass;
	struct keeper_state *state;
	struct role_fd_table *table;
};

static int adopt_stored(struct keeper *k, const struct role_fd *row)
{
	struct store_message m = {
		.op = STORE_PUT, .kind = row->kind, .index = row->index, .aux = row->aux
	};

	memcpy(m.name, row->name, sizeof(m.name));
	return store_adopt(k, &m, row->fd);
}

/* Our own by kind; the rest is the store's. */
static int *place_of(struct keeper *k, struct adoption *a, uint32_t kind)
{
	const struct {
		uint32_t kind;
		int *fd;
	} own[] = {
		{ PASS_STATE, &a->pass.state },
		{ PASS_DIR, &k->dir },
		{ RF_LEDGER, &k->ledger_fd },
		{ RF_LOGBOOK, &k->book_fd },
		{ RF_LOCK, &k->lock },
		{ RF_BELL_KEEPER, &k->bells[0] },
		{ RF_BELL_MANAGER, &k->bells[1] },
		{ RF_BELL_LOGGER, &k->bells[2] },
		{ PASS_STORE, &k->store_pair[0] },
		{ RF_STORE, &k->store_pair[1] },
		{ RF_LOGS_OUT, &k->logs_pair[0] },
		{ RF_LOGS_IN, &k->logs_pair[1] },
	};

	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		if (own[i].kind == kind)
			return own[i].fd;
	}
	return NULL;
}

static int take_own(struct keeper *k, struct adoption *a, struct diag *d)
{
	for (uint32_t i = 0; i < a->table->n; i++) {
		const struct role_fd *row = &a->table->rows[i];
		int *place = place_of(k, a, row->kind);

		if (fd_set_cloexec(row->fd, true) < 0)
			return diag_set(d, -EBADF, "descriptor %d (kind %u) is not open", row->fd,
					row->kind);
		if (place)
			*place = row->fd;
	}
	if (k->ledger_fd < 0 || k->book_fd < 0 || k->dir < 0 || k->lock < 0 || k->bells[0] < 0 ||
	    k->bells[1] < 0 || k->bells[2] < 0 || k->store_pair[0] < 0 || k->store_pair[1] < 0 ||
	    k->logs_pair[0] < 0 || k->logs_pair[1] < 0)
		return diag_set(d, -EBADF, "the table of descriptors is not complete");
	return 0;
}

/* One of a kind that we do not know was stored by a newer image, which is gone again. */
static int take_stored(struct keeper *k, struct adoption *a, struct diag *d)
{
	for (uint32_t i = 0; i < a->table->n; i++) {
		const struct role_fd *row = &a->table->rows[i];
		int err = place_of(k, a, row->kind) ? 0 : adopt_stored(k, row);

		if (err == -EPROTO)
			log_warn("a descriptor of kind %u is not known here", row->kind);
		else if (err < 0)
			return diag_set(d, err, "keeping descriptors: %s", strerror(-err));
	}
	store_adopted(k);
	return store_get(k, RF_CONF) >= 0
		       ? 0
		       : diag_set(d, -EBADF, "there is no configuration in the table");
}

static void take_state(struct keeper *k, const struct keeper_state *s)
{
	memcpy(k->level_word, s->level_word, sizeof(k->level_word));
	memcpy(k->log_to, s->log_to, sizeof(k->log_to));
	k->log_seq = s->log_seq;
	k->first_stop_ms = s->first_stop_ms;
	k->ack_ms = s->ack_ms;
	k->exit_code = s->exit_code;
	memcpy(k->cg.own, s->cgroup_own, sizeof(k->cg.own));
	memcpy(k->cg.base, s->cgroup_base, sizeof(k->cg.base));
	k->cg.own_enabled = s->cgroup_enabled;
	k->cg.made = s->cgroup_made;
	k->upgrade.number = s->number;
	for (int i = 0; i < ROLE_COUNT; i++) {
		k->roles[i].pid = s->roles[i].pid;
		k->roles[i].starts = s->roles[i].starts;
	}
	for (size_t i = 0; i < ARRAY_LEN(k->abandoned); i++)
		k->abandoned[i] = s->abandoned[i];
}

static void take_control(struct keeper *k, const struct keeper_state *s)
{
	memcpy(k->store.control_path, s->control_path, sizeof(k->store.control_path));
	k->store.control_dev = (dev_t)s->control_dev;
	k->store.control_ino = (ino_t)s->control_ino;
}

static void take_log(struct keeper *k)
{
	for (int level = 0; level <= LOG_LEVEL_DEBUG; level++) {
		if (strcmp(k->level_word, conf_word(CONF_WORDS_LEVEL, level)) == 0)
			log_set_level((enum log_level)level);
	}
	if (log_open(k->log_to) < 0)
		log_warn("%s cannot be opened; messages go to stderr", k->log_to);
}

/* Everything up to a keeper whose loop could run. */
static int adopt(struct keeper *k, struct adoption *a, struct diag *d)
{
	int err = take_own(k, a, d);

	if (err < 0)
		return err;
	take_state(k, a->state);
	take_log(k);
	err = ledger_open(k->ledger_fd, &k->ledger, d);
	if (err == 0)
		err = logbook_adopt(k->book_fd, &k->book, d);
	if (err < 0)
		return err;
	shutdown_resume(k);
	err = boot_descriptors(k);
	if (err == 0)
		err = store_begin(k);
	if (err == 0)
		err = boot_watch(k);
	if (err < 0)
		return diag_set(d, err, "making descriptors: %s", strerror(-err));
	err = take_stored(k, a, d);
	take_control(k, a->state);
	return err;
}

static int load(struct adoption *a, struct diag *d)
{
	a->state = calloc(1, sizeof(*a->state));
	if (!a->state)
		return diag_set(d, -ENOMEM, "out of memory");
	if (role_fds_read(a->pass.table, &a->table) < 0 || pass_read(a->pass.state, a->state) < 0)
		return diag_set(d, -EPROTO, "what was passed on cannot be read");
	return 0;
}

static void options_of(const struct keeper_state *s, char **argv, struct keeper_options *ret)
{
	*ret = (struct keeper_options){
		.config = strdup(s->config),
		.program = strdup(s->program),
		.argv = argv,
		.user = s->user,
		.forced_level = s->forced_level,
	};
}

/* Why the image before us is not there any more; false: it was the older one, we replace it. */
static bool came_back(const struct adoption *a, char *why, size_t size)
{
	char name[12];

	if (a->pass.signal == SIGALRM)
		snprintf(why, size, "the new program hung in its first second");
	else if (a->pass.signal)
		snprintf(why, size, "the new program crashed in its first second (%s)",
			 signal_to_name(a->pass.signal, name));
	else
		snprintf(why, size, "%s", a->state->why);
	return why[0] != '\0';
}

static void go_on(struct keeper *k, struct adoption *a, struct trial *trial)
{
	char why[sizeof(a->state->why)];
	bool back = came_back(a, why, sizeof(why));

	snprintf(k->upgrade.from, sizeof(k->upgrade.from), "%s",
		 back ? REEVE_VERSION : a->state->from);
	notify_begin(k);
	notify_resume(k, a->state);
	if (trial)
		upgrade_begin_trial(k, trial);
	/* Theirs are of the other program; what they were about to do is in ledger and log book. */
	role_replace(k, ROLE_IS_LOGGER);
	trial_go_on(trial);
	role_replace(k, ROLE_IS_MANAGER);
	k->round_ms = 0; /* whoever ended over the exec */
	if (back)
		upgrade_came_back(k, why);
	else
		upgrade_look(k);
	keeper_loop(k);
}

/* Nobody is left who could go on: the kernel ends the workers with us. */
static int fail(struct trial *trial, const char *text)
{
	log_error("taking over: %s", text);
	if (trial)
		log_error("putting the old program back: %s",
			  strerror(-trial_give_up(trial, text)));
	return EXIT_FAILURE;
}

int boot_adopt(char **argv)
{
	struct adoption a = { 0 };
	struct keeper_options options;
	struct trial *trial = NULL;
	struct diag d = { 0 };
	struct keeper k;

	log_init(ROLE_KEEPER, LOG_LEVEL_INFO);
	prctl(PR_SET_NAME, ROLE_KEEPER);
	if (pass_parse(getenv(PASS_VARIABLE), &a.pass) < 0) {
		log_error("%s is not meant to be set by hand", PASS_VARIABLE);
		return EXIT_USAGE;
	}
	unsetenv(PASS_VARIABLE);
	fd_set_cloexec(a.pass.table, true);
	if (a.pass.old >= 0 &&
	    (fd_set_cloexec(a.pass.old, true) < 0 || trial_begin(&a.pass, argv, &trial) < 0))
		log_error("the old program cannot be put back if this one fails");
	if (load(&a, &d) < 0)
		return fail(trial, d.text);
	options_of(a.state, argv, &options);
	boot_keeper(&options, &k);
	if (!options.config || !options.program || adopt(&k, &a, &d) < 0)
		return fail(trial, d.text);
	if (!trial)
		pass_fini(&a.pass);
	go_on(&k, &a, trial);
	boot_end(&k);
	free(a.table);
	free(a.state);
	free(options.config);
	free(options.program);
	return k.exit_code;
}
