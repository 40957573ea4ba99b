/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * direct-mount.c - begin and end of a direct mount: what a crash left, and what is
 * left to the next mount.  See direct.h.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "direct.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dfile.h"
#include "host.h"
#include "log.h"
#include "opts.h"

/* ---- after a crash ------------------------------------------------------------- */

/*
 * Programs that had it mapped before the crash may go on storing.  Those stores are
 * in the view that goes, as soon as it has been absorbed.
 */
static int absorb(struct fs *fs, struct msnap_fs_views *views, uint64_t ino)
{
	struct msnap_fs_view_name name = msnap_fs_view_of(ino);
	struct msnap_attr attr;
	int fd = msnap_fs_view_open(views, &name);
	int res = 0;

	if (fd == -ENOENT)
		return 0; /* it was never stored to */
	if (fd < 0)
		return fd;
	if (!msnap_getattr(fs->pool, msnap_live(ino), &attr))
		res = msnap_fs_view_absorb(views, ino, fd,
					   msnap_fs_host_in_use(fd) == 0);
	close(fd);
	return res;
}

static int recover_one(struct fs *fs, struct msnap_fs_views *views, uint64_t ino)
{
	int res = absorb(fs, views, ino);

	MSNAP_CRASH_AT(RECOVER_ABSORBED);
	if (res > 0)
		msnap_fs_log(LOG_NOTICE, "inode %" PRIu64 ": what was stored and not "
			     "in the pool yet is back", ino);
	if (res < 0)
		msnap_fs_log(LOG_ERR, "inode %" PRIu64 ": its contents cannot be "
			     "brought into the pool: %s; they stay in its view", ino,
			     strerror(-res));
	if (res < 0)
		return 0;
	/* No room even for that: it is found again, and has nothing new then. */
	res = msnap_view_remove(fs->pool, ino);
	return res == -ENOSPC ? 0 : res;
}

static bool is_listed(void *arg, const char *name)
{
	struct fs *fs = arg;
	char *end;
	uint64_t found, ino = strtoull(name, &end, 10);

	return ino && !*end && !msnap_view_next(fs->pool, ino - 1, &found) &&
	       found == ino;
}

static int recover(struct fs *fs, struct msnap_fs_views *views)
{
	uint64_t ino = 0;
	int err;

	while (!(err = msnap_view_next(fs->pool, ino, &ino))) {
		err = recover_one(fs, views, ino);
		if (err)
			return err;
	}
	MSNAP_CRASH_AT(RECOVER_UNLISTED);
	if (err == -ENOENT)
		err = msnap_commit(fs->pool);
	MSNAP_CRASH_AT(RECOVER_DURABLE);
	/* Only now: what the list named must be in the pool first. */
	if (!err)
		msnap_fs_views_clear(views, is_listed, fs);
	MSNAP_CRASH_AT(RECOVERED);
	return err;
}

bool msnap_fs_direct_is_needed(struct fs *fs)
{
	uint64_t ino;

	return !fs->opts->read_only && !msnap_view_next(fs->pool, 0, &ino);
}

int msnap_fs_direct_recover(struct fs *fs, char *why, size_t why_size)
{
	struct msnap_fs_views *views;
	uint64_t ino;
	int err;

	if (msnap_view_next(fs->pool, 0, &ino))
		return 0;
	if (fs->opts->read_only) {
		msnap_fs_log(LOG_WARNING, "what was stored last is beside the pool, "
			     "and shows when it is mounted for writing");
		return 0;
	}
	err = msnap_fs_views_new(fs->pool, msnap_pool_file(fs->pool), why, why_size,
				 &views);
	if (err)
		return err;
	err = recover(fs, views);
	if (err)
		snprintf(why, why_size, "contents that were left beside the pool "
			 "cannot be brought in: %s", strerror(-err));
	msnap_fs_views_free(views);
	return err;
}

/* ---- begin --------------------------------------------------------------------- */

