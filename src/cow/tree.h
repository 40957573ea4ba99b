/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tree.h - the copy-on-write B+tree that all of the pool's records live in.
 *
 * The scheme is that of Ohad Rodeh, "B-trees, Shadowing, and Clones" (ACM TOS
 * 3(4), 2008): nodes are copied on the way down, and a reference count says how
 * many nodes (or roots) point at a node or at file data.  Sharing a tree takes one
 * reference on its root; only when a shared node is copied do its children gain a
 * reference each.
 *
 * Invariants: every key below child i is >= key i and < key i+1; no node is
 * empty; a child's level is one below its parent's, so that no pointer, however
 * damaged, leads in a circle.
 *
 * Locking: reading needs the pool's lock in either way, changing an operation
 * (txn.h).  Pointers to values are good until the tree changes or the lock is
 * dropped.  A tree's root in struct msnap_tree changes with it; storing it where it
 * belongs (inode, catalog) is the caller's.
 */
#ifndef MSNAP_COW_TREE_H
#define MSNAP_COW_TREE_H

#include "node.h"
#include "txn.h"

/*
 * The node that @ptr names, of @type and @level (-1: any), checked when it is
 * first read.  -EUCLEAN: damaged, and the pool has turned read-only; -EIO.
 */
int msnap_node_read(struct msnap_pool *pool, struct msnap_ptr ptr, unsigned type,
		    int level, const struct msnap_node **node);

/* -ENOENT. */
int msnap_tree_get(struct msnap_pool *pool, const struct msnap_tree *tree,
		   struct msnap_key key, const void **val, unsigned *len);

struct msnap_cursor {
	struct msnap_pool *pool;
	const struct msnap_node *node[MSNAP_MAX_LEVEL + 1]; /* [0]: the leaf */
	unsigned idx[MSNAP_MAX_LEVEL + 1];
	unsigned top; /* level of the root */
};

/* The first record at or behind @key.  -ENOENT: none. */
int msnap_cursor_seek(struct msnap_pool *pool, const struct msnap_tree *tree,
		      struct msnap_key key, struct msnap_cursor *cur);
/* The last record at or before @key.  -ENOENT: none. */
int msnap_cursor_seek_le(struct msnap_pool *pool, const struct msnap_tree *tree,
			 struct msnap_key key, struct msnap_cursor *cur);
int msnap_cursor_next(struct msnap_cursor *cur); /* -ENOENT: was the last */
/* Set cur->node[@level - 1] to the child that the cursor stands on at @level. */
int msnap_cursor_child(struct msnap_cursor *cur, unsigned level);

static inline struct msnap_key msnap_cursor_key(const struct msnap_cursor *cur)
{
	return msnap_node_key(cur->node[0], cur->idx[0]);
}

static inline const void *msnap_cursor_val(const struct msnap_cursor *cur,
					   unsigned *len)
{
	return msnap_node_val(cur->node[0], cur->idx[0], len);
}

enum msnap_put_how {
	MSNAP_PUT_ANY, /* insert or replace */
	MSNAP_PUT_NEW, /* -EEXIST when there is one */
	MSNAP_PUT_OLD, /* -ENOENT when there is none */
};

/*
 * Insert or replace a record; @val must not lie in the tree.  References that the
 * value holds are the caller's business.
 */
int msnap_tree_put(struct msnap_pool *pool, struct msnap_tree *tree,
		   struct msnap_key key, const void *val, unsigned len,
		   enum msnap_put_how how);

/* Make every node from the root to the leaf of @key ours alone. */
int msnap_tree_own(struct msnap_pool *pool, struct msnap_tree *tree,
		   struct msnap_key key);

/*
 * Remove one record without giving back what it refers to: it moved elsewhere.
 * -ENOENT.
 */
int msnap_tree_take(struct msnap_pool *pool, struct msnap_tree *tree,
		    struct msnap_key key);

struct msnap_cut {
	uint64_t nr_blk; /* blocks of data that extents mapped */
};

/*
 * Remove all records from @lo to @hi inclusive and give back what they refer to.
 * Whole subtrees go to the background: the cost does not grow with what is
 * removed (but for counting blocks when @cut asks for it).  @cut may be NULL.
 */
int msnap_tree_cut(struct msnap_pool *pool, struct msnap_tree *tree,
		   struct msnap_key lo, struct msnap_key hi,
		   struct msnap_cut *cut);

/*
 * Keep only the first @keep entries of the root, an inner node; the references of
 * the others were given back already.
 */
int msnap_tree_shorten(struct msnap_pool *pool, struct msnap_tree *tree,
		       unsigned keep);

/* ---- references (drop.c) ------------------------------------------------ */

/* One reference more on everything the records or entries of @node point at. */
int msnap_node_get_children(struct msnap_pool *pool, const struct msnap_node *node);

/* Give back one reference on a tree; what only it had goes, large parts in the
 * background. */
int msnap_tree_drop(struct msnap_pool *pool, unsigned type, struct msnap_ptr root);
/* Give back what one record refers to. */
int msnap_record_drop(struct msnap_pool *pool, unsigned type,
		      struct msnap_key key, const void *val);
/* Blocks of data mapped by the extent tree @root. */
int msnap_tree_count_blk(struct msnap_pool *pool, struct msnap_ptr root,
			 uint64_t *nr_blk);
/* One step of the background: 1 when there may be more, 0 when done. */
int msnap_drop_step(struct msnap_pool *pool);
/* How many trees wait. */
uint64_t msnap_drop_waiting(struct msnap_pool *pool);

#endif
