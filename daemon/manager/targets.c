/*
 * Owns the meaning of TARGET: a group, a worker, a glob over worker names, "all", or what makes a
 * group's workers ("web/template", which a group, a glob and "all" do not name). A set keeps
 * references that survive the workers they name.
 */
#include "manager/methods.h"

#include "base/mem.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

struct worker *worker_deref(const struct manager *m, const struct worker_ref *ref)
{
	struct worker *w = m->by_slot[ref->row];

	return w && w->group->index == ref->group && w->slot->kind == ref->kind &&
			       w->slot->index == ref->index
		       ? w
		       : NULL;
}

static int add_ref(struct targets *t, size_t *room, const struct worker *w)
{
	if (t->n_refs == *room) {
		size_t more = *room ? *room * 2 : 16;
		struct worker_ref *refs = realloc(t->refs, more * sizeof(*refs));

		if (!refs)
			return -ENOMEM;
		t->refs = refs;
		*room = more;
	}
	t->refs[t->n_refs++] =
		(struct worker_ref){ w->row, w->group->index, w->slot->kind, w->slot->index };
	return 0;
}

/* "web/template", "web/host": all slots of that kind; the group's name in front of the slash. */
static int add_makers(struct manager *m, struct targets *t, size_t *room, const char *text)
{
	size_t len = strlen(text);

	for (uint32_t i = 0; i < m->ledger.h->slots_high; i++) {
		const struct worker *w = m->by_slot[i];

		if (!w || w->slot->kind == SLOT_WORKER || strncmp(w->name, text, len) != 0 ||
		    (w->name[len] != '\0' && w->name[len] != '.'))
			continue;
		if (add_ref(t, room, w) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* All workers of g whose name matches glob (NULL: all). */
static int add_group(struct targets *t, size_t *room, const struct group *g, const char *glob)
{
	for (uint32_t i = 0; i < g->n_workers; i++) {
		struct worker *w = g->workers[i];

		if (!w || (glob && fnmatch(glob, w->name, 0) != 0))
			continue;
		if (add_ref(t, room, w) < 0)
			return -ENOMEM;
	}
	return 0;
}

static struct worker *by_name(const struct manager *m, const char *text)
{
	const char *colon = strrchr(text, ':');
	char group[CONF_GROUP_NAME_MAX + 1];
	struct worker *w;
	long long index;

	if (!colon || colon == text || (size_t)(colon - text) >= sizeof(group) ||
	    str_to_int(colon + 1, 0, LEDGER_ROWS, &index) < 0)
		return NULL;
	snprintf(group, sizeof(group), "%.*s", (int)(colon - text), text);
	w = manager_find_worker(m, group, (uint32_t)index);
	return w && strcmp(w->name, text) == 0 ? w : NULL; /* "web:00" is no name (SE06) */
}

static int resolve_one(struct manager *m, struct targets *t, size_t *room, struct target *target)
{
	bool all = strcmp(target->text, "all") == 0, glob = strpbrk(target->text, "*?[") != NULL;
	const struct group *g = manager_find_group(m, target->text);
	struct worker *w = by_name(m, target->text);
	int r = 0;

	target->first = (uint32_t)t->n_refs;
	if (g && !all) {
		r = add_group(t, room, g, NULL);
		target->known = true;
	} else if (w && !glob) {
		r = add_ref(t, room, w);
		target->known = true;
	} else if (strchr(target->text, '/') && !glob) {
		r = add_makers(m, t, room, target->text);
		target->known = t->n_refs > target->first;
	} else if (all || glob) {
		for (size_t i = 0; i < m->n_groups && r == 0; i++)
			r = add_group(t, room, m->groups[i], all ? NULL : target->text);
		target->known = all || t->n_refs > target->first;
	}
	target->n = (uint32_t)t->n_refs - target->first;
	return r;
}

bool target_names(const char *text, const char *worker)
{
	size_t len = strlen(text);

	if (strcmp(text, "all") == 0 || strcmp(text, worker) == 0)
		return true;
	if (strncmp(text, worker, len) == 0 && (worker[len] == ':' || worker[len] == '/'))
		return true;
	return strpbrk(text, "*?[") && fnmatch(text, worker, 0) == 0;
}

int targets_resolve(struct manager *m, const json_t *texts, struct targets *ret)
{
	size_t n = texts ? json_array_size(texts) : 1, room = 0;
	struct targets t = { .items = calloc(n + 1, sizeof(*t.items)), .n = n };
	int r = t.items ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && r == 0; i++) {
		t.items[i].text =
			strdup(texts ? json_string_value(json_array_get(texts, i)) : "all");
		r = t.items[i].text ? resolve_one(m, &t, &room, &t.items[i]) : -ENOMEM;
	}
	if (r < 0)
		targets_fini(&t);
	else
		*ret = t;
	return r;
}

void targets_fini(struct targets *t)
{
	for (size_t i = 0; t->items && i < t->n; i++)
		free(t->items[i].text);
	free(t->items);
	free(t->refs);
	*t = (struct targets){ 0 };
}

static const char *nearest(const struct manager *m, const char *text)
{
	const char *names[256];
	size_t n = 0;

	for (size_t i = 0; i < m->n_groups && n < ARRAY_LEN(names); i++)
		names[n++] = m->groups[i]->row->name;
	return str_nearest(text, names, n);
}

void target_refuse(struct vl_call *c, const struct manager *m, const char *text)
{
	const char *near = nearest(m, text);
	json_t *p = json_pack("{s:o}", "target", vl_text(text, strlen(text)));

	if (p && near)
		json_object_set_new(p, "nearest", json_string(near));
	vl_error(c, CONTROL_ERROR("NoSuchTarget"), p);
}

bool targets_refuse_unknown(struct vl_call *c, const struct manager *m, const struct targets *t)
{
	for (size_t i = 0; i < t->n; i++) {
		if (t->items[i].known)
			continue;
		target_refuse(c, m, t->items[i].text);
		return true;
	}
	return false;
}
