/* Owns the wording of problems with values: what was found, what is allowed, the mended line. */
#include "key.h"
#include "mend.h"

#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SIBLINGS_MAX 128

static void add_subject(struct str *out, const struct reading *r)
{
	if (r->subject && r->subject[0])
		str_addf(out, "%s: ", r->subject);
}

/* `text` goes to the report; the diag cuts what does not fit. */
static void put(struct reading *r, int line, struct str *text)
{
	report_add(r->report, false, r->file, line, "%s", text->data ? text->data : "");
	str_fini(text);
}

/* "allowed: duration, 0s to 1d" */
static void add_allowed(struct str *out, const struct conf_key *k)
{
	str_addf(out, "; allowed: %s", k->type);
	if (k->how == &type_mode) {
		str_addf(out, ", up to \"%04llo\"", (unsigned long long)k->max);
	} else if (k->max != 0 && k->how == &type_duration) {
		char low[48], high[48];

		str_addf(out, ", %s to %s", duration_format(k->min, low),
			 duration_format(k->max, high));
	} else if (k->max != 0 && k->how == &type_size) {
		char low[32], high[32];

		str_addf(out, ", %s to %s", size_format(k->min, low), size_format(k->max, high));
	} else if (k->max != 0) {
		str_addf(out, ", %lld to %lld", k->min, k->max);
	}
}

static void add_setting(struct str *out, const struct reading *r, const char *how,
			const char *value)
{
	str_addf(out, "; %s: %s = %s;", how, r->member ? r->member : key_last(r->key), value);
}

static void add_mended(struct str *out, const struct reading *r, struct value v, const char *mended)
{
	bool part = r->in_list || r->member;
	char buf[MEND_SIZE];

	if (!mended && !part)
		mended = mend_value(r->key, v, buf, sizeof(buf));
	else if (mended && mended[0] && r->in_list)
		mended = mend_list(r->list, r->at, mended, buf, sizeof(buf));
	if (mended && mended[0])
		add_setting(out, r, "write", mended);
	else if (!mended && !part && !(r->key->flags & KEY_ACCESS) && r->key->how != &type_word)
		add_setting(out, r, "for example", r->key->example);
}

int say_bad(struct reading *r, struct value v, const char *mended, const char *format, ...)
{
	struct str out = { 0 };
	char shown[160], line[256];
	va_list ap;

	if (!r->report || value_kind(v) == VALUE_BAD)
		return -EINVAL;
	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	add_subject(&out, r);
	str_addf(&out, "%s%s%s%s%s: %s", key_short(r->key), r->member ? "." : "",
		 r->member ? r->member : "", r->in_list ? ": " : " = ",
		 value_show(v, shown, sizeof(shown)), line);
	add_allowed(&out, r->key);
	add_mended(&out, r, v, mended);
	put(r, value_line(v), &out);
	return -EINVAL;
}

int say_missing(struct reading *r, struct value v)
{
	struct str out = { 0 };

	if (!r->report)
		return -EINVAL;
	add_subject(&out, r);
	str_addf(&out, "%s is missing", key_short(r->key));
	if (!(r->key->flags & KEY_ACCESS))
		add_setting(&out, r, "for example", r->key->example);
	put(r, value_line(v), &out);
	return -EINVAL;
}

int say_wrong_kind(struct reading *r, struct value v)
{
	return say_bad(r, v, NULL, "%s does not fit here", value_kind_name(value_kind(v)));
}

/* The next components of all keys below prefix, each once. */
static size_t siblings(const char *prefix, char names[SIBLINGS_MAX][32],
		       const char *list[SIBLINGS_MAX])
{
	size_t n_keys, n = 0, len = strlen(prefix);
	const struct conf_key *keys = conf_keys(&n_keys);

	for (size_t i = 0; i < n_keys && n < SIBLINGS_MAX; i++) {
		const char *p = keys[i].path;

		if (strncmp(p, prefix, len) != 0)
			continue;
		p += len;
		snprintf(names[n], sizeof(names[n]), "%.*s", (int)strcspn(p, "."), p);
		if (n > 0 && strcmp(names[n], names[n - 1]) == 0)
			continue;
		list[n] = names[n];
		n++;
	}
	return n;
}

