/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): the sum of an audit log: who signed, from where, what was refused and why, which blocks
 * were repaired. */
#ifndef NARLOCK_CLI_AUDITSUM_H
#define NARLOCK_CLI_AUDITSUM_H

#include "helper/cli/auditline.h"

struct auditsum;

/* auditsum_new(): NULL when there is no memory. */
struct auditsum *auditsum_new(void);
void auditsum_free(struct auditsum *s);

/* auditsum_add(s, l): one more record.  Tables are bounded; what has no place is counted as "others". */
void auditsum_add(struct auditsum *s, const struct auditline *l);

/* auditsum_print(s): to standard output. */
void auditsum_print(const struct auditsum *s);

#endif
