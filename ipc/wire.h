/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: the messages of ipc/PROTOCOL.md, and the one codec for them. */
#ifndef NARLOCK_WIRE_H
#define NARLOCK_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "ipc/err.h"
#include "ipc/limits.h"

#define WIRE_VERSION 2

enum wire_type {
	MSG_SEALED = 0x01,
	MSG_BEGIN = 0x02,
	MSG_STARTED = 0x03,
	MSG_SETTINGS = 0x10,
	MSG_SERVER = 0x12,
	MSG_TRUSTHOST = 0x14,
	MSG_LOOKUP = 0x16,
	MSG_CANDIDATE = 0x18,
	MSG_ORDER = 0x1a,
	MSG_CANCEL = 0x1c,
	MSG_ADDRESSES = 0x1e,
	MSG_NARINFO_PART = 0x13,
	MSG_NARINFO_END = 0x15,
	MSG_NAR_BEGIN = 0x17,
	MSG_NAR_PROGRESS = 0x19,
	MSG_NAR_END = 0x1b,
	MSG_RESOLVE = 0x1d,
	MSG_UNPACK = 0x20,
	MSG_UNPACKED = 0x23,
	MSG_OPTION = 0x50,
	MSG_PROBE = 0x52,
	MSG_PROBED = 0x51,
	MSG_LIAR = 0x53,
	MSG_CHECK = 0x54,
	MSG_CHECKED = 0x55,
	MSG_LOOKUP_HOST = 0x30,
	MSG_HOST_ADDRESSES = 0x31,
	MSG_SPAWN = 0x40,
	MSG_KILL = 0x42,
	MSG_SPAWNED = 0x41,
	MSG_CHANNEL = 0x43,
	MSG_REFUSED = 0x45,
	MSG_EXITED = 0x47,
	MSG_CONNECTED = 0x49,
};

/* What LIAR tells: a source lied; an untrusted URL was refused; one was asked through a proxy. */
enum liar_status { LIAR_LIED, LIAR_REFUSED, LIAR_BY_NAME };
enum narinfo_status { NARINFO_FOUND, NARINFO_ABSENT, NARINFO_FAILED, NARINFO_DEAD };
enum nar_status { NAR_DONE, NAR_FAILED, NAR_EXHAUSTED, NAR_CANCELLED };
enum server_kind { SERVER_TRUSTED, SERVER_UNTRUSTED, SERVER_INDEX };
enum probe_status { PROBE_ABSENT, PROBE_FOUND };
enum check_status { CHECK_USABLE, CHECK_NOTE, CHECK_USELESS, CHECK_SUM };
enum unpack_status { UNPACK_DONE, UNPACK_FAILED };
enum nar_method { METHOD_NONE = 1, METHOD_GZIP, METHOD_LZIP, METHOD_ZSTD };
enum helper_kind { KIND_FETCH = 1, KIND_UNPACK, KIND_RESOLVE };

#define TTL_NOT_TOLD UINT32_MAX
#define NO_CANDIDATE UINT16_MAX
#define ADDRESS_BYTES 17
#define HASH_PART_BYTES 32

/* A str or blob.  In a received message it points into the frame buffer (valid until the next receive on
 * that channel) and is not NUL-terminated; in one to send it points wherever the caller likes. */
struct wire_bytes {
	const uint8_t *data;
	size_t len;
};

/* One message.  Which fields count depends on `type'; the table in wire.c is PROTOCOL.md as code.
 * The fields are shared by name: `id' is the same member in every message that has an id. */
