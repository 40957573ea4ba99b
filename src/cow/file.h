/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file.h - the contents of files, as the engine's modules share them.  The calls
 * themselves are in cow.h.  Invariant: bytes of a file's last block behind its
 * end are zero, and no extent lies wholly behind the end but what fallocate with
 * KEEP_SIZE put there.
 */
#ifndef MSNAP_COW_FILE_H
#define MSNAP_COW_FILE_H

#include "extent.h"
#include "inode.h"

#define MSNAP_FILE_MAX INT64_MAX

/* Truncate or extend; changes @in, which the caller stores.  In an operation. */
int msnap_file_resize(struct msnap_pool *pool, uint64_t ino, struct msnap_inode *in,
		      uint64_t size);

/* Compare a block with its checksum, unless that was done before.  -EIO, logged. */
int msnap_data_verify(struct msnap_pool *pool, uint64_t ino, uint64_t fb,
		      uint64_t blk, uint64_t csum);

/* A live regular file.  -EISDIR, -EINVAL. */
int msnap_file_get(struct msnap_pool *pool, uint64_t ino, struct msnap_inode *in);
/* The same, before its extents change (see msnap_inode_own()). */
int msnap_file_own(struct msnap_pool *pool, uint64_t ino, struct msnap_inode *in);
/* Write @len bytes before the end of a file.  In an operation. */
int msnap_file_write(struct msnap_pool *pool, uint64_t ino, const void *buf, size_t len,
		     uint64_t off);

/* Off the list of views, if it is on it.  In an operation. */
int msnap_view_forget(struct msnap_pool *pool, uint64_t ino);

#endif
