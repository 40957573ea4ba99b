/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * direct.c - see direct.h.
 *
 * Where the lines are: a file smaller than SMALL that is only read is not worth a
 * view (opening one costs more than the reads); one with very many pieces takes
 * too long to open (view.c).  A view is kept after the last close, for the next
 * open, up to KEEP_MAX of them.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "direct.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "opts.h"
#include "passthrough.h"
#include "view.h"

#define SMALL (128u << 10)
#define KEEP_MAX 1024
#define NR_LOCKS 256
#define NR_BUCKETS 4096

/* A file that is open, or whose view is kept. */
struct dfile {
	struct dfile *next;
	uint64_t node;
	unsigned nr_pass, nr_cached, nr_plain;
	int backing_id; /* 0: none registered */
	bool has_view;	/* its view is there and was complete when last looked at */
	bool listed;	/* on the pool's list */
	bool newer;	/* the view may be newer than the engine */
	bool kept;	/* closed, and counted in nr_kept */
};

struct msnap_fs_direct {
	struct msnap_fs_views *views;
	pthread_mutex_t node_lock[NR_LOCKS]; /* outer; guards dfile's fields */
	pthread_mutex_t lock;		     /* guards the table and what follows */
	struct dfile *bucket[NR_BUCKETS];
	unsigned nr_kept;
};

/* ---- table ------------------------------------------------------------------ */

static unsigned hash(uint64_t node)
{
	return (unsigned)(node * 0x9e3779b97f4a7c15ull >> 40);
}

static pthread_mutex_t *lock_of(struct msnap_fs_direct *d, uint64_t node)
{
	return &d->node_lock[hash(node) % NR_LOCKS];
}

static struct dfile *find(struct msnap_fs_direct *d, uint64_t node)
{
	struct dfile *f;

	pthread_mutex_lock(&d->lock);
	for (f = d->bucket[hash(node) % NR_BUCKETS]; f; f = f->next)
		if (f->node == node)
			break;
	pthread_mutex_unlock(&d->lock);
	return f;
}

static struct dfile *find_or_add(struct msnap_fs_direct *d, uint64_t node)
{
	struct dfile *f = find(d, node);

	if (f)
		return f;
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->node = node;
	pthread_mutex_lock(&d->lock);
	f->next = d->bucket[hash(node) % NR_BUCKETS];
	d->bucket[hash(node) % NR_BUCKETS] = f;
	pthread_mutex_unlock(&d->lock);
	return f;
}

static void take_out(struct msnap_fs_direct *d, struct dfile *f)
{
	struct dfile **p;

	pthread_mutex_lock(&d->lock);
	d->nr_kept -= f->kept;
	for (p = &d->bucket[hash(f->node) % NR_BUCKETS]; *p != f; p = &(*p)->next)
		;
	*p = f->next;
	pthread_mutex_unlock(&d->lock);
	free(f);
}

static bool is_open(const struct dfile *f)
{
	return f->nr_pass || f->nr_cached || f->nr_plain;
}

static bool in_view(const struct dfile *f)
{
	return f && f->has_view && (f->newer || f->nr_pass);
}

/* ---- views ------------------------------------------------------------------- */

static int name_of(struct fs *fs, uint64_t node, struct msnap_fs_view_name *name)
{
	struct msnap_identity identity;
	int err;

	if (msnap_fs_is_live(node)) {
		*name = msnap_fs_view_of(node);
		return 0;
	}
	err = msnap_identify(fs->pool, msnap_fs_id(node), &identity);
	if (!err)
		*name = msnap_fs_view_of_identity(&identity);
	return err;
}

static int open_view(struct fs *fs, uint64_t node)
{
	struct msnap_fs_view_name name;
	int err = name_of(fs, node, &name);

	return err ? err : msnap_fs_view_open(fs->direct->views, &name);
}

/* The view is of no use any more.  A failure leaves a file that the next mount
 * removes. */
