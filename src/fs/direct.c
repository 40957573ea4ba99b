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
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "dfile.h"
#include "host.h"
#include "log.h"
#include "notify.h"
#include "passthrough.h"

#define SMALL (128u << 10)
#define KEEP_MAX 1024
#define LETTING_GO 5 /* looks whether the kernel has, after a close */
#define NOTED_NS 100000000 /* by then the kernel has noted an open, see below */

/* ---- open -------------------------------------------------------------------- */

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

/* A small file that is being written PLAIN is read PASS: pages of the kernel's that
 * were filled during a write would stay. */
static enum msnap_fs_how choose(struct fs *fs, struct msnap_fs_dfile *f, int flags)
{
	if (f->has_view && msnap_fs_dfile_in_use(fs, f))
		return MSNAP_FS_PASS;
	if (f->nr_cached)
		return MSNAP_FS_CACHED;
	if ((flags & O_ACCMODE) == O_WRONLY && !f->pass_waits)
		return MSNAP_FS_PLAIN;
	if (!writes(flags) && !f->has_view && !f->nr_plain && is_small(fs, f->node))
		return MSNAP_FS_CACHED;
	return MSNAP_FS_PASS;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/*
 * The kernel notes how a file is open when the opening thread goes on after our answer,
 * and does not tell us.  When it notes a PLAIN open after a PASS one, the former fails
 * (EIO, fuse_file_io_open()).  So a PASS open is not answered right behind a PLAIN one.
 */
static bool is_too_early(struct fs *fs, struct msnap_fs_dfile *f, int flags)
{
	bool early = f->nr_plain && choose(fs, f, flags) == MSNAP_FS_PASS &&
		     now_ns() - f->plain_ns < NOTED_NS;

	f->pass_waits |= early;
	return early;
}

struct attr_job {
	struct msnap_fs_job job;
	uint64_t node;
};

static void run_attr(struct fs *fs, struct msnap_fs_job *job)
{
	struct attr_job *attr = (struct attr_job *)job;

	msnap_fs_notify_attr(fs, attr->node);
	free(attr);
}

/*
 * Size and times may change from now on without us: the kernel must not trust what it
 * was told before.  Failure (no memory) leaves them stale until the file is used.
 */
static void forget_attr(struct fs *fs, uint64_t node)
{
	struct attr_job *attr = calloc(1, sizeof(*attr));

	if (!attr)
		return;
	attr->job.run = run_attr;
	attr->node = node;
	if (msnap_fs_ctl_submit(fs->ctl, &attr->job))
		free(attr);
}

/* The view may be newer than the engine from now on. */
static int begin_newer(struct fs *fs, struct msnap_fs_dfile *f)
{
	int err = msnap_fs_dfile_list(fs, f);

	if (err || f->newer)
		return err;
	f->newer = true;
	forget_attr(fs, f->node);
	return 0;
}

static int pass(struct fs *fs, struct msnap_fs_dfile *f, int flags)
{
	int err = msnap_fs_dfile_make_view(fs, f);

	return !err && writes(flags) ? begin_newer(fs, f) : err;
}

/* No view can be had.  What is in one already must stay so. */
static int cannot_pass(struct fs *fs, struct msnap_fs_dfile *f, int err)
{
	if (msnap_fs_dfile_in_view(fs, f))
		return err;
	if (err != -E2BIG)
		msnap_fs_log(LOG_WARNING, "inode %" PRIu64 " is opened cached: %s",
			     msnap_fs_ino(f->node), strerror(-err));
	msnap_fs_dfile_unregister(fs, f);
	return msnap_fs_dfile_drop_view(fs, f, false);
}

static int count_open(struct fs *fs, struct msnap_fs_dfile *f, int flags,
		      enum msnap_fs_how *how, int *id)
{
	enum msnap_fs_how chosen = choose(fs, f, flags);
	int err;

