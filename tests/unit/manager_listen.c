/* Listening sockets: every notation, rights from birth, what is in the way. */
#include "manager/listen.h"

#include "base/mem.h"
#include "manager_rig.h"
#include "manager/sockets.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static struct conf_socket plain(void)
{
	return (struct conf_socket){ .name = "s", .backlog = 16, .mode = 0666 };
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in6 at = { 0 };
	socklen_t len = sizeof(at);

	cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	return ntohs(at.sin6_port);
}

Test(manager_listen, tcp_and_tcp6_of_one_port)
{
	struct conf_socket s = plain();
	struct diag d = { 0 };
	auto_fd four = listen_make(&s, "tcp://127.0.0.1:0", &d), six = -1, again = -1;
	char text[64];

	cr_assert_geq(four, 3, "%s", d.text);
	cr_assert_eq(fcntl(four, F_GETFD), FD_CLOEXEC);
	cr_assert_eq(fcntl(four, F_GETFL) & O_NONBLOCK, 0);
	snprintf(text, sizeof(text), "tcp6://[::]:%d", port_of(four));
	six = listen_make(&s, text, &d);
	if (six < 0 && strstr(d.text, "not supported"))
		return; /* a host without IPv6 */
	cr_assert_geq(six, 3, "%s", d.text);
	snprintf(text, sizeof(text), "tcp://127.0.0.1:%d", port_of(four));
	again = listen_make(&s, text, &d);
	cr_assert_eq(again, -EADDRINUSE);
	cr_assert_not_null(strstr(d.text, text));
}

Test(manager_listen, reuseport)
{
	struct conf_socket s = plain();
	struct diag d = { 0 };
	auto_fd one = -1, two = -1;
	char text[64];

	s.reuseport = true;
	one = listen_make(&s, "tcp://127.0.0.1:0", &d);
	cr_assert_geq(one, 0);
	snprintf(text, sizeof(text), "tcp://127.0.0.1:%d", port_of(one));
	two = listen_make(&s, text, &d);
	cr_assert_geq(two, 0, "%s", d.text);
}

Test(manager_listen, texts_that_are_refused)
{
	static const char *const bad[] = {
		"",
		"tcp://",
		"tcp://localhost:80",
		"tcp://1.2.3.4",
		"tcp://1.2.3.4:",
		"tcp://:80",
		"tcp://1.2.3.4:65536",
		"tcp://1.2.3.4:-1",
		"tcp://1.2.3.4:80x",
		"tcp://1.2.3:80",
		"tcp6://::1:80",
		"tcp6://[::1]",
		"tcp6://[]:80",
		"tcp6://[1.2.3.4]:80",
		"udp://1.2.3.4:5",
		"unix://",
		"unix://relative",
		"unix:///",
		"unix:@",
		"unix:/x",
		"http://1.2.3.4:80",
	};
	struct conf_socket s = plain();

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct diag d = { 0 };

		cr_assert_lt(listen_make(&s, bad[i], &d), 0, "%s", bad[i]);
		cr_assert_not_null(strstr(d.text, "socket s"), "%s", bad[i]);
	}
}

static void make_dir(char ret[32])
{
	strcpy(ret, "/tmp/reeve-lis-XXXXXX");
	cr_assert_not_null(mkdtemp(ret));
}

/* SE01: the mode is exact whatever the umask; the process's umask is as before. */
Test(manager_listen, se01_mode_and_owner_of_a_path)
{
	static const mode_t modes[] = { 0600, 0660, 0666, 0000, 0777 };
	char dir[32], text[64];
	struct stat st;

	make_dir(dir);
	umask(0027);
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		struct conf_socket s = plain();
		struct diag d = { 0 };
		auto_fd fd = -1;

		s.mode = modes[i];
		s.has_owner = geteuid() == 0;
		s.owner_uid = 65534;
		s.owner_gid = 65533;
		snprintf(text, sizeof(text), "unix://%s/s%zu", dir, i);
		fd = listen_make(&s, text, &d);
		cr_assert_geq(fd, 0, "%s", d.text);
		cr_assert_eq(stat(text + 7, &st), 0);
		cr_assert_eq(st.st_mode & 07777, modes[i], "%o", st.st_mode);
		if (s.has_owner)
			cr_assert(st.st_uid == 65534 && st.st_gid == 65533);
		listen_unlink(text);
		cr_assert_lt(stat(text + 7, &st), 0);
	}
	cr_assert_eq(umask(0), 0027);
	rmdir(dir);
}

