/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * write.c - new contents for files: write, truncate, fallocate.
 *
 * A large write copies its whole blocks into free ones before it takes the lock,
 * then maps them in one operation.  A small one does all in the operation, and in
 * place where the block was written since the last commit and nobody else has it.
 * Blocks that fallocate mapped are filled where they are: what is on the media
 * there is nobody's content until the extent says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "background.h"
#include "csum.h"
#include "file.h"

#define SMALL_WRITE (64u << 10)
#define WRITE_MAX (16u << 20)
#define IN_PLACE_MAX 16 /* blocks */
#define NO_BLOCK (1ull << (63 - MSNAP_BLOCK_SHIFT)) /* behind every file */

/* One change of a file's bytes. */
struct change {
	struct msnap_pool *pool;
	uint64_t ino;
	struct msnap_inode in;
	struct msnap_tree tree;
	const uint8_t *buf;
	uint64_t off;
	size_t len;
	uint64_t old_size;
};

static uint64_t first_blk(const struct change *c)
{
	return c->off >> MSNAP_BLOCK_SHIFT;
}

static uint64_t first_whole_blk(const struct change *c)
{
	return (c->off + MSNAP_BLOCK_SIZE - 1) >> MSNAP_BLOCK_SHIFT;
}

static uint64_t end_blk(const struct change *c)
{
	return (c->off + c->len + MSNAP_BLOCK_SIZE - 1) >> MSNAP_BLOCK_SHIFT;
}

int msnap_file_get(struct msnap_pool *pool, uint64_t ino, struct msnap_inode *in)
{
	int err = msnap_inode_get(pool, &pool->ns, ino, in);

	if (err)
		return err;
	if (S_ISDIR(get32(in->mode)))
		return -EISDIR;
	return S_ISREG(get32(in->mode)) ? 0 : -EINVAL;
}

int msnap_file_own(struct msnap_pool *pool, uint64_t ino, struct msnap_inode *in)
{
	int err = msnap_file_get(pool, ino, in);

	return err ? err : msnap_inode_own(pool, ino, in);
}

static int change_begin(struct change *c)
{
	int err = msnap_file_own(c->pool, c->ino, &c->in);

	if (err)
		return err;
	c->tree = msnap_ext_tree(c->ino, &c->in);
	c->old_size = get64(c->in.size);
	return 0;
}

static int change_end(struct change *c, uint64_t size)
{
	c->in.ext = msnap_ptr_store(c->tree.root);
	c->in.size = put64(size);
	msnap_inode_changed(&c->in);
	c->in.mtime = c->in.ctime;
	return msnap_inode_put(c->pool, &c->pool->ns, c->ino, &c->in, MSNAP_PUT_OLD);
}

static uint64_t grown(const struct change *c)
{
	uint64_t end = c->off + c->len;

	return end > c->old_size ? end : c->old_size;
}

/* ---- one block after the change ------------------------------------------------ */

/* What the file has in block @fb now; zeros in a hole. */
static int old_block(struct change *c, uint64_t fb, uint8_t *out)
{
	struct msnap_cursor cur;
	struct msnap_ext ext;
	uint64_t i;
	int err = msnap_ext_seek(c->pool, &c->tree, fb, &cur);

	memset(out, 0, MSNAP_BLOCK_SIZE);
	if (err)
		return err == -ENOENT ? 0 : err;
	msnap_ext_load(&cur, &ext, true);
	if (ext.fb > fb || ext.flags & MSNAP_EXT_UNWRITTEN)
		return 0;
	i = fb - ext.fb;
	if (!ext.flags)
		err = msnap_data_verify(c->pool, c->ino, fb, ext.blk + i,
					get64(ext.csum[i]));
	if (!err)
		memcpy(out, msnap_blk_ptr(c->pool, ext.blk + i), MSNAP_BLOCK_SIZE);
	return err;
}

