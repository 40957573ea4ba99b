/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "extent.h"

#include <errno.h>
#include <string.h>

static struct msnap_key ext_key(uint64_t fb)
{
	return (struct msnap_key){ fb, 0 };
}

int msnap_ext_seek_le(struct msnap_pool *pool, const struct msnap_tree *tree,
		      uint64_t fb, struct msnap_cursor *cur)
{
	return msnap_cursor_seek_le(pool, tree, ext_key(fb), cur);
}

int msnap_ext_seek(struct msnap_pool *pool, const struct msnap_tree *tree,
		   uint64_t fb, struct msnap_cursor *cur)
{
	int err = msnap_ext_seek_le(pool, tree, fb, cur);
	struct msnap_ext ext;

	if (err == -ENOENT)
		return msnap_cursor_seek(pool, tree, ext_key(fb), cur);
	if (err)
		return err;
	msnap_ext_load(cur, &ext, false);
	return msnap_ext_end(&ext) > fb ? 0 : msnap_cursor_next(cur);
}

void msnap_ext_load(const struct msnap_cursor *cur, struct msnap_ext *ext, bool csum)
{
	unsigned len;
	const struct msnap_extent *ex = msnap_cursor_val(cur, &len);

	ext->fb = msnap_cursor_key(cur).hi;
	ext->blk = get64(ex->blk);
	ext->gen = get64(ex->gen);
	ext->nr = get16(ex->nr);
	ext->flags = get16(ex->flags);
	if (csum && !ext->flags)
		memcpy(ext->csum, ex->csum, ext->nr * sizeof(*ex->csum));
}

void msnap_ext_slice(struct msnap_ext *ext, unsigned skip, unsigned nr)
{
	if (!ext->flags)
		memmove(ext->csum, ext->csum + skip, nr * sizeof(*ext->csum));
	ext->fb += skip;
	ext->blk += skip;
	ext->nr = nr;
}

static int put_record(struct msnap_pool *pool, struct msnap_tree *tree,
		      const struct msnap_ext *ext, enum msnap_put_how how)
{
	uint8_t buf[sizeof(struct msnap_extent) + 8 * MSNAP_EXT_MAX_CSUM];
	struct msnap_extent *ex = (void *)buf;
	unsigned len = sizeof(*ex);

	ex->blk = put64(ext->blk);
	ex->gen = put64(ext->gen);
	ex->nr = put16(ext->nr);
	ex->flags = put16(ext->flags);
	ex->reserved = put32(0);
	if (!ext->flags) {
		memcpy(ex->csum, ext->csum, ext->nr * sizeof(*ex->csum));
		len += ext->nr * sizeof(*ex->csum);
	}
	return msnap_tree_put(pool, tree, ext_key(ext->fb), ex, len, how);
}

int msnap_ext_replace(struct msnap_pool *pool, struct msnap_tree *tree,
		      const struct msnap_ext *ext)
{
	return put_record(pool, tree, ext, MSNAP_PUT_OLD);
}

/* Can @ext be joined to the end of @left? */
static bool continues(const struct msnap_ext *left, const struct msnap_ext *ext)
{
	unsigned max = left->flags ? MSNAP_EXT_MAX_PLAIN : MSNAP_EXT_MAX_CSUM;

	return msnap_ext_end(left) == ext->fb &&
	       left->blk + left->nr == ext->blk && left->flags == ext->flags &&
	       left->gen == ext->gen && left->nr + ext->nr <= max;
}

int msnap_ext_put(struct msnap_pool *pool, struct msnap_tree *tree,
		  const struct msnap_ext *ext)
{
	struct msnap_cursor cur;
	struct msnap_ext left;
	int err = ext->fb ? msnap_ext_seek_le(pool, tree, ext->fb - 1, &cur) :
			    -ENOENT;

	if (err && err != -ENOENT)
		return err;
	if (!err)
		msnap_ext_load(&cur, &left, true);
	if (err || !continues(&left, ext))
		return put_record(pool, tree, ext, MSNAP_PUT_NEW);
	if (!ext->flags)
		memcpy(left.csum + left.nr, ext->csum, ext->nr * sizeof(*ext->csum));
	left.nr += ext->nr;
	return msnap_ext_replace(pool, tree, &left);
}

int msnap_ext_split(struct msnap_pool *pool, struct msnap_tree *tree, uint64_t fb)
{
	struct msnap_cursor cur;
	struct msnap_ext left, right;
	int err = msnap_ext_seek_le(pool, tree, fb, &cur);

	if (err)
		return err == -ENOENT ? 0 : err;
	msnap_ext_load(&cur, &left, true);
	if (left.fb == fb || msnap_ext_end(&left) <= fb)
		return 0;
	right = left;
	msnap_ext_slice(&right, fb - left.fb, msnap_ext_end(&left) - fb);
	left.nr = fb - left.fb;
	err = msnap_ext_replace(pool, tree, &left);
	return err ? err : put_record(pool, tree, &right, MSNAP_PUT_NEW);
}

int msnap_ext_punch(struct msnap_pool *pool, struct msnap_tree *tree, uint64_t fb,
		    uint64_t end, uint64_t *nr_blk)
{
	struct msnap_cut cut = { 0 };
	int err = 0;

	if (tree->root.blk && fb < end) {
		err = msnap_ext_split(pool, tree, fb);
		if (!err)
			err = msnap_ext_split(pool, tree, end);
		if (!err)
			err = msnap_tree_cut(pool, tree, ext_key(fb),
					     ext_key(end - 1), &cut);
	}
	if (!err)
		*nr_blk = cut.nr_blk;
	return err;
}

int msnap_ext_own(struct msnap_pool *pool, struct msnap_tree *tree, uint64_t fb,
		  struct msnap_ext *ext)
{
	struct msnap_cursor cur;
	int err = msnap_ext_seek_le(pool, tree, fb, &cur);

	if (err)
		return err;
	msnap_ext_load(&cur, ext, true);
	if (msnap_ext_end(ext) <= fb)
		return -ENOENT;
	return msnap_tree_own(pool, tree, ext_key(ext->fb));
}
