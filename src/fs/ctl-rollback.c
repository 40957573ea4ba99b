/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl-rollback.c - a file or directory becomes what it was.
 *
 * In this order: write back what is in mappings (so that nothing old arrives
 * later, and the safety restore point has it); take the safety restore point;
 * shut the gate (gate.h), let the engine switch, open it but for what changed;
 * make the kernel drop names and pages of what changed, inode by inode.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl-long.h"
#include "direct.h"
#include "flush.h"
#include "gate.h"
#include "log.h"
#include "node.h"
#include "notify.h"
#include "reply.h"

struct rollback {
	struct fs *fs;
	struct msnap_fs_call *call;
	struct msnap_ioc_rollback *arg;
	struct msnap_fs_item item; /* what is rolled back */
	struct msnap_snap_info to;
	struct msnap_attr live; /* of the entry; ino 0: it does not exist */
	struct msnap_attr old;	/* of the entry, in the restore point */
	uint64_t safety;	/* 0: none was taken */
	struct msnap_fs_changes changes;
};

static int check_form(const struct msnap_ioc_rollback *arg)
{
	int err;

	if (!msnap_fs_is_zero(arg->reserved, sizeof(arg->reserved)) ||
	    arg->flags & ~MSNAP_IOC_ROLLBACK_NO_SAFETY)
		return -EINVAL;
	err = msnap_fs_check_name(arg->name, sizeof(arg->name),
				  MSNAP_IOC_NAME_MAX);
	if (!err && arg->file[0])
		err = msnap_fs_check_name(arg->file, sizeof(arg->file), 255);
	return err;
}

static int look(struct rollback *rb)
{
	struct fs *fs = rb->fs;
	const char *name = rb->arg->file;
	int err = msnap_fs_call_dir(rb->call, &rb->item.dir);

	if (!err)
		err = msnap_snap_find(fs->pool, rb->item.dir, rb->arg->name,
				      &rb->to);
	if (err || !name[0])
		return err;
	memcpy(rb->item.name, name, sizeof(rb->item.name));
	err = msnap_lookup(fs->pool,
			   (struct msnap_id){ rb->to.id, rb->item.dir }, name,
			   strlen(name), &rb->old);
	if (err)
		return err;
	err = msnap_lookup(fs->pool, msnap_live(rb->item.dir), name,
			   strlen(name), &rb->live);
	if (err == -ENOENT)
		return 0;
	if (err)
		return err;
	return S_ISDIR(rb->live.mode) ? -EISDIR : 0;
}

/*
 * A rollback changes inodes in place, whatever other names they have, and gives back
 * owners and modes: all that it touches must be the caller's, now and then.
 */
static int check_owner(const struct rollback *rb)
{
	const struct msnap_fs_caller *caller = &rb->call->caller;
	struct msnap_id then = { rb->to.id, rb->item.dir };
	int err;

	if (rb->item.name[0])
		return caller->uid == 0 || (rb->old.uid == caller->uid &&
					    (!rb->live.ino ||
					     rb->live.uid == caller->uid)) ?
			       0 : -EPERM;
	err = msnap_fs_owns_all(rb->fs, caller, msnap_live(rb->item.dir));
	return err ? err : msnap_fs_owns_all(rb->fs, caller, then);
}

/* The same at the moment of the rollback: a name may have come to mean another inode
 * since check_owner() looked. */
static int may_roll(void *arg, const struct msnap_attr *attr)
{
	const struct msnap_fs_caller *caller = &((struct rollback *)arg)->call->caller;

	return caller->uid == 0 || caller->uid == attr->uid ? 0 : -EPERM;
}

static int check_rights(const struct rollback *rb)
{
	const struct msnap_fs_caller *caller = &rb->call->caller;
	bool entry = rb->item.name[0];
	int err = msnap_fs_may_change(rb->fs, caller, rb->item.dir,
				      entry && rb->live.ino ? &rb->live : NULL);

	if (!err && !entry)
		err = msnap_fs_may_all(rb->fs, caller, msnap_live(rb->item.dir),
				       W_OK | X_OK, 0);
	return err ? err : check_owner(rb);
}

/* Under its old name the file may be another one now: write back both. */
static int write_back(const struct rollback *rb)
{
	int err;

	if (!rb->item.name[0])
		return msnap_fs_flush_all(rb->fs);
	err = msnap_fs_flush_file(rb->fs, rb->old.ino);
	if (!err && rb->live.ino && rb->live.ino != rb->old.ino)
		err = msnap_fs_flush_file(rb->fs, rb->live.ino);
	return err;
}