	if (chosen == MSNAP_FS_PASS) {
		err = pass(fs, f, flags);
		if (err) {
			err = cannot_pass(fs, f, err);
			chosen = MSNAP_FS_CACHED;
		}
		if (err)
			return err;
	}
	if (chosen == MSNAP_FS_PASS) {
		f->pass_waits = false;
		f->nr_pass++;
		*id = f->backing_id;
	} else if (chosen == MSNAP_FS_CACHED) {
		f->nr_cached++;
	} else {
		f->nr_plain++;
		f->plain_ns = now_ns();
	}
	*how = chosen;
	return 0;
}

static bool is_live_view(const struct msnap_fs_dfile *f)
{
	return msnap_fs_is_live(f->node) && f->has_view;
}

/*
 * A view that is kept would hold blocks that a deleted snapshot gave back: those of
 * snapshots go at once.
 */
static void keep_or_remove(struct fs *fs, struct msnap_fs_dfile *f)
{
	if (msnap_fs_dfile_is_open(f))
		return;
	f->pass_waits = false;
	msnap_fs_dfile_unregister(fs, f);
	if (is_live_view(f))
		msnap_fs_dfile_keep(fs->direct, f, true);
	else if (!msnap_fs_dfile_drop_view(fs, f, false))
		msnap_fs_dfile_remove(fs->direct, f);
}

/* Not more than so many are kept.  Without locks. */
static void trim(struct fs *fs)
{
	struct msnap_fs_direct *d = fs->direct;
	uint64_t node = msnap_fs_dfile_oldest(d, KEEP_MAX);
	struct msnap_fs_dfile *f;

	if (!node)
		return;
	msnap_fs_dfile_enter(d, node);
	f = msnap_fs_dfile_find(d, node);
	if (f && !msnap_fs_dfile_is_open(f)) {
		if (msnap_fs_dfile_in_view(fs, f) ||
		    msnap_fs_dfile_drop_view(fs, f, false))
			msnap_fs_dfile_keep(d, f, true); /* the next one, then */
		else
			msnap_fs_dfile_remove(d, f);
	}
	msnap_fs_dfile_leave(d, node);
}

int msnap_fs_direct_open(struct fs *fs, uint64_t node, int flags,
			 enum msnap_fs_how *how, int *id)
{
	struct msnap_fs_direct *d = fs->direct;
	struct msnap_fs_dfile *f;
	int err;

