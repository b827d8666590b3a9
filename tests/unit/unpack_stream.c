/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the unpacker's decoders, over memory and over socket pairs, with good and with hostile input. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdint.h>
#include <lzlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "helper/unpack/unpack.h"

#define WINDOW_LOG 27
#define DICTIONARY (64u << 20)

struct bytes {
	uint8_t *data;
	size_t len;
};

/* --- Making input ------------------------------------------------------------------------------------ */

static uint32_t
next(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

/* Something between text and noise, so that compressors have work and matches. */
static struct bytes
sample(size_t len, uint32_t seed)
{
	struct bytes b = { malloc(len + 1), len };
	size_t i = 0;

	assert_non_null(b.data);
	while (i < len) {
		if (i > 64 && next(&seed) % 3 != 0) {
			size_t back = 1 + next(&seed) % (i < 60000 ? i : 60000), n = 4 + next(&seed) % 40;

			for (; n > 0 && i < len; n--, i++)
				b.data[i] = b.data[i - back];
		} else {
			b.data[i++] = (uint8_t)next(&seed);
		}
	}
	return b;
}

static struct bytes
join(struct bytes a, struct bytes b)
{
	a.data = realloc(a.data, a.len + b.len + 1);
	assert_non_null(a.data);
	memcpy(a.data + a.len, b.data, b.len);
	a.len += b.len;
	free(b.data);
	return a;
}

static struct bytes
literal(const void *data, size_t len)
{
	struct bytes b = { malloc(len + 1), len };

	assert_non_null(b.data);
	memcpy(b.data, data, len);
	return b;
}

static struct bytes
make_gzip(struct bytes in)
{
	struct bytes b = { malloc(in.len + in.len / 1000 + 100), 0 };
	z_stream z = { .next_in = in.data, .avail_in = (uInt)in.len };

	z.next_out = b.data;
	z.avail_out = (uInt)(in.len + in.len / 1000 + 100);
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	b.len = z.total_out;
	deflateEnd(&z);
	return b;
}

static struct bytes
make_lzip(struct bytes in, int dictionary, unsigned long long member)
{
	struct LZ_Encoder *e = LZ_compress_open(dictionary, 16, member);
	struct bytes b = { malloc(in.len * 2 + 1000), 0 };
	size_t at = 0;

	assert_int_equal(LZ_compress_errno(e), LZ_ok);
	while (!LZ_compress_finished(e)) {
		int n;

		if (at < in.len)
			at += (size_t)LZ_compress_write(e, in.data + at, (int)(in.len - at));
		if (at == in.len)
			LZ_compress_finish(e);
		n = LZ_compress_read(e, b.data + b.len, 65536 < in.len ? 65536 : 900);
		assert_true(n >= 0);
		b.len += (size_t)n;
		if (LZ_compress_member_finished(e) == 1 && !LZ_compress_finished(e))
			LZ_compress_restart_member(e, member);
	}
	LZ_compress_close(e);
	return b;
}

static struct bytes
make_zstd(struct bytes in, int level, int window, int checksum)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	struct bytes b = { malloc(ZSTD_compressBound(in.len) + 100), 0 };
	ZSTD_inBuffer from = { in.data, in.len, 0 };
	ZSTD_outBuffer to = { b.data, ZSTD_compressBound(in.len) + 100, 0 };

	ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, checksum);
	if (window > 0) {
		ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window);
		/* Of unknown size, or the library would make the window fit the content. */
		assert_false(ZSTD_isError(ZSTD_compressStream2(c, &to, &from, ZSTD_e_flush)));
	}
	assert_int_equal(ZSTD_compressStream2(c, &to, &from, ZSTD_e_end), 0);
	ZSTD_freeCCtx(c);
	b.len = to.pos;
	return b;
}

static struct bytes
make(enum nar_method method, struct bytes in)
{
	switch (method) {
	case METHOD_GZIP:
		return make_gzip(in);
	case METHOD_LZIP:
		return make_lzip(in, 1 << 16, 1ull << 50);
	case METHOD_ZSTD:
		return make_zstd(in, 3, 0, 1);
	default:
		return literal(in.data, in.len);
	}
}

/* --- Running ----------------------------------------------------------------------------------------- */