/* An entry that does not exist needs no safety. */
static int take_safety(struct rollback *rb)
{
	char comment[MSNAP_IOC_COMMENT_MAX + 1];
	struct msnap_fs_take take = {
		.item = &rb->item,
		.nr = 1,
		.comment = comment,
		.uid = rb->call->caller.uid,
		.prefix = "before-rollback-",
		.name = rb->arg->safety,
		.name_size = sizeof(rb->arg->safety),
	};

	rb->arg->safety[0] = '\0';
	if (rb->arg->flags & MSNAP_IOC_ROLLBACK_NO_SAFETY)
		return 0;
	if (rb->item.name[0] && !rb->live.ino)
		return 0;
	snprintf(comment, sizeof(comment), "before rollback to %s",
		 rb->arg->name);
	return msnap_fs_take(rb->fs, &take, &rb->safety);
}

/* Names first: through them the kernel finds inodes that exist no more. */
static void tell_kernel(struct rollback *rb)
{
	struct fs *fs = rb->fs;
	const struct msnap_fs_changes *changes = &rb->changes;

	msnap_fs_notify_entries(fs, changes);
	for (size_t i = 0; i < changes->nr_ino; i++) {
		uint64_t ino = changes->ino[i];
		bool known = ino == FUSE_ROOT_ID ||
			     msnap_fs_node_is_known(fs->nodes, ino);

		if (known)
			msnap_fs_notify_contents(fs, ino);
		if (msnap_fs_gate_release(fs->gate, i))
			msnap_fs_notify_contents(fs, ino);
		if (known && msnap_fs_node_nr_open(fs->nodes, ino))
			msnap_fs_flush_refresh(fs, ino);
	}
	if (changes->lost)
		msnap_fs_log(LOG_ERR, "out of memory during a rollback: programs"
			     " may see old contents until the filesystem is"
			     " mounted again");
}

/* What the rollback left without a name goes with its last user. */
static void drop_nameless(struct rollback *rb)
{
	struct msnap_attr attr;

	for (size_t i = 0; i < rb->changes.nr_ino; i++)
		if (msnap_getattr(rb->fs->pool, msnap_live(rb->changes.ino[i]),
				  &attr) == 0)
			msnap_fs_gone(rb->fs, &attr);
}

static int switch_contents(struct rollback *rb)
{
	struct fs *fs = rb->fs;
	const char *name = rb->item.name[0] ? rb->item.name : NULL;
	int err;

	msnap_fs_gate_begin(fs->gate);
	msnap_fs_direct_switch_begin(fs);
	err = msnap_rollback_if(fs->pool, rb->to.id, rb->item.dir, name,
				strlen(rb->item.name), may_roll, rb,
				msnap_fs_changes_add, &rb->changes);
	msnap_fs_changes_sort(&rb->changes);
	msnap_fs_direct_switch_end(fs, rb->changes.ino, rb->changes.nr_ino);
	msnap_fs_gate_switched(fs->gate, rb->changes.ino, rb->changes.nr_ino);
	tell_kernel(rb);
	msnap_fs_gate_finish(fs->gate);
	if (!err)
		drop_nameless(rb);
	msnap_fs_changes_free(&rb->changes);
	return err;
}

/* It is of no use when nothing was rolled back. */
static void drop_safety(struct rollback *rb)
{
	int err = rb->safety ? msnap_snap_delete(rb->fs->pool, rb->safety) : 0;

	if (err)
		msnap_fs_log(LOG_WARNING, "restore point %s could not be deleted"
			     " after a rollback that failed: %s",
			     rb->arg->safety, strerror(-err));
}

static int roll_back(struct rollback *rb)
{
	int err = check_form(rb->arg);

	if (!err)
		err = look(rb);
	if (!err)
		err = check_rights(rb);
	if (!err)
		err = write_back(rb);
	if (!err)
		err = take_safety(rb);
	if (err)
		return err;
	err = switch_contents(rb);
	if (err)
		drop_safety(rb);
	return err;
}

void msnap_fs_call_rollback(struct fs *fs, struct msnap_fs_call *call)
{
	struct rollback rb = {
		.fs = fs,
		.call = call,
		.arg = &call->arg.rollback,
	};
	int err = roll_back(&rb);

	if (err)
		msnap_fs_reply(call->req, err);
	else
		fuse_reply_ioctl(call->req, 0, rb.arg, sizeof(*rb.arg));
}
