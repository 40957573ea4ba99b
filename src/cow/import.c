/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * import.c - contents that come from files beside the pool, by sharing their blocks
 * (direct mode), and the list of files that have such a file.
 *
 * Blocks are taken and shared before the lock is; then one operation maps them all.
 * A crash before that leaves free blocks with something in them.  Checksums are
 * computed at once where that is little (before the operation, too: the data may have
 * to be read from the media), and by the background otherwise.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "alloc.h"
#include "background.h"
#include "csum.h"
#include "file.h"
#include "trim.h"

#define CSUM_AT_ONCE (16u << 20) /* bytes */

struct importing {
	struct msnap_pool *pool;
	uint64_t ino;
	int fd;
	const struct msnap_import *piece;
	size_t nr;
	uint64_t size;
	const void *tail;
	struct timespec mtime;
	struct msnap_runs blocks; /* taken, in the order of the pieces */
	size_t adopted;
	msnap_le64 *csum; /* of all blocks, in their order; NULL: not yet */
	size_t nr_csum; /* used */
};

int msnap_pool_fd(struct msnap_pool *pool)
{
	return pool->mem->device ? -1 : pool->mem->fd;
}

/* ---- taking and sharing ------------------------------------------------------------ */

static void give_back(struct importing *im, size_t from)
{
	size_t i;

	for (i = from; i < im->blocks.nr; i++) {
		msnap_data_unalloc(im->pool, im->blocks.run[i].blk,
				   im->blocks.run[i].nr);
		msnap_trim_freed(im->pool, im->blocks.run[i].blk,
				 im->blocks.run[i].nr);
	}
	im->blocks.nr = from;
}

/* One run of blocks for what begins at file block @fb. */
static int take_run(struct importing *im, uint64_t fb, uint64_t end, uint32_t *nr)
{
	struct msnap_space_want want = { .use = MSNAP_SPACE_DATA, .phase = fb };
	size_t last = im->blocks.nr;
	uint64_t blk;
	int err;

	want.nr = end - fb < MSNAP_EXT_MAX_PLAIN ? end - fb : MSNAP_EXT_MAX_PLAIN;
	err = msnap_runs_reserve(&im->blocks, 1);
	if (!err)
		err = msnap_data_alloc_shared(im->pool, &want, &blk, nr);
	if (err)
		return err;
	/* Not msnap_runs_add(): a run stays with its piece. */
	im->blocks.run[last] = (struct msnap_run){ blk, *nr };
	im->blocks.nr++;
	MSNAP_CRASH_AT(SHARE);
	return msnap_mem_share(im->pool->mem, blk << MSNAP_BLOCK_SHIFT, im->fd,
			       fb << MSNAP_BLOCK_SHIFT,
			       (uint64_t)*nr << MSNAP_BLOCK_SHIFT);
}

static int take_all(struct importing *im)
{
	size_t i;
	int err = 0;

	for (i = 0; !err && i < im->nr; i++) {
		const struct msnap_import *p = &im->piece[i];
		uint64_t fb = p->off >> MSNAP_BLOCK_SHIFT;
		uint64_t end = (p->off + p->len) >> MSNAP_BLOCK_SHIFT;
		uint32_t nr;

		if (p->hole)
			continue;
		for (; !err && fb < end; fb += nr) {
			err = take_run(im, fb, end, &nr);
			if (err)
				break;
		}
	}
	if (err)
		give_back(im, 0);
	return err;
}

/* ---- checksums --------------------------------------------------------------------------- */

/* Neighbours are asked for together, and all of them before the first is used. */
static void read_ahead(const struct importing *im)
{
	size_t i, next;

	for (i = 0; i < im->blocks.nr; i = next) {
		const struct msnap_run *r = &im->blocks.run[i];
		uint64_t end = r->blk + r->nr;

		for (next = i + 1; next < im->blocks.nr &&
				   im->blocks.run[next].blk == end; next++)
			end += im->blocks.run[next].nr;
		/* Failing, it takes longer. */
		(void)posix_madvise(msnap_blk_ptr(im->pool, r->blk),
				    (end - r->blk) << MSNAP_BLOCK_SHIFT,
				    POSIX_MADV_WILLNEED);
	}
}

static int fill_csums(const struct importing *im, msnap_le64 *csum)
{
	size_t i, n = 0;
	uint64_t k;

	for (i = 0; i < im->blocks.nr; i++)
		for (k = 0; k < im->blocks.run[i].nr; k++, n++) {
			uint64_t blk = im->blocks.run[i].blk + k;

			csum[n] = put64(msnap_csum_data(msnap_blk_ptr(im->pool, blk),
							blk));
		}
	return 0;
}

static int compute_csums(struct importing *im)
{
	uint64_t sum = 0;
	size_t i;
	int err;

	for (i = 0; i < im->blocks.nr; i++)
		sum += im->blocks.run[i].nr;
	if (sum << MSNAP_BLOCK_SHIFT > CSUM_AT_ONCE)
		return 0;
	im->csum = malloc((sum + 1) * sizeof(*im->csum));
	err = im->csum ? 0 : -ENOMEM;
	if (!err) {
		read_ahead(im);
		err = MSNAP_GUARD(fill_csums(im, im->csum));
	}
	if (err)
		give_back(im, 0);
	return err;
}