static int drop_view(struct fs *fs, struct dfile *f)
{
	struct msnap_fs_view_name name;
	int err = 0;

	if (f->listed)
		err = msnap_view_remove(fs->pool, f->node);
	if (err)
		return err;
	f->listed = false;
	if (f->has_view && msnap_fs_is_live(f->node)) {
		name = msnap_fs_view_of(f->node);
		msnap_fs_view_remove(fs->direct->views, &name);
	}
	f->has_view = false;
	return 0;
}

/* Snapshots with the same contents share one file: built by whoever is first. */
static int make_view(struct fs *fs, struct dfile *f)
{
	struct msnap_fs_view_name name;
	int fd, err = name_of(fs, f->node, &name);

	if (err || f->has_view)
		return err;
	fd = msnap_fs_is_live(f->node) ? -ENOENT :
					 msnap_fs_view_open(fs->direct->views, &name);
	if (fd >= 0)
		close(fd);
	else
		err = msnap_fs_view_build(fs->direct->views,
					  msnap_fs_id(f->node), &name);
	/* Deleted meanwhile: its blocks may be somebody else's by now. */
	if (!err && !msnap_fs_is_live(f->node)) {
		struct msnap_fs_view_name again;

		err = name_of(fs, f->node, &again);
		if (err)
			msnap_fs_view_remove(fs->direct->views, &name);
	}
	f->has_view = !err;
	return err;
}

static int register_view(struct fs *fs, struct dfile *f)
{
	int fd, id;

	if (f->backing_id)
		return 0;
	fd = open_view(fs, f->node);
	if (fd < 0)
		return fd;
	id = msnap_fs_pass_register(fs, fd);
	close(fd);
	if (id <= 0)
		return id ? id : -EIO;
	f->backing_id = id;
	return 0;
}

/* Before anybody can store to it: see "Crashes" in direct.h. */
static int list_view(struct fs *fs, struct dfile *f)
{
	int err = f->listed ? 0 : msnap_view_add(fs->pool, f->node);

	if (!err && !f->listed)
		err = msnap_commit(fs->pool);
	f->listed = !err;
	return err;
}

static int absorb(struct fs *fs, struct dfile *f, bool quiet)
{
	int fd, res;

	if (!f->newer)
		return 0;
	fd = open_view(fs, f->node);
	if (fd < 0)
		return fd;
	res = msnap_fs_view_absorb(fs->direct->views, f->node, fd, quiet);
	close(fd);
	if (res < 0)
		msnap_fs_log(LOG_ERR, "inode %" PRIu64 ": its contents could not be "
			     "brought into the pool: %s; they stay in its view",
			     f->node, strerror(-res));
	else if (quiet)
		f->newer = false;
	return res < 0 ? res : 0;
}

/* ---- open and close ------------------------------------------------------------ */

