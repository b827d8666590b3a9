/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: a link with delay between two network namespaces, for kernels without netem: a tun device in each, and every
 * packet waits.
 *
 *     delay PID NAME MILLISECONDS     the device NAME here and in the network namespace of PID; half the time each way
 *
 * Prints "ready" when both devices are there; addresses are given by who started it.  Runs until it is killed. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PACKET 1536
/* Packets under way in one direction; more are dropped, as by any queue. */
#define QUEUE 65536u

struct packet {
	uint64_t due; /* microseconds */
	size_t len;
	uint8_t data[PACKET];
};

struct way {
	int from, to;
	struct packet *queue;
	unsigned first, count;
};

static void
die(const char *what)
{
	fprintf(stderr, "delay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int
open_tun(const char *name)
{
	struct ifreq r = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	(void)snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &r) < 0)
		die("/dev/net/tun");
	return fd;
}

static void
enter(const char *pid)
{
	char path[64];
	int fd;

	(void)snprintf(path, sizeof path, "/proc/%.20s/ns/net", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		die(path);
	close(fd);
}

static void
take(struct way *w, uint64_t delay)
{
	for (;;) {
		struct packet *p = &w->queue[(w->first + w->count) % QUEUE], spare;
		struct packet *to = w->count < QUEUE ? p : &spare;
		ssize_t n = read(w->from, to->data, sizeof to->data);

		if (n <= 0)
			return;
		to->len = (size_t)n;
		to->due = now() + delay;
		w->count += to == p;
	}
}

static void
pass(struct way *w, uint64_t at)
{
	for (; w->count > 0 && w->queue[w->first].due <= at; w->count--, w->first = (w->first + 1) % QUEUE)
		if (write(w->to, w->queue[w->first].data, w->queue[w->first].len) < 0 && errno == EAGAIN)
			return;
}

int
main(int argc, char **argv)
{
	struct way ways[2] = { 0 };
	uint64_t delay;

	if (argc != 4)
		return 2;
	delay = strtoull(argv[3], NULL, 10) * 500;
	ways[0].from = ways[1].to = open_tun(argv[2]);
	enter(argv[1]);
	ways[1].from = ways[0].to = open_tun(argv[2]);
	for (int i = 0; i < 2; i++)
		if ((ways[i].queue = malloc(QUEUE * sizeof(struct packet))) == NULL)
			die("memory");
	(void)setpriority(PRIO_PROCESS, 0, -15); /* packets must not wait for the programs that are measured */
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct pollfd p[2] = { { ways[0].from, POLLIN, 0 }, { ways[1].from, POLLIN, 0 } };
		uint64_t at = now(), next = at + 1000000;
		struct timespec t;

		for (int i = 0; i < 2; i++)
			if (ways[i].count > 0 && ways[i].queue[ways[i].first].due < next)
				next = ways[i].queue[ways[i].first].due;
		next = next > at ? next - at : 0;
		t = (struct timespec){ (time_t)(next / 1000000), (long)(next % 1000000) * 1000 };
		if (ppoll(p, 2, &t, NULL) < 0 && errno != EINTR)
			die("poll");
		for (int i = 0; i < 2; i++) {
			take(&ways[i], delay);
			pass(&ways[i], now());
		}
	}
}
