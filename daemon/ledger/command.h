/*
 * The words of the command that `reevectl run` was given, from the keeper to the manager: one memfd
 * (RF_COMMAND), each word with its NUL. They do not pass through the configuration, which is text:
 * an argument may be any bytes, and as many as the kernel takes.
 *
 * Since 0.2.0. Source: execve(2), memfd_create(2) 3.17.
 */
#ifndef REEVE_LEDGER_COMMAND_H
#define REEVE_LEDGER_COMMAND_H

/* A CLOEXEC memfd with the words up to the NULL, or -errno. */
int command_write(char *const *words);
/* The words, NULL-terminated, in one piece of memory: free(*ret). -EPROTO if there are none. */
int command_read(int fd, char ***ret);

#endif
