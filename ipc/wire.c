/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: the messages of ipc/PROTOCOL.md, and the one codec for them. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ipc/wire.h"

enum kind { END, U8, U16, U32, U64, FIX32, STR, BLOB };

struct field {
	uint8_t kind;
	uint16_t offset; /* in struct wire_msg */
	uint16_t limit;  /* of STR and BLOB */
};

#define MAX_FIELDS 8

struct shape {
	uint16_t type;
	uint8_t takes_fd;
	const char *name;
	struct field fields[MAX_FIELDS + 1]; /* ended by END, which is what is not written */
};

#define F(k, member) { k, offsetof(struct wire_msg, member), 0 }
#define S(member, max) { STR, offsetof(struct wire_msg, member), max }
#define B(max) { BLOB, offsetof(struct wire_msg, blob), max }

static const struct shape shapes[] = {
	{ MSG_SEALED, 0, "SEALED", { F(U16, version), F(U32, layers), F(U16, landlock_abi), F(U16, filter_len),
				     S(text, LIMIT_REASON) } },
	{ MSG_BEGIN, 0, "BEGIN", { { END, 0, 0 } } },
	{ MSG_STARTED, 0, "STARTED", { { END, 0, 0 } } },
	{ MSG_SETTINGS, 0, "SETTINGS", { F(U32, stall_ms), F(U32, min_rate), F(U32, connect_ms), F(U8, tls_verify),
					 S(text, LIMIT_URL), S(text2, LIMIT_URL) } },
	{ MSG_SERVER, 0, "SERVER", { F(U16, index), F(U8, kind), S(text, LIMIT_URL) } },
	{ MSG_TRUSTHOST, 0, "TRUSTHOST", { S(text, LIMIT_HOST) } },
	{ MSG_LOOKUP, 0, "LOOKUP", { F(U32, id), F(U16, server), F(FIX32, hash_part) } },
	{ MSG_CANDIDATE, 0, "CANDIDATE", { F(U32, id), F(U16, index), F(U16, server), F(U64, size),
					   S(text, LIMIT_COMPRESSION), S(text2, LIMIT_URL), S(eris, LIMIT_URN),
					   S(manifest, LIMIT_CID) } },
	{ MSG_ORDER, 1, "ORDER", { F(U32, id), F(FIX32, hash_part), F(U64, nar_size), F(U64, max_bytes), F(U8, others) } },
	{ MSG_CANCEL, 0, "CANCEL", { F(U32, id) } },
	{ MSG_ADDRESSES, 0, "ADDRESSES", { S(text, LIMIT_HOST), F(U8, status), B(LIMIT_ADDRESSES * ADDRESS_BYTES) } },
	{ MSG_NARINFO_PART, 0, "NARINFO_PART", { F(U32, id), B(LIMIT_BLOB) } },
	{ MSG_NARINFO_END, 0, "NARINFO_END", { F(U32, id), F(U8, status), F(U32, ttl), S(text, LIMIT_REASON) } },
	{ MSG_NAR_BEGIN, 0, "NAR_BEGIN", { F(U32, id), F(U16, candidate), F(U8, method), F(U64, size) } },
	{ MSG_NAR_PROGRESS, 0, "NAR_PROGRESS", { F(U32, id), F(U64, bytes), S(text, LIMIT_SOURCE) } },
	{ MSG_NAR_END, 0, "NAR_END", { F(U32, id), F(U8, status), F(U16, candidate), F(U64, bytes), F(U32, missed),
				       F(U32, repaired), F(U32, reinserted), S(text, LIMIT_REASON) } },
	{ MSG_RESOLVE, 0, "RESOLVE", { S(text, LIMIT_HOST) } },
	{ MSG_OPTION, 0, "OPTION", { S(text, LIMIT_OPTION_KEY), S(text2, LIMIT_OPTION_VALUE) } },
	{ MSG_PROBE, 0, "PROBE", { F(U32, id), S(text, LIMIT_URN), S(text2, LIMIT_CID) } },
	{ MSG_PROBED, 0, "PROBED", { F(U32, id), F(U8, status) } },
	{ MSG_LIAR, 0, "LIAR", { F(U8, status), S(text, LIMIT_SOURCE), S(text2, LIMIT_REASON) } },
	{ MSG_CHECK, 0, "CHECK", { { END, 0, 0 } } },
	{ MSG_CHECKED, 0, "CHECKED", { F(U8, status), S(text, LIMIT_SOURCE), S(text2, LIMIT_REASON) } },
	{ MSG_UNPACK, 0, "UNPACK", { F(U8, method), F(U64, max_bytes), F(U8, window_log), F(U32, dictionary) } },
	{ MSG_UNPACKED, 0, "UNPACKED", { F(U8, status), F(U64, bytes), F(U64, out), S(text, LIMIT_REASON) } },
	{ MSG_LOOKUP_HOST, 0, "LOOKUP_HOST", { S(text, LIMIT_HOST) } },
	{ MSG_HOST_ADDRESSES, 0, "HOST_ADDRESSES", { S(text, LIMIT_HOST), F(U8, status),
						     B(LIMIT_ADDRESSES * ADDRESS_BYTES) } },
	{ MSG_SPAWN, 0, "SPAWN", { F(U8, kind) } },
	{ MSG_KILL, 0, "KILL", { F(U32, slot) } },
	{ MSG_SPAWNED, 1, "SPAWNED", { F(U32, slot), F(U8, kind), F(U32, pid) } },
	{ MSG_CHANNEL, 1, "CHANNEL", { F(U32, slot), F(U8, which) } },
	{ MSG_REFUSED, 0, "REFUSED", { F(U8, kind), F(U32, error), S(text, LIMIT_REASON) } },
	{ MSG_EXITED, 0, "EXITED", { F(U32, slot), F(U32, wait_status) } },
	{ MSG_CONNECTED, 0, "CONNECTED", { F(U32, slot), F(U8, kind) } },
};