struct memory {
	struct bytes in, out;
	size_t at, piece; /* at most PIECE bytes per read */
	size_t room;      /* of out */
	int calls;
};

static ssize_t
memory_read(void *ctx, uint8_t *buf, size_t size)
{
	struct memory *m = ctx;
	size_t n = m->in.len - m->at;

	if (n > size)
		n = size;
	if (n > m->piece)
		n = m->piece;
	if (n > 0)
		memcpy(buf, m->in.data + m->at, n);
	m->at += n;
	m->calls++;
	return (ssize_t)n;
}

static int
memory_write(void *ctx, const uint8_t *buf, size_t len)
{
	struct memory *m = ctx;

	if (m->out.len + len > m->room) {
		m->room = 2 * (m->out.len + len);
		m->out.data = realloc(m->out.data, m->room);
		assert_non_null(m->out.data);
	}
	memcpy(m->out.data + m->out.len, buf, len);
	m->out.len += len;
	return 0;
}

static struct unpack_result result;
static struct err error;

/* Unpacks IN, which stays the caller's; *OUT is the caller's to free. */
static int
unpack_limited(enum nar_method method, struct bytes in, uint64_t size, size_t piece, unsigned log,
    uint32_t dict, struct bytes *out)
{
	struct memory m = { .in = in, .piece = piece };
	const struct unpack_io io = { memory_read, memory_write, &m };
	const struct unpack_limits limits = { size, log, dict };
	int rc;

	memset(&error, 0, sizeof(error));
	rc = unpack_run(method, &limits, &io, &result, &error);
	assert_true(rc == 0 || (rc == -1 && error.text[0] != '\0'));
	assert_true(result.out <= size);
	assert_true(result.out == m.out.len);
	assert_true(result.in <= in.len);
	*out = m.out;
	return rc;
}

static int
unpack(enum nar_method method, struct bytes in, uint64_t size, struct bytes *out)
{
	return unpack_limited(method, in, size, 1u << 30, WINDOW_LOG, DICTIONARY, out);
}

static void
good(enum nar_method method, struct bytes in, struct bytes want, size_t piece)
{
	struct bytes out;

	if (unpack_limited(method, in, want.len, piece, WINDOW_LOG, DICTIONARY, &out) != 0)
		fail_msg("method %d, %zu bytes: %s", (int)method, in.len, error.text);
	assert_int_equal(out.len, want.len);
	assert_memory_equal(out.data, want.data, want.len);
	assert_int_equal(result.in, in.len);
	free(out.data);
}

static void
bad(enum nar_method method, struct bytes in, uint64_t size, const char *why)
{
	struct bytes out;

	if (unpack(method, in, size, &out) == 0)
		fail_msg("method %d, %zu bytes: accepted, wanted `%s'", (int)method, in.len, why);
	if (strstr(error.text, why) == NULL)
		fail_msg("method %d, %zu bytes: `%s', wanted `%s'", (int)method, in.len, error.text, why);
	free(out.data);
}

/* --- Tests ------------------------------------------------------------------------------------------- */

static void
test_round_trip(void **state)
{
	static const size_t sizes[] = { 1, 2, 100, 4096, 65535, 65536, 262144, 262145, 1000000, 3000000 };

	(void)state;
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int m = METHOD_NONE; m <= METHOD_ZSTD; m++) {
			struct bytes want = sample(sizes[i], (uint32_t)i);
			struct bytes in = make((enum nar_method)m, want);

			good((enum nar_method)m, in, want, 1u << 30);
			good((enum nar_method)m, in, want, 70001);
			if (sizes[i] <= 65536)
				good((enum nar_method)m, in, want, 1);
			free(want.data);
			free(in.data);
		}
}

static void
test_members(void **state)
{
	(void)state;
	for (int m = METHOD_GZIP; m <= METHOD_ZSTD; m++) {
		struct bytes in = { NULL, 0 }, want = { NULL, 0 };

		for (uint32_t i = 0; i < 7; i++) {
			struct bytes part = sample((size_t)(i % 3 == 2 ? 200000 : 50) * i, i);

			in = join(in, make((enum nar_method)m, part));
			want = join(want, part);
		}
		good((enum nar_method)m, in, want, 1u << 30);
		good((enum nar_method)m, in, want, 7);
		free(in.data);
		free(want.data);
	}
	{
		struct bytes want = sample(900000, 5), in = make_lzip(want, 4096, 100000);

		good(METHOD_LZIP, in, want, 333);
		free(in.data);
		free(want.data);
	}
}

