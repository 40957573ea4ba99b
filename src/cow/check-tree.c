/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check-tree.c - the walk over all trees: is every node, every record and every
 * block of data what it must be, and what can be kept of those that are not?
 * Records are judged in check-leaf.c.
 *
 * A node is one of three things.  Sound.  Or gone: it cannot be read, is not the
 * node that its parent means, or its checksum and its inside are both wrong, so
 * that nothing in it can be told from rubbish.  Or in between: a wrong checksum
 * around an inside that passes every other test, or single records that are
 * impossible; such a node is written anew with the records that pass.
 *
 * A node that is repaired may need more room than one block has (an extent falls
 * apart around a damaged block) or none at all.  So the walk gives back a list of
 * what stands in a node's place, and each parent makes its own nodes of the lists of
 * its children.  Every node is looked at once, however many parents it has, and all
 * of them get the same nodes in its place: what was shared stays shared.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "check-walk.h"

#define PROGRESS_NODES 256 /* between two reports */

static const struct bounds everything = { .open = true };

/* ---- lists, and what is known of nodes ------------------------------ */

static int list_add(struct list *l, struct msnap_key key, struct msnap_ptr ptr)
{
	if (l->nr == l->cap) {
		unsigned cap = l->cap ? l->cap * 2 : 64;
		void *e = msnap_realloc(l->e, cap * sizeof(*l->e));

		if (!e)
			return -ENOMEM;
		l->e = e;
		l->cap = cap;
	}
	l->e[l->nr++] = (struct msnap_entry_ptr){ key, ptr };
	return 0;
}

/* Keep a list for as long as the walk's results are. */
int msnap_check_keep_list(struct msnap_checking *c, const struct list *l,
			  struct msnap_walked *w)
{
	if (c->nr_out + l->nr > c->cap_out) {
		size_t cap = 2 * (c->nr_out + l->nr) + 256;
		void *out = msnap_realloc(c->out, cap * sizeof(*c->out));

		if (!out)
			return -ENOMEM;
		c->out = out;
		c->cap_out = cap;
	}
	w->at = c->nr_out;
	w->nr = l->nr;
	if (l->nr)
		memcpy(c->out + c->nr_out, l->e, l->nr * sizeof(*l->e));
	c->nr_out += l->nr;
	return 0;
}

int msnap_check_keep_one(struct msnap_checking *c, struct msnap_key key,
			 struct msnap_ptr ptr, struct msnap_walked *w)
{
	struct msnap_entry_ptr e = { key, ptr };
	struct list l = { &e, 1, 1 };

	return msnap_check_keep_list(c, &l, w);
}

const struct msnap_walked *msnap_check_walked(const struct msnap_checking *c,
					      uint64_t blk)
{
	const uint64_t *at = msnap_idmap_find(&c->memo_at, blk);

	return at ? &c->memo[*at - 1] : NULL;
}

static int remember(struct msnap_checking *c, const struct msnap_walked *w)
{
	uint64_t *at;

	if (c->nr_memo == c->cap_memo) {
		size_t cap = c->cap_memo ? c->cap_memo * 2 : 256;
		void *memo = msnap_realloc(c->memo, cap * sizeof(*c->memo));

		if (!memo)
			return -ENOMEM;
		c->memo = memo;
		c->cap_memo = cap;
	}
	at = msnap_idmap_at(&c->memo_at, w->blk);
	if (!at)
		return -ENOMEM;
	c->memo[c->nr_memo++] = *w;
	*at = c->nr_memo;
	return 0;
}

/* Does what was found below a node also fit below another parent? */
static bool fits(const struct msnap_walked *w, const struct bounds *b)
{
	return !w->nr || (inside(b, w->first) && inside(b, w->last));
}

/* ---- making nodes --------------------------------------------------- */

static int next_node(struct build *b, struct msnap_key key)
{
	uint64_t blk;
	int err = msnap_op_new_node(b->pool, &blk);

	if (err)
		return err;
	b->n = msnap_blk_ptr(b->pool, blk);
	msnap_node_init(b->n, b->type, b->level, b->owner);
	return list_add(&b->list, key, (struct msnap_ptr){ blk, b->pool->gen });
}

