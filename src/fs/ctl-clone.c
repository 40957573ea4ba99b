/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ctl-clone.c - clone a file or a directory, live or from a restore point. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "ctl-long.h"
#include "flush.h"
#include "notify.h"
#include "reply.h"

static int check_form(const struct msnap_ioc_clone *arg)
{
	const unsigned known = MSNAP_IOC_CLONE_REPLACE |
			       MSNAP_IOC_CLONE_RECURSIVE;
	int err;

	if (!msnap_fs_is_zero(arg->reserved, sizeof(arg->reserved)) ||
	    arg->flags & ~known)
		return -EINVAL;
	err = msnap_fs_check_name(arg->name, sizeof(arg->name), 255);
	if (!err && strcmp(arg->name, MSNAP_FS_SNAPDIR_NAME) == 0)
		err = -EEXIST;
	return err;
}

/* May the caller read all of the source? */
static int check_source(struct fs *fs, const struct msnap_fs_call *call)
{
	struct msnap_id src = msnap_fs_id(call->node);
	struct msnap_attr attr;
	int err;

	if (msnap_fs_is_snapdir(call->node))
		return -EINVAL;
	err = msnap_getattr(fs->pool, src, &attr);
	if (err)
		return err;
	if (!S_ISDIR(attr.mode))
		return call->readable ? 0 : -EBADF;
	if (!(call->arg.clone.flags & MSNAP_IOC_CLONE_RECURSIVE))
		return -EISDIR;
	return msnap_fs_may_all(fs, &call->caller, src, R_OK | X_OK, R_OK);
}

/* The same of each inode at the moment when it is copied: what was there when
 * check_source() looked may be another by then. */
static int may_copy(void *arg, const struct msnap_attr *attr)
{
	const struct msnap_fs_call *call = arg;

	if (S_ISDIR(attr->mode))
		return msnap_fs_may(&call->caller, attr, R_OK | X_OK);
	return S_ISREG(attr->mode) ? msnap_fs_may(&call->caller, attr, R_OK) : 0;
}

static int check_target(struct fs *fs, const struct msnap_fs_call *call,
			uint64_t *dir)
{
	const struct msnap_ioc_clone *arg = &call->arg.clone;
	struct msnap_attr old;
	int err = msnap_fs_ref_find(fs->table, &arg->ref, dir);

	if (err)
		return err;
	if (!msnap_fs_is_live(*dir))
		return -EROFS;
	err = msnap_lookup(fs->pool, msnap_live(*dir), arg->name,
			   strlen(arg->name), &old);
	if (err == -ENOENT) {
		err = msnap_fs_may_change(fs, &call->caller, *dir, NULL);
		/* Making a new entry is no matter of the sticky bit. */
		return err == -EPERM ? 0 : err;
	}
	if (err)
		return err;
	if (!(arg->flags & MSNAP_IOC_CLONE_REPLACE))
		return -EEXIST;
	return msnap_fs_may_change(fs, &call->caller, *dir, &old);
}

/* Root keeps owners; what others make is theirs. */
static int choose_owner(struct fs *fs, const struct msnap_fs_caller *caller,
			uint64_t dir, struct msnap_owner *owner)
{
	struct msnap_attr attr;
	int err;

	if (caller->uid == 0) {
		*owner = (struct msnap_owner){ -1, -1 };
		return 0;
	}
	err = msnap_getattr(fs->pool, msnap_live(dir), &attr);
	if (err)
		return err;
	owner->uid = caller->uid;
	owner->gid = attr.mode & S_ISGID ? attr.gid : caller->gid;
	return 0;
}

static int write_back_source(struct fs *fs, const struct msnap_fs_call *call)
{
	if (!msnap_fs_is_live(call->node))
		return 0;
	return call->dir ? msnap_fs_flush_all(fs)
			 : msnap_fs_flush_file(fs, call->node);
}

static int clone(struct fs *fs, struct msnap_fs_call *call)
{
	struct msnap_ioc_clone *arg = &call->arg.clone;
	struct msnap_attr attr, gone = { 0 };
	struct msnap_owner owner;
	uint64_t dir;
	int err = check_form(arg);

	if (!err)
		err = check_source(fs, call);
	if (!err)
		err = check_target(fs, call, &dir);
	if (!err)
		err = choose_owner(fs, &call->caller, dir, &owner);
	if (!err)
		err = write_back_source(fs, call);
	if (!err)
		err = msnap_clone_if(fs->pool, msnap_fs_id(call->node), dir,
				     arg->name, strlen(arg->name), owner,
				     arg->flags & MSNAP_IOC_CLONE_REPLACE
					     ? MSNAP_CLONE_REPLACE : 0,
				     /* A file was opened: that sufficed. */
				     call->dir ? may_copy : NULL, call,
				     &attr, &gone);
	if (err)
		return err;
	msnap_fs_notify_name(fs, dir, arg->name);
	msnap_fs_notify_attr(fs, dir);
	if (gone.ino)
		msnap_fs_notify_attr(fs, gone.ino);
	msnap_fs_gone(fs, &gone);
	arg->ino = attr.ino;
	return 0;
}

void msnap_fs_call_clone(struct fs *fs, struct msnap_fs_call *call)
{
	int err = clone(fs, call);

	if (err)
		msnap_fs_reply(call->req, err);
	else
		fuse_reply_ioctl(call->req, 0, &call->arg.clone,
				 sizeof(call->arg.clone));
}