Test(manager_listen, what_is_in_the_way)
{
	struct conf_socket s = plain();
	struct diag d = { 0 };
	char dir[32], text[64], target[64];
	struct stat st;
	int fd, other;

	make_dir(dir);
	snprintf(text, sizeof(text), "unix://%s/s", dir);
	snprintf(target, sizeof(target), "%s/decoy", dir);
	fd = listen_make(&s, text, &d);
	cr_assert_geq(fd, 0, "%s", d.text);
	cr_assert_eq(listen_make(&s, text, &d), -EADDRINUSE, "somebody answers");
	close(fd);
	fd = listen_make(&s, text, &d);
	cr_assert_geq(fd, 0, "a dead one is replaced: %s", d.text);
	close(fd);
	unlink(text + 7);
	other = open(text + 7, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(other);
	cr_assert_eq(listen_make(&s, text, &d), -EEXIST);
	listen_unlink(text);
	cr_assert_eq(stat(text + 7, &st), 0, "a file is never removed");
	unlink(text + 7);
	/* SE02: a link is not followed, neither to bind nor to give away nor to unlink */
	close(open(target, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	cr_assert_eq(symlink(target, text + 7), 0);
	cr_assert_eq(listen_make(&s, text, &d), -EEXIST);
	listen_unlink(text);
	cr_assert_eq(lstat(text + 7, &st), 0);
	cr_assert(S_ISLNK(st.st_mode));
	unlink(text + 7);
	unlink(target);
	rmdir(dir);
}

Test(manager_listen, abstract_and_deep)
{
	struct conf_socket s = plain();
	struct diag d = { 0 };
	char dir[32], text[300], path[280];
	auto_fd abstract = -1, deep = -1;
	int n;

	snprintf(text, sizeof(text), "unix:@reeve-unit-%d", (int)getpid());
	abstract = listen_make(&s, text, &d);
	cr_assert_geq(abstract, 0, "%s", d.text);
	cr_assert_eq(listen_make(&s, text, &d), -EADDRINUSE);
	/* a directory longer than a socket address may be */
	make_dir(dir);
	n = snprintf(path, sizeof(path), "%s/%0200d", dir, 1);
	cr_assert_eq(mkdir(path, 0700), 0);
	snprintf(text, sizeof(text), "unix://%s/s", path);
	deep = listen_make(&s, text, &d);
	cr_assert_geq(deep, 0, "%s", d.text);
	listen_unlink(text);
	cr_assert_eq(rmdir(path), 0, "%d", n);
	rmdir(dir);
}

/* --- the table of them -------------------------------------------------------------------------
 */

static const char conf_text[] = "defaults: { log: { file = \"%s/%%g.log\"; }; }; groups: {"
				" a: { command = [ \"/bin/true\" ]; workers = 2; sockets = ("
				"  { name = \"one\"; listen = \"unix://%s/shared\"; },"
				"  { name = \"own\"; listen = \"unix://%s/own%%i\"; } ); };"
				" b: { command = [ \"/bin/true\" ]; sockets = ("
				"  { name = \"two\"; listen = \"unix://%s/shared\"; } ); }; };";

static void check_path(struct manager *m, const char *name, bool there)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", rig_dir(m), name);
	rig_check((lstat(path, &st) == 0) == there, "%s", path);
}

static void body_table(struct manager *m)
{
	struct worker *a0 = manager_find_worker(m, "a", 0), *a1 = manager_find_worker(m, "a", 1);
	struct worker *b = manager_find_worker(m, "b", 0);
	int fds[64], first, before = rig_count_fds();
	auto_str names = { 0 };
	struct diag d = { 0 };

	rig_check(sockets_for(a0, fds, &names, &d) == 2, "%s", d.text);
	rig_check(strcmp(names.data, "one:own") == 0, "%s", names.data);
	first = fds[0];
	names.len = 0;
	rig_check(sockets_for(a1, fds, &names, &d) == 2 && fds[0] == first, "%s", d.text);
	names.len = 0;
	rig_check(sockets_for(b, fds, &names, &d) == 1 && fds[0] == first, "the same socket");
	rig_check(rig_count_fds() == before + 3);
	check_path(m, "own1", true);
	sockets_prune(m);
	rig_check(rig_count_fds() == before + 3, "all are in use");
	manager_find_group(m, "a")->conf = NULL;
	sockets_prune(m);
	rig_check(rig_count_fds() == before + 1, "%d", rig_count_fds() - before);
	check_path(m, "shared", true);
	check_path(m, "own0", false);
	check_path(m, "own1", false);
	m->ledger.h->phase = PHASE_WARM;
	sockets_fini(m);
	check_path(m, "shared", false);
	rig_check(rig_count_fds() == before);
}

Test(manager_listen, one_socket_for_one_listen)
{
	struct rig r;

	rig_init(&r, false);
	rig_run(&r, conf_text, body_table);
	rig_fini(&r);
}
