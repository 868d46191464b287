/* The helper that loads (loader.h): its limits, its result, and the reading of that result. */
#include "loader.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "json.h"
#include "report.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define EXIT_CONFIG 78

static const struct {
	const char *text;
	size_t offset;
} switches[] = {
	{ "--offline", offsetof(struct conf_load_options, offline) },
	{ "--user", offsetof(struct conf_load_options, user) },
	{ "--pid1", offsetof(struct conf_load_options, pid1) },
};

void loader_argv(const char *path, const struct conf_load_options *o, const char *argv[static 8])
{
	int n = 0;

	argv[n++] = LOADER_NAME;
	for (size_t i = 0; i < ARRAY_LEN(switches); i++)
		if (*(const bool *)((const char *)o + switches[i].offset))
			argv[n++] = switches[i].text;
	argv[n++] = path;
	argv[n] = NULL;
}

static int parse_argv(int argc, char **argv, struct conf_load_options *o, const char **ret_path)
{
	for (int i = 1; i + 1 < argc; i++) {
		size_t s = 0;

		while (s < ARRAY_LEN(switches) && strcmp(switches[s].text, argv[i]) != 0)
			s++;
		if (s == ARRAY_LEN(switches))
			return -EINVAL;
		*(bool *)((char *)o + switches[s].offset) = true;
	}
	if (argc < 2)
		return -EINVAL;
	*ret_path = argv[argc - 1];
	return 0;
}

/* A sanitizer reserves terabytes of address space and must not be limited. */
static bool sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__)
	return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
	return true;
#else
	return false;
#endif
#else
	return false;
#endif
}

static void set_limits(void)
{
	struct rlimit cpu = { LOADER_CPU_S, LOADER_CPU_S + 1 };
	struct rlimit memory = { LOADER_MEMORY_BYTES, LOADER_MEMORY_BYTES };
	struct rlimit none = { 0, 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CPU, &cpu);
	setrlimit(RLIMIT_CORE, &none);
	if (!sanitized())
		setrlimit(RLIMIT_DATA, &memory);
}

static json_t *write_problems(const struct conf_report *r)
{
	json_t *array = json_array();

	for (size_t i = 0; i < r->n; i++) {
		const struct diag *d = &r->items[i].at;
		char file[sizeof(d->file) * 4], text[sizeof(d->text) * 4];

		/* JSON holds UTF-8 only; a path or a token may be anything. */
		str_escape(d->file, strlen(d->file), file, sizeof(file));
		str_escape(d->text, strlen(d->text), text, sizeof(text));
		json_array_append_new(array, json_pack("{s:s, s:i, s:s, s:b}", "file", file, "line",
						       d->line, "text", text, "warning",
						       r->items[i].warning));
	}
	return array;
}

static json_t *write_boot(const struct conf *c)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "runtime_dir", c->daemon.runtime_dir, "cgroup",
			 conf_word(CONF_WORDS_CGROUP, c->daemon.cgroup), "log_level",
			 conf_word(CONF_WORDS_LEVEL, c->daemon.log_level), "log_to",
			 c->daemon.log_to);
}

static char *write_result(const struct conf *c, const struct conf_report *r)
{
	json_t *root = json_object();
	char *text;

	json_object_set_new(root, "problems", write_problems(r));
	json_object_set_new(root, "conf", c ? conf_to_json_value(c) : json_null());
	if (c)
		json_object_set_new(root, "boot", write_boot(c));
	text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return text;
}

/* Made without jansson, which has nothing left to make it of. */
static char *out_of_memory(void)
{
	return strdup("{\"problems\":[{\"file\":\"\",\"line\":0,\"warning\":false,\"text\":"
		      "\"loading needs more memory than the loader may have\"}],\"conf\":null}");
}

int loader_main(int argc, char **argv)
{
	struct conf_load_options options = { 0 };
	struct conf_report report = { 0 };
	struct conf *c = NULL;
	const char *path;
	char *text;
	int err;

	if (parse_argv(argc, argv, &options, &path) < 0)
		return 2;
	set_limits();
	err = conf_load(path, &options, &c, &report);
	text = err == -ENOMEM ? NULL : write_result(c, &report);
	conf_free(c);
	conf_report_fini(&report);
	if (!text) {
		err = -ENOMEM;
		text = out_of_memory();
	}
	if (text && fd_write_all(STDOUT_FILENO, text, strlen(text)) < 0)
		err = -EIO;
	free(text);
	return err == 0 ? 0 : err == -EINVAL ? EXIT_CONFIG : 1;
}

static void read_problems(json_t *list, struct conf_report *report)
{
	json_t *p;
	size_t i;

	json_array_foreach(list, i, p)
	{
		const char *file = json_string_value(json_object_get(p, "file"));
		const char *text = json_string_value(json_object_get(p, "text"));

		report_add(report, json_is_true(json_object_get(p, "warning")), file,
			   (int)json_integer_value(json_object_get(p, "line")), "%s",
			   text ? text : "");
	}
}

/* What a helper that came to no result died of. */
static int broken(int status, const char *path, struct conf_report *report)
{
	char name[12];

	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
		report_add(report, false, path, 0,
			   "loading took more than %d s of CPU time and was ended", LOADER_CPU_S);
	else if (WIFSIGNALED(status))
		report_add(report, false, path, 0,
			   "the loader was ended by SIG%s (it may take %d s and %lld MiB)",
			   signal_to_name(WTERMSIG(status), name), LOADER_DEADLINE_MS / 1000,
			   LOADER_MEMORY_BYTES >> 20);
	else
		report_add(report, false, path, 0, "the loader gave no result (exit code %d)",
			   WEXITSTATUS(status));
	return -EINVAL;
}

int loader_result(const char *text, size_t len, int wait_status, const char *path,
		  struct conf **ret, struct conf_report *report)
{
	json_t *root = json_loadb(text, len, 0, NULL), *c;
	struct diag d;
	int err;

	if (!json_is_object(root)) {
		json_decref(root);
		return broken(wait_status, path, report);
	}
	read_problems(json_object_get(root, "problems"), report);
	c = json_object_get(root, "conf");
	if (json_is_object(c) && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) {
		err = conf_from_json_value(c, ret, &d);
		if (err < 0)
			report_add(report, false, path, 0, "%s", d.text);
	} else {
		err = -EINVAL;
		if (report->errors == 0)
			broken(wait_status, path, report);
	}
	json_decref(root);
	return err;
}
