/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops-name.c - names: look up, make, link, remove, rename.
 *
 * Permissions have been checked by the kernel.  Inside snapshots nothing changes
 * (EROFS); in .snap mkdir, rmdir and rename are calls of ctl-long.h.
 */
#include <errno.h>
#include <string.h>

#include "access.h"
#include "ctl-long.h"
#include "flush.h"
#include "node.h"
#include "ops.h"
#include "passthrough.h"
#include "reply.h"
#include "snapdir.h"

static bool is_snapdir_name(const char *name)
{
	return strcmp(name, MSNAP_FS_SNAPDIR_NAME) == 0;
}

/* ---- lookup -------------------------------------------------------------- */

/* "." and ".." are asked for by those who come with a file handle. */
static int lookup_dots(struct fs *fs, uint64_t parent, const char *name,
		       struct msnap_attr *attr, uint64_t *node)
{
	uint64_t found = parent;
	int err = 0;

	if (name[1] == '.' && msnap_fs_is_snapdir(parent)) {
		found = msnap_fs_ino(parent);
	} else if (name[1] == '.') {
		struct msnap_id id = msnap_fs_id(parent);

		err = msnap_getattr(fs->pool, id, attr);
		if (!err && attr->parent)
			id.ino = attr->parent;
		found = msnap_fs_node(id);
	}
	if (!err)
		err = msnap_fs_attr(fs, found, attr);
	if (!err)
		*node = found;
	return err;
}

static int lookup(struct fs *fs, uint64_t parent, const char *name,
		  struct msnap_attr *attr, uint64_t *node)
{
	struct msnap_id id;
	int err;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return lookup_dots(fs, parent, name, attr, node);
	if (msnap_fs_is_snapdir(parent))
		return msnap_fs_snapdir_lookup(fs, msnap_fs_ino(parent), name,
					       attr, node);
	if (msnap_fs_is_live(parent) && is_snapdir_name(name)) {
		*node = parent | MSNAP_FS_SNAPDIR;
		return msnap_fs_snapdir_attr(fs, parent, attr);
	}
	id = msnap_fs_id(parent);
	err = msnap_lookup(fs->pool, id, name, strlen(name), attr);
	if (err)
		return err;
	id.ino = attr->ino;
	*node = msnap_fs_node(id);
	return 0;
}

/* The inode number that a control thread asks for by its secret name, or 0. */
static uint64_t asked_by_number(struct fs *fs, fuse_req_t req, uint64_t parent,
				const char *name)
{
	uint64_t ino = 0;

	if (parent == FUSE_ROOT_ID && name[0] == '.')
		ino = msnap_fs_flush_parse(fs->flush, name);
	return ino && msnap_fs_flush_is_own(fs->flush, req) ? ino : 0;
}

void msnap_fs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = msnap_fs_of(req);
	uint64_t node = asked_by_number(fs, req, parent, name);
	double timeout = MSNAP_FS_TIMEOUT;
	struct msnap_attr attr;
	int err;

	if (node || msnap_fs_is_snapdir(parent))
		timeout = 0;
	err = node ? msnap_fs_attr(fs, node, &attr)
		   : lookup(fs, parent, name, &attr, &node);
	if (err)
		msnap_fs_reply(req, err);
	else
		msnap_fs_reply_entry(req, node, &attr, timeout);
}

void msnap_fs_op_forget(fuse_req_t req, fuse_ino_t node, uint64_t nr)
{
	msnap_fs_unref(msnap_fs_of(req), node, nr);
	fuse_reply_none(req);
}

void msnap_fs_op_forget_multi(fuse_req_t req, size_t count,
			      struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		msnap_fs_unref(msnap_fs_of(req), forgets[i].ino,
			       forgets[i].nlookup);
	fuse_reply_none(req);
}

/* ---- making -------------------------------------------------------------- */

static int may_make(uint64_t parent, const char *name)
{
	if (!msnap_fs_is_live(parent))
		return -EROFS;
	return name && is_snapdir_name(name) ? -EEXIST : 0;
}

/*
 * In a setgid directory the group is the directory's, and directories are setgid
 * too; a program that would run with a group that its maker is not in must not
 * be made that way.
 */
static int inherit_group(struct fs *fs, fuse_req_t req, uint64_t parent,
			 struct msnap_new *what)
{
	struct msnap_fs_caller caller;
	struct msnap_attr dir;
	int err = msnap_getattr(fs->pool, msnap_live(parent), &dir);

	if (err || !(dir.mode & S_ISGID))
		return err;
	what->gid = dir.gid;
	if (S_ISDIR(what->mode)) {
		what->mode |= S_ISGID;
		return 0;
	}
	if (!(what->mode & S_ISGID) || !(what->mode & S_IXGRP))
		return 0;
	err = msnap_fs_caller_get(req, &caller);
	if (err)
		return err;
	if (caller.uid != 0 && !msnap_fs_in_group(&caller, dir.gid))
		what->mode &= ~(uint32_t)S_ISGID;
	msnap_fs_caller_put(&caller);
	return 0;
}

/* @name NULL: without a name. */
static int make(fuse_req_t req, uint64_t parent, const char *name,
		struct msnap_new *what, struct msnap_attr *attr)
{
	struct fs *fs = msnap_fs_of(req);
	int err = may_make(parent, name);

	what->uid = fuse_req_ctx(req)->uid;
	what->gid = fuse_req_ctx(req)->gid;
	if (!err)
		err = inherit_group(fs, req, parent, what);
	if (!err)
		err = msnap_create(fs->pool, parent, name,
				   name ? strlen(name) : 0, what, attr);
	return err;
}

