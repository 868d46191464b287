/*
 * Owns nothing between two starts but memory. The order is the contract: base, inherited, files,
 * env; what Reeve itself says about the worker is set last by spawn.c and so cannot be faked.
 */
#include "manager/env.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void words_clear(struct words *w)
{
	w->text.len = 0;
	w->text.failed = false;
	w->n = 0;
	w->failed = false;
}

void words_fini(struct words *w)
{
	str_fini(&w->text);
	free(w->items);
	free(w->pointers);
	*w = (struct words){ 0 };
}

static struct word *word_new(struct words *w)
{
	if (w->n >= ENV_VARIABLES_MAX) {
		w->failed = true;
		return NULL;
	}
	if (w->n == w->room) {
		size_t room = w->room ? w->room * 2 : 64;
		struct word *items = realloc(w->items, room * sizeof(*items));

		if (!items) {
			w->failed = true;
			return NULL;
		}
		w->items = items;
		w->room = room;
	}
	return &w->items[w->n++];
}

void words_add(struct words *w, const char *text)
{
	struct word *item = word_new(w);

	if (!item)
		return;
	*item = (struct word){ .at = (uint32_t)w->text.len };
	str_add_bytes(&w->text, text, strlen(text) + 1);
}

static uint32_t hash_of(const char *key, size_t len)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)key[i]) * 16777619u;
	return h;
}

static struct word *find(const struct words *w, const char *key, size_t len)
{
	uint32_t hash = hash_of(key, len);

	if (w->text.failed)
		return NULL;
	for (size_t i = 0; i < w->n; i++) {
		struct word *item = &w->items[i];

		if (item->hash == hash && item->key_bytes == len &&
		    memcmp(w->text.data + item->at, key, len) == 0)
			return item;
	}
	return NULL;
}

/* The new text goes to the end; an older one of the same name is left behind unused. */
static void set_bytes(struct words *w, const char *key, size_t key_len, const char *value,
		      size_t value_len)
{
	struct word *item = find(w, key, key_len);

	if (!item)
		item = word_new(w);
	if (!item)
		return;
	*item = (struct word){ .at = (uint32_t)w->text.len,
			       .key_bytes = (uint32_t)key_len,
			       .hash = hash_of(key, key_len) };
	str_add_bytes(&w->text, key, key_len);
	str_add_bytes(&w->text, "=", 1);
	str_add_bytes(&w->text, value, value_len);
	str_add_bytes(&w->text, "", 1);
}

void env_set(struct words *w, const char *key, const char *value)
{
	set_bytes(w, key, strlen(key), value, strlen(value));
}

void env_setf(struct words *w, const char *key, const char *format, ...)
{
	char value[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(value, sizeof(value), format, ap);
	va_end(ap);
	env_set(w, key, value);
}

void env_put(struct words *w, const char *pair)
{
	const char *sign = strchr(pair, '=');

	if (sign)
		set_bytes(w, pair, (size_t)(sign - pair), sign + 1, strlen(sign + 1));
}

const char *env_get(const struct words *w, const char *key)
{
	const struct word *item = find(w, key, strlen(key));

	return item ? w->text.data + item->at + item->key_bytes + 1 : NULL;
}

static int check_lengths(const struct words *w, struct diag *d)
{
	for (size_t i = 0; i < w->n; i++) {
		const char *text = w->text.data + w->items[i].at;
		size_t len = strlen(text);

		if (len >= ENV_STRING_BYTES)
			return diag_set(d, -E2BIG,
					"\"%.40s…\" is %zu bytes long; the kernel takes up to %u "
					"in one string",
					text, len, ENV_STRING_BYTES - 1);
	}
	return 0;
}

int words_finish(struct words *w, char ***ret, struct diag *d)
{
	int r;

	if (w->failed && w->n >= ENV_VARIABLES_MAX)
		return diag_set(d, -E2BIG, "more than %d strings", ENV_VARIABLES_MAX);
	if (w->pointers_room <= w->n) {
		char **pointers = realloc(w->pointers, (w->n + 1) * sizeof(*pointers));

		if (!pointers)
			return diag_set(d, -ENOMEM, "out of memory");
		w->pointers = pointers;
		w->pointers_room = w->n + 1;
	}
	if (w->failed || w->text.failed)
		return diag_set(d, -ENOMEM, "out of memory");
	r = check_lengths(w, d);
	if (r < 0)
		return r;
	for (size_t i = 0; i < w->n; i++)
		w->pointers[i] = w->text.data + w->items[i].at;
	w->pointers[w->n] = NULL;
	*ret = w->pointers;
	return 0;
}

static bool name_char(char c, bool first)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
	       (!first && c >= '0' && c <= '9');
}

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static int add_line(struct words *w, const char *path, int line, char *text, size_t len,
		    struct diag *d)
{
	size_t key = 0;
	char *value;