static bool writes(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

static bool is_small(struct fs *fs, uint64_t node)
{
	struct msnap_attr attr;

	return msnap_getattr(fs->pool, msnap_fs_id(node), &attr) ||
	       attr.size < SMALL;
}

static enum msnap_fs_how choose(struct fs *fs, const struct dfile *f, int flags)
{
	if (f->nr_pass)
		return MSNAP_FS_PASS;
	if (f->nr_cached)
		return MSNAP_FS_CACHED;
	if ((flags & O_ACCMODE) == O_WRONLY)
		return MSNAP_FS_PLAIN;
	if (!writes(flags) && !f->has_view && is_small(fs, f->node))
		return MSNAP_FS_CACHED;
	return MSNAP_FS_PASS;
}

static int pass(struct fs *fs, struct dfile *f, int flags)
{
	int err = make_view(fs, f);

	if (!err && writes(flags))
		err = list_view(fs, f);
	if (!err)
		err = register_view(fs, f);
	return err;
}

static int count_open(struct fs *fs, struct dfile *f, int flags,
		      enum msnap_fs_how *how, int *id)
{
	int err = 0;

	*how = choose(fs, f, flags);
	*id = 0;
	if (*how == MSNAP_FS_PASS) {
		err = pass(fs, f, flags);
		/* What is open through a view already must stay so. */
		if (err && (f->nr_pass || f->newer))
			return err;
		if (err) {
			if (err != -E2BIG)
				msnap_fs_log(LOG_WARNING, "inode %" PRIu64
					     " is opened cached: %s",
					     msnap_fs_ino(f->node),
					     strerror(-err));
			err = drop_view(fs, f);
			*how = MSNAP_FS_CACHED;
		}
	}
	if (err)
		return err;
	if (*how == MSNAP_FS_PASS) {
		f->nr_pass++;
		f->newer |= writes(flags);
		*id = f->backing_id;
	} else if (*how == MSNAP_FS_CACHED) {
		f->nr_cached++;
	} else {
		f->nr_plain++;
	}
	return 0;
}

static void unkeep(struct msnap_fs_direct *d, struct dfile *f)
{
	pthread_mutex_lock(&d->lock);
	d->nr_kept -= f->kept;
	f->kept = false;
	pthread_mutex_unlock(&d->lock);
}

int msnap_fs_direct_open(struct fs *fs, uint64_t node, int flags,
			 enum msnap_fs_how *how, int *id)
{
	struct msnap_fs_direct *d = fs->direct;
	struct dfile *f;
	int err;

	*how = MSNAP_FS_CACHED;
	*id = 0;
	if (!d || !msnap_fs_pass_works())
		return 0;
	pthread_mutex_lock(lock_of(d, node));
	f = find_or_add(d, node);
	err = f ? count_open(fs, f, flags, how, id) : -ENOMEM;
	if (f && !err)
		unkeep(d, f);
	if (f && err && !is_open(f) && !f->has_view)
		take_out(d, f);
	pthread_mutex_unlock(lock_of(d, node));
	return err;
}

static void end_pass(struct fs *fs, struct dfile *f)
{
	struct msnap_attr attr;

	if (f->backing_id)
		msnap_fs_pass_unregister(fs, f->backing_id);
	f->backing_id = 0;
	/* Nobody needs what was stored to a deleted file. */
	if (!msnap_getattr(fs->pool, msnap_fs_id(f->node), &attr) && attr.nlink)
		absorb(fs, f, true);
}

/* A view that is kept holds blocks that a deleted snapshot gave back: those of
 * snapshots go at once. */
static void forget_or_keep(struct fs *fs, struct dfile *f)
{
	struct msnap_fs_direct *d = fs->direct;
	struct msnap_fs_view_name name;

	if (is_open(f) || f->kept)
		return;
	pthread_mutex_lock(&d->lock);
	f->kept = f->newer || (msnap_fs_is_live(f->node) && f->has_view &&
			       d->nr_kept < KEEP_MAX);
	d->nr_kept += f->kept;
	pthread_mutex_unlock(&d->lock);
	if (f->kept)
		return;
	if (!msnap_fs_is_live(f->node) && f->has_view &&
	    !name_of(fs, f->node, &name))
		msnap_fs_view_remove(d->views, &name);
	if (!drop_view(fs, f))
		take_out(d, f);
}

void msnap_fs_direct_close(struct fs *fs, uint64_t node, int flags,
			   enum msnap_fs_how how)
{
	struct msnap_fs_direct *d = fs->direct;
	struct dfile *f;

	(void)flags;
	if (!d)
		return;
	pthread_mutex_lock(lock_of(d, node));
	f = find(d, node);
	if (f && how == MSNAP_FS_PASS && f->nr_pass) {
		if (!--f->nr_pass)
			end_pass(fs, f);
	} else if (f && how == MSNAP_FS_CACHED && f->nr_cached) {
		f->nr_cached--;
	} else if (f && how == MSNAP_FS_PLAIN && f->nr_plain) {
		f->nr_plain--;
	}
	if (f)
		forget_or_keep(fs, f);
	pthread_mutex_unlock(lock_of(d, node));
}

/* ---- contents, used by others ------------------------------------------------------ */

int msnap_fs_direct_lock(struct fs *fs, uint64_t node, bool change)
{
	struct msnap_fs_direct *d = fs->direct;
	struct dfile *f;
	int fd = -1, err = 0;

	if (!d)
		return -1;
	pthread_mutex_lock(lock_of(d, node));
	f = find(d, node);
	if (in_view(f) && msnap_fs_is_live(node)) {
		/* So far it was only read. */
		if (change && !f->newer)
			err = list_view(fs, f);
		f->newer |= change && !err;
		fd = err ? err : open_view(fs, node);
		err = fd < 0 ? fd : 0;
	} else if (f && f->has_view && change) {
		err = drop_view(fs, f);
	}
	if (!err)
		return fd;
	pthread_mutex_unlock(lock_of(d, node));
	return err == -1 ? -EIO : err;
}

void msnap_fs_direct_unlock(struct fs *fs, uint64_t node, int fd)
{
	if (!fs->direct)
		return;
	if (fd >= 0)
		close(fd);
	pthread_mutex_unlock(lock_of(fs->direct, node));
}

static bool stat_view(struct fs *fs, uint64_t node, struct stat *st)
{
	struct dfile *f;
	int fd = -1;
	bool ok;

	pthread_mutex_lock(lock_of(fs->direct, node));
	f = find(fs->direct, node);
	if (in_view(f) && f->newer)
		fd = open_view(fs, node);
	ok = fd >= 0 && fstat(fd, st) == 0;
	msnap_fs_direct_unlock(fs, node, fd);
	return ok;
}

bool msnap_fs_direct_attr(struct fs *fs, uint64_t node, struct msnap_attr *attr)
{
	struct stat st;

	if (!fs->direct || !msnap_fs_is_live(node) || !S_ISREG(attr->mode) ||
	    !find(fs->direct, node) || !stat_view(fs, node, &st))
		return false;
	attr->size = (uint64_t)st.st_size;
	attr->nr_blk = (uint64_t)st.st_blocks / 8;
	attr->mtime = st.st_mtim;
	if (attr->ctime.tv_sec < st.st_mtim.tv_sec ||
	    (attr->ctime.tv_sec == st.st_mtim.tv_sec &&
	     attr->ctime.tv_nsec < st.st_mtim.tv_nsec))
		attr->ctime = st.st_mtim;
	return true;
}

static int absorb_one(struct fs *fs, uint64_t node)
{
	struct dfile *f;
	int err = 0;

	pthread_mutex_lock(lock_of(fs->direct, node));
	f = find(fs->direct, node);
	if (f && f->has_view)
		err = absorb(fs, f, !f->nr_pass);
	pthread_mutex_unlock(lock_of(fs->direct, node));
	return err;
}

static int list_newer(struct msnap_fs_direct *d, uint64_t **nodes, size_t *nr)
{
	size_t max = 0;
	int err = 0;

	*nodes = NULL;
	*nr = 0;
	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; !err && i < NR_BUCKETS; i++) {
		for (struct dfile *f = d->bucket[i]; !err && f; f = f->next) {
			if (*nr == max) {
				uint64_t *more;

				max = max ? max * 2 : 64;
				more = realloc(*nodes, max * sizeof(*more));
				if (!more) {
					err = -ENOMEM;
					break;
				}
				*nodes = more;
			}
			if (msnap_fs_is_live(f->node))
				(*nodes)[(*nr)++] = f->node;
		}
	}
	pthread_mutex_unlock(&d->lock);
	return err;
}

