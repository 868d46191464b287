/* Types that name users and groups: user, extra_groups, owner, admins and the like. What they name
 * is resolved here, at load, so that no role ever asks the user database. */
#include "types_text.h"

#include "base/mem.h"
#include "user_finish.h"
#include "users.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static json_t *id_json(uid_t id)
{
	return json_integer((json_int_t)id);
}

static uid_t member_id(struct value v, const char *name)
{
	struct value m = value_member(v, name);

	return value_kind(m) == VALUE_INT ? (uid_t)value_int(m) : (uid_t)-1;
}

/* A member's copy; NULL where it is absent. */
static int copy_member(struct value v, const char *name, char **ret)
{
	struct value m = value_member(v, name);

	*ret = NULL;
	if (value_kind(m) != VALUE_STRING)
		return 0;
	*ret = strdup(value_text(m));
	return *ret ? 0 : -ENOMEM;
}

static json_t *ids_write(const gid_t *ids, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, id_json(ids[i]));
	return array;
}

static int ids_read(struct value v, gid_t **ret, size_t *ret_n)
{
	size_t n = value_kind(v) == VALUE_LIST ? value_count(v) : 0;
	gid_t *ids = calloc(n + 1, sizeof(*ids));

	if (!ids)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		ids[i] = (gid_t)value_int(value_at(v, i));
	*ret = ids;
	*ret_n = n;
	return 0;
}

/* All but `extra`, which is a row of its own. */
static void drop_user(struct conf_user *u)
{
	free(u->text);
	free(u->groups);
	free(u->name);
	free(u->home);
	free(u->shell);
	*u = (struct conf_user){ .extra = u->extra };
}

static void fini_user(const struct conf_key *k, void *field)
{
	drop_user(field);
}

static int read_user_canonical(struct value v, struct conf_user *u)
{
	struct conf_user n = { .extra = u->extra };
	int err;

	n.set = value_bool(value_member(v, "set"));
	n.uid = member_id(v, "uid");
	n.gid = member_id(v, "gid");
	err = ids_read(value_member(v, "groups"), &n.groups, &n.n_groups);
	if (err == 0)
		err = copy_member(v, "text", &n.text);
	if (err == 0)
		err = copy_member(v, "name", &n.name);
	if (err == 0)
		err = copy_member(v, "home", &n.home);
	if (err == 0)
		err = copy_member(v, "shell", &n.shell);
	if (err == 0 && (!n.name || !n.home || !n.shell))
		err = -EINVAL;
	if (err < 0) {
		drop_user(&n);
		return err;
	}
	drop_user(u);
	*u = n;
	return 0;
}

/* Into *u from a found entry, whose texts it takes. */
static void take_entry(struct conf_user *u, struct user_entry *e, gid_t gid)
{
	free(u->name);
	free(u->home);
	free(u->shell);
	u->set = true;
	u->uid = e->uid;
	u->gid = gid;
	u->name = e->name;
	u->home = e->home;
	u->shell = e->shell;
}

/* "user[:group]"; *ret is the caller's to free when it is 0. */
static int find_user_group(struct reading *r, struct value v, struct user_entry *ret,
			   gid_t *ret_gid)
{
	bool has_group;
	struct diag d;
	int err;

	if (value_kind(v) != VALUE_STRING)
		return say_wrong_kind(r, v);
	err = user_group_find(value_text(v), !r->no_host, ret, &has_group, ret_gid, &d);
	if (err == -EINVAL)
		return say_bad(r, v, NULL, "%s", d.text);
	if (err < 0)
		return err;
	if (has_group)
		return 0;
	*ret_gid = ret->gid;
	if (ret->known || r->no_host)
		return 0;
	err = say_bad(r, v, NULL, "uid %s is in no user database, so name its group", ret->name);
	user_entry_fini(ret);
	return err;
}

static int read_user(struct reading *r, struct value v, void *field)
{
	struct conf_user *u = field;
	struct user_entry e;
	gid_t gid;
	char *text;
	int err;

	if (r->canonical && value_kind(v) == VALUE_BLOCK)
		return read_user_canonical(v, u);
	err = find_user_group(r, v, &e, &gid);
	if (err < 0)
		return err;
	if (r->options->user && !r->no_host && e.uid != geteuid())
		err = say_bad(r, v, "", "a plain user's daemon cannot become another user");
	text = err == 0 ? strdup(value_text(v)) : NULL;
	if (!text) {
		user_entry_fini(&e);
		return err < 0 ? err : -ENOMEM;
	}
	take_entry(u, &e, gid);
	free(u->text);
	u->text = text;
	return 0;
}

