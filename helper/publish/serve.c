/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): `narlock-publish serve'. */
#include "helper/publish/serve.h"
int
serve_run(struct serve_options *o, struct err *e)
{
	(void)o;
	return err_set(e, "not yet");
}