/* The bytes of block @fb that the change gives. */
static void covered(const struct change *c, uint64_t fb, unsigned *from,
		    unsigned *to)
{
	uint64_t start = fb << MSNAP_BLOCK_SHIFT, end = c->off + c->len;

	*from = c->off > start ? c->off - start : 0;
	*to = end < start + MSNAP_BLOCK_SIZE ? end - start : MSNAP_BLOCK_SIZE;
}

/* *src: the content of block @fb after the change, in the caller's buffer or, when
 * it is only partly given, in @tmp. */
static int new_block(struct change *c, uint64_t fb, uint8_t *tmp,
		     const uint8_t **src)
{
	uint64_t start = fb << MSNAP_BLOCK_SHIFT;
	uint64_t old = c->old_size > start ? c->old_size - start : 0;
	unsigned from, to;
	int err = 0;

	covered(c, fb, &from, &to);
	if (from == 0 && to == MSNAP_BLOCK_SIZE) {
		*src = c->buf + (start - c->off);
		return 0;
	}
	/* Behind the old end there are only zeros. */
	if ((from && old) || to < old)
		err = old_block(c, fb, tmp);
	else
		memset(tmp, 0, MSNAP_BLOCK_SIZE);
	if (!err)
		memcpy(tmp + from, c->buf + (start + from - c->off), to - from);
	*src = tmp;
	return err;
}

/* Store blocks @fb.. into pool blocks @blk.., and note their checksums. */
static int store_blocks(struct change *c, uint64_t fb, uint64_t blk, unsigned nr,
			msnap_le64 *csum)
{
	uint8_t tmp[MSNAP_BLOCK_SIZE];
	unsigned i;
	int err = msnap_mem_reserve(c->pool->mem, blk << MSNAP_BLOCK_SHIFT,
				    (uint64_t)nr << MSNAP_BLOCK_SHIFT);

	for (i = 0; !err && i < nr; i++) {
		const uint8_t *src;

		err = new_block(c, fb + i, tmp, &src);
		if (err)
			break;
		csum[i] = put64(msnap_csum_data(src, blk + i));
		msnap_mem_copy(c->pool->mem, (blk + i) << MSNAP_BLOCK_SHIFT, src,
			       MSNAP_BLOCK_SIZE);
	}
	if (!err)
		msnap_ok_set(c->pool->data_ok, blk, nr);
	return err;
}

/* Map @nr written blocks at @fb in place of what is there. */
static int map_blocks(struct change *c, uint64_t fb, uint64_t blk, unsigned nr,
		      const msnap_le64 *csum)
{
	struct msnap_ext ext = { .gen = c->pool->gen };
	uint64_t removed;
	unsigned i;
	int err = msnap_ext_punch(c->pool, &c->tree, fb, fb + nr, &removed);

	for (i = 0; !err && i < nr; i += ext.nr) {
		ext.fb = fb + i;
		ext.blk = blk + i;
		ext.nr = nr - i < MSNAP_EXT_MAX_CSUM ? nr - i : MSNAP_EXT_MAX_CSUM;
		memcpy(ext.csum, csum + i, ext.nr * sizeof(*csum));
		err = msnap_ext_put(c->pool, &c->tree, &ext);
	}
	if (!err)
		err = msnap_op_wrote(c->pool, blk, nr);
	if (!err)
		c->in.nr_blk = put64(get64(c->in.nr_blk) + nr - removed);
	return err;
}

/* ---- in the operation ---------------------------------------------------------------- */

/* The block that would continue what is in front of @fb; 0: none.  *len: how many blocks
 * that has; may be NULL. */
static uint64_t goal_of(struct msnap_pool *pool, const struct msnap_tree *tree,
			uint64_t fb, uint64_t *len)
{
	struct msnap_cursor cur;
	struct msnap_ext ext = { 0 };

	if (fb && !msnap_ext_seek_le(pool, tree, fb - 1, &cur))
		msnap_ext_load(&cur, &ext, false);
	if (msnap_ext_end(&ext) != fb)
		ext = (struct msnap_ext){ 0 };
	if (len)
		*len = ext.nr;
	return ext.blk + ext.nr;
}

