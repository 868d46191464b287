/*
 * A wish to end wakes stop_fd at once. Python's handler of a signal only notes it for the next
 * bytecode of the main thread: one that comes between the last bytecode and select() would wake
 * nobody, and neither would one that the kernel gives to another thread. So this runs in front of
 * Python's handler, for as long as that stays: a program that sets a handler of its own, in Python
 * or C, has taken this one out with it.
 */
#include "lib/python/serve.h"

#include <errno.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

struct stop {
	volatile int asked, fd;
	volatile pid_t pid;
	void (*python[NSIG])(int number);
};

static struct stop *stop_self(void)
{
	static struct stop self;

	return &self;
}

static void on_stop(int number)
{
	struct stop *s = stop_self();
	int err = errno;

	/* the fd of a child that Python does not know of is its parent's */
	if (getpid() == s->pid) {
		s->asked = 1;
		if (write(s->fd, "\1", 1) < 0)
			errno = err; /* full: it is readable already */
	}
	s->python[number](number);
	errno = err;
}

const volatile int *reeve_template_wake(int number, int fd)
{
	struct stop *s = stop_self();
	struct sigaction now;
	pid_t pid = getpid();

	if (number < 1 || number >= NSIG || sigaction(number, NULL, &now) < 0)
		return NULL;
	if (s->pid != pid)
		s->asked = 0;
	s->pid = pid;
	s->fd = fd;
	if (!(now.sa_flags & SA_SIGINFO) && now.sa_handler != SIG_DFL &&
	    now.sa_handler != SIG_IGN && now.sa_handler != on_stop) {
		s->python[number] = now.sa_handler;
		now.sa_handler = on_stop;
		sigaction(number, &now, NULL);
	}
	return &s->asked;
}
