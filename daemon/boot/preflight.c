/*
 * The check before an upgrade, made by the new program itself in a process of its own: would it
 * understand what the running daemon would pass on? Reads only; says yes, or why not, in one line.
 */
#include "boot/boot.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "keeper/pass.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define CONF_MAX (64u << 20)

static int check_kinds(const struct role_fd_table *t, struct diag *d)
{
	for (uint32_t i = 0; i < t->n; i++) {
		uint32_t kind = t->rows[i].kind;

		if (kind >= RF_KIND_COUNT && (kind < PASS_DIR || kind > PASS_STATE))
			return diag_set(d, -1,
					"the daemon keeps descriptors of a kind (%u) that this "
					"reeved does not know: restart the daemon",
					kind);
	}
	return 0;
}

static int check_state(int fd, struct diag *d)
{
	struct keeper_state s;

	if (pass_read(fd, &s) < 0 || s.bytes > sizeof(s))
		return diag_set(d, -1,
				"the keeper's state has a form that this reeved does not know: "
				"restart the daemon");
	return 0;
}

static int check_ledger(int fd, struct diag *d)
{
	struct ledger l = { 0 };
	int err = ledger_open(fd, &l, d);

	ledger_fini(&l);
	return err;
}

static int check_book(int fd, struct diag *d)
{
	struct logbook book = { 0 };
	int err = logbook_adopt(fd, &book, d);

	logbook_fini(&book);
	return err;
}

static int check_conf(int fd, struct diag *d)
{
	auto_free char *text = NULL;
	struct conf *conf = NULL;
	size_t len;
	int err;

	if (lseek(fd, 0, SEEK_SET) < 0 || fd_read_all(fd, CONF_MAX, &text, &len) < 0)
		return diag_set(d, -1, "the configuration in force cannot be read");
	err = conf_from_json(text, len, &conf, d);
	conf_free(conf);
	return err;
}

static const struct {
	uint32_t kind;
	int (*check)(int fd, struct diag *d);
} checks[] = {
	{ PASS_STATE, check_state },
	{ RF_LEDGER, check_ledger },
	{ RF_LOGBOOK, check_book },
	{ RF_CONF, check_conf },
};

static int check_all(const struct role_fd_table *t, struct diag *d)
{
	int err = check_kinds(t, d);

	for (size_t i = 0; i < ARRAY_LEN(checks) && err == 0; i++) {
		int fd = role_fds_get(t, (enum role_fd_kind)checks[i].kind);

		err = fd < 0 ? diag_set(d, -1, "the daemon passes on too little")
			     : checks[i].check(fd, d);
	}
	return err;
}

int preflight_main(int argc, char **argv)
{
	const size_t prefix = sizeof(PREFLIGHT_OPTION) - 1;
	auto_free struct role_fd_table *t = NULL;
	struct diag d = { 0 };
	long long fd;

	if (argc != 2 || strncmp(argv[1], PREFLIGHT_OPTION, prefix) != 0 ||
	    str_to_int(argv[1] + prefix, 3, INT_MAX, &fd) < 0) {
		fputs("not meant to be started by hand\n", stderr);
		return EXIT_USAGE;
	}
	if (role_fds_read((int)fd, &t) < 0)
		diag_set(&d, 0,
			 "the table of descriptors has a form that this reeved does not "
			 "know: restart the daemon");
	else
		check_all(t, &d);
	if (d.text[0]) {
		printf("%s\n", d.text);
		return EXIT_FAILURE;
	}
	puts(PREFLIGHT_OK REEVE_VERSION);
	return 0;
}
