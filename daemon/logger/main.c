/*
 * reeve-logger: start, loop, end. The loop reads pipes that were announced, writes, and naps: a
 * pipe whose last read came back short is left alone for up to a millisecond, so that lines written
 * one by one come in batches. What the other roles want is not napped over.
 */
#include "logger/logger.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EVENTS	       256
#define FINISH_MAX_MS  3000
#define REST_EVERY_MS  50
#define STORE_MESSAGES 512 /* taken before the pipes have their turn */

/* ---- what the others want ---- */

static void take_news(struct logger *lg)
{
	struct logbook_header *h = lg->lb.h;
	bool scan = false;
	uint32_t row;

	while ((row = logbook_news_take(&lg->lb, &scan)) != LOGBOOK_NONE) {
		if (row & LOGBOOK_NEWS_SINK)
			sink_news(lg, row & ~LOGBOOK_NEWS_SINK);
		else
			stream_news(lg, row);
	}
	for (uint32_t i = 0; scan && i < atomic_load(&h->sinks_high); i++)
		sink_news(lg, i);
	for (uint32_t i = 0; scan && i < atomic_load(&h->out_high); i++)
		stream_news(lg, i);
	for (uint32_t i = 0; scan && i < atomic_load(&h->err_high); i++)
		stream_news(lg, LOGBOOK_ERR + i);
	if (lg->reopens != atomic_load(&h->reopens)) {
		lg->reopens = atomic_load(&h->reopens);
		sink_reopen_all(lg);
		atomic_store(&h->reopens_done, lg->reopens);
	}
	if (!lg->finishing && atomic_load(&h->finish)) {
		lg->finishing = true;
		lg->finish_ms = lg->now_ms;
		stream_finish(lg);
	}
}

static bool stream_of(uint32_t kind, uint32_t index, uint32_t *ret)
{
	if (index >= LOGBOOK_ROWS || (kind != RF_LOG_OUT && kind != RF_LOG_ERR))
		return false;
	*ret = kind == RF_LOG_OUT ? index : LOGBOOK_ERR + index;
	return true;
}

static void take_store(struct logger *lg)
{
	for (int i = 0; i < STORE_MESSAGES; i++) {
		struct store_message m;
		size_t n_fds = 1;
		uint32_t stream;
		int fd = -1;
		ssize_t n = fd_recv(lg->store, &m, sizeof(m), &fd, &n_fds);

		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n == 0 || (n < 0 && n != -EMFILE)) {
			lg->orphan = true;
			return;
		}
		if (n != (ssize_t)sizeof(m) || !stream_of(m.kind, m.index, &stream)) {
			close_fd(&fd);
		} else if (m.op == STORE_DROP) {
			close_fd(&fd);
			stream_drop_fd(lg, stream);
		} else if (fd >= 0) {
			stream_put_fd(lg, stream, fd);
		}
	}
}

static void take_control(struct logger *lg)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(lg->control, events, EVENTS, 0);

	for (int i = 0; i < n; i++) {
		uint32_t which = (uint32_t)events[i].data.u64;

		switch ((enum watch_kind)(events[i].data.u64 >> 32)) {
		case WATCH_BELL:
			bell_clear(lg->bell);
			break;
		case WATCH_STORE:
			take_store(lg);
			break;
		case WATCH_LOGS:
			client_accept(lg);
			break;
		case WATCH_SINK:
			sink_event(lg, which);
			break;
		case WATCH_CLIENT:
			client_event(lg, which, events[i].events);
			break;
		default:
			break;
		}
	}
}

/* ---- the loop ---- */

/* A stream that has an edge is readable, whatever queue it is in. */
static void take_pipe(struct logger *lg, uint32_t stream)
{
	struct stream *st = stream_get(lg, stream);

	if (!st)
		return;
	st->flags |= ST_READABLE;
	if (!(st->flags & ST_BLOCKED))
		stream_push_run(lg, stream);
}

static void take_events(struct logger *lg, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(lg->epoll, events, EVENTS, timeout_ms);

	lg->now_ms = clock_mono_ms();
	for (int i = 0; i < n; i++) {
		if (events[i].data.u64 >> 32 == WATCH_STREAM)
			take_pipe(lg, (uint32_t)events[i].data.u64);
	}
	/* After the pipes, because here some may be closed. */
	take_control(lg);
	take_news(lg);
}