static void
test_skippable_frames(void **state)
{
	struct bytes want = sample(5000, 1), in = literal("\x53\x2a\x4d\x18\x03\0\0\0abc", 11);

	(void)state;
	in = join(in, make_zstd(want, 1, 0, 1));
	in = join(in, literal("\x50\x2a\x4d\x18\0\0\0\0", 8));
	good(METHOD_ZSTD, in, want, 1u << 30);
	good(METHOD_ZSTD, in, want, 1);
	free(in.data);
	free(want.data);
}

static void
test_truncated(void **state)
{
	struct bytes want = sample(30000, 3);

	(void)state;
	for (int m = METHOD_NONE; m <= METHOD_ZSTD; m++) {
		struct bytes in = make((enum nar_method)m, want), out;
		size_t whole = in.len;

		for (in.len = 0; in.len < whole; in.len += in.len < 40 || whole - in.len < 40 ? 1 : 397) {
			assert_int_equal(unpack((enum nar_method)m, in, want.len, &out), -1);
			if (in.len >= 20 && strstr(error.text, "truncated") == NULL)
				fail_msg("method %d cut at %zu: %s", m, in.len, error.text);
			if (out.len > 0)
				assert_memory_equal(out.data, want.data, out.len);
			free(out.data);
		}
		free(in.data);
	}
	free(want.data);
}

/* A stream that ends well, but is another nar's. */
static void
test_short(void **state)
{
	struct bytes want = sample(30000, 3);

	(void)state;
	for (int m = METHOD_NONE; m <= METHOD_ZSTD; m++) {
		struct bytes in = make((enum nar_method)m, want);

		bad((enum nar_method)m, in, want.len + 1, "truncated: the data unpacks to 30000");
		free(in.data);
	}
	free(want.data);
}

static void
test_garbage(void **state)
{
	struct bytes want = sample(70000, 3);

	(void)state;
	for (int m = METHOD_GZIP; m <= METHOD_ZSTD; m++) {
		static const char tails[][20] = { "x", "\0", "\0", "garbage", "\x1f\x8c", "LZIQ\1" };
		static const size_t lens[] = { 1, 1, 20, 7, 20, 20 };

		for (unsigned i = 0; i < 6; i++) {
			struct bytes in = join(make((enum nar_method)m, want), literal(tails[i], lens[i]));

			bad((enum nar_method)m, in, want.len, "bytes after the end");
			free(in.data);
		}
	}
	{
		struct bytes in = join(make(METHOD_NONE, want), literal("x", 1));

		bad(METHOD_NONE, in, want.len, "too much output");
		free(in.data);
	}
	free(want.data);
}

static void
test_nothing_and_magic(void **state)
{
	struct bytes nothing = { NULL, 0 }, noise = sample(100, 9);

	(void)state;
	for (int m = METHOD_NONE; m <= METHOD_ZSTD; m++)
		bad((enum nar_method)m, nothing, 100, "no data at all");
	bad(METHOD_GZIP, noise, 100, "no gzip data");
	bad(METHOD_LZIP, noise, 100, "no lzip data");
	bad(METHOD_ZSTD, noise, 100, "no zstd data");
	bad((enum nar_method)9, noise, 100, "unknown compression");
	free(noise.data);
}

static void
test_bombs(void **state)
{
	struct bytes zeros = { calloc(1, 50000000), 50000000 };

	(void)state;
	assert_non_null(zeros.data);
	for (int m = METHOD_NONE; m <= METHOD_ZSTD; m++) {
		struct bytes in = make((enum nar_method)m, zeros);

		bad((enum nar_method)m, in, 1, "too much output");
		assert_int_equal(result.out, 1);
		bad((enum nar_method)m, in, 99999, "too much output");
		assert_int_equal(result.out, 99999);
		bad((enum nar_method)m, in, zeros.len - 1, "too much output");
		good((enum nar_method)m, in, zeros, 1u << 30);
		free(in.data);
	}
	free(zeros.data);
}

