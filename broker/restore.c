/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: write a verified nar into the store.
 *
 * The nar is walked several times, which is cheap: once to check all of it, then to write.  With threads, the
 * caller first makes all directories, then every thread walks the nar and writes the files it claims, then
 * the caller closes the directories; without, one walk does all three.  One file is never split: two writers
 * of one inode wait for each other in the kernel. */
#include <errno.h>
#include <fcntl.h>
#include <gcrypt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/dedup.h"
#include "broker/nar.h"
#include "broker/nixbase32.h"
#include "broker/remove.h"
#include "broker/restore.h"

/* More threads than this contend more than they write. */
#define THREADS_MAX 4
/* Nars below this many bytes are done before a thread has started. */
#define THREADS_FROM (1024 * 1024)
/* Threads claim files by runs of this much work, in bytes; a file counts FILE_COST more than its size, about
 * what the kernel could copy in the time that creating it takes.  Runs keep threads out of each other's
 * directories. */
#define RUN_COST (512 * 1024)
#define FILE_COST (32 * 1024)
/* One write(2): large enough that calls cost nothing, small enough that a failure elsewhere stops this
 * soon. */
#define WRITE_MAX (8 * 1024 * 1024)
/* From here on sendfile(2) is faster than write(2) from the mapping (measured: 512 MiB, 0.19 against 0.27 s). */
#define SENDFILE_FROM (256 * 1024)
/* The longest NAME: a store item's, and ".tmp" of a repair. */
#define NAME_LIMIT (LIMIT_STORE_NAME + 4)
/* A thread needs little: a path, and what libgcrypt and vsnprintf take. */
#define STACK_SIZE (256 * 1024)

static const struct timespec EPOCH_1[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };

/* What all walkers share. */
struct job {
	int parent_fd;
	const char *name;
	const uint8_t *nar;
	uint64_t size;
	const struct restore_options *options;
	atomic_uint_least64_t next_run; /* the first run that nobody has claimed */
	atomic_bool stop;               /* somebody failed */
	atomic_bool created;            /* NAME is ours, and ours to remove */
};

enum { MAKE_DIRECTORIES = 1, WRITE_FILES = 2, CLOSE_DIRECTORIES = 4 };

/* One walk over the nar. */
struct walker {
	struct job *job;
	unsigned tasks;
	int dir_fd;         /* the directory that the reader is in, or -1: not opened yet */
	gcry_md_hd_t md;    /* SHA-256, or NULL without deduplication */
	uint64_t run;       /* the run claimed last */
	uint64_t cost;      /* work passed by so far, in bytes, the same in all walkers */
	uint64_t index;     /* entries passed by so far */
	struct restore_stats stats;
	bool failed;
	struct err err;
	struct nar_reader reader;
};

static int fail(struct walker *w, const char *what)
{
	return err_sys(&w->err, errno, "store: cannot %s \"%s\" of %.60s", what, nar_tail(w->reader.path), w->job->name);
}

static void leave_directory(struct walker *w)
{
	if (w->dir_fd != -1)
		(void)close(w->dir_fd);
	w->dir_fd = -1;
}

/* Open the directory whose path is the first LEN bytes of the reader's path, if it is not open.  Always from
 * the top: then one descriptor is enough for any depth, and the kernel checks the whole way. */
static int enter_directory(struct walker *w, size_t len)
{
	char path[NAME_LIMIT + 1 + LIMIT_NAR_PATH + 1];

	if (w->dir_fd != -1)
		return 0;
	(void)snprintf(path, sizeof path, "%s%s%.*s", w->job->name, len > 0 ? "/" : "", (int)len,
	               w->reader.path);
	w->dir_fd = remove_open(w->job->parent_fd, path);
	return w->dir_fd == -1 ? fail(w, "open the directory of") : 0;
}

/* Where the entry goes: a directory and a name in it. */
static int place(struct walker *w, const struct nar_event *event, int *dir_fd, const char **leaf)
{
	size_t len = strlen(w->reader.path), dir_len = len - event->name_len;

	if (event->name == NULL) {
		*dir_fd = w->job->parent_fd;
		*leaf = w->job->name;
		return 0;
	}
	if (enter_directory(w, dir_len > 0 ? dir_len - 1 : 0) == -1)
		return -1;
	*dir_fd = w->dir_fd;
	*leaf = w->reader.path + dir_len;
	return 0;
}

static int make_directory(struct walker *w, const struct nar_event *event)
{
	int dir_fd;
	const char *leaf;

	if (place(w, event, &dir_fd, &leaf) == -1)
		return -1;
	if (mkdirat(dir_fd, leaf, 0700) == -1)
		return fail(w, "create the directory");
	w->job->created = true;
	return 0;
}

static int close_directory(struct walker *w)
{
	if (enter_directory(w, strlen(w->reader.path)) == -1)
		return -1;
	if (fchmod(w->dir_fd, 0555) == -1 || futimens(w->dir_fd, EPOCH_1) == -1)
		return fail(w, "finish the directory");
	return 0;
}