/*
 * Is this the end of a file that is as large as a huge page already?  One that has grown
 * in small steps begins anywhere; from here on it is where huge pages can map it.
 */
static bool grows_large(const struct change *c, uint64_t fb, uint64_t nr_in_one)
{
	/* Not a block that is there in part and moves, nor a few that stand alone in a
	 * sparse file: they would take a chunk for themselves. */
	return fb >= MSNAP_SPACE_CHUNK && nr_in_one >= MSNAP_SPACE_ALIGN_MIN &&
	       fb << MSNAP_BLOCK_SHIFT >= c->old_size;
}

static int write_new(struct change *c, uint64_t fb, uint64_t end)
{
	msnap_le64 csum[MSNAP_EXT_MAX_CSUM];
	int err = 0;

	while (!err && fb < end) {
		struct msnap_space_want want = { .use = MSNAP_SPACE_DATA };
		uint64_t blk, in_front;
		uint32_t nr;

		want.nr = end - fb < MSNAP_EXT_MAX_CSUM ? end - fb :
							  MSNAP_EXT_MAX_CSUM;
		want.goal = goal_of(c->pool, &c->tree, fb, &in_front);
		want.phase = fb;
		want.align = grows_large(c, fb, in_front + (end - fb));
		err = msnap_op_data_alloc(c->pool, &want, &blk, &nr);
		if (!err)
			err = store_blocks(c, fb, blk, nr, csum);
		if (!err)
			err = map_blocks(c, fb, blk, nr, csum);
		fb += nr;
	}
	return err;
}

static bool all_ours(struct msnap_pool *pool, uint64_t blk, unsigned nr)
{
	while (nr--)
		if (msnap_space_count(pool->space, blk + nr) != 1)
			return false;
	return true;
}

/*
 * Blocks @fb..*end-1 when fallocate mapped them and nobody shares them; *end moves
 * to where that ends.  1: done; 0: they are something else.
 */
static int write_allocated(struct change *c, uint64_t fb, uint64_t *end)
{
	struct msnap_ext ext;
	unsigned nr;
	int err = msnap_ext_own(c->pool, &c->tree, fb, &ext);

	if (err)
		return err == -ENOENT ? 0 : err;
	if (ext.flags != MSNAP_EXT_UNWRITTEN)
		return 0;
	if (*end > msnap_ext_end(&ext))
		*end = msnap_ext_end(&ext);
	if (*end - fb > MSNAP_EXT_MAX_CSUM)
		*end = fb + MSNAP_EXT_MAX_CSUM;
	nr = *end - fb;
	if (!all_ours(c->pool, ext.blk + (fb - ext.fb), nr))
		return 0;
	err = msnap_ext_split(c->pool, &c->tree, fb);
	if (!err)
		err = msnap_ext_split(c->pool, &c->tree, *end);
	if (err)
		return err;
	msnap_ext_slice(&ext, fb - ext.fb, nr);
	ext.flags = 0;
	ext.gen = c->pool->gen;
	/* No root says that there is content in these blocks. */
	err = store_blocks(c, fb, ext.blk, nr, ext.csum);
	if (!err)
		err = msnap_op_wrote(c->pool, ext.blk, nr);
	if (!err)
		err = msnap_ext_replace(c->pool, &c->tree, &ext);
	return err ? err : 1;
}

static int write_blocks(struct change *c, uint64_t fb, uint64_t end)
{
	while (fb < end) {
		uint64_t upto = end;
		int ret = write_allocated(c, fb, &upto);

		if (ret == 0) {
			/* Up to the next allocated extent would be finer; blocks
			 * that are replaced go back to the map. */
			upto = fb + MSNAP_EXT_MAX_CSUM < end ?
				       fb + MSNAP_EXT_MAX_CSUM : end;
			ret = write_new(c, fb, upto);
		}
		if (ret < 0)
			return ret;
		fb = upto;
	}
	return 0;
}

