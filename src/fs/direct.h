/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * direct.h - direct mode: applications map the pool's own blocks.
 *
 * What it is: for every file that is open, how it is: CACHED (the kernel's page
 * cache, filled and emptied by us), PASS (the kernel runs it on the file's view, see
 * view.h, without us), or PLAIN (each write(2) comes to us and no page is kept:
 * files that can only be written cannot be mapped, so they need no view).  While a
 * file is open for writing by PASS its view is what it contains; its contents get
 * into the engine ("absorb") when a snapshot, clone or copy needs them there, and
 * when the last such open ends.
 *
 * Crashes: before a view is handed out for writing, the inode is on the pool's list
 * of views, durably.  It leaves the list in the generation in which the engine's
 * contents change in another way.  So after a crash the views that are on the list
 * are at least as new as the engine, and are absorbed before the mount.
 *
 * Rules of the kernel (fs/fuse/iomode.c): opens of one inode are all PASS with one
 * backing id, or all CACHED, at any one time; PLAIN goes with either.
 *
 * Locking: its own: one mutex for every so many inodes, held across the work on a
 * view.  msnap_fs_direct_lock() takes it for callers that change or read contents in
 * the engine themselves.  NULL for @direct (cached mode) is fine everywhere.
 */
#ifndef MSNAP_FS_DIRECT_H
#define MSNAP_FS_DIRECT_H

#include <sys/stat.h>

#include "fs.h"

struct msnap_fs_direct;

enum msnap_fs_how {
	MSNAP_FS_CACHED,
	MSNAP_FS_PASS,
	MSNAP_FS_PLAIN,
};

/* Can this mount be direct?  -errno and @why: no.  After recover, before mounting. */
int msnap_fs_direct_new(struct fs *fs, char *why, size_t why_size,
			struct msnap_fs_direct **direct);
/* After the last request: everything is absorbed, views go, the list is empty. */
int msnap_fs_direct_finish(struct fs *fs);
void msnap_fs_direct_free(struct msnap_fs_direct *direct);
/* What a crash of an earlier direct mount left beside the pool comes in.  -errno and
 * @why: it cannot, and the files must not be used without it. */
int msnap_fs_direct_recover(struct fs *fs, char *why, size_t why_size);

/* An open begins: how, and for PASS the kernel's backing id. */
int msnap_fs_direct_open(struct fs *fs, uint64_t node, int flags,
			 enum msnap_fs_how *how, int *backing_id);
void msnap_fs_direct_close(struct fs *fs, uint64_t node, int flags,
			   enum msnap_fs_how how);

/*
 * Somebody is about to use the contents of @node.  Returns a file descriptor when
 * they are in a view (use that instead of the engine), else -1: the engine has them;
 * with @change, a view that is kept for the next open is forgotten.  Negative
 * below -1: -errno, not locked.  Unlock with what was returned.
 */
int msnap_fs_direct_lock(struct fs *fs, uint64_t node, bool change);
void msnap_fs_direct_unlock(struct fs *fs, uint64_t node, int fd);

/* Size, times and blocks of a file that is in a view, and may change there at any
 * time; false: it is not. */
bool msnap_fs_direct_attr(struct fs *fs, uint64_t node, struct msnap_attr *attr);

/* Contents of @node (0: of all files) that are in views go into the engine. */
int msnap_fs_direct_absorb(struct fs *fs, uint64_t node);
/* The engine's contents of @node were changed by a rollback: the view, too. */
int msnap_fs_direct_refresh(struct fs *fs, uint64_t node);
/* The inode is deleted for good. */
void msnap_fs_direct_forget(struct fs *fs, uint64_t node);

/* Does the kernel run it on its view now? */
bool msnap_fs_direct_is_passed(struct fs *fs, uint64_t node);
/* "cached", "direct" or "": how it is open. */
const char *msnap_fs_direct_mode(struct fs *fs, uint64_t node);

#endif
