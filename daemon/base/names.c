/* Owns the tables of signal names and units; everything else is derived from them. */
#include "base/names.h"

#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	int number;
} signals[] = {
	{ "HUP", SIGHUP },   { "INT", SIGINT },	      { "QUIT", SIGQUIT }, { "ILL", SIGILL },
	{ "TRAP", SIGTRAP }, { "ABRT", SIGABRT },     { "BUS", SIGBUS },   { "FPE", SIGFPE },
	{ "KILL", SIGKILL }, { "USR1", SIGUSR1 },     { "SEGV", SIGSEGV }, { "USR2", SIGUSR2 },
	{ "PIPE", SIGPIPE }, { "ALRM", SIGALRM },     { "TERM", SIGTERM }, { "STKFLT", SIGSTKFLT },
	{ "CHLD", SIGCHLD }, { "CONT", SIGCONT },     { "STOP", SIGSTOP }, { "TSTP", SIGTSTP },
	{ "TTIN", SIGTTIN }, { "TTOU", SIGTTOU },     { "URG", SIGURG },   { "XCPU", SIGXCPU },
	{ "XFSZ", SIGXFSZ }, { "VTALRM", SIGVTALRM }, { "PROF", SIGPROF }, { "WINCH", SIGWINCH },
	{ "IO", SIGIO },     { "PWR", SIGPWR },	      { "SYS", SIGSYS },
};

int signal_from_name(const char *name)
{
	long long n;

	if (strncmp(name, "SIG", 3) == 0)
		name += 3;
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (strcmp(name, signals[i].name) == 0)
			return signals[i].number;
	if (strcmp(name, "RTMIN") == 0)
		return SIGRTMIN;
	if (strcmp(name, "RTMAX") == 0)
		return SIGRTMAX;
	if (strncmp(name, "RTMIN+", 6) == 0 &&
	    str_to_int(name + 6, 0, SIGRTMAX - SIGRTMIN, &n) == 0)
		return SIGRTMIN + (int)n;
	return -EINVAL;
}

const char *signal_to_name(int number, char ret[static 12])
{
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		if (signals[i].number == number) {
			snprintf(ret, 12, "%s", signals[i].name);
			return ret;
		}
	}
	if (number >= SIGRTMIN && number <= SIGRTMAX)
		snprintf(ret, 12, "RTMIN+%u", (unsigned)(number - SIGRTMIN) % 100);
	else /* 32 and 33 are glibc's own and can still end a process */
		snprintf(ret, 12, "SIG%u", (unsigned)number % 1000);
	return ret;
}

struct unit {
	const char *name;
	int64_t value;
};

static const struct unit time_units[] = {
	{ "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 },
};
static const struct unit size_units[] = {
	{ "T", 1LL << 40 },
	{ "G", 1LL << 30 },
	{ "M", 1LL << 20 },
	{ "K", 1LL << 10 },
};

#define DURATION_MAX (3650LL * 86400000)
#define SIZE_LIMIT   (1LL << 60)

/* Digits at *p, at most 15 of them; advances *p. */
static int digits(const char **p, int64_t *ret)
{
	int64_t v = 0;
	int n = 0;

	while (**p >= '0' && **p <= '9') {
		if (++n > 15)
			return -ERANGE;
		v = v * 10 + (*(*p)++ - '0');
	}
	*ret = v;
	return n ? 0 : -EINVAL;
}

int duration_parse(const char *text, int64_t *ret_ms)
{
	size_t next = 0; /* units must come in falling order, each once */
	int64_t sum = 0, v;
	const char *p = text;
	int r;

	do {
		size_t len;

		r = digits(&p, &v);
		if (r < 0)
			return r;
		len = strspn(p, "dhms");
		while (next < ARRAY_LEN(time_units) &&
		       (strlen(time_units[next].name) != len ||
			strncmp(p, time_units[next].name, len) != 0))
			next++;
		if (next == ARRAY_LEN(time_units))
			return -EINVAL;
		if (v > DURATION_MAX / time_units[next].value)
			return -ERANGE;
		sum += v * time_units[next++].value;
		p += len;
	} while (*p);
	if (sum > DURATION_MAX)
		return -ERANGE;
	*ret_ms = sum;
	return 0;
}

const char *duration_format(int64_t ms, char ret[static 48])
{
	size_t n = 0;

	if (ms == DURATION_NEVER) {
		strcpy(ret, "never");
		return ret;
	}
	ret[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(time_units); i++) {
		int64_t v = ms / time_units[i].value;

		if (v == 0)
			continue;
		n += (size_t)snprintf(ret + n, 48 - n, "%lld%s", (long long)v, time_units[i].name);
		ms %= time_units[i].value;
	}
	if (n == 0)
		strcpy(ret, "0s");
	return ret;
}

int size_parse(const char *text, int64_t *ret_bytes)
{
	const char *p = text;
	int64_t v, unit = 1;
	int r = digits(&p, &v);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_LEN(size_units) && *p; i++) {
		if (strcmp(p, size_units[i].name) == 0) {
			unit = size_units[i].value;
			p++;
		}
	}
	if (*p)
		return -EINVAL;
	if (v > SIZE_LIMIT / unit)
		return -ERANGE;
	*ret_bytes = v * unit;
	return 0;
}

const char *size_format(int64_t bytes, char ret[static 32])
{
	for (size_t i = 0; i < ARRAY_LEN(size_units); i++) {
		if (bytes >= size_units[i].value && bytes % size_units[i].value == 0) {
			snprintf(ret, 32, "%lld%s", (long long)(bytes / size_units[i].value),
				 size_units[i].name);
			return ret;
		}
	}
	snprintf(ret, 32, "%lld", (long long)bytes);
	return ret;
}