static int make_symlink(struct walker *w, const struct nar_event *event, int dir_fd, const char *leaf)
{
	char target[LIMIT_NAR_TARGET + 1];

	memcpy(target, event->data, (size_t)event->size);
	target[event->size] = '\0';
	if (symlinkat(target, dir_fd, leaf) == -1)
		return fail(w, "create the symbolic link");
	w->job->created = true;
	if (utimensat(dir_fd, leaf, EPOCH_1, AT_SYMLINK_NOFOLLOW) == -1)
		return fail(w, "finish the symbolic link");
	return 0;
}

/* Large contents are copied by the kernel from the spool's file: no page of it has to be mapped for that. */
static ssize_t copy_some(const struct job *job, int fd, const uint8_t *data, size_t size)
{
	off_t at = data - job->nar;

	if (job->options->spool_fd > 0 && size >= SENDFILE_FROM)
		return sendfile(fd, job->options->spool_fd, &at, size);
	return write(fd, data, size);
}

static int write_contents(struct walker *w, int fd, const uint8_t *data, uint64_t size)
{
	while (size > 0 && !w->job->stop) {
		ssize_t n = copy_some(w->job, fd, data, size < WRITE_MAX ? (size_t)size : WRITE_MAX);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == 0) /* the spool ends too early: nobody but us can have cut it */
			errno = EIO;
		if (n <= 0)
			return -1;
		data += n;
		size -= (uint64_t)n;
	}
	return 0;
}

static int write_file(struct walker *w, const struct nar_event *event, mode_t mode, int dir_fd,
                      const char *leaf)
{
	int fd = openat(dir_fd, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode), errnum;
	struct stat st;

	if (fd == -1)
		return fail(w, "create");
	w->job->created = true;
	/* The umask or a default ACL may have taken bits away. */
	if (write_contents(w, fd, event->data, event->size) == -1 || fstat(fd, &st) == -1 ||
	    ((st.st_mode & 07777) != mode && fchmod(fd, mode) == -1) || futimens(fd, EPOCH_1) == -1) {
		errnum = errno;
		(void)close(fd);
		errno = errnum;
		return fail(w, "write");
	}
	if (close(fd) == -1)
		return fail(w, "write");
	w->stats.bytes_written += event->size;
	return 0;
}

static int make_file(struct walker *w, const struct nar_event *event, int dir_fd, const char *leaf)
{
	const struct restore_options *options = w->job->options;
	mode_t mode = event->executable ? 0555 : 0444;
	char link[DEDUP_NAME];

	if (w->md == NULL || event->size < DEDUP_MIN)
		return write_file(w, event, mode, dir_fd, leaf);
	if (event->name == NULL && options->nar_sha256 != NULL)
		nixbase32_encode(link, options->nar_sha256, 32);
	else
		dedup_name(w->md, event->data, event->size, event->executable, link);
	if (dedup_take(options->links_fd, link, event->size, mode, dir_fd, leaf)) {
		w->job->created = true;
		w->stats.bytes_linked += event->size;
		return 0;
	}
	if (write_file(w, event, mode, dir_fd, leaf) == -1)
		return -1;
	/* A write that another walker's failure cut short must not become the file of everybody else. */
	if (!w->job->stop &&
	    dedup_give(options->links_fd, link, event->size, mode, dir_fd, leaf, w->index)) {
		w->stats.bytes_written -= event->size;
		w->stats.bytes_linked += event->size;
	}
	return 0;
}

/* Is the file or symbolic link ours?  The running cost says in which run it begins; every walker computes
 * the same. */
static bool claim(struct walker *w, uint64_t size)
{
	uint64_t run = w->cost / RUN_COST;

	w->cost += size + FILE_COST;
	w->index++;
	while (w->run < run + 1) /* w->run is one more than the run claimed, 0 at first */
		w->run = atomic_fetch_add(&w->job->next_run, 1) + 1;
	return w->run == run + 1;
}

static int do_leaf(struct walker *w, const struct nar_event *event)
{
	int dir_fd;
	const char *leaf;

	if ((w->tasks & WRITE_FILES) == 0 || !claim(w, event->size))
		return 0;
	if (place(w, event, &dir_fd, &leaf) == -1)
		return -1;
	return event->kind == NAR_SYMLINK ? make_symlink(w, event, dir_fd, leaf)
	                                  : make_file(w, event, dir_fd, leaf);
}

static int walk(struct walker *w)
{
	struct nar_event event;
	int rc = 0;

	nar_open(&w->reader, w->job->nar, w->job->size);
	while (rc == 0 && !w->job->stop) {
		if (nar_next(&w->reader, &event, &w->err) == -1)
			return -1; /* cannot be: the same bytes passed check() */
		if (event.kind == NAR_END)
			return 0;
		if (event.kind == NAR_REGULAR || event.kind == NAR_SYMLINK) {
			rc = do_leaf(w, &event);
			continue;
		}
		if (event.kind == NAR_DIRECTORY && (w->tasks & MAKE_DIRECTORIES) != 0)
			rc = make_directory(w, &event);
		if (event.kind == NAR_DIRECTORY_END && (w->tasks & CLOSE_DIRECTORIES) != 0)
			rc = close_directory(w);
		leave_directory(w);
	}
	leave_directory(w);
	return rc;
}

