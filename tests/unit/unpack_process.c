/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the unpacker as a process, sealed, with the descriptors and messages of ipc/PROTOCOL.md. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <zstd.h>

#define main unpack_main
#include "helper/unpack/main.c"
#undef main

#define SOME_ID 64123 /* nobody's */

struct process {
	pid_t pid;
	int log, control, in, out;
};

/* In the child: what the spawner would have done. */
static void
become_helper(int log, int control, int in, int out)
{
	int null = open("/dev/null", O_RDWR), high[4] = { log, control, in, out };
	char pid[20];

	snprintf(pid, sizeof(pid), "%d", (int)getppid());
	setenv(SEAL_SPAWNER, pid, 1);
	for (int i = 0; i < 4; i++)
		high[i] = fcntl(high[i], F_DUPFD, 20);
	dup2(null, 0);
	dup2(null, 1);
	for (int i = 0; i < 4; i++)
		dup2(high[i], 2 + i);
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0)
			_exit(90);
	if (setgroups(0, NULL) != 0 || setresgid(SOME_ID, SOME_ID, SOME_ID) != 0 ||
	    setresuid(SOME_ID, SOME_ID, SOME_ID) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		_exit(91);
	_exit(unpack_main());
}

static void
start(struct process *p)
{
	int log[2], control[2], in[2], out[2];

	if (geteuid() != 0) {
		print_message("SKIP: needs root\n");
		skip();
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, log), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, in), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, out), 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (p->pid == 0)
		become_helper(log[1], control[1], in[1], out[1]);
	close(log[1]);
	close(control[1]);
	close(in[1]);
	close(out[1]);
	*p = (struct process){ p->pid, log[0], control[0], in[0], out[0] };
	alarm(60); /* instead of waiting for ever */
}

static int
end(struct process *p)
{
	int status;

	close(p->control);
	close(p->log);
	if (p->in >= 0)
		close(p->in);
	if (p->out >= 0)
		close(p->out);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	alarm(0);
	return status;
}

static void
receive(struct process *p, struct wire_msg *m, uint16_t type)
{
	static uint8_t frame[LIMIT_FRAME];
	char line[LIMIT_LOG_LINE + 1] = "";
	struct err e = { 0 };

	if (wire_recv(p->control, m, frame, NULL, 0, &e) != 1) {
		(void)!recv(p->log, line, LIMIT_LOG_LINE, MSG_DONTWAIT);
		fail_msg("no message (%s), log: %s", e.text, line);
	}
	assert_int_equal(m->type, type);
}

static void
order(struct process *p, uint8_t method, uint64_t size)
{
	struct wire_msg m = { .type = MSG_UNPACK, .method = method, .max_bytes = size, .window_log = 27 };
	struct err e;

	m.dictionary = 64u << 20;
	assert_int_equal(wire_send(p->control, &m, -1, 0, &e), 1);
}

static void
give(struct process *p, const void *data, size_t len)
{
	assert_int_equal(write(p->in, data, len), (ssize_t)len);
	close(p->in);
	p->in = -1;
}

static size_t
take(struct process *p, uint8_t *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while (len < size && (n = read(p->out, buf + len, size - len)) > 0)
		len += (size_t)n;
	return len;
}

static void
test_sealed(void **state)
{
	uint32_t must = LAYER_UID | LAYER_NO_CAPS | LAYER_NO_NEW_PRIVS | LAYER_RLIMITS | LAYER_NOT_DUMPABLE;
	struct process p;
	struct wire_msg m;

	(void)state;
	start(&p);
	receive(&p, &m, MSG_SEALED);
#ifndef NARLOCK_NO_SECCOMP
	must |= LAYER_SECCOMP;
	assert_int_equal(m.filter_len, policy_unpack.length);
#endif
	assert_int_equal(m.version, WIRE_VERSION);
	assert_int_equal(m.layers & must, must);
	/* A spare that nobody needs ends by itself. */
	assert_int_equal(end(&p), 0);
}

