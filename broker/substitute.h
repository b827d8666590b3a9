/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: one substitute from the daemon's command to its one-line answer. */
#ifndef NARLOCK_BROKER_SUBSTITUTE_H
#define NARLOCK_BROKER_SUBSTITUTE_H

struct broker;

/* substitute(b, path, dest): do `substitute PATH DEST' and write exactly one line to the reply descriptor.  Whatever
 * happens, DEST is either complete and verified and the answer is `success', or DEST does not exist. */
void substitute(struct broker *b, const char *path, const char *dest);

#endif
