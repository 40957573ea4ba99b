/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check-tree.c - the walk over all trees: is every node, every record and every
 * block of data what it must be, and what can be kept of those that are not?
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
#include "check.h"
#include "csum.h"

#define PROGRESS_NODES 256 /* between two reports */
#define PROGRESS_EXTENTS 64

/* Slots that a leaf has room for, were their values empty. */
#define MAX_SLOTS (sizeof(((struct msnap_node *)0)->body) / 12)

struct bounds {
	struct msnap_key lo, hi; /* lo <= key < hi */
	bool open;		 /* no hi */
};

static const struct bounds everything = { .open = true };

static bool inside(const struct bounds *b, struct msnap_key key)
{
	return msnap_key_cmp(key, b->lo) >= 0 &&
	       (b->open || msnap_key_cmp(key, b->hi) < 0);
}

/* ---- how far it is ------------------------------------------------------ */

/* Child @i of @nr takes its share of its parent's part. */
static void take_part(struct msnap_checking *c, const struct msnap_part *of, unsigned i,
		      unsigned nr)
{
	c->part.len = of->len / nr;
	c->part.at = of->at + c->part.len * i;
}

static int tell(struct msnap_checking *c)
{
	return msnap_check_progress(c, c->part.at, MSNAP_PART_ALL);
}

/* ---- lists, and what is known of nodes ------------------------------ */

