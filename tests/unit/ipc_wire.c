/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the codec of ipc/PROTOCOL.md, byte for byte, and what it refuses; errors as values. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cmocka.h>

#include "ipc/wire.h"

/* PROTOCOL.md once more, independent of the table in wire.c: one character a field, in the order of the page. */
static const struct message {
	uint16_t type;
	const char *name, *fields;
	int takes_fd;
	size_t text, text2, blob; /* limits */
} messages[] = {
	{ 0x01, "SEALED", "vlafT", 0, 240, 0, 0 },
	{ 0x02, "BEGIN", "", 0, 0, 0, 0 },
	{ 0x03, "STARTED", "", 0, 0, 0, 0 },
	{ 0x10, "SETTINGS", "123tTU", 0, 2048, 2048, 0 },
	{ 0x12, "SERVER", "ikT", 0, 2048, 0, 0 },
	{ 0x14, "TRUSTHOST", "T", 0, 255, 0, 0 },
	{ 0x16, "LOOKUP", "ISh", 0, 0, 0, 0 },
	{ 0x18, "CANDIDATE", "IiSzTUEC", 0, 16, 2048, 0 },
	{ 0x1a, "ORDER", "IhnMy", 1, 0, 0, 0 },
	{ 0x1c, "CANCEL", "I", 0, 0, 0, 0 },
	{ 0x1e, "ADDRESSES", "TsB", 0, 255, 0, 272 },
	{ 0x13, "NARINFO_PART", "IB", 0, 0, 0, 61440 },
	{ 0x15, "NARINFO_END", "IsLT", 0, 240, 0, 0 },
	{ 0x17, "NAR_BEGIN", "Icmz", 0, 0, 0, 0 },
	{ 0x19, "NAR_PROGRESS", "IbT", 0, 64, 0, 0 },
	{ 0x1b, "NAR_END", "Iscb456T", 0, 240, 0, 0 },
	{ 0x1d, "RESOLVE", "T", 0, 255, 0, 0 },
	{ 0x50, "OPTION", "TU", 0, 32, 1024, 0 },
	{ 0x52, "PROBE", "ITU", 0, 115, 62, 0 },
	{ 0x51, "PROBED", "Is", 0, 0, 0, 0 },
	{ 0x53, "LIAR", "sTU", 0, 64, 240, 0 },
	{ 0x54, "CHECK", "", 0, 0, 0, 0 },
	{ 0x55, "CHECKED", "sTU", 0, 64, 240, 0 },
	{ 0x20, "UNPACK", "mMWD", 0, 0, 0, 0 },
	{ 0x23, "UNPACKED", "sboT", 0, 240, 0, 0 },
	{ 0x30, "LOOKUP_HOST", "T", 0, 255, 0, 0 },
	{ 0x31, "HOST_ADDRESSES", "TsB", 0, 255, 0, 272 },
	{ 0x40, "SPAWN", "k", 0, 0, 0, 0 },
	{ 0x42, "KILL", "x", 0, 0, 0, 0 },
	{ 0x41, "SPAWNED", "xkp", 1, 0, 0, 0 },
	{ 0x43, "CHANNEL", "xw", 1, 0, 0, 0 },
	{ 0x45, "REFUSED", "keT", 0, 240, 0, 0 },
	{ 0x47, "EXITED", "xX", 0, 0, 0, 0 },
	{ 0x49, "CONNECTED", "xk", 0, 0, 0, 0 },
};
#define COUNT (sizeof messages / sizeof messages[0])

/* Different values everywhere, so that two fields in the wrong order show. */
static struct wire_msg sample(uint16_t type)
{
	struct wire_msg m = {
		.type = type, .status = 0x11, .method = 0x12, .kind = 0x13, .which = 0x14, .tls_verify = 0x15, .others = 0x18,
		.window_log = 0x16, .index = 0x2122, .server = 0x2324, .candidate = 0x2526, .version = 0x2728,
		.landlock_abi = 0x292a, .filter_len = 0x2b2c, .id = 0x31323334, .layers = 0x35363738,
		.ttl = 0x393a3b3c, .stall_ms = 0x3d3e3f40, .min_rate = 0x41424344, .connect_ms = 0x45464748,
		.dictionary = 0x494a4b4c, .missed = 0x4d4e4f50, .repaired = 0x01020304, .reinserted = 0x05060708, .slot = 0x51525354, .pid = 0x55565758, .error = 0x595a5b5c,
		.wait_status = 0x5d5e5f60, .nar_size = 0x6162636465666768, .max_bytes = 0x696a6b6c6d6e6f70,
		.size = 0x7172737475767778, .bytes = 0x8182838485868788, .out = 0x898a8b8c8d8e8f90,
		.text = wire_str("first"), .text2 = wire_str("the second \xc3\xa9"),
		.eris = wire_str("urn:eris:"), .manifest = wire_str("bafy"),
		.blob = { (const uint8_t *)"\0\1\177\377b", 5 },
	};

