/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl-snap.c - take, delete and rename restore points: by ioctl, and by mkdir,
 * rmdir and mv in .snap.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ctl-long.h"
#include "flush.h"
#include "reply.h"
#include "snapdir.h"

#define MAX_TRIES 1000 /* of names made of the time */

int msnap_fs_flush_items(struct fs *fs, const struct msnap_fs_item *item,
			 unsigned nr)
{
	struct msnap_attr attr;
	int err;

	/* Which open files lie below a directory nobody knows: take all. */
	for (unsigned i = 0; i < nr; i++)
		if (!item[i].name[0])
			return msnap_fs_flush_all(fs);
	for (unsigned i = 0; i < nr; i++) {
		err = msnap_lookup(fs->pool, msnap_live(item[i].dir),
				   item[i].name, strlen(item[i].name), &attr);
		if (!err)
			err = msnap_fs_flush_file(fs, attr.ino);
		if (err)
			return err;
	}
	return 0;
}

static int create(struct fs *fs, const struct msnap_fs_take *take,
		  const struct msnap_snap_item *item, uint64_t *snap)
{
	int err = msnap_snap_create(fs->pool, take->name, take->comment,
				    take->uid, item, take->nr, snap);

	if (!err)
		msnap_fs_snapdir_touch(fs);
	return err;
}

/* Sorts by time; "_2" and so on when there were several in a second. */
static int create_named_by_time(struct fs *fs, const struct msnap_fs_take *take,
				const struct msnap_snap_item *item,
				uint64_t *snap)
{
	char stamp[64];
	struct tm tm;
	time_t now = time(NULL);
	int err;

	localtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%S%z", &tm);
	snprintf(take->name, take->name_size, "%s%s", take->prefix, stamp);
	err = create(fs, take, item, snap);
	for (int i = 2; err == -EEXIST && i < MAX_TRIES; i++) {
		snprintf(take->name, take->name_size, "%s%s_%d", take->prefix,
			 stamp, i);
		err = create(fs, take, item, snap);
	}
	return err;
}

int msnap_fs_take(struct fs *fs, struct msnap_fs_take *take, uint64_t *snap)
{
	struct msnap_snap_item *item;
	int err = msnap_fs_flush_items(fs, take->item, take->nr);

	if (err)
		return err;
	item = calloc(take->nr, sizeof(*item));
	if (!item)
		return -ENOMEM;
	for (unsigned i = 0; i < take->nr; i++) {
		const struct msnap_fs_item *from = &take->item[i];

		item[i].dir = from->dir;
		item[i].name = from->name[0] ? from->name : NULL;
		item[i].len = strlen(from->name);
	}
	err = take->prefix ? create_named_by_time(fs, take, item, snap)
			   : create(fs, take, item, snap);
	free(item);
	return err;
}

static int check_snap(const struct msnap_ioc_snap *arg)
{
	int err = 0;

	if (!msnap_fs_is_zero(arg->reserved, sizeof(arg->reserved)) ||
	    arg->flags & ~MSNAP_IOC_SNAP_MORE)
		return -EINVAL;
	if (strnlen(arg->comment, sizeof(arg->comment)) == sizeof(arg->comment))
		return -EINVAL;
	if (strlen(arg->comment) > MSNAP_IOC_COMMENT_MAX)
		return -ENAMETOOLONG;
	if (arg->file[0])
		err = msnap_fs_check_name(arg->file, sizeof(arg->file), 255);
	if (!err && arg->name[0])
		err = msnap_fs_check_name(arg->name, sizeof(arg->name),
					  MSNAP_IOC_NAME_MAX);
	return err;
}

/* What one call names: permitted, and there. */
static int snap_item(struct fs *fs, const struct msnap_fs_call *call,
		     struct msnap_fs_item *item)
{
	const struct msnap_ioc_snap *arg = &call->arg.snap;
	struct msnap_attr attr;
	int err = msnap_fs_call_dir(call, &item->dir);

	if (!err)
		err = msnap_fs_may_change(fs, &call->caller, item->dir,
					  NULL);
	/* Restore points take nothing away from the owner of an entry. */
	if (err && err != -EPERM)
		return err;
	memcpy(item->name, arg->file, sizeof(item->name));
	if (!item->name[0])
		return 0;
	err = msnap_lookup(fs->pool, msnap_live(item->dir), item->name,
			   strlen(item->name), &attr);
	if (err)
		return err;
	return S_ISDIR(attr.mode) ? -EISDIR : 0;
}

