/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tree.h"

#include <errno.h>
#include <string.h>

/* ---- reading ------------------------------------------------------------ */

static int node_verify(struct msnap_pool *pool, struct msnap_ptr ptr)
{
	const struct msnap_node *n = msnap_blk_ptr(pool, ptr.blk);
	const char *why = msnap_node_valid(pool, n, ptr.blk, true);

	/* What we wrote ourselves needs no verification: this came from the media,
	 * and must not pass for something that may change in place. */
	if (!why && get64(n->gen) > pool->open_gen)
		why = "a node of the future";
	if (why)
		return msnap_damaged(pool, "tree node in block %llu: %s",
				     (unsigned long long)ptr.blk, why);
	msnap_ok_set(pool->node_ok, ptr.blk, 1);
	return 0;
}

int msnap_node_read(struct msnap_pool *pool, struct msnap_ptr ptr, unsigned type,
		    int level, const struct msnap_node **out)
{
	const struct msnap_node *n;

	if (!msnap_blk_valid(pool, ptr.blk, 1))
		return msnap_damaged(pool, "tree node outside the pool");
	n = msnap_blk_ptr(pool, ptr.blk);
	if (!msnap_ok_test(pool->node_ok, ptr.blk)) {
		int err = MSNAP_GUARD(node_verify(pool, ptr));

		if (err == -EIO)
			msnap_damaged(pool, "tree node in block %llu: cannot be read",
				      (unsigned long long)ptr.blk);
		if (err)
			return err;
	}
	if (n->type != type || get64(n->gen) != ptr.gen ||
	    (level >= 0 && n->level != level))
		return msnap_damaged(pool, "tree node in block %llu: not the one "
				     "its parent means",
				     (unsigned long long)ptr.blk);
	*out = n;
	return 0;
}

/* Do the keys of @child, at @level, lie where the nodes above it say?  Only then does
 * a search find what a walk comes by, and a walk come to an end. */
static bool in_place(const struct msnap_cursor *cur, const struct msnap_node *child,
		     unsigned level)
{
	const struct msnap_node *n = cur->node[level + 1];
	struct msnap_key last = msnap_node_key(child, msnap_node_nr(child) - 1);

	if (msnap_key_cmp(msnap_node_key(child, 0),
			  msnap_node_key(n, cur->idx[level + 1])) < 0)
		return false;
	while (level++ < cur->top) {
		unsigned next = cur->idx[level] + 1;

		n = cur->node[level];
		if (next < msnap_node_nr(n))
			return msnap_key_cmp(last, msnap_node_key(n, next)) < 0;
	}
	return true;
}

int msnap_cursor_child(struct msnap_cursor *cur, unsigned level)
{
	const struct msnap_node *n = cur->node[level], *child;
	struct msnap_ptr ptr = msnap_node_child(n, cur->idx[level]);
	int err = msnap_node_read(cur->pool, ptr, n->type, level - 1, &child);

	if (err)
		return err;
	if (!in_place(cur, child, level - 1))
		return msnap_damaged(cur->pool, "tree node in block %llu: keys of "
				     "another place", (unsigned long long)ptr.blk);
	cur->node[level - 1] = child;
	return 0;
}

/* Descend to the leaf that @key belongs to. */
static int descend(struct msnap_pool *pool, const struct msnap_tree *tree,
		   struct msnap_key key, struct msnap_cursor *cur)
{
	const struct msnap_node *n;
	unsigned level;
	int err;

	if (!tree->root.blk)
		return -ENOENT;
	cur->pool = pool;
	err = msnap_node_read(pool, tree->root, tree->type, -1, &n);
	if (err)
		return err;
	cur->top = n->level;
	cur->node[n->level] = n;
	for (level = cur->top; level > 0; level--) {
		cur->idx[level] = msnap_node_route(cur->node[level], key);
		err = msnap_cursor_child(cur, level);
		if (err)
			return err;
	}
	return 0;
}