	while (len > 0 && blank(text[len - 1]))
		len--;
	for (; len > 0 && blank(*text); len--)
		text++;
	if (len == 0 || *text == '#' || *text == ';')
		return 0;
	while (key < len && name_char(text[key], key == 0))
		key++;
	if (key == 0 || key == len || text[key] != '=')
		return diag_at(d, -EINVAL, path, line,
			       "expected NAME=VALUE, a comment or an empty line");
	value = text + key + 1;
	len -= key + 1;
	if (memchr(value, '\0', len))
		return diag_at(d, -EINVAL, path, line, "a value cannot hold a NUL byte");
	if (len >= 2 && (*value == '"' || *value == '\'') && value[len - 1] == *value) {
		value++;
		len -= 2;
	}
	set_bytes(w, text, key, value, len);
	return 0;
}

int env_add_lines(struct words *w, const char *path, char *text, size_t len, struct diag *d)
{
	int r = 0;

	for (int line = 1; len > 0 && r == 0; line++) {
		char *end = memchr(text, '\n', len);
		size_t n = end ? (size_t)(end - text) : len;

		r = add_line(w, path, line, text, n, d);
		n += end ? 1 : 0;
		text += n;
		len -= n;
	}
	return r;
}

/* The load has looked at it, too; this is the file that is read now. */
static bool others_can_write(const struct stat *st, uid_t user)
{
	if (st->st_uid != 0 && st->st_uid != geteuid() && st->st_uid != user)
		return true;
	return (st->st_mode & S_IWOTH) != 0;
}

int env_add_file(struct words *w, const char *path, uid_t user, struct diag *d)
{
	bool optional = *path == '-';
	auto_free char *text = NULL;
	auto_fd fd = -1;
	struct stat st;
	size_t len;
	int r;

	path += optional;
	/* non-blocking: a FIFO must not hold us at the open */
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 && optional && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0)
		return diag_set(d, -errno, "opening env_file %s: %s", path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return diag_set(d, -EINVAL, "env_file %s is not a regular file", path);
	if (others_can_write(&st, user))
		return diag_set(d, -EPERM,
				"env_file %s can be written by somebody else than root, the daemon "
				"and the worker's user (owner %u, mode %04o)",
				path, (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
	r = fd_read_all(fd, ENV_FILE_BYTES, &text, &len);
	if (r == -EFBIG)
		return diag_set(d, r, "env_file %s is longer than %u bytes", path, ENV_FILE_BYTES);
	if (r < 0)
		return diag_set(d, r, "reading env_file %s: %s", path, strerror(-r));
	return env_add_lines(w, path, text, len, d);
}

static bool belongs_to_one(const char *name)
{
	static const char *const prefixes[] = { "LISTEN_", "WATCHDOG_", "REEVE_" };

	if (strcmp(name, "NOTIFY_SOCKET") == 0)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

/* Of whoever started us, not of the user that a worker runs as. */
static bool belongs_to_user(const char *name)
{
	static const char *const names[] = { "HOME", "USER", "LOGNAME", "SHELL" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static bool inherits(const char *name, char *const *patterns, bool other_user)
{
	for (; *patterns; patterns++) {
		if (strcmp(*patterns, name) == 0)
			return true;
		if (!belongs_to_one(name) && !(other_user && belongs_to_user(name)) &&
		    fnmatch(*patterns, name, 0) == 0)
			return true;
	}
	return false;
}

void env_inherit(struct words *w, char *const *from, char *const *patterns, bool other_user)
{
	char name[256];

	if (!patterns || !*patterns)
		return;
	for (; *from; from++) {
		const char *sign = strchr(*from, '=');
		size_t len = sign ? (size_t)(sign - *from) : 0;

		if (len == 0 || len >= sizeof(name))
			continue;
		memcpy(name, *from, len);
		name[len] = '\0';
		if (inherits(name, patterns, other_user))
			env_put(w, *from);
	}
}

static void set_base(struct words *w, const struct conf_user *user)
{
	env_set(w, "PATH", ENV_PATH);
	env_set(w, "HOME", user->home && *user->home ? user->home : "/");
	if (user->name && *user->name) {
		env_set(w, "USER", user->name);
		env_set(w, "LOGNAME", user->name);
	} else {
		env_setf(w, "USER", "%u", (unsigned)user->uid);
		env_setf(w, "LOGNAME", "%u", (unsigned)user->uid);
	}
	env_set(w, "SHELL", user->shell && *user->shell ? user->shell : "/bin/sh");
	env_set(w, "LANG", "C.UTF-8");
}

int env_of_group(struct words *w, const struct conf_group *g, const struct conf_worker *who,
		 char *const *from, struct diag *d)
{
	uid_t user = g->user.set ? g->user.uid : geteuid();
	auto_str text = { 0 };

	set_base(w, &g->user);
	env_inherit(w, from, g->inherit_env, g->user.set);
	for (char **file = g->env_files; file && *file; file++) {
		int r;

		text.len = 0;
		conf_expand(*file, who, &text);
		r = text.failed ? diag_set(d, -ENOMEM, "out of memory")
				: env_add_file(w, text.data, user, d);
		if (r < 0)
			return r;
	}
	for (char **e = g->env; e && *e; e++) {
		text.len = 0;
		conf_expand(*e, who, &text);
		if (text.data && !text.failed)
			env_put(w, text.data);
	}
	return text.failed ? diag_set(d, -ENOMEM, "out of memory") : 0;
}