static int snap_all(struct fs *fs, struct msnap_fs_call *call,
		    const struct msnap_fs_item *item, unsigned nr)
{
	struct msnap_ioc_snap *arg = &call->arg.snap;
	struct msnap_fs_take take = {
		.item = item,
		.nr = nr,
		.comment = arg->comment,
		.uid = call->caller.uid,
		.prefix = arg->name[0] ? NULL : "",
		.name = arg->name,
		.name_size = sizeof(arg->name),
	};
	struct msnap_snap_info info;
	int err = msnap_fs_take(fs, &take, &arg->id);

	if (err)
		return err;
	/* Deleted by somebody already?  It was taken all the same. */
	if (msnap_snap_get(fs->pool, arg->id, &info) == 0)
		arg->time_ns = (uint64_t)info.time.tv_sec * 1000000000ull +
			       (uint64_t)info.time.tv_nsec;
	return 0;
}

/* One of several calls: the last takes the restore point of all. */
static int snap_group(struct fs *fs, struct msnap_fs_call *call,
		      const struct msnap_fs_item *one)
{
	struct msnap_ioc_snap *arg = &call->arg.snap;
	pid_t pid = msnap_fs_caller_process(&call->caller);
	struct msnap_fs_item *item;
	unsigned nr;
	int err = msnap_fs_group_add(fs->table, pid, one, &arg->group);

	if (err || (arg->flags & MSNAP_IOC_SNAP_MORE))
		return err;
	err = msnap_fs_group_take(fs->table, pid, arg->group, &item, &nr);
	if (err)
		return err;
	err = snap_all(fs, call, item, nr);
	free(item);
	return err;
}

static int snap(struct fs *fs, struct msnap_fs_call *call)
{
	const struct msnap_ioc_snap *arg = &call->arg.snap;
	struct msnap_fs_item item;
	int err = check_snap(arg);

	if (!err)
		err = snap_item(fs, call, &item);
	if (err)
		return err;
	if (arg->group || (arg->flags & MSNAP_IOC_SNAP_MORE))
		return snap_group(fs, call, &item);
	return snap_all(fs, call, &item, 1);
}

void msnap_fs_call_snap(struct fs *fs, struct msnap_fs_call *call)
{
	int err = snap(fs, call);

	if (err)
		msnap_fs_reply(call->req, err);
	else
		fuse_reply_ioctl(call->req, 0, &call->arg.snap,
				 sizeof(call->arg.snap));
}

/*
 * The restore point @name of @dir, if the caller may delete or rename it.  One
 * that shows here but was taken of another directory covers more than this one:
 * that is for those who took it, and for root.
 */
static int find_own(struct fs *fs, const struct msnap_fs_caller *caller,
		    uint64_t dir, const char *name, struct msnap_snap_info *info)
{
	int err = msnap_snap_find(fs->pool, dir, name, info);

	if (err)
		return err;
	err = msnap_fs_may_change(fs, caller, dir, NULL);
	if (err && !(err == -EPERM && info->uid == caller->uid))
		return err;
	if (info->scope != dir && caller->uid != 0 && caller->uid != info->uid)
		return -EPERM;
	return 0;
}

static int delete(struct fs *fs, const struct msnap_snap_info *info)
{
	int err = msnap_snap_delete(fs->pool, info->id);

	if (!err)
		msnap_fs_snapdir_touch(fs);
	return err;
}

static int rename_to(struct fs *fs, const struct msnap_snap_info *info,
		     const char *name)
{
	int err = msnap_snap_rename(fs->pool, info->id, name);

	if (!err)
		msnap_fs_snapdir_touch(fs);
	return err;
}

void msnap_fs_call_snap_delete(struct fs *fs, struct msnap_fs_call *call)
{
	const struct msnap_ioc_snap_delete *arg = &call->arg.del;
	struct msnap_snap_info info;
	uint64_t dir;
	int err = -EINVAL;

	if (msnap_fs_is_zero(arg->reserved, sizeof(arg->reserved)))
		err = msnap_fs_check_name(arg->name, sizeof(arg->name),
					  MSNAP_IOC_NAME_MAX);
	if (!err)
		err = msnap_fs_call_dir(call, &dir);
	if (!err)
		err = find_own(fs, &call->caller, dir, arg->name, &info);
	if (!err)
		err = delete(fs, &info);
	if (err)
		msnap_fs_reply(call->req, err);
	else
		fuse_reply_ioctl(call->req, 0, NULL, 0);
}

void msnap_fs_call_snap_rename(struct fs *fs, struct msnap_fs_call *call)
{
	const struct msnap_ioc_snap_rename *arg = &call->arg.rename;
	struct msnap_snap_info info;
	uint64_t dir;
	int err = -EINVAL;

	if (msnap_fs_is_zero(arg->reserved, sizeof(arg->reserved)))
		err = msnap_fs_check_name(arg->name, sizeof(arg->name),
					  MSNAP_IOC_NAME_MAX);
	if (!err)
		err = msnap_fs_check_name(arg->new_name, sizeof(arg->new_name),
					  MSNAP_IOC_NAME_MAX);
	if (!err)
		err = msnap_fs_call_dir(call, &dir);
	if (!err)
		err = find_own(fs, &call->caller, dir, arg->name, &info);
	if (!err)
		err = rename_to(fs, &info, arg->new_name);
	if (err)
		msnap_fs_reply(call->req, err);
	else
		fuse_reply_ioctl(call->req, 0, NULL, 0);
}