/* The bytes of each block, where they are. */
static void overwrite(struct change *c, uint64_t fb, uint64_t blk, unsigned nr)
{
	unsigned i, from, to;

	for (i = 0; i < nr; i++) {
		covered(c, fb + i, &from, &to);
		msnap_mem_copy(c->pool->mem,
			       ((blk + i) << MSNAP_BLOCK_SHIFT) + from,
			       c->buf + (((fb + i) << MSNAP_BLOCK_SHIFT) + from -
					 c->off),
			       to - from);
	}
}

/*
 * Small and wholly inside an extent of this generation that is ours alone: no
 * committed root reaches it, and it is on the list to be flushed already.  1: done.
 * The data change last, when nothing can fail any more.
 */
static int write_in_place(struct change *c)
{
	uint64_t fb = first_blk(c), end = end_blk(c), size = grown(c);
	uint8_t tmp[MSNAP_BLOCK_SIZE];
	const uint8_t *src;
	struct msnap_ext ext;
	unsigned i, skip, nr = end - fb;
	int err;

	if (nr > IN_PLACE_MAX)
		return 0;
	err = msnap_ext_own(c->pool, &c->tree, fb, &ext);
	if (err)
		return err == -ENOENT ? 0 : err;
	skip = fb - ext.fb;
	if (ext.flags || ext.gen != c->pool->gen || msnap_ext_end(&ext) < end ||
	    !all_ours(c->pool, ext.blk + skip, nr))
		return 0;
	for (i = 0; i < nr; i++) {
		err = new_block(c, fb + i, tmp, &src);
		if (err)
			return err;
		ext.csum[skip + i] = put64(msnap_csum_data(src, ext.blk + skip + i));
	}
	err = msnap_ext_replace(c->pool, &c->tree, &ext);
	if (!err)
		err = change_end(c, size);
	if (!err)
		err = msnap_op_prepare(c->pool);
	/* Blocks beside it may have been given back since it was written. */
	if (!err)
		err = msnap_mem_reserve(c->pool->mem, (ext.blk + skip) << MSNAP_BLOCK_SHIFT,
					(uint64_t)nr << MSNAP_BLOCK_SHIFT);
	if (err)
		return err;
	overwrite(c, fb, ext.blk + skip, nr);
	return 1;
}

/* Bytes behind the end are dropped; false: nothing is left. */
static bool clip(struct change *c)
{
	if (c->off >= c->old_size)
		return false;
	if (c->len > c->old_size - c->off)
		c->len = c->old_size - c->off;
	return true;
}

static int do_write(struct change *c, bool keep_size)
{
	int ret = change_begin(c);

	if (ret)
		return ret;
	if (keep_size && !clip(c))
		return 0;
	ret = write_in_place(c);
	if (ret)
		return ret < 0 ? ret : 0;
	ret = write_blocks(c, first_blk(c), end_blk(c));
	return ret ? ret : change_end(c, grown(c));
}

int msnap_file_write(struct msnap_pool *pool, uint64_t ino, const void *buf, size_t len,
		     uint64_t off)
{
	struct change c = { .pool = pool, .ino = ino, .buf = buf, .off = off,
			    .len = len };

	return do_write(&c, true);
}

/* ---- large writes --------------------------------------------------------------------- */

struct staged {
	uint64_t fb, end;
	struct msnap_runs runs;
	msnap_le64 *csum;
};

static int stage_some(struct change *c, struct staged *s, uint64_t fb,
		      uint64_t goal, uint32_t *nr)
{
	struct msnap_space_want want = { MSNAP_SPACE_DATA, s->end - fb, goal, fb,
					 grows_large(c, fb, s->end - fb) };
	uint64_t blk;
	int err = msnap_runs_reserve(&s->runs, 1);

	if (!err)
		err = msnap_data_alloc(c->pool, &want, &blk, nr);
	if (err)
		return err;
	msnap_runs_add(&s->runs, blk, *nr);
	return MSNAP_GUARD(store_blocks(c, fb, blk, *nr, s->csum + (fb - s->fb)));
}

static void unstage(struct msnap_pool *pool, const struct staged *s, size_t from)
{
	size_t i;

	for (i = from; i < s->runs.nr; i++)
		msnap_data_unalloc(pool, s->runs.run[i].blk, s->runs.run[i].nr);
}

