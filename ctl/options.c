/*
 * The command line. Options stand before or after the verb; every option has one meaning, but -s:
 * after `kill` it is the signal, elsewhere the socket; and --timeout, under `run` a clock of the
 * tree.
 */
#include "ctl.h"

#include "base/mem.h"
#include "base/names.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum kind { FLAG, TEXT, DURATION, COUNT };

struct row {
	char letter;
	const char *name;
	enum kind kind;
	const char *value; /* as help shows it */
	size_t at;
	const char *help;
	const char *help_run; /* under `run`, where it means something else */
};
#define AT(field) offsetof(struct settings, field)

/* A macro, since clang-format stretches long tables of braces beyond all bounds. */
#define ROW(...)                                                                                   \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}

static const struct row rows[OPT_COUNT] = {
	[OPT_SOCKET] =
		ROW('s', "socket", TEXT, "SOCKET", AT(socket), "the daemon's control socket"),
	[OPT_USER] = ROW(0, "user", FLAG, NULL, AT(user), "the daemon of this user"),
	[OPT_SYSTEM] = ROW(0, "system", FLAG, NULL, AT(system), "the daemon of the system"),
	[OPT_JSON] = ROW(0, "json", FLAG, NULL, AT(json), "output for programs"),
	[OPT_NO_COLOR] = ROW(0, "no-color", FLAG, NULL, AT(no_color), "no colours"),
	[OPT_HELP] = ROW('h', "help", FLAG, NULL, AT(help), "help"),
	[OPT_VERSION] = ROW('V', "version", FLAG, NULL, AT(version), "the version of reevectl"),
	[OPT_NO_WAIT] = ROW(0, "no-wait", FLAG, NULL, AT(no_wait), "do not wait until it is true"),
	[OPT_TIMEOUT] = ROW(0, "timeout", DURATION, "D", AT(timeout_ms),
			    "give up waiting after D (\"10s\"); exit code 4",
			    "kill the whole tree D after the first TERM or INT"),
	[OPT_WATCH] = ROW('w', "watch", FLAG, NULL, AT(watch), "show it again when it changes"),
	[OPT_ALL] = ROW('a', "all", FLAG, NULL, AT(all), "every worker"),
	[OPT_FAILED] = ROW(0, "failed", FLAG, NULL, AT(failed), "only workers that failed"),
	[OPT_MEMORY] = ROW(0, "memory", FLAG, NULL, AT(memory),
			   "proportional and private memory (looks at every process)"),
	[OPT_COLD] = ROW(0, "cold", FLAG, NULL, AT(cold), "SIGKILL to the whole tree at once"),
	[OPT_SIGNAL] = ROW(0, "signal", TEXT, "SIG", AT(signal), "TERM unless told (also -s SIG)"),
	[OPT_TO] = ROW(0, "to", TEXT, "main|pgrp|tree", AT(to), "who gets it; main unless told"),
	[OPT_FOLLOW] = ROW('f', "follow", FLAG, NULL, AT(follow), "go on as it comes"),
	[OPT_LINES] = ROW('n', "lines", COUNT, "N", AT(lines), "the last N lines; 10 unless told"),
	[OPT_SINCE] = ROW(0, "since", TEXT, "T", AT(since),
			  "logs: a time or a span back (\"5m\"); events: a number"),
	[OPT_STREAM] = ROW(0, "stream", TEXT, "out,err", AT(stream), "which of the two"),
	[OPT_FOR] = ROW(0, "for", TEXT, "STATE", AT(state), "the state to wait for"),
	[OPT_OFFLINE] = ROW(0, "offline", FLAG, NULL, AT(offline),
			    "check nothing that depends on this host"),
	[OPT_DRY_RUN] = ROW(0, "dry-run", FLAG, NULL, AT(dry_run), "the same as plan"),
	[OPT_TERMINAL] = ROW('t', "terminal", FLAG, NULL, AT(terminal),
			     "the command gets the terminal: Ctrl-C, Ctrl-Z, foreground"),
	[OPT_GRAPH] = ROW(0, "graph", TEXT, "text|dot", AT(graph), "the order of groups"),
};
#define EVERYWHERE                                                                                 \
	(OPT(SOCKET) | OPT(USER) | OPT(SYSTEM) | OPT(JSON) | OPT(NO_COLOR) | OPT(HELP) |           \
	 OPT(VERSION))

