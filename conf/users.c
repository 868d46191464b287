/*
 * Owns the rules for user and group notations (SP02, SE07): a name as the database may hold it, or
 * a plain decimal id. "0x0", "00", "0day", "-1", "4294967295" are refused: other programs have
 * taken such for root or for "no change".
 */
#include "users.h"

#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#define GROUPS_MAX 65536

void user_entry_fini(struct user_entry *e)
{
	free(e->name);
	free(e->home);
	free(e->shell);
	*e = (struct user_entry){ 0 };
}

/* 1 = a number, 0 = a name, -EINVAL with *d. */
static int classify(const char *what, const char *text, long long *ret_id, struct diag *d)
{
	char shown[80];

	str_escape(text, strnlen(text, 64), shown, sizeof(shown));
	if (!text[0])
		return diag_set(d, -EINVAL, "an empty %s", what);
	if (text[0] >= '0' && text[0] <= '9') {
		if (text[0] == '0' && text[1])
			return diag_set(d, -EINVAL, "\"%s\" is no %s: an id is plain decimal",
					shown, what);
		/* 2^32-1 means "no change" to the kernel */
		if (str_to_int(text, 0, 4294967294LL, ret_id) < 0)
			return diag_set(
				d, -EINVAL,
				"\"%s\" is no %s: a name begins with a letter, an id is plain "
				"decimal, at most 4294967294",
				shown, what);
		return 1;
	}
	if (strchr("-+.~", text[0]) || strlen(text) > 256 || strpbrk(text, ":/,= \t\r\n\"'\\") ||
	    !str_utf8_valid(text, strlen(text)))
		return diag_set(d, -EINVAL, "\"%s\" is no %s name", shown, what);
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return diag_set(d, -EINVAL, "\"%s\" is no %s name", shown, what);
	return 0;
}

static int fill(struct user_entry *e, const char *name, const char *home, const char *shell)
{
	e->name = strdup(name);
	e->home = strdup(home && home[0] ? home : "/");
	e->shell = strdup(shell && shell[0] ? shell : "/bin/sh");
	if (e->name && e->home && e->shell)
		return 0;
	user_entry_fini(e);
	return -ENOMEM;
}

static int from_passwd(const struct passwd *p, struct user_entry *ret)
{
	struct user_entry e = { .uid = p->pw_uid, .gid = p->pw_gid, .known = true };
	int err = fill(&e, p->pw_name, p->pw_dir, p->pw_shell);

	if (err == 0)
		*ret = e;
	return err;
}

int user_by_uid(uid_t uid, struct user_entry *ret)
{
	struct user_entry e = { .uid = uid, .gid = (gid_t)-1 };
	struct passwd *p = getpwuid(uid);
	char name[16];
	int err;

	if (p)
		return from_passwd(p, ret);
	snprintf(name, sizeof(name), "%u", (unsigned)uid);
	err = fill(&e, name, NULL, NULL);
	if (err == 0)
		*ret = e;
	return err;
}

int user_find(const char *text, bool look, struct user_entry *ret, struct diag *d)
{
	struct user_entry e = { .uid = (uid_t)-1, .gid = (gid_t)-1 };
	struct passwd *p;
	long long id = -1;
	int kind = classify("user", text, &id, d), err;

	if (kind < 0)
		return kind;
	if (kind == 1 && look)
		return user_by_uid((uid_t)id, ret);
	if (!look) {
		e.uid = (uid_t)id;
		err = fill(&e, text, NULL, NULL);
		if (err == 0)
			*ret = e;
		return err;
	}
	errno = 0;
	p = getpwnam(text);
	if (p)
		return from_passwd(p, ret);
	if (errno != 0 && errno != ENOENT && errno != ESRCH && errno != EBADF && errno != EPERM)
		return diag_set(d, -EINVAL, "the user database could not be read: %s",
				strerror(errno));
	return diag_set(d, -EINVAL, "there is no user \"%s\"", text);
}

int group_find(const char *text, bool look, gid_t *ret, struct diag *d)
{
	struct group *g;
	long long id;
	int kind = classify("group", text, &id, d);

	if (kind < 0)
		return kind;
	if (kind == 1 || !look) {
		*ret = kind == 1 ? (gid_t)id : (gid_t)-1;
		return 0;
	}
	g = getgrnam(text);
	if (!g)
		return diag_set(d, -EINVAL, "there is no group \"%s\"", text);
	*ret = g->gr_gid;
	return 0;
}

int user_group_find(const char *text, bool look, struct user_entry *ret, bool *ret_has_group,
		    gid_t *ret_gid, struct diag *d)
{
	const char *colon = strchr(text, ':');
	auto_free char *user = colon ? strndup(text, (size_t)(colon - text)) : strdup(text);
	struct user_entry e;
	gid_t gid = (gid_t)-1;
	int err;

	if (!user)
		return -ENOMEM;
	err = user_find(user, look, &e, d);
	if (err < 0)
		return err;
	if (colon)
		err = group_find(colon + 1, look, &gid, d);
	if (err < 0) {
		user_entry_fini(&e);
		return err;
	}
	*ret = e;
	*ret_has_group = colon != NULL;
	*ret_gid = gid;
	return 0;
}

int user_groups(const char *name, gid_t gid, gid_t **ret, size_t *ret_n)
{
	int room = 64;

	while (room <= GROUPS_MAX * 2) {
		gid_t *list = calloc((size_t)room, sizeof(*list));
		int n = room;

		if (!list)
			return -ENOMEM;
		if (getgrouplist(name, gid, list, &n) >= 0) {
			*ret = list;
			*ret_n = (size_t)n;
			return 0;
		}
		free(list);
		room = MAX_OF(n, room * 2);
	}
	return -E2BIG;
}
