/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the conversation with guix-daemon. */
#ifndef NARLOCK_BROKER_AGENT_H
#define NARLOCK_BROKER_AGENT_H

struct broker;

/* agent_query(b), agent_substitute(b): obey the commands on descriptor 0 until it ends.  Nothing that a command brings
 * ends the process: guix-daemon would die of SIGPIPE at its next command. */
void agent_query(struct broker *b);
void agent_substitute(struct broker *b);

#endif
