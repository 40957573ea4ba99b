/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fill.c - checksums for data that came by sharing, computed in the background.
 *
 * A list in memory of files that have such data; after a crash a scrub finds them.
 * The data are read without the lock, pinned; the operation that stores the
 * checksums looks whether the extent is still the same.
 */
#include "fill.h"

#include <errno.h>
#include <string.h>

#include "csum.h"
#include "file.h"

/* The next extent without checksums, cut to what one step does. */
static int find(struct msnap_pool *pool, const struct msnap_tree *tree, uint64_t fb,
		struct msnap_ext *ext)
{
	struct msnap_cursor cur;
	int err = msnap_ext_seek(pool, tree, fb, &cur);

	while (!err) {
		msnap_ext_load(&cur, ext, false);
		if (ext->flags == MSNAP_EXT_NOCSUM) {
			if (ext->fb < fb)
				msnap_ext_slice(ext, fb - ext->fb,
						msnap_ext_end(ext) - fb);
			if (ext->nr > MSNAP_EXT_MAX_CSUM)
				ext->nr = MSNAP_EXT_MAX_CSUM;
			return 0;
		}
		err = msnap_cursor_next(&cur);
	}
	return err;
}

static int compute(struct msnap_pool *pool, struct msnap_ext *ext)
{
	unsigned i;

	for (i = 0; i < ext->nr; i++)
		ext->csum[i] = put64(msnap_csum_data(
			msnap_blk_ptr(pool, ext->blk + i), ext->blk + i));
	return 0;
}

static int store(struct msnap_pool *pool, uint64_t ino, struct msnap_ext *ext)
{
	struct msnap_inode in;
	struct msnap_tree tree;
	struct msnap_ext now;
	int err = msnap_file_own(pool, ino, &in);

	if (err)
		return err;
	tree = msnap_ext_tree(ino, &in);
	err = find(pool, &tree, ext->fb, &now);
	if (err || now.fb != ext->fb || now.blk != ext->blk || now.nr != ext->nr ||
	    now.gen != ext->gen)
		return err == -ENOENT ? 0 : err; /* changed meanwhile: look again */
	err = msnap_ext_split(pool, &tree, ext->fb);
	if (!err)
		err = msnap_ext_split(pool, &tree, msnap_ext_end(ext));
	ext->flags = 0;
	if (!err)
		err = msnap_ext_replace(pool, &tree, ext);
	if (err)
		return err;
	in.ext = msnap_ptr_store(tree.root);
	return msnap_inode_put(pool, &pool->ns, ino, &in, MSNAP_PUT_OLD);
}

static int begin(struct msnap_pool *pool, uint64_t ino, uint64_t fb,
		 struct msnap_ext *ext, unsigned *slot)
{
	struct msnap_inode in;
	struct msnap_tree tree;
	int err = msnap_file_get(pool, ino, &in);

	if (!err) {
		tree = msnap_ext_tree(ino, &in);
		err = find(pool, &tree, fb, ext);
	}
	if (!err) {
		*slot = pool->gen % MSNAP_READER_SLOTS;
		atomic_fetch_add(&pool->readers[*slot], 1);
	}
	return err;
}

int msnap_fill_step(struct msnap_pool *pool, uint64_t ino, uint64_t *fb)
{
	struct msnap_ext ext;
	unsigned slot;
	int err;

	if (pool->read_only)
		return -EROFS;
	err = MSNAP_LOOK(pool, begin(pool, ino, *fb, &ext, &slot));
	if (err)
		return err == -ENOENT ? 0 : err;
	err = MSNAP_GUARD(compute(pool, &ext));
	/* Before the operation: it may have to wait for a commit, and that waits for
	 * readers. */
	atomic_fetch_sub(&pool->readers[slot], 1);
	if (!err)
		err = msnap_op_begin(pool, MSNAP_OP_BLOCKS);
	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(store(pool, ino, &ext)));
	*fb = msnap_ext_end(&ext);
	return err ? err : 1;
}
