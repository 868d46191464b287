/*
 * Packets of the channel, as a template or a worker gone mad may send them. The first byte says who
 * sends (the low two bits) and with how many descriptors; the packet is behind it.
 */
#include "base/mem.h"
#include "lib/channel.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

/* What a getter may be asked of any message. */
static void ask_everything(const struct channel_message *m)
{
	char text[17];
	uint64_t a, b;

	for (unsigned tag = 0; tag < CHANNEL_TAGS; tag++) {
		struct channel_record r;
		size_t n = channel_count(m, tag);

		must(channel_find(m, tag, n, &r) == false);
		must(n == 0 || channel_find(m, tag, n - 1, &r));
		channel_u32(m, tag, 1);
		channel_i32(m, tag, 1);
		channel_u64(m, tag, 1);
		channel_u64_pair(m, tag, &a, &b);
		channel_text_is(m, tag, "web:0");
		channel_text(m, tag, text, sizeof(text));
		must(memchr(text, '\0', sizeof(text)) != NULL);
	}
	if (m->type == CH_HELLO)
		must(channel_version(m) == 1 || channel_version(m) == -EPROTONOSUPPORT);
}

static void check_map(const struct channel_message *m, size_t n_fds)
{
	for (size_t i = 0; i < n_fds; i++) {
		int32_t target = channel_fd_target(m, i);

		must(target >= CHANNEL_FD_CGROUP && (target == CHANNEL_FD_OWN) == (i == 0));
	}
	must(channel_fd_target(m, n_fds) == INT32_MIN);
}

/* What was understood, said again, is the same message. */
static void say_again(const struct channel_message *m, size_t n_fds, enum channel_side from)
{
	static struct channel_packet p;
	struct channel_message again;
	struct channel_record r, s;
	size_t i = 0, k = 0;

	channel_begin(&p, m->type, m->request);
	for (size_t at = 0; channel_next(m, &at, &r);) {
		must(r.data >= m->records && r.data + r.len <= m->records + m->len);
		if (r.tag == CT_LIMIT)
			must(channel_limit_of(&r).zero == 0);
		channel_add(&p, r.tag, r.data, r.len);
	}
	must(p.error == 0);
	must(channel_parse_bytes(p.bytes, p.len, n_fds, from, &again, NULL) == 0);
	while (channel_next(m, &i, &r)) {
		must(channel_next(&again, &k, &s));
		must(r.tag == s.tag && r.len == s.len && memcmp(r.data, s.data, r.len) == 0);
	}
	must(!channel_next(&again, &k, &s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct channel_message m;
	const char *why = NULL;
	enum channel_side from;
	size_t n_fds;
	int r;

	if (size == 0)
		return 0;
	from = 1u << (data[0] & 3);
	n_fds = data[0] >> 2;
	/* an exact copy: a read beyond the end is seen by the sanitizer */
	auto_free uint8_t *bytes = malloc(size);

	memcpy(bytes, data + 1, size - 1);
	r = channel_parse_bytes(bytes, size - 1, n_fds, from, &m, &why);
	must(r == 0 || (r == -EBADMSG && why && why[0]));
	if (r < 0)
		return 0;
	must(strcmp(channel_type_name(m.type), "?") != 0);
	ask_everything(&m);
	if (m.type == CH_FORK)
		check_map(&m, n_fds);
	say_again(&m, n_fds, from);
	return 0;
}
