/* Owns the reading of one file. libconfig only ever sees text that the scan has passed. */
#include "source.h"

#include "base/fd.h"
#include "base/mem.h"
#include "open.h"
#include "scan.h"

#include <errno.h>
#include <string.h>

void source_fini(struct source *s)
{
	if (s->parsed)
		config_destroy(&s->tree);
	free(s->path);
	free(s->dir);
	*s = (struct source){ 0 };
}

static int parse(struct source *s, const char *text, struct conf_report *report)
{
	config_init(&s->tree);
	if (config_read_string(&s->tree, text) == CONFIG_TRUE) {
		s->parsed = true;
		return 0;
	}
	/* The scan lets nothing pass that the library refuses; but it is not the library. */
	report_add(report, false, s->path, config_error_line(&s->tree), "%s",
		   config_error_text(&s->tree) ? config_error_text(&s->tree) : "not readable");
	config_destroy(&s->tree);
	return -EINVAL;
}

static int split_path(struct source *s, const char *path)
{
	const char *slash = strrchr(path, '/');

	s->path = strdup(path);
	s->dir = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
	return s->path && s->dir ? 0 : -ENOMEM;
}

int source_parse(const char *path, const char *text, size_t len, struct conf_report *report,
		 struct source *ret)
{
	struct source s = { 0 };
	auto_str plain = { 0 };
	int err = split_path(&s, path), found = 0;

	if (err == 0)
		found = scan_text(text, len, path, report, &plain);
	if (err == 0 && found != -ENOMEM && plain.data)
		err = parse(&s, plain.data, report);
	if (found == -ENOMEM || err == -ENOMEM) {
		source_fini(&s);
		return -ENOMEM;
	}
	*ret = s;
	return found < 0 ? found : err;
}

int source_read(const char *path, const char *place_file, int place_line,
		const struct conf_load_options *options, struct conf_report *report,
		struct source *ret)
{
	auto_free char *text = NULL;
	struct diag d;
	size_t len;
	dev_t dev;
	ino_t ino;
	int err;

	auto_fd fd = open_checked(path, options, report, &dev, &ino, &d);

	err = fd < 0 ? fd : 0;
	if (err == 0 && !str_utf8_valid(path, strlen(path))) /* it goes into JSON and into %d */
		err = diag_set(&d, -EINVAL, "the path of a configuration file has to be UTF-8");
	if (err < 0) {
		report_add(report, false, place_file, place_line, "%s", d.text);
		return -EINVAL;
	}
	err = fd_read_all(fd, SOURCE_BYTES_MAX, &text, &len);
	if (err == -ENOMEM)
		return err;
	if (err < 0) {
		report_add(report, false, path, 0, "%s",
			   err == -EFBIG ? "larger than 4 MiB; split it with include"
					 : strerror(-err));
		return -EINVAL;
	}
	err = source_parse(path, text, len, report, ret);
	if (err != -ENOMEM) {
		ret->dev = dev;
		ret->ino = ino;
		ret->bytes = len;
	}
	return err;
}