struct wire_msg {
	uint16_t type;
	uint8_t status;     /* NARINFO_END, NAR_END, PROBED, CHECKED, UNPACKED, ADDRESSES, HOST_ADDRESSES */
	uint8_t method;     /* NAR_BEGIN, UNPACK */
	uint8_t kind;       /* SPAWN, SPAWNED, REFUSED: enum helper_kind; SERVER: enum server_kind */
	uint8_t which;      /* CHANNEL: the helper's descriptor number */
	uint8_t tls_verify; /* SETTINGS */
	uint8_t others;     /* ORDER */
	uint8_t window_log; /* UNPACK */
	uint16_t index;     /* SERVER, CANDIDATE */
	uint16_t server;    /* LOOKUP, CANDIDATE */
	uint16_t candidate; /* NAR_BEGIN, NAR_END */
	uint16_t version, landlock_abi, filter_len; /* SEALED */
	uint32_t id;        /* LOOKUP ... NAR_END, PROBE, PROBED */
	uint32_t layers;    /* SEALED */
	uint32_t ttl;       /* NARINFO_END */
	uint32_t stall_ms, min_rate, connect_ms; /* SETTINGS */
	uint32_t missed, repaired, reinserted; /* NAR_END: blocks */
	uint32_t dictionary; /* UNPACK */
	uint32_t slot, pid, error, wait_status; /* spawner */
	uint64_t nar_size, max_bytes; /* ORDER; UNPACK: max_bytes is max_out */
	uint64_t size;      /* CANDIDATE: file_size; NAR_BEGIN */
	uint64_t bytes;     /* NAR_PROGRESS, NAR_END; UNPACKED: in */
	uint64_t out;       /* UNPACKED */
	uint8_t hash_part[HASH_PART_BYTES]; /* LOOKUP, ORDER */
	struct wire_bytes text;  /* the first str: url, host, reason, note, source, http_proxy, compression, key, eris of PROBE */
	struct wire_bytes text2; /* the second str: https_proxy; url of CANDIDATE; value; manifest of PROBE; reason of LIAR, CHECKED */
	struct wire_bytes eris, manifest; /* CANDIDATE */
	struct wire_bytes blob;  /* data, addresses */
	struct ucred sender;     /* by wire_recv with WIRE_SENDER, from the kernel */
};

/* wire_str(s): a wire_bytes for the NUL-terminated S, which must live until it is sent. */
struct wire_bytes wire_str(const char *s);

/* wire_copy(dst, size, b): copy B as a NUL-terminated string, cut to fit; B has no NUL (checked on receipt). */
void wire_copy(char *dst, size_t size, struct wire_bytes b);

/* wire_encode(m, frame, e): write M to FRAME (LIMIT_FRAME bytes).  Returns its length, or 0 when a field is over its
 * limit or M->type is unknown. */
size_t wire_encode(const struct wire_msg *m, uint8_t *frame, struct err *e);

/* wire_decode(m, frame, len, e): read the frame into M (zeroed first; strings point into FRAME).
 * Returns 0, or -1 for an unknown type, a short frame, bytes left over or a field over its limit. */
int wire_decode(struct wire_msg *m, const uint8_t *frame, size_t len, struct err *e);

/* wire_takes_fd(type): 1 if exactly one descriptor comes with that message, else 0. */
int wire_takes_fd(uint16_t type);

/* wire_name(type): the name in PROTOCOL.md, or "unknown". */
const char *wire_name(uint16_t type);

/* wire_send(fd, m, pass_fd, flags, e): encode and send one frame, with PASS_FD (or -1) as PROTOCOL.md demands.
 * FLAGS: 0 or MSG_DONTWAIT.  Returns 1 if sent, 0 if it would block, -1 on failure.  PASS_FD stays the caller's. */
int wire_send(int fd, const struct wire_msg *m, int pass_fd, int flags, struct err *e);

/* wire_recv(fd, m, buf, got_fd, flags, e): receive and decode one frame into BUF (LIMIT_FRAME bytes).  *GOT_FD becomes
 * the descriptor that came with it (O_CLOEXEC, now the caller's) or -1; GOT_FD may be NULL on channels where no
 * message takes one.  FLAGS: 0, MSG_DONTWAIT; and WIRE_SENDER on a socket with SO_PASSCRED, where no descriptors come and
 * a frame of which the kernel does not tell the sender breaks a rule.  Returns 1, 0 at the end of the channel,
 * WIRE_AGAIN if it would block, -1 on failure or a frame that breaks a rule (any descriptors are closed). */
#define WIRE_SENDER 0x10000000
#define WIRE_AGAIN 2
int wire_recv(int fd, struct wire_msg *m, uint8_t *buf, int *got_fd, int flags, struct err *e);

#endif
