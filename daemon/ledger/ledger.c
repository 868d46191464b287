/*
 * Owns the layout of the ledger: where each table begins, how far its rows are apart, and the check
 * that a map made by another binary has the layout we read. Nothing here is ever written after
 * ledger_create returned.
 */
#include "ledger/ledger.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE	    4096u
#define UP(n, unit) (((n) + (unit)-1) / (unit) * (unit))
/* A quarter more than the fields of today need, so that they can be appended to (see header). */
#define STRIDE(type) ((uint32_t)UP(sizeof(type) + sizeof(type) / 4, 64u))

/* These have no stride in the header: they stay as they are, within their reserved fields. */
_Static_assert(sizeof(struct ledger_event) == 104, "its size is part of the layout");
_Static_assert(sizeof(struct ledger_op) == 64, "its size is part of the layout");
_Static_assert(sizeof(struct ledger_fds) == 8, "its size is part of the layout");

static uint64_t place(uint64_t *at, uint64_t bytes)
{
	uint64_t here = *at;

	*at = UP(here + bytes, (uint64_t)PAGE);
	return here;
}

static void lay_out(struct ledger_header *h)
{
	uint64_t at = UP(sizeof(*h) + sizeof(*h) / 4, (uint64_t)PAGE);

	h->magic = LEDGER_MAGIC;
	h->version = LEDGER_VERSION;
	h->rows = LEDGER_ROWS;
	h->slot_stride = STRIDE(struct ledger_slot);
	h->life_stride = STRIDE(struct ledger_life);
	h->exit_stride = STRIDE(struct ledger_exits);
	h->group_stride = STRIDE(struct ledger_group);
	h->groups_at = place(&at, (uint64_t)h->group_stride * LEDGER_GROUPS);
	h->slots_at = place(&at, (uint64_t)h->slot_stride * LEDGER_ROWS);
	h->lives_at = place(&at, (uint64_t)h->life_stride * LEDGER_ROWS);
	h->pids_at = place(&at, sizeof(uint32_t) * LEDGER_ROWS);
	h->fds_at = place(&at, sizeof(struct ledger_fds) * LEDGER_ROWS);
	h->exits_at = place(&at, (uint64_t)h->exit_stride * LEDGER_ROWS);
	h->events_at = place(&at, sizeof(struct ledger_event) * LEDGER_EVENTS);
	h->ops_at = place(&at, sizeof(struct ledger_op) * LEDGER_OPS);
	h->bytes = at;
}

static int map(int fd, struct ledger *ret)
{
	void *p;
	size_t bytes;
	int err = fd_map(fd, &p, &bytes);

	if (err < 0)
		return err;
	*ret = (struct ledger){ .h = p, .bytes = bytes };
	return 0;
}

static void point(struct ledger *l)
{
	l->pids = (_Atomic uint32_t *)((char *)l->h + l->h->pids_at);
}

int ledger_create(const uint8_t identity[static 16], const char *runtime_dir, int *ret_fd,
		  struct ledger *ret)
{
	struct ledger_header h = { 0 };
	struct ledger l;
	auto_fd fd = -1;
	int err;

	if (strlen(runtime_dir) >= sizeof(h.runtime_dir))
		return -ENAMETOOLONG;
	lay_out(&h);
	fd = fd_memfd("reeve-ledger", h.bytes);
	if (fd < 0)
		return fd;
	err = map(fd, &l);
	if (err < 0)
		return err;
	/* The rings make the header large: write the fields, leave the untouched pages alone. */
	memcpy(l.h, &h, offsetof(struct ledger_header, to_manager));
	memcpy(l.h->identity, identity, sizeof(l.h->identity));
	for (size_t i = 0; i < sizeof(l.h->identity); i++)
		snprintf(l.h->identity_text + 2 * i, 3, "%02x", identity[i]);
	snprintf(l.h->runtime_dir, sizeof(l.h->runtime_dir), "%s", runtime_dir);
	l.h->fields = LEDGER_FIELDS;
	l.h->keeper_pid = getpid();
	l.h->started_real_us = clock_real_us();
	point(&l);
	*ret = l;
	*ret_fd = give_fd(&fd);
	return 0;
}