	memcpy(m.hash_part, "0123456789abcdfghijklmnpqrsvwxyz", sizeof m.hash_part);
	return m;
}

static size_t put(uint8_t *p, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> 8 * (n - 1 - i));
	return n;
}

static size_t put_bytes(uint8_t *p, struct wire_bytes b)
{
	size_t n = put(p, b.len, 2);

	memcpy(p + n, b.data, b.len);
	return n + b.len;
}

static size_t put_field(uint8_t *p, char field, const struct wire_msg *m)
{
	switch (field) {
	case 's': return put(p, m->status, 1);
	case 'm': return put(p, m->method, 1);
	case 'k': return put(p, m->kind, 1);
	case 'w': return put(p, m->which, 1);
	case 't': return put(p, m->tls_verify, 1);
	case 'y': return put(p, m->others, 1);
	case 'W': return put(p, m->window_log, 1);
	case 'i': return put(p, m->index, 2);
	case 'S': return put(p, m->server, 2);
	case 'c': return put(p, m->candidate, 2);
	case 'v': return put(p, m->version, 2);
	case 'a': return put(p, m->landlock_abi, 2);
	case 'f': return put(p, m->filter_len, 2);
	case 'I': return put(p, m->id, 4);
	case 'l': return put(p, m->layers, 4);
	case 'L': return put(p, m->ttl, 4);
	case '1': return put(p, m->stall_ms, 4);
	case '2': return put(p, m->min_rate, 4);
	case '3': return put(p, m->connect_ms, 4);
	case '4': return put(p, m->missed, 4);
	case '5': return put(p, m->repaired, 4);
	case '6': return put(p, m->reinserted, 4);
	case 'D': return put(p, m->dictionary, 4);
	case 'x': return put(p, m->slot, 4);
	case 'p': return put(p, m->pid, 4);
	case 'e': return put(p, m->error, 4);
	case 'X': return put(p, m->wait_status, 4);
	case 'n': return put(p, m->nar_size, 8);
	case 'M': return put(p, m->max_bytes, 8);
	case 'z': return put(p, m->size, 8);
	case 'b': return put(p, m->bytes, 8);
	case 'o': return put(p, m->out, 8);
	case 'h': memcpy(p, m->hash_part, 32); return 32;
	case 'T': return put_bytes(p, m->text);
	case 'U': return put_bytes(p, m->text2);
	case 'E': return put_bytes(p, m->eris);
	case 'C': return put_bytes(p, m->manifest);
	case 'B': return put_bytes(p, m->blob);
	default: fail_msg("no field %c", field); return 0;
	}
}

static size_t expected(uint8_t *p, const struct message *s, const struct wire_msg *m)
{
	size_t n = put(p, s->type, 2);

	for (const char *f = s->fields; *f != '\0'; f++)
		n += put_field(p + n, *f, m);
	return n;
}

static uint8_t frame[LIMIT_FRAME], frame2[2 * LIMIT_FRAME];
static struct err e;

static int decode(const uint8_t *bytes, size_t len)
{
	/* A copy of exact size: a byte read beyond it is seen by the sanitizer. */
	uint8_t *copy = malloc(len > 0 ? len : 1);
	struct wire_msg m;
	int rc;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	e.text[0] = '\0';
	rc = wire_decode(&m, copy, len, &e);
	assert_int_equal(rc < 0, e.text[0] != '\0');
	free(copy);
	return rc;
}

static void every_message_has_its_bytes(void **state)
{
	struct wire_msg m, back, again;

	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		const struct message *s = &messages[i];
		size_t n, want;

		m = sample(s->type);
		n = wire_encode(&m, frame, &e);
		want = expected(frame2, s, &m);
		assert_int_equal(n, want);
		assert_memory_equal(frame, frame2, n);
		assert_int_equal(wire_decode(&back, frame, n, &e), 0);
		assert_int_equal(back.type, s->type);
		again = back; /* what is decoded is encoded to the same bytes */
		assert_int_equal(wire_encode(&again, frame2, &e), n);
		assert_memory_equal(frame, frame2, n);
		assert_string_equal(wire_name(s->type), s->name);
		assert_int_equal(wire_takes_fd(s->type), s->takes_fd);
	}
}