/* ---- the same in .snap -------------------------------------------------- */

struct snapdir_job {
	struct msnap_fs_job job;
	fuse_req_t req;
	uint64_t dir;
	int (*act)(struct fs *fs, struct snapdir_job *job,
		   const struct msnap_fs_caller *caller);
	char name[256];
	char new_name[256];
};

/* The answer to mkdir is an entry, and given by act. */
static void run_snapdir(struct fs *fs, struct msnap_fs_job *base)
{
	struct snapdir_job *job = (struct snapdir_job *)base;
	struct msnap_fs_caller caller;
	int err = msnap_fs_caller_get(job->req, &caller);

	if (!err) {
		err = job->act(fs, job, &caller);
		msnap_fs_caller_put(&caller);
	}
	if (err <= 0)
		msnap_fs_reply(job->req, err);
	free(job);
}

static void submit(fuse_req_t req, uint64_t dir, const char *name,
		   const char *new_name,
		   int (*act)(struct fs *fs, struct snapdir_job *job,
			      const struct msnap_fs_caller *caller))
{
	struct fs *fs = msnap_fs_of(req);
	struct snapdir_job *job = calloc(1, sizeof(*job));
	int err = -ENOMEM;

	if (job) {
		job->job.run = run_snapdir;
		job->req = req;
		job->dir = dir;
		job->act = act;
		snprintf(job->name, sizeof(job->name), "%s", name);
		snprintf(job->new_name, sizeof(job->new_name), "%s", new_name);
		err = msnap_fs_ctl_submit(fs->ctl, &job->job);
	}
	if (err) {
		free(job);
		msnap_fs_reply(req, err);
	}
}

/* 1: answered. */
static int act_mkdir(struct fs *fs, struct snapdir_job *job,
		     const struct msnap_fs_caller *caller)
{
	struct msnap_fs_item item = { .dir = job->dir };
	struct msnap_fs_take take = {
		.item = &item,
		.nr = 1,
		.comment = "",
		.uid = caller->uid,
		.name = job->name,
		.name_size = sizeof(job->name),
	};
	struct msnap_id id = { .ino = job->dir };
	struct msnap_attr attr;
	int err = msnap_fs_check_name(job->name, sizeof(job->name),
				      MSNAP_SNAP_NAME_MAX);

	if (!err)
		err = msnap_fs_take(fs, &take, &id.snap);
	if (!err)
		err = msnap_getattr(fs->pool, id, &attr);
	if (err)
		return err;
	msnap_fs_reply_entry(job->req, msnap_fs_node(id), &attr, 0);
	return 1;
}

/*
 * What rmdir and mv change must lie in the directory that they are used in: a
 * restore point of a directory above is changed there, or by the tools.
 */
static int find_here(struct fs *fs, const struct snapdir_job *job,
		     const struct msnap_fs_caller *caller,
		     struct msnap_snap_info *info)
{
	int err = find_own(fs, caller, job->dir, job->name, info);

	if (err)
		return err;
	return info->scope == job->dir ? 0 : -EPERM;
}

static int act_rmdir(struct fs *fs, struct snapdir_job *job,
		     const struct msnap_fs_caller *caller)
{
	struct msnap_snap_info info;
	int err = find_here(fs, job, caller, &info);

	return err ? err : delete(fs, &info);
}

static int act_rename(struct fs *fs, struct snapdir_job *job,
		      const struct msnap_fs_caller *caller)
{
	struct msnap_snap_info info;
	int err = msnap_fs_check_name(job->new_name, sizeof(job->new_name),
				      MSNAP_SNAP_NAME_MAX);

	if (!err)
		err = find_here(fs, job, caller, &info);
	return err ? err : rename_to(fs, &info, job->new_name);
}

void msnap_fs_snapdir_mkdir(fuse_req_t req, uint64_t dir, const char *name)
{
	submit(req, dir, name, "", act_mkdir);
}

void msnap_fs_snapdir_rmdir(fuse_req_t req, uint64_t dir, const char *name)
{
	submit(req, dir, name, "", act_rmdir);
}

void msnap_fs_snapdir_rename(fuse_req_t req, uint64_t dir, const char *name,
			     const char *new_name)
{
	submit(req, dir, name, new_name, act_rename);
}