	*how = MSNAP_FS_CACHED;
	*id = 0;
	if (!d || !msnap_fs_pass_works())
		return 0;
	for (;;) {
		msnap_fs_dfile_enter(d, node);
		f = msnap_fs_dfile_find_or_add(d, node);
		if (!f || !is_too_early(fs, f, flags))
			break;
		msnap_fs_dfile_leave(d, node);
		usleep(1000);
	}
	err = f ? count_open(fs, f, flags, how, id) : -ENOMEM;
	if (f && !err)
		msnap_fs_dfile_keep(d, f, false);
	else if (f)
		keep_or_remove(fs, f);
	msnap_fs_dfile_leave(d, node);
	return err;
}

/* ---- close ------------------------------------------------------------------- */

/* The kernel tells us a moment before it lets go of the view. */
static void wait_let_go(struct fs *fs, struct msnap_fs_dfile *f)
{
	f->mapped = true;
	for (unsigned i = 0; i < LETTING_GO && msnap_fs_dfile_in_use(fs, f); i++)
		usleep(50u << i);
}

static void end_pass(struct fs *fs, struct msnap_fs_dfile *f)
{
	struct msnap_attr attr;

	msnap_fs_dfile_unregister(fs, f);
	if (!msnap_fs_is_live(f->node))
		return;
	wait_let_go(fs, f);
	/* Nobody needs what was stored to a deleted file.  A failure is in the log,
	 * and the contents stay where they are. */
	if (!msnap_getattr(fs->pool, msnap_live(f->node), &attr) && attr.nlink)
		msnap_fs_dfile_absorb(fs, f);
}

static void count_close(struct fs *fs, struct msnap_fs_dfile *f,
			enum msnap_fs_how how)
{
	if (how == MSNAP_FS_PASS && f->nr_pass) {
		if (!--f->nr_pass)
			end_pass(fs, f);
	} else if (how == MSNAP_FS_CACHED && f->nr_cached) {
		f->nr_cached--;
	} else if (how == MSNAP_FS_PLAIN && f->nr_plain) {
		f->nr_plain--;
	}
	keep_or_remove(fs, f);
}

void msnap_fs_direct_close(struct fs *fs, uint64_t node, enum msnap_fs_how how)
{
	struct msnap_fs_direct *d = fs->direct;
	struct msnap_fs_dfile *f;

	if (!d)
		return;
	msnap_fs_dfile_enter(d, node);
	f = msnap_fs_dfile_find(d, node);
	if (f)
		count_close(fs, f, how);
	msnap_fs_dfile_leave(d, node);
	trim(fs);
}

/* ---- contents, used by others ------------------------------------------------ */

/* A descriptor of the view, -1, or -errno that is below. */
static int lock_file(struct fs *fs, struct msnap_fs_dfile *f, bool change)
{
	int err = 0;

	if (msnap_fs_dfile_in_view(fs, f)) {
		if (change)
			err = begin_newer(fs, f);
		if (!err)
			err = msnap_fs_dfile_open_view(fs, f);
	} else if (f->has_view && change) {
		err = msnap_fs_dfile_drop_view(fs, f, false);
		err = err ? err : -1;
	} else {
		return -1;
	}
	return err;
}

int msnap_fs_direct_lock(struct fs *fs, uint64_t node, bool change)
{
	struct msnap_fs_direct *d = fs->direct;
	struct msnap_fs_dfile *f;
	int fd = -1;

	if (!d)
		return -1;
	msnap_fs_dfile_enter(d, node);
	f = msnap_fs_is_live(node) ? msnap_fs_dfile_find(d, node) : NULL;
	if (f)
		fd = lock_file(fs, f, change);
	if (fd < -1)
		msnap_fs_dfile_leave(d, node);
	return fd;
}

void msnap_fs_direct_unlock(struct fs *fs, uint64_t node, int fd)
{
	if (!fs->direct)
		return;
	if (fd >= 0)
		close(fd);
	msnap_fs_dfile_leave(fs->direct, node);
}

int msnap_fs_direct_take(struct fs *fs, uint64_t node)
{
	int fd = msnap_fs_direct_lock(fs, node, false);

	if (fd >= -1)
		msnap_fs_direct_unlock(fs, node, -1);
	return fd;
}

ssize_t msnap_fs_direct_copy_in(struct fs *fs, struct msnap_id src,
				uint64_t src_off, int fd, uint64_t off,
				uint64_t len)
{
	return msnap_fs_view_copy_in(fs->direct->views, src, src_off, fd, off, len);
}

static bool stat_view(struct fs *fs, uint64_t node, struct stat *st)
{
	struct msnap_fs_dfile *f;
	int fd = -1;
	bool ok;

	if (!msnap_fs_dfile_find(fs->direct, node))
		return false;
	msnap_fs_dfile_enter(fs->direct, node);
	f = msnap_fs_dfile_find(fs->direct, node);
	if (f && f->has_view && f->newer)
		fd = msnap_fs_dfile_open_view(fs, f);
	ok = fd >= 0 && fstat(fd, st) == 0;
	msnap_fs_direct_unlock(fs, node, fd);
	return ok;
}

static bool is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec ||
	       (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

bool msnap_fs_direct_attr(struct fs *fs, uint64_t node, struct msnap_attr *attr)
{
	struct stat st;

	if (!fs->direct || !msnap_fs_is_live(node) || !S_ISREG(attr->mode))
		return false;
	if (!stat_view(fs, node, &st)) {
		/* An error: deleted meanwhile, and what the caller has will do. */
		msnap_getattr(fs->pool, msnap_live(node), attr);
		return false;
	}
	attr->size = (uint64_t)st.st_size;
	attr->nr_blk = (uint64_t)st.st_blocks / 8;
	attr->mtime = st.st_mtim;
	if (is_before(&attr->ctime, &st.st_mtim))
		attr->ctime = st.st_mtim;
	return true;
}

static int absorb_one(struct fs *fs, uint64_t node)
{
	struct msnap_fs_dfile *f;
	int err = 0;

	msnap_fs_dfile_enter(fs->direct, node);
	f = msnap_fs_dfile_find(fs->direct, node);
	if (f && is_live_view(f))
		err = msnap_fs_dfile_absorb(fs, f);
	msnap_fs_dfile_leave(fs->direct, node);
	return err;
}

/* The first error counts, but all are tried. */
int msnap_fs_direct_absorb(struct fs *fs, uint64_t node)
{
	uint64_t *nodes;
	size_t nr;
	int err;

	if (!fs->direct)
		return 0;
	if (node)
		return absorb_one(fs, node);
	err = msnap_fs_dfile_nodes(fs->direct, &nodes, &nr);
	if (err)
		return err;
	for (size_t i = 0; i < nr; i++) {
		int res = absorb_one(fs, nodes[i]);

		err = err ? err : res;
	}
	free(nodes);
	return err;
}

void msnap_fs_direct_forget(struct fs *fs, uint64_t node)
{
	struct msnap_fs_direct *d = fs->direct;
	struct msnap_fs_dfile *f;

	if (!d)
		return;
	msnap_fs_dfile_enter(d, node);
	f = msnap_fs_dfile_find(d, node);
	if (f && !msnap_fs_dfile_is_open(f) &&
	    !msnap_fs_dfile_drop_view(fs, f, true))
		msnap_fs_dfile_remove(d, f);
	msnap_fs_dfile_leave(d, node);
}

/* ---- rollback ---------------------------------------------------------------- */

void msnap_fs_direct_switch_begin(struct fs *fs)
{
	if (fs->direct)
		msnap_fs_dfile_shut(fs->direct);
}

static int refresh(struct fs *fs, struct msnap_fs_dfile *f)
{
	int fd, err;

	if (!msnap_fs_dfile_in_view(fs, f))
		return msnap_fs_dfile_drop_view(fs, f, false);
	fd = msnap_fs_dfile_open_view(fs, f);
	if (fd < 0)
		return fd;
	f->same = (struct timespec){ 0 };
	MSNAP_CRASH_AT(REFRESH);
	err = msnap_fs_view_refresh(fs->direct->views, f->node, fd);
	MSNAP_CRASH_AT(REFRESHED);
	close(fd);
	/* The rollback took it off. */
	return !err && f->newer ? msnap_fs_dfile_list(fs, f) : err;
}

void msnap_fs_direct_switch_end(struct fs *fs, const uint64_t *ino, size_t nr)
{
	struct msnap_fs_dfile *f;
	int err;

	if (!fs->direct)
		return;
	for (size_t i = 0; i < nr; i++) {
		f = msnap_fs_dfile_find(fs->direct, ino[i]);
		if (!f || !f->has_view)
			continue;
		f->listed = false;
		err = refresh(fs, f);
		if (err)
			msnap_fs_log(LOG_ERR, "inode %" PRIu64 ": what has it open "
				     "does not see the restored contents: %s",
				     f->node, strerror(-err));
	}
	msnap_fs_dfile_open_up(fs->direct);
}

/* ---- telling ----------------------------------------------------------------- */

const char *msnap_fs_direct_mode(struct fs *fs, uint64_t node)
{
	struct msnap_fs_direct *d = fs->direct;
	struct msnap_fs_dfile *f;
	const char *mode = "";

	if (!d || !msnap_fs_pass_works())
		return "cached";
	msnap_fs_dfile_enter(d, node);
	f = msnap_fs_dfile_find(d, node);
	if (f && f->nr_pass)
		mode = "direct";
	else if (f && (f->nr_cached || f->nr_plain))
		mode = "cached";
	msnap_fs_dfile_leave(d, node);
	return mode;
}

bool msnap_fs_direct_is_cached(struct fs *fs, uint64_t node)
{
	struct msnap_fs_direct *d = fs->direct;
	struct msnap_fs_dfile *f;
	bool cached;

	if (!d || !msnap_fs_pass_works())
		return true;
	msnap_fs_dfile_enter(d, node);
	f = msnap_fs_dfile_find(d, node);
	cached = f && f->nr_cached;
	msnap_fs_dfile_leave(d, node);
	return cached;
}

bool msnap_fs_direct_space(struct fs *fs, uint64_t *bytes)
{
	return fs->direct && msnap_fs_pass_works() &&
	       !msnap_fs_views_space(fs->direct->views, bytes);
}
