/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * reply.h - from what the engine says to what the kernel is told.
 *
 * What it is: attributes by node id, entries with their reference in the node
 * table, and what happens when the last reference of a deleted file goes.
 *
 * Locking: none needed.
 */
#ifndef MSNAP_FS_REPLY_H
#define MSNAP_FS_REPLY_H

#include "fs.h"

/* Attributes of any node: live, in a snapshot, or a .snap. */
int msnap_fs_attr(struct fs *fs, uint64_t node, struct msnap_attr *attr);

void msnap_fs_fill_stat(uint64_t node, const struct msnap_attr *attr,
			struct stat *st);
void msnap_fs_fill_entry(struct fs *fs, uint64_t node,
			 const struct msnap_attr *attr, double entry_timeout,
			 struct fuse_entry_param *entry);

/* Zero on success, an error otherwise; @err is 0 or negative. */
void msnap_fs_reply(fuse_req_t req, int err);
void msnap_fs_reply_attr(fuse_req_t req, uint64_t node,
			 const struct msnap_attr *attr);

/* Answers with an entry and counts the kernel's reference to it. */
void msnap_fs_reply_entry(fuse_req_t req, uint64_t node,
			  const struct msnap_attr *attr, double entry_timeout);

/* The kernel gives back @nr references: evicts what nobody uses any more. */
void msnap_fs_unref(struct fs *fs, uint64_t node, uint64_t nr);

/*
 * The engine says that a name of this inode was removed (ino 0: of none).  When
 * it was the last one, the inode lives until its last user has gone.
 */
void msnap_fs_gone(struct fs *fs, const struct msnap_attr *gone);

void msnap_fs_evict(struct fs *fs, uint64_t ino);

#endif
