/*
 * The puppet's interpreter: words are looked up in the verb tables of the other files and run in
 * order. See puppet.h.
 */
#include "puppet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct verb *const tables[] = { signal_verbs, process_verbs, io_verbs, notify_verbs };

void puppet_fail(const char *what)
{
	char text[512];
	snprintf(text, sizeof(text), "%s: %s", what, strerror(errno));
	journal_write("failed", text);
	dprintf(2, "puppet: %s\n", text);
	_exit(PUPPET_FAILED);
}

static _Noreturn void bad_script(const char *what, const char *word)
{
	journal_write(what, word);
	dprintf(2, "puppet: %s: %s\n", what, word);
	_exit(PUPPET_BAD_SCRIPT);
}

long long puppet_now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

long long puppet_number(const char *text)
{
	char *end = NULL;
	long long n = strtoll(text ? text : "", &end, 10);
	if (!text || end == text)
		bad_script("not a number", text ? text : "(nothing)");
	switch (*end) {
	case 'G':
		return n << 30;
	case 'M':
		return n << 20;
	case 'K':
		return n << 10;
	default:
		return n;
	}
}

char *puppet_piece(char **rest, char sep)
{
	char *piece = *rest;
	if (!piece)
		return NULL;
	char *cut = strchr(piece, sep);
	if (cut)
		*cut++ = '\0';
	*rest = cut;
	return piece;
}

static const char *lookup(struct puppet *p, const char *name, char number[24])
{
	if (!strncmp(name, "env:", 4))
		return getenv(name + 4) ? getenv(name + 4) : "";
	if (!strcmp(name, "index"))
		return p->index;
	if (!strcmp(name, "inc"))
		return p->incarnation;
	pid_t pid = !strcmp(name, "pid") ? getpid() : !strcmp(name, "ppid") ? getppid() : -1;
	if (!strcmp(name, "child"))
		pid = p->child;
	if (pid < 0)
		return NULL;
	snprintf(number, 24, "%d", (int)pid);
	return number;
}

/* A copy of arg with every @name@ replaced; unknown names stay as they are. */
static char *substitute(struct puppet *p, const char *arg)
{
	char number[24];
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	if (!out)
		puppet_fail("memory");
	while (*arg) {
		const char *end = *arg == '@' ? strchr(arg + 1, '@') : NULL;
		char name[64] = "";
		if (end && end - arg - 1 < (long)sizeof(name))
			memcpy(name, arg + 1, end - arg - 1);
		const char *value = name[0] ? lookup(p, name, number) : NULL;
		if (value) {
			fputs(value, out);
			arg = end + 1;
		} else {
			fputc(*arg++, out);
		}
	}
	fclose(out);
	return text;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct verb *v = tables[t]; v->name; v++)
			if (!strcmp(v->name, name))
				return v;
	return NULL;
}

/* The words between "[" at script.at[i] and its "]"; *i is moved to the "]". */
static struct words take_body(struct words script, int *i)
{
	int depth = 0;
	for (int j = *i; j < script.n; j++) {
		if (!strcmp(script.at[j], "["))
			depth++;
		if (!strcmp(script.at[j], "]") && --depth == 0) {
			struct words body = { script.at + *i + 1, j - *i - 1 };
			*i = j;
			return body;
		}
	}
	bad_script("no closing bracket", script.at[*i]);
}

void puppet_run(struct puppet *p, struct words script)
{
	for (int i = 0; i < script.n; i++) {
		char *word = strdup(script.at[i]);
		if (!word)
			puppet_fail("memory");
		char *value = strchr(word, '=');
		if (value)
			*value++ = '\0';
		const struct verb *verb = find_verb(word);
		if (!verb)
			bad_script("unknown verb", word);
		struct words body = { 0 };
		if (i + 1 < script.n && !strcmp(script.at[i + 1], "[")) {
			i++;
			body = take_body(script, &i);
		}
		if (!strcmp(word, "exec") || !strcmp(word, "exec-clean")) {
			body = (struct words){ script.at + i + 1, script.n - i - 1 };
			i = script.n;
		}
		char *arg = value ? substitute(p, value) : NULL;
		verb->run(p, arg, body);
		free(arg);
		free(word);
	}
}

int main(int argc, char **argv, char **env)
{
	struct puppet p = {
		.argc = argc,
		.argv = argv,
		.env = env,
		.notify_socket = getenv("NOTIFY_SOCKET") ? strdup(getenv("NOTIFY_SOCKET")) : NULL,
		.index = strdup(getenv("REEVE_INDEX") ? getenv("REEVE_INDEX") : "0"),
		.incarnation =
			strdup(getenv("REEVE_INCARNATION") ? getenv("REEVE_INCARNATION") : "0"),
	};
	puppet_run(&p, (struct words){ argv + 1, argc - 1 });
	return 0;
}
