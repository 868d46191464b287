/*
 * Reading the channel: what a packet must look like, and what it says. Owns no state. Two tables
 * decide what is accepted: how long the data of each tag is, and which tags each type has;
 * everything else is framing. Loops over a packet go by checked lengths only.
 */
#include "lib/channel_layout.h"

#include <errno.h>
#include <string.h>

/* Bytes of each tag's data; 0: text, without NUL. */
static const unsigned char sizes[CHANNEL_TAGS] = {
	[CT_VERSIONS] = 8,    [CT_COUNT] = 4, [CT_GENERATION] = 4, [CT_LOAD_US] = 8,
	[CT_TASKS] = 4,	      [CT_RSS] = 8,   [CT_FDS] = 4,	   [CT_INDEX] = 4,
	[CT_INCARNATION] = 4, [CT_UMASK] = 4, [CT_NICE] = 4,	   [CT_LIMIT] = 24,
	[CT_PID] = 4,	      [CT_ERRNO] = 4, [CT_CODE] = 4,	   [CT_PROGRESS] = 16,
	[CT_JOBS] = 8,	      [CT_BUSY] = 4,
};

#define BIT(tag) (UINT64_C(1) << (tag))

enum request_rule { REQUEST_ZERO, REQUEST_SET, REQUEST_ANY };

#define FROM_BELOW (CHANNEL_TEMPLATE | CHANNEL_HOST)
#define FIGURES	   (BIT(CT_TASKS) | BIT(CT_RSS) | BIT(CT_FDS))
#define SLOT_NEWS  (BIT(CT_PROGRESS) | BIT(CT_JOBS) | BIT(CT_BUSY))

