/*
 * The service manager, through libsystemd opened at run time: who is not started by systemd pays
 * nothing for it. Since 0.1.0. Source: sd_notify(3), sd_watchdog_enabled(3).
 */
#ifndef REEVE_BASE_SYSTEMD_H
#define REEVE_BASE_SYSTEMD_H

#include <stdint.h>

struct systemd {
	void *library;
	int (*notify)(int unset, const char *text);
	int (*watchdog)(int unset, uint64_t *ret_usec);
};

/* -ENOTSUP if libsystemd is not there (or lacks a function). */
int systemd_open(struct systemd *ret);
void systemd_close(struct systemd *s);

#endif
