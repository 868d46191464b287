/*
 * Our own signals, read by signalfd (no handlers, SH22), turned into requests. Who sent one is
 * logged: a worker with our uid may do so, and then one wants to know (SE09).
 */
#include "keeper/keeper.h"

#include "base/clock.h"
#include "base/failpoint.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Requests that wait to be read at once; more is read on the next turn. */
#define BATCH 32

static void on_child(struct keeper *k, const struct signalfd_siginfo *s)
{
	run_child(k);
	reap_hint(k, (pid_t)s->ssi_pid);
}

static void on_stop(struct keeper *k, const struct signalfd_siginfo *s)
{
	shutdown_signal(k, s->ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
}

static void on_quit(struct keeper *k, const struct signalfd_siginfo *s)
{
	shutdown_enter(k, PHASE_COLD, "SIGQUIT");
}

static void on_hup(struct keeper *k, const struct signalfd_siginfo *s)
{
	/* From the kernel it says that the terminal was closed: nobody is there to see a reload. */
	if (s->ssi_code == SI_KERNEL) {
		shutdown_signal(k, "the terminal was closed");
		return;
	}
	FAIL_HERE(HUP_COUNTED);
	atomic_fetch_add(&k->ledger.h->reloads_asked, 1);
	bell_ring(k->bells[1]);
}

static void on_usr1(struct keeper *k, const struct signalfd_siginfo *s)
{
	atomic_fetch_add(&k->ledger.h->reopens_asked, 1);
	atomic_fetch_add(&k->book.h->reopens, 1);
	bell_ring(k->bells[1]);
	bell_ring(k->bells[2]);
	if (k->log_to[0] == '/' && log_open(k->log_to) < 0)
		log_warn("%s cannot be opened again", k->log_to);
}

static void on_usr2(struct keeper *k, const struct signalfd_siginfo *s)
{
	upgrade_signal(k);
}

/*
 * The manager too, so that no deadline of a worker runs while nobody could serve it (SH27). The
 * kernel decides whether the default action applies to us.
 */
void signals_suspend(struct keeper *k, int signal)
{
	pid_t manager = k->roles[ROLE_IS_MANAGER].pid;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signal);
	if (manager > 0)
		kill(manager, SIGSTOP);
	raise(signal);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	sigprocmask(SIG_BLOCK, &set, NULL);
	watch_late(k, clock_mono_ms());
	if (manager > 0)
		kill(manager, SIGCONT);
}

static void on_tstp(struct keeper *k, const struct signalfd_siginfo *s)
{
	signals_suspend(k, SIGTSTP);
}

static void on_cont(struct keeper *k, const struct signalfd_siginfo *s)
{
	watch_late(k, clock_mono_ms());
}

static const struct {
	int signal;
	void (*act)(struct keeper *k, const struct signalfd_siginfo *s);
} reactions[] = {
	{ SIGCHLD, on_child }, { SIGTERM, on_stop }, { SIGINT, on_stop },
	{ SIGQUIT, on_quit },  { SIGHUP, on_hup },   { SIGUSR1, on_usr1 },
	{ SIGUSR2, on_usr2 },  { SIGTSTP, on_tstp }, { SIGCONT, on_cont },
};
#define N_REACTIONS (sizeof(reactions) / sizeof(reactions[0]))

int signals_init(struct keeper *k)
{
	/* only who has a terminal to take back wants to know that a child stopped */
	struct sigaction chld = { .sa_handler = SIG_DFL,
				  .sa_flags = k->run.mode == RUN_TERMINAL ? 0 : SA_NOCLDSTOP };
	sigset_t set;

	sigaction(SIGCHLD, &chld, NULL);
	sigemptyset(&set);
	run_signals(k, &set);
	for (size_t i = 0; i < N_REACTIONS; i++)
		sigaddset(&set, reactions[i].signal);
	k->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return k->signals < 0 ? -errno : 0;
}

static void act(struct keeper *k, const struct signalfd_siginfo *s)
{
	bool ends = s->ssi_signo == SIGTERM || s->ssi_signo == SIGINT || s->ssi_signo == SIGQUIT;
	char name[12];

	if (s->ssi_signo != SIGCHLD)
		log_write(ends ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG,
			  "signal %s from pid %u uid %u (code %d)",
			  signal_to_name((int)s->ssi_signo, name), s->ssi_pid, s->ssi_uid,
			  s->ssi_code);
	if (run_signal(k, s))
		return;
	for (size_t i = 0; i < N_REACTIONS; i++) {
		if (reactions[i].signal == (int)s->ssi_signo)
			reactions[i].act(k, s);
	}
}

void signals_read(struct keeper *k)
{
	struct signalfd_siginfo batch[BATCH];
	ssize_t n = read(k->signals, batch, sizeof(batch));

	for (size_t i = 0; n > 0 && i < (size_t)n / sizeof(batch[0]); i++)
		act(k, &batch[i]);
}
