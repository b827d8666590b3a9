/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: what `info' told the daemon, for the agent that will install it.
 *
 * guix-daemon registers the references that the query agent told it with the nar that another process, the
 * substitute agent, unpacks.  The two must speak of one narinfo, or the store's closures are wrong.  So the
 * query agent writes down what it told, in a file named after the parent that both share: the daemon's
 * process for this client.  The substitute agent installs only what the last record of a path says.
 *
 * A line is `PATH NARHASH NARSIZE REFERENCES CHECK': the store path, the nar's SHA-256 in nix-base32, its
 * size in bytes, the SHA-256 of the references (narinfo_references_digest) in hex, and the first 16 hex
 * digits of the SHA-256 of all before.  Each is written, between two newlines, by one write in append mode:
 * writers do not mix, and a torn line spoils only itself. */
#ifndef NARLOCK_RECORD_H
#define NARLOCK_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/narinfo.h"
#include "ipc/err.h"

struct record {
	int dir;			/* borrowed */
	int fd;				/* of the file, -1 until it is needed; owned */
	char name[64];			/* of the file; empty after a failed record_open */
	off_t scanned;			/* bytes of the file that INDEX knows */
	size_t count, room;		/* of INDEX, a hash table; ROOM is a power of 2 */
	struct record_slot *index;	/* owned */
};

enum record_verdict {
	RECORD_NONE,	/* nothing was told: any authorised narinfo will do */
	RECORD_SAME,	/* this is what was told */
	RECORD_OTHER	/* something else was told: this narinfo must not be installed */
};

/* record_open(rec, dir, parent, e): for the records of PARENT (getppid()) in DIR.  Reads /proc, so call it
 * before the broker confines itself.  Also removes the files of processes that are gone.  After -1
 * nothing can be added and record_check fails: what cannot be compared must not be installed. */
int record_open(struct record *rec, int dir, pid_t parent, struct err *e);

/* record_add(rec, ni, e): before the reply to `info' is complete.  When it fails the path must not be
 * advertised.  What is already the last record of its path is not written again. */
int record_add(struct record *rec, const struct narinfo *ni, struct err *e);

/* record_check(rec, ni, verdict, e): compare NI with the last record of its path.  -1 when the records
 * cannot be read: then nothing is known and nothing may be installed. */
int record_check(struct record *rec, const struct narinfo *ni, enum record_verdict *verdict, struct err *e);

void record_close(struct record *rec);

#endif
