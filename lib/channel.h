/*
 * The channel between the daemon and a template, a host of threads or a forked worker
 * (reeve-template(7)): one packet of a SOCK_SEQPACKET socket is one message, a header and records.
 *
 *   header  u16 type, u16 flags (0), u32 bytes of the packet, u32 request, u32 zero
 *   record  u16 tag, u16 flags (bit 0: optional), u32 bytes of data, data, zeros up to a multiple
 * of 8
 *
 * Nothing here allocates, blocks or logs; it depends on libc alone. A message that channel_parse()
 * accepted has every record that its type needs, each of the right size and none too often, so that
 * the getters below need no checks of their own. Text is not checked to be UTF-8 and may hold
 * control characters: escape it before showing it.
 *
 * Errors are -errno; everything that is wrong with a packet is -EBADMSG with a sentence that says
 * what. Since 0.2.0. Sources: unix(7), SCM_PIDFD: Linux 6.5.
 */
#ifndef REEVE_LIB_CHANNEL_H
#define REEVE_LIB_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CHANNEL_VERSION	  1u
#define CHANNEL_BYTES_MAX 65536		  /* of a packet */
#define CHANNEL_FDS_MAX	  253		  /* of a packet; SCM_MAX_FD in the kernel */
#define CHANNEL_ENV	  "REEVE_CHANNEL" /* the variable that holds the number of the fd */

enum channel_type {
	CH_HELLO = 1,
	CH_LOADING = 2,
	CH_READY = 3,
	CH_FORK = 4,
	CH_SPAWNED = 5,
	CH_FAILED = 6,
	CH_UNSAFE = 7,
	CH_PING = 8,
	CH_PONG = 9,
	CH_QUIT = 10,
	CH_START = 11,
	CH_SLOT = 12,
	CH_STOP = 13,
	CH_BORN = 32,
	CH_FAIL = 33,
	CH_GO = 34,
};

enum channel_tag {
	CT_VERSIONS = 1, /* u32 min, u32 max */
	CT_MODE,	 /* "template", "seed", "threads" */
	CT_GROUP,
	CT_COUNT,      /* u32 */
	CT_GENERATION, /* u32 */
	CT_ENTRY,
	CT_PRELOAD,
	CT_PRELOAD_ERRORS, /* "fail", "warn" */
	CT_ALLOW_THREAD,
	CT_PATH,
	CT_RUNTIME,
	CT_TEXT,
	CT_LOAD_US, /* u64 */
	CT_TASKS,   /* u32 */
	CT_RSS,	    /* u64 bytes */
	CT_FDS,	    /* u32 */
	CT_ERROR,
	CT_NAME,
	CT_INDEX,	/* u32 */
	CT_INCARNATION, /* u32 */
	CT_ARG,
	CT_ENV,
	CT_CWD,
	CT_UMASK,  /* u32 */
	CT_NICE,   /* i32 */
	CT_LIMIT,  /* struct channel_limit */
	CT_FD_MAP, /* i32 each: CHANNEL_FD_* or the number that the fd gets in the worker */
	CT_PID,	   /* i32, a hint */
	CT_STAGE,
	CT_ERRNO, /* i32 */
	CT_STATE,
	CT_CODE,     /* i32 */
	CT_PROGRESS, /* u64 done, u64 total */
	CT_JOBS,     /* u64 */
	CT_BUSY,     /* u32 */
	CHANNEL_TAGS,
};

#define CHANNEL_FD_OWN	  (-1) /* in CT_FD_MAP: the worker's own channel, always the first */
#define CHANNEL_FD_CGROUP (-2) /* a directory fd of the worker's cgroup, not kept by the worker */

/* Who sent a packet; a type that its sender may not send is wrong. */
enum channel_side {
	CHANNEL_DAEMON = 1,
	CHANNEL_TEMPLATE = 2, /* a seed is one */
	CHANNEL_HOST = 4,
	CHANNEL_WORKER = 8,
};

struct channel_limit {
	uint32_t resource; /* RLIMIT_* */
	uint32_t zero;
	uint64_t soft, hard; /* UINT64_MAX = unlimited */
};

/*
 * A packet to be sent, or one that was received. 66 KiB: it may stand on the stack. In a received
 * packet the fds and the pidfd belong to the packet until they are taken (set to -1);
 * channel_packet_fini() closes what is left. In one to be sent they belong to the caller.
 */
struct channel_packet {
	size_t len;
	int error; /* of an addition that did not fit; channel_send() returns it */
	int fds[CHANNEL_FDS_MAX];
	size_t n_fds;
	/* received only */
	pid_t pid; /* of the sender, in our pid namespace; 0: not known */
	uid_t uid;
	int pidfd; /* of the sender; -1: not known */
	/* last: a short packet lies in one or two pages, each of which a worker has to copy */
	_Alignas(8) unsigned char bytes[CHANNEL_BYTES_MAX];
};