int msnap_check_emit_record(struct build *b, struct msnap_key key, const void *val,
			    unsigned len)
{
	int err = 0;

	if (!b->n || msnap_leaf_room(b->n) < msnap_node_stride(b->n) + len)
		err = next_node(b, key);
	if (!err)
		msnap_leaf_insert(b->n, msnap_node_nr(b->n), key, val, len);
	return err;
}

static int emit_entry(struct build *b, const struct msnap_entry_ptr *e)
{
	int err = 0;

	if (!b->n || msnap_node_nr(b->n) == msnap_node_max(b->n))
		err = next_node(b, e->key);
	if (!err)
		msnap_inner_insert(b->n, msnap_node_nr(b->n), e->key, e->ptr);
	return err;
}

/* ---- inner nodes ---------------------------------------------------- */

/* Entries in the order of the lowest record below them, where that can be read. */
static int by_key(const void *a, const void *b)
{
	const struct msnap_entry_ptr *x = a, *y = b;

	return msnap_key_cmp(x->key, y->key);
}

static bool ascending(const struct list *l)
{
	unsigned i;

	for (i = 1; i < l->nr; i++)
		if (msnap_key_cmp(l->e[i - 1].key, l->e[i].key) >= 0)
			return false;
	return true;
}

/* The first and the last key in a child, if it can be read. */
static bool peek(struct msnap_checking *c, const struct msnap_node *parent,
		 struct msnap_ptr ptr, struct msnap_key *first,
		 struct msnap_key *last)
{
	struct msnap_node n;

	if (!msnap_check_is_meant(c->pool, ptr, parent->type, parent->level - 1, &n) ||
	    !msnap_check_slots(&n))
		return false;
	*first = msnap_node_key(&n, 0);
	*last = msnap_node_key(&n, msnap_check_slots(&n) - 1);
	return true;
}

/* Are each child's keys in the range that its entry gives it? */
static bool in_place(struct msnap_checking *c, const struct msnap_node *n,
		     const struct list *l)
{
	unsigned i;

	if (!ascending(l))
		return false;
	for (i = 0; i < l->nr; i++) {
		struct msnap_key first, last;

		if (!peek(c, n, l->e[i].ptr, &first, &last))
			continue;
		if (msnap_key_cmp(first, l->e[i].key) < 0 ||
		    (i + 1 < l->nr && msnap_key_cmp(last, l->e[i + 1].key) >= 0))
			return false;
	}
	return true;
}

static void sort_children(struct msnap_checking *c, const struct msnap_node *n,
			  struct list *l)
{
	struct msnap_key last;
	unsigned i;

	for (i = 0; i < l->nr; i++)
		peek(c, n, l->e[i].ptr, &l->e[i].key, &last);
	qsort(l->e, l->nr, sizeof(*l->e), by_key);
}

static int read_entries(const struct msnap_node *n, struct list *l)
{
	unsigned i, nr = msnap_check_slots(n);
	int err = 0;

	for (i = 0; !err && i < nr; i++)
		err = list_add(l, msnap_node_key(n, i), msnap_node_child(n, i));
	return err;
}

/* The range of child @i: from its key, or from where the last extent before ended, to
 * the next. */
static struct bounds below(const struct list *l, unsigned i, const struct bounds *b,
			   uint64_t ext_end)
{
	struct bounds sub = { l->e[i].key, b->hi, b->open };

	if (msnap_key_cmp(sub.lo, b->lo) < 0)
		sub.lo = b->lo;
	if (sub.lo.hi < ext_end)
		sub.lo.hi = ext_end;
	if (i + 1 < l->nr &&
	    (b->open || msnap_key_cmp(l->e[i + 1].key, b->hi) < 0)) {
		sub.hi = l->e[i + 1].key;
		sub.open = false;
	}
	return sub;
}

static int add_child(struct msnap_checking *c, const struct msnap_walked *child,
		     struct msnap_key key, struct list *to)
{
	unsigned i;
	int err = 0;

	for (i = 0; !err && i < child->nr; i++) {
		struct msnap_entry_ptr e = c->out[child->at + i];

		err = list_add(to, i ? e.key : key, e.ptr);
	}
	return err;
}

