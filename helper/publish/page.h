/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): the status page and the metrics, as text. */
#ifndef NARLOCK_PUBLISH_PAGE_H
#define NARLOCK_PUBLISH_PAGE_H

#include <stddef.h>

#include "helper/publish/conf.h"
#include "helper/publish/shared.h"

#define PAGE_ROOM (32 * 1024)

/* Length of what was written to OUT, which has PAGE_ROOM bytes. */
size_t page_status(char *out, const struct conf *conf, const struct shared *s);
size_t page_metrics(char *out, const struct conf *conf, const struct shared *s);

#endif
