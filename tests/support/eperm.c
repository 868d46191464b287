/*
 * eperm COMMAND…: run a command under a seccomp filter that answers EPERM to the newer system
 * calls, as container profiles do that were written before them (PI04, moby#42680). The answer is
 * EPERM and not ENOSYS on purpose: programs that fall back only on ENOSYS fail here.
 * eperm --subreaper COMMAND…: prctl(PR_SET_CHILD_SUBREAPER) as well (PI08).
 * eperm --no-pidfd-passing COMMAND…: nothing but SO_PASSPIDFD, as before Linux 6.5.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

static const int refused[] = {
	SYS_clone3,	 SYS_pidfd_open,  SYS_pidfd_send_signal,
	SYS_pidfd_getfd, SYS_close_range, SYS_openat2,
};

#define N_REFUSED (sizeof(refused) / sizeof(refused[0]))

/* A call by one of its arguments; falls through with the number of the call loaded again. */
static size_t refuse_by(struct sock_filter *code, unsigned call, unsigned arg, unsigned value,
			unsigned err)
{
	const struct sock_filter lines[] = {
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 (unsigned)offsetof(struct seccomp_data, args) + 8 * arg),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};

	memcpy(code, lines, sizeof(lines));
	return sizeof(lines) / sizeof(lines[0]);
}

static size_t refuse_newer(struct sock_filter *code)
{
	size_t n = 0;

	for (size_t i = 0; i < N_REFUSED; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							 (unsigned)refused[i], 0, 1);
		code[n++] =
			(struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	}
	return n;
}

int main(int argc, char **argv)
{
	struct sock_filter code[2 * N_REFUSED + 8];
	size_t n = 0;
	bool subreaper = argc > 1 && strcmp(argv[1], "--subreaper") == 0;
	bool passing = argc > 1 && strcmp(argv[1], "--no-pidfd-passing") == 0;

	argc -= subreaper || passing;
	argv += subreaper || passing;
	if (argc < 2) {
		fprintf(stderr, "usage: eperm COMMAND...\n");
		return 2;
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, nr));
	if (subreaper)
		n += refuse_by(code + n, SYS_prctl, 0, PR_SET_CHILD_SUBREAPER, EPERM);
	if (passing)
		n += refuse_by(code + n, SYS_setsockopt, 2, SO_PASSPIDFD, ENOPROTOOPT);
	else
		n += refuse_newer(code + n);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { n, code };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0) {
		fprintf(stderr, "eperm: %s\n", strerror(errno));
		return 126;
	}
	execvp(argv[1], argv + 1);
	fprintf(stderr, "eperm: %s: %s\n", argv[1], strerror(errno));
	return 127;
}
