/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: any bytes as a nar; what the reader takes must be exactly what the format's writer would emit. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "broker/nar.h"
#include "tests/unit/nar_builder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(struct nar_builder *b, const struct nar_event *event, unsigned *depth)
{
	if (event->kind == NAR_DIRECTORY_END) {
		nb_dir_end(b);
		(*depth)--;
	} else {
		assert((event->name != NULL) == (*depth > 0));
		if (event->name != NULL) {
			nb_strs(b, "entry", "(", "name", (char *)NULL);
			nb_bytes(b, event->name, event->name_len);
			nb_strs(b, "node", (char *)NULL);
		}
	}
	switch (event->kind) {
	case NAR_DIRECTORY:
		nb_dir(b);
		(*depth)++;
		return;
	case NAR_REGULAR:
		nb_file(b, event->data, (size_t)event->size, event->executable);
		break;
	case NAR_SYMLINK:
		nb_strs(b, "(", "type", "symlink", "target", (char *)NULL);
		nb_bytes(b, event->data, (size_t)event->size);
		nb_strs(b, ")", (char *)NULL);
		break;
	default:
		break;
	}
	if (*depth > 0)
		nb_entry_end(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nar_builder b = { 0 };
	struct nar_reader r;
	struct nar_event event;
	struct err e = { 0 };
	unsigned depth = 0;
	int rc;

	nb_magic(&b);
	nar_open(&r, data, size);
	while ((rc = nar_next(&r, &event, &e)) == 0 && event.kind != NAR_END) {
		assert(strlen(r.path) <= LIMIT_NAR_PATH);
		if (event.name != NULL) {
			size_t len = strlen(r.path);

			assert(len >= event.name_len);
			assert(memcmp(r.path + len - event.name_len, event.name, event.name_len) == 0);
		}
		write_again(&b, &event, &depth);
	}
	if (rc == 0)
		assert(b.len == size && memcmp(b.data, data, size) == 0);
	else
		assert(e.text[0] != '\0' && nar_next(&r, &event, &e) == -1);
	free(b.data);
	return 0;
}
