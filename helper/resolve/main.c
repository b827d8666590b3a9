/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (resolve): host names to addresses, from /etc/hosts and the servers of /etc/resolv.conf. */
#include <netdb.h>
#include <netinet/in.h>
#include <nss.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper/common/logline.h"
#include "helper/common/seal.h"
#include "helper/common/unit.h"
#include "ipc/wire.h"

#define CONTROL 3
/* The resolver's configuration, a socket per name server, a socket to a local daemon. */
#define MAX_FILES 32
#define MAX_MEMORY (256ULL * 1024 * 1024)

/* hosts, resolv.conf, gai.conf, and where resolv.conf may be a link to. */
static const struct landlock_rule files[] = {
	{ "/etc", LANDLOCK_READ },
	{ "/run", LANDLOCK_READ },
	{ "/var/run", LANDLOCK_READ },
};

static struct addrinfo *
ask(const char *host)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list = NULL;

	return getaddrinfo(host, NULL, &hints, &list) == 0 ? list : NULL;
}

/* One address as PROTOCOL.md has it.  Returns 0 for a family that it does not have. */
static int
put_address(uint8_t entry[ADDRESS_BYTES], const struct addrinfo *a)
{
	memset(entry, 0, ADDRESS_BYTES);
	if (a->ai_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, a->ai_addr, sizeof in);
		entry[0] = 4;
		memcpy(entry + 1, &in.sin_addr, 4);
	} else if (a->ai_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, a->ai_addr, sizeof in6);
		if (in6.sin6_scope_id != 0) /* the wire has no place for it, and it is no address of a server */
			return 0;
		entry[0] = 6;
		memcpy(entry + 1, &in6.sin6_addr, 16);
	} else {
		return 0;
	}
	return 1;
}

static int
answer(const struct wire_msg *question, struct err *e)
{
	uint8_t addresses[LIMIT_ADDRESSES * ADDRESS_BYTES];
	struct wire_msg m = { .type = MSG_HOST_ADDRESSES, .text = question->text, .blob = { addresses, 0 } };
	char host[LIMIT_HOST + 1];
	struct addrinfo *list;

	wire_copy(host, sizeof host, question->text);
	list = host[0] != '\0' ? ask(host) : NULL; /* an empty name would mean this machine */
	for (const struct addrinfo *a = list; a != NULL && m.blob.len < sizeof addresses; a = a->ai_next)
		if (put_address(addresses + m.blob.len, a))
			m.blob.len += ADDRESS_BYTES;
	if (list != NULL)
		freeaddrinfo(list);
	m.status = m.blob.len == 0;
	return wire_send(CONTROL, &m, -1, 0, e) == 1 ? 0 : -1;
}

static int
lock(int unit, struct err *e)
{
	struct seal_options options = { .policy = POLICY_OF(resolve), .flags = unit ? SEAL_ANY_PARENT : 0, .fds = 0xf,
		.nofile = MAX_FILES, .fsize = 0,
		.as = MAX_MEMORY, .files = files, .nfiles = sizeof files / sizeof files[0] };
	struct seal_report report;
	struct wire_msg m;

	if (seal_process(&options, &report, e) != 0)
		return -1;
	seal_message(&report, NULL, &m);
	return wire_send(CONTROL, &m, -1, 0, e) == 1 ? 0 : -1;
}

static int
serve(struct err *e)
{
	uint8_t buf[LIMIT_FRAME];
	struct wire_msg m;
	int rc;

	while ((rc = wire_recv(CONTROL, &m, buf, NULL, 0, e)) == 1) {
		if (m.type != MSG_LOOKUP_HOST)
			return err_set(e, "%s is not allowed now", wire_name(m.type));
		if (answer(&m, e) != 0)
			return -1;
	}
	return rc;
}

int
main(void)
{
	struct addrinfo *list;
	struct err e;
	int unit;

	signal(SIGPIPE, SIG_IGN);
	(void)syscall(SYS_close_range, CONTROL + 1, ~0u, 0);
	if ((unit = unit_begin(CONTROL, &e)) < 0) {
		logline("%s", e.text);
		_exit(1);
	}
	/* Only what is inside the C library: other services are modules that would have to be mapped after the lock, or
	 * daemons behind sockets.  Where such a daemon does the work, resolv.conf names it as a server, too. */
	if (__nss_configure_lookup("hosts", "files dns") != 0) {
		logline("cannot choose the name services");
		_exit(1);
	}
	if ((list = ask("localhost")) != NULL) /* whatever is loaded once, now */
		freeaddrinfo(list);
	if (lock(unit, &e) != 0 || serve(&e) != 0) {
		logline("%s", e.text);
		_exit(1);
	}
	_exit(0);
}
