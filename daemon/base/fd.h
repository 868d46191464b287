/* Files, memfds and descriptors over sockets. All return 0 (or a count, or an fd) or -errno. */
#ifndef REEVE_BASE_FD_H
#define REEVE_BASE_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Write all of buf, over EINTR and short writes. */
int fd_write_all(int fd, const void *buf, size_t len);
/* Read up to the end, at most max bytes (-EFBIG beyond), NUL added; free(*ret). */
int fd_read_all(int fd, size_t max, char **ret, size_t *ret_len);
/* Read a small file (proc, cgroup) relative to dirfd into buf, NUL-terminated; its length. */
ssize_t fd_read_at(int dirfd, const char *path, char *buf, size_t size);
/* Write text to an existing file (cgroup control files) relative to dirfd. */
int fd_write_at(int dirfd, const char *path, const char *text);
/* Write a file relative to dirfd so that readers see the old text or the new one, never a part. */
int fd_replace_at(int dirfd, const char *name, const char *text, mode_t mode);
/* A CLOEXEC memfd of the given size in bytes. */
int fd_memfd(const char *name, size_t bytes);
/* Map a whole shared memfd for reading and writing; *ret_bytes = its size. */
int fd_map(int fd, void **ret, size_t *ret_bytes);

/* Mark all fds from `first` on CLOEXEC; falls back from close_range(2) (5.11) to /proc/self/fd. */
int fd_cloexec_from(int first);
int fd_set_cloexec(int fd, bool on);
int fd_set_nonblock(int fd, bool on);
/* Open fds 0, 1, 2 on /dev/null where they are closed (SP16). The first thing main does. */
int fd_fill_stdio(void);

/* One message with up to n fds; -EAGAIN if it would block. */
int fd_send(int sock, const void *msg, size_t len, const int *fds, size_t n_fds);
/* One message, its fds CLOEXEC. Truncated fds are closed and -EMFILE returned (NW11).
 * Returns the bytes read; 0 at the end. *ret_n_fds on entry: room in fds. */
ssize_t fd_recv(int sock, void *msg, size_t size, int *fds, size_t *ret_n_fds);

#endif