static const struct shape *shape_of(uint16_t type)
{
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		if (shapes[i].type == type)
			return &shapes[i];
	return NULL;
}

static size_t width(uint8_t kind)
{
	static const uint8_t widths[] = { 0, 1, 2, 4, 8, HASH_PART_BYTES, 2, 2 }; /* of STR, BLOB: the length */

	return widths[kind];
}

static uint64_t load(const void *p, uint8_t kind)
{
	switch (kind) {
	case U8: return *(const uint8_t *)p;
	case U16: return *(const uint16_t *)p;
	case U32: return *(const uint32_t *)p;
	default: return *(const uint64_t *)p;
	}
}

static void store(void *p, uint8_t kind, uint64_t v)
{
	switch (kind) {
	case U8: *(uint8_t *)p = (uint8_t)v; break;
	case U16: *(uint16_t *)p = (uint16_t)v; break;
	case U32: *(uint32_t *)p = (uint32_t)v; break;
	default: *(uint64_t *)p = v; break;
	}
}

static void put_be(uint8_t *p, uint64_t v, size_t n)
{
	while (n-- > 0) {
		p[n] = (uint8_t)v;
		v >>= 8;
	}
}

static uint64_t get_be(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

/* The rule for str, held by sender and receiver alike. */
static int text_ok(struct wire_bytes b)
{
	for (size_t i = 0; i < b.len; i++)
		if (b.data[i] < 0x20 || b.data[i] == 0x7f)
			return 0;
	return 1;
}

struct wire_bytes wire_str(const char *s)
{
	return (struct wire_bytes){ (const uint8_t *)s, strlen(s) };
}

void wire_copy(char *dst, size_t size, struct wire_bytes b)
{
	size_t n = b.len < size ? b.len : size - 1;

	if (n > 0)
		memcpy(dst, b.data, n);
	dst[n] = '\0';
}

int wire_takes_fd(uint16_t type)
{
	const struct shape *s = shape_of(type);

	return s != NULL && s->takes_fd;
}

const char *wire_name(uint16_t type)
{
	const struct shape *s = shape_of(type);

	return s != NULL ? s->name : "unknown";
}

size_t wire_encode(const struct wire_msg *m, uint8_t *frame, struct err *e)
{
	const struct shape *s = shape_of(m->type);
	uint8_t *p = frame;

	if (s == NULL)
		return (void)err_set(e, "message type 0x%x does not exist", m->type), 0;
	put_be(p, m->type, 2);
	p += 2;
	for (const struct field *f = s->fields; f->kind != END; f++) {
		const uint8_t *member = (const uint8_t *)m + f->offset;

		if (f->kind == FIX32) {
			memcpy(p, member, HASH_PART_BYTES);
			p += HASH_PART_BYTES;
		} else if (f->kind == STR || f->kind == BLOB) {
			struct wire_bytes b;

			memcpy(&b, member, sizeof b);
			if (b.len > f->limit || (f->kind == STR && !text_ok(b)))
				return (void)err_set(e, "%s: a field of %zu bytes breaks its rule", s->name, b.len), 0;
			put_be(p, b.len, 2);
			if (b.len > 0)
				memcpy(p + 2, b.data, b.len);
			p += 2 + b.len;
		} else {
			put_be(p, load(member, f->kind), width(f->kind));
			p += width(f->kind);
		}
	}
	return (size_t)(p - frame);
}

int wire_decode(struct wire_msg *m, const uint8_t *frame, size_t len, struct err *e)
{
	const struct shape *s;
	const uint8_t *p = frame, *end = frame + len;

	memset(m, 0, sizeof *m);
	if (len < 2)
		return err_set(e, "a frame of %zu bytes", len);
	m->type = (uint16_t)get_be(p, 2);
	p += 2;
	if ((s = shape_of(m->type)) == NULL)
		return err_set(e, "message type 0x%x does not exist", m->type);
	for (const struct field *f = s->fields; f->kind != END; f++) {
		uint8_t *member = (uint8_t *)m + f->offset;

		if ((size_t)(end - p) < width(f->kind))
			return err_set(e, "%s: frame of %zu bytes is too short", s->name, len);
		if (f->kind == FIX32) {
			memcpy(member, p, HASH_PART_BYTES);
		} else if (f->kind == STR || f->kind == BLOB) {
			struct wire_bytes b = { p + 2, (size_t)get_be(p, 2) };

			if (b.len > f->limit || b.len > (size_t)(end - p) - 2)
				return err_set(e, "%s: a field claims %zu bytes", s->name, b.len);
			if (f->kind == STR && !text_ok(b))
				return err_set(e, "%s: a control character in a text", s->name);
			memcpy(member, &b, sizeof b);
			p += b.len;
		} else {
			store(member, f->kind, get_be(p, width(f->kind)));
		}
		p += width(f->kind);
	}
	if (p != end)
		return err_set(e, "%s: %zu bytes left over", s->name, (size_t)(end - p));
	return 0;
}

int wire_send(int fd, const struct wire_msg *m, int pass_fd, int flags, struct err *e)
{
	uint8_t frame[LIMIT_FRAME];
	union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } control;
	struct iovec iov = { frame, wire_encode(m, frame, e) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (iov.iov_len == 0)
		return -1;
	if ((pass_fd >= 0) != wire_takes_fd(m->type))
		return err_set(e, "%s: wrong number of descriptors", wire_name(m->type));
	if (pass_fd >= 0) {
		memset(&control, 0, sizeof control);
		mh.msg_control = &control;
		mh.msg_controllen = sizeof control;
		control.h.cmsg_level = SOL_SOCKET;
		control.h.cmsg_type = SCM_RIGHTS;
		control.h.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.h), &pass_fd, sizeof pass_fd);
	}
	while ((n = sendmsg(fd, &mh, MSG_NOSIGNAL | flags)) < 0 && errno == EINTR)
		;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	return n < 0 ? err_sys(e, errno, "cannot send %s", wire_name(m->type)) : 1;
}