/* Leave the pipes alone; anything else ends the nap. */
static void nap(struct logger *lg)
{
	struct timespec t = { 0, (long)lg->nap_us * 1000 };
	struct pollfd p = { .fd = lg->control, .events = POLLIN };

	ppoll(&p, 1, &t, NULL);
}

/* How long the loop may sleep: until something has to be looked at again. */
static int rest(struct logger *lg)
{
	int64_t when = stream_rest(lg), sinks = sink_rest(lg), clients = client_rest(lg);

	when = MIN_OF(MIN_OF(when, sinks), clients);
	if (lg->run_head != LOGBOOK_NONE || lg->ring_manager)
		return 0; /* the next turn rings */
	if (lg->finishing)
		when = MIN_OF(when, lg->finish_ms + FINISH_MAX_MS);
	if (when == INT64_MAX)
		return -1;
	return when <= lg->now_ms ? 0 : (int)MIN_OF(when - lg->now_ms, (int64_t)INT_MAX);
}

static void turn(struct logger *lg)
{
	lg->nap_us = NAP_US;
	lg->worked = false;
	stream_push_hot(lg);
	stream_run_all(lg);
	client_pump(lg);
	if (lg->ring_manager)
		bell_ring(lg->bell_manager);
	lg->ring_manager = false;
	atomic_fetch_add(&lg->lb.h->turns, 1); /* no turn without a reason: see rest() */
}

static bool finished(const struct logger *lg)
{
	return lg->orphan ||
	       (lg->finishing && ((lg->draining == 0 && lg->run_head == LOGBOOK_NONE) ||
				  lg->now_ms - lg->finish_ms >= FINISH_MAX_MS));
}

static void loop(struct logger *lg)
{
	int64_t rested_ms = 0;

	while (!finished(lg)) {
		int timeout = 0;

		turn(lg);
		if (finished(lg)) /* the last drain may have ended in this turn */
			break;
		if (lg->run_head == LOGBOOK_NONE && (lg->worked || lg->n_hot > 0)) {
			nap(lg);
		} else if (lg->run_head == LOGBOOK_NONE) {
			timeout = rest(lg);
			rested_ms = lg->now_ms;
		}
		if (timeout == 0 && lg->now_ms - rested_ms >= REST_EVERY_MS) {
			rest(lg);
			rested_ms = lg->now_ms;
		}
		take_events(lg, timeout);
	}
}

/* ---- start ---- */

/* What opening, rotating and dressing log files of any user needs, nothing else. */
static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct have[2], keep[2] = { 0 };
	uint32_t want = 1u << CAP_DAC_OVERRIDE | 1u << CAP_CHOWN | 1u << CAP_FOWNER;

	if (syscall(SYS_capget, &head, have) < 0)
		return;
	keep[0].permitted = keep[0].effective = have[0].permitted & want;
	if (syscall(SYS_capset, &head, keep) < 0)
		log_warn("capabilities could not be dropped: %s", strerror(errno));
}

