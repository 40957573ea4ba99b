/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dfile.c - see dfile.h.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "dfile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "log.h"
#include "passthrough.h"

#define MAX_TRIES 3 /* to open a view that others build and remove, too */
#define TICKS_NS 100000000 /* several ticks of the kernel's clock */

/* ---- locks ------------------------------------------------------------------- */

static unsigned hash(uint64_t node)
{
	return (unsigned)(node * 0x9e3779b97f4a7c15ull >> 40);
}

static pthread_mutex_t *lock_of(struct msnap_fs_direct *d, uint64_t node)
{
	return &d->node_lock[hash(node) % MSNAP_FS_DFILE_LOCKS];
}

void msnap_fs_dfile_enter(struct msnap_fs_direct *d, uint64_t node)
{
	pthread_rwlock_rdlock(&d->door);
	pthread_mutex_lock(lock_of(d, node));
}

void msnap_fs_dfile_leave(struct msnap_fs_direct *d, uint64_t node)
{
	pthread_mutex_unlock(lock_of(d, node));
	pthread_rwlock_unlock(&d->door);
}

void msnap_fs_dfile_shut(struct msnap_fs_direct *d)
{
	pthread_rwlock_wrlock(&d->door);
}

void msnap_fs_dfile_open_up(struct msnap_fs_direct *d)
{
	pthread_rwlock_unlock(&d->door);
}

/* ---- table ------------------------------------------------------------------- */

static struct msnap_fs_dfile **bucket_of(struct msnap_fs_direct *d, uint64_t node)
{
	return &d->bucket[hash(node) % MSNAP_FS_DFILE_BUCKETS];
}

struct msnap_fs_dfile *msnap_fs_dfile_find(struct msnap_fs_direct *d, uint64_t node)
{
	struct msnap_fs_dfile *f;

	pthread_mutex_lock(&d->lock);
	for (f = *bucket_of(d, node); f; f = f->next)
		if (f->node == node)
			break;
	pthread_mutex_unlock(&d->lock);
	return f;
}

struct msnap_fs_dfile *msnap_fs_dfile_find_or_add(struct msnap_fs_direct *d,
						  uint64_t node)
{
	struct msnap_fs_dfile *f = msnap_fs_dfile_find(d, node);

	if (f)
		return f;
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->node = node;
	if (msnap_fs_is_live(node))
		f->name = msnap_fs_view_of(node);
	pthread_mutex_lock(&d->lock);
	f->next = *bucket_of(d, node);
	*bucket_of(d, node) = f;
	pthread_mutex_unlock(&d->lock);
	return f;
}

void msnap_fs_dfile_remove(struct msnap_fs_direct *d, struct msnap_fs_dfile *f)
{
	struct msnap_fs_dfile **p;

	pthread_mutex_lock(&d->lock);
	d->nr_kept -= f->kept;
	for (p = bucket_of(d, f->node); *p != f; p = &(*p)->next)
		;
	*p = f->next;
	pthread_mutex_unlock(&d->lock);
	free(f);
}

static size_t count(const struct msnap_fs_direct *d)
{
	size_t nr = 0;

	for (unsigned i = 0; i < MSNAP_FS_DFILE_BUCKETS; i++)
		for (const struct msnap_fs_dfile *f = d->bucket[i]; f; f = f->next)
			nr++;
	return nr;
}

int msnap_fs_dfile_nodes(struct msnap_fs_direct *d, uint64_t **nodes, size_t *nr)
{
	uint64_t *array;
	size_t n = 0;

	pthread_mutex_lock(&d->lock);
	array = malloc((count(d) + 1) * sizeof(*array));
	for (unsigned i = 0; array && i < MSNAP_FS_DFILE_BUCKETS; i++)
		for (struct msnap_fs_dfile *f = d->bucket[i]; f; f = f->next)
			if (msnap_fs_is_live(f->node))
				array[n++] = f->node;
	pthread_mutex_unlock(&d->lock);
	if (!array)
		return -ENOMEM;
	*nodes = array;
	*nr = n;
	return 0;
}