int msnap_tree_get(struct msnap_pool *pool, const struct msnap_tree *tree,
		   struct msnap_key key, const void **val, unsigned *len)
{
	struct msnap_cursor cur;
	unsigned i;
	bool found;
	int err = descend(pool, tree, key, &cur);

	if (err)
		return err;
	i = msnap_node_search(cur.node[0], key, &found);
	if (!found)
		return -ENOENT;
	*val = msnap_node_val(cur.node[0], i, len);
	return 0;
}

/* From inner node at @level and its index, go down to the first or last leaf. */
static int cursor_down(struct msnap_cursor *cur, unsigned level, bool last)
{
	for (; level > 0; level--) {
		int err = msnap_cursor_child(cur, level);

		if (err)
			return err;
		cur->idx[level - 1] =
			last ? msnap_node_nr(cur->node[level - 1]) - 1 : 0;
	}
	return 0;
}

static int cursor_step_leaf(struct msnap_cursor *cur, bool back)
{
	unsigned level;

	for (level = 1; level <= cur->top; level++) {
		unsigned i = cur->idx[level];

		if (back ? i > 0 : i + 1 < msnap_node_nr(cur->node[level])) {
			cur->idx[level] = back ? i - 1 : i + 1;
			return cursor_down(cur, level, back);
		}
	}
	return -ENOENT;
}

int msnap_cursor_next(struct msnap_cursor *cur)
{
	if (cur->idx[0] + 1 < msnap_node_nr(cur->node[0])) {
		cur->idx[0]++;
		return 0;
	}
	return cursor_step_leaf(cur, false);
}

int msnap_cursor_seek(struct msnap_pool *pool, const struct msnap_tree *tree,
		      struct msnap_key key, struct msnap_cursor *cur)
{
	bool found;
	int err = descend(pool, tree, key, cur);

	if (err)
		return err;
	cur->idx[0] = msnap_node_search(cur->node[0], key, &found);
	if (cur->idx[0] < msnap_node_nr(cur->node[0]))
		return 0;
	return cursor_step_leaf(cur, false);
}

int msnap_cursor_seek_le(struct msnap_pool *pool, const struct msnap_tree *tree,
			 struct msnap_key key, struct msnap_cursor *cur)
{
	bool found;
	int err = descend(pool, tree, key, cur);

	if (err)
		return err;
	cur->idx[0] = msnap_node_search(cur->node[0], key, &found);
	if (found)
		return 0;
	if (cur->idx[0] > 0) {
		cur->idx[0]--;
		return 0;
	}
	return cursor_step_leaf(cur, true);
}

/* ---- copying on the way down -------------------------------------------- */

/*
 * Make the node that *@ptr names ours alone and not reachable from a committed
 * root: itself when it is that already (touch it before changing it), else a copy.
 * *@ptr then names the copy, and the caller stores that in the parent.
 */
static int own(struct msnap_pool *pool, struct msnap_tree *tree,
	       struct msnap_ptr *ptr, int level, struct msnap_node **out)
{
	const struct msnap_node *old;
	struct msnap_node *n;
	uint64_t blk;
	uint32_t count;
	int err;

	err = msnap_node_read(pool, *ptr, tree->type, level, &old);
	if (err)
		return err;
	count = msnap_space_count(pool->space, ptr->blk);
	if (ptr->gen == pool->gen && count == 1) {
		*out = (struct msnap_node *)old;
		return 0;
	}
	err = msnap_op_new_node(pool, &blk);
	if (err)
		return err;
	n = msnap_blk_ptr(pool, blk);
	msnap_node_init(n, old->type, old->level, tree->owner);
	n->nr = old->nr;
	n->heap = old->heap;
	n->dead = old->dead;
	memcpy(n->body, old->body, sizeof(n->body));
	/* Shared: the children now have one parent more.  Else ours go over. */
	if (count > 1)
		err = msnap_node_get_children(pool, n);
	if (!err)
		err = msnap_op_put(pool, ptr->blk, 1);
	if (err)
		return err;
	*ptr = (struct msnap_ptr){ blk, pool->gen };
	*out = n;
	return 0;
}

