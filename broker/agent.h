/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the conversation with guix-daemon. */
#ifndef NARLOCK_BROKER_AGENT_H
#define NARLOCK_BROKER_AGENT_H

struct broker;

/* agent_run(b, substituting): obey the commands of --query or --substitute on descriptor 0 until it ends.  Nothing that a
 * command brings ends the process: guix-daemon would die of SIGPIPE at its next command. */
void agent_run(struct broker *b, int substituting);

#endif