static int check(const struct ledger_header *h, size_t bytes, struct diag *d)
{
	struct ledger_header ours;

	if (bytes < sizeof(*h) || h->magic != LEDGER_MAGIC)
		return diag_set(d, -EPROTO, "this is no ledger of reeved");
	if (h->version != LEDGER_VERSION)
		return diag_set(d, -EPROTO,
				"the ledger has layout version %u, this reeved knows %u: restart "
				"the daemon",
				h->version, LEDGER_VERSION);
	if (h->fields > LEDGER_FIELDS)
		return diag_set(d, -EPROTO,
				"the ledger was kept by a newer reeved (fields %u, this one knows "
				"%u): restart the daemon",
				h->fields, LEDGER_FIELDS);
	lay_out(&ours);
	/* Strides and places leave room for fields appended by either side: they must be the same
	 * map, not the same structs. */
	if (h->rows != LEDGER_ROWS || h->bytes != bytes ||
	    h->slot_stride < sizeof(struct ledger_slot) ||
	    h->life_stride < sizeof(struct ledger_life) ||
	    h->exit_stride < sizeof(struct ledger_exits) ||
	    h->group_stride < sizeof(struct ledger_group) || h->groups_at < sizeof(*h) ||
	    h->groups_at + (uint64_t)h->group_stride * LEDGER_GROUPS > h->slots_at ||
	    h->slots_at + (uint64_t)h->slot_stride * LEDGER_ROWS > h->lives_at ||
	    h->lives_at + (uint64_t)h->life_stride * LEDGER_ROWS > h->pids_at ||
	    h->pids_at + sizeof(uint32_t) * LEDGER_ROWS > h->fds_at ||
	    h->fds_at + sizeof(struct ledger_fds) * LEDGER_ROWS > h->exits_at ||
	    h->exits_at + (uint64_t)h->exit_stride * LEDGER_ROWS > h->events_at ||
	    h->events_at + sizeof(struct ledger_event) * LEDGER_EVENTS > h->ops_at ||
	    h->ops_at + sizeof(struct ledger_op) * LEDGER_OPS > bytes)
		return diag_set(d, -EPROTO,
				"the ledger is laid out for another reeved: restart "
				"the daemon");
	return 0;
}

int ledger_open(int fd, struct ledger *ret, struct diag *d)
{
	struct ledger l;
	int err = map(fd, &l);

	if (err < 0)
		return diag_set(d, err, "cannot map the ledger: %s", strerror(-err));
	err = check(l.h, l.bytes, d);
	if (err < 0) {
		ledger_fini(&l);
		return err;
	}
	point(&l);
	*ret = l;
	return 0;
}

void ledger_fini(struct ledger *l)
{
	if (l && l->h)
		munmap(l->h, l->bytes);
	if (l)
		*l = (struct ledger){ 0 };
}

struct ledger_group *ledger_group(const struct ledger *l, uint32_t row)
{
	return (void *)((char *)l->h + l->h->groups_at + (uint64_t)row * l->h->group_stride);
}

struct ledger_slot *ledger_slot(const struct ledger *l, uint32_t row)
{
	return (void *)((char *)l->h + l->h->slots_at + (uint64_t)row * l->h->slot_stride);
}

struct ledger_life *ledger_life(const struct ledger *l, uint32_t row)
{
	return (void *)((char *)l->h + l->h->lives_at + (uint64_t)row * l->h->life_stride);
}

struct ledger_fds *ledger_fds(const struct ledger *l, uint32_t row)
{
	return (struct ledger_fds *)((char *)l->h + l->h->fds_at) + row;
}

struct ledger_exits *ledger_exits(const struct ledger *l, uint32_t row)
{
	return (void *)((char *)l->h + l->h->exits_at + (uint64_t)row * l->h->exit_stride);
}

struct ledger_event *ledger_event(const struct ledger *l, uint64_t seq)
{
	return (struct ledger_event *)((char *)l->h + l->h->events_at) + seq % LEDGER_EVENTS;
}

struct ledger_op *ledger_op(const struct ledger *l, uint32_t row)
{
	return (struct ledger_op *)((char *)l->h + l->h->ops_at) + row % LEDGER_OPS;
}
