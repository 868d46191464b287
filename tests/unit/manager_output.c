/* Where a worker writes to: one pipe for all lives, or a stream of the journal. */
#include "manager_rig.h"

#include "base/fd.h"
#include "base/mem.h"
#include "manager/tree.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Nothing stays open per worker, and all lives write into one pipe that outlives them. */
static void body_pipe(struct manager *m)
{
	struct worker *w = rig_worker(m, "web");
	int before = rig_count_fds();
	auto_fd out = -1, err = -1;
	char text[64];
	ssize_t n;

	for (int i = 0; i < 3; i++) {
		uint32_t row = rig_start(w);

		rig_code(m, row, 0);
		rig_until_stored(w);
		tree_remove(m, row);
		ledger_free_life(&m->ledger, row);
	}
	rig_check(rig_count_fds() == before, "%d instead of %d", rig_count_fds(), before);
	out = rig_pipe(w, false);
	n = read(out, text, sizeof(text));
	rig_check(n == 12 && memcmp(text, "1\nx\n2\nx\n3\nx\n", 12) == 0, "%d bytes", (int)n);
	err = rig_pipe(w, true);
	n = read(err, text, sizeof(text));
	rig_check(n == 6 && memcmp(text, "e\ne\ne\n", 6) == 0, "%d bytes", (int)n);
}

Test(manager_spawn, one_pipe_for_all_lives)
{
	struct rig r;

	rig_init(&r, true);
	rig_run(&r,
		"groups: { web: { command = [ \"/bin/sh\", \"-c\", \"echo $REEVE_INCARNATION; "
		"echo x >/dev/stdout; echo e >&2\" ];"
		" log: { file = \"%s/l\"; stderr = \"separate\"; }; }; };",
		body_pipe);
	rig_fini(&r);
}

/* --- the journal -------------------------------------------------------------------------------
 */

/* A journal of our own, where only this process and its children see it. */
static int make_journal(struct manager *m)
{
	static const struct sockaddr_un at = { AF_UNIX, "/run/systemd/journal/stdout" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("rig", "/run", "tmpfs", 0, NULL) < 0) {
		close(fd);
		return -1;
	}
	mkdir("/run/systemd", 0755);
	mkdir("/run/systemd/journal", 0755);
	rig_check(bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 8) == 0);
	return fd;
}

static void read_stream(struct manager *m, int journal, const char *wanted)
{
	auto_fd stream = accept4(journal, NULL, NULL, SOCK_CLOEXEC);
	auto_free char *text = NULL;

	rig_check(stream >= 0 && fd_read_all(stream, 10000, &text, NULL) == 0);
	rig_check(strcmp(text, wanted) == 0, "%s", text);
}

static void body_journal(struct manager *m)
{
	struct worker *w = rig_worker(m, "web");
	auto_fd journal = make_journal(m), pipe = -1;
	char text[64];

	if (journal < 0)
		return; /* no namespaces here */
	rig_code(m, rig_start(w), 0);
	read_stream(m, journal, "web:0\n\n6\n1\n0\n0\n0\nout 1\n");
	read_stream(m, journal, "web:0\n\n4\n1\n0\n0\n0\nerr\n");
	rig_check(w->pipe_out < 0, "no pipe is needed");
	/* and without one the life still runs, into the ring */
	close_fd(&journal);
	rig_code(m, rig_start(w), 0);
	rig_until_stored(w);
	pipe = rig_pipe(w, false);
	rig_check(read(pipe, text, sizeof(text)) == 6 && memcmp(text, "out 0\n", 6) == 0);
}

Test(manager_spawn, a_journal_stream)
{
	struct rig r;

	if (geteuid() != 0)
		cr_skip("a journal of our own needs root");
	rig_init(&r, false);
	rig_run(&r,
		"groups: { web: { command = [ \"/bin/sh\", \"-c\","
		" \"env | grep -c JOURNAL_STREAM | sed 's/^/out /'; echo err >&2\" ];"
		" log: { to = \"journal\"; stderr = \"separate\"; }; }; };",
		body_journal);
	rig_fini(&r);
}