static void sum_up(struct msnap_walked *w, const struct msnap_walked *child,
		   bool first)
{
	w->whole &= child->whole;
	w->nr_blk += child->nr_blk;
	if (!child->nr)
		return;
	if (first)
		w->first = child->first;
	w->last = child->last;
	w->end = child->end;
}

static int walk_node(struct msnap_checking *c, unsigned type, struct msnap_ptr ptr,
		     int level, const struct bounds *b, struct msnap_walked *w);

static int walk_children(struct msnap_checking *c, const struct msnap_node *n,
			 const struct list *old, const struct bounds *b,
			 struct msnap_walked *w, struct list *new)
{
	struct msnap_part part = c->part;
	uint64_t ext_end = 0;
	unsigned i;
	int err = 0;

	for (i = 0; !err && i < old->nr; i++) {
		struct bounds sub = below(old, i, b, ext_end);
		struct msnap_walked child;

		take_part(c, &part, i, old->nr);
		err = walk_node(c, n->type, old->e[i].ptr, n->level - 1, &sub,
				&child);
		if (!err)
			sum_up(w, &child, !new->nr);
		if (!err)
			err = add_child(c, &child, old->e[i].key, new);
		if (n->type == MSNAP_TREE_EXTENT)
			ext_end = w->end;
	}
	return err;
}

static bool same_list(const struct list *a, const struct list *b)
{
	unsigned i;

	for (i = 0; i < a->nr; i++)
		if (i >= b->nr || a->e[i].ptr.blk != b->e[i].ptr.blk ||
		    msnap_key_cmp(a->e[i].key, b->e[i].key))
			return false;
	return a->nr == b->nr;
}

/* Nodes of @level over all entries of @from, as the list @to. */
static int build_over(struct msnap_checking *c, unsigned type, unsigned level,
		      uint64_t owner, const struct list *from, struct list *to)
{
	struct build b = { .pool = c->pool, .type = type, .level = level,
			   .owner = owner };
	unsigned i;
	int err = 0;

	for (i = 0; !err && i < from->nr; i++)
		err = emit_entry(&b, &from->e[i]);
	*to = b.list;
	return err;
}

static int rebuild_inner(struct msnap_checking *c, const struct msnap_node *n,
			 const struct list *l, struct msnap_walked *w)
{
	struct list nodes = { 0 };
	int err = build_over(c, n->type, n->level, get64(n->owner), l, &nodes);

	if (!err)
		err = msnap_check_keep_list(c, &nodes, w);
	free(nodes.e);
	return err;
}

static int walk_inner(struct msnap_checking *c, const struct msnap_node *n,
		      struct msnap_ptr ptr, const struct bounds *b, bool rebuild,
		      struct msnap_walked *w)
{
	struct list old = { 0 }, new = { 0 };
	int err = read_entries(n, &old);

	if (!err && !in_place(c, n, &old)) {
		if (msnap_check_found(c, false, "sort them",
				      "%s, tree node in block %llu: children out of "
				      "order", c->where,
				      (unsigned long long)ptr.blk)) {
			sort_children(c, n, &old);
			rebuild = true;
		} else {
			w->whole = false;
		}
	}
	if (!err)
		err = walk_children(c, n, &old, b, w, &new);
	if (!err && (rebuild || !same_list(&old, &new)))
		err = rebuild_inner(c, n, &new, w);
	else if (!err)
		err = msnap_check_keep_one(c, w->first, ptr, w);
	free(old.e);
	free(new.e);
	return err;
}

/* ---- any node, any tree --------------------------------------------- */

static int mark_node(struct msnap_checking *c, uint64_t blk)
{
	int ret = msnap_space_mark(c->counts, blk, 1);

	return ret < 0 ? ret : 0;
}

/* Nothing of it can be had. */
static int walk_gone(struct msnap_checking *c, struct msnap_ptr ptr, const char *why,
		     const struct bounds *b, struct msnap_walked *w)
{
	if (msnap_check_found(c, false, "cut it out, with all below it",
			      "%s, tree node in block %llu: %s", c->where,
			      (unsigned long long)ptr.blk, why))
		return 0;
	w->whole = false;
	w->first = w->last = b->lo;
	return msnap_check_keep_one(c, b->lo, ptr, w);
}

