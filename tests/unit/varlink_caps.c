/* The Varlink server when places or descriptors run out. CT12, SP09. */
#include "varlink_rig.h"

#include "base/fd.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void setup(void)
{
	rig_begin(&(struct vl_server_options){ 0 });
}

TestSuite(varlink_fds, .init = setup, .fini = rig_end, .timeout = 60);

/* CT12, SP09: without fds one client at a time is served and nothing spins. */
Test(varlink_fds, out_of_fds)
{
	struct rlimit old, low;
	int fd[3], filler[300], n = 0;

	for (int i = 0; i < 3; i++)
		fd[i] = client();
	getrlimit(RLIMIT_NOFILE, &old);
	low = (struct rlimit){ 256, old.rlim_max };
	setrlimit(RLIMIT_NOFILE, &low);
	while (n < 256 && (filler[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		n++;
	for (int i = 0; i < 3; i++) {
		say(fd[i], ECHO("starved"));
		expect(fd[i], ANSWER("starved"));
		cr_expect_eq(vl_server_clients(rig.server), 1);
		close(fd[i]);
		filler[n++] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		while (vl_server_clients(rig.server) > 0)
			turn_once();
	}
	while (n > 0)
		close(filler[--n]);
	setrlimit(RLIMIT_NOFILE, &old);
	fd[0] = client();
	fd[1] = client();
	say(fd[1], ECHO("fine"));
	expect(fd[1], ANSWER("fine"));
	cr_expect_eq(vl_server_clients(rig.server), 2);
}

static void setup_small(void)
{
	rig_begin(&(struct vl_server_options){ .clients_max = 3 });
}

TestSuite(varlink_caps, .init = setup_small, .fini = rig_end, .timeout = 60);

/* The longest idle client goes when there is no place left; one with a call in progress stays. */
Test(varlink_caps, longest_idle_goes)
{
	int fd[4];

	for (int i = 0; i < 3; i++) {
		fd[i] = client();
		say(fd[i], i == 0 ? CALL("Keep") : ECHO("x"));
		if (i > 0)
			expect(fd[i], ANSWER("x"));
		else
			while (!rig.kept)
				turn_once();
	}
	fd[3] = client();
	say(fd[3], ECHO("y"));
	/* blocks in the loop until a client counts as idle and accepting resumes */
	while (vl_server_clients(rig.server) == 3 && recv(fd[1], &(char){ 0 }, 1, MSG_PEEK) < 0)
		ev_run(rig.loop, EVRUN_ONCE);
	expect(fd[1], "");
	expect(fd[3], ANSWER("y"));
	cr_expect_eq(rig.cancelled, 0);
	vl_reply_empty(rig.kept);
	expect(fd[0], "{\"parameters\":{}}");
}

/* Every place holds a call in progress: the longest silent one goes. */
Test(varlink_caps, longest_silent_goes)
{
	int fd[4];

	for (int i = 0; i < 3; i++) {
		fd[i] = client();
		rig.kept = NULL;
		say(fd[i], "{\"method\":\"test.Bench.Hold\"}");
		while (vl_server_calls(rig.server) <= (unsigned)i)
			turn_once();
	}
	fd[3] = client();
	say(fd[3], ECHO("y"));
	while (rig.cancelled == 0)
		ev_run(rig.loop, EVRUN_ONCE);
	expect(fd[3], ANSWER("y"));
	expect(fd[0], "");
	cr_expect_eq(rig.cancelled, 1);
	cr_expect_eq(vl_server_calls(rig.server), 2);
}

static void setup_uid_cap(void)
{
	rig_begin(&(struct vl_server_options){ .clients_uid_max = 5 });
	cr_assert_eq(chmod(rig.path, 0666), 0);
}

TestSuite(varlink_uid_cap, .init = setup_uid_cap, .fini = rig_end, .timeout = 60);

/* As another user: connect n times, then tell how many connections still answer. */
static int stranger(int n)
{
	int fd[32], alive = 0;
	char c;

	if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
		return -1;
	for (int i = 0; i < n; i++)
		fd[i] = client();
	for (int i = 0; i < n; i++) {
		fd_set_nonblock(fd[i], false);
		if (send(fd[i], CALL("Nothing"), strlen(CALL("Nothing")) + 1, MSG_NOSIGNAL) > 0 &&
		    recv(fd[i], &c, 1, 0) == 1)
			alive++;
	}
	return alive;
}

/* A user's clients beyond its cap are turned away; root's are not counted. */
Test(varlink_uid_cap, one_uid_has_its_cap)
{
	int own[8], status;
	pid_t pid;

	if (geteuid() != 0)
		cr_skip("needs root, to be somebody else");
	rig.any_uid = true;
	for (int i = 0; i < 8; i++)
		own[i] = client();
	pid = fork();
	if (pid == 0)
		_exit(stranger(20));
	while (waitpid(pid, &status, WNOHANG) == 0)
		turn_once();
	cr_assert(WIFEXITED(status));
	cr_expect_eq(WEXITSTATUS(status), 5);
	for (int i = 0; i < 8; i++) {
		say(own[i], ECHO("mine"));
		expect(own[i], ANSWER("mine"));
		close(own[i]);
	}
}
