/* SPDX-License-Identifier: GPL-2.0-or-later */
/* reply.c - see reply.h. */
#include "reply.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "direct.h"
#include "log.h"
#include "node.h"
#include "snapdir.h"

int msnap_fs_attr(struct fs *fs, uint64_t node, struct msnap_attr *attr)
{
	if (msnap_fs_is_snapdir(node))
		return msnap_fs_snapdir_attr(fs, msnap_fs_ino(node), attr);
	return msnap_getattr(fs->pool, msnap_fs_id(node), attr);
}

void msnap_fs_fill_stat(uint64_t node, const struct msnap_attr *attr,
			struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = node;
	st->st_mode = attr->mode;
	st->st_nlink = attr->nlink;
	st->st_uid = attr->uid;
	st->st_gid = attr->gid;
	st->st_rdev = attr->rdev;
	st->st_size = (off_t)attr->size;
	st->st_blksize = 4096;
	st->st_blocks = (blkcnt_t)attr->nr_blk * 8;
	st->st_atim = attr->atime;
	st->st_mtim = attr->mtime;
	st->st_ctim = attr->ctime;
}

/*
 * Modes and times of .snap follow those of other things: not to be cached.  Nor are
 * those of a file that the kernel changes in its view.
 */
static double final_attr(struct fs *fs, uint64_t node, struct msnap_attr *attr)
{
	if (msnap_fs_is_snapdir(node) || msnap_fs_direct_attr(fs, node, attr))
		return 0;
	return MSNAP_FS_TIMEOUT;
}

void msnap_fs_fill_entry(struct fs *fs, uint64_t node,
			 const struct msnap_attr *attr, double entry_timeout,
			 struct fuse_entry_param *entry)
{
	struct msnap_attr now = *attr;

	memset(entry, 0, sizeof(*entry));
	entry->ino = node;
	if (S_ISDIR(attr->mode) && attr->nlink)
		entry->generation = msnap_fs_node_dir_generation(fs->nodes, node);
	entry->entry_timeout = entry_timeout;
	entry->attr_timeout = final_attr(fs, node, &now);
	msnap_fs_fill_stat(node, &now, &entry->attr);
}

void msnap_fs_reply(fuse_req_t req, int err)
{
	fuse_reply_err(req, -err);
}

void msnap_fs_reply_attr(fuse_req_t req, uint64_t node,
			 const struct msnap_attr *attr)
{
	struct msnap_attr now = *attr;
	double timeout = final_attr(msnap_fs_of(req), node, &now);
	struct stat st;

	msnap_fs_fill_stat(node, &now, &st);
	fuse_reply_attr(req, &st, timeout);
}

void msnap_fs_reply_entry(fuse_req_t req, uint64_t node,
			  const struct msnap_attr *attr, double entry_timeout)
{
	struct fs *fs = msnap_fs_of(req);
	struct fuse_entry_param entry;
	int err = msnap_fs_node_ref(fs->nodes, node);

	if (err) {
		msnap_fs_reply(req, err);
		return;
	}
	msnap_fs_fill_entry(fs, node, attr, entry_timeout, &entry);
	/* The caller was killed: the kernel took no reference. */
	if (fuse_reply_entry(req, &entry) == -ENOENT)
		msnap_fs_unref(fs, node, 1);
}

void msnap_fs_unref(struct fs *fs, uint64_t node, uint64_t nr)
{
	if (msnap_fs_node_unref(fs->nodes, node, nr))
		msnap_fs_evict(fs, node);
}

void msnap_fs_gone(struct fs *fs, const struct msnap_attr *gone)
{
	if (gone->ino && gone->nlink == 0 &&
	    msnap_fs_node_orphan(fs->nodes, gone->ino))
		msnap_fs_evict(fs, gone->ino);
}

void msnap_fs_evict(struct fs *fs, uint64_t ino)
{
	struct msnap_attr attr;
	int err = msnap_getattr(fs->pool, msnap_live(ino), &attr);

	/* A link or a rollback brought it back, or it is gone already. */
	if (err == -ENOENT || (!err && attr.nlink))
		return;
	msnap_fs_direct_forget(fs, ino);
	err = msnap_evict(fs->pool, ino);
	/* Its space comes back when the pool is next opened. */
	if (err)
		msnap_fs_log(LOG_WARNING, "inode %" PRIu64
			     ": could not be deleted for good: %s", ino,
			     strerror(-err));
}