static void *thread_main(void *arg)
{
	struct walker *w = arg;

	if (walk(w) == -1) {
		w->failed = true;
		w->job->stop = true;
	}
	return NULL;
}

/* Run walkers 1..N-1 in threads and walker 0 here.  Threads that cannot start are not missed: files are
 * claimed, not allotted.  Signals stay with the caller's thread. */
static void run_walkers(struct walker *w, unsigned n)
{
	pthread_t thread[THREADS_MAX];
	pthread_attr_t attr;
	sigset_t all, before;
	unsigned started = 1;

	if (n > 1 && pthread_attr_init(&attr) == 0) {
		(void)pthread_attr_setstacksize(&attr, STACK_SIZE);
		(void)sigfillset(&all);
		(void)pthread_sigmask(SIG_SETMASK, &all, &before);
		while (started < n && pthread_create(&thread[started], &attr, thread_main, &w[started]) == 0)
			started++;
		(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
		(void)pthread_attr_destroy(&attr);
	}
	(void)thread_main(&w[0]);
	while (--started > 0)
		(void)pthread_join(thread[started], NULL);
}

/* One phase of the work, by N walkers.  Hash handles are made here, so that no thread allocates. */
static int phase(struct job *job, unsigned tasks, unsigned n, struct restore_stats *stats, struct err *e)
{
	struct walker w[THREADS_MAX];
	bool hash = job->options->links_fd != -1 && (tasks & WRITE_FILES) != 0;
	int rc = 0;

	memset(w, 0, sizeof w);
	for (unsigned i = 0; i < n; i++) {
		w[i].job = job;
		w[i].tasks = tasks;
		w[i].dir_fd = -1;
		if (hash && gcry_md_open(&w[i].md, GCRY_MD_SHA256, 0) != 0)
			w[i].md = NULL; /* then its files are not linked: no reason to fail */
	}
	run_walkers(w, n);
	for (unsigned i = 0; i < n; i++) {
		gcry_md_close(w[i].md);
		stats->bytes_written += w[i].stats.bytes_written;
		stats->bytes_linked += w[i].stats.bytes_linked;
		if (w[i].failed && rc == 0) {
			*e = w[i].err;
			rc = -1;
		}
	}
	return rc;
}

/* Read all of the nar before anything is written, and count. */
static int check(const uint8_t *nar, uint64_t size, struct restore_stats *stats, struct err *e)
{
	struct nar_reader reader;
	struct nar_event event;

	nar_open(&reader, nar, size);
	do {
		if (nar_next(&reader, &event, e) == -1)
			return -1;
		stats->files += event.kind == NAR_REGULAR;
		stats->directories += event.kind == NAR_DIRECTORY;
		stats->symlinks += event.kind == NAR_SYMLINK;
	} while (event.kind != NAR_END);
	return 0;
}

static unsigned choose_threads(const struct restore_options *options, uint64_t size, uint64_t leaves)
{
	unsigned n = options->threads;
	cpu_set_t cpus;

	if (n == 0)
		n = size >= THREADS_FROM && sched_getaffinity(0, sizeof cpus, &cpus) == 0 ?
		        (unsigned)CPU_COUNT(&cpus) : 1;
	if (n > leaves)
		n = (unsigned)leaves;
	return n > THREADS_MAX ? THREADS_MAX : n;
}

static int write_all(struct job *job, unsigned n, struct restore_stats *stats, struct err *e)
{
	if (n <= 1)
		return phase(job, MAKE_DIRECTORIES | WRITE_FILES | CLOSE_DIRECTORIES, 1, stats, e);
	if (phase(job, MAKE_DIRECTORIES, 1, stats, e) == -1 || phase(job, WRITE_FILES, n, stats, e) == -1)
		return -1;
	return phase(job, CLOSE_DIRECTORIES, 1, stats, e);
}

/* Remove what a failure left; if even that fails, both reasons belong in E. */
static void undo(struct job *job, struct err *e)
{
	struct err second;
	size_t used = strlen(e->text);

	if (job->created && remove_tree(job->parent_fd, job->name, &second) == -1)
		(void)snprintf(e->text + used, sizeof e->text - used, "; what was written stays: %.120s",
		               second.text);
}

int restore_nar(int parent_fd, const char *name, const uint8_t *nar, uint64_t size,
                const struct restore_options *options, struct restore_stats *stats, struct err *e)
{
	struct restore_stats counted = { 0 };
	struct job job = {
		.parent_fd = parent_fd, .name = name, .nar = nar, .size = size, .options = options
	};
	size_t len = strlen(name);
	unsigned threads;

	if (len == 0 || len > NAME_LIMIT || strchr(name, '/') != NULL || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return err_set(e, "store: not a name to restore to");
	if (check(nar, size, &counted, e) == -1)
		return -1;
	threads = choose_threads(options, size, counted.files + counted.symlinks);
	if (write_all(&job, threads, &counted, e) == -1) {
		undo(&job, e);
		return -1;
	}
	if (stats != NULL)
		*stats = counted;
	return 0;
}
