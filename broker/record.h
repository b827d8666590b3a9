/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: what `info' told the daemon, for the agent that will install it.
 *
 * guix-daemon registers the references that the query agent told it with the nar that another process, the
 * substitute agent, unpacks.  The two must speak of one narinfo, or the store's closures are wrong.  So the
 * query agent leaves a symbolic link for each path that it tells, in a directory named after the parent that
 * both share: the daemon's process for this client.  The substitute agent installs only what it says.
 *
 * The link's name is the path's hash part.  What it points to is no file but the nix-base32 SHA-256 of what was
 * told: SHA-256 of the path, of the nar, of the references (narinfo_references_digest), and the nar's size.  A
 * link is there as a whole or not at all, and a rename puts one in the place of another. */
#ifndef NARLOCK_RECORD_H
#define NARLOCK_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/narinfo.h"
#include "ipc/err.h"

struct record {
	int dir;		/* of this daemon process; owned; -1 after a failed record_open */
	size_t count;		/* links that were to be made by this process */
};

enum record_verdict {
	RECORD_NONE,	/* nothing was told: any authorised narinfo will do */
	RECORD_SAME,	/* this is what was told */
	RECORD_OTHER	/* something else was told, or nobody knows: this narinfo must not be installed */
};

/* record_open(rec, dir, parent, e): for the records of PARENT (getppid()) in DIR.  Reads /proc, so call it
 * before the broker confines itself.  Also removes some of what processes left that are gone.  After -1
 * nothing can be added and record_check fails: what cannot be compared must not be installed. */
int record_open(struct record *rec, int dir, pid_t parent, struct err *e);

/* record_add(rec, ni, e): before the reply to `info' is complete.  When it fails the path must not be
 * advertised.  What is already the last record of its path is not written again. */
int record_add(struct record *rec, const struct narinfo *ni, struct err *e);

/* record_check(rec, ni, e): compare NI with the last record of its path.  E says why it is RECORD_OTHER. */
enum record_verdict record_check(const struct record *rec, const struct narinfo *ni, struct err *e);

#endif
