/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * extent.h - the extents of one file: finding, splitting, removing, inserting.
 *
 * What it does not do: it knows no inode and no sizes, and reads no data.
 * Locking: as tree.h.
 */
#ifndef MSNAP_COW_EXTENT_H
#define MSNAP_COW_EXTENT_H

#include "tree.h"

/* An extent, in DRAM. */
struct msnap_ext {
	uint64_t fb;  /* first file block */
	uint64_t blk; /* first pool block */
	uint64_t gen;
	unsigned nr;
	unsigned flags;
	msnap_le64 csum[MSNAP_EXT_MAX_CSUM]; /* when flags is 0 */
};

/* The extent that covers @fb, or else the first behind it.  -ENOENT. */
int msnap_ext_seek(struct msnap_pool *pool, const struct msnap_tree *tree,
		   uint64_t fb, struct msnap_cursor *cur);
/* The last extent that begins at or before @fb.  -ENOENT. */
int msnap_ext_seek_le(struct msnap_pool *pool, const struct msnap_tree *tree,
		      uint64_t fb, struct msnap_cursor *cur);

/* What the cursor stands on; without the checksums unless @csum. */
void msnap_ext_load(const struct msnap_cursor *cur, struct msnap_ext *ext,
		    bool csum);

/* Where one ends. */
static inline uint64_t msnap_ext_end(const struct msnap_ext *ext)
{
	return ext->fb + ext->nr;
}

/* Keep only the @nr blocks behind the first @skip. */
void msnap_ext_slice(struct msnap_ext *ext, unsigned skip, unsigned nr);

/*
 * Insert an extent where there is a hole; joins the one before where it continues
 * it.  The reference on its blocks becomes the tree's.
 */
int msnap_ext_put(struct msnap_pool *pool, struct msnap_tree *tree,
		  const struct msnap_ext *ext);
/* Replace the extent that begins at ext->fb and has as many blocks. */
int msnap_ext_replace(struct msnap_pool *pool, struct msnap_tree *tree,
		      const struct msnap_ext *ext);

/* Make a hole of blocks @fb..@end-1; *nr_blk: how many were mapped there. */
int msnap_ext_punch(struct msnap_pool *pool, struct msnap_tree *tree, uint64_t fb,
		    uint64_t end, uint64_t *nr_blk);

/* No extent reaches across @fb. */
int msnap_ext_split(struct msnap_pool *pool, struct msnap_tree *tree, uint64_t fb);

/*
 * The extent that covers @fb, with every node on its way ours alone, so that the
 * count of its blocks tells who else has them.  -ENOENT: a hole.
 */
int msnap_ext_own(struct msnap_pool *pool, struct msnap_tree *tree, uint64_t fb,
		  struct msnap_ext *ext);

#endif
