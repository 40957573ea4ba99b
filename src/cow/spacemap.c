/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spacemap.c - the space map across mounts: saved at a clean end, or counted anew
 * by walking the trees.  What is saved is never trusted further than its checksum
 * and its fit: after anything else the walk decides.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "commit.h"
#include "csum.h"
#include "tree.h"

/* ---- the fixed places ------------------------------------------------------ */

static int set_fixed(struct msnap_pool *pool)
{
	int err = msnap_space_set(pool->space, 0, MSNAP_FIRST_BLK, 1);

	return err ? err : msnap_space_set(pool->space, pool->nr_blocks - 1, 1, 1);
}

/* ---- saving ---------------------------------------------------------------- */

struct saving {
	struct msnap_space_run *run;
	size_t nr, cap;
};

/* What still waits to be free at a clean end never will be: there was no memory for
 * it (msnap_space_release()).  Nothing reaches it. */
static int collect(void *arg, uint64_t blk, uint32_t nr, uint32_t count)
{
	struct saving *s = arg;

	if (count == MSNAP_COUNT_PENDING)
		return 0;
	if (s->nr == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 1024;
		void *run = msnap_realloc(s->run, cap * sizeof(*s->run));

		if (!run)
			return -ENOMEM;
		s->run = run;
		s->cap = cap;
	}
	s->run[s->nr++] = (struct msnap_space_run){ put64(blk), put32(nr),
						    put32(count) };
	return 0;
}

static int take_chain(struct msnap_pool *pool, uint64_t *blk, size_t nr)
{
	static const struct msnap_space_want want = { .use = MSNAP_SPACE_NODE,
						      .nr = 1 };
	uint32_t got;
	size_t i;
	int err = 0;

	for (i = 0; !err && i < nr; i++) {
		err = msnap_space_alloc(pool->space, &want, &blk[i], &got);
		if (!err)
			err = msnap_mem_reserve(pool->mem,
						blk[i] << MSNAP_BLOCK_SHIFT,
						MSNAP_BLOCK_SIZE);
	}
	return err;
}

/* A crash while the chain is written leaves free blocks with something in them. */
static int write_chain(struct msnap_pool *pool, const struct saving *s,
		       const uint64_t *blk, size_t nr_blk, uint64_t gen)
{
	size_t i;

	for (i = 0; i < nr_blk; i++) {
		size_t first = i * MSNAP_SPACE_RUNS, nr = s->nr - first;
		struct msnap_space_blk *b = msnap_blk_ptr(pool, blk[i]);

		if (nr > MSNAP_SPACE_RUNS)
			nr = MSNAP_SPACE_RUNS;
		memset(b, 0, sizeof(*b));
		b->magic = put64(MSNAP_SPACE_MAGIC);
		b->gen = put64(gen);
		b->next = put64(i + 1 < nr_blk ? blk[i + 1] : 0);
		b->nr = put32(nr);
		memcpy(b->run, s->run + first, nr * sizeof(*s->run));
		b->csum = put64(msnap_csum_meta(b, blk[i]));
		msnap_mem_flush(pool->mem, blk[i] << MSNAP_BLOCK_SHIFT,
				MSNAP_BLOCK_SIZE);
	}
	return msnap_mem_drain(pool->mem);
}

int msnap_spacemap_save(struct msnap_pool *pool, struct msnap_root *root)
{
	struct saving s = { 0 };
	uint64_t *blk = NULL;
	size_t nr_blk;
	int err;

	err = msnap_space_each(pool->space, collect, &s);
	if (err)
		goto out;
	nr_blk = (s.nr + MSNAP_SPACE_RUNS - 1) / MSNAP_SPACE_RUNS;
	err = -ENOMEM;
	blk = msnap_malloc(nr_blk * sizeof(*blk));
	if (!blk)
		goto out;
	err = take_chain(pool, blk, nr_blk);
	if (!err)
		err = MSNAP_GUARD(write_chain(pool, &s, blk, nr_blk,
					      get64(root->gen)));
	if (!err) {
		root->flags = put32(MSNAP_ROOT_CLEAN);
		root->space_blk = put64(blk[0]);
		root->space_nr = put64(nr_blk);
	}
out:
	free(blk);
	free(s.run);
	return err;
}

/* ---- loading ---------------------------------------------------------------- */

static int load_runs(struct msnap_pool *pool, const struct msnap_space_blk *b)
{
	unsigned i, nr = get32(b->nr);
	int err = 0;

	/* With a run in each block, a chain in a circle meets blocks that are set. */
	if (nr == 0 || nr > MSNAP_SPACE_RUNS)
		return -EUCLEAN;
	for (i = 0; !err && i < nr; i++) {
		uint32_t count = get32(b->run[i].count);

		if (count == 0 || count > MSNAP_COUNT_MAX || !get32(b->run[i].nr))
			return -EUCLEAN;
		err = msnap_space_set(pool->space, get64(b->run[i].blk),
				      get32(b->run[i].nr), count);
	}
	return err;
}