/* The value as the key takes it; NULL where nothing is certain, or it is too long. */
static const char *value_for(const struct reading *r, const struct conf_key *k, struct value v,
			     char *buf, size_t size)
{
	size_t n;

	if (!mend_takes(r, k, v))
		return mend_value(k, v, buf, size);
	if (value_kind(v) == VALUE_BLOCK ||
	    (value_kind(v) == VALUE_STRING && strlen(value_text(v)) > size / 5))
		return NULL;
	n = strlen(value_show(v, buf, size));
	return n > 5 && strcmp(buf + n - 5, "... ]") == 0 ? NULL : buf;
}

/* `rel` is the key's path below the block that the unknown name stands in. */
static void add_key(struct str *out, const struct reading *r, const struct conf_key *k,
		    const char *rel, struct value v)
{
	const char *dot = strchr(rel, '.');
	char buf[MEND_SIZE], block[64];
	const char *value = value_for(r, k, v, buf, sizeof(buf));

	snprintf(block, sizeof(block), "%.*s", (int)(dot ? dot - rel : 0), rel);
	str_addf(out, dot ? "; here it is %s" : "; the nearest is \"%s\"", rel);
	if (value_kind(value_member(value_parent(v), dot ? block : rel)) != VALUE_NONE)
		str_addf(out,
			 dot ? ", in the block %s that is there already"
			     : ", which is there already",
			 block);
	else if (value && dot)
		str_addf(out, "; write: %s = { %s = %s; };", block, dot + 1, value);
	else if (value)
		str_addf(out, "; write: %s = %s;", rel, value);
	else if (value_kind(v) == VALUE_BLOCK && !dot && mend_takes(r, k, v))
		str_addf(out, "; write: %s: { ... };", rel);
}

int say_unknown_key(struct reading *r, struct value v, const char *prefix, const char *name)
{
	char names[SIBLINGS_MAX][32];
	const char *list[SIBLINGS_MAX], *near = NULL;
	size_t n = siblings(prefix, names, list);
	const char *inner = strchr(prefix, '.');
	const struct conf_key *k = mend_key(prefix, name, r, v);
	struct str out = { 0 };

	if (!k && value_kind(v) == VALUE_BLOCK)
		near = str_nearest(name, list, n);
	add_subject(&out, r);
	str_addf(&out, "unknown key \"%s%s\"", inner ? inner + 1 : "", name);
	if (k) {
		add_key(&out, r, k, k->path + strlen(prefix), v);
	} else if (near) {
		str_addf(&out, "; the nearest is \"%s\"; write: %s: { ... };", near, near);
	} else {
		str_add(&out, "; known here:");
		for (size_t i = 0; i < n; i++)
			str_addf(&out, " %s", list[i]);
	}
	put(r, value_line(v), &out);
	return -EINVAL;
}

/* The block with the word, or the first one that takes the value. */
int say_no_block(struct reading *r, struct value v, const char *prefix, const char *name)
{
	size_t n;
	const struct conf_key *keys = conf_keys(&n), *shown = NULL, *meant = NULL;
	char buf[MEND_SIZE];
	const char *value = NULL;
	struct str out = { 0 };

	for (size_t i = 0; i < n && !value; i++) {
		const struct conf_key *k = &keys[i];

		if (strncmp(k->path, prefix, strlen(prefix)) != 0 || (k->flags & KEY_ACCESS))
			continue;
		shown = shown ? shown : k;
		if (k->how != &type_word && k->how != &type_signal)
			continue;
		meant = k;
		value = value_for(r, k, v, buf, sizeof(buf));
	}
	add_subject(&out, r);
	str_addf(&out, "%s: %s where a block is meant", name, value_kind_name(value_kind(v)));
	if (value)
		str_addf(&out, "; write: %s = { %s = %s; };", name, key_last(meant), value);
	else if (shown)
		str_addf(&out, "; for example: %s = { %s = %s; };", name, key_last(shown),
			 shown->example);
	put(r, value_line(v), &out);
	return -EINVAL;
}
