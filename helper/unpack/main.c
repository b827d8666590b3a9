/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (unpack): the process.  It takes one UNPACK, turns descriptor 4 into descriptor 5, says UNPACKED and
 * ends.  Descriptors, messages and their limits: ipc/PROTOCOL.md. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/common/logline.h"
#include "helper/common/seal.h"
#include "helper/unpack/unpack.h"
#include "ipc/wire.h"

enum { FD_CONTROL = 3, FD_IN = 4, FD_OUT = 5 };

/* Address space for programs, libraries, buffers and decoders without their windows. */
#define BASE_AS (64ull << 20)
/* The most that any order could need: a zstd window of 2 GiB.  Lowered as soon as the order is known. */
#define MOST_AS (BASE_AS + (2ull << 30) + (16ull << 20))

static ssize_t
read_in(void *ctx, uint8_t *buf, size_t size)
{
	ssize_t n;

	(void)ctx;
	do
		n = read(FD_IN, buf, size);
	while (n < 0 && errno == EINTR);
	return n;
}

static int
write_out(void *ctx, const uint8_t *buf, size_t len)
{
	(void)ctx;
	while (len > 0) {
		ssize_t n = write(FD_OUT, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

static int
seal(struct err *e)
{
	const struct seal_options options = {
		.policy = POLICY_OF(unpack),
		.fds = 0x3f,
		.flags = SEAL_NO_CONNECT,
		.nofile = FD_OUT + 1,
		.fsize = 0,
		.as = MOST_AS,
	};
	struct seal_report report;
	struct wire_msg m;

	if (seal_process(&options, &report, e) != 0)
		return -1;
	seal_message(&report, NULL, &m);
	return wire_send(FD_CONTROL, &m, -1, 0, e) == 1 ? 0 : -1;
}

/* What the broker may ask for, checked again on this side. */
static int
check_order(const struct wire_msg *m, struct err *e)
{
	if (m->type != MSG_UNPACK)
		return err_set(e, "unexpected message %s", wire_name(m->type));
	if (m->method < METHOD_NONE || m->method > METHOD_ZSTD || m->max_bytes == 0 ||
	    m->max_bytes > LIMIT_NAR_SIZE || m->window_log < 10 || m->window_log > 31)
		return err_set(e, "an order that makes no sense");
	return 0;
}

/* No decoder can take more memory than its limit allows, whatever a library does. */
static int
limit_memory(const struct wire_msg *m, struct err *e)
{
#ifndef NARLOCK_NO_SECCOMP
	struct rlimit r;
	uint64_t as = BASE_AS;

	if (m->method == METHOD_ZSTD)
		as += (1ull << m->window_log) + (16ull << 20);
	else if (m->method == METHOD_LZIP)
		as += m->dictionary;
	if (as > MOST_AS)
		as = MOST_AS;
	r.rlim_cur = r.rlim_max = (rlim_t)as;
	if (setrlimit(RLIMIT_AS, &r) != 0)
		return err_sys(e, errno, "cannot limit the memory");
#else
	(void)m;
	(void)e;
#endif
	return 0;
}

static int
work(const struct wire_msg *m, struct err *e)
{
	const struct unpack_limits limits = { m->max_bytes, m->window_log, m->dictionary };
	const struct unpack_io io = { read_in, write_out, NULL };
	struct wire_msg answer = { .type = MSG_UNPACKED };
	struct unpack_result result;

	if (limit_memory(m, e) != 0)
		return -1;
	if (unpack_run((enum nar_method)m->method, &limits, &io, &result, e) != 0) {
		answer.status = UNPACK_FAILED;
		answer.text = wire_str(e->text);
		if (answer.text.len > LIMIT_REASON)
			answer.text.len = LIMIT_REASON;
	}
	if (result.sink_gone)
		return 0; /* the broker has seen enough */
	answer.bytes = result.in;
	answer.out = result.out;
	close(FD_OUT);
	/* The broker may have gone meanwhile; that is no failure of ours. */
	wire_send(FD_CONTROL, &answer, -1, 0, e);
	return 0;
}

static int
serve(struct err *e)
{
	static uint8_t frame[LIMIT_FRAME];
	struct wire_msg m;
	int rc;

	if (seal(e) != 0)
		return -1;
	rc = wire_recv(FD_CONTROL, &m, frame, NULL, 0, e);
	if (rc <= 0)
		return rc; /* 0: a spare that is not needed */
	return check_order(&m, e) == 0 ? work(&m, e) : -1;
}

int
main(void)
{
	struct err e = { 0 };

	signal(SIGPIPE, SIG_IGN);
	if (serve(&e) != 0) {
		logline("%s", e.text);
		return 1;
	}
	return 0;
}