/* ---- mapping ----------------------------------------------------------------------------- */

static int map_run(struct importing *im, struct msnap_tree *tree, uint64_t fb,
		   const struct msnap_run *run)
{
	struct msnap_ext ext = { .gen = im->pool->gen,
				 .flags = im->csum ? 0 : MSNAP_EXT_NOCSUM };
	unsigned max = im->csum ? MSNAP_EXT_MAX_CSUM : MSNAP_EXT_MAX_PLAIN;
	uint64_t done;
	int err = 0;

	for (done = 0; !err && done < run->nr; done += ext.nr) {
		ext.fb = fb + done;
		ext.blk = run->blk + done;
		ext.nr = run->nr - done < max ? run->nr - done : max;
		if (im->csum) {
			memcpy(ext.csum, im->csum + im->nr_csum,
			       ext.nr * sizeof(*im->csum));
			im->nr_csum += ext.nr;
			msnap_ok_set(im->pool->data_ok, ext.blk, ext.nr);
		}
		err = msnap_ext_put(im->pool, tree, &ext);
	}
	return err ? err : msnap_op_wrote(im->pool, run->blk, run->nr);
}

static int map_piece(struct importing *im, struct msnap_tree *tree,
		     const struct msnap_import *p, size_t *next, uint64_t *nr_blk)
{
	uint64_t fb = p->off >> MSNAP_BLOCK_SHIFT, removed;
	uint64_t end = (p->off + p->len) >> MSNAP_BLOCK_SHIFT;
	int err = msnap_ext_punch(im->pool, tree, fb, end, &removed);

	*nr_blk -= err ? 0 : removed;
	while (!err && !p->hole && fb < end) {
		const struct msnap_run *run = &im->blocks.run[*next];

		err = msnap_op_adopt(im->pool, run->blk, run->nr);
		if (err)
			break;
		im->adopted = ++*next;
		err = map_run(im, tree, fb, run);
		fb += run->nr;
		*nr_blk += run->nr;
	}
	return err;
}

static int map_all(struct importing *im)
{
	struct msnap_pool *pool = im->pool;
	struct msnap_inode in;
	struct msnap_tree tree;
	uint64_t nr_blk;
	size_t i, next = 0;
	int err = msnap_file_own(pool, im->ino, &in);

	if (err)
		return err;
	if (im->size < get64(in.size)) {
		err = msnap_file_resize(pool, im->ino, &in, im->size);
		if (err)
			return err;
	}
	tree = msnap_ext_tree(im->ino, &in);
	nr_blk = get64(in.nr_blk);
	for (i = 0; !err && i < im->nr; i++)
		err = map_piece(im, &tree, &im->piece[i], &next, &nr_blk);
	if (err)
		return err;
	in.ext = msnap_ptr_store(tree.root);
	in.nr_blk = put64(nr_blk);
	in.size = put64(im->size);
	return msnap_inode_put(pool, &pool->ns, im->ino, &in, MSNAP_PUT_OLD);
}

/* The end, inside of a block that cannot be shared. */
static int write_tail(struct importing *im)
{
	size_t len = im->size & (MSNAP_BLOCK_SIZE - 1);

	if (!im->tail || !len)
		return 0;
	return msnap_file_write(im->pool, im->ino, im->tail, len, im->size - len);
}

static int do_import(struct importing *im)
{
	struct msnap_pool *pool = im->pool;
	struct msnap_inode in;
	int err = map_all(im);

	if (!err)
		err = write_tail(im);
	if (!err)
		err = msnap_file_get(pool, im->ino, &in);
	if (err)
		return err;
	msnap_inode_changed(&in);
	in.mtime.sec = put64(im->mtime.tv_sec);
	in.mtime.nsec = put32(im->mtime.tv_nsec);
	return msnap_inode_put(pool, &pool->ns, im->ino, &in, MSNAP_PUT_OLD);
}

/* ---- what fallocate took for it ---------------------------------------------------- */

/* Blocks in [fb, end) that were never written go.  Returns how many. */
static int64_t drop_in(struct msnap_pool *pool, struct msnap_tree *tree, uint64_t fb,
		       uint64_t end)
{
	struct msnap_cursor cur;
	struct msnap_ext ext;
	uint64_t removed, to;
	int64_t sum = 0;
	int err = 0;

	while (!err && fb < end) {
		err = msnap_ext_seek(pool, tree, fb, &cur);
		if (err)
			break;
		msnap_ext_load(&cur, &ext, false);
		if (ext.fb >= end)
			break;
		to = msnap_ext_end(&ext) < end ? msnap_ext_end(&ext) : end;
		if (ext.flags & MSNAP_EXT_UNWRITTEN) {
			err = msnap_ext_punch(pool, tree, ext.fb > fb ? ext.fb : fb, to,
					      &removed);
			sum += err ? 0 : (int64_t)removed;
		}
		fb = to;
	}
	return err && err != -ENOENT ? err : sum;
}