uint64_t msnap_fs_dfile_oldest(struct msnap_fs_direct *d, uint64_t max)
{
	const struct msnap_fs_dfile *oldest = NULL;

	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; d->nr_kept > max && i < MSNAP_FS_DFILE_BUCKETS; i++)
		for (const struct msnap_fs_dfile *f = d->bucket[i]; f; f = f->next)
			if (f->kept && (!oldest || f->stamp < oldest->stamp))
				oldest = f;
	pthread_mutex_unlock(&d->lock);
	return oldest ? oldest->node : 0;
}

void msnap_fs_dfile_keep(struct msnap_fs_direct *d, struct msnap_fs_dfile *f,
			 bool keep)
{
	pthread_mutex_lock(&d->lock);
	d->nr_kept += (uint64_t)keep - f->kept;
	f->kept = keep;
	f->stamp = ++d->stamp;
	pthread_mutex_unlock(&d->lock);
}

/* ---- one view ------------------------------------------------------------------ */

int msnap_fs_dfile_open_view(struct fs *fs, const struct msnap_fs_dfile *f)
{
	return msnap_fs_view_open(fs->direct->views, &f->name);
}

bool msnap_fs_dfile_in_use(struct fs *fs, struct msnap_fs_dfile *f)
{
	int fd;

	if (f->nr_pass)
		return true;
	if (!f->mapped)
		return false;
	fd = msnap_fs_dfile_open_view(fs, f);
	/* An error: it cannot be told. */
	if (fd >= 0) {
		f->mapped = msnap_fs_host_in_use(fd) != 0;
		close(fd);
	}
	return f->mapped;
}

bool msnap_fs_dfile_in_view(struct fs *fs, struct msnap_fs_dfile *f)
{
	return f->has_view && (f->newer || msnap_fs_dfile_in_use(fs, f));
}

/* Snapshots with the same contents share one file: built by whoever is first. */
static int make_shared(struct fs *fs, struct msnap_fs_dfile *f)
{
	struct msnap_id id = msnap_fs_id(f->node);
	struct msnap_identity identity;
	int fd, err = msnap_identify(fs->pool, id, &identity);

	if (err)
		return err;
	f->name = msnap_fs_view_of_identity(&identity);
	fd = msnap_fs_dfile_open_view(fs, f);
	if (fd >= 0)
		close(fd);
	else
		err = msnap_fs_view_build(fs->direct->views, id, &f->name);
	/* Deleted meanwhile: its blocks may be somebody else's by now. */
	if (!err) {
		err = msnap_identify(fs->pool, id, &identity);
		if (err)
			msnap_fs_view_remove(fs->direct->views, &f->name);
	}
	return err;
}

static int make(struct fs *fs, struct msnap_fs_dfile *f)
{
	int err;

	if (f->has_view)
		return 0;
	if (msnap_fs_is_live(f->node))
		err = msnap_fs_view_build(fs->direct->views, msnap_live(f->node),
					  &f->name);
	else
		err = make_shared(fs, f);
	f->has_view = !err;
	return err;
}

static int register_view(struct fs *fs, struct msnap_fs_dfile *f)
{
	int id, err = 0, fd = msnap_fs_dfile_open_view(fs, f);

	if (fd < 0)
		return fd;
	/* Times may have been set since it was made. */
	if (msnap_fs_is_live(f->node) && !msnap_fs_dfile_in_view(fs, f))
		err = msnap_fs_view_set_times(fs->direct->views, f->node, fd);
	id = err ? err : msnap_fs_pass_register(fs, fd);
	close(fd);
	if (id <= 0)
		return id ? id : -EIO;
	f->backing_id = id;
	return 0;
}

