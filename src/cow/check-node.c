/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check-node.c - reading a node that may be anything, and a first tour of all trees to
 * learn which blocks are nodes.
 */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "csum.h"

/* ---- reading one node ----------------------------------------------- */

static int copy_node(const struct msnap_pool *pool, uint64_t blk,
		     struct msnap_node *n)
{
	memcpy(n, pool->base + (blk << MSNAP_BLOCK_SHIFT), sizeof(*n));
	return 0;
}

/* What makes a node another one than its parent means, whatever is inside. */
static const char *foreign(const struct msnap_pool *pool,
			   const struct msnap_node *n, struct msnap_ptr ptr,
			   unsigned type, int level)
{
	if (get32(n->magic) != MSNAP_NODE_MAGIC)
		return "not a tree node";
	if (get64(n->blk) != ptr.blk)
		return "a node of another place";
	if (n->type != type || n->level > MSNAP_MAX_LEVEL ||
	    (level >= 0 && n->level != level) || get64(n->gen) != ptr.gen)
		return "not the node its parent means";
	/* Else it would pass for one that may change in place. */
	if (ptr.gen >= pool->gen && !pool->dirty)
		return "a node of the future";
	return NULL;
}

/* Is what is in the block the node that a parent means, as far as its header tells?
 * That a node is known says nothing about the pointer to it. */
bool msnap_check_is_meant(const struct msnap_pool *pool, struct msnap_ptr ptr,
			  unsigned type, int level, struct msnap_node *n)
{
	return msnap_blk_valid(pool, ptr.blk, 1) &&
	       !MSNAP_GUARD(copy_node(pool, ptr.blk, n)) &&
	       !foreign(pool, n, ptr, type, level);
}

/* Do the slots name values that lie where values may? */
static bool values_fit(const struct msnap_node *n)
{
	unsigned i, len, nr = msnap_node_nr(n), heap = get16(n->heap), sum = 0;

	if (nr == 0 || nr > sizeof(n->body) / msnap_node_stride(n) ||
	    heap > MSNAP_BLOCK_SIZE ||
	    heap < MSNAP_NODE_HDR + nr * msnap_node_stride(n))
		return false;
	for (i = 0; i < nr; i++) {
		const uint8_t *val = msnap_node_val(n, i, &len);
		unsigned off = val - (const uint8_t *)n;

		if (off < heap || off + len > MSNAP_BLOCK_SIZE)
			return false;
		sum += len;
	}
	return sum + get16(n->dead) == MSNAP_BLOCK_SIZE - heap;
}

/* Is the inside of a node with a wrong checksum fit to be looked at?  An inner node
 * always is: what its entries name must be nodes of the right generation. */
static bool plausible(const struct msnap_node *n)
{
	return n->level ? msnap_node_nr(n) <= msnap_node_max(n) : values_fit(n);
}

enum msnap_node_state msnap_check_load(const struct msnap_pool *pool,
					struct msnap_ptr ptr, unsigned type, int level,
					struct msnap_node *n, const char **why)
{
	*why = "outside the pool";
	if (!msnap_blk_valid(pool, ptr.blk, 1))
		return MSNAP_NODE_GONE;
	*why = "cannot be read";
	if (MSNAP_GUARD(copy_node(pool, ptr.blk, n)))
		return MSNAP_NODE_GONE;
	*why = foreign(pool, n, ptr, type, level);
	if (*why)
		return MSNAP_NODE_GONE;
	*why = msnap_node_valid(pool, n, ptr.blk, true);
	if (!*why)
		return MSNAP_NODE_SOUND;
	if (get64(n->csum) == msnap_csum_meta(n, ptr.blk))
		return MSNAP_NODE_MENDABLE;
	*why = "wrong checksum";
	return plausible(n) ? MSNAP_NODE_MENDABLE : MSNAP_NODE_GONE;
}

/* How many slots or entries there can be. */
unsigned msnap_check_slots(const struct msnap_node *n)
{
	unsigned nr = msnap_node_nr(n);
	unsigned max = sizeof(n->body) / msnap_node_stride(n);

	return nr < max ? nr : max;
}

/* ---- finding the nodes ---------------------------------------------- */

struct scan {
	struct msnap_checking *c;
	struct msnap_space *used; /* may be NULL */
};

static int scan_tree(struct scan *s, unsigned type, struct msnap_ptr ptr, int level);

static int scan_use(struct scan *s, uint64_t blk, uint64_t nr)
{
	int ret = 0;

	if (s->used && msnap_blk_valid(s->c->pool, blk, nr))
		ret = msnap_space_mark(s->used, blk, nr);
	return ret < 0 ? ret : 0;
}

static int scan_record(struct scan *s, const struct msnap_node *n, unsigned i)
{
	struct msnap_key key = msnap_node_key(n, i);
	unsigned len;
	const void *val = msnap_node_val(n, i, &len);
	unsigned off = (const uint8_t *)val - (const uint8_t *)n;
	const struct msnap_extent *ex = val;
	const struct msnap_inode *in = val;
	const struct msnap_snap *sn = val;
	const struct msnap_drop *d = val;

	if (off + len > sizeof(*n) ||
	    msnap_record_valid(s->c->pool, n->type, key, val, len))
		return 0;
	if (n->type == MSNAP_TREE_EXTENT)
		return scan_use(s, get64(ex->blk), get16(ex->nr));
	if (n->type == MSNAP_TREE_NS)
		return key.lo >> 56 == MSNAP_NS_INODE ?
			       scan_tree(s, MSNAP_TREE_EXTENT,
					 msnap_ptr_load(in->ext), -1) : 0;
	if (key.hi >> 56 == MSNAP_CAT_SNAP)
		return scan_tree(s, MSNAP_TREE_NS, msnap_ptr_load(sn->ns), -1);
	if (key.hi >> 56 == MSNAP_CAT_DROP)
		return scan_tree(s, get32(d->type), msnap_ptr_load(d->root), -1);
	return 0;
}

/* The depth is bounded: levels fall, and an extent tree hangs below a namespace,
 * which hangs below the catalog. */
static int scan_tree(struct scan *s, unsigned type, struct msnap_ptr ptr, int level)
{
	struct msnap_node n;
	const char *why;
	unsigned i, nr;
	int err;

	if (!msnap_blk_valid(s->c->pool, ptr.blk, 1) ||
	    msnap_ok_test(s->c->nodes, ptr.blk) ||
	    msnap_check_load(s->c->pool, ptr, type, level, &n, &why) ==
		    MSNAP_NODE_GONE)
		return 0;
	msnap_ok_set(s->c->nodes, ptr.blk, 1);
	if (!msnap_ok_test(s->c->nodes, ptr.blk))
		return -ENOMEM;
	err = scan_use(s, ptr.blk, 1);
	nr = msnap_check_slots(&n);
	for (i = 0; !err && i < nr; i++)
		err = n.level ? scan_tree(s, type, msnap_node_child(&n, i),
					  n.level - 1) :
				scan_record(s, &n, i);
	return err;
}

int msnap_check_scan(struct msnap_checking *c, struct msnap_ptr ns,
		     struct msnap_ptr catalog, struct msnap_space *used)
{
	struct scan s = { c, used };
	int err = scan_tree(&s, MSNAP_TREE_NS, ns, -1);

	return err ? err : scan_tree(&s, MSNAP_TREE_CATALOG, catalog, -1);
}