static int find_letter(char letter)
{
	for (int i = 0; i < OPT_COUNT; i++)
		if (rows[i].letter == letter)
			return i;
	return -1;
}

static int find_name(const char *name, size_t len)
{
	for (int i = 0; i < OPT_COUNT; i++)
		if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
			return i;
	return -1;
}

static int unknown_option(const char *word)
{
	const char *names[OPT_COUNT], *near;

	for (int i = 0; i < OPT_COUNT; i++)
		names[i] = rows[i].name;
	near = strncmp(word, "--", 2) == 0 ? str_nearest(word + 2, names, OPT_COUNT) : NULL;
	fail("unknown option %s%s%s%s", word, near ? "; did you mean --" : "", near ? near : "",
	     near ? "?" : "");
	return CODE_USAGE;
}

static int set_value(struct ctl *c, int option, const char *value)
{
	const struct row *r = &rows[option];
	char *to = (char *)&c->set + r->at;
	long long n;

	switch (r->kind) {
	case FLAG:
		*(bool *)to = true;
		return 0;
	case TEXT:
		*(const char **)to = value;
		return 0;
	case DURATION:
		if (duration_parse(value, (int64_t *)to) == 0)
			return 0;
		if (str_to_int(value, 1, INT32_MAX, &n) == 0) {
			*(int64_t *)to = n * 1000;
			return 0;
		}
		fail("--%s %s: a duration looks like 500ms, 10s, 1m30s, 2h; a number is seconds",
		     r->name, value);
		return CODE_USAGE;
	case COUNT:
		if (str_to_int(value, 0, 1000000, &n) < 0) {
			fail("--%s %s: a number from 0 to 1000000 is needed", r->name, value);
			return CODE_USAGE;
		}
		*(int64_t *)to = n;
		return 0;
	}
	return CODE_USAGE;
}

/* Walks over the arguments: options are given to `take`, others are words. */
struct walk {
	int argc, at;
	char **argv;
	const char *letters; /* rest of a bundle of short options */
	bool words_only;     /* behind "--" */
};

struct item {
	int option; /* -1: a word */
	const char *text, *value;
};

/* The value of an option: the rest of the word, or the next one. */
static int take_value(struct walk *w, struct item *item, const char *rest)
{
	if (rest) {
		item->value = rest;
	} else if (w->at < w->argc) {
		item->value = w->argv[w->at++];
	} else {
		item->value = "";
	}
	if (item->value[0])
		return 0;
	fail("%s needs a value", item->text);
	return CODE_USAGE;
}

static int long_option(struct walk *w, struct item *item)
{
	const char *name = item->text + 2, *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);

	item->option = find_name(name, len);
	if (item->option < 0)
		return unknown_option(item->text);
	if (rows[item->option].kind != FLAG)
		return take_value(w, item, equals ? equals + 1 : NULL);
	if (!equals)
		return 0;
	fail("%s takes no value", item->text);
	return CODE_USAGE;
}

/* -s after `kill` is the signal. */
static int short_option(struct walk *w, struct item *item, const struct verb *verb)
{
	char letter = *w->letters++;

	item->option = find_letter(letter);
	if (letter == 's' && verb && (verb->options & OPT(SIGNAL)))
		item->option = OPT_SIGNAL;
	if (item->option < 0)
		return unknown_option(item->text);
	if (rows[item->option].kind == FLAG) {
		w->letters = *w->letters ? w->letters : NULL;
		return 0;
	}
	if (take_value(w, item, *w->letters ? w->letters : NULL) != 0)
		return CODE_USAGE;
	w->letters = NULL;
	return 0;
}

