/*
 * Owns the form in which one image of the keeper hands all it has to the next one. Called from a
 * crash handler too: no allocation, no lock, nothing but memory that the loop would read and system
 * calls.
 */
#include "keeper/pass.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

static bool is_variable(const char *text)
{
	return strncmp(text, PASS_VARIABLE "=", sizeof(PASS_VARIABLE)) == 0;
}

int pass_prepare(struct pass *p)
{
	size_t n = 0, at = 1;

	while (environ[n])
		n++;
	p->env = calloc(n + 2, sizeof(*p->env));
	for (size_t i = 0; p->env && i < n; i++) {
		if (!is_variable(environ[i]))
			p->env[at++] = environ[i];
	}
	return p->env ? 0 : -ENOMEM;
}

int pass_init(struct pass *p)
{
	*p = (struct pass){ .table = fd_memfd("reeve-fds", 0), .old = -1 };
	p->state = p->table < 0 ? -1 : fd_memfd("reeve-state", 0);
	return p->table < 0 ? p->table : p->state < 0 ? p->state : pass_prepare(p);
}

void pass_fini(struct pass *p)
{
	close_fd(&p->table);
	close_fd(&p->state);
	close_fd(&p->old);
	free(p->env);
	p->env = NULL;
}

static void copy(char *to, size_t size, const char *from)
{
	size_t n = from ? strnlen(from, size - 1) : 0;

	memcpy(to, from ? from : "", n);
	to[n] = '\0';
}

#define COPY(to, from) copy((to), sizeof(to), (from))

static void fill_daemon(const struct keeper *k, struct keeper_state *s)
{
	s->user = k->options->user;
	s->forced_level = k->options->forced_level;
	COPY(s->config, k->options->config);
	COPY(s->program, k->options->program);
	COPY(s->level_word, k->level_word);
	COPY(s->log_to, k->log_to);
	s->log_seq = k->log_seq;
	s->first_stop_ms = k->first_stop_ms;
	s->ack_ms = k->ack_ms;
	s->exit_code = k->exit_code;
	COPY(s->control_path, k->store.control_path);
	s->control_dev = k->store.control_dev;
	s->control_ino = k->store.control_ino;
	COPY(s->cgroup_own, k->cg.own);
	COPY(s->cgroup_base, k->cg.base);
	s->cgroup_enabled = k->cg.own_enabled;
	s->cgroup_made = k->cg.made;
}

static int write_state(const struct keeper *k, int fd, const char *why)
{
	struct keeper_state s = { .version = PASS_VERSION, .bytes = sizeof(s) };

	COPY(s.from, REEVE_VERSION);
	COPY(s.why, why);
	s.number = k->upgrade.number;
	fill_daemon(k, &s);
	for (int i = 0; i < ROLE_COUNT; i++) {
		s.roles[i].pid = k->roles[i].pid;
		s.roles[i].starts = k->roles[i].starts;
	}
	for (size_t i = 0; i < ARRAY_LEN(s.abandoned); i++)
		s.abandoned[i] = k->abandoned[i];
	notify_tell(k, &s);
	return pwrite(fd, &s, sizeof(s), 0) == (ssize_t)sizeof(s) ? 0 : -EIO;
}

struct batch {
	int fd;
	unsigned n;
	struct role_fd rows[32];
};

static int write_batch(struct batch *b)
{
	size_t bytes = b->n * sizeof(b->rows[0]);

	b->n = 0;
	return write(b->fd, b->rows, bytes) == (ssize_t)bytes ? 0 : -EIO;
}

static int add_row(struct batch *b, int fd, uint32_t kind, const struct stored *e)
{
	struct role_fd *row = &b->rows[b->n++];

	*row = (struct role_fd){ .fd = fd, .kind = kind };
	if (e) {
		row->index = e->index;
		row->aux = e->aux;
		COPY(row->name, e->name);
	}
	return b->n == ARRAY_LEN(b->rows) ? write_batch(b) : 0;
}

static int add_own(const struct keeper *k, const struct pass *p, struct batch *b)
{
	const struct {
		int fd;
		uint32_t kind;
	} own[] = {
		{ p->state, PASS_STATE },
		{ k->dir, PASS_DIR },
		{ k->ledger_fd, RF_LEDGER },
		{ k->book_fd, RF_LOGBOOK },
		{ k->lock, RF_LOCK },
		{ k->bells[0], RF_BELL_KEEPER },
		{ k->bells[1], RF_BELL_MANAGER },
		{ k->bells[2], RF_BELL_LOGGER },
		{ k->store_pair[0], PASS_STORE },
		{ k->store_pair[1], RF_STORE },
		{ k->logs_pair[0], RF_LOGS_OUT },
		{ k->logs_pair[1], RF_LOGS_IN },
	};
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(own) && err == 0; i++)
		err = add_row(b, own[i].fd, own[i].kind, NULL);
	return err;
}

