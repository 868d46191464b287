/* Notifications: what is understood, what is believed, what is closed. */
#include "manager_rig.h"

#include "base/fd.h"
#include "base/mem.h"
#include "manager/notify.h"
#include "manager/tree.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

/* --- parsing -----------------------------------------------------------------------------------
 */

static struct notify_message parse(const char *text)
{
	struct notify_message m;

	notify_parse(text, strlen(text), &m);
	return m;
}

static bool says_nothing(const struct notify_message *m)
{
	return !m->ready && !m->stopping && !m->reloading && !m->has_status && !m->has_progress &&
	       !m->has_extend && !m->watchdog && !m->trigger && !m->has_watchdog_usec &&
	       !m->has_mainpid && !m->has_errno;
}

Test(manager_notify, fields)
{
	struct notify_message m =
		parse("READY=1\nSTATUS=it is = up\nMAINPID=42\nERRNO=2\n"
		      "EXTEND_TIMEOUT_USEC=18446744073709551615\n"
		      "X_REEVE_PROGRESS=3/10\nSTOPPING=1\nWATCHDOG=1\nRELOADING=1");

	cr_assert(m.ready && m.stopping && m.watchdog && m.reloading && m.has_status);
	cr_assert_eq(m.status_len, strlen("it is = up"));
	cr_assert_eq(memcmp(m.status, "it is = up", m.status_len), 0);
	cr_assert(m.has_mainpid && m.mainpid == 42);
	cr_assert(m.has_errno && m.error_number == 2);
	cr_assert(m.has_extend && m.extend_usec == UINT64_MAX);
	cr_assert(m.has_progress && m.progress_done == 3 && m.progress_total == 10);
}

Test(manager_notify, watchdog)
{
	struct notify_message m = parse("WATCHDOG=trigger\nWATCHDOG_USEC=18446744073709551615");

	cr_assert(m.trigger && !m.watchdog && m.has_watchdog_usec);
	cr_assert_eq(m.watchdog_usec, UINT64_MAX);
	m = parse("WATCHDOG=triggers\nWATCHDOG=\nWATCHDOG_USEC=18446744073709551616\n"
		  "WATCHDOG_USEC=1s\nWATCHDOG_USEC=-1\nWATCHDOG_USEC=");
	cr_assert(says_nothing(&m));
	m = parse("WATCHDOG_USEC=7\nWATCHDOG_USEC=x");
	cr_assert(m.has_watchdog_usec && m.watchdog_usec == 7);
}

Test(manager_notify, the_last_status_counts)
{
	struct notify_message m = parse("STATUS=a\nSTATUS=\n");

	cr_assert(m.has_status);
	cr_assert_eq(m.status_len, 0);
}

/* Everything that is not exactly right is as if it had not been sent. */
Test(manager_notify, what_is_left_out)
{
	static const char *const texts[] = {
		"",
		"\n\n\n",
		"READY",
		"READY=",
		"READY=0",
		"READY=2",
		"READY=11",
		" READY=1",
		"ready=1",
		"READY =1",
		"XREADY=1",
		"=1",
		"=",
		"MAINPID=",
		"MAINPID=-1",
		"MAINPID= 1",
		"MAINPID=1x",
		"MAINPID=2147483648",
		"MAINPID=99999999999999999999",
		"ERRNO=4096",
		"ERRNO=-2",
		"EXTEND_TIMEOUT_USEC=18446744073709551616",
		"EXTEND_TIMEOUT_USEC=1e3",
		"X_REEVE_PROGRESS=1",
		"X_REEVE_PROGRESS=/",
		"X_REEVE_PROGRESS=1/",
		"X_REEVE_PROGRESS=-1/2",
		"X_REEVE_PROGRESS=1/9223372036854775808",
		"FDSTORE=1",
		"BARRIER=1",
		"READY=1 ",
		"READY=1\r",
	};
	static const char nul[] = "READY=1\0\nSTATUS=a\0b";
	struct notify_message m;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		m = parse(texts[i]);
		cr_assert(says_nothing(&m), "%s", texts[i]);
	}
	notify_parse(nul, sizeof(nul), &m);
	cr_assert(says_nothing(&m), "NUL");
}

