/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the access control list: whose signatures this machine believes. */
#ifndef NARLOCK_ACL_H
#define NARLOCK_ACL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

/* The fingerprint of a key is the SHA-256 of its canonical s-expression, so that equal fingerprints are keys
 * equal as structures, however a file writes them. */
struct acl {
	size_t count;
	uint8_t (*keys)[32];	/* fingerprints, owned */
};

/* Where the list came from. */
enum acl_origin {
	ACL_FILE,		/* CONFDIR/acl */
	ACL_SIGNING_KEY,	/* no such file: this machine's own key, CONFDIR/signing-key.pub */
	ACL_EMPTY		/* neither: nothing is authorised */
};

/* acl_load(acl, confdir, origin, e): read CONFDIR/acl anew; free with acl_free.  Each entry must be
 * (entry KEY (tag (guix import))), else the whole list is refused.  A file that others than root and the
 * broker's user could have written is refused too; a symbolic link to a good file is fine. */
int acl_load(struct acl *acl, const char *confdir, enum acl_origin *origin, struct err *e);

/* acl_create(confdir, e): write CONFDIR/acl with the key of CONFDIR/signing-key.pub, atomically, mode
 * 0644, unless there is one.  Call at start-up, before the broker confines itself, after ACL_SIGNING_KEY. */
int acl_create(const char *confdir, struct err *e);

/* acl_parse(acl, text, len, e): the same as acl_load for a list in memory. */
int acl_parse(struct acl *acl, const char *text, size_t len, struct err *e);

bool acl_has(const struct acl *acl, const uint8_t fingerprint[32]);

void acl_free(struct acl *acl);

#endif
