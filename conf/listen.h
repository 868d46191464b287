/* The notation of listening addresses: tcp://H:P tcp6://[H]:P unix:///p unix:@n. */
#ifndef REEVE_CONF_LISTEN_H
#define REEVE_CONF_LISTEN_H

#include <stddef.h>

/*
 * Check a template for one worker. -EINVAL with *why, and *mended where a
 * better value can be told ("" otherwise).
 */
int listen_check(const char *text, int index, char *why, size_t why_size, char *mended,
		 size_t mended_size);

#endif