static void
test_zstd_window(void **state)
{
	struct bytes want = sample(100000, 3), out;

	(void)state;
	for (int log = 10; log <= 30; log++) {
		struct bytes in = make_zstd(want, 1, log, 1);

		assert_int_equal(in.data[4] & 0x20, 0);
		if (log <= WINDOW_LOG)
			good(METHOD_ZSTD, in, want, 1u << 30);
		else
			bad(METHOD_ZSTD, in, want.len, "is above the limit of 134217728");
		/* One step above a limit, whatever it is; and in a later frame. */
		if (log > 10) {
			struct bytes two = join(make_zstd(want, 1, 10, 1), in);

			assert_int_equal(unpack_limited(METHOD_ZSTD, two, 2 * want.len, 1u << 30,
			    (unsigned)log - 1, DICTIONARY, &out), -1);
			assert_non_null(strstr(error.text, "window of"));
			assert_int_equal(out.len, want.len);
			free(out.data);
			in = two;
		}
		free(in.data);
	}
	{
		/* A single segment whose content alone is above the limit: 2^40 bytes. */
		static const char huge[] = "\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\1\0\0\1\0\0\0\0\0\0";

		bad(METHOD_ZSTD, (struct bytes){ (uint8_t *)(uintptr_t)huge, 20 }, 1ull << 40,
		    "window of 1099511627776 bytes is above");
	}
	free(want.data);
}

static void
test_lzip_dictionary(void **state)
{
	struct bytes want = sample(3000, 3), out;

	(void)state;
	for (uint8_t log = 12; log <= 29; log++) {
		struct bytes in = make_lzip(want, 4096, 1ull << 50);

		in.data[5] = log; /* a larger dictionary than needed does no harm */
		if (log <= 26)
			good(METHOD_LZIP, in, want, 1u << 30);
		else
			bad(METHOD_LZIP, in, want.len, "is above the limit of 67108864");
		if (log > 12) {
			struct bytes two = join(make_lzip(want, 4096, 1ull << 50), in);

			assert_int_equal(unpack_limited(METHOD_LZIP, two, 2 * want.len, 1u << 30, WINDOW_LOG,
			    1u << (log - 1), &out), -1);
			assert_non_null(strstr(error.text, "dictionary of"));
			assert_int_equal(out.len, want.len);
			free(out.data);
			in = two;
		}
		free(in.data);
	}
	{
		struct bytes in = make_lzip(want, 4096, 1ull << 50);

		in.data[5] = 27 | 7 << 5; /* 2^27 less seven sixteenths: 72 MiB */
		bad(METHOD_LZIP, in, want.len, "dictionary of 75497472 bytes is above");
		in.data[5] = 11;
		bad(METHOD_LZIP, in, want.len, "bad dictionary size");
		in.data[5] = 12 | 1 << 5;
		bad(METHOD_LZIP, in, want.len, "bad dictionary size");
		in.data[5] = 30;
		bad(METHOD_LZIP, in, want.len, "bad dictionary size");
		in.data[4] = 0;
		bad(METHOD_LZIP, in, want.len, "unknown version");
		free(in.data);
	}
	free(want.data);
}

/* Every checksum is looked at: a changed byte is found, and what comes out before stays within the nar. */
static void
test_corruption(void **state)
{
	struct bytes want = sample(40000, 3), out;
	uint32_t seed = 4;

	(void)state;
	for (int m = METHOD_GZIP; m <= METHOD_ZSTD; m++) {
		struct bytes in = make((enum nar_method)m, want);
		unsigned silent = 0;

		for (unsigned round = 0; round < 1500; round++) {
			size_t at = next(&seed) % in.len;
			uint8_t flip = (uint8_t)(1u << next(&seed) % 8);

			in.data[at] ^= flip;
			if (unpack((enum nar_method)m, in, want.len, &out) == 0) {
				/* Only in what says nothing about the contents: times, a larger window. */
				assert_memory_equal(out.data, want.data, want.len);
				silent++;
			}
			free(out.data);
			in.data[at] ^= flip;
		}
		assert_true(silent < 20);
		free(in.data);
	}
	free(want.data);
}

