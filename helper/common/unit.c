/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch, resolve): started by the service manager for one connection, instead of by the spawner. */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "helper/common/unit.h"
#include "ipc/wire.h"

/* Who connects and says nothing is waited for so long, in milliseconds. */
#define PATIENCE 15000

/* The mode of the socket lets in root and its owner.  The same is demanded here: a mode is easily changed. */
static int
check_peer(int control, struct err *e)
{
	struct sockaddr_un at = { .sun_family = AF_UNSPEC };
	struct ucred peer = { 0, (uid_t)-1, (gid_t)-1 };
	int type = 0;
	socklen_t at_len = sizeof at - 1, peer_len = sizeof peer, type_len = sizeof type;
	struct stat st;

	if (getsockopt(control, SOL_SOCKET, SO_TYPE, &type, &type_len) != 0 ||
	    getsockopt(control, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len) != 0 ||
	    getsockname(control, (struct sockaddr *)&at, &at_len) != 0)
		return err_sys(e, errno, "descriptor %d is no connection", control);
	if (type != SOCK_SEQPACKET || at.sun_family != AF_UNIX ||
	    at_len <= offsetof(struct sockaddr_un, sun_path) || at.sun_path[0] != '/')
		return err_set(e, "descriptor %d is no connection to a socket of packets with a path",
		    control);
	if (peer.uid == 0)
		return 0;
	if (stat(at.sun_path, &st) != 0)
		return err_sys(e, errno, "cannot look at %s", at.sun_path);
	if (peer.uid != st.st_uid)
		return err_set(e, "uid %u may not connect: neither root nor the owner of %s (%u)", peer.uid,
		    at.sun_path, st.st_uid);
	return 0;
}

/* The next frame must be of TYPE; *FD becomes its descriptor. */
static int
expect(int control, uint16_t type, int *fd, struct err *e)
{
	struct pollfd p = { control, POLLIN, 0 };
	uint8_t buf[LIMIT_FRAME];
	struct wire_msg m;
	int rc;

	if (poll(&p, 1, PATIENCE) != 1)
		return err_set(e, "who connected sent nothing");
	if ((rc = wire_recv(control, &m, buf, fd, MSG_DONTWAIT, e)) != 1)
		return rc == -1 ? -1 : err_set(e, "who connected has gone");
	if (m.type != type || (type == MSG_CHANNEL && m.which != STDERR_FILENO))
		return err_set(e, "%s where %s was expected", wire_name(m.type), wire_name(type));
	return 0;
}

int
unit_begin(int control, struct err *e)
{
	const char *count = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
	const struct wire_msg started = { .type = MSG_STARTED };
	int log;

	if (count == NULL)
		return 0;
	if (strcmp(count, "1") != 0 || pid == NULL || strtol(pid, NULL, 10) != getpid())
		return err_set(e, "LISTEN_FDS or LISTEN_PID is not meant for this process");
	if (check_peer(control, e) != 0 || expect(control, MSG_CHANNEL, &log, e) != 0)
		return -1;
	/* Until here the journal was our log; from here on the broker is. */
	if (dup2(log, STDERR_FILENO) < 0)
		return err_sys(e, errno, "cannot take the log channel");
	close(log);
	if (wire_send(control, &started, -1, 0, e) != 1 || expect(control, MSG_BEGIN, NULL, e) != 0)
		return -1;
	return 1;
}