static json_t *write_user(const struct conf_key *k, const void *field, enum write_form form)
{
	const struct conf_user *u = field;
	json_t *object;

	if (form == WRITE_DUMP)
		return u->text ? json_string(u->text) : NULL;
	object = json_object();
	json_object_set_new(object, "set", json_boolean(u->set));
	json_object_set_new(object, "uid", id_json(u->uid));
	json_object_set_new(object, "gid", id_json(u->gid));
	json_object_set_new(object, "groups", ids_write(u->groups, u->n_groups));
	if (u->text)
		json_object_set_new(object, "text", json_string(u->text));
	json_object_set_new(object, "name", json_string(u->name));
	json_object_set_new(object, "home", json_string(u->home));
	json_object_set_new(object, "shell", json_string(u->shell));
	return object;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : !a && !b;
}

static bool equal_user(const struct conf_key *k, const void *a, const void *b)
{
	const struct conf_user *x = a, *y = b;

	return x->set == y->set && x->uid == y->uid && x->gid == y->gid &&
	       same_text(x->text, y->text) && same_text(x->name, y->name) &&
	       same_text(x->home, y->home) && same_text(x->shell, y->shell) &&
	       x->n_groups == y->n_groups &&
	       (x->n_groups == 0 ||
		memcmp(x->groups, y->groups, x->n_groups * sizeof(*x->groups)) == 0);
}

const struct conf_type type_user = { 0, read_user, write_user, equal_user, fini_user };

static int extra_item(struct reading *r, struct value v, const char *text, char **ret)
{
	struct diag d;
	gid_t gid;

	if (!r->canonical && group_find(text, !r->no_host, &gid, &d) < 0)
		return say_bad(r, v, NULL, "%s", d.text);
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int read_extra(struct reading *r, struct value v, void *field)
{
	char **list;
	int err = list_read(r, v, extra_item, &list);

	if (err == 0) {
		strings_free(*(char ***)field);
		*(char ***)field = list;
	}
	return err;
}

static json_t *write_extra(const struct conf_key *k, const void *field, enum write_form form)
{
	return *(char **const *)field ? strings_write(*(char **const *)field) : NULL;
}

const struct conf_type type_extra_groups = { 0, read_extra, write_extra, list_equal, list_fini };

static int extra_gids(struct conf_user *u)
{
	size_t n = strings_count(u->extra);
	struct diag d;

	u->groups = calloc(n + 1, sizeof(*u->groups));
	if (!u->groups)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int err = group_find(u->extra[i], true, &u->groups[i], &d);

		if (err < 0)
			return err;
	}
	u->n_groups = n;
	return 0;
}

int user_finish(struct conf_user *u, bool no_host)
{
	struct user_entry self;
	bool written = u->text != NULL;
	int err;

	if (!written) {
		err = user_by_uid(geteuid(), &self);
		if (err < 0)
			return err;
		take_entry(u, &self, getegid());
		u->set = u->extra != NULL;
	}
	free(u->groups);
	u->groups = NULL;
	u->n_groups = 0;
	if (no_host)
		return 0;
	if (u->extra)
		return extra_gids(u);
	if (!written)
		return 0;
	/* A bare uid has no entry and therefore no supplementary groups (SP03). */
	if (u->name[0] >= '0' && u->name[0] <= '9')
		return 0;
	return user_groups(u->name, u->gid, &u->groups, &u->n_groups);
}

/* The four fields stand side by side in conf_control, conf_socket and conf_log. */
struct owner {
	char *text;
	bool has;
	uid_t uid;
	gid_t gid;
};
#define OWNER_LAYOUT(s)                                                                            \
	_Static_assert(offsetof(struct s, has_owner) - offsetof(struct s, owner) ==                \
				       offsetof(struct owner, has) &&                              \
			       offsetof(struct s, owner_gid) - offsetof(struct s, owner) ==        \
				       offsetof(struct owner, gid),                                \
		       #s " holds a struct owner")
OWNER_LAYOUT(conf_control);
OWNER_LAYOUT(conf_socket);
OWNER_LAYOUT(conf_log);

static int set_owner(struct owner *o, const char *text, uid_t uid, gid_t gid)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	free(o->text);
	*o = (struct owner){ copy, true, uid, gid };
	return 0;
}

static int read_owner(struct reading *r, struct value v, void *field)
{
	struct value text = value_member(v, "text");
	struct user_entry e;
	gid_t gid;
	int err;

	if (r->canonical && value_kind(v) == VALUE_BLOCK)
		return value_kind(text) == VALUE_STRING
			       ? set_owner(field, value_text(text), member_id(v, "uid"),
					   member_id(v, "gid"))
			       : -EINVAL;
	err = find_user_group(r, v, &e, &gid);
	if (err < 0)
		return err;
	err = set_owner(field, value_text(v), e.uid, gid);
	user_entry_fini(&e);
	return err;
}

