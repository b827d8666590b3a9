/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: its own confinement. */
#include <errno.h>
#include <sys/prctl.h>

#include "broker/broker.h"
#include "broker/drop.h"
#include "policy/policy.h"

/* Store, state, spool, log; configuration, /proc; destinations. */
#define MAX_RULES (8 + CONF_DESTINATIONS)

int confine(struct broker *b, struct err *e)
{
	struct landlock_rule rules[MAX_RULES];
	unsigned n = 0;

	if (drop_rights() < 0)
		return err_sys(e, errno, "the broker cannot give up its capabilities");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(e, errno, "the broker cannot hide its memory");
	rules[n++] = (struct landlock_rule){ b->store_dir, LANDLOCK_READ_WRITE };
	rules[n++] = (struct landlock_rule){ b->conf.state_directory, LANDLOCK_READ_WRITE };
	if (b->conf.spool_directory[0] != '\0')
		rules[n++] = (struct landlock_rule){ b->conf.spool_directory, LANDLOCK_READ_WRITE };
	for (unsigned i = 0; i < b->conf.destination_count; i++)
		rules[n++] = (struct landlock_rule){ b->conf.destinations[i], LANDLOCK_READ_WRITE };
	rules[n++] = (struct landlock_rule){ b->config_dir, LANDLOCK_READ };
	rules[n++] = (struct landlock_rule){ "/proc", LANDLOCK_READ };
	/* A kernel that cannot allow links between directories (ABI 1) would break deduplication: it is left out there. */
	/* No LANDLOCK_SCOPE: it would keep the spawner's parent death signal from it, too, and with a stopped spawner that
	 * is all there is.  Signals and sockets of ours are forbidden by the filter. */
	if (landlock_confine(rules, n, LANDLOCK_NO_BIND | LANDLOCK_NO_CONNECT | LANDLOCK_NEED_REFER, &b->landlock, e) < 0)
		return -1;
	if (b->conf.require_landlock && !b->landlock.fs)
		return err_set(e, "Landlock is required (landlock = require), but this kernel has none in use");
	return policy_load(&policy_broker, e);
}
