/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): do the records of the audit log still hang together (broker/audit.h)? */
#ifndef NARLOCK_CLI_AUDITCHAIN_H
#define NARLOCK_CLI_AUDITCHAIN_H

#include <stddef.h>
#include <stdint.h>

#include "helper/cli/auditline.h"
#include "ipc/err.h"

/* Records that are looked at in one go: about 120 MB of memory. */
#define AUDITCHAIN_RECORDS 2000000
/* Links to records that were not there yet. */
#define AUDITCHAIN_PENDING 65536

#define AUDITCHAIN_HASH 64 /* hexadecimal digits */

/* What a finding amounts to: nothing to worry about; the log itself says that something was lost; it
 * was tampered with. */
enum auditchain_level { AUDITCHAIN_NOTE, AUDITCHAIN_LOST, AUDITCHAIN_CHANGED };

struct auditchain;

/* Told of each finding.  WHAT is printable. */
typedef void auditchain_tell(void *owner, enum auditchain_level level, const char *file, uint64_t line,
    const char *what);

/* auditchain_new(tell, owner): NULL when there is no memory. */
struct auditchain *auditchain_new(auditchain_tell *tell, void *owner);
void auditchain_free(struct auditchain *c);

/* auditchain_file(c, name): the lines that follow are of this file; NAME has to live as long as C.
 * Files come in the order in which they were written. */
void auditchain_file(struct auditchain *c, const char *name);

/* auditchain_line(c, line, len, complete, l): the next line, without its newline; COMPLETE: there was
 * one.  L: its fields, with 0 of them when it is no record.  0, or -1 when there are too many or memory
 * is short. */
int auditchain_line(struct auditchain *c, const char *line, size_t len, int complete,
    const struct auditline *l,
    const struct err *why);

/* auditchain_has(c, hash): is there a record with this hash (64 digits)? */
int auditchain_has(const struct auditchain *c, const char *hash);

/* auditchain_first(c): the time of the first record, "" when there is none. */
const char *auditchain_first(const struct auditchain *c);

/* auditchain_middle(c): the first joined record goes on from one before these files. */
int auditchain_middle(const struct auditchain *c);

/* auditchain_joined(c): there is a joined record, so that there was a LOG.head. */
int auditchain_joined(const struct auditchain *c);

/* auditchain_end(c): there are no more: tell what only shows now. */
void auditchain_end(struct auditchain *c);

/* auditchain_count(c): records that are chained. */
size_t auditchain_count(const struct auditchain *c);

#endif