/* own() for child @i of @parent, which is ours. */
static int own_child(struct msnap_pool *pool, struct msnap_tree *tree,
		     struct msnap_node *parent, unsigned i,
		     struct msnap_node **out)
{
	struct msnap_ptr was = msnap_node_child(parent, i), ptr = was;
	int err = own(pool, tree, &ptr, parent->level - 1, out);

	if (err || ptr.blk == was.blk)
		return err;
	err = msnap_op_touch(pool, get64(parent->blk));
	if (!err)
		msnap_node_set_child(parent, i, ptr);
	return err;
}

static int new_node(struct msnap_pool *pool, struct msnap_tree *tree,
		    unsigned level, struct msnap_node **out,
		    struct msnap_ptr *ptr)
{
	uint64_t blk;
	int err = msnap_op_new_node(pool, &blk);

	if (err)
		return err;
	*out = msnap_blk_ptr(pool, blk);
	msnap_node_init(*out, tree->type, level, tree->owner);
	*ptr = (struct msnap_ptr){ blk, pool->gen };
	return 0;
}

/* ---- inserting ---------------------------------------------------------- */

/* A new root above the old one, which becomes its only child. */
static int grow_root(struct msnap_pool *pool, struct msnap_tree *tree,
		     unsigned level, struct msnap_node **out)
{
	static const struct msnap_key zero = { 0, 0 };
	struct msnap_ptr ptr;
	int err;

	if (level + 1 > MSNAP_MAX_LEVEL)
		return -EFBIG;
	err = new_node(pool, tree, level + 1, out, &ptr);
	if (err)
		return err;
	msnap_inner_insert(*out, 0, zero, tree->root);
	tree->root = ptr;
	return 0;
}

/* Split inner node @child, entry @i of @parent, which has room for one more.
 * Appending is common: the left half keeps most. */
static int split_inner(struct msnap_pool *pool, struct msnap_tree *tree,
		       struct msnap_node *parent, unsigned i,
		       struct msnap_node *child)
{
	unsigned nr = msnap_node_nr(child), keep, k;
	bool at_end = i + 1 == msnap_node_nr(parent);
	struct msnap_node *right;
	struct msnap_ptr ptr;
	int err;

	keep = at_end ? nr - nr / 8 : nr / 2;
	err = new_node(pool, tree, child->level, &right, &ptr);
	if (!err)
		err = msnap_op_touch(pool, get64(parent->blk));
	if (!err)
		err = msnap_op_touch(pool, get64(child->blk));
	if (err)
		return err;
	for (k = keep; k < nr; k++)
		msnap_inner_insert(right, k - keep, msnap_node_key(child, k),
				   msnap_node_child(child, k));
	msnap_inner_insert(parent, i + 1, msnap_node_key(child, keep), ptr);
	msnap_inner_remove(child, keep, nr - keep);
	return 0;
}

static bool inner_full(const struct msnap_node *n)
{
	return n->level && msnap_node_nr(n) == msnap_node_max(n);
}

/* A key below all there are will go to the first child. */
static int lower_bound(struct msnap_pool *pool, struct msnap_node *n,
		       struct msnap_key key)
{
	int err;

	if (msnap_key_cmp(key, msnap_node_key(n, 0)) >= 0)
		return 0;
	err = msnap_op_touch(pool, get64(n->blk));
	if (!err)
		msnap_node_set_key(n, 0, key);
	return err;
}

struct path {
	struct msnap_node *leaf;
	struct msnap_node *parent; /* NULL: the leaf is the root */
	unsigned idx;		   /* of the leaf in parent */
};

/* Own every node from the root to the leaf of @key; with @room, no inner node
 * on the way is full. */
