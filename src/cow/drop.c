/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * drop.c - giving references back, at once where it is little, in the background
 * where it is much.
 *
 * A tree that only its last owner referred to becomes a DROP record of the catalog
 * in the very operation that removed it from where it was.  Each step in the
 * background takes one such tree apart: a bounded number of leaves, or all
 * entries of a high node, which become DROP records themselves.  A crash between
 * steps finds the records there.
 */
#include <errno.h>
#include <string.h>

#include "tree.h"

/* Leaves taken apart in one operation: a bound on how long it holds the lock. */
#define LEAVES_PER_STEP 16

/* ---- what a node or record refers to ------------------------------------ */

static int get_record(struct msnap_pool *pool, unsigned type,
		      struct msnap_key key, const void *val)
{
	const struct msnap_extent *ex = val;
	const struct msnap_inode *in = val;

	switch (type) {
	case MSNAP_TREE_EXTENT:
		return msnap_op_get(pool, get64(ex->blk), get16(ex->nr));
	case MSNAP_TREE_NS:
		if (key.lo >> 56 != MSNAP_NS_INODE || !get64(in->ext.blk))
			return 0;
		return msnap_op_get(pool, get64(in->ext.blk), 1);
	default:
		/* The catalog is in no snapshot: its nodes are never shared. */
		return msnap_damaged(pool, "a shared node in the catalog");
	}
}

int msnap_node_get_children(struct msnap_pool *pool, const struct msnap_node *node)
{
	unsigned i, len, nr = msnap_node_nr(node);
	int err = 0;

	for (i = 0; !err && i < nr; i++) {
		if (node->level)
			err = msnap_op_get(pool, msnap_node_child(node, i).blk, 1);
		else
			err = get_record(pool, node->type, msnap_node_key(node, i),
					 msnap_node_val(node, i, &len));
	}
	return err;
}

int msnap_record_drop(struct msnap_pool *pool, unsigned type,
		      struct msnap_key key, const void *val)
{
	const struct msnap_extent *ex = val;
	const struct msnap_inode *in = val;
	const struct msnap_snap *sn = val;

	switch (type) {
	case MSNAP_TREE_EXTENT:
		return msnap_op_put(pool, get64(ex->blk), get16(ex->nr));
	case MSNAP_TREE_NS:
		if (key.lo >> 56 != MSNAP_NS_INODE)
			return 0;
		return msnap_tree_drop(pool, MSNAP_TREE_EXTENT,
				       msnap_ptr_load(in->ext));
	default:
		if (key.hi >> 56 != MSNAP_CAT_SNAP)
			return 0;
		return msnap_tree_drop(pool, MSNAP_TREE_NS, msnap_ptr_load(sn->ns));
	}
}

/* ---- whole trees --------------------------------------------------------- */

static struct msnap_key drop_key(uint64_t nr)
{
	return (struct msnap_key){ (uint64_t)MSNAP_CAT_DROP << 56 | nr, 0 };
}

static int drop_later(struct msnap_pool *pool, unsigned type, struct msnap_ptr root)
{
	struct msnap_drop d = { msnap_ptr_store(root), put32(type), put32(0) };
	/* Unique: the generation grows with every commit. */
	uint64_t nr = (pool->gen << 24 | (pool->next_drop++ & 0xffffff)) &
		      ~(0xffull << 56);

	return msnap_tree_put(pool, &pool->catalog, drop_key(nr), &d, sizeof(d),
			      MSNAP_PUT_NEW);
}

/* A leaf that only we refer to. */
static int drop_leaf(struct msnap_pool *pool, const struct msnap_node *leaf)
{
	unsigned i, len, nr = msnap_node_nr(leaf);
	int err = 0;

	for (i = 0; !err && i < nr; i++)
		err = msnap_record_drop(pool, leaf->type, msnap_node_key(leaf, i),
					msnap_node_val(leaf, i, &len));
	return err ? err : msnap_op_put(pool, get64(leaf->blk), 1);
}

int msnap_tree_drop(struct msnap_pool *pool, unsigned type, struct msnap_ptr root)
{
	const struct msnap_node *n;
	int err;

	if (!root.blk)
		return 0;
	if (msnap_space_count(pool->space, root.blk) > 1)
		return msnap_op_put(pool, root.blk, 1);
	err = msnap_node_read(pool, root, type, -1, &n);
	if (err)
		return err;
	/* A leaf of inodes may lead to many extent leaves: not now. */
	if (n->level == 0 && type == MSNAP_TREE_EXTENT)
		return drop_leaf(pool, n);
	return drop_later(pool, type, root);
}

int msnap_tree_count_blk(struct msnap_pool *pool, struct msnap_ptr root,
			 uint64_t *nr_blk)
{
	struct msnap_tree tree = { MSNAP_TREE_EXTENT, 0, root };
	struct msnap_cursor cur;
	uint64_t sum = 0;
	unsigned len;
	int err;

	err = msnap_cursor_seek(pool, &tree, (struct msnap_key){ 0, 0 }, &cur);
	while (!err) {
		const struct msnap_extent *ex = msnap_cursor_val(&cur, &len);

		sum += get16(ex->nr);
		err = msnap_cursor_next(&cur);
	}
	if (err != -ENOENT)
		return err;
	*nr_blk = sum;
	return 0;
}

