/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check-walk.h - what check-tree.c and check-leaf.c share: the walk over all trees, and
 * the records of its leaves.
 *
 * Locking: as msnap_check_tree(), which all of it is a part of.
 */
#ifndef MSNAP_COW_CHECK_WALK_H
#define MSNAP_COW_CHECK_WALK_H

#include "check.h"

/* Which keys a node may have. */
struct bounds {
	struct msnap_key lo, hi; /* lo <= key < hi */
	bool open;		 /* no hi */
};

static inline bool inside(const struct bounds *b, struct msnap_key key)
{
	return msnap_key_cmp(key, b->lo) >= 0 &&
	       (b->open || msnap_key_cmp(key, b->hi) < 0);
}

/* Child @i of @nr takes its share of its parent's part. */
static inline void take_part(struct msnap_checking *c, const struct msnap_part *of,
			     unsigned i, unsigned nr)
{
	c->part.len = of->len / nr;
	c->part.at = of->at + c->part.len * i;
}

/* Tell how far the walk is.  -ECANCELED. */
static inline int tell(struct msnap_checking *c)
{
	return msnap_check_progress(c, c->part.at, MSNAP_PART_ALL);
}

/* What an inner node consists of. */
struct list {
	struct msnap_entry_ptr *e;
	unsigned nr, cap;
};

/* Nodes that are being made; the list names them.  Whoever uses it frees list.e. */
struct build {
	struct msnap_pool *pool;
	unsigned type, level;
	uint64_t owner;
	struct msnap_node *n; /* being filled */
	struct list list;
};

/* ---- check-tree.c --------------------------------------------------------- */

/* Keep a list for as long as the walk's results are: it stands in the node's place. */
int msnap_check_keep_list(struct msnap_checking *c, const struct list *l,
			  struct msnap_walked *w);
/* The same of a list of one. */
int msnap_check_keep_one(struct msnap_checking *c, struct msnap_key key,
			 struct msnap_ptr ptr, struct msnap_walked *w);
/* Append a record to the leaves that are being made. */
int msnap_check_emit_record(struct build *b, struct msnap_key key, const void *val,
			    unsigned len);
/* Walk a tree that hangs below a record, as msnap_check_tree(). */
int msnap_check_subtree(struct msnap_checking *c, unsigned type, struct msnap_ptr *root,
			bool *whole);

/* ---- check-leaf.c --------------------------------------------------------- */

/* A leaf, copied out, that nobody came to before.  @mending: something in it is wrong,
 * @rebuild: and is to be repaired. */
int msnap_check_leaf(struct msnap_checking *c, struct msnap_node *n, struct msnap_ptr ptr,
		     const struct bounds *b, bool mending, bool rebuild,
		     struct msnap_walked *w);

#endif