static void fields_that_are_not_sent_are_zero(void **state)
{
	struct wire_msg m = sample(MSG_CANCEL), back;
	size_t n = wire_encode(&m, frame, &e);

	(void)state;
	memset(&back, 0xff, sizeof back);
	assert_int_equal(wire_decode(&back, frame, n, &e), 0);
	assert_int_equal(back.id, m.id);
	assert_int_equal(back.slot, 0);
	assert_int_equal(back.nar_size, 0);
	assert_null(back.text.data);
	assert_int_equal(back.blob.len, 0);
}

static void every_truncation_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		struct wire_msg m = sample(messages[i].type);
		size_t n = wire_encode(&m, frame, &e);

		assert_int_equal(decode(frame, n), 0);
		for (size_t cut = 0; cut < n; cut++)
			assert_int_equal(decode(frame, cut), -1);
	}
}

static void bytes_left_over_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		struct wire_msg m = sample(messages[i].type);
		size_t n = wire_encode(&m, frame, &e);

		for (size_t more = 1; more < 40; more++) {
			memset(frame + n, (int)more % 2, more);
			assert_int_equal(decode(frame, n + more), -1);
			assert_non_null(strstr(e.text, "left over"));
		}
	}
}

static void only_listed_types_exist(void **state)
{
	struct wire_msg m = { 0 };
	unsigned known = 0;

	(void)state;
	for (uint32_t t = 0; t <= UINT16_MAX; t++) {
		size_t i = 0;

		while (i < COUNT && messages[i].type != t)
			i++;
		m.type = (uint16_t)t;
		if (i < COUNT) {
			known++;
			continue;
		}
		put(frame, t, 2);
		memset(frame + 2, 0, 64);
		assert_int_equal(wire_decode(&m, frame, 2, &e), -1);
		assert_int_equal(wire_decode(&m, frame, 66, &e), -1);
		m.type = (uint16_t)t;
		assert_int_equal(wire_encode(&m, frame, &e), 0);
		assert_string_equal(wire_name((uint16_t)t), "unknown");
		assert_int_equal(wire_takes_fd((uint16_t)t), 0);
	}
	assert_int_equal(known, COUNT);
}

static uint8_t letters[UINT16_MAX + 1];

static struct wire_bytes long_bytes(size_t n)
{
	memset(letters, 'a', sizeof letters);
	return (struct wire_bytes){ letters, n };
}

/* The field at its limit passes both sides; one byte more is refused by the sender, and by the receiver of a
 * frame that some other sender made. */
static void check_limit(const struct message *s, struct wire_bytes *field, struct wire_msg *m, size_t limit)
{
	struct wire_bytes was = *field;
	size_t n;

	if (limit == 0)
		return;
	*field = long_bytes(limit);
	n = wire_encode(m, frame, &e);
	assert_true(n > limit && n <= LIMIT_FRAME);
	assert_int_equal(decode(frame, n), 0);
	*field = long_bytes(limit + 1);
	assert_int_equal(wire_encode(m, frame, &e), 0);
	n = expected(frame2, s, m);
	assert_int_equal(decode(frame2, n), -1);
	*field = (struct wire_bytes){ NULL, 0 };
	n = wire_encode(m, frame, &e);
	assert_true(n > 0);
	assert_int_equal(decode(frame, n), 0);
	*field = was;
}

static void limits_hold_on_both_sides(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		struct wire_msg m = sample(messages[i].type);

		check_limit(&messages[i], &m.text, &m, messages[i].text);
		check_limit(&messages[i], &m.text2, &m, messages[i].text2);
		check_limit(&messages[i], &m.blob, &m, messages[i].blob);
	}
}

static void texts_hold_no_control_characters(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		struct wire_msg m = sample(messages[i].type);

		for (int which = 0; which < 2; which++) {
			if ((which == 0 ? messages[i].text : messages[i].text2) == 0)
				continue;
			for (int c = 0; c < 256; c++) {
				uint8_t text[3] = { 'x', (uint8_t)c, 'y' };
				int bad = c < 0x20 || c == 0x7f;

				m = sample(messages[i].type);
				*(which == 0 ? &m.text : &m.text2) = (struct wire_bytes){ text, 3 };
				assert_int_equal(wire_encode(&m, frame, &e) == 0, bad);
				assert_int_equal(decode(frame2, expected(frame2, &messages[i], &m)), bad ? -1 : 0);
			}
		}
	}
}