/* Whole blocks only: they need nothing of the file.  Nobody can reach them until they
 * are mapped. */
static int stage(struct change *c, struct staged *s, uint64_t goal)
{
	uint64_t fb;
	uint32_t nr;
	int err = 0;

	s->fb = first_whole_blk(c);
	s->end = (c->off + c->len) >> MSNAP_BLOCK_SHIFT;
	s->csum = msnap_malloc((s->end - s->fb) * sizeof(*s->csum));
	if (!s->csum)
		return -ENOMEM;
	for (fb = s->fb; !err && fb < s->end; fb += nr) {
		err = stage_some(c, s, fb, goal, &nr);
		goal = 0;
		if (err)
			break;
	}
	if (err)
		unstage(c->pool, s, 0);
	return err;
}

static int map_staged(struct change *c, const struct staged *s, size_t *adopted)
{
	uint64_t fb = s->fb;
	size_t i;
	int err = 0;

	for (i = 0; !err && i < s->runs.nr; i++) {
		const struct msnap_run *r = &s->runs.run[i];

		err = msnap_op_adopt(c->pool, r->blk, r->nr);
		if (err)
			return err;
		*adopted = i + 1;
		err = map_blocks(c, fb, r->blk, r->nr, s->csum + (fb - s->fb));
		fb += r->nr;
	}
	return err;
}

/* -EAGAIN: the file was truncated meanwhile, and the write must not extend it. */
static int do_write_staged(struct change *c, const struct staged *s,
			   bool keep_size, size_t *adopted)
{
	int err = change_begin(c);

	if (!err && keep_size && grown(c) > c->old_size)
		err = -EAGAIN;
	if (!err && first_blk(c) < s->fb)
		err = write_blocks(c, first_blk(c), s->fb);
	if (!err)
		err = map_staged(c, s, adopted);
	if (!err && s->end < end_blk(c))
		err = write_blocks(c, s->end, end_blk(c));
	return err ? err : change_end(c, grown(c));
}

static int write_large(struct change *c, bool keep_size, uint64_t goal)
{
	struct staged s = { 0 };
	size_t adopted = 0;
	int err = stage(c, &s, goal);

	if (!err) {
		err = msnap_op_begin(c->pool, MSNAP_OP_BLOCKS);
		if (!err)
			err = msnap_op_end(c->pool,
					   MSNAP_GUARD(do_write_staged(c, &s,
								       keep_size,
								       &adopted)));
		/* What an undone operation had adopted is free already. */
		if (err)
			unstage(c->pool, &s, adopted);
	}
	free(s.csum);
	msnap_runs_free(&s.runs);
	return err;
}

/* How a write of this file is best done: the goal for staging, or not staged at all
 * because fallocate has mapped blocks there. */
static int plan(struct change *c, bool keep_size, bool *staged, uint64_t *goal)
{
	struct msnap_cursor cur;
	struct msnap_ext ext;
	struct msnap_tree tree;
	struct msnap_inode in;
	int err = msnap_file_get(c->pool, c->ino, &in);

	if (!err) {
		tree = msnap_ext_tree(c->ino, &in);
		/* Behind a block that is there in part, which is written first. */
		*goal = goal_of(c->pool, &tree, first_whole_blk(c), NULL);
		c->old_size = get64(in.size);
		*staged = !keep_size || grown(c) == c->old_size;
		if (*staged && !msnap_ext_seek(c->pool, &tree, first_blk(c), &cur)) {
			msnap_ext_load(&cur, &ext, false);
			*staged = ext.fb >= end_blk(c) ||
				  !(ext.flags & MSNAP_EXT_UNWRITTEN);
		}
	}
	return err;
}