struct list {
	struct msnap_entry_ptr *e;
	unsigned nr, cap;
};

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
static int keep_list(struct msnap_checking *c, const struct list *l,
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

static int keep_one(struct msnap_checking *c, struct msnap_key key,
		    struct msnap_ptr ptr, struct msnap_walked *w)
{
	struct msnap_entry_ptr e = { key, ptr };
	struct list l = { &e, 1, 1 };

	return keep_list(c, &l, w);
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

struct build {
	struct msnap_pool *pool;
	unsigned type, level;
	uint64_t owner;
	struct msnap_node *n; /* being filled */
	struct list list;
};

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

static int emit_record(struct build *b, struct msnap_key key, const void *val,
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

/* ---- records -------------------------------------------------------- */

enum action { KEEP, CHANGED, SPLIT, DROP };

struct leaf {
	struct msnap_checking *c;
	struct msnap_node *n; /* a copy; values may be changed in it */
	struct bounds b;
	struct msnap_walked *w;
	bool mending;	  /* something in it is wrong */
	uint64_t ext_end; /* of the last extent kept */
	uint64_t used[MSNAP_BLOCK_SIZE / 64]; /* bytes of values seen, a bit each */
	uint8_t act[MAX_SLOTS];
};

static int walk_node(struct msnap_checking *c, unsigned type, struct msnap_ptr ptr,
		     int level, const struct bounds *b, struct msnap_walked *w);
static int walk_tree(struct msnap_checking *c, unsigned type, struct msnap_ptr *root,
		     bool *whole);

/* "inode 17", as far as a key tells. */
static const char *subject(const struct msnap_checking *c, unsigned type,
			   struct msnap_key key, char *buf, size_t size)
{
	unsigned long long nr = key.hi & ~(0xffull << 56);

	if (type == MSNAP_TREE_EXTENT)
		snprintf(buf, size, "inode %llu, extent at %llu",
			 (unsigned long long)c->ino, (unsigned long long)key.hi);
	else if (type == MSNAP_TREE_CATALOG)
		snprintf(buf, size, "record %u of number %llu",
			 (unsigned)(key.hi >> 56), nr);
	else
		snprintf(buf, size, "inode %llu", (unsigned long long)key.hi);
	return buf;
}

static bool bad_record(struct leaf *l, struct msnap_key key, const char *fix,
		       const char *why)
{
	char buf[80];

	if (msnap_check_found(l->c, false, fix, "%s, %s: %s", l->c->where,
			      subject(l->c, l->n->type, key, buf, sizeof(buf)), why))
		return true;
	l->w->whole = false;
	return false;
}

static enum action drop_it(struct leaf *l, struct msnap_key key, const char *why)
{
	return bad_record(l, key, "drop it", why) ? DROP : KEEP;
}

static int verify_block(const struct msnap_pool *pool, uint64_t blk, uint64_t csum)
{
	const void *data = pool->base + (blk << MSNAP_BLOCK_SHIFT);

	return msnap_csum_data(data, blk) == csum ? 0 : -EIO;
}

static bool data_good(struct msnap_checking *c, const struct msnap_extent *ex,
		      unsigned i)
{
	return MSNAP_GUARD(verify_block(c->pool, get64(ex->blk) + i,
					get64(ex->csum[i]))) == 0;
}

/* All of the contents that an extent has checksums for. */
static enum action check_contents(struct leaf *l, struct msnap_key key,
				  const struct msnap_extent *ex)
{
	unsigned i, nr = get16(ex->nr), bad = 0, first = 0;
	char why[120], buf[80];

	if (!(l->c->flags & MSNAP_CHECK_DATA) || get16(ex->flags))
		return KEEP;
	for (i = 0; i < nr; i++)
		if (!data_good(l->c, ex, i) && !bad++)
			first = i;
	if (!bad)
		return KEEP;
	snprintf(why, sizeof(why), "%u block%s of contents damaged, the first at "
		 "offset %llu (block %llu of the pool)", bad, bad > 1 ? "s" : "",
		 (unsigned long long)(key.hi + first) << MSNAP_BLOCK_SHIFT,
		 (unsigned long long)get64(ex->blk) + first);
	/* The tree is whole with that, refused or not. */
	return msnap_check_found(l->c, false, "cut out, to read as zeros", "%s, %s: %s",
				 l->c->where,
				 subject(l->c, l->n->type, key, buf, sizeof(buf)),
				 why) ? SPLIT : KEEP;
}

static bool on_nodes(struct msnap_checking *c, uint64_t blk, unsigned nr)
{
	while (nr--)
		if (msnap_ok_test(c->nodes, blk++))
			return true;
	return false;
}

static int check_extent(struct leaf *l, struct msnap_key key, struct msnap_extent *ex,
			enum action *act)
{
	struct msnap_checking *c = l->c;
	unsigned nr = get16(ex->nr);
	int ret = 0;

	if (++c->res.nr_extents % PROGRESS_EXTENTS == 0 && tell(c))
		return -ECANCELED;
	if (key.hi < l->ext_end)
		*act = drop_it(l, key, "overlaps the extent before it");
	else if (on_nodes(c, get64(ex->blk), nr))
		*act = drop_it(l, key, "has blocks that are tree nodes");
	else if (get64(ex->gen) > get64(l->n->gen))
		*act = bad_record(l, key, "make it older",
				  "an extent of the future") ? CHANGED : KEEP;
	else
		*act = check_contents(l, key, ex);
	if (*act == CHANGED)
		ex->gen = l->n->gen;
	if (*act == DROP)
		return 0;
	if (key.hi + nr > l->ext_end)
		l->ext_end = key.hi + nr;
	ret = msnap_space_mark(c->counts, get64(ex->blk), nr);
	return ret < 0 ? ret : 0;
}

/* A tree that hangs below a record.  @must: the record is nothing without it. */
static int check_ref(struct leaf *l, struct msnap_key key, unsigned type,
		     struct msnap_ref *ref, bool must, enum action *act)
{
	struct msnap_ptr was = msnap_ptr_load(*ref), root = was;
	bool whole;
	int err = walk_tree(l->c, type, &root, &whole);

	if (err)
		return err;
	if (root.blk == was.blk)
		return 0;
	*ref = msnap_ptr_store(root);
	*act = CHANGED;
	if (!root.blk && must)
		*act = drop_it(l, key, "nothing of it is left");
	return 0;
}

static int check_inode_ref(struct leaf *l, struct msnap_key key,
			   struct msnap_inode *in, enum action *act)
{
	const struct msnap_walked *w;
	uint64_t ino = l->c->ino, blk;
	int err;

	if (key.lo >> 56 != MSNAP_NS_INODE || !get64(in->ext.blk))
		return 0;
	blk = get64(in->ext.blk);
	l->c->ino = key.hi;
	err = check_ref(l, key, MSNAP_TREE_EXTENT, &in->ext, false, act);
	l->c->ino = ino;
	/* An impossible size was corrected: it is where the contents end. */
	w = msnap_check_walked(l->c, blk);
	if (!err && *act == CHANGED && get64(in->size) == INT64_MAX &&
	    (!w || w->end << MSNAP_BLOCK_SHIFT <= INT64_MAX))
		in->size = put64(w ? w->end << MSNAP_BLOCK_SHIFT : 0);
	return err;
}

static int check_catalog_ref(struct leaf *l, struct msnap_key key, void *val,
			     enum action *act)
{
	struct msnap_snap *sn = val;
	struct msnap_drop *d = val;
	const char *where = l->c->where;
	char name[MSNAP_SNAP_NAME_MAX + 16];
	int err = 0;

	if (key.hi >> 56 == MSNAP_CAT_SNAP) {
		snprintf(name, sizeof(name), "snapshot %.*s", sn->name_len, sn->text);
		l->c->where = name;
		err = check_ref(l, key, MSNAP_TREE_NS, &sn->ns, true, act);
	} else if (key.hi >> 56 == MSNAP_CAT_DROP) {
		l->c->where = "deleted tree";
		err = check_ref(l, key, get32(d->type), &d->root, true, act);
	}
	l->c->where = where;
	return err;
}

/* What a record that is well-formed refers to. */
static int check_refs(struct leaf *l, struct msnap_key key, void *val,
		      enum action *act)
{
	switch (l->n->type) {
	case MSNAP_TREE_EXTENT:
		return check_extent(l, key, val, act);
	case MSNAP_TREE_NS:
		return check_inode_ref(l, key, val, act);
	default:
		return check_catalog_ref(l, key, val, act);
	}
}

/* ---- leaves --------------------------------------------------------- */

/* Does the value of slot @i lie where values may? */
static bool value_fits(const struct leaf *l, unsigned i)
{
	unsigned len, nr = msnap_check_slots(l->n);
	const uint8_t *val = msnap_node_val(l->n, i, &len);
	unsigned off = val - (const uint8_t *)l->n;

	return len <= MSNAP_VAL_MAX && off + len <= MSNAP_BLOCK_SIZE &&
	       off >= MSNAP_NODE_HDR + nr * msnap_node_stride(l->n);
}

/* NULL, or why the value of slot @i, which fits, cannot be what was stored. */
static const char *bad_value(const struct leaf *l, unsigned i)
{
	unsigned len;
	const void *val = msnap_node_val(l->n, i, &len);

	return msnap_record_valid(l->c->pool, l->n->type, msnap_node_key(l->n, i),
				  val, len);
}

/* The key of slot @i is not where it should be.  A single key too high among others
 * that are in order is itself the one that is wrong. */
static bool out_of_order(const struct leaf *l, unsigned i, bool any,
			 struct msnap_key last)
{
	struct msnap_key key = msnap_node_key(l->n, i), next;

	if (any && msnap_key_cmp(key, last) <= 0)
		return true;
	if (i + 1 >= msnap_check_slots(l->n))
		return false;
	next = msnap_node_key(l->n, i + 1);
	return msnap_key_cmp(key, next) > 0 && inside(&l->b, next) &&
	       (!any || msnap_key_cmp(next, last) > 0) && value_fits(l, i + 1) &&
	       !bad_value(l, i + 1);
}

/* Does a byte of the value belong to one before?  It is counted as seen. */
static bool overlaps(struct leaf *l, unsigned i)
{
	unsigned len, at;
	const uint8_t *val = msnap_node_val(l->n, i, &len);
	unsigned off = val - (const uint8_t *)l->n;
	bool any = false;

	for (at = off; at < off + len; at++) {
		any |= l->used[at / 64] >> (at % 64) & 1;
		l->used[at / 64] |= 1ull << (at % 64);
	}
	return any;
}

/* NULL, or why the record is not where a record can be. */
static const char *bad_place(struct leaf *l, unsigned i, bool any,
			     struct msnap_key last)
{
	if (!value_fits(l, i))
		return "a value outside its node";
	if (l->mending && overlaps(l, i))
		return "a value that overlaps another";
	if (!inside(&l->b, msnap_node_key(l->n, i)))
		return "a key outside its node's range";
	return out_of_order(l, i, any, last) ? "a key out of order" : NULL;
}

/*
 * An inode is worth more than the fields of it that are impossible: without those it
 * may pass.  0: not even then; else the answer was asked for: *act.
 */
static int mend_inode(struct leaf *l, unsigned i, const char *why, enum action *act)
{
	struct msnap_key key = msnap_node_key(l->n, i);
	unsigned len;
	struct msnap_inode *in = msnap_node_val(l->n, i, &len), new;

	if (l->n->type != MSNAP_TREE_NS || key.lo >> 56 != MSNAP_NS_INODE ||
	    len != sizeof(*in))
		return 0;
	new = *in;
	if (!msnap_blk_valid(l->c->pool, get64(new.ext.blk), 1))
		memset(&new.ext, 0, sizeof(new.ext));
	if (get64(new.ext.blk))
		new.mode = put32((get32(new.mode) & 07777) | S_IFREG);
	if (get64(new.size) > INT64_MAX)
		new.size = put64(get64(new.ext.blk) ? INT64_MAX : 0);
	new.flags = put32(get32(new.flags) & MSNAP_INODE_FRAME);
	memset(new.reserved, 0, sizeof(new.reserved));
	if (msnap_record_valid(l->c->pool, l->n->type, key, &new, len))
		return 0;
	if (bad_record(l, key, "correct it", why)) {
		*in = new;
		*act = CHANGED;
	}
	return 1;
}

static int judge_slot(struct leaf *l, unsigned i, bool *any, struct msnap_key *last)
{
	struct msnap_key key = msnap_node_key(l->n, i);
	const char *why = bad_place(l, i, *any, *last);
	enum action act = KEEP;
	bool misplaced = why;
	unsigned len;
	int err = 0;

	if (!why)
		why = bad_value(l, i);
	if (why && (misplaced || !mend_inode(l, i, why, &act)))
		act = drop_it(l, key, why);
	if (!why || act == CHANGED)
		err = check_refs(l, key, msnap_node_val(l->n, i, &len), &act);
	l->act[i] = act;
	if (act == DROP || (why && act == KEEP))
		return err;
	if (!*any)
		l->w->first = key;
	l->w->last = *last = key;
	*any = true;
	return err;
}

/* The parts of an extent between damaged blocks. */
static int emit_parts(struct leaf *l, struct build *b, struct msnap_key key,
		      const struct msnap_extent *ex)
{
	uint8_t buf[sizeof(*ex) + 8 * MSNAP_EXT_MAX_CSUM];
	struct msnap_extent *part = (void *)buf;
	unsigned i, first = 0, nr = get16(ex->nr);
	int err = 0;

	for (i = 0; !err && i <= nr; i++) {
		if (i < nr && data_good(l->c, ex, i))
			continue;
		if (i > first) {
			*part = *ex;
			part->blk = put64(get64(ex->blk) + first);
			part->nr = put16(i - first);
			memcpy(part->csum, ex->csum + first,
			       (i - first) * sizeof(*ex->csum));
			err = emit_record(b, (struct msnap_key){ key.hi + first, 0 },
					  part,
					  sizeof(*part) + (i - first) * 8);
			l->w->nr_blk += i - first;
		}
		first = i + 1;
	}
	return err;
}

static int emit_leaf(struct leaf *l, struct build *b)
{
	unsigned i, len, nr = msnap_check_slots(l->n);
	int err = 0;

	for (i = 0; !err && i < nr; i++) {
		struct msnap_key key = msnap_node_key(l->n, i);
		const void *val = msnap_node_val(l->n, i, &len);

		if (l->act[i] == DROP)
			continue;
		if (l->act[i] == SPLIT)
			err = emit_parts(l, b, key, val);
		else
			err = emit_record(b, key, val, len);
	}
	return err;
}

/* Blocks of data that the records kept as they are map. */
static uint64_t count_kept(const struct leaf *l)
{
	unsigned i, len, nr = msnap_check_slots(l->n);
	uint64_t sum = 0;

	for (i = 0; i < nr; i++) {
		const struct msnap_extent *ex = msnap_node_val(l->n, i, &len);

		if (l->act[i] == KEEP || l->act[i] == CHANGED)
			sum += get16(ex->nr);
	}
	return sum;
}

static int rebuild_leaf(struct leaf *l)
{
	struct build b = { .pool = l->c->pool, .type = l->n->type,
			   .owner = get64(l->n->owner) };
	int err = emit_leaf(l, &b);

	if (!err)
		err = keep_list(l->c, &b.list, l->w);
	free(b.list.e);
	return err;
}

static int walk_leaf(struct leaf *l, struct msnap_ptr ptr, bool rebuild)
{
	unsigned i, nr = msnap_check_slots(l->n);
	struct msnap_part part = l->c->part;
	struct msnap_key last = { 0, 0 };
	bool any = false;
	int err = 0;

	if (l->n->type == MSNAP_TREE_EXTENT)
		l->ext_end = l->b.lo.hi;
	for (i = 0; !err && i < nr; i++) {
		take_part(l->c, &part, i, nr);
		err = judge_slot(l, i, &any, &last);
		rebuild |= l->act[i] != KEEP;
	}
	if (err)
		return err;
	l->w->end = l->ext_end;
	/* Left as it was found: its values may not even lie inside. */
	if (l->n->type == MSNAP_TREE_EXTENT && l->w->whole)
		l->w->nr_blk = count_kept(l);
	/* Empty, and not to be repaired. */
	if (!any && !rebuild)
		l->w->first = l->w->last = l->b.lo;
	return rebuild ? rebuild_leaf(l) : keep_one(l->c, l->w->first, ptr, l->w);
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
		err = keep_list(c, &nodes, w);
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
		err = keep_one(c, w->first, ptr, w);
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
	return keep_one(c, b->lo, ptr, w);
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
	struct leaf l = { .c = c, .n = &n, .b = *b, .w = w,
			  .mending = state == MSNAP_NODE_MENDABLE };

	return walk_leaf(&l, ptr, rebuild);
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

static int walk_tree(struct msnap_checking *c, unsigned type, struct msnap_ptr *root,
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
	return walk_tree(c, type, root, whole);
}