static void helpers_for_texts(void **state)
{
	char out[5] = "zzzz";

	(void)state;
	wire_copy(out, sizeof out, wire_str("abcdefg"));
	assert_string_equal(out, "abcd");
	wire_copy(out, sizeof out, wire_str("abcd"));
	assert_string_equal(out, "abcd");
	wire_copy(out, sizeof out, wire_str("abc"));
	assert_string_equal(out, "abc");
	wire_copy(out, sizeof out, (struct wire_bytes){ NULL, 0 });
	assert_string_equal(out, "");
	wire_copy(out, 1, wire_str("abc"));
	assert_string_equal(out, "");
}

/* --- Over a real pair of sockets ---------------------------------------------------------------------------- */

static int pair[2];

static int open_pair(void **state)
{
	(void)state;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}

static int close_pair(void **state)
{
	(void)state;
	close(pair[0]);
	close(pair[1]);
	return 0;
}

/* How many descriptors this process has: none may get lost. */
static int open_count(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++) {
		struct stat st;

		n += fstat(fd, &st) == 0;
	}
	return n;
}

/* A packet with COUNT_FDS descriptors, as a broken or hostile helper may send it. */
static void send_raw(const uint8_t *bytes, size_t len, const int *fds, size_t count_fds)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(64 * sizeof(int))]; } control;
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	memset(&control, 0, sizeof control);
	if (count_fds > 0) {
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(count_fds * sizeof(int));
		control.h.cmsg_level = SOL_SOCKET;
		control.h.cmsg_type = SCM_RIGHTS;
		control.h.cmsg_len = CMSG_LEN(count_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.h), fds, count_fds * sizeof(int));
	}
	assert_int_equal(sendmsg(pair[0], &mh, 0), len);
}

static size_t frame_of(uint16_t type)
{
	struct wire_msg m = sample(type);

	return wire_encode(&m, frame, &e);
}

