/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests (hostile): a helper that does what a script says.
 *
 * The script is the end of the program's own file, followed by its length in 8 hexadecimal digits, so that each test
 * installs its own liar and no path is needed.  Lines before the first `@TYPE' run at the start, those after it
 * whenever a frame of that type (hexadecimal) arrives; at the end of the channel the liar ends.
 *
 *     honest FLAG PROGRAM   if FLAG exists, become PROGRAM
 *     again FLAG PROGRAM    all but the first process that gets here (it makes FLAG) become PROGRAM
 *     seal | weak           the real lock and its SEALED; a filter that allows everything, and no SEALED
 *     send HEX | sendfd HEX one frame; $i is the id of the last frame that had one, $n that id plus one
 *     log HEX               one packet on the log channel
 *     show                  the frame that has just arrived, in hexadecimal and a dot, on the log channel: `= ', then `+ '
 *     write HEX | endless | close     on the order's descriptor (unpack: on 5)
 *     repeat N COMMAND      the same, N times
 *     turn N COMMAND        only at the N-th frame of this type
 *     thread | sleep MS | hang | spin | segv | forbidden | exit N */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "helper/common/seal.h"
#include "ipc/wire.h"

enum { FD_LOG = 2, FD_CONTROL = 3, FD_OUT = 5 };

#define MOST_BYTES (1 << 20)

struct liar {
	char **argv;
	const struct wire_msg *frame; /* that arrived last */
	int out;
	uint32_t id;
	unsigned long turns[256]; /* frames by type */
	uint8_t bytes[MOST_BYTES];
};

/* --- Script ------------------------------------------------------------------------------------------------- */

static char *read_script(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char digits[9] = "", *script;
	size_t len;
	off_t end;

	if (fd < 0 || (end = lseek(fd, 0, SEEK_END)) < 8 || pread(fd, digits, 8, end - 8) != 8)
		_exit(70);
	len = strtoul(digits, NULL, 16);
	if ((script = malloc(len + 1)) == NULL)
		_exit(70);
	for (size_t got = 0; got < len;) {
		ssize_t n = pread(fd, script + got, len - got, end - 8 - (off_t)(len - got));

		if (n <= 0)
			_exit(70);
		got += (size_t)n;
	}
	script[len] = '\0';
	close(fd);
	return script;
}

static unsigned digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10);
}

static size_t put_id(uint8_t *to, uint32_t id)
{
	for (int i = 0; i < 4; i++)
		to[i] = (uint8_t)(id >> (24 - 8 * i));
	return 4;
}

/* The bytes that TEXT stands for, in l->bytes. */
static size_t parse(struct liar *l, const char *text)
{
	size_t n = 0;

	while (*text != '\0' && *text != '\n' && n + 4 < MOST_BYTES) {
		if (*text == ' ') {
			text++;
		} else if (*text == '$') {
			n += put_id(l->bytes + n, text[1] == 'n' ? l->id + 1 : l->id);
			text += 2;
		} else {
			l->bytes[n++] = (uint8_t)(digit(text[0]) << 4 | digit(text[1]));
			text += 2;
		}
	}
	return n;
}

/* --- What a liar can do ------------------------------------------------------------------------------------- */

static void send_packet(int to, const uint8_t *bytes, size_t len, int with_fd)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } control;
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fd = FD_LOG;

	memset(&control, 0, sizeof control);
	if (with_fd) {
		mh.msg_control = &control;
		mh.msg_controllen = sizeof control;
		control.h.cmsg_level = SOL_SOCKET;
		control.h.cmsg_type = SCM_RIGHTS;
		control.h.cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(&control.h), &fd, sizeof fd);
	}
	if (sendmsg(to, &mh, MSG_NOSIGNAL) < 0)
		_exit(71);
}

static void give(struct liar *l, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(l->out, l->bytes + done, len - done);

		if (n <= 0)
			return;
		done += (size_t)n;
	}
}

static void show(const struct liar *l)
{
	static uint8_t frame[LIMIT_FRAME];
	size_t len = wire_encode(l->frame, frame, NULL);
	char text[340] = "= ";

	for (size_t i = 0, n = 2; i < len; i++) {
		n += (size_t)snprintf(text + n, sizeof text - n, i + 1 < len ? "%02x" : "%02x.", frame[i]);
		if (i + 1 < len && n + 4 < sizeof text)
			continue;
		send_packet(FD_LOG, (uint8_t *)text, n, 0);
		text[0] = '+';
		n = 2;
	}
}

static void endless(const struct liar *l)
{
	while (write(l->out, l->bytes, MOST_BYTES) > 0)
		;
}

