/*
 * worker-nolibc MARKS INDEX MODE: as worker-glibc, but nothing runs before its first statement and
 * it is one page of code. glibc's start-up costs more than everything a supervisor does for a
 * start; this worker shows what the supervisor costs. Linux, x86-64 and aarch64.
 */
#include <stddef.h>
#include <stdint.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/time.h>
#include <asm/signal.h>

#include "mark.h"

#if defined(__x86_64__)
__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call begin\n");

static long call4(long n, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
__asm__(".globl _start\n"
	"_start:\n"
	"	mov x29, xzr\n"
	"	mov x0, sp\n"
	"	bl begin\n");

static long call4(long n, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
#else
#error "worker-nolibc knows x86-64 and aarch64"
#endif

static long to_number(const char *s)
{
	long n = 0;

	while (*s >= '0' && *s <= '9')
		n = n * 10 + (*s++ - '0');
	return n;
}

/* "obey", "deaf", "deaf10": the first and the fifth letter tell them apart. */
static int is_deaf(const char *mode, unsigned index)
{
	return mode[0] == 'd' && (mode[4] == '\0' || index % 10 == 0);
}

static void ignore_term(void)
{
	/* The kernel's struct sigaction; only the handler matters here. */
	struct {
		uintptr_t handler;
		unsigned long flags, restorer, mask;
	} action = { .handler = 1 /* SIG_IGN */ };

	call4(__NR_rt_sigaction, SIGTERM, (long)&action, 0, 8);
}

void begin(long *stack) __attribute__((noreturn, used));
void begin(long *stack)
{
	char **argv = (char **)(stack + 1);
	struct mark mark = { .kind = MARK_UP };
	long now[2] = { 0, 0 };
	long fd;

	call4(__NR_clock_gettime, CLOCK_MONOTONIC, (long)now, 0, 0);
	if (stack[0] != 4)
		call4(__NR_exit_group, 2, 0, 0, 0);
	mark.at_ns = (uint64_t)now[0] * 1000000000u + (uint64_t)now[1];
	mark.pid = (uint32_t)call4(__NR_getpid, 0, 0, 0, 0);
	mark.index = (uint16_t)to_number(argv[2]);
	if (is_deaf(argv[3], mark.index))
		ignore_term();
	if (call4(__NR_write, 1, (long)"ready\n", 6, 0) != 6)
		call4(__NR_exit_group, 3, 0, 0, 0);
	fd = call4(__NR_openat, AT_FDCWD, (long)argv[1], O_WRONLY, 0);
	if (call4(__NR_write, fd, (long)&mark, sizeof mark, 0) != sizeof mark)
		call4(__NR_exit_group, 4, 0, 0, 0);
	call4(__NR_close, fd, 0, 0, 0);
	for (;;)
		call4(__NR_ppoll, 0, 0, 0, 0);
}
