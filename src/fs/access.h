/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * access.h - who is calling, and what he may do.
 *
 * What it is: the permission checks of the calls that the kernel cannot check for
 * us (ioctls).  All else is checked by the kernel: default_permissions.
 *
 * What it does not do: capabilities and user namespaces; root is user 0.
 */
#ifndef MSNAP_FS_ACCESS_H
#define MSNAP_FS_ACCESS_H

#include "fs.h"

struct msnap_fs_caller {
	uid_t uid;
	gid_t gid;
	pid_t thread; /* FUSE tells the thread, not the process */
	int nr_groups;
	gid_t *groups; /* supplementary */
};

/* Of a request that has not been answered yet.  -ENOMEM. */
int msnap_fs_caller_get(fuse_req_t req, struct msnap_fs_caller *caller);
void msnap_fs_caller_put(struct msnap_fs_caller *caller);

/* The process that the calling thread belongs to. */
pid_t msnap_fs_caller_process(const struct msnap_fs_caller *caller);

bool msnap_fs_in_group(const struct msnap_fs_caller *caller, gid_t gid);

/* Do the mode bits allow @mask (R_OK, W_OK, X_OK)?  0 or -EACCES. */
int msnap_fs_may(const struct msnap_fs_caller *caller,
		 const struct msnap_attr *attr, int mask);

/*
 * May entries of live directory @dir be made, removed and replaced?  In a
 * sticky directory that is for the owner of the directory, or of @entry (NULL:
 * not for him).  0, -EACCES, -EPERM or what reading the directory gave.
 */
int msnap_fs_may_change(struct fs *fs, const struct msnap_fs_caller *caller,
			uint64_t dir, const struct msnap_attr *entry);

/*
 * May the caller do @dir_mask with every directory at and below @top and
 * @file_mask with every file?  Root: at once; others: a walk.
 */
int msnap_fs_may_all(struct fs *fs, const struct msnap_fs_caller *caller,
		     struct msnap_id top, int dir_mask, int file_mask);

/*
 * Does everything at and below @top belong to the caller?  Changing an inode in
 * place, or making one with an owner, is for its owner and root alone: 0 or -EPERM.
 */
int msnap_fs_owns_all(struct fs *fs, const struct msnap_fs_caller *caller,
		      struct msnap_id top);

#endif