int msnap_pwrite(struct msnap_pool *pool, uint64_t ino, const void *buf,
		 size_t len, uint64_t off, bool keep_size)
{
	struct change c = { .pool = pool, .ino = ino, .buf = buf, .off = off,
			    .len = len };
	bool staged = false;
	uint64_t goal;
	int err = 0;

	if (len > WRITE_MAX)
		return -EINVAL;
	if (off > MSNAP_FILE_MAX || len > MSNAP_FILE_MAX - off)
		return -EFBIG;
	if (pool->read_only)
		return -EROFS;
	if (len == 0)
		return 0;
	if (len > SMALL_WRITE)
		err = MSNAP_LOOK(pool, plan(&c, keep_size, &staged, &goal));
	if (!err && staged) {
		err = write_large(&c, keep_size, goal);
		if (err != -EAGAIN)
			return err;
		err = 0;
	}
	if (err)
		return err;
	err = msnap_op_begin(pool, MSNAP_OP_BLOCKS + len / MSNAP_BLOCK_SIZE);
	return err ? err : (int)msnap_op_end(pool,
					     MSNAP_GUARD(do_write(&c, keep_size)));
}

/* ---- truncation ------------------------------------------------------------------------- */

/* Zeros from @off to the end of its block, where there is something. */
static int zero_tail(struct msnap_pool *pool, uint64_t ino, struct msnap_inode *in,
		     struct msnap_tree *tree, uint64_t off, uint64_t end)
{
	static const uint8_t zeros[MSNAP_BLOCK_SIZE];
	struct change c = { .pool = pool, .ino = ino, .in = *in, .tree = *tree,
			    .buf = zeros, .off = off, .len = end - off,
			    .old_size = get64(in->size) };
	struct msnap_cursor cur;
	struct msnap_ext ext;
	int err = msnap_ext_seek(pool, tree, first_blk(&c), &cur);

	if (err)
		return err == -ENOENT ? 0 : err;
	msnap_ext_load(&cur, &ext, false);
	if (ext.fb > first_blk(&c) || ext.flags & MSNAP_EXT_UNWRITTEN)
		return 0;
	err = write_new(&c, first_blk(&c), first_blk(&c) + 1);
	if (!err) {
		*in = c.in;
		*tree = c.tree;
	}
	return err;
}

static uint64_t block_end(uint64_t off)
{
	return (off | (MSNAP_BLOCK_SIZE - 1)) + 1;
}

int msnap_file_resize(struct msnap_pool *pool, uint64_t ino, struct msnap_inode *in,
		      uint64_t size)
{
	struct msnap_tree tree = msnap_ext_tree(ino, in);
	uint64_t removed, keep;
	int err = 0;

	if (size > MSNAP_FILE_MAX)
		return -EFBIG;
	if (size < get64(in->size)) {
		keep = (size + MSNAP_BLOCK_SIZE - 1) >> MSNAP_BLOCK_SHIFT;
		err = msnap_ext_punch(pool, &tree, keep, NO_BLOCK, &removed);
		if (!err)
			in->nr_blk = put64(get64(in->nr_blk) - removed);
		if (!err && size % MSNAP_BLOCK_SIZE)
			err = zero_tail(pool, ino, in, &tree, size,
					block_end(size));
	}
	if (!err) {
		in->ext = msnap_ptr_store(tree.root);
		in->size = put64(size);
	}
	return err;
}

/* ---- fallocate --------------------------------------------------------------------------- */

/* Whole blocks become holes, the rest of the range zeros. */
static int punch(struct change *c, uint64_t off, uint64_t end)
{
	uint64_t fb = (off + MSNAP_BLOCK_SIZE - 1) >> MSNAP_BLOCK_SHIFT;
	uint64_t fe = end >> MSNAP_BLOCK_SHIFT, removed;
	int err = 0;

	if (off % MSNAP_BLOCK_SIZE)
		err = zero_tail(c->pool, c->ino, &c->in, &c->tree, off,
				end < block_end(off) ? end : block_end(off));
	if (!err && end % MSNAP_BLOCK_SIZE && fe >= fb)
		err = zero_tail(c->pool, c->ino, &c->in, &c->tree,
				fe << MSNAP_BLOCK_SHIFT, end);
	if (!err && fb < fe) {
		err = msnap_ext_punch(c->pool, &c->tree, fb, fe, &removed);
		if (!err)
			c->in.nr_blk = put64(get64(c->in.nr_blk) - removed);
	}
	return err;
}

