/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): the commands of narlock-publish that are not the server. */
#ifndef NARLOCK_PUBLISH_TOOL_H
#define NARLOCK_PUBLISH_TOOL_H

#include <signal.h>
#include <stdio.h>

#include "helper/publish/conf.h"

/* Name of the index in the state directory. */
#define TOOL_INDEX "index.sqlite"

/* tool_open_cache(conf, e): the directory's descriptor, or -1. */
int tool_open_cache(const struct conf *conf, struct err *e);
/* tool_index_path(conf, path): its length, or -1: too long. */
int tool_index_path(const struct conf *conf, char path[LIMIT_PATH], struct err *e);

/* tool_prepare(conf, e): make the index if there is none; one that is damaged, or no index, gets another
 * name, and a new one is begun.  Before the system call filter, which allows neither. */
int tool_prepare(const struct conf *conf, struct err *e);

/* tool_renew(conf, e): the same, whatever can be seen at once: the index was found to be damaged while it was
 * used. */
int tool_renew(const struct conf *conf, struct err *e);

/* All return the exit status: 0, 1 (verify: something is wrong), or -1 and *e. */
int tool_index(const struct conf *conf, int cache, const volatile sig_atomic_t *stop, struct err *e);
int tool_status(const struct conf *conf, struct err *e);
/* tool_verify(conf, cache, sample, stop, e): the index itself, and of every nar (SAMPLE 1) or every n-th one
 * all blocks, encoded again and compared with the index. */
int tool_verify(const struct conf *conf, int cache, unsigned sample, const volatile sig_atomic_t *stop,
    struct err *e);

#endif
