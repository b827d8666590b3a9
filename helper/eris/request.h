/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): what an HTTP request to the block server asks for.  Nothing here allocates or opens
 * anything. */
#ifndef NARLOCK_ERIS_REQUEST_H
#define NARLOCK_ERIS_REQUEST_H

#include <stdint.h>

#include "helper/eris/eris.h"

/* request_block(query, ref): the query of /uri-res/N2R: "urn:blake2b:" and a reference, nothing else.  0
 * or -1. */
int request_block(const char *query, uint8_t ref[ERIS_REF]);

/* request_file(url): the path of a file, relative to the directory, within URL (which is percent-decoded
 * and begins with a slash); or NULL: empty, too long (REQUEST_PATH), with an empty part, with a part that
 * begins with a dot (so nothing hidden, no dots for directories), or with a control character. */
const char *request_file(const char *url);
#define REQUEST_PATH 1024

enum request_range {
	REQUEST_WHOLE, /* no range, or one to be ignored (RFC 9110, 14.2): several, or not in bytes */
	REQUEST_PART,
	REQUEST_UNSATISFIABLE, /* 416 */
};

/* request_range(header, size, offset, length): what the value of a Range header (NULL: none) asks of SIZE
 * bytes. *OFFSET and *LENGTH are filled for REQUEST_WHOLE and REQUEST_PART, and lie within SIZE. */
enum request_range request_range(const char *header, uint64_t size, uint64_t *offset, uint64_t *length);

#endif