static void install_filter(void)
{
	struct sock_filter allow[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog program = { 1, allow };

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(72);
}

static void seal(const struct liar *l)
{
	int unpack = strcmp(l->argv[0], "unpack") == 0;
	const struct seal_options options = {
		.policy = unpack ? &policy_unpack : strcmp(l->argv[0], "fetch") == 0 ? &policy_fetch : &policy_resolve,
		.fds = unpack ? 0x3f : 0xf,
		.flags = unpack ? SEAL_NO_CONNECT : 0,
		.nofile = 32,
		.fsize = 0,
		.as = SEAL_NO_LIMIT,
	};
	struct seal_report report;
	struct wire_msg m;
	struct err e;

	if (seal_process(&options, &report, &e) != 0)
		_exit(73);
	seal_message(&report, NULL, &m);
	(void)wire_send(FD_CONTROL, &m, -1, 0, NULL);
}

static void *doze(void *arg)
{
	for (;;)
		(void)pause();
	return arg;
}

static void start_thread(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, doze, NULL) != 0)
		_exit(74);
}

static void become(const struct liar *l, const char *words, int all_but_first)
{
	char flag[512], program[512];

	if (sscanf(words, "%511s %511s", flag, program) != 2)
		_exit(75);
	if (all_but_first) {
		int fd = open(flag, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

		if (fd >= 0) {
			close(fd);
			return;
		}
	} else if (access(flag, F_OK) != 0) {
		return;
	}
	execv(program, l->argv);
	_exit(76);
}

static void doze_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	(void)nanosleep(&t, NULL);
}

static int is(const char *line, const char *word)
{
	size_t n = strlen(word);

	return strncmp(line, word, n) == 0 && (line[n] == ' ' || line[n] == '\n' || line[n] == '\0');
}

static void end_badly(const char *line)
{
	if (is(line, "segv"))
		(void)raise(SIGSEGV);
	if (is(line, "forbidden"))
		(void)syscall(SYS_ptrace, 0, 0, 0, 0);
	if (is(line, "exit"))
		_exit(atoi(line + 5));
	_exit(77);
}

static void run(struct liar *l, const char *line)
{
	const char *rest = strpbrk(line, " \n");

	rest = rest != NULL && *rest == ' ' ? rest + 1 : "";
	if (is(line, "repeat")) {
		unsigned long n = strtoul(rest, (char **)(uintptr_t)&rest, 10);

		while (n-- > 0)
			run(l, rest + 1);
	} else if (is(line, "turn")) {
		unsigned long n = strtoul(rest, (char **)(uintptr_t)&rest, 10);

		if (n == l->turns[l->frame->type & 0xff])
			run(l, rest + 1);
	} else if (is(line, "send") || is(line, "sendfd")) {
		send_packet(FD_CONTROL, l->bytes, parse(l, rest), is(line, "sendfd"));
	} else if (is(line, "log")) {
		send_packet(FD_LOG, l->bytes, parse(l, rest), 0);
	} else if (is(line, "show")) {
		show(l);
	} else if (is(line, "write")) {
		give(l, parse(l, rest));
	} else if (is(line, "endless")) {
		endless(l);
	} else if (is(line, "close")) {
		close(l->out);
	} else if (is(line, "seal")) {
		seal(l);
	} else if (is(line, "weak")) {
		install_filter();
	} else if (is(line, "thread")) {
		start_thread();
	} else if (is(line, "honest") || is(line, "again")) {
		become(l, rest, is(line, "again"));
	} else if (is(line, "sleep")) {
		doze_ms(atol(rest));
	} else if (is(line, "hang")) {
		(void)doze(NULL);
	} else if (is(line, "spin")) {
		for (;;)
			__asm__ volatile("");
	} else if (*line != '\n' && *line != '\0') {
		end_badly(line);
	}
}

/* Run the lines from LINE up to the next handler. */
static void run_lines(struct liar *l, const char *line)
{
	while (*line != '\0' && *line != '@') {
		const char *end = strchr(line, '\n');

		run(l, line);
		if (end == NULL)
			return;
		line = end + 1;
	}
}

static const char *handler(const char *script, unsigned type)
{
	char head[16];
	const char *p;

	(void)snprintf(head, sizeof head, "\n@%02x\n", type);
	p = strstr(script, head);
	return p != NULL ? p + strlen(head) : NULL;
}

int main(int argc, char **argv)
{
	static struct liar l;
	static uint8_t frame[LIMIT_FRAME];
	const char *script = read_script(), *lines;
	struct wire_msg m;
	struct err e;
	int fd;

	(void)argc;
	(void)signal(SIGPIPE, SIG_IGN);
	l.argv = argv;
	l.out = FD_OUT;
	run_lines(&l, script);
	while (wire_recv(FD_CONTROL, &m, frame, &fd, 0, &e) == 1) {
		if (fd >= 0)
			l.out = fd;
		l.frame = &m;
		l.turns[m.type & 0xff]++;
		if (m.type == MSG_LOOKUP || m.type == MSG_ORDER || m.type == MSG_PROBE)
			l.id = m.id;
		if ((lines = handler(script, m.type)) != NULL)
			run_lines(&l, lines);
	}
	_exit(0);
}