/* 0 with *item; -1 at the end; CODE_USAGE. verb: the one already seen, or NULL. */
static int walk_next(struct walk *w, const struct verb *verb, struct item *item)
{
	if (w->letters)
		return short_option(w, item, verb);
	if (w->at >= w->argc)
		return -1;
	*item = (struct item){ .option = -1, .text = w->argv[w->at++] };
	/* no option is a digit: -1 is a number that somebody meant */
	if (w->words_only || item->text[0] != '-' || item->text[1] == '\0' ||
	    (item->text[1] >= '0' && item->text[1] <= '9'))
		return 0;
	if (strcmp(item->text, "--") == 0) {
		w->words_only = true;
		return walk_next(w, verb, item);
	}
	if (item->text[1] == '-')
		return long_option(w, item);
	w->letters = item->text + 1;
	return short_option(w, item, verb);
}

static int choose_verb(struct ctl *c, const char *name)
{
	const char *names[64], *pointer = verb_pointer(name), *near;
	size_t n = 0;

	c->verb = verb_find(name);
	c->verb_given = c->verb != NULL;
	if (c->verb)
		return 0;
	for (size_t i = 0; i < n_verbs && n < ARRAY_LEN(names); i++)
		names[n++] = verbs[i].name;
	near = pointer ? NULL : str_nearest(name, names, n);
	if (pointer)
		fail("there is no verb `%s` here; it is `reevectl %s`", name, pointer);
	else if (near)
		fail("there is no verb `%s`; did you mean `%s`? `reevectl help` lists them", name,
		     near);
	else
		fail("there is no verb `%s`; `reevectl help` lists them", name);
	return CODE_USAGE;
}

static int check_use(const struct ctl *c, unsigned used)
{
	unsigned strange = used & ~(c->verb->options | EVERYWHERE);

	for (int i = 0; i < OPT_COUNT; i++) {
		if (!(strange & (1u << i)))
			continue;
		fail("`%s` takes no --%s; see `reevectl help %s`", c->verb->name, rows[i].name,
		     c->verb->name);
		return CODE_USAGE;
	}
	if (c->set.help)
		return 0;
	if (c->n_args < c->verb->min_args || c->n_args > c->verb->max_args) {
		fail("usage: reevectl %s%s%s", c->verb->name, c->verb->usage[0] ? " " : "",
		     c->verb->usage);
		return CODE_USAGE;
	}
	return 0;
}

int options_parse(struct ctl *c, int argc, char **argv)
{
	struct walk w = { .argc = argc, .at = 1, .argv = argv };
	struct item item = { 0 };
	unsigned used = 0;
	int r;

	while ((r = walk_next(&w, c->verb, &item)) == 0) {
		if (item.option >= 0) {
			used |= 1u << item.option;
			r = set_value(c, item.option, item.value);
		} else if (!c->verb) {
			r = choose_verb(c, item.text);
		} else {
			c->args[c->n_args++] = item.text;
			/* what follows the name of a command is the command's */
			w.words_only |= (c->verb->options & OPT(TERMINAL)) != 0;
		}
		if (r != 0)
			return r;
	}
	if (r > 0)
		return r;
	if (!c->verb)
		c->verb = verb_find("status");
	return check_use(c, used);
}

void options_help(const struct verb *v, struct str *out)
{
	bool is_run = v && v->options & OPT(TERMINAL);

	for (int i = 0; i < OPT_COUNT; i++) {
		const struct row *r = &rows[i];
		char word[64];

		if (!((v ? v->options : EVERYWHERE) & (1u << i)))
			continue;
		snprintf(word, sizeof(word), "%s%c%s--%s%s%s", r->letter ? "-" : "  ",
			 r->letter ? r->letter : ' ', r->letter ? ", " : " ", r->name,
			 r->value ? " " : "", r->value ? r->value : "");
		str_addf(out, "  %-26s %s\n", word, is_run && r->help_run ? r->help_run : r->help);
	}
}