static int load_chain(struct msnap_pool *pool, const struct msnap_root *root)
{
	uint64_t blk = get64(root->space_blk), left = get64(root->space_nr);
	int err;

	while (left--) {
		struct msnap_space_blk *b;

		if (!msnap_blk_valid(pool, blk, 1))
			return -EUCLEAN;
		b = msnap_blk_ptr(pool, blk);
		if (get64(b->magic) != MSNAP_SPACE_MAGIC ||
		    get64(b->gen) != get64(root->gen) ||
		    get64(b->csum) != msnap_csum_meta(b, blk))
			return -EUCLEAN;
		err = load_runs(pool, b);
		if (!err)
			err = msnap_runs_add(&pool->space_map, blk, 1);
		if (err)
			return err;
		blk = get64(b->next);
	}
	return blk ? -EUCLEAN : 0;
}

int msnap_spacemap_load(struct msnap_pool *pool, const struct msnap_root *root)
{
	size_t i;
	int err = MSNAP_GUARD(load_chain(pool, root));

	/* The chain is not in itself. */
	for (i = 0; !err && i < pool->space_map.nr; i++)
		err = msnap_space_set(pool->space, pool->space_map.run[i].blk,
				      pool->space_map.run[i].nr, 1);
	if (!err && (!msnap_space_count(pool->space, 0) ||
		     !msnap_space_count(pool->space, pool->nr_blocks - 1)))
		err = -EUCLEAN;
	return err;
}

/* ---- counting anew ------------------------------------------------------------ */

static int mark_tree(struct msnap_pool *pool, unsigned type, struct msnap_ptr ptr,
		     int level);

static int mark_data(struct msnap_pool *pool, const struct msnap_extent *ex)
{
	uint64_t blk = get64(ex->blk);
	int ret = msnap_space_mark(pool->space, blk, get16(ex->nr));

	return ret < 0 ? ret : 0;
}

static int mark_record(struct msnap_pool *pool, unsigned type,
		       struct msnap_key key, const void *val)
{
	const struct msnap_inode *in = val;
	const struct msnap_snap *sn = val;
	const struct msnap_drop *d = val;

	if (type == MSNAP_TREE_EXTENT)
		return mark_data(pool, val);
	if (type == MSNAP_TREE_NS)
		return key.lo >> 56 == MSNAP_NS_INODE ?
			       mark_tree(pool, MSNAP_TREE_EXTENT,
					 msnap_ptr_load(in->ext), -1) : 0;
	switch (key.hi >> 56) {
	case MSNAP_CAT_SNAP:
		return mark_tree(pool, MSNAP_TREE_NS, msnap_ptr_load(sn->ns), -1);
	case MSNAP_CAT_DROP:
		return mark_tree(pool, get32(d->type), msnap_ptr_load(d->root), -1);
	default:
		return 0;
	}
}

/* The depth is bounded: levels fall, and an extent tree hangs below a namespace,
 * which hangs below the catalog. */
static int mark_node(struct msnap_pool *pool, const struct msnap_node *n)
{
	unsigned i, len, nr = msnap_node_nr(n);
	int err = 0;

	for (i = 0; !err && i < nr; i++)
		err = n->level ? mark_tree(pool, n->type, msnap_node_child(n, i),
					   n->level - 1) :
				 mark_record(pool, n->type, msnap_node_key(n, i),
					     msnap_node_val(n, i, &len));
	return err;
}

static int mark_tree(struct msnap_pool *pool, unsigned type, struct msnap_ptr ptr,
		     int level)
{
	const struct msnap_node *n;
	int ret;

	if (!ptr.blk)
		return 0;
	ret = msnap_node_read(pool, ptr, type, level, &n);
	if (ret == -EUCLEAN || ret == -EIO)
		return 0; /* logged; the pool is read-only from here on */
	if (ret)
		return ret;
	ret = msnap_space_mark(pool->space, ptr.blk, 1);
	return ret == 1 ? mark_node(pool, n) : ret;
}

int msnap_spacemap_rebuild(struct msnap_pool *pool)
{
	int err = set_fixed(pool);

	if (!err)
		err = mark_tree(pool, MSNAP_TREE_NS, pool->ns.root, -1);
	if (!err)
		err = mark_tree(pool, MSNAP_TREE_CATALOG, pool->catalog.root, -1);
	if (!err)
		msnap_space_settle(pool->space);
	return err;
}