static int own_path(struct msnap_pool *pool, struct msnap_tree *tree,
		    struct msnap_key key, bool room, struct path *path)
{
	struct msnap_node *n, *child;
	int err;

	err = own(pool, tree, &tree->root, -1, &n);
	if (!err && room && inner_full(n)) {
		child = n;
		err = grow_root(pool, tree, n->level, &n);
		if (!err)
			err = split_inner(pool, tree, n, 0, child);
	}
	if (err)
		return err;
	*path = (struct path){ .leaf = n };
	while (n->level) {
		unsigned i = msnap_node_route(n, key);

		err = room ? lower_bound(pool, n, key) : 0;
		if (err)
			return err;
		err = own_child(pool, tree, n, i, &child);
		if (err)
			return err;
		if (room && inner_full(child)) {
			err = split_inner(pool, tree, n, i, child);
			if (err)
				return err;
			continue; /* the key may belong to the new half */
		}
		*path = (struct path){ child, n, i };
		n = child;
	}
	return 0;
}

/* The records of a leaf and one more, at @pos, as one sequence. */
struct with_new {
	const struct msnap_node *n;
	unsigned pos;
	struct msnap_key key;
	const void *val;
	unsigned len;
};

static const void *item(const struct with_new *w, unsigned i,
			struct msnap_key *key, unsigned *len)
{
	if (i == w->pos) {
		*key = w->key;
		*len = w->len;
		return w->val;
	}
	if (i > w->pos)
		i--;
	*key = msnap_node_key(w->n, i);
	return msnap_node_val(w->n, i, len);
}

/* How many items stay left: all when appending, else half of the bytes. */
static unsigned split_point(const struct with_new *w, bool at_end)
{
	unsigned nr = msnap_node_nr(w->n), stride = msnap_node_stride(w->n), i;
	unsigned total = msnap_leaf_used(w->n) + stride + w->len, sum = 0, len;
	struct msnap_key key;

	if (at_end && w->pos == nr)
		return nr;
	for (i = 0; i < nr; i++) {
		item(w, i, &key, &len);
		sum += stride + len;
		if (sum >= total / 2)
			return i + 1;
	}
	return nr;
}

static void fill(struct msnap_node *n, const struct with_new *w, unsigned from,
		 unsigned to)
{
	unsigned i, len;

	for (i = from; i < to; i++) {
		struct msnap_key key;
		const void *val = item(w, i, &key, &len);

		msnap_leaf_insert(n, i - from, key, val, len);
	}
}

static int split_leaf(struct msnap_pool *pool, struct msnap_tree *tree,
		      struct path *path, unsigned pos, struct msnap_key key,
		      const void *val, unsigned len)
{
	struct msnap_node old, *leaf = path->leaf, *right;
	struct with_new w = { &old, pos, key, val, len };
	struct msnap_ptr ptr;
	unsigned keep;
	int err = 0;

	if (!path->parent)
		err = grow_root(pool, tree, 0, &path->parent);
	if (!err)
		err = msnap_op_touch(pool, get64(path->parent->blk));
	if (!err)
		err = msnap_op_touch(pool, get64(leaf->blk));
	if (!err)
		err = new_node(pool, tree, 0, &right, &ptr);
	if (err)
		return err;
	memcpy(&old, leaf, sizeof(old));
	keep = split_point(&w, path->idx + 1 == msnap_node_nr(path->parent));
	msnap_node_init(leaf, tree->type, 0, tree->owner);
	fill(leaf, &w, 0, keep);
	fill(right, &w, keep, msnap_node_nr(&old) + 1);
	msnap_inner_insert(path->parent, path->idx + 1, msnap_node_key(right, 0),
			   ptr);
	return 0;
}

static int put_first(struct msnap_pool *pool, struct msnap_tree *tree,
		     struct msnap_key key, const void *val, unsigned len)
{
	struct msnap_node *n;
	struct msnap_ptr ptr;
	int err = new_node(pool, tree, 0, &n, &ptr);