/* --- sockets -----------------------------------------------------------------------------------
 */

static const char conf_text[] =
	"groups: { web: { command = [ \"/bin/sh\", \"-c\", \"sleep 1000 & echo $!,$NOTIFY_SOCKET"
	" > %s/up; wait\" ]; ready = \"notify\"; log: { file = \"%s/l\"; }; }; };";

struct talk {
	struct worker *w;
	uint32_t row;
	struct sockaddr_un at;
	int sock;
	pid_t child; /* of the worker */
};

static struct talk begin(struct manager *m)
{
	struct talk t = { .w = manager_find_worker(m, "web", 0),
			  .at = { .sun_family = AF_UNIX },
			  .sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };
	auto_free char *said = NULL;
	char *comma;

	rig_fifo(m, "up");
	t.row = rig_start(t.w);
	said = rig_text(m, "up");
	comma = strchr(said, ',');
	rig_check(comma && t.sock >= 0, "%s", said);
	t.child = atoi(said);
	comma[strcspn(comma, "\n")] = '\0';
	rig_check(strlen(comma + 1) < sizeof(t.at.sun_path));
	strcpy(t.at.sun_path, comma + 1);
	return t;
}

static int say(const struct talk *t, const char *text, size_t len, const int *fds, size_t n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 253)];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)text, len };
	struct msghdr msg = { .msg_name = (void *)(uintptr_t)&t->at,
			      .msg_namelen = sizeof(t->at),
			      .msg_iov = &iov,
			      .msg_iovlen = 1 };

	if (n > 0) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
	}
	return sendmsg(t->sock, &msg, MSG_DONTWAIT) < 0 ? -errno : 0;
}

static void say_text(const struct talk *t, const char *text)
{
	struct manager *m = t->w->m;
	int r = say(t, text, strlen(text), NULL, 0);

	rig_check(r == 0, "%s: %s", text, strerror(-r));
	notify_drain(t->w);
}

static void body_words(struct manager *m)
{
	struct talk t = begin(m);
	struct ledger_slot *slot = t.w->slot;
	struct stat st;

	rig_check(stat(t.at.sun_path, &st) == 0 && (st.st_mode & 07777) == 0600, "%o", st.st_mode);
	say_text(&t, "STATUS=a\x1b[31m\xff\nX_REEVE_PROGRESS=1/2");
	rig_check(strcmp(slot->status, "a\x1b[31m\xff") == 0, "data, untouched");
	rig_check(slot->progress_done == 1 && slot->progress_total == 2);
	rig_check(!slot->w.ready_seen);
	say_text(&t, "READY=1");
	rig_check(slot->w.ready_seen);
	notify_close(t.w, t.row);
	rig_check(stat(t.at.sun_path, &st) < 0 && errno == ENOENT);
	rig_check(say(&t, "READY=1", 7, NULL, 0) < 0, "nobody listens any more");
}

Test(manager_notify, words)
{
	struct rig r;

	rig_init(&r, true);
	rig_run(&r, conf_text, body_words);
	rig_fini(&r);
}

/* NW04: too much text is cut between characters; NW01: nothing at all is fine. */
static void body_long(struct manager *m)
{
	struct talk t = begin(m);
	char *text = malloc(70000);
	size_t len = 7;

	say_text(&t, "");
	memcpy(text, "STATUS=", 7);
	while (len + 3 < 60000) {
		memcpy(text + len, "\xe2\x82\xac", 3);
		len += 3;
	}
	rig_check(say(&t, text, len, NULL, 0) == 0);
	notify_drain(t.w);
	rig_check(strlen(t.w->slot->status) == 159, "%zu", strlen(t.w->slot->status));
	memset(text + 7, 'x', 70000 - 7);
	rig_check(say(&t, text, 70000, NULL, 0) == 0);
	notify_drain(t.w);
	rig_check(t.w->slot->status[0] != 'x', "a cut message says nothing");
	free(text);
}

Test(manager_notify, nw04_long_texts)
{
	struct rig r;

	rig_init(&r, false);
	rig_run(&r, conf_text, body_long);
	rig_fini(&r);
}