static int
write_error(void *ctx, const uint8_t *buf, size_t len)
{
	(void)buf;
	(void)len;
	errno = *(int *)ctx;
	return -1;
}

static ssize_t
read_error(void *ctx, uint8_t *buf, size_t size)
{
	(void)ctx;
	(void)buf;
	(void)size;
	errno = ECONNRESET;
	return -1;
}

static ssize_t
read_some(void *ctx, uint8_t *buf, size_t size)
{
	(void)ctx;
	(void)size;
	buf[0] = 'x';
	return 1;
}

static void
test_io_errors(void **state)
{
	int gone = EPIPE, other = EIO;
	const struct unpack_limits limits = { 100, WINDOW_LOG, DICTIONARY };
	struct unpack_io io = { read_error, write_error, &gone };

	(void)state;
	assert_int_equal(unpack_run(METHOD_NONE, &limits, &io, &result, &error), -1);
	assert_int_equal(error.code, ECONNRESET);
	assert_int_equal(result.sink_gone, 0);
	io.read = read_some;
	assert_int_equal(unpack_run(METHOD_NONE, &limits, &io, &result, &error), -1);
	assert_int_equal(result.sink_gone, 1);
	io.ctx = &other;
	assert_int_equal(unpack_run(METHOD_NONE, &limits, &io, &result, &error), -1);
	assert_int_equal(result.sink_gone, 0);
	assert_int_equal(error.code, EIO);
}

/* --- Over socket pairs, as in life ------------------------------------------------------------------- */

struct pair {
	int in, out;
};

static ssize_t
pair_read(void *ctx, uint8_t *buf, size_t size)
{
	return read(((struct pair *)ctx)->in, buf, size);
}

static int
pair_write(void *ctx, const uint8_t *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = write(((struct pair *)ctx)->out, buf, len);

		if (n < 0)
			return -1;
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

static pid_t
feeder(int fd, struct bytes in)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid != 0)
		return pid;
	while (in.len > 0) {
		ssize_t n = write(fd, in.data, in.len < 100000 ? in.len : 100000);

		if (n <= 0)
			_exit(1);
		in.data += n;
		in.len -= (size_t)n;
	}
	_exit(0);
}

static void
through_pairs(enum nar_method method, struct bytes in, struct bytes want)
{
	const struct unpack_limits limits = { want.len, WINDOW_LOG, DICTIONARY };
	int a[2], b[2], status;
	struct bytes got = { malloc(want.len + 1), 0 };
	pid_t feed, work;
	ssize_t n;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
	feed = feeder(a[1], in);
	close(a[1]);
	work = fork();
	assert_true(work >= 0);
	if (work == 0) {
		struct pair p = { a[0], b[1] };
		const struct unpack_io io = { pair_read, pair_write, &p };

		close(b[0]);
		_exit(unpack_run(method, &limits, &io, &result, &error) != 0);
	}
	close(a[0]);
	close(b[1]);
	while ((n = read(b[0], got.data + got.len, want.len + 1 - got.len)) > 0)
		got.len += (size_t)n;
	close(b[0]);
	assert_int_equal(waitpid(work, &status, 0), work);
	assert_int_equal(status, 0);
	assert_int_equal(waitpid(feed, &status, 0), feed);
	assert_int_equal(status, 0);
	assert_int_equal(got.len, want.len);
	assert_memory_equal(got.data, want.data, want.len);
	free(got.data);
}

static void
test_pairs(void **state)
{
	struct bytes want = sample(5000000, 8);

	(void)state;
	for (int m = METHOD_NONE; m <= METHOD_ZSTD; m++) {
		struct bytes in = make((enum nar_method)m, want);

		through_pairs((enum nar_method)m, in, want);
		free(in.data);
	}
	free(want.data);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_skippable_frames),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_short),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_nothing_and_magic),
		cmocka_unit_test(test_bombs),
		cmocka_unit_test(test_zstd_window),
		cmocka_unit_test(test_lzip_dictionary),
		cmocka_unit_test(test_corruption),
		cmocka_unit_test(test_io_errors),
		cmocka_unit_test(test_pairs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
