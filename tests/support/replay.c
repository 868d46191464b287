/*
 * Gives every file of some directories to a fuzz harness, one after the other (TAP). With it the
 * corpora are tests of every build, also of those without libFuzzer.
 */
#include "base/fd.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define BYTES_MAX (64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int is_file(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* 1 = given, 0 = no file. */
static int give(int dir, const char *name)
{
	auto_fd fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	auto_free char *text = NULL;
	size_t len;

	if (fd < 0 || fd_read_all(fd, BYTES_MAX, &text, &len) < 0)
		return 0;
	/* An exact copy, so that a sanitizer sees reads behind the end. */
	auto_free uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		return 0;
	memcpy(copy, text, len);
	LLVMFuzzerTestOneInput(copy, len);
	return 1;
}

int main(int argc, char **argv)
{
	int given = 0;

	for (int i = 1; i < argc; i++) {
		auto_fd dir = open(argv[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		struct dirent **names = NULL;
		int n = dir < 0 ? -1 : scandir(argv[i], &names, is_file, alphasort);

		if (n < 0) {
			printf("Bail out! %s: %s\n", argv[i], strerror(errno));
			return 1;
		}
		for (int k = 0; k < n; k++) {
			if (give(dir, names[k]->d_name))
				printf("ok %d - %s\n", ++given, names[k]->d_name);
			fflush(stdout);
			free(names[k]);
		}
		free(names);
	}
	printf("1..%d\n", given);
	return given > 0 ? 0 : 1;
}