/* NW11, NW15: attached descriptors are closed at once, also when not all of them arrived. */
static void body_fds(struct manager *m)
{
	struct talk t = begin(m);
	int before, fds[200];

	for (int n = 1; n <= 200; n += 199) {
		struct pollfd p;
		int ends[2];

		rig_check(pipe2(ends, O_CLOEXEC) == 0);
		for (int i = 0; i < n; i++)
			fds[i] = ends[1];
		before = rig_count_fds();
		rig_check(say(&t, "BARRIER=1\nSTATUS=b", 18, fds, (size_t)n) == 0);
		close(ends[1]);
		notify_drain(t.w);
		p = (struct pollfd){ ends[0], POLLIN, 0 };
		rig_check(poll(&p, 1, 0) == 1 && (p.revents & POLLHUP), "%d are still open", n);
		close(ends[0]);
		rig_check(rig_count_fds() == before - 2);
	}
}

Test(manager_notify, nw15_descriptors)
{
	struct rig r;

	rig_init(&r, false);
	rig_run(&r, conf_text, body_fds);
	rig_fini(&r);
}

/* NW03: nobody is believed about a main process, and nobody gets hurt. */
static void body_mainpid(struct manager *m)
{
	struct talk t = begin(m);
	pid_t before = worker_pid(t.w);
	char text[64];

	say_text(&t, "MAINPID=1");
	rig_check(t.w->mainpid_said, "one line a life");
	t.w->mainpid_said = false;
	snprintf(text, sizeof(text), "MAINPID=%d", (int)t.child);
	say_text(&t, text);
	rig_check(t.w->mainpid_said);
	t.w->mainpid_said = false;
	snprintf(text, sizeof(text), "MAINPID=%d", (int)before);
	say_text(&t, text);
	rig_check(!t.w->mainpid_said, "that is what it is");
	rig_check(worker_pid(t.w) == before);
}

Test(manager_notify, nw03_mainpid)
{
	struct rig r;

	rig_init(&r, true);
	rig_run(&r, conf_text, body_mainpid);
	rig_fini(&r);
}

/* NW05: the mode of the socket is one gate, the sender's uid the other. */
static void body_sender(struct manager *m)
{
	struct talk t = begin(m);
	int status;
	pid_t pid;

	rig_check(chmod(t.at.sun_path, 0666) == 0);
	pid = fork();
	if (pid == 0) {
		if (setresuid(65534, 65534, 65534) < 0)
			_exit(2);
		_exit(say(&t, "STATUS=forged\nREADY=1", 21, NULL, 0) == 0 ? 0 : 1);
	}
	rig_check(waitpid(pid, &status, 0) == pid && status == 0, "%x", (unsigned)status);
	notify_drain(t.w);
	rig_check(t.w->slot->status[0] == '\0' && !t.w->slot->w.ready_seen);
}

Test(manager_notify, nw05_the_senders_user)
{
	struct rig r;

	if (geteuid() != 0)
		cr_skip("becoming somebody else needs root");
	rig_init(&r, false);
	rig_run(&r, conf_text, body_sender);
	rig_fini(&r);
}

static bool is_ready(struct manager *m, void *arg)
{
	struct worker *w = arg;

	return w->slot->w.ready_seen;
}

/* NW12: a flood is read in portions, by the loop. A successor goes on with the same socket. */
static void body_flood(struct manager *m)
{
	struct talk t = begin(m);
	int sent = 0, fd;

	while (say(&t, "STATUS=x", 8, NULL, 0) == 0)
		sent++;
	rig_check(sent > 5, "%d", sent);
	fd = fcntl(t.w->notify_fd, F_DUPFD_CLOEXEC, 3);
	ev_io_stop(m->loop, &t.w->notify_io);
	close(t.w->notify_fd);
	notify_adopt(t.w, t.row, fd);
	ev_run(m->loop, EVRUN_NOWAIT);
	notify_drain(t.w);
	rig_check(say(&t, "READY=1", 7, NULL, 0) == 0, "there is room again");
	rig_until(m, is_ready, t.w, "READY by the loop");
}

Test(manager_notify, nw12_flood_and_successor)
{
	struct rig r;

	rig_init(&r, false);
	rig_run(&r, conf_text, body_flood);
	rig_fini(&r);
}
