/*
 * Where a worker writes to. The pipe belongs to the slot and outlives its lives; each life gets a
 * blocking write end of its own, so that what one worker does to its flags stays with it. The
 * keeper holds the pipe; we hold a new one only until the keeper's table shows it.
 */
#include "manager/spawn_job.h"

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define JOURNAL_INFO 6
#define JOURNAL_WARN 4 /* lines of a separate stderr */

static uid_t owner_of(const struct worker *w)
{
	return w->group->conf->user.set ? w->group->conf->user.uid : geteuid();
}

/* A pipe that belongs to the worker's user can be opened by it as /dev/stdout. */
static int give_to_user(int fd, const struct worker *w)
{
	uid_t uid = owner_of(w);
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISFIFO(st.st_mode))
		return -EBADF;
	if (st.st_uid != uid && fchown(fd, uid, (gid_t)-1) < 0 && geteuid() == 0)
		return -errno;
	return 0;
}

/* Another write end of the pipe behind /proc/PID/fd/N. Without O_NONBLOCK the open could wait for
 * a reader, if the number means something else by now. */
static int reopen(pid_t pid, int number, const struct worker *w)
{
	auto_fd fd = -1;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, number);
	fd = FAIL_OR(PIPE_REOPEN, open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
	if (fd < 0)
		return -errno;
	r = give_to_user(fd, w);
	if (r == 0 && fcntl(fd, F_SETFL, O_WRONLY) < 0) /* blocking from here on */
		r = -errno;
	return r < 0 ? r : give_fd(&fd);
}

/* The keeper stores it, if it can: a pipe that nobody reads would stop its worker. */
static int store_pipe(struct manager *m, enum role_fd_kind kind, uint32_t slot, int fd)
{
	const struct ledger_header *h = m->ledger.h;
	int32_t on_the_way = (int32_t)(m->pipes_put - atomic_load(&h->pipes_seen));
	int r;

	if (atomic_load(&h->fds_room) - on_the_way <= 0)
		return -EMFILE;
	r = FAIL_ERR(PIPE_STORE);
	if (r == 0)
		r = store_put(m->store, kind, slot, 0, "", fd);
	FAIL_HERE(PIPE_STORED);
	if (r == 0)
		m->pipes_put++;
	return r;
}

/* *kept: our copy of the both-ways end, until the keeper has stored it. Returns the write end. */
static int make_pipe(struct worker *w, enum role_fd_kind kind, int *kept)
{
	auto_fd out = -1, in = -1, both = -1;
	char path[64];
	int ends[2], r;

	if (FAIL_OR(PIPE_MAKE, pipe2(ends, O_CLOEXEC)) < 0)
		return -errno;
	in = ends[0];
	out = ends[1];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", in);
	both = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (both < 0)
		return -errno;
	r = give_to_user(out, w);
	if (r == 0)
		r = store_pipe(w->m, kind, w->row, both);
	if (r < 0)
		return r;
	*kept = give_fd(&both);
	return give_fd(&out);
}

static int open_pipe(struct worker *w, enum role_fd_kind kind)
{
	const struct ledger_fds *fds = ledger_fds(&w->m->ledger, w->row);
	bool err = kind == RF_LOG_ERR;
	int *kept = err ? &w->pipe_err : &w->pipe_out;
	int stored = err ? fds->err : fds->out;
	int r = -ENOENT;

	if (stored > 0)
		r = reopen(w->m->ledger.h->keeper_pid, stored - 1, w);
	if (r < 0 && r != -EMFILE && r != -ENFILE && *kept >= 0)
		r = reopen(getpid(), *kept, w);
	if (r >= 0 || r == -EMFILE || r == -ENFILE)
		return r;
	close_fd(kept);
	return make_pipe(w, kind, kept);
}

/* A stream of its own to the journal: a header of seven lines, then what the worker writes. */
static int open_journal(const struct worker *w, int priority)
{
	static const struct sockaddr_un at = { AF_UNIX, "/run/systemd/journal/stdout" };
	auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char header[160];
	int n, r;

	if (fd < 0 || connect(fd, (const struct sockaddr *)&at, sizeof(at)) < 0)
		return -errno;
	n = snprintf(header, sizeof(header), "%s\n\n%d\n1\n0\n0\n0\n", w->name, priority);
	r = fd_write_all(fd, header, (size_t)n);
	if (r == 0)
		r = fd_set_nonblock(fd, false);
	return r < 0 ? r : give_fd(&fd);
}

static int journal_output(struct job *job, struct worker *w, const struct own_values *own,
			  char ret_journal[static 48])
{
	enum conf_stderr stderr_to = w->group->conf->log.stderr_to;
	int out = open_journal(w, JOURNAL_INFO), err = out;
	struct stat st;

	if (out < 0)
		return out;
	job->plan.stdio[1] = job_hold(job, out);
	if (stderr_to == CONF_STDERR_SEPARATE) {
		err = open_journal(w, JOURNAL_WARN);
		if (err < 0)
			return err;
		job_hold(job, err);
	}
	job->plan.stdio[2] = stderr_to == CONF_STDERR_NULL ? own->null_fd : err;
	if (fstat(out, &st) == 0)
		snprintf(ret_journal, 48, "%llu:%llu", (unsigned long long)st.st_dev,
			 (unsigned long long)st.st_ino);
	return 0;
}

static int pipe_output(struct job *job, struct worker *w, const struct own_values *own,
		       struct diag *d)
{
	enum conf_stderr stderr_to = w->group->conf->log.stderr_to;
	int out = open_pipe(w, RF_LOG_OUT), err = out;

	if (out < 0)
		return diag_set(d, out, "making its log pipe: %s", strerror(-out));
	job->plan.stdio[1] = job_hold(job, out);
	if (stderr_to == CONF_STDERR_SEPARATE) {
		err = open_pipe(w, RF_LOG_ERR);
		if (err < 0)
			return diag_set(d, err, "making its stderr pipe: %s", strerror(-err));
		job_hold(job, err);
	}
	job->plan.stdio[2] = stderr_to == CONF_STDERR_NULL ? own->null_fd : err;
	return 0;
}

int spawn_output(struct job *job, struct worker *w, const struct own_values *own,
		 char ret_journal[static 48], struct diag *d)
{
	int r;

	*ret_journal = '\0';
	if (w->m->command) /* it has our own */
		return 0;
	if (w->group->conf->log.to == CONF_LOG_JOURNAL) {
		r = journal_output(job, w, own, ret_journal);
		if (r == 0 || r == -EMFILE || r == -ENFILE)
			return r < 0 ? diag_set(d, r, "connecting to the journal: %s", strerror(-r))
				     : 0;
		*ret_journal = '\0';
		log_warn("%s: the journal does not answer (%s): this life's output goes to the "
			 "ring of last lines only",
			 w->name, strerror(-r));
	}
	return pipe_output(job, w, own, d);
}
