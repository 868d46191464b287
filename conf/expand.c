/* Owns the meaning of % in texts. A template that left expand_load() holds only what conf_expand()
 * can end, so the latter cannot fail. */
#include "expand.h"

#include "arith.h"
#include "conf.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void expand_quote(const char *text, struct str *out)
{
	for (; *text; text++) {
		str_add_bytes(out, text, 1);
		if (*text == '%')
			str_add(out, "%");
	}
}

static int add_known(const char *what, char letter, const char *value, struct str *out,
		     struct diag *d)
{
	if (!value)
		return diag_set(d, -EINVAL,
				"%%%c (%s) has no meaning here; for a plain %% write %%%%", letter,
				what);
	if (!str_utf8_valid(value, strlen(value)))
		return diag_set(d, -EINVAL, "%%%c (%s) is not valid UTF-8", letter, what);
	expand_quote(value, out);
	return 0;
}

static int add_env(const char *name, size_t len, struct str *out, struct diag *d)
{
	char key[256];
	const char *value;

	snprintf(key, sizeof(key), "%.*s", (int)len, name);
	value = len > 0 && len < sizeof(key) ? getenv(key) : NULL;
	if (!value)
		return diag_set(d, -EINVAL, "%%{env:%s}: the daemon's environment has no %s", key,
				len > 0 ? key : "such name");
	if (!str_utf8_valid(value, strlen(value)))
		return diag_set(d, -EINVAL, "%%{env:%s}: the value is not valid UTF-8", key);
	expand_quote(value, out);
	return 0;
}

static void add_number(const struct arith *a, struct str *out)
{
	str_addf(out, a->zero_pad ? "%0*lld" : "%*lld", a->width, a->value);
}

/* %{…}; *p points behind the brace and is moved behind the closing one. */
static int add_braces(const char **p, bool per_worker, struct str *out, struct diag *d)
{
	const char *text = *p, *end = strchr(text, '}');
	size_t len = end ? (size_t)(end - text) : 0;
	struct arith low, high;

	if (!end)
		return diag_set(
			d, -EINVAL,
			"%%{ without }; known are %%{8000+i} %%{02d:1+i} %%{env:NAME}, for a "
			"plain %% write %%%%");
	*p = end + 1;
	if (len >= 4 && strncmp(text, "env:", 4) == 0)
		return add_env(text + 4, len - 4, out, d);
	if (arith_eval(text, len, 0, &low) < 0 ||
	    arith_eval(text, len, CONF_WORKERS_MAX, &high) < 0)
		return diag_set(
			d, -EINVAL,
			"%%{%.*s} is no arithmetic: whole numbers, i, + - * / %% ( ), as in "
			"%%{8000+i} or %%{02d:1+i}; for a plain %% write %%%%",
			(int)len, text);
	if (!low.has_i)
		add_number(&low, out);
	else if (!per_worker)
		return diag_set(d, -EINVAL, "%%{%.*s}: there is no worker index here", (int)len,
				text);
	else
		str_addf(out, "%%{%.*s}", (int)len, text);
	return 0;
}

static int add_host(struct str *out, struct diag *d)
{
	char host[HOST_NAME_MAX + 1] = "";

	if (gethostname(host, sizeof(host) - 1) < 0)
		return diag_set(d, -EINVAL, "%%H: the host has no name");
	return add_known("host", 'H', host, out, d);
}

/* The letter behind a %. */
static int add_letter(char c, const struct expansion *e, bool per_worker, struct str *out,
		      struct diag *d)
{
	char shown[8];

	switch (c) {
	case '%':
		str_add(out, "%%");
		return 0;
	case 'i':
	case 'n':
		if (!per_worker)
			return diag_set(d, -EINVAL, "%%%c: there is no worker here", c);
		str_addf(out, "%%%c", c);
		return 0;
	case 'g':
		return add_known("group", c, e->group, out, d);
	case 'd':
		return add_known("directory of this file", c, e->dir, out, d);
	case 't':
		return add_known("runtime directory", c, e->runtime_dir, out, d);
	case 'u':
		return add_known("user", c, e->user, out, d);
	case 'h':
		return add_known("home of the user", c, e->home, out, d);
	case 'H':
		return add_host(out, d);
	default:
		str_escape(&c, c ? 1 : 0, shown, sizeof(shown));
		return diag_set(d, -EINVAL,
				"%%%s is not known; known are %%g %%i %%n %%d %%t %%u %%h %%H "
				"%%{8000+i} %%{env:NAME}; for a plain %% write %%%%",
				shown);
	}
}

int expand_load(const char *text, const struct expansion *e, bool per_worker, struct str *out,
		struct diag *d)
{
	while (*text) {
		size_t plain = strcspn(text, "%");
		int r;

		str_add_bytes(out, text, plain);
		text += plain;
		if (!*text)
			break;
		text++;
		if (*text == '{') {
			text++;
			r = add_braces(&text, per_worker, out, d);
		} else {
			r = add_letter(*text, e, per_worker, out, d);
			if (*text)
				text++;
		}
		if (r < 0)
			return r;
	}
	str_add(out, "");
	return out->failed ? -ENOMEM : 0;
}

void conf_expand(const char *template_text, const struct conf_worker *w, struct str *out)
{
	const char *p = template_text;

	while (*p) {
		size_t plain = strcspn(p, "%");
		const char *end;
		struct arith a;

		str_add_bytes(out, p, plain);
		p += plain;
		if (!*p)
			break;
		p++;
		if (*p == 'i') {
			str_addf(out, "%d", w->index);
		} else if (*p == 'n') {
			str_addf(out, "%s:%d", w->group, w->index);
		} else if (*p == '{' && (end = strchr(p, '}'))) {
			if (arith_eval(p + 1, (size_t)(end - p - 1), w->index, &a) == 0)
				add_number(&a, out);
			p = end;
		} else if (*p) {
			str_add_bytes(out, p, 1);
		}
		if (*p)
			p++;
	}
	str_add(out, "");
}

bool conf_is_per_worker(const char *template_text)
{
	for (const char *p = strchr(template_text, '%'); p; p = strchr(p + 2, '%')) {
		if (p[1] == 'i' || p[1] == 'n' || p[1] == '{')
			return true;
		if (!p[1])
			return false;
	}
	return false;
}