static void
test_order(void **state)
{
	static uint8_t plain[100000], packed[110000], got[100001];
	struct process p;
	struct wire_msg m;
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * i >> 7);
	len = ZSTD_compress(packed, sizeof(packed), plain, sizeof(plain), 3);
	assert_false(ZSTD_isError(len));
	start(&p);
	receive(&p, &m, MSG_SEALED);
	order(&p, METHOD_ZSTD, sizeof(plain));
	give(&p, packed, len);
	assert_int_equal(take(&p, got, sizeof(got)), sizeof(plain));
	assert_memory_equal(got, plain, sizeof(plain));
	receive(&p, &m, MSG_UNPACKED);
	assert_int_equal(m.status, UNPACK_DONE);
	assert_int_equal(m.bytes, len);
	assert_int_equal(m.out, sizeof(plain));
	assert_int_equal(m.text.len, 0);
	assert_int_equal(end(&p), 0);
}

static void
test_bad_data(void **state)
{
	struct process p;
	struct wire_msg m;
	uint8_t got[10];
	char reason[LIMIT_REASON + 1];

	(void)state;
	start(&p);
	receive(&p, &m, MSG_SEALED);
	order(&p, METHOD_GZIP, 1000);
	give(&p, "<html>not found</html>", 22);
	assert_int_equal(take(&p, got, sizeof(got)), 0);
	receive(&p, &m, MSG_UNPACKED);
	assert_int_equal(m.status, UNPACK_FAILED);
	wire_copy(reason, sizeof(reason), m.text);
	assert_string_equal(reason, "this is no gzip data");
	assert_int_equal(end(&p), 0);
}

/* The largest permitted window, really used, fits under the limit on the address space. */
static void
test_largest_window(void **state)
{
	static uint8_t got[1 << 20];
	static const uint64_t size = 300ull << 20;
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t bound = 1 << 20;
	uint8_t *packed = malloc(bound), *zeros = calloc(1, 1 << 20);
	ZSTD_outBuffer to = { packed, bound, 0 };
	struct process p;
	struct wire_msg m;
	uint64_t sum = 0;
	size_t n;

	(void)state;
	assert_true(packed != NULL && zeros != NULL);
	ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, 1);
	ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 27);
	for (unsigned i = 0; i < 300; i++) {
		ZSTD_inBuffer from = { zeros, 1 << 20, 0 };

		n = ZSTD_compressStream2(c, &to, &from, i == 299 ? ZSTD_e_end : ZSTD_e_continue);
		assert_false(ZSTD_isError(n));
	}
	ZSTD_freeCCtx(c);
	start(&p);
	receive(&p, &m, MSG_SEALED);
	order(&p, METHOD_ZSTD, size);
	give(&p, packed, to.pos);
	while ((n = take(&p, got, sizeof(got))) > 0)
		sum += n;
	receive(&p, &m, MSG_UNPACKED);
	assert_int_equal(m.status, UNPACK_DONE);
	assert_true(sum == size && m.out == size);
	assert_int_equal(end(&p), 0);
	free(packed);
	free(zeros);
}

/* Nobody wants the output any more: no word, no signal. */
static void
test_sink_gone(void **state)
{
	static uint8_t much[1 << 17];
	struct process p;
	struct wire_msg m;

	(void)state;
	start(&p);
	receive(&p, &m, MSG_SEALED);
	close(p.out);
	p.out = -1;
	order(&p, METHOD_NONE, 1 << 20);
	give(&p, much, sizeof(much));
	assert_int_equal(end(&p), 0);
}

static void
test_senseless_orders(void **state)
{
	struct process p;
	struct wire_msg m;

	(void)state;
	start(&p);
	receive(&p, &m, MSG_SEALED);
	order(&p, 77, 1000);
	assert_int_equal(end(&p), 1 << 8);
	start(&p);
	receive(&p, &m, MSG_SEALED);
	order(&p, METHOD_NONE, 0);
	assert_int_equal(end(&p), 1 << 8);
	start(&p);
	receive(&p, &m, MSG_SEALED);
	assert_int_equal(send(p.control, "\0\x99", 2, 0), 2);
	assert_int_equal(end(&p), 1 << 8);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_bad_data),
		cmocka_unit_test(test_largest_window),
		cmocka_unit_test(test_sink_gone),
		cmocka_unit_test(test_senseless_orders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