int msnap_fs_direct_absorb(struct fs *fs, uint64_t node)
{
	uint64_t *nodes;
	size_t nr;
	int err;

	if (!fs->direct)
		return 0;
	if (node)
		return absorb_one(fs, node);
	err = list_newer(fs->direct, &nodes, &nr);
	for (size_t i = 0; !err && i < nr; i++)
		err = absorb_one(fs, nodes[i]);
	free(nodes);
	return err;
}

int msnap_fs_direct_refresh(struct fs *fs, uint64_t node)
{
	int fd = msnap_fs_direct_lock(fs, node, true);
	int err = 0;

	if (fd < -1)
		return fd;
	if (fd >= 0)
		err = msnap_fs_view_refresh(fs->direct->views, node, fd);
	msnap_fs_direct_unlock(fs, node, fd);
	return err;
}

void msnap_fs_direct_forget(struct fs *fs, uint64_t node)
{
	struct msnap_fs_direct *d = fs->direct;
	struct dfile *f;

	if (!d)
		return;
	pthread_mutex_lock(lock_of(d, node));
	f = find(d, node);
	if (f && !is_open(f)) {
		f->newer = false;
		if (!drop_view(fs, f))
			take_out(d, f);
	}
	pthread_mutex_unlock(lock_of(d, node));
}