	if (err)
		return err;
	msnap_leaf_insert(n, 0, key, val, len);
	tree->root = ptr;
	return 0;
}

static int put_at(struct msnap_pool *pool, struct msnap_tree *tree,
		  struct path *path, unsigned i, bool found, struct msnap_key key,
		  const void *val, unsigned len)
{
	struct msnap_node *leaf = path->leaf;
	unsigned need = len + msnap_node_stride(leaf), old_len;
	int err = msnap_op_touch(pool, get64(leaf->blk));

	if (err)
		return err;
	if (found) {
		msnap_node_val(leaf, i, &old_len);
		if (len <= old_len + msnap_leaf_room(leaf)) {
			msnap_leaf_replace(leaf, i, val, len);
			return 0;
		}
		msnap_leaf_remove(leaf, i, 1);
	}
	if (need > msnap_leaf_room(leaf))
		return split_leaf(pool, tree, path, i, key, val, len);
	msnap_leaf_insert(leaf, i, key, val, len);
	return 0;
}

int msnap_tree_put(struct msnap_pool *pool, struct msnap_tree *tree,
		   struct msnap_key key, const void *val, unsigned len,
		   enum msnap_put_how how)
{
	struct path path;
	unsigned i;
	bool found;
	int err;

	if (!tree->root.blk)
		return how == MSNAP_PUT_OLD ? -ENOENT :
					      put_first(pool, tree, key, val, len);
	err = own_path(pool, tree, key, true, &path);
	if (err)
		return err;
	i = msnap_node_search(path.leaf, key, &found);
	if (found && how == MSNAP_PUT_NEW)
		return -EEXIST;
	if (!found && how == MSNAP_PUT_OLD)
		return -ENOENT;
	return put_at(pool, tree, &path, i, found, key, val, len);
}

int msnap_tree_own(struct msnap_pool *pool, struct msnap_tree *tree,
		   struct msnap_key key)
{
	struct path path;

	return own_path(pool, tree, key, false, &path);
}

/* ---- removing ----------------------------------------------------------- */

struct cutting {
	struct msnap_pool *pool;
	struct msnap_tree *tree;
	struct msnap_key lo, hi;
	bool drop; /* give back what the records refer to */
	struct msnap_cut *cut;
};

static bool in_range(const struct cutting *c, struct msnap_key key)
{
	return msnap_key_cmp(key, c->lo) >= 0 && msnap_key_cmp(key, c->hi) <= 0;
}

static int cut_record(struct cutting *c, const struct msnap_node *leaf, unsigned i)
{
	unsigned len;
	const void *val = msnap_node_val(leaf, i, &len);

	if (c->cut && leaf->type == MSNAP_TREE_EXTENT)
		c->cut->nr_blk += get16(((const struct msnap_extent *)val)->nr);
	if (!c->drop)
		return 0;
	return msnap_record_drop(c->pool, leaf->type, msnap_node_key(leaf, i), val);
}

static int cut_leaf(struct cutting *c, struct msnap_node *leaf)
{
	unsigned i, from, nr = msnap_node_nr(leaf);
	bool found;
	int err;

	from = msnap_node_search(leaf, c->lo, &found);
	for (i = from; i < nr && in_range(c, msnap_node_key(leaf, i)); i++) {
		err = cut_record(c, leaf, i);
		if (err)
			return err;
	}
	if (i == from)
		return 0;
	err = msnap_op_touch(c->pool, get64(leaf->blk));
	if (!err)
		msnap_leaf_remove(leaf, from, i - from);
	return err;
}

/* The whole subtree goes: the reference that its parent had is given back. */
static int cut_subtree(struct cutting *c, struct msnap_ptr ptr)
{
	uint64_t nr_blk;
	int err;

	if (c->cut && c->tree->type == MSNAP_TREE_EXTENT) {
		err = msnap_tree_count_blk(c->pool, ptr, &nr_blk);
		if (err)
			return err;
		c->cut->nr_blk += nr_blk;
	}
	return msnap_tree_drop(c->pool, c->tree->type, ptr);
}