static void a_frame_with_its_descriptor_arrives(void **state)
{
	struct wire_msg m = sample(MSG_ORDER), got;
	int before, fd = -1, pipe_fds[2];
	char c = 'q';

	(void)state;
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	before = open_count();
	assert_int_equal(wire_send(pair[0], &m, pipe_fds[1], 0, &e), 1);
	assert_int_equal(wire_recv(pair[1], &got, frame, &fd, 0, &e), 1);
	assert_true(fd >= 0 && fd != pipe_fds[1]);
	assert_int_equal(open_count(), before + 1);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(got.id, m.id);
	assert_int_equal(got.max_bytes, m.max_bytes);
	assert_int_equal(write(fd, &c, 1), 1);
	c = 0;
	assert_int_equal(read(pipe_fds[0], &c, 1), 1);
	assert_int_equal(c, 'q');
	close(fd);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void a_sender_keeps_the_descriptor_rule(void **state)
{
	struct wire_msg order = sample(MSG_ORDER), cancel = sample(MSG_CANCEL);

	(void)state;
	assert_int_equal(wire_send(pair[0], &order, -1, MSG_DONTWAIT, &e), -1);
	assert_int_equal(wire_send(pair[0], &cancel, 0, MSG_DONTWAIT, &e), -1);
	assert_int_equal(recv(pair[1], frame, sizeof frame, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

/* Receive what was sent; it must be refused, and no descriptor may stay open. */
static void refused(int takes)
{
	struct wire_msg m;
	int before = open_count(), fd = 77;

	e.text[0] = '\0';
	assert_int_equal(wire_recv(pair[1], &m, frame, takes ? &fd : NULL, MSG_DONTWAIT, &e), -1);
	assert_int_equal(open_count(), before);
	assert_true(e.text[0] != '\0');
	if (takes)
		assert_int_equal(fd, -1);
}

static void wrong_numbers_of_descriptors_are_refused(void **state)
{
	int fds[40];

	(void)state;
	for (size_t i = 0; i < 40; i++)
		fds[i] = 0;
	send_raw(frame, frame_of(MSG_ORDER), fds, 0); /* none where one belongs */
	refused(1);
	send_raw(frame, frame_of(MSG_ORDER), fds, 2); /* two */
	refused(1);
	send_raw(frame, frame_of(MSG_ORDER), fds, 8); /* as many as the buffer takes */
	refused(1);
	send_raw(frame, frame_of(MSG_ORDER), fds, 40); /* MSG_CTRUNC */
	refused(1);
	assert_non_null(strstr(e.text, "truncated"));
	send_raw(frame, frame_of(MSG_CANCEL), fds, 1); /* one where none belongs */
	refused(1);
	send_raw(frame, frame_of(MSG_CANCEL), fds, 1);
	refused(0);
	send_raw(frame, frame_of(MSG_CANCEL), fds, 40);
	refused(0);
	send_raw(frame, frame_of(MSG_ORDER), fds, 1); /* on a channel where the receiver takes none at all */
	refused(0);
}

static void a_bad_frame_does_not_keep_a_descriptor(void **state)
{
	int fds[1] = { 0 };
	size_t n;

	(void)state;
	n = frame_of(MSG_ORDER);
	send_raw(frame, n - 1, fds, 1);
	refused(1);
	send_raw((const uint8_t *)"\xff\xff", 2, fds, 1);
	refused(1);
	send_raw((const uint8_t *)"x", 0, fds, 1); /* an empty packet with a descriptor is not the end */
	refused(1);
}

static void packets_above_the_limit_are_refused(void **state)
{
	struct wire_msg m, part = { .type = MSG_NARINFO_PART, .id = 1 };
	size_t n;

	(void)state;
	part.blob = long_bytes(LIMIT_BLOB);
	n = wire_encode(&part, frame2, &e);
	assert_true(n > 0);
	memset(frame2 + n, 0, sizeof frame2 - n);
	send_raw(frame2, LIMIT_FRAME + 1, NULL, 0);
	refused(1);
	assert_non_null(strstr(e.text, "truncated"));
	send_raw(frame2, n, NULL, 0);
	assert_int_equal(wire_recv(pair[1], &m, frame, NULL, 0, &e), 1);
	assert_int_equal(m.blob.len, LIMIT_BLOB);
}

static void nothing_there_and_the_end_are_told_apart(void **state)
{
	struct wire_msg m = sample(MSG_CANCEL), got;
	int fd = 5;

	(void)state;
	assert_int_equal(wire_recv(pair[1], &got, frame, &fd, MSG_DONTWAIT, &e), WIRE_AGAIN);
	assert_int_equal(fd, -1);
	assert_int_equal(wire_send(pair[0], &m, -1, 0, &e), 1);
	shutdown(pair[0], SHUT_WR);
	assert_int_equal(wire_recv(pair[1], &got, frame, &fd, MSG_DONTWAIT, &e), 1);
	assert_int_equal(wire_recv(pair[1], &got, frame, &fd, MSG_DONTWAIT, &e), 0);
	assert_int_equal(wire_send(pair[0], &m, -1, 0, &e), -1);
	assert_int_equal(e.code, EPIPE); /* and no SIGPIPE */
	assert_int_equal(wire_recv(-1, &got, frame, &fd, 0, &e), -1);
	assert_int_equal(e.code, EBADF);
}

/* A helper that is killed while frames of ours wait for it has not broken a rule, and its last frames count. */
static void an_end_with_unread_frames_is_an_end(void **state)
{
	struct wire_msg m = sample(MSG_CANCEL), got;

	(void)state;
	assert_int_equal(wire_send(pair[1], &m, -1, 0, &e), 1);
	assert_int_equal(wire_send(pair[0], &m, -1, 0, &e), 1);
	close(pair[0]);
	pair[0] = -1;
	assert_int_equal(wire_recv(pair[1], &got, frame, NULL, MSG_DONTWAIT, &e), 1);
	assert_int_equal(got.id, m.id);
	assert_int_equal(wire_recv(pair[1], &got, frame, NULL, MSG_DONTWAIT, &e), 0);
}

static void a_full_channel_would_block(void **state)
{
	struct wire_msg m = { .type = MSG_NARINFO_PART, .id = 1 };
	int rc = 1, sent = 0;

	(void)state;
	m.blob = long_bytes(LIMIT_BLOB);
	while (sent < 1000 && (rc = wire_send(pair[0], &m, -1, MSG_DONTWAIT, &e)) == 1)
		sent++;
	assert_int_equal(rc, 0);
	assert_true(sent > 0);
}

/* --- Errors --------------------------------------------------------------------------------------------------- */

/* The sender as the kernel knows it, and never a frame without one. */
static void the_sender_is_told_by_the_kernel(void **state)
{
	struct wire_msg m = { .type = MSG_STARTED }, got;
	int on = 1, fds[3] = { pair[0], pair[0], pair[0] };

	(void)state;
	assert_int_equal(wire_send(pair[0], &m, -1, 0, &e), 1);
	assert_int_equal(wire_recv(pair[1], &got, frame, NULL, MSG_DONTWAIT, &e), 1);
	assert_int_equal(got.sender.pid, 0);
	assert_int_equal(wire_send(pair[0], &m, -1, 0, &e), 1);
	assert_int_equal(wire_recv(pair[1], &got, frame, NULL, MSG_DONTWAIT | WIRE_SENDER, &e), -1);
	assert_non_null(strstr(e.text, "who sent it"));
	assert_int_equal(wire_recv(pair[1], &got, frame, NULL, MSG_DONTWAIT | WIRE_SENDER, &e), WIRE_AGAIN);

	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
	assert_int_equal(wire_send(pair[0], &m, -1, 0, &e), 1);
	assert_int_equal(wire_recv(pair[1], &got, frame, NULL, MSG_DONTWAIT | WIRE_SENDER, &e), 1);
	assert_int_equal(got.sender.pid, getpid());
	assert_int_equal(got.sender.uid, getuid());
	assert_int_equal(got.sender.gid, getgid());
	/* Descriptors have no room beside it. */
	for (size_t n = 1; n <= 3; n++) {
		uint8_t started[2] = { 0, MSG_STARTED };

		send_raw(started, 2, fds, n);
		assert_int_equal(wire_recv(pair[1], &got, frame, NULL, MSG_DONTWAIT | WIRE_SENDER, &e), -1);
		assert_non_null(strstr(e.text, "truncated"));
	}
	/* Who does not ask for the sender does not get him in the place of a descriptor. */
	assert_int_equal(wire_send(pair[0], &m, -1, 0, &e), 1);
	assert_int_equal(wire_recv(pair[1], &got, frame, NULL, MSG_DONTWAIT, &e), -1);
	close(pair[0]);
	pair[0] = -1;
	assert_int_equal(wire_recv(pair[1], &got, frame, NULL, MSG_DONTWAIT | WIRE_SENDER, &e), 0);
}

static void errors_hold_a_reason(void **state)
{
	char text[1000];

	(void)state;
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	e.code = 5;
	assert_int_equal(err_set(&e, "number %d", 7), -1);
	assert_string_equal(e.text, "number 7");
	assert_int_equal(e.code, 0);
	assert_int_equal(err_sys(&e, ENOENT, "cannot open %s", "it"), -1);
	assert_string_equal(e.text, "cannot open it: No such file or directory");
	assert_int_equal(e.code, ENOENT);
	assert_int_equal(err_sys(&e, ENOENT, "%s", text), -1);
	assert_int_equal(strlen(e.text), sizeof e.text - 1);
	assert_int_equal(err_set(&e, "%s", text), -1);
	assert_int_equal(strlen(e.text), sizeof e.text - 1);
	assert_int_equal(err_set(&e, "%s", "a\nb\033[2J\177\xff"), -1);
	assert_string_equal(e.text, "a?b?[2J??");
	assert_int_equal(err_set(NULL, "nobody listens"), -1);
	assert_int_equal(err_sys(NULL, EIO, "nobody listens"), -1);
}

int main(void)
{
#define ON_PAIR(f) cmocka_unit_test_setup_teardown(f, open_pair, close_pair)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_has_its_bytes),
		cmocka_unit_test(fields_that_are_not_sent_are_zero),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(bytes_left_over_are_refused),
		cmocka_unit_test(only_listed_types_exist),
		cmocka_unit_test(limits_hold_on_both_sides),
		cmocka_unit_test(texts_hold_no_control_characters),
		cmocka_unit_test(helpers_for_texts),
		ON_PAIR(a_frame_with_its_descriptor_arrives),
		ON_PAIR(a_sender_keeps_the_descriptor_rule),
		ON_PAIR(wrong_numbers_of_descriptors_are_refused),
		ON_PAIR(a_bad_frame_does_not_keep_a_descriptor),
		ON_PAIR(packets_above_the_limit_are_refused),
		ON_PAIR(nothing_there_and_the_end_are_told_apart),
		ON_PAIR(an_end_with_unread_frames_is_an_end),
		ON_PAIR(a_full_channel_would_block),
		ON_PAIR(the_sender_is_told_by_the_kernel),
		cmocka_unit_test(errors_hold_a_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
