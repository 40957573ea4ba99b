/* SPDX-License-Identifier: GPL-2.0-or-later */
/* access.c - see access.h. */
#include "access.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

pid_t msnap_fs_caller_process(const struct msnap_fs_caller *caller)
{
	char path[64], line[128];
	pid_t pid = caller->thread;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return pid;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Tgid: %d", &pid) == 1)
			break;
	fclose(file);
	return pid;
}

/* Groups that cannot be read are none: fewer rights, never more. */
static int get_groups(fuse_req_t req, struct msnap_fs_caller *caller)
{
	int max = 32;

	for (;;) {
		gid_t *groups = realloc(caller->groups, max * sizeof(*groups));
		int nr;

		if (!groups)
			return -ENOMEM;
		caller->groups = groups;
		nr = fuse_req_getgroups(req, max, groups);
		if (nr <= max) {
			caller->nr_groups = nr > 0 ? nr : 0;
			return 0;
		}
		max = nr;
	}
}

int msnap_fs_caller_get(fuse_req_t req, struct msnap_fs_caller *caller)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct msnap_fs_caller new = {
		.uid = ctx->uid,
		.gid = ctx->gid,
		.thread = ctx->pid,
	};
	int err = new.uid ? get_groups(req, &new) : 0;

	if (err) {
		free(new.groups);
		return err;
	}
	*caller = new;
	return 0;
}

void msnap_fs_caller_put(struct msnap_fs_caller *caller)
{
	free(caller->groups);
	caller->groups = NULL;
	caller->nr_groups = 0;
}

bool msnap_fs_in_group(const struct msnap_fs_caller *caller, gid_t gid)
{
	if (caller->gid == gid)
		return true;
	for (int i = 0; i < caller->nr_groups; i++)
		if (caller->groups[i] == gid)
			return true;
	return false;
}

int msnap_fs_may(const struct msnap_fs_caller *caller,
		 const struct msnap_attr *attr, int mask)
{
	unsigned bits = attr->mode & 0777;

	if (caller->uid == 0)
		return 0;
	if (caller->uid == attr->uid)
		bits >>= 6;
	else if (msnap_fs_in_group(caller, attr->gid))
		bits >>= 3;
	return (bits & mask) == (unsigned)mask ? 0 : -EACCES;
}

int msnap_fs_may_change(struct fs *fs, const struct msnap_fs_caller *caller,
			uint64_t dir, const struct msnap_attr *entry)
{
	struct msnap_attr attr;
	int err = msnap_getattr(fs->pool, msnap_live(dir), &attr);

	if (err)
		return err;
	if (!S_ISDIR(attr.mode))
		return -ENOTDIR;
	err = msnap_fs_may(caller, &attr, W_OK | X_OK);
	if (err)
		return err;
	if (!(attr.mode & S_ISVTX) || caller->uid == 0 ||
	    caller->uid == attr.uid || (entry && caller->uid == entry->uid))
		return 0;
	return -EPERM;
}

struct walk {
	struct fs *fs;
	const struct msnap_fs_caller *caller;
	uint64_t snap;
	int dir_mask;
	int file_mask;
	bool own; /* instead of the masks: everything must be the caller's */
	uint64_t *ino; /* still to be looked at */
	size_t nr;
	size_t max;
	int err;
};

/* Links have no mode that counts, and reading a device is not a matter of ours. */
static bool is_checked(const struct walk *walk, uint8_t type)
{
	return walk->own || type == DT_DIR || type == DT_UNKNOWN ||
	       (type == DT_REG && walk->file_mask);
}

static int push(struct walk *walk, uint64_t ino)
{
	if (walk->nr == walk->max) {
		size_t max = walk->max ? walk->max * 2 : 64;
		uint64_t *array = realloc(walk->ino, max * sizeof(*array));

		if (!array)
			return -ENOMEM;
		walk->ino = array;
		walk->max = max;
	}
	walk->ino[walk->nr++] = ino;
	return 0;
}

static int push_entry(void *arg, const struct msnap_entry *entry)
{
	struct walk *walk = arg;

	if (is_checked(walk, entry->type))
		walk->err = push(walk, entry->ino);
	return walk->err;
}

static int check_one(struct walk *walk, uint64_t ino)
{
	struct msnap_id id = { walk->snap, ino };
	struct msnap_attr attr;
	int err = msnap_getattr(walk->fs->pool, id, &attr);

	if (err == -ENOENT)
		return 0; /* deleted meanwhile */
	if (err)
		return err;
	if (walk->own)
		err = attr.uid == walk->caller->uid ? 0 : -EPERM;
	else
		err = msnap_fs_may(walk->caller, &attr,
				   S_ISDIR(attr.mode) ? walk->dir_mask
						      : walk->file_mask);
	if (err || !S_ISDIR(attr.mode))
		return err;
	err = msnap_readdir(walk->fs->pool, id, 0, push_entry, walk);
	return err < 0 ? err : walk->err;
}

static int walk_all(struct walk *walk, uint64_t top)
{
	int err;

	if (walk->caller->uid == 0)
		return 0;
	err = push(walk, top);
	while (!err && walk->nr)
		err = check_one(walk, walk->ino[--walk->nr]);
	free(walk->ino);
	return err;
}

int msnap_fs_may_all(struct fs *fs, const struct msnap_fs_caller *caller,
		     struct msnap_id top, int dir_mask, int file_mask)
{
	struct walk walk = {
		.fs = fs,
		.caller = caller,
		.snap = top.snap,
		.dir_mask = dir_mask,
		.file_mask = file_mask,
	};

	return walk_all(&walk, top.ino);
}

int msnap_fs_owns_all(struct fs *fs, const struct msnap_fs_caller *caller,
		      struct msnap_id top)
{
	struct walk walk = {
		.fs = fs,
		.caller = caller,
		.snap = top.snap,
		.own = true,
	};

	return walk_all(&walk, top.ino);
}