static int watch(int epoll, int fd, enum watch_kind kind)
{
	struct epoll_event e = { EPOLLIN, { .u64 = watch_data(kind, 0) } };

	if (fd < 0)
		return 0;
	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static int open_loop(struct logger *lg)
{
	int r;

	lg->epoll = epoll_create1(EPOLL_CLOEXEC);
	lg->control = epoll_create1(EPOLL_CLOEXEC);
	lg->scratch = mmap(NULL, FORMAT_SCRATCH, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (lg->epoll < 0 || lg->control < 0 || lg->scratch == MAP_FAILED)
		return -errno;
	r = watch(lg->epoll, lg->control, WATCH_CONTROL);
	if (r == 0)
		r = watch(lg->control, lg->bell, WATCH_BELL);
	if (r == 0)
		r = watch(lg->control, lg->store, WATCH_STORE);
	return r < 0 ? r : watch(lg->control, lg->logs, WATCH_LOGS);
}

/* The log book first: what the pipes hold goes where it says. */
static void take_over(struct logger *lg, const struct role_fd_table *fds)
{
	struct logbook_header *h = lg->lb.h;
	uint32_t stream;

	lg->now_ms = clock_mono_ms();
	lg->reopens = atomic_load(&h->reopens);
	atomic_store(&h->reopens_done, lg->reopens);
	atomic_store(&h->clients, 0);
	atomic_store(&h->write_began_ms, 0);
	sink_start(lg);
	if (atomic_load(&h->hangs) != atomic_load(&h->hangs_seen)) {
		sink_quarantine(lg, atomic_load(&h->hang_sink));
		atomic_store(&h->hangs_seen, atomic_load(&h->hangs));
	}
	for (uint32_t i = 0; i < fds->n; i++) {
		if (stream_of(fds->rows[i].kind, fds->rows[i].index, &stream))
			stream_put_fd(lg, stream, fds->rows[i].fd);
	}
	for (uint32_t i = 0; i < atomic_load(&h->out_high); i++)
		stream_news(lg, i);
	for (uint32_t i = 0; i < atomic_load(&h->err_high); i++)
		stream_news(lg, LOGBOOK_ERR + i);
	take_news(lg);
}

static int start(struct logger *lg, const char *table)
{
	auto_free struct role_fd_table *fds = NULL;
	struct diag d = { 0 };
	int book, r = role_fds_load(table, &fds);

	if (r < 0) {
		log_error("the fd table cannot be read: %s", strerror(-r));
		return r;
	}
	book = role_fds_get(fds, RF_LOGBOOK);
	r = book < 0 ? diag_set(&d, -EBADF, "no log book was handed over")
		     : logbook_open(book, &lg->lb, &d);
	if (r < 0) {
		log_error("%s", d.text);
		return r;
	}
	lg->bell = role_fds_get(fds, RF_BELL_LOGGER);
	lg->bell_manager = role_fds_get(fds, RF_BELL_MANAGER);
	lg->bell_keeper = role_fds_get(fds, RF_BELL_KEEPER);
	lg->store = role_fds_get(fds, RF_LOGGER_STORE);
	lg->logs = role_fds_get(fds, RF_LOGS_IN);
	r = open_loop(lg);
	if (r < 0) {
		log_error("the loop cannot be made: %s", strerror(-r));
		return r;
	}
	FAIL_HERE(LOGGER_MAPPED);
	take_over(lg, fds);
	FAIL_HERE(LOGGER_TAKEN);
	return 0;
}

static void set_up_process(void)
{
	struct rlimit files;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);			 /* EFBIG is an error like others */
	umask(0);					 /* modes are given with each file */
	prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL); /* naps are short */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (geteuid() == 0)
		drop_capabilities();
}

/* What the kernel would not do at the end of the process by itself, and what tools look for. */
static void fini(struct logger *lg)
{
	client_fini(lg);
	free(lg->rows[0]);
	free(lg->rows[1]);
	free(lg->sinks);
	logbook_fini(&lg->lb);
}

/* argv[2…3]: level and destination of our own messages. */
static void take_options(int argc, char **argv)
{
	for (int level = 0; argc > 2 && level <= LOG_LEVEL_DEBUG; level++) {
		if (strcmp(argv[2], conf_word(CONF_WORDS_LEVEL, level)) == 0)
			log_set_level((enum log_level)level);
	}
	if (argc > 3)
		log_open(argv[3]);
}

int logger_main(int argc, char **argv)
{
	struct logger lg = { .epoll = -1,
			     .control = -1,
			     .run_head = LOGBOOK_NONE,
			     .run_tail = LOGBOOK_NONE,
			     .list_head = LOGBOOK_NONE,
			     .rest_ms = INT64_MAX,
			     .hot_head = LOGBOOK_NONE,
			     .sink_list = LOGBOOK_NONE,
			     .std_busy = LOGBOOK_NONE };
	int r;

	log_init(ROLE_LOGGER, LOG_LEVEL_INFO);
	if (argc < 2) {
		log_error("started by hand: this is a part of reeved");
		return 2;
	}
	take_options(argc, argv);
	set_up_process();
	r = start(&lg, argv[1]);
	if (r == 0) {
		atomic_store(&lg.lb.h->started, (uint32_t)getpid());
		loop(&lg);
	}
	fini(&lg);
	return r < 0;
}
