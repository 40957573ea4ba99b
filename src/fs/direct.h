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
 * Mappings: one that is made of a PASS file is one of the view, and the kernel tells
 * us of the close, not of the end of the mapping.  So a view is in use until nobody
 * but us has it open; as long as it is, all opens of the file are PASS.
 *
 * Crashes: before a view is handed out for writing, the inode is on the pool's list
 * of views, durably.  It leaves the list in the generation in which the engine's
 * contents change in another way.  So after a crash the views that are on the list
 * are at least as new as the engine, and are absorbed before the mount.  Views that
 * cannot be absorbed, as the pool is full, stay; the next mount must be direct, too,
 * and the files are what their views contain.
 *
 * Rules of the kernel (fs/fuse/iomode.c): opens of one inode are all PASS with one
 * backing id, or all CACHED, at any one time; PLAIN goes with CACHED, and with PASS
 * when it was first.
 *
 * Locking: its own, see dfile.h.  msnap_fs_direct_lock() takes it for callers that
 * change or read contents in the engine themselves; they must not hold it for two
 * nodes.  NULL for @direct (cached mode) is fine everywhere.
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

/*
 * What an earlier direct mount left beside the pool comes in.  -errno and @why: it
 * cannot, and the files must not be used.  Before the two below.
 */
int msnap_fs_direct_recover(struct fs *fs, char *why, size_t why_size);
/* Is something beside the pool that could not be brought in?  Only a direct mount
 * shows it. */
bool msnap_fs_direct_is_needed(struct fs *fs);
/* Can this mount be direct?  -errno and @why: no. */
int msnap_fs_direct_new(struct fs *fs, char *why, size_t why_size,
			struct msnap_fs_direct **direct);

/* After the last request: everything is absorbed, views go, the list is empty; but
 * for what is still mapped, or finds no room in the pool. */
int msnap_fs_direct_finish(struct fs *fs);
void msnap_fs_direct_free(struct msnap_fs_direct *direct);

/* An open begins: how, and for PASS the kernel's backing id. */
int msnap_fs_direct_open(struct fs *fs, uint64_t node, int flags,
			 enum msnap_fs_how *how, int *backing_id);
void msnap_fs_direct_close(struct fs *fs, uint64_t node, enum msnap_fs_how how);

/*
 * Somebody is about to use the contents of @node.  Returns a file descriptor when
 * they are in a view (use that instead of the engine), else -1: the engine has them;
 * with @change, a view that is kept for the next open is forgotten.  Negative
 * below -1: -errno, not locked.  Unlock with what was returned.
 */
int msnap_fs_direct_lock(struct fs *fs, uint64_t node, bool change);
void msnap_fs_direct_unlock(struct fs *fs, uint64_t node, int fd);

/*
 * Size, times and blocks of a file that is in a view, and may change there at any
 * time.  False: it is not, and @attr is what the engine has, newer than it was: what
 * was in a view may have got into the engine since the caller asked that.
 */
bool msnap_fs_direct_attr(struct fs *fs, uint64_t node, struct msnap_attr *attr);

/* A file descriptor of the view that has the contents of @node, for reading, which
 * the caller closes; -1: the engine has them; below: -errno. */
int msnap_fs_direct_take(struct fs *fs, uint64_t node);

/* See msnap_fs_view_copy_in(). */
ssize_t msnap_fs_direct_copy_in(struct fs *fs, struct msnap_id src,
				uint64_t src_off, int fd, uint64_t off,
				uint64_t len);

/* Contents of @node (0: of all files) that are in views go into the engine. */
int msnap_fs_direct_absorb(struct fs *fs, uint64_t node);
/* The inode is deleted for good. */
void msnap_fs_direct_forget(struct fs *fs, uint64_t node);

/*
 * The engine is about to exchange contents of many files for older ones.  Between
 * begin and end no file is opened, closed, read, or absorbed: nothing of what views
 * have comes in afterwards.  End makes the views of @ino what the engine has then,
 * so that mappings see it.  To be enclosed: nothing that waits for the kernel.
 */
void msnap_fs_direct_switch_begin(struct fs *fs);
void msnap_fs_direct_switch_end(struct fs *fs, const uint64_t *ino, size_t nr);

/* May the kernel have pages of it that it has not written back to us? */
bool msnap_fs_direct_is_cached(struct fs *fs, uint64_t node);
/* "cached", "direct" or "": how it is open. */
const char *msnap_fs_direct_mode(struct fs *fs, uint64_t node);
/* Bytes that can still be stored to views; false: no views. */
bool msnap_fs_direct_space(struct fs *fs, uint64_t *bytes);

#endif
