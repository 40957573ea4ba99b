/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * view-int.h - what view-dir.c, view.c, view-compare.c and view-absorb.c share.
 *
 * What is new in a view is found by comparing where its blocks are with where the
 * pool's are that the engine maps there: the host's filesystem moved those that
 * were stored to.  The last block, when the file ends inside it, cannot be shared
 * (FICLONERANGE wants whole blocks but at the end of both files); it is copied, and
 * compared by content.
 */
#ifndef MSNAP_FS_VIEW_INT_H
#define MSNAP_FS_VIEW_INT_H

#include "host.h"
#include "view.h"

#define MSNAP_FS_BLOCK 4096u

struct msnap_fs_views {
	struct msnap_pool *pool;
	int dir;
	char *path;
	_Atomic unsigned serial; /* of names for files that are being built */
};

/* ---- what the engine maps ---- */

struct msnap_fs_pieces {
	struct msnap_piece *at; /* ascending by offset; the caller frees it */
	size_t nr, cap, max;
	int err;
};

/* -E2BIG: more than @max.  Also after an error there is something to free. */
int msnap_fs_view_pieces(struct msnap_fs_views *views, struct msnap_id id, size_t max,
			 struct msnap_fs_pieces *p);

static inline bool msnap_fs_has_data(const struct msnap_piece *p)
{
	return !(p->flags & MSNAP_PIECE_UNWRITTEN);
}

static inline uint64_t msnap_fs_whole_blocks(uint64_t size)
{
	return size & ~(uint64_t)(MSNAP_FS_BLOCK - 1);
}

/* ---- what is new ---- */

struct msnap_fs_imports {
	struct msnap_import *at; /* ascending by offset; the caller frees it */
	size_t nr, cap;
};

/*
 * What differs between view @fd, of @size bytes, and live inode @ino, in whole blocks:
 * all goes to @differ (or is a hole); what is allocated in the view without data, to
 * @allocated as well.  @known: where the engine's blocks are, or nothing when that is
 * not known; and then where the view's are.
 */
int msnap_fs_view_compare(struct msnap_fs_views *views, uint64_t ino, int fd,
			  uint64_t size, struct msnap_fs_wheres *known,
			  struct msnap_fs_imports *differ,
			  struct msnap_fs_imports *allocated);
/* Does the end inside the last block differ?  1, 0 or an error.  @tail has room for a
 * block, and gets what the view has there. */
int msnap_fs_view_compare_tail(struct msnap_fs_views *views, uint64_t ino, int fd,
			       uint64_t size, char *tail);

#endif