static int64_t do_drop(struct importing *im)
{
	struct msnap_pool *pool = im->pool;
	struct msnap_inode in;
	struct msnap_tree tree;
	int64_t sum = 0, nr = msnap_file_own(pool, im->ino, &in);

	if (nr)
		return nr;
	tree = msnap_ext_tree(im->ino, &in);
	for (size_t i = 0; nr >= 0 && i < im->nr; i++) {
		const struct msnap_import *p = &im->piece[i];

		nr = p->hole ? 0 : drop_in(pool, &tree, p->off >> MSNAP_BLOCK_SHIFT,
					   (p->off + p->len) >> MSNAP_BLOCK_SHIFT);
		sum += nr;
	}
	if (nr < 0)
		return nr;
	in.ext = msnap_ptr_store(tree.root);
	in.nr_blk = put64(get64(in.nr_blk) - (uint64_t)sum);
	nr = msnap_inode_put(pool, &pool->ns, im->ino, &in, MSNAP_PUT_OLD);
	return nr ? nr : sum;
}

/*
 * No room beside the blocks that fallocate took for what comes in: they make room.  A
 * crash then, or no success all the same, leaves holes, which read as they did.
 */
static bool make_room(struct importing *im)
{
	long nr = msnap_op_begin(im->pool, MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE);

	if (!nr)
		nr = msnap_op_end(im->pool, MSNAP_GUARD(do_drop(im)));
	return nr > 0;
}

int msnap_import(struct msnap_pool *pool, uint64_t ino, int fd,
		 const struct msnap_import *piece, size_t nr, uint64_t size,
		 const void *tail, const struct timespec *mtime)
{
	struct importing im = { .pool = pool, .ino = ino, .fd = fd, .piece = piece,
				.nr = nr, .size = size, .tail = tail,
				.mtime = *mtime };
	int err = size > MSNAP_FILE_MAX ? -EFBIG : pool->read_only ? -EROFS : 0;

	if (!err)
		err = take_all(&im);
	if (err == -ENOSPC && make_room(&im))
		err = take_all(&im);
	if (!err)
		err = compute_csums(&im);
	MSNAP_CRASH_AT(SHARED);
	if (!err) {
		err = msnap_op_begin(pool, MSNAP_OP_BLOCKS + nr);
		if (!err)
			err = msnap_op_end(pool, MSNAP_GUARD(do_import(&im)));
		if (err)
			give_back(&im, im.adopted);
		else if (!im.csum)
			msnap_bg_fill(pool, ino);
	}
	msnap_runs_free(&im.blocks);
	free(im.csum);
	MSNAP_CRASH_AT(IMPORTED);
	return err;
}

/* ---- the list -------------------------------------------------------------------------------- */

static struct msnap_key view_key(uint64_t ino)
{
	return (struct msnap_key){ (uint64_t)MSNAP_CAT_VIEW << 56 | ino, 0 };
}

static int do_add(struct msnap_pool *pool, uint64_t ino)
{
	struct msnap_inode in;
	int err = msnap_file_get(pool, ino, &in);

	return err ? err : msnap_tree_put(pool, &pool->catalog, view_key(ino), "", 0,
					  MSNAP_PUT_ANY);
}

int msnap_view_add(struct msnap_pool *pool, uint64_t ino)
{
	int err = msnap_op_begin(pool, MSNAP_OP_BLOCKS);

	return err ? err : (int)msnap_op_end(pool, MSNAP_GUARD(do_add(pool, ino)));
}

int msnap_view_forget(struct msnap_pool *pool, uint64_t ino)
{
	int err = msnap_tree_take(pool, &pool->catalog, view_key(ino));

	return err == -ENOENT ? 0 : err;
}

int msnap_view_remove(struct msnap_pool *pool, uint64_t ino)
{
	int err = msnap_op_begin(pool, MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE);

	return err ? err : (int)msnap_op_end(pool, MSNAP_GUARD(
							msnap_view_forget(pool, ino)));
}

static int next_view(struct msnap_pool *pool, uint64_t after, uint64_t *ino)
{
	struct msnap_cursor cur;
	struct msnap_key key;
	int err = msnap_cursor_seek(pool, &pool->catalog, view_key(after + 1), &cur);

	if (err)
		return err;
	key = msnap_cursor_key(&cur);
	if (key.hi >> 56 != MSNAP_CAT_VIEW)
		return -ENOENT;
	*ino = key.hi & ~(0xffull << 56);
	return 0;
}

int msnap_view_next(struct msnap_pool *pool, uint64_t after, uint64_t *ino)
{
	return MSNAP_LOOK(pool, next_view(pool, after, ino));
}

int msnap_identify(struct msnap_pool *pool, struct msnap_id id,
		   struct msnap_identity *identity)
{
	struct msnap_inode in;
	int err = MSNAP_LOOK(pool, msnap_inode_find(pool, id, &in));

	if (!err)
		*identity = (struct msnap_identity){ get64(in.ext.blk),
						     get64(in.ext.gen),
						     get64(in.size) };
	return err;
}
