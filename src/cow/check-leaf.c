/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check-leaf.c - the records of a leaf: is each what it must be, is what it refers to,
 * and what is written in their place when not?
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check-walk.h"
#include "csum.h"

#define PROGRESS_EXTENTS 64 /* between two reports */

/* Slots that a leaf has room for, were their values empty. */
#define MAX_SLOTS (sizeof(((struct msnap_node *)0)->body) / 12)

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
	int err = msnap_check_subtree(l->c, type, &root, &whole);

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
			err = msnap_check_emit_record(
				b, (struct msnap_key){ key.hi + first, 0 }, part,
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
			err = msnap_check_emit_record(b, key, val, len);
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
		err = msnap_check_keep_list(l->c, &b.list, l->w);
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
	return rebuild ? rebuild_leaf(l) :
			 msnap_check_keep_one(l->c, l->w->first, ptr, l->w);
}

int msnap_check_leaf(struct msnap_checking *c, struct msnap_node *n, struct msnap_ptr ptr,
		     const struct bounds *b, bool mending, bool rebuild,
		     struct msnap_walked *w)
{
	struct leaf l = { .c = c, .n = n, .b = *b, .w = w, .mending = mending };

	return walk_leaf(&l, ptr, rebuild);
}