static int remove_entry(struct msnap_pool *pool, struct msnap_node *n, unsigned i)
{
	int err = msnap_op_touch(pool, get64(n->blk));

	if (!err)
		msnap_inner_remove(n, i, 1);
	return err;
}

static unsigned fill_used(const struct msnap_node *n)
{
	return n->level ? msnap_node_nr(n) * msnap_node_stride(n) :
			  msnap_leaf_used(n);
}

static void append_all(struct msnap_node *to, const struct msnap_node *from)
{
	unsigned i, len, nr = msnap_node_nr(from);

	for (i = 0; i < nr; i++) {
		unsigned at = msnap_node_nr(to);

		if (from->level) {
			msnap_inner_insert(to, at, msnap_node_key(from, i),
					   msnap_node_child(from, i));
		} else {
			const void *val = msnap_node_val(from, i, &len);

			msnap_leaf_insert(to, at, msnap_node_key(from, i), val,
					  len);
		}
	}
}

/* Child @i+1 moves into child @i, when both together leave a quarter free. */
static int merge_right(struct msnap_pool *pool, struct msnap_tree *tree,
		       struct msnap_node *n, unsigned i)
{
	struct msnap_ptr rptr = msnap_node_child(n, i + 1);
	const struct msnap_node *a, *b;
	struct msnap_node *left;
	int err;

	err = msnap_node_read(pool, msnap_node_child(n, i), tree->type,
			      n->level - 1, &a);
	if (!err)
		err = msnap_node_read(pool, rptr, tree->type, n->level - 1, &b);
	if (err || fill_used(a) + fill_used(b) > sizeof(a->body) * 3 / 4)
		return err;
	err = own_child(pool, tree, n, i, &left);
	if (!err)
		err = msnap_op_touch(pool, get64(left->blk));
	if (!err && msnap_space_count(pool->space, rptr.blk) > 1)
		err = msnap_node_get_children(pool, b);
	if (err)
		return err;
	append_all(left, b);
	err = msnap_op_put(pool, rptr.blk, 1);
	return err ? err : remove_entry(pool, n, i + 1);
}

/* Child @i may have become small: let a neighbour have it. */
static int rebalance(struct msnap_pool *pool, struct msnap_tree *tree,
		     struct msnap_node *n, unsigned i)
{
	const struct msnap_node *child;
	unsigned nr;
	int err;

	if (i >= msnap_node_nr(n))
		return 0;
	err = msnap_node_read(pool, msnap_node_child(n, i), tree->type,
			      n->level - 1, &child);
	if (err || fill_used(child) > sizeof(child->body) / 4)
		return err;
	nr = msnap_node_nr(n);
	if (i + 1 < nr)
		err = merge_right(pool, tree, n, i);
	if (!err && i > 0 && msnap_node_nr(n) == nr)
		err = merge_right(pool, tree, n, i - 1);
	return err;
}

static int cut_node(struct cutting *c, struct msnap_node *n);

/* Child @i, wholly inside the range or at its edge.  *gone: its entry went. */
static int cut_child(struct cutting *c, struct msnap_node *n, unsigned i,
		     bool whole, bool *gone)
{
	struct msnap_ptr ptr = msnap_node_child(n, i);
	struct msnap_node *child;
	int err;

	*gone = whole;
	if (whole) {
		err = cut_subtree(c, ptr);
		return err ? err : remove_entry(c->pool, n, i);
	}
	err = own_child(c->pool, c->tree, n, i, &child);
	if (!err)
		err = cut_node(c, child);
	if (err || msnap_node_nr(child))
		return err;
	*gone = true;
	err = msnap_op_put(c->pool, get64(child->blk), 1);
	return err ? err : remove_entry(c->pool, n, i);
}

