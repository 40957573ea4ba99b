/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl-long.h - the calls that control threads do: restore points, rollback,
 * clones.
 *
 * Each answers its request.  Locking: none held when called.
 */
#ifndef MSNAP_FS_CTL_LONG_H
#define MSNAP_FS_CTL_LONG_H

#include "ctl.h"
#include "table.h"

void msnap_fs_call_snap(struct fs *fs, struct msnap_fs_call *call);
void msnap_fs_call_snap_delete(struct fs *fs, struct msnap_fs_call *call);
void msnap_fs_call_snap_rename(struct fs *fs, struct msnap_fs_call *call);
void msnap_fs_call_rollback(struct fs *fs, struct msnap_fs_call *call);
void msnap_fs_call_clone(struct fs *fs, struct msnap_fs_call *call);

/* mkdir, rmdir and rename in .snap of live directory @dir: queued, answered. */
void msnap_fs_snapdir_mkdir(fuse_req_t req, uint64_t dir, const char *name);
void msnap_fs_snapdir_rmdir(fuse_req_t req, uint64_t dir, const char *name);
void msnap_fs_snapdir_rename(fuse_req_t req, uint64_t dir, const char *name,
			     const char *new_name);

/*
 * Take a restore point of @item, after writing back what it covers.  @name: the
 * array of a request; with @prefix not NULL the name is made of it and of the
 * local time, and stored there.
 */
struct msnap_fs_take {
	const struct msnap_fs_item *item;
	unsigned nr;
	const char *comment;
	uid_t uid;
	const char *prefix;
	char *name;
	size_t name_size;
};
int msnap_fs_take(struct fs *fs, struct msnap_fs_take *take, uint64_t *snap);

/* Write back what the items cover. */
int msnap_fs_flush_items(struct fs *fs, const struct msnap_fs_item *item,
			 unsigned nr);

#endif
