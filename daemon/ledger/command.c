/* The words of a command in a memfd: written once, read by every manager. */
#include "ledger/command.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <string.h>

/* execve(2) takes at most a quarter of the stack limit, or 6 MiB. */
#define COMMAND_MAX (8u << 20)

int command_write(char *const *words)
{
	auto_fd fd = fd_memfd("reeve-command", 0);
	auto_str text = { 0 };
	int err;

	if (fd < 0)
		return fd;
	for (; *words; words++)
		str_add_bytes(&text, *words, strlen(*words) + 1);
	if (text.failed)
		return -ENOMEM;
	err = fd_write_all(fd, text.data, text.len);
	return err < 0 ? err : give_fd(&fd);
}

int command_read(int fd, char ***ret)
{
	auto_free char *text = NULL;
	size_t len, n = 0, at = 0;
	char **words;
	int err;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	err = fd_read_all(fd, COMMAND_MAX, &text, &len);
	if (err < 0)
		return err;
	if (len == 0 || text[len - 1] != '\0')
		return -EPROTO;
	for (size_t i = 0; i < len; i++)
		n += text[i] == '\0';
	words = malloc((n + 1) * sizeof(*words) + len);
	if (!words)
		return -ENOMEM;
	memcpy(words + n + 1, text, len);
	for (size_t i = 0; i < n; i++) {
		words[i] = (char *)(words + n + 1) + at;
		at += strlen(words[i]) + 1;
	}
	words[n] = NULL;
	*ret = words;
	return 0;
}