static int write_table(const struct keeper *k, const struct pass *p)
{
	struct role_fd_table head = { .version = ROLE_FDS_VERSION };
	struct batch b = { .fd = p->table };
	off_t end;
	int err;

	if (ftruncate(p->table, 0) < 0 || lseek(p->table, sizeof(head), SEEK_SET) < 0)
		return -errno;
	err = add_own(k, p, &b);
	for (int fd = 0; fd < k->store.n && err == 0; fd++) {
		const struct stored *e = &k->store.by_fd[fd];

		if (e->kind)
			err = add_row(&b, fd, e->kind - 1, e);
	}
	if (err == 0)
		err = write_batch(&b);
	end = lseek(p->table, 0, SEEK_CUR);
	head.n = (uint32_t)((end - (off_t)sizeof(head)) / (off_t)sizeof(struct role_fd));
	if (err == 0 && pwrite(p->table, &head, sizeof(head), 0) != (ssize_t)sizeof(head))
		err = -EIO;
	return err;
}

int pass_write(const struct keeper *k, const struct pass *p, const char *why)
{
	int err = write_table(k, p);

	return err < 0 ? err : write_state(k, p->state, why);
}

int pass_read(int fd, struct keeper_state *ret)
{
	struct keeper_state s = { 0 };
	ssize_t n = pread(fd, &s, sizeof(s), 0);

	if (n < (ssize_t)offsetof(struct keeper_state, why) || s.version != PASS_VERSION ||
	    s.bytes < (uint32_t)MIN_OF((size_t)n, sizeof(s)))
		return -EPROTO;
	*ret = s;
	return 0;
}

/* Every descriptor of the table stays open over the exec, nothing else does. */
static int open_all(const struct pass *p)
{
	struct role_fd row;
	int err = fd_cloexec_from(3);

	if (err < 0 || lseek(p->table, sizeof(struct role_fd_table), SEEK_SET) < 0)
		return err < 0 ? err : -errno;
	while (err == 0 && read(p->table, &row, sizeof(row)) == (ssize_t)sizeof(row))
		err = fd_set_cloexec(row.fd, false);
	if (err == 0)
		err = fd_set_cloexec(p->table, false);
	if (err == 0 && p->old >= 0)
		err = fd_set_cloexec(p->old, false);
	return err;
}

/* snprintf(3) may allocate and lock. */
static char *add_number(char *at, int n)
{
	char digits[12];
	int len = 0;
	unsigned rest = n < 0 ? 0u - (unsigned)n : (unsigned)n;

	if (n < 0)
		*at++ = '-';
	do
		digits[len++] = (char)('0' + rest % 10);
	while ((rest /= 10) > 0);
	while (len > 0)
		*at++ = digits[--len];
	*at = '\0';
	return at;
}

static void write_variable(const struct pass *p, char text[static PASS_TEXT_MAX])
{
	const int numbers[] = { p->table, p->state, p->old, p->signal };
	char *at = text + sizeof(PASS_VARIABLE);

	memcpy(text, PASS_VARIABLE "=", sizeof(PASS_VARIABLE) + 1);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		if (i > 0)
			*at++ = '.';
		at = add_number(at, numbers[i]);
	}
}

int pass_exec(const struct pass *p, int exe, char *const *argv)
{
	char text[PASS_TEXT_MAX];
	int err = open_all(p);

	write_variable(p, text);
	p->env[0] = text;
	if (err == 0) {
		syscall(SYS_execveat, exe, "", argv, p->env, AT_EMPTY_PATH);
		err = -errno;
	}
	fd_cloexec_from(3);
	return err;
}

int pass_parse(const char *text, struct pass *ret)
{
	struct pass p = { 0 };
	int end = 0;

	if (sscanf(text, "%d.%d.%d.%d%n", &p.table, &p.state, &p.old, &p.signal, &end) != 4 ||
	    text[end] || p.table < 3 || p.state < 3 || p.old < -1)
		return -EINVAL;
	*ret = p;
	return 0;
}