const char *msnap_fs_direct_mode(struct fs *fs, uint64_t node)
{
	struct msnap_fs_direct *d = fs->direct;
	const char *mode = "";
	struct dfile *f;

	if (!d)
		return "cached";
	pthread_mutex_lock(lock_of(d, node));
	f = find(d, node);
	if (f && f->nr_pass)
		mode = "direct";
	else if (f && (f->nr_cached || f->nr_plain))
		mode = "cached";
	pthread_mutex_unlock(lock_of(d, node));
	return mode;
}

bool msnap_fs_direct_is_passed(struct fs *fs, uint64_t node)
{
	return strcmp(msnap_fs_direct_mode(fs, node), "direct") == 0;
}

/* ---- begin and end of a mount --------------------------------------------------------- */

/* One view that a crash left.  One that is not there was never stored to. */
static int recover_one(struct fs *fs, struct msnap_fs_views *views, uint64_t ino)
{
	struct msnap_fs_view_name name = msnap_fs_view_of(ino);
	struct msnap_attr attr;
	int fd = msnap_fs_view_open(views, &name);
	int res = fd == -ENOENT ? 0 : fd;

	if (fd >= 0 && !msnap_getattr(fs->pool, msnap_live(ino), &attr))
		res = msnap_fs_view_absorb(views, ino, fd, true);
	if (fd >= 0)
		close(fd);
	if (res > 0)
		msnap_fs_log(LOG_NOTICE, "inode %" PRIu64
			     ": what was stored before the crash is back", ino);
	return res < 0 ? res : msnap_view_remove(fs->pool, ino);
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
	if (err == -ENOENT)
		err = msnap_commit(fs->pool);
	/* Only now: what the list named must be in the pool first. */
	if (!err)
		msnap_fs_views_clear(views);
	return err;
}

int msnap_fs_direct_recover(struct fs *fs, char *why, size_t why_size)
{
	struct msnap_fs_views *views;
	uint64_t ino;
	int err;

	if (fs->opts->read_only || msnap_view_next(fs->pool, 0, &ino))
		return 0;
	err = msnap_fs_views_new(fs->pool, msnap_pool_file(fs->pool), why, why_size, &views);
	if (err)
		return err;
	err = recover(fs, views);
	if (err)
		snprintf(why, why_size, "contents that a crash left beside the pool "
			 "cannot be brought in: %s", strerror(-err));
	msnap_fs_views_free(views);
	return err;
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
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	pthread_mutex_init(&d->lock, NULL);
	for (int i = 0; i < NR_LOCKS; i++)
		pthread_mutex_init(&d->node_lock[i], NULL);
	err = msnap_fs_views_new(fs->pool, msnap_pool_file(fs->pool), why, why_size, &d->views);
	if (err) {
		free(d);
		return err;
	}
	msnap_fs_views_clear(d->views);
	*out = d;
	return 0;
}

static int end_file(struct fs *fs, uint64_t node)
{
	struct dfile *f = find(fs->direct, node);
	int err = f ? absorb(fs, f, true) : 0;

	return f && !err ? drop_view(fs, f) : err;
}

/* After the last request: every file is closed, or its opener is gone. */
int msnap_fs_direct_finish(struct fs *fs)
{
	uint64_t *nodes;
	size_t nr;
	int err = 0, res;

	if (!fs->direct)
		return 0;
	res = list_newer(fs->direct, &nodes, &nr);
	for (size_t i = 0; !res && i < nr; i++) {
		int one = end_file(fs, nodes[i]);

		err = err ? err : one;
	}
	free(nodes);
	return err ? err : res;
}

void msnap_fs_direct_free(struct msnap_fs_direct *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < NR_BUCKETS; i++) {
		while (d->bucket[i]) {
			struct dfile *f = d->bucket[i];

			d->bucket[i] = f->next;
			free(f);
		}
	}
	msnap_fs_views_free(d->views);
	free(d);
}