/* Is every key that may be below child @i in the range? */
static bool covered(const struct cutting *c, const struct msnap_node *n,
		    unsigned i)
{
	return c->drop && i + 1 < msnap_node_nr(n) &&
	       msnap_key_cmp(msnap_node_key(n, i), c->lo) >= 0 &&
	       msnap_key_cmp(msnap_node_key(n, i + 1), c->hi) <= 0;
}

/* The recursion is as deep as the tree is high. */
static int cut_node(struct cutting *c, struct msnap_node *n)
{
	unsigned i, first;
	bool gone;
	int err;

	if (n->level == 0)
		return cut_leaf(c, n);
	first = i = msnap_node_route(n, c->lo);
	do {
		err = cut_child(c, n, i, covered(c, n, i), &gone);
		if (!gone)
			i++;
	} while (!err && i < msnap_node_nr(n) &&
		 msnap_key_cmp(msnap_node_key(n, i), c->hi) <= 0);
	/* Only the edges of the range can have become small. */
	if (!err && i > 0 && i - 1 != first)
		err = rebalance(c->pool, c->tree, n, i - 1);
	if (!err)
		err = rebalance(c->pool, c->tree, n, first);
	return err;
}

/* No root that is empty or has a single child. */
static int shrink_root(struct msnap_pool *pool, struct msnap_tree *tree)
{
	const struct msnap_node *n;
	struct msnap_ptr old;
	int err;

	for (;;) {
		old = tree->root;
		n = msnap_blk_ptr(pool, old.blk);
		if (msnap_node_nr(n) > (n->level ? 1 : 0))
			return 0;
		tree->root = msnap_node_nr(n) ? msnap_node_child(n, 0) :
						(struct msnap_ptr){ 0, 0 };
		/* The reference on the child moves from the node to the tree. */
		err = msnap_op_put(pool, old.blk, 1);
		if (err || !tree->root.blk)
			return err;
		err = msnap_node_read(pool, tree->root, tree->type, n->level - 1,
				      &n);
		if (err)
			return err;
		/* A shared child stays as it is: collapsing goes on only while the
		 * nodes are ours, and this one may be anybody's. */
		if (n->level && msnap_node_nr(n) == 1) {
			struct msnap_node *own_n;

			err = own(pool, tree, &tree->root, -1, &own_n);
			if (err)
				return err;
		}
	}
}

static int cut(struct cutting *c)
{
	struct msnap_cursor cur;
	struct msnap_node *n;
	int err;

	err = msnap_cursor_seek(c->pool, c->tree, c->lo, &cur);
	if (err || !in_range(c, msnap_cursor_key(&cur)))
		return err ? err : -ENOENT;
	err = own(c->pool, c->tree, &c->tree->root, -1, &n);
	if (!err)
		err = cut_node(c, n);
	return err ? err : shrink_root(c->pool, c->tree);
}

int msnap_tree_take(struct msnap_pool *pool, struct msnap_tree *tree,
		    struct msnap_key key)
{
	struct cutting c = { pool, tree, key, key, false, NULL };

	return cut(&c);
}

int msnap_tree_cut(struct msnap_pool *pool, struct msnap_tree *tree,
		   struct msnap_key lo, struct msnap_key hi, struct msnap_cut *out)
{
	struct msnap_cut sum = { 0 };
	struct cutting c = { pool, tree, lo, hi, true, out ? &sum : NULL };
	int err = cut(&c);

	if (err && err != -ENOENT)
		return err;
	if (out)
		*out = sum;
	return 0;
}

int msnap_tree_shorten(struct msnap_pool *pool, struct msnap_tree *tree,
		       unsigned keep)
{
	struct msnap_node *n;
	int err = own(pool, tree, &tree->root, -1, &n);

	if (!err)
		err = msnap_op_touch(pool, get64(n->blk));
	if (!err)
		msnap_inner_remove(n, keep, msnap_node_nr(n) - keep);
	return err;
}
