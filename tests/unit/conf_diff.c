/* What a reload finds: every key with its own class and reason, and nothing where nothing is. */
#include "conf_rig.h"

#include "key.h"

static struct conf *must_load(const char *text)
{
	struct conf *c = NULL;
	auto_str said = { 0 };

	cr_assert_eq(rig_load(text, &c, &said), 0, "%s: %s", text, said.data);
	return c;
}

static uint64_t hash_of(const struct conf *c)
{
	const struct conf_group *g = conf_find_group(c, "g");

	return g ? conf_group_hash(g) : 0;
}

/* Does one of the changes belong to this key? ("stop.timeout" for "stop.steps.wait") */
static const struct conf_change *change_of(const struct conf_change *changes, ssize_t n,
					   const struct conf_key *k)
{
	const char *name = strchr(k->path, '.') + 1;

	for (ssize_t i = 0; i < n; i++) {
		size_t len = strlen(changes[i].key);

		if (strcmp(changes[i].key, name) == 0)
			return &changes[i];
		/* env.PORT of env, sockets.n of sockets.backlog, stop.steps of stop.steps.to */
		if (strncmp(changes[i].key, name, strlen(name)) == 0 ||
		    strncmp(changes[i].key, name, 7) == 0 ||
		    (len > 0 && strncmp(changes[i].key, name, len) == 0))
			return &changes[i];
	}
	return NULL;
}

static void check_key(const struct conf_key *k)
{
	bool daemon = key_is_daemon(k);
	const char *needs = rig_needs(strchr(k->path, '.') + 1);
	auto_str without = { 0 }, text = { 0 };
	struct conf *plain, *other;
	struct conf_change *changes = NULL;
	const struct conf_change *c;
	ssize_t n;

	rig_write(k->path, k->example, &text);
	str_addf(&without, "groups: { db: { command = \"/bin/db\"; }; g: { %s }; };",
		 needs[0] ? needs : "command = \"/bin/g\";");
	plain = must_load(daemon ? "" : without.data);
	other = must_load(text.data);
	n = conf_diff(plain, other, &changes);
	if (strcmp(k->path, "group.enabled") == 0) {
		cr_expect(n == 1 && changes[0].kind == CONF_REMOVE);
	} else if (strcmp(k->example, k->preset) != 0 && strstr(k->path, "runtime_dir") == NULL &&
		   strstr(k->path, "control.socket") == NULL &&
		   strstr(k->path, "control.mode") == NULL) {
		c = change_of(changes, n, k);
		cr_expect(c != NULL, "%s = %s makes no difference", k->path, k->example);
		cr_expect(!c || c->kind == k->change, "%s: %d", k->path, c ? (int)c->kind : -1);
		cr_expect(!c || c->reason[0]);
		cr_expect(!c || strcmp(c->group, daemon ? "" : "g") == 0);
		if (!daemon)
			cr_expect_eq(hash_of(plain) != hash_of(other), k->change == CONF_RENEW,
				     "%s", k->path);
	}
	free(changes);
	cr_expect_eq(conf_diff(other, other, &changes), 0, "%s differs from itself", k->path);
	free(changes);
	conf_free(plain);
	conf_free(other);
}

Test(conf_diff, every_key_has_its_class)
{
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++)
		check_key(&keys[i]);
}

/* The order of an environment means nothing; values of it are never shown (SE11). */
Test(conf_diff, environment)
{
	struct conf *a =
		must_load("groups: { g: { command = \"/g\"; env = [ \"A=1\", \"B=2\" ]; }; };");
	struct conf *b =
		must_load("groups: { g: { command = \"/g\"; env = [ \"B=2\", \"A=1\" ]; }; };");
	struct conf *c =
		must_load("groups: { g: { command = \"/g\"; env = [ \"B=secret\" ]; }; };");
	struct conf_change *changes = NULL;

	cr_expect_eq(conf_diff(a, b, &changes), 0);
	free(changes);
	cr_assert_eq(conf_diff(a, c, &changes), 2);
	cr_expect_str_eq(changes[0].reason, "env.A removed");
	cr_expect_str_eq(changes[1].reason, "env.B changed");
	cr_expect_null(strstr(changes[1].reason, "secret"));
	free(changes);
	conf_free(a);
	conf_free(b);
	conf_free(c);
}

/* A line in the file that says what is the default anyway changes nothing. */
Test(conf_diff, CF02_writing_a_default_is_no_change)
{
	size_t n;
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++) {
		bool element = (keys[i].flags & KEY_ELEMENT) != 0;
		auto_str text = { 0 };
		struct conf *plain, *same;
		struct conf_change *changes = NULL;
		auto_str base = { 0 };

		if (!keys[i].preset[0] || keys[i].preset[0] == '(' || element)
			continue;
		rig_write(keys[i].path, keys[i].preset, &text);
		if (!key_is_daemon(&keys[i]))
			str_addf(&base, "groups: { db: { command = \"/bin/db\"; }; g: { %s}; };",
				 rig_needs(strchr(keys[i].path, '.') + 1));
		plain = must_load(base.data ? base.data : "");
		same = must_load(text.data);
		cr_expect_eq(conf_diff(plain, same, &changes), 0, "%s: %s", keys[i].path,
			     changes ? changes[0].reason : "");
		cr_expect_eq(hash_of(plain), hash_of(same), "%s", keys[i].path);
		free(changes);
		conf_free(plain);
		conf_free(same);
	}
}
