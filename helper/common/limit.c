/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (all): a resource limit that nobody can raise again. */
#include <errno.h>
#include <sys/resource.h>

#include "helper/common/limit.h"

int
limit_set(int resource, uint64_t most, const char *name, struct err *e)
{
	struct rlimit r;

	if (getrlimit((__rlimit_resource_t)resource, &r) != 0)
		return err_sys(e, errno, "cannot read the limit %s", name);
	/* Somebody before us may have been stricter.  RLIM_INFINITY is the largest number. */
	if (r.rlim_max > most)
		r.rlim_max = (rlim_t)most;
	r.rlim_cur = r.rlim_max;
	if (setrlimit((__rlimit_resource_t)resource, &r) != 0)
		return err_sys(e, errno, "cannot set the limit %s", name);
	return 0;
}
