/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): memory that the processes of `narlock-publish serve' share. */
#include <errno.h>
#include <sys/mman.h>

#include "helper/publish/shared.h"

struct shared *
shared_new(struct err *e)
{
	struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t attr;
	int rc;

	if (s == MAP_FAILED) {
		err_sys(e, errno, "shared memory");
		return NULL;
	}
	pthread_mutexattr_init(&attr);
	rc = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	if (rc == 0)
		rc = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	if (rc == 0)
		rc = pthread_mutex_init(&s->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	if (rc == 0)
		return s;
	err_sys(e, rc, "a lock");
	munmap(s, sizeof *s);
	return NULL;
}

void
shared_lock(struct shared *s)
{
	/* Every element is sound at any time: who died with the lock left nothing half done that matters. */
	if (pthread_mutex_lock(&s->lock) == EOWNERDEAD)
		pthread_mutex_consistent(&s->lock);
}

void
shared_unlock(struct shared *s)
{
	pthread_mutex_unlock(&s->lock);
}

struct shared_again *
shared_find(struct shared *s, uint32_t nar, int64_t hash)
{
	for (unsigned i = 0; i < SHARED_QUEUE; i++)
		if (s->queue[i].state != AGAIN_FREE && s->queue[i].nar == nar && s->queue[i].hash == hash)
			return &s->queue[i];
	return NULL;
}