/* Where the hole at or behind *@fb begins and ends, within @end.  -ENOENT: none. */
static int next_hole(struct change *c, uint64_t *fb, uint64_t end, uint64_t *hole_end)
{
	struct msnap_cursor cur;
	struct msnap_ext ext;
	int err = msnap_ext_seek(c->pool, &c->tree, *fb, &cur);

	while (!err && *fb < end) {
		msnap_ext_load(&cur, &ext, false);
		if (ext.fb > *fb)
			break;
		*fb = msnap_ext_end(&ext);
		err = msnap_cursor_next(&cur);
	}
	if (err && err != -ENOENT)
		return err;
	if (*fb >= end)
		return -ENOENT;
	*hole_end = !err && ext.fb < end ? ext.fb : end;
	return 0;
}

static int fill_hole(struct change *c, uint64_t fb, uint64_t end)
{
	int err = 0;

	while (!err && fb < end) {
		struct msnap_space_want want = { .use = MSNAP_SPACE_DATA };
		struct msnap_ext ext = { .fb = fb, .gen = c->pool->gen,
					 .flags = MSNAP_EXT_UNWRITTEN };
		uint32_t nr;

		want.nr = end - fb < MSNAP_EXT_MAX_PLAIN ? end - fb :
							   MSNAP_EXT_MAX_PLAIN;
		want.goal = goal_of(c->pool, &c->tree, fb, NULL);
		want.phase = fb;
		err = msnap_op_data_alloc(c->pool, &want, &ext.blk, &nr);
		if (err)
			return err;
		ext.nr = nr;
		err = msnap_ext_put(c->pool, &c->tree, &ext);
		c->in.nr_blk = put64(get64(c->in.nr_blk) + nr);
		fb += nr;
	}
	return err;
}

static int allocate(struct change *c, uint64_t off, uint64_t end)
{
	uint64_t fb = off >> MSNAP_BLOCK_SHIFT, hole_end;
	uint64_t fe = (end + MSNAP_BLOCK_SIZE - 1) >> MSNAP_BLOCK_SHIFT;
	int err;

	while ((err = next_hole(c, &fb, fe, &hole_end)) == 0) {
		err = fill_hole(c, fb, hole_end);
		if (err)
			return err;
		fb = hole_end;
	}
	return err == -ENOENT ? 0 : err;
}

static int do_fallocate(struct change *c, int mode, uint64_t off, uint64_t end)
{
	uint64_t size;
	int err = change_begin(c);

	if (err)
		return err;
	size = c->old_size;
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		err = punch(c, off, end);
	if (!err && !(mode & FALLOC_FL_PUNCH_HOLE))
		err = allocate(c, off, end);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > size)
		size = end;
	return err ? err : change_end(c, size);
}

int msnap_fallocate(struct msnap_pool *pool, uint64_t ino, int mode,
		    uint64_t off, uint64_t len)
{
	struct change c = { .pool = pool, .ino = ino };
	unsigned need = MSNAP_OP_BLOCKS;
	int err;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE |
		     FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (mode & FALLOC_FL_PUNCH_HOLE &&
	    mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (len == 0)
		return -EINVAL;
	if (off > MSNAP_FILE_MAX || len > MSNAP_FILE_MAX - off)
		return -EFBIG;
	if (mode & FALLOC_FL_PUNCH_HOLE)
		need |= MSNAP_OP_RESERVE;
	else if (len >> MSNAP_BLOCK_SHIFT > pool->nr_blocks)
		return -ENOSPC;
	else
		need += len >> MSNAP_BLOCK_SHIFT;
	err = msnap_op_begin(pool, need);
	if (err == -ENOSPC) /* some of it may be mapped already */
		err = msnap_op_begin(pool, MSNAP_OP_BLOCKS);
	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_fallocate(&c, mode, off,
								  off + len)));
	if (!err && mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		msnap_bg_kick(pool);
	return err;
}
