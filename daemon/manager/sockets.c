/*
 * Owns this manager's copies of the workers' listening sockets. The keeper holds them all under
 * their key: the expanded listen text, and " #WORKER" behind it where each worker has its own
 * (reuseport). So a successor finds each one, and two groups with the same listen share it.
 */
#include "manager/sockets.h"

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mem.h"
#include "manager/listen.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SOCKETS_PER_WORKER 64

struct held {
	char key[ROLE_FD_NAME];
	int fd;
	bool used;
};

struct sockets {
	struct held *items;
	size_t n, room;
};

static struct held *find(const struct sockets *s, const char *key)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->items[i].key, key) == 0)
			return &s->items[i];
	return NULL;
}

static int add(struct sockets *s, const char *key, int fd)
{
	if (s->n == s->room) {
		size_t room = s->room ? s->room * 2 : 16;
		struct held *items = realloc(s->items, room * sizeof(*items));

		if (!items)
			return -ENOMEM;
		s->items = items;
		s->room = room;
	}
	snprintf(s->items[s->n].key, sizeof(s->items[s->n].key), "%s", key);
	s->items[s->n].fd = fd;
	s->items[s->n++].used = true;
	return 0;
}

int sockets_init(struct manager *m)
{
	struct sockets *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	for (uint32_t i = 0; m->fds && i < m->fds->n; i++) {
		const struct role_fd *fd = &m->fds->rows[i];

		if (fd->kind == RF_SOCKET && add(s, fd->name, fd->fd) < 0) {
			free(s->items);
			free(s);
			return -ENOMEM;
		}
	}
	m->sockets = s;
	return 0;
}

/* The listen text of a key. */
static void text_of(const char *key, char ret[static ROLE_FD_NAME])
{
	const char *end = strstr(key, " #");

	snprintf(ret, ROLE_FD_NAME, "%.*s", end ? (int)(end - key) : ROLE_FD_NAME, key);
}

void sockets_fini(struct manager *m)
{
	struct sockets *s = m->sockets;
	bool last = m->ledger.h && m->ledger.h->phase >= PHASE_WARM;
	char text[ROLE_FD_NAME];

	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++) {
		close(s->items[i].fd);
		text_of(s->items[i].key, text);
		if (last)
			listen_unlink(text);
	}
	free(s->items);
	free(s);
	m->sockets = NULL;
}

static int key_of(const struct conf_socket *c, const char *group, int index,
		  char ret[static ROLE_FD_NAME], struct diag *d)
{
	struct conf_worker who = { group, index };
	auto_str text = { 0 };

	conf_expand(c->listen, &who, &text);
	if (c->reuseport)
		str_addf(&text, " #%s:%d", group, index);
	if (text.failed)
		return diag_set(d, -ENOMEM, "out of memory");
	if (text.len >= ROLE_FD_NAME)
		return diag_set(d, -ENAMETOOLONG, "socket %s: %s is longer than %d bytes", c->name,
				text.data, ROLE_FD_NAME - 1);
	strcpy(ret, text.data);
	return 0;
}

/* Stored before it is used: a manager that dies in between leaves a listener, never half of one. */
static int make(struct manager *m, const struct conf_socket *c, const char *key, struct diag *d)
{
	char text[ROLE_FD_NAME];
	int fd, r;

	text_of(key, text);
	fd = listen_make(c, text, d);
	if (fd < 0)
		return fd;
	r = FAIL_ERR(SOCKET_STORE);
	if (r == 0)
		r = store_put(m->store, RF_SOCKET, 0, 0, key, fd);
	FAIL_HERE(SOCKET_STORED);
	if (r == 0)
		r = add(m->sockets, key, fd);
	if (r < 0) {
		close(fd);
		return diag_set(d, r, "socket %s: %s", c->name, strerror(-r));
	}
	return fd;
}

int sockets_for(struct worker *w, int fds[static 64], struct str *names, struct diag *d)
{
	const struct conf_group *g = w->group->conf;
	char key[ROLE_FD_NAME];
	size_t n;

	if (g->n_sockets > SOCKETS_PER_WORKER)
		return diag_set(d, -E2BIG, "more than %d sockets", SOCKETS_PER_WORKER);
	for (n = 0; n < g->n_sockets; n++) {
		const struct conf_socket *c = &g->sockets[n];
		const struct held *held;
		int r = key_of(c, g->name, (int)w->slot->index, key, d);

		if (r < 0)
			return r;
		held = find(w->m->sockets, key);
		fds[n] = held ? held->fd : make(w->m, c, key, d);
		if (fds[n] < 0)
			return fds[n];
		str_addf(names, "%s%s", n ? ":" : "", c->name);
	}
	return (int)n;
}

static void mark_used(struct sockets *s, const struct group *g)
{
	uint32_t wanted = (uint32_t)MAX_OF(group_workers_wanted(g), 1);
	uint32_t n = MAX_OF(g->n_workers, wanted);
	char key[ROLE_FD_NAME];

	for (size_t i = 0; i < g->conf->n_sockets; i++) {
		const struct conf_socket *c = &g->conf->sockets[i];

		for (uint32_t index = 0; index < (c->per_worker || c->reuseport ? n : 1); index++) {
			struct held *held;

			if (key_of(c, g->conf->name, (int)index, key, NULL) < 0)
				continue;
			held = find(s, key);
			if (held)
				held->used = true;
		}
	}
}

void sockets_prune(struct manager *m)
{
	struct sockets *s = m->sockets;
	char text[ROLE_FD_NAME];
	size_t kept = 0;

	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++)
		s->items[i].used = false;
	for (size_t i = 0; i < m->n_groups; i++)
		if (m->groups[i]->conf)
			mark_used(s, m->groups[i]);
	for (size_t i = 0; i < s->n; i++) {
		if (s->items[i].used) {
			s->items[kept++] = s->items[i];
			continue;
		}
		text_of(s->items[i].key, text);
		FAIL_HERE(SOCKET_UNLINK);
		listen_unlink(text);
		close(s->items[i].fd);
		FAIL_HERE(SOCKET_DROP);
		store_drop(m->store, RF_SOCKET, 0, s->items[i].key);
	}
	s->n = kept;
}