/* What a message of each type holds: tags it must have, may have once, may have often. */
static const struct shape {
	const char *name;
	unsigned char from;
	unsigned char request;
	uint64_t must, may, many;
} shapes[] = {
#define SHAPE(type, from, request, must, may, many)                                                \
	[CH_##type] = { #type, from, request, must, may, many }
	SHAPE(HELLO, CHANNEL_DAEMON | FROM_BELOW, REQUEST_ZERO, BIT(CT_VERSIONS),
	      BIT(CT_MODE) | BIT(CT_GROUP) | BIT(CT_COUNT) | BIT(CT_GENERATION) | BIT(CT_ENTRY) |
		      BIT(CT_PRELOAD_ERRORS) | BIT(CT_PATH) | BIT(CT_RUNTIME),
	      BIT(CT_PRELOAD) | BIT(CT_ALLOW_THREAD)),
	SHAPE(LOADING, FROM_BELOW, REQUEST_ZERO, BIT(CT_TEXT), 0, 0),
	SHAPE(READY, FROM_BELOW, REQUEST_ZERO, BIT(CT_LOAD_US) | FIGURES, 0,
	      BIT(CT_PRELOAD) | BIT(CT_ERROR)),
	SHAPE(FORK, CHANNEL_DAEMON, REQUEST_SET,
	      BIT(CT_NAME) | BIT(CT_INDEX) | BIT(CT_COUNT) | BIT(CT_INCARNATION) |
		      BIT(CT_GENERATION) | BIT(CT_FD_MAP),
	      BIT(CT_CWD) | BIT(CT_UMASK) | BIT(CT_NICE),
	      BIT(CT_ARG) | BIT(CT_ENV) | BIT(CT_LIMIT)),
	SHAPE(SPAWNED, CHANNEL_TEMPLATE, REQUEST_SET, BIT(CT_PID), BIT(CT_ERRNO), 0),
	SHAPE(FAILED, FROM_BELOW, REQUEST_ANY, BIT(CT_STAGE) | BIT(CT_ERRNO), BIT(CT_TEXT), 0),
	SHAPE(UNSAFE, CHANNEL_TEMPLATE, REQUEST_ANY, BIT(CT_TEXT), 0, BIT(CT_TEXT)),
	SHAPE(PING, CHANNEL_DAEMON, REQUEST_SET, 0, 0, 0),
	SHAPE(PONG, FROM_BELOW, REQUEST_SET, FIGURES, 0, 0),
	SHAPE(QUIT, CHANNEL_DAEMON, REQUEST_ZERO, 0, 0, 0),
	SHAPE(START, CHANNEL_DAEMON, REQUEST_SET,
	      BIT(CT_NAME) | BIT(CT_INDEX) | BIT(CT_INCARNATION),
	      BIT(CT_COUNT) | BIT(CT_GENERATION), BIT(CT_ENV)),
	SHAPE(SLOT, CHANNEL_HOST, REQUEST_ANY, BIT(CT_INDEX) | BIT(CT_INCARNATION) | BIT(CT_STATE),
	      BIT(CT_CODE) | BIT(CT_TEXT) | SLOT_NEWS, 0),
	SHAPE(STOP, CHANNEL_DAEMON, REQUEST_ZERO, 0, BIT(CT_INDEX) | BIT(CT_INCARNATION), 0),
	SHAPE(BORN, CHANNEL_WORKER, REQUEST_ZERO, BIT(CT_NAME), BIT(CT_PID), 0),
	SHAPE(FAIL, CHANNEL_WORKER, REQUEST_ZERO, BIT(CT_STAGE) | BIT(CT_ERRNO), BIT(CT_TEXT), 0),
	SHAPE(GO, CHANNEL_DAEMON, REQUEST_ZERO, 0, 0, 0),
#undef SHAPE
};

static const struct shape *shape_of(unsigned type)
{
	if (type >= sizeof(shapes) / sizeof(shapes[0]) || !shapes[type].name)
		return NULL;
	return &shapes[type];
}

const char *channel_type_name(unsigned type)
{
	const struct shape *s = shape_of(type);

	return s ? s->name : "?";
}

/* --- checking ------------------------------------------------------------------------------ */

static int refuse(const char **ret_why, const char *why)
{
	if (ret_why)
		*ret_why = why;
	return -EBADMSG;
}

static bool all_zero(const unsigned char *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (at[i])
			return false;
	return true;
}

static const char *check_fd_map(const unsigned char *data, size_t len, size_t n_fds)
{
	size_t n = len / sizeof(int32_t);

	if (len % sizeof(int32_t) || n != n_fds || n == 0)
		return "the map of descriptors does not match those that came";
	for (size_t i = 0; i < n; i++) {
		int32_t a, b;

		memcpy(&a, data + i * sizeof(a), sizeof(a));
		if (a < CHANNEL_FD_CGROUP || (a == CHANNEL_FD_OWN) != (i == 0))
			return "a wrong number in the map of descriptors";
		for (size_t k = 0; k < i; k++) {
			memcpy(&b, data + k * sizeof(b), sizeof(b));
			if (a == b)
				return "a number twice in the map of descriptors";
		}
	}
	return NULL;
}

static const char *check_data(unsigned tag, const unsigned char *data, size_t len, size_t n_fds)
{
	if (tag == CT_FD_MAP)
		return check_fd_map(data, len, n_fds);
	if (sizes[tag] > 0) {
		if (len != sizes[tag])
			return "a record of the wrong length";
	} else if (memchr(data, '\0', len)) {
		return "NUL in a text";
	}
	if (tag == CT_LIMIT && !all_zero(data + 4, 4))
		return "a field that has to be zero is not";
	return NULL;
}

/* The record at *at, framing checked; moves *at behind it. */
static const char *take_record(const unsigned char *bytes, size_t len, size_t *at,
			       struct record_header *ret, const unsigned char **ret_data)
{
	if (len - *at < RECORD_BYTES)
		return "bytes behind the last record";
	memcpy(ret, bytes + *at, sizeof(*ret));
	*at += RECORD_BYTES;
	if (ret->bytes > len - *at || padded(ret->bytes) > len - *at)
		return "a record longer than its packet";
	if (ret->flags & ~OPTIONAL)
		return "unknown flags of a record";
	*ret_data = bytes + *at;
	if (!all_zero(*ret_data + ret->bytes, padded(ret->bytes) - ret->bytes))
		return "padding that is not zero";
	*at += padded(ret->bytes);
	return NULL;
}

static const char *check_records(const struct shape *s, const unsigned char *bytes, size_t len,
				 size_t n_fds)
{
	uint64_t known = s->must | s->may | s->many, seen = 0;
	struct record_header r;
	const unsigned char *data;
	const char *why;

	for (size_t at = 0; at < len;) {
		uint64_t bit;

		why = take_record(bytes, len, &at, &r, &data);
		if (why)
			return why;
		bit = r.tag < CHANNEL_TAGS ? BIT(r.tag) : 0;
		if (!(bit & known)) {
			if (!(r.flags & OPTIONAL))
				return "a record that this type of message does not have";
			continue;
		}
		if ((bit & seen) && !(bit & s->many))
			return "a record twice";
		why = check_data(r.tag, data, r.bytes, n_fds);
		if (why)
			return why;
		seen |= bit;
	}
	if (s->must & ~seen)
		return "a record is missing";
	return n_fds > 0 && !(seen & BIT(CT_FD_MAP)) ? "descriptors that nobody asked for" : NULL;
}

int channel_parse_bytes(const void *bytes, size_t len, size_t n_fds, enum channel_side from,
			struct channel_message *ret, const char **ret_why)
{
	const struct shape *s;
	const char *why;
	struct header h;

	if (len < HEADER_BYTES || len > CHANNEL_BYTES_MAX)
		return refuse(ret_why, "not as long as a packet is");
	memcpy(&h, bytes, sizeof(h));
	if (h.bytes != len)
		return refuse(ret_why, "the length in the header is not the packet's");
	if (h.flags || h.zero)
		return refuse(ret_why, "a field that has to be zero is not");
	s = shape_of(h.type);
	if (!s)
		return refuse(ret_why, "an unknown type of message");
	if (!(s->from & from))
		return refuse(ret_why, "a type of message that is not this side's to send");
	if (s->request != REQUEST_ANY && (h.request != 0) != (s->request == REQUEST_SET))
		return refuse(ret_why, "a wrong request number");
	why = check_records(s, (const unsigned char *)bytes + HEADER_BYTES, len - HEADER_BYTES,
			    n_fds);
	if (why)
		return refuse(ret_why, why);
	*ret = (struct channel_message){ .type = h.type,
					 .request = h.request,
					 .records = (const unsigned char *)bytes + HEADER_BYTES,
					 .len = len - HEADER_BYTES };
	return 0;
}

int channel_parse(const struct channel_packet *p, enum channel_side from,
		  struct channel_message *ret, const char **ret_why)
{
	return channel_parse_bytes(p->bytes, p->len, p->n_fds, from, ret, ret_why);
}

/* --- reading ------------------------------------------------------------------------------- */

bool channel_next(const struct channel_message *m, size_t *at, struct channel_record *ret)
{
	const struct shape *s = shape_of(m->type);
	uint64_t known = s->must | s->may | s->many;
	struct record_header r;
	const unsigned char *data;

	while (*at < m->len && !take_record(m->records, m->len, at, &r, &data)) {
		if (r.tag >= CHANNEL_TAGS || !(BIT(r.tag) & known))
			continue;
		*ret = (struct channel_record){ r.tag, data, r.bytes };
		return true;
	}
	return false;
}

bool channel_find(const struct channel_message *m, enum channel_tag tag, size_t n,
		  struct channel_record *ret)
{
	struct channel_record r;

	for (size_t at = 0; channel_next(m, &at, &r);) {
		if (r.tag == tag && n-- == 0) {
			*ret = r;
			return true;
		}
	}
	return false;
}

size_t channel_count(const struct channel_message *m, enum channel_tag tag)
{
	struct channel_record r;
	size_t n = 0;

	for (size_t at = 0; channel_next(m, &at, &r);)
		n += r.tag == tag;
	return n;
}

/* The size was checked: a tag is read as what it is. */
static bool get(const struct channel_message *m, enum channel_tag tag, void *ret, size_t len)
{
	struct channel_record r;

	if (!channel_find(m, tag, 0, &r) || r.len != len)
		return false;
	memcpy(ret, r.data, len);
	return true;
}

uint32_t channel_u32(const struct channel_message *m, enum channel_tag tag, uint32_t absent)
{
	uint32_t value;

	return get(m, tag, &value, sizeof(value)) ? value : absent;
}

int32_t channel_i32(const struct channel_message *m, enum channel_tag tag, int32_t absent)
{
	int32_t value;

	return get(m, tag, &value, sizeof(value)) ? value : absent;
}

uint64_t channel_u64(const struct channel_message *m, enum channel_tag tag, uint64_t absent)
{
	uint64_t value;

	return get(m, tag, &value, sizeof(value)) ? value : absent;
}

bool channel_u64_pair(const struct channel_message *m, enum channel_tag tag, uint64_t *ret_a,
		      uint64_t *ret_b)
{
	uint64_t pair[2];

	if (!get(m, tag, pair, sizeof(pair)))
		return false;
	*ret_a = pair[0];
	*ret_b = pair[1];
	return true;
}

size_t channel_text(const struct channel_message *m, enum channel_tag tag, char *ret, size_t size)
{
	struct channel_record r;
	size_t n;

	ret[0] = '\0';
	if (!channel_find(m, tag, 0, &r))
		return 0;
	n = r.len < size ? r.len : size - 1;
	memcpy(ret, r.data, n);
	ret[n] = '\0';
	return r.len;
}

bool channel_text_is(const struct channel_message *m, enum channel_tag tag, const char *word)
{
	struct channel_record r;

	return channel_find(m, tag, 0, &r) && r.len == strlen(word) &&
	       memcmp(r.data, word, r.len) == 0;
}

struct channel_limit channel_limit_of(const struct channel_record *r)
{
	struct channel_limit limit;

	memcpy(&limit, r->data, sizeof(limit));
	return limit;
}

int32_t channel_fd_target(const struct channel_message *m, size_t i)
{
	struct channel_record r;
	int32_t target;

	if (!channel_find(m, CT_FD_MAP, 0, &r) || (i + 1) * sizeof(target) > r.len)
		return INT32_MIN;
	memcpy(&target, r.data + i * sizeof(target), sizeof(target));
	return target;
}

int channel_version(const struct channel_message *m)
{
	uint32_t range[2];

	if (!get(m, CT_VERSIONS, range, sizeof(range)) || range[0] > range[1] ||
	    range[0] > CHANNEL_VERSION || range[1] < CHANNEL_VERSION)
		return -EPROTONOSUPPORT;
	return (int)CHANNEL_VERSION;
}