/* The descriptor that came with MH, or -1; or else its sender.  There is room for one of them: what is more, the kernel keeps
 * to itself and says MSG_CTRUNC. */
static int take_control(struct msghdr *mh, struct ucred *sender)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(mh);
	int fd = -1;

	if (c == NULL || c->cmsg_level != SOL_SOCKET)
		return -1;
	if (c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd))
		memcpy(&fd, CMSG_DATA(c), sizeof fd);
	if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof *sender))
		memcpy(sender, CMSG_DATA(c), sizeof *sender);
	return fd;
}

int wire_recv(int fd, struct wire_msg *m, uint8_t *buf, int *got_fd, int flags, struct err *e)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(struct ucred))]; } control;
	struct iovec iov = { buf, LIMIT_FRAME };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			     .msg_controllen = flags & WIRE_SENDER ? CMSG_LEN(sizeof(struct ucred)) : CMSG_LEN(sizeof(int)) };
	struct ucred sender = { 0, 0, 0 };
	int passed, rc = -1;
	ssize_t n;

	if (got_fd != NULL)
		*got_fd = -1;
	/* A peer that ended with frames of ours unread resets the pair: that is told once, before what it had sent. */
	while ((n = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC | (flags & ~WIRE_SENDER))) < 0 && (errno == EINTR || errno == ECONNRESET))
		;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return WIRE_AGAIN;
	if (n < 0)
		return err_sys(e, errno, "cannot receive");
	passed = take_control(&mh, &sender);
	if (n == 0 && passed < 0 && !(mh.msg_flags & MSG_CTRUNC))
		return 0;
	if (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		(void)err_set(e, "a truncated frame");
	else if (flags & WIRE_SENDER && sender.pid <= 0)
		(void)err_set(e, "the kernel does not tell who sent it");
	else if (wire_decode(m, buf, (size_t)n, e) == 0) {
		if ((passed >= 0) != wire_takes_fd(m->type) || (passed >= 0 && got_fd == NULL))
			(void)err_set(e, "%s came with %d descriptors", wire_name(m->type), passed >= 0);
		else
			rc = 1;
		m->sender = sender;
	}
	if (rc == 1 && passed >= 0)
		*got_fd = passed;
	else if (passed >= 0)
		close(passed);
	return rc;
}