/* A view that found no room in the pool is what the file contains. */
static int adopt_one(struct fs *fs, struct msnap_fs_direct *d, uint64_t ino)
{
	struct msnap_fs_view_name name = msnap_fs_view_of(ino);
	struct msnap_fs_dfile *f;
	int fd = msnap_fs_view_open(d->views, &name);

	if (fd == -ENOENT)
		return msnap_view_remove(fs->pool, ino);
	if (fd < 0)
		return fd;
	close(fd);
	f = msnap_fs_dfile_find_or_add(d, ino);
	if (!f)
		return -ENOMEM;
	f->has_view = true;
	f->listed = true;
	f->newer = true;
	f->mapped = true;
	msnap_fs_dfile_keep(d, f, true);
	return 0;
}

static int adopt(struct fs *fs, struct msnap_fs_direct *d)
{
	uint64_t ino = 0;
	int err = 0;

	while (!err && !msnap_view_next(fs->pool, ino, &ino))
		err = adopt_one(fs, d, ino);
	return err;
}

static struct msnap_fs_direct *make(void)
{
	struct msnap_fs_direct *d = calloc(1, sizeof(*d));
	pthread_rwlockattr_t attr;

	if (!d)
		return NULL;
	/* Or many users could keep a rollback out for ever. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(
		&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&d->door, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&d->lock, NULL);
	for (int i = 0; i < MSNAP_FS_DFILE_LOCKS; i++)
		pthread_mutex_init(&d->node_lock[i], NULL);
	return d;
}

int msnap_fs_direct_new(struct fs *fs, char *why, size_t why_size,
			struct msnap_fs_direct **out)
{
	struct msnap_fs_direct *d;
	int err;

	if (geteuid() != 0) {
		snprintf(why, why_size, "FUSE passthrough is for root only");
		return -EPERM;
	}
	d = make();
	if (!d)
		return -ENOMEM;
	/* Whoever opens a view in the moment that we hold a lease of it. */
	signal(SIGIO, SIG_IGN);
	err = msnap_fs_views_new(fs->pool, msnap_pool_file(fs->pool), why, why_size,
				 &d->views);
	if (!err) {
		msnap_fs_views_clear(d->views, is_listed, fs);
		err = adopt(fs, d);
	}
	if (err) {
		msnap_fs_direct_free(d);
		return err;
	}
	*out = d;
	return 0;
}

/* ---- end ----------------------------------------------------------------------- */

/*
 * Every file is closed, or its opener is gone; mappings of what was closed can be
 * there after a lazy unmount, or when we were told to end.  Their stores are for the
 * next mount to find.
 */
static int end_file(struct fs *fs, struct msnap_fs_dfile *f)
{
	struct msnap_attr attr;
	int err;

	f->nr_pass = 0;
	f->mapped = true;
	f->newer &= !msnap_getattr(fs->pool, msnap_live(f->node), &attr);
	err = f->has_view ? msnap_fs_dfile_absorb(fs, f) : 0;
	if (!err && !f->newer && f->listed)
		err = msnap_view_remove(fs->pool, f->node);
	return err;
}

int msnap_fs_direct_finish(struct fs *fs)
{
	uint64_t *nodes;
	size_t nr;
	int res, err;

	if (!fs->direct)
		return 0;
	err = msnap_fs_dfile_nodes(fs->direct, &nodes, &nr);
	if (err)
		return err;
	for (size_t i = 0; i < nr; i++) {
		struct msnap_fs_dfile *f = msnap_fs_dfile_find(fs->direct, nodes[i]);

		res = f ? end_file(fs, f) : 0;
		err = err ? err : res;
	}
	free(nodes);
	/* What the list names no more is in the pool, once this is done. */
	MSNAP_CRASH_AT(END);
	res = msnap_commit(fs->pool);
	MSNAP_CRASH_AT(END_DURABLE);
	if (!res)
		msnap_fs_views_end(fs->direct->views, is_listed, fs);
	return err ? err : res;
}

static void free_files(struct msnap_fs_dfile *f)
{
	struct msnap_fs_dfile *next;

	for (; f; f = next) {
		next = f->next;
		free(f);
	}
}

void msnap_fs_direct_free(struct msnap_fs_direct *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < MSNAP_FS_DFILE_BUCKETS; i++)
		free_files(d->bucket[i]);
	msnap_fs_views_free(d->views);
	free(d);
}