int msnap_fs_dfile_make_view(struct fs *fs, struct msnap_fs_dfile *f)
{
	int err = -ENOENT;

	for (int i = 0; err == -ENOENT && i < MAX_TRIES; i++) {
		err = make(fs, f);
		if (!err && !f->backing_id)
			err = register_view(fs, f);
		/* Whoever had the same contents open removed the file. */
		if (err == -ENOENT && !msnap_fs_is_live(f->node))
			f->has_view = false;
	}
	return err;
}

void msnap_fs_dfile_unregister(struct fs *fs, struct msnap_fs_dfile *f)
{
	if (f->backing_id)
		msnap_fs_pass_unregister(fs, f->backing_id);
	f->backing_id = 0;
}

/*
 * The view must be on the media before the list says that it counts: its last block
 * is a copy, which a crash could leave as zeros.
 */
int msnap_fs_dfile_list(struct fs *fs, struct msnap_fs_dfile *f)
{
	int fd, err = 0;

	if (f->listed)
		return 0;
	fd = msnap_fs_dfile_open_view(fs, f);
	if (fd < 0)
		return fd;
	if (fsync(fd))
		err = -errno;
	close(fd);
	MSNAP_CRASH_AT(LIST);
	if (!err)
		err = msnap_view_add(fs->pool, f->node);
	MSNAP_CRASH_AT(LIST_ADDED);
	if (!err)
		err = msnap_commit(fs->pool);
	MSNAP_CRASH_AT(LIST_DURABLE);
	f->listed = !err;
	return err;
}

/* No store can have the same time as @t any more: times go by ticks. */
static bool is_past(const struct timespec *t)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return (now.tv_sec - t->tv_sec) * 1000000000ll + (now.tv_nsec - t->tv_nsec) >
	       TICKS_NS;
}

/*
 * Most files that are open for writing are not written to at the moment.  An absorb
 * leaves pages clean, so that the first store to one is a fault, which sets the view's
 * times, as all else does that changes it.
 */
static int absorb_changed(struct fs *fs, struct msnap_fs_dfile *f, int fd, bool quiet)
{
	struct stat st;
	int res;

	if (fstat(fd, &st))
		return -errno;
	if (f->same.tv_sec && f->same.tv_sec == st.st_ctim.tv_sec &&
	    f->same.tv_nsec == st.st_ctim.tv_nsec)
		return 0;
	f->same = (struct timespec){ 0 };
	res = msnap_fs_view_absorb(fs->direct->views, f->node, fd, quiet);
	if (!res && is_past(&st.st_ctim))
		f->same = st.st_ctim;
	return res;
}

int msnap_fs_dfile_absorb(struct fs *fs, struct msnap_fs_dfile *f)
{
	bool quiet;
	int fd, res;

	if (!f->newer)
		return 0;
	quiet = !msnap_fs_dfile_in_use(fs, f);
	fd = msnap_fs_dfile_open_view(fs, f);
	if (fd < 0)
		return fd;
	res = absorb_changed(fs, f, fd, quiet);
	close(fd);
	MSNAP_CRASH_AT(ABSORBED);
	if (res < 0)
		msnap_fs_log(LOG_ERR, "inode %" PRIu64 ": its contents could not be "
			     "brought into the pool: %s; they stay in its view",
			     f->node, strerror(-res));
	else if (quiet)
		f->newer = false;
	return res < 0 ? res : 0;
}

int msnap_fs_dfile_drop_view(struct fs *fs, struct msnap_fs_dfile *f, bool deleted)
{
	int err = 0;

	if (f->listed)
		err = msnap_view_remove(fs->pool, f->node);
	MSNAP_CRASH_AT(DROP_UNLISTED);
	/* What was absorbed since the last commit a crash would look for in the
	 * view. */
	if (f->listed && !err && !deleted)
		err = msnap_commit(fs->pool);
	if (err)
		return err;
	f->listed = false;
	MSNAP_CRASH_AT(DROP_DURABLE);
	if (f->has_view)
		msnap_fs_view_remove(fs->direct->views, &f->name);
	f->has_view = false;
	f->newer = false;
	f->mapped = false;
	f->same = (struct timespec){ 0 };
	return 0;
}