static void make_and_reply(fuse_req_t req, uint64_t parent, const char *name,
			   struct msnap_new *what)
{
	struct msnap_attr attr;
	int err = make(req, parent, name, what, &attr);

	if (err)
		msnap_fs_reply(req, err);
	else
		msnap_fs_reply_entry(req, attr.ino, &attr, MSNAP_FS_TIMEOUT);
}

void msnap_fs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		       mode_t mode, dev_t rdev)
{
	struct msnap_new what = { .mode = mode, .rdev = rdev };

	make_and_reply(req, parent, name, &what);
}

void msnap_fs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		       mode_t mode)
{
	struct msnap_new what = { .mode = mode | S_IFDIR };

	if (msnap_fs_is_snapdir(parent))
		msnap_fs_snapdir_mkdir(req, msnap_fs_ino(parent), name);
	else
		make_and_reply(req, parent, name, &what);
}

void msnap_fs_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
			 const char *name)
{
	struct msnap_new what = { .mode = S_IFLNK | 0777, .target = target };

	make_and_reply(req, parent, name, &what);
}

/* The entry and the open count before the answer, and not when it failed. */
static void reply_create(fuse_req_t req, const struct msnap_attr *attr,
			 struct fuse_file_info *fi)
{
	struct fs *fs = msnap_fs_of(req);
	struct fuse_entry_param entry;
	int backing_id = 0, err = msnap_fs_node_ref(fs->nodes, attr->ino);

	if (!err) {
		err = msnap_fs_start_open(fs, attr->ino, fi, &backing_id);
		if (err)
			msnap_fs_unref(fs, attr->ino, 1);
	}
	if (err) {
		msnap_fs_reply(req, err);
		return;
	}
	/* Made without a name: it goes with its last user. */
	msnap_fs_gone(fs, attr);
	msnap_fs_fill_entry(fs, attr->ino, attr, MSNAP_FS_TIMEOUT, &entry);
	if (msnap_fs_pass_reply_create(req, &entry, fi, backing_id) == -ENOENT) {
		msnap_fs_end_open(fs, attr->ino, fi->fh);
		msnap_fs_unref(fs, attr->ino, 1);
	}
}

static void create(fuse_req_t req, uint64_t parent, const char *name,
		   mode_t mode, struct fuse_file_info *fi)
{
	struct msnap_new what = { .mode = (mode & 07777) | S_IFREG };
	struct msnap_attr attr;
	int err = make(req, parent, name, &what, &attr);

	if (err)
		msnap_fs_reply(req, err);
	else
		reply_create(req, &attr, fi);
}

void msnap_fs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name,
			mode_t mode, struct fuse_file_info *fi)
{
	create(req, parent, name, mode, fi);
}

void msnap_fs_op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode,
			 struct fuse_file_info *fi)
{
	create(req, parent, NULL, mode, fi);
}

void msnap_fs_op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent,
		      const char *name)
{
	struct fs *fs = msnap_fs_of(req);
	struct msnap_attr attr;
	int err = may_make(parent, name);

	/* Another filesystem in all but name. */
	if (!err && !msnap_fs_is_live(node))
		err = -EXDEV;
	if (!err)
		err = msnap_link(fs->pool, node, parent, name, strlen(name),
				 &attr);
	if (err)
		msnap_fs_reply(req, err);
	else
		msnap_fs_reply_entry(req, node, &attr, MSNAP_FS_TIMEOUT);
}

/* ---- removing and renaming ------------------------------------------------ */

static void remove_name(fuse_req_t req, uint64_t parent, const char *name,
			bool rmdir)
{
	struct fs *fs = msnap_fs_of(req);
	struct msnap_attr gone;
	int err = 0;

	if (!msnap_fs_is_live(parent))
		err = -EROFS;
	else if (is_snapdir_name(name))
		err = rmdir ? -EBUSY : -EISDIR;
	if (!err)
		err = msnap_unlink(fs->pool, parent, name, strlen(name), rmdir,
				   &gone);
	if (!err)
		msnap_fs_gone(fs, &gone);
	msnap_fs_reply(req, err);
}

void msnap_fs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, false);
}

void msnap_fs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (msnap_fs_is_snapdir(parent))
		msnap_fs_snapdir_rmdir(req, msnap_fs_ino(parent), name);
	else
		remove_name(req, parent, name, true);
}

static int check_rename(uint64_t parent, const char *name, uint64_t new_parent,
			const char *new_name, unsigned flags)
{
	if (!msnap_fs_is_live(parent) || !msnap_fs_is_live(new_parent))
		return -EROFS;
	if (is_snapdir_name(name) || is_snapdir_name(new_name))
		return -EBUSY;
	return flags & ~(MSNAP_RENAME_NOREPLACE | MSNAP_RENAME_EXCHANGE)
		       ? -EINVAL : 0;
}

void msnap_fs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
			fuse_ino_t new_parent, const char *new_name,
			unsigned flags)
{
	struct fs *fs = msnap_fs_of(req);
	struct msnap_attr gone = { 0 };
	int err;

	/* Without EXCHANGE; that a name is taken the engine finds out. */
	if (msnap_fs_is_snapdir(parent) && parent == new_parent &&
	    !(flags & ~MSNAP_RENAME_NOREPLACE)) {
		msnap_fs_snapdir_rename(req, msnap_fs_ino(parent), name,
					new_name);
		return;
	}
	err = check_rename(parent, name, new_parent, new_name, flags);
	if (!err)
		err = msnap_rename(fs->pool, parent, name, strlen(name),
				   new_parent, new_name, strlen(new_name),
				   flags, &gone);
	if (!err)
		msnap_fs_gone(fs, &gone);
	msnap_fs_reply(req, err);
}
