/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): puts blocks that IPFS missed into IPFS, while the nar arrives and behind it.
 *
 * Nobody ever waits for it: blocks are copied into a bounded queue, and what does not fit is only
 * remembered. When a nar has succeeded, what was not put by then is written into the journal (journal.h),
 * for narlock-heal; the queue is worked off during the next items, and the entry shortened or removed when
 * that has worked. Puts go to the first `ipfs' source that takes them, unpinned, a few at a time. */
#ifndef NARLOCK_FETCH_HEAL_H
#define NARLOCK_FETCH_HEAL_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"
#include "helper/fetch/fetch.h"

struct heal;

/* heal_init(f, e): makes f->heal; 0 or -1.  Needs no settings yet.  heal_free(f) ends what runs; also
 * without heal_init. */
int heal_init(struct fetch *f, struct err *e);
void heal_free(struct fetch *f);

/* heal_begin(f, cap, urls, n, nar_size, allowed): from now on the calls below are about this nar: its read
 * capability (ERIS_CAP bytes), the URLs of its file (N texts, for the journal; user and password are taken
 * out), its NarSize.  ALLOWED 0 (see heal_private()), `seed = none' and no usable kind of source make all
 * of it count only. A nar that was begun before and not ended is ended without success. */
void heal_begin(struct fetch *f, const uint8_t cap[ERIS_CAP], const char *const *urls, size_t n, uint64_t nar_size,
    int allowed);

/* heal_missed(f, ref): IPFS was asked for this block and said no, or did not deliver it in time; once a block, and
 * right before heal_block() if it came from elsewhere (thousands are told apart, more are not).  REF NULL:
 * nobody knows which of them it has (it was given up as a whole, or inner nodes were missing): the journal
 * will say `all'. */
void heal_missed(struct fetch *f, const uint8_t ref[ERIS_REF]);

/* heal_unsure(f, ref, suspect): this block comes from elsewhere, and IPFS was not asked for it.  Not counted; but
 * where IPFS does not have all of the nar (SUSPECT: as is to be expected; or a block was missed before or is later),
 * it is looked whether the daemon has it: what it has not is counted and put, and what could not be looked for
 * stands in the journal. */
void heal_unsure(struct fetch *f, const uint8_t ref[ERIS_REF], int suspect);

/* heal_whole(f): all of the nar has come as a file: also what was missed and does not come to heal_block(). */
void heal_whole(struct fetch *f);

/* heal_block(f, ref, data, len): this block (ERIS_SMALL or ERIS_LARGE bytes, copied) came from elsewhere,
 * and was VERIFIED: its reference is one of the nar's own.  Blocks of a file that was encoded anew come
 * here when the root matched, or when REF was known beforehand from a node.  Counts as repaired if it was
 * missed; put if it was missed or is unsure; with `seed = all' it is put in any case. */
void heal_block(struct fetch *f, const uint8_t ref[ERIS_REF], const uint8_t *data, size_t len);

/* heal_forbid(f): the content of the nar at hand turned out to come from a private place: nothing more of
 * it is put or written down. */
void heal_forbid(struct fetch *f);

/* heal_end(f, success): the nar is complete (1), or will not be (0): then no journal entry is made.  Does
 * not wait. To be called before NAR_END is sent: the counts stay readable until the next heal_begin(). */
void heal_end(struct fetch *f, int success);

/* heal_counts(f, missed, repaired, reinserted): of the nar at hand, up to now: blocks that IPFS missed,
 * those of them that came from elsewhere, and blocks whose put was answered. */
void heal_counts(const struct fetch *f, uint32_t *missed, uint32_t *repaired, uint32_t *reinserted);

/* heal_pump(f): start and watch puts; once in every turn of the loop.  heal_deadline(f): when it has to be
 * called at the latest (milliseconds), or UINT64_MAX. */
void heal_pump(struct fetch *f);
uint64_t heal_deadline(const struct fetch *f);

/* heal_busy(f): whether copies still wait or are on their way. */
int heal_busy(const struct fetch *f);

/* heal_private(f, u): 1 if what is at U must not be spread: U has a user or a password, or its host is, or
 * resolves to, an address of this machine, of a private network (RFC 1918, RFC 6598, ULA) or link-local,
 * or, where a proxy resolves it, has a name that only a local network knows (without a dot, .local, .lan,
 * .internal, .home.arpa).  Names that are not resolved yet are not private: ask again when the transfer
 * has started. */
int heal_private(const struct fetch *f, const struct url *u);

#endif