/* ---- the background ------------------------------------------------------ */

/* All of a high node's children become records of their own. */
static int spread(struct msnap_pool *pool, const struct msnap_node *n)
{
	unsigned i, nr = msnap_node_nr(n);
	int err = 0;

	for (i = 0; !err && i < nr; i++)
		err = msnap_tree_drop(pool, n->type, msnap_node_child(n, i));
	return err ? err : msnap_op_put(pool, get64(n->blk), 1);
}

/* One leaf below the root of a tree of level 1; its entry is gone afterwards. */
static int drop_child_leaf(struct msnap_pool *pool, unsigned type,
			   struct msnap_ptr ptr)
{
	const struct msnap_node *leaf;
	int err;

	if (msnap_space_count(pool->space, ptr.blk) > 1)
		return msnap_op_put(pool, ptr.blk, 1);
	err = msnap_node_read(pool, ptr, type, 0, &leaf);
	return err ? err : drop_leaf(pool, leaf);
}

/*
 * The last leaves of a tree of level 1.  The root is changed by way of
 * msnap_tree_shorten(): it may be reachable from the last committed root.
 */
static int trim(struct msnap_pool *pool, struct msnap_tree *tree,
		const struct msnap_node *n)
{
	unsigned nr = msnap_node_nr(n), keep, i;
	int err = 0;

	keep = nr > LEAVES_PER_STEP ? nr - LEAVES_PER_STEP : 0;
	for (i = keep; !err && i < nr; i++)
		err = drop_child_leaf(pool, tree->type, msnap_node_child(n, i));
	if (err)
		return err;
	if (keep)
		return msnap_tree_shorten(pool, tree, keep);
	err = msnap_op_put(pool, tree->root.blk, 1);
	tree->root = (struct msnap_ptr){ 0, 0 };
	return err;
}

static int take_apart(struct msnap_pool *pool, struct msnap_tree *tree)
{
	const struct msnap_node *n;
	int err;

	if (msnap_space_count(pool->space, tree->root.blk) > 1) {
		err = msnap_op_put(pool, tree->root.blk, 1);
		tree->root.blk = 0;
		return err;
	}
	err = msnap_node_read(pool, tree->root, tree->type, -1, &n);
	if (err)
		return err;
	if (n->level == 1)
		return trim(pool, tree, n);
	tree->root.blk = 0;
	return n->level ? spread(pool, n) : drop_leaf(pool, n);
}

static int first_drop(struct msnap_pool *pool, struct msnap_key *key,
		      struct msnap_drop *d)
{
	struct msnap_cursor cur;
	unsigned len;
	int err = msnap_cursor_seek(pool, &pool->catalog, drop_key(0), &cur);

	if (err)
		return err;
	*key = msnap_cursor_key(&cur);
	if (key->hi >> 56 != MSNAP_CAT_DROP)
		return -ENOENT;
	memcpy(d, msnap_cursor_val(&cur, &len), sizeof(*d));
	return 0;
}

static int step(struct msnap_pool *pool)
{
	struct msnap_key key;
	struct msnap_drop d;
	struct msnap_tree tree = { 0 };
	int err = first_drop(pool, &key, &d);

	if (err)
		return err == -ENOENT ? 0 : err;
	tree.type = get32(d.type);
	tree.root = msnap_ptr_load(d.root);
	err = take_apart(pool, &tree);
	if (err)
		return err;
	if (tree.root.blk) {
		d.root = msnap_ptr_store(tree.root);
		err = msnap_tree_put(pool, &pool->catalog, key, &d, sizeof(d),
				     MSNAP_PUT_OLD);
	} else {
		err = msnap_tree_take(pool, &pool->catalog, key);
	}
	return err ? err : 1;
}

int msnap_drop_step(struct msnap_pool *pool)
{
	struct msnap_key key;
	struct msnap_drop d;
	int err;

	if (pool->read_only)
		return 0;
	err = MSNAP_LOOK(pool, first_drop(pool, &key, &d));
	if (err)
		return err == -ENOENT ? 0 : err;
	err = msnap_op_begin(pool, MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE);
	return err ? err : (int)msnap_op_end(pool, MSNAP_GUARD(step(pool)));
}

static int count_waiting(struct msnap_pool *pool, uint64_t *nr)
{
	struct msnap_cursor cur;
	int err = msnap_cursor_seek(pool, &pool->catalog, drop_key(0), &cur);

	while (!err && msnap_cursor_key(&cur).hi >> 56 == MSNAP_CAT_DROP) {
		++*nr;
		err = msnap_cursor_next(&cur);
	}
	return err;
}

uint64_t msnap_drop_waiting(struct msnap_pool *pool)
{
	uint64_t nr = 0;

	/* What cannot be read is not counted. */
	MSNAP_LOOK(pool, count_waiting(pool, &nr));
	return nr;
}