/* --- sending ------------------------------------------------------------------------------- */

void channel_begin(struct channel_packet *p, enum channel_type type, uint32_t request);
void channel_add(struct channel_packet *p, enum channel_tag tag, const void *data, size_t len);
/* As channel_add, but a receiver that does not know the tag (in this message) skips it. */
void channel_add_optional(struct channel_packet *p, unsigned tag, const void *data, size_t len);
void channel_add_text(struct channel_packet *p, enum channel_tag tag, const char *text);
void channel_add_u32(struct channel_packet *p, enum channel_tag tag, uint32_t value);
void channel_add_i32(struct channel_packet *p, enum channel_tag tag, int32_t value);
void channel_add_u64(struct channel_packet *p, enum channel_tag tag, uint64_t value);
void channel_add_u64_pair(struct channel_packet *p, enum channel_tag tag, uint64_t a, uint64_t b);
void channel_add_limit(struct channel_packet *p, uint32_t resource, uint64_t soft, uint64_t hard);
/* CT_VERSIONS as this library speaks them. */
void channel_add_versions(struct channel_packet *p);
/* Pass fds; map[i] says what fds[i] becomes. Once a packet, only with CH_FORK. */
void channel_add_fds(struct channel_packet *p, const int *fds, const int32_t *map, size_t n);
/* Bytes that are left for one record's data. */
size_t channel_room(const struct channel_packet *p);
/*
 * Send without blocking. -EAGAIN: the socket is full, -EPIPE: nobody there, -EMSGSIZE: something
 * did not fit, nothing was sent.
 */
int channel_send(int sock, const struct channel_packet *p);

/* --- receiving ----------------------------------------------------------------------------- */

/*
 * Ask for the sender's credentials (SO_PASSCRED) and, where the kernel has it, its pidfd
 * (SO_PASSPIDFD), with every packet. Before the other end can have sent anything.
 */
int channel_want_sender(int sock);
/*
 * Receive one packet without blocking. Returns its bytes; 0: the end; -EAGAIN; -EMFILE: fds were
 * lost on the way (ours are closed again); -EMSGSIZE: longer than a packet may be. Only when the
 * result is positive there is something for channel_packet_fini(), which is harmless otherwise.
 */
ssize_t channel_recv(int sock, struct channel_packet *p);
void channel_packet_fini(struct channel_packet *p);
#define auto_channel_packet __attribute__((cleanup(channel_packet_fini))) struct channel_packet
#define CHANNEL_PACKET_INIT ((struct channel_packet){ .pidfd = -1 })

/* A checked message; points into the bytes that it was parsed from. */
struct channel_message {
	enum channel_type type;
	uint32_t request;
	const unsigned char *records;
	size_t len;
};

struct channel_record {
	uint16_t tag;
	const unsigned char *data; /* aligned to 8 if the packet is */
	size_t len;
};

/* Check a received packet, its fds included. *ret_why (may be NULL) is never NULL after an error.
 */
int channel_parse(const struct channel_packet *p, enum channel_side from,
		  struct channel_message *ret, const char **ret_why);
/* The same for bytes alone that came with n_fds descriptors. */
int channel_parse_bytes(const void *bytes, size_t len, size_t n_fds, enum channel_side from,
			struct channel_message *ret, const char **ret_why);

/* The next record from *at on (0 to begin), without those that are skipped. */
bool channel_next(const struct channel_message *m, size_t *at, struct channel_record *ret);
/* The n-th record (from 0) with that tag. */
bool channel_find(const struct channel_message *m, enum channel_tag tag, size_t n,
		  struct channel_record *ret);
size_t channel_count(const struct channel_message *m, enum channel_tag tag);

uint32_t channel_u32(const struct channel_message *m, enum channel_tag tag, uint32_t absent);
int32_t channel_i32(const struct channel_message *m, enum channel_tag tag, int32_t absent);
uint64_t channel_u64(const struct channel_message *m, enum channel_tag tag, uint64_t absent);
/* False if there is none. */
bool channel_u64_pair(const struct channel_message *m, enum channel_tag tag, uint64_t *ret_a,
		      uint64_t *ret_b);
/* Copy text, cut to fit, always terminated. Its whole length; 0 if there is none. */
size_t channel_text(const struct channel_message *m, enum channel_tag tag, char *ret, size_t size);
bool channel_text_is(const struct channel_message *m, enum channel_tag tag, const char *word);
/* From a record of CT_LIMIT. */
struct channel_limit channel_limit_of(const struct channel_record *r);
/* What fds[i] of a CH_FORK becomes; i below the n_fds that it came with. */
int32_t channel_fd_target(const struct channel_message *m, size_t i);
/* The highest version that both sides speak, from a CH_HELLO; -EPROTONOSUPPORT if there is none. */
int channel_version(const struct channel_message *m);

/* "HELLO", "FORK"…, "?" if unknown. */
const char *channel_type_name(unsigned type);

#endif