static json_t *write_owner(const struct conf_key *k, const void *field, enum write_form form)
{
	const struct owner *o = field;
	json_t *object;

	if (!o->has)
		return NULL;
	if (form == WRITE_DUMP)
		return json_string(o->text);
	object = json_object();
	json_object_set_new(object, "text", json_string(o->text));
	json_object_set_new(object, "uid", id_json(o->uid));
	json_object_set_new(object, "gid", id_json(o->gid));
	return object;
}

static bool equal_owner(const struct conf_key *k, const void *a, const void *b)
{
	const struct owner *x = a, *y = b;

	return x->has == y->has &&
	       (!x->has || (x->uid == y->uid && x->gid == y->gid && same_text(x->text, y->text)));
}

static void fini_owner(const struct conf_key *k, void *field)
{
	free(((struct owner *)field)->text);
}

const struct conf_type type_owner = { 0, read_owner, write_owner, equal_owner, fini_owner };

static struct conf_who *who_of(const struct conf_key *k, const void *field)
{
	return (struct conf_who *)((char *)(uintptr_t)field - k->offset + k->aux);
}

static void drop_who(struct conf_who *w)
{
	free(w->uids);
	free(w->gids);
	*w = (struct conf_who){ 0 };
}

static int who_item(struct reading *r, struct value v, const char *text, char **ret)
{
	struct user_entry e = { 0 };
	struct diag d;
	gid_t gid;
	int err;

	if (text[0] == '@')
		err = group_find(text + 1, !r->no_host, &gid, &d);
	else
		err = user_find(text, !r->no_host, &e, &d);
	user_entry_fini(&e);
	if (err == -EINVAL)
		return say_bad(r, v, NULL, "%s", d.text);
	*ret = err == 0 ? strdup(text) : NULL;
	return *ret ? 0 : -ENOMEM;
}

static int resolve_who(char *const *list, struct conf_who *ret)
{
	size_t n = strings_count(list);
	struct conf_who w = { calloc(n + 1, sizeof(uid_t)), 0, calloc(n + 1, sizeof(gid_t)), 0 };
	int err = w.uids && w.gids ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && err == 0; i++) {
		struct user_entry e = { 0 };
		struct diag d;

		if (list[i][0] == '@') {
			err = group_find(list[i] + 1, true, &w.gids[w.n_gids++], &d);
			continue;
		}
		err = user_find(list[i], true, &e, &d);
		w.uids[w.n_uids++] = e.uid;
		user_entry_fini(&e);
	}
	if (err < 0)
		drop_who(&w);
	else
		*ret = w;
	return err;
}

static int who_list_item(struct reading *r, struct value v, const char *text, char **ret)
{
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int read_who(struct reading *r, struct value v, void *field)
{
	bool finished = r->canonical && value_kind(v) == VALUE_BLOCK;
	struct conf_who *who = who_of(r->key, field), w = { 0 };
	char **list = NULL;
	int err;

	if (finished) {
		err = list_read(r, value_member(v, "list"), who_list_item, &list);
		if (err == 0)
			err = ids_read(value_member(v, "uids"), &w.uids, &w.n_uids);
		if (err == 0)
			err = ids_read(value_member(v, "gids"), &w.gids, &w.n_gids);
	} else {
		err = list_read(r, v, who_item, &list);
		if (err == 0 && !r->no_host)
			err = resolve_who(list, &w);
	}
	if (err < 0) {
		strings_free(list);
		drop_who(&w);
		return err;
	}
	drop_who(who);
	*who = w;
	strings_free(*(char ***)field);
	*(char ***)field = list;
	return 0;
}

static json_t *write_who(const struct conf_key *k, const void *field, enum write_form form)
{
	const struct conf_who *w = who_of(k, field);
	json_t *list = strings_write(*(char **const *)field), *object;

	if (form == WRITE_DUMP)
		return list;
	object = json_object();
	json_object_set_new(object, "list", list);
	json_object_set_new(object, "uids", ids_write(w->uids, w->n_uids));
	json_object_set_new(object, "gids", ids_write(w->gids, w->n_gids));
	return object;
}

static bool equal_who(const struct conf_key *k, const void *a, const void *b)
{
	const struct conf_who *x = who_of(k, a), *y = who_of(k, b);

	return list_equal(k, a, b) && x->n_uids == y->n_uids && x->n_gids == y->n_gids &&
	       (x->n_uids == 0 || memcmp(x->uids, y->uids, x->n_uids * sizeof(uid_t)) == 0) &&
	       (x->n_gids == 0 || memcmp(x->gids, y->gids, x->n_gids * sizeof(gid_t)) == 0);
}

static void fini_who(const struct conf_key *k, void *field)
{
	drop_who(who_of(k, field));
	list_fini(k, field);
}

const struct conf_type type_who = { 0, read_who, write_who, equal_who, fini_who };
