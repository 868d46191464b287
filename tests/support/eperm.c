/*
 * eperm COMMAND…: run a command under a seccomp filter that answers EPERM to the newer system
 * calls, as container profiles do that were written before them (PI04, moby#42680). The answer is
 * EPERM and not ENOSYS on purpose: programs that fall back only on ENOSYS fail here.
 * eperm --subreaper COMMAND…: prctl(PR_SET_CHILD_SUBREAPER) as well (PI08).
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int refused[] = {
	SYS_clone3,	 SYS_pidfd_open,  SYS_pidfd_send_signal,
	SYS_pidfd_getfd, SYS_close_range, SYS_openat2,
};

#define N_REFUSED (sizeof(refused) / sizeof(refused[0]))

/* prctl by its first argument; falls through with the number of the call loaded again. */
static size_t refuse_subreaper(struct sock_filter *code)
{
	const struct sock_filter lines[] = {
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_CHILD_SUBREAPER, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};

	memcpy(code, lines, sizeof(lines));
	return sizeof(lines) / sizeof(lines[0]);
}

int main(int argc, char **argv)
{
	struct sock_filter code[2 * N_REFUSED + 8];
	size_t n = 0;
	bool subreaper = argc > 1 && strcmp(argv[1], "--subreaper") == 0;

	argc -= subreaper;
	argv += subreaper;
	if (argc < 2) {
		fprintf(stderr, "usage: eperm COMMAND...\n");
		return 2;
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, nr));
	if (subreaper)
		n += refuse_subreaper(code + n);
	for (size_t i = 0; i < N_REFUSED; i++) {
		code[n++] =
			(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused[i], 0, 1);
		code[n++] =
			(struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	}
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