/* A node that nobody came to before. */
static int walk_new(struct msnap_checking *c, unsigned type, struct msnap_ptr ptr,
		    int level, const struct bounds *b, struct msnap_walked *w)
{
	struct msnap_node n;
	const char *why;
	enum msnap_node_state state =
		msnap_check_load(c->pool, ptr, type, level, &n, &why);
	bool rebuild = false;
	int err;

	if (state == MSNAP_NODE_GONE)
		return walk_gone(c, ptr, why, b, w);
	w->level = n.level;
	if (++c->res.nr_nodes % PROGRESS_NODES == 0) {
		err = tell(c);
		if (err)
			return err;
	}
	if (state == MSNAP_NODE_MENDABLE) {
		rebuild = msnap_check_found(c, false, "keep what is whole in it",
					    "%s, tree node in block %llu: %s",
					    c->where,
					    (unsigned long long)ptr.blk, why);
		w->whole = rebuild;
	}
	if (n.level)
		return walk_inner(c, &n, ptr, b, rebuild, w);
	return msnap_check_leaf(c, &n, ptr, b, state == MSNAP_NODE_MENDABLE, rebuild, w);
}

/*
 * A node is walked once, for the first parent that means it.  Were one that does not
 * fit another parent walked again for that, a few nodes that all name each other would
 * keep the walk busy for ever.
 */
static int walk_node(struct msnap_checking *c, unsigned type, struct msnap_ptr ptr,
		     int level, const struct bounds *b, struct msnap_walked *w)
{
	const struct msnap_walked *known = msnap_check_walked(c, ptr.blk);
	struct msnap_node n;
	bool meant = msnap_check_is_meant(c->pool, ptr, type, level, &n);
	int err;

	if (known && meant && fits(known, b)) {
		*w = *known;
		return mark_node(c, ptr.blk);
	}
	*w = (struct msnap_walked){ .blk = ptr.blk, .whole = true };
	if (known && meant)
		return walk_gone(c, ptr, "does not belong here", b, w);
	err = walk_new(c, type, ptr, level, b, w);
	if (err || !meant)
		return err;
	if (w->nr == 1 && c->out[w->at].ptr.blk == ptr.blk)
		err = mark_node(c, ptr.blk);
	return err ? err : remember(c, w);
}

/* One node over all that stands in the place of a root, or that itself. */
static int new_root(struct msnap_checking *c, unsigned type,
		    const struct msnap_walked *w, struct msnap_ptr *root)
{
	struct list now = { 0 }, up;
	unsigned level = w->level;
	int err = add_child(c, w, (struct msnap_key){ 0, 0 }, &now);

	while (!err && now.nr > 1) {
		if (++level > MSNAP_MAX_LEVEL) {
			err = -EFBIG;
			break;
		}
		err = build_over(c, type, level,
				 type == MSNAP_TREE_EXTENT ? c->ino : 0, &now, &up);
		free(now.e);
		now = up;
	}
	if (!err)
		*root = now.nr ? now.e[0].ptr : (struct msnap_ptr){ 0, 0 };
	free(now.e);
	return err;
}

int msnap_check_subtree(struct msnap_checking *c, unsigned type, struct msnap_ptr *root,
			bool *whole)
{
	struct msnap_walked w;
	int err;

	*whole = true;
	if (!root->blk)
		return 0;
	err = walk_node(c, type, *root, -1, &everything, &w);
	if (err)
		return err;
	*whole = w.whole;
	c->damaged |= !w.whole;
	if (w.nr == 1 && c->out[w.at].ptr.blk == root->blk)
		return 0;
	return new_root(c, type, &w, root);
}

int msnap_check_tree(struct msnap_checking *c, unsigned type, const char *where,
		     struct msnap_ptr *root, bool *whole)
{
	bool live = type == MSNAP_TREE_NS;

	/* The snapshots hang in the catalog. */
	c->part = (struct msnap_part){ live ? 0 : MSNAP_PART_ALL / 2,
				       MSNAP_PART_ALL / 2 };
	c->where = where;
	return msnap_check_subtree(c, type, root, whole);
}
