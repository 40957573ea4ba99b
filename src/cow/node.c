/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "node.h"

#include <string.h>

#include "csum.h"

static uint8_t *entry(const struct msnap_node *n, unsigned i)
{
	return (uint8_t *)n->body + (size_t)i * msnap_node_stride(n);
}

struct msnap_key msnap_node_key(const struct msnap_node *n, unsigned i)
{
	const struct msnap_mkey *k = (const void *)entry(n, i);

	return (struct msnap_key){
		get64(k->hi), n->type == MSNAP_TREE_EXTENT ? 0 : get64(k->lo)
	};
}

void msnap_node_set_key(struct msnap_node *n, unsigned i, struct msnap_key key)
{
	struct msnap_mkey *k = (void *)entry(n, i);

	k->hi = put64(key.hi);
	if (n->type != MSNAP_TREE_EXTENT)
		k->lo = put64(key.lo);
}

static struct msnap_slot *slot(const struct msnap_node *n, unsigned i)
{
	return (void *)(entry(n, i) + msnap_key_size(n->type));
}

struct msnap_ptr msnap_node_child(const struct msnap_node *n, unsigned i)
{
	const struct msnap_ref *ref =
		(const void *)(entry(n, i) + msnap_key_size(n->type));

	return msnap_ptr_load(*ref);
}

void msnap_node_set_child(struct msnap_node *n, unsigned i, struct msnap_ptr p)
{
	struct msnap_ref *ref = (void *)(entry(n, i) + msnap_key_size(n->type));

	*ref = msnap_ptr_store(p);
}

void *msnap_node_val(const struct msnap_node *n, unsigned i, unsigned *len)
{
	const struct msnap_slot *s = slot(n, i);

	*len = get16(s->len);
	return (uint8_t *)n + get16(s->off);
}

unsigned msnap_node_search(const struct msnap_node *n, struct msnap_key key,
			   bool *found)
{
	unsigned lo = 0, hi = msnap_node_nr(n);

	*found = false;
	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		int cmp = msnap_key_cmp(msnap_node_key(n, mid), key);

		if (cmp == 0) {
			*found = true;
			return mid;
		}
		if (cmp < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

unsigned msnap_node_route(const struct msnap_node *n, struct msnap_key key)
{
	bool found;
	unsigned i = msnap_node_search(n, key, &found);

	return found || i == 0 ? i : i - 1;
}

void msnap_node_init(struct msnap_node *n, unsigned type, unsigned level,
		     uint64_t owner)
{
	n->type = type;
	n->level = level;
	n->nr = put16(0);
	n->owner = put64(owner);
	n->heap = put16(MSNAP_BLOCK_SIZE);
	n->dead = put16(0);
	n->reserved = put32(0);
}

/* Open or close a gap of entries at @i; does not touch values. */
static void shift(struct msnap_node *n, unsigned i, int by)
{
	unsigned nr = msnap_node_nr(n), from = by < 0 ? i - by : i;

	memmove(entry(n, i + (by > 0 ? by : 0)), entry(n, from),
		(size_t)(nr - from) * msnap_node_stride(n));
	n->nr = put16(nr + by);
}

void msnap_inner_insert(struct msnap_node *n, unsigned i, struct msnap_key key,
			struct msnap_ptr child)
{
	shift(n, i, 1);
	msnap_node_set_key(n, i, key);
	msnap_node_set_child(n, i, child);
}

void msnap_inner_remove(struct msnap_node *n, unsigned i, unsigned nr)
{
	shift(n, i, -(int)nr);
}

/* Bytes between the slots and the lowest value. */
static unsigned leaf_gap(const struct msnap_node *n)
{
	return get16(n->heap) - MSNAP_NODE_HDR -
	       msnap_node_nr(n) * msnap_node_stride(n);
}

unsigned msnap_leaf_room(const struct msnap_node *n)
{
	return leaf_gap(n) + get16(n->dead);
}

unsigned msnap_leaf_used(const struct msnap_node *n)
{
	return sizeof(n->body) - msnap_leaf_room(n);
}

/* Where a value is that begins at @off.  An empty one is at the end of the block,
 * where the heap cannot shrink past it. */
static msnap_le16 place_of(unsigned off, unsigned len)
{
	return put16(len ? off : MSNAP_BLOCK_SIZE);
}

/* Move all values to the end of the block, without holes. */
static void pack(struct msnap_node *n)
{
	uint8_t tmp[MSNAP_BLOCK_SIZE];
	unsigned i, nr = msnap_node_nr(n), top = MSNAP_BLOCK_SIZE;

	for (i = 0; i < nr; i++) {
		struct msnap_slot *s = slot(n, i);
		unsigned len = get16(s->len);

		top -= len;
		memcpy(tmp + top, (uint8_t *)n + get16(s->off), len);
		s->off = place_of(top, len);
	}
	memcpy((uint8_t *)n + top, tmp + top, MSNAP_BLOCK_SIZE - top);
	n->heap = put16(top);
	n->dead = put16(0);
}

static void put_val(struct msnap_node *n, unsigned i, const void *val,
		    unsigned len)
{
	unsigned off = get16(n->heap) - len;
	struct msnap_slot *s = slot(n, i);

	if (len) /* an empty value may be NULL */
		memcpy((uint8_t *)n + off, val, len);
	s->off = place_of(off, len);
	s->len = put16(len);
	n->heap = put16(off);
}

void msnap_leaf_insert(struct msnap_node *n, unsigned i, struct msnap_key key,
		       const void *val, unsigned len)
{
	if (leaf_gap(n) < msnap_node_stride(n) + len)
		pack(n);
	shift(n, i, 1);
	msnap_node_set_key(n, i, key);
	put_val(n, i, val, len);
}

/* The value of slot @i becomes a hole. */
static void kill_val(struct msnap_node *n, unsigned i)
{
	struct msnap_slot *s = slot(n, i);
	unsigned len = get16(s->len);

	if (get16(s->off) == get16(n->heap))
		n->heap = put16(get16(n->heap) + len);
	else
		n->dead = put16(get16(n->dead) + len);
	s->len = put16(0);
}

void msnap_leaf_replace(struct msnap_node *n, unsigned i, const void *val,
			unsigned len)
{
	struct msnap_slot *s = slot(n, i);

	if (get16(s->len) == len) {
		memmove((uint8_t *)n + get16(s->off), val, len);
		return;
	}
	kill_val(n, i);
	if (leaf_gap(n) < len)
		pack(n);
	put_val(n, i, val, len);
}

void msnap_leaf_remove(struct msnap_node *n, unsigned i, unsigned nr)
{
	unsigned k;

	for (k = i; k < i + nr; k++)
		kill_val(n, k);
	shift(n, i, -(int)nr);
	if (msnap_node_nr(n) == 0) {
		n->heap = put16(MSNAP_BLOCK_SIZE);
		n->dead = put16(0);
	}
}

/* ---- validation --------------------------------------------------------- */

static const char *valid_header(const struct msnap_node *n, uint64_t blk)
{
	if (get32(n->magic) != MSNAP_NODE_MAGIC)
		return "not a tree node";
	if (get64(n->blk) != blk)
		return "a node of another place";
	if (n->type < MSNAP_TREE_NS || n->type > MSNAP_TREE_CATALOG)
		return "unknown tree type";
	if (n->level > MSNAP_MAX_LEVEL)
		return "impossible level";
	if (get32(n->reserved))
		return "reserved bytes in use";
	return NULL;
}

static const char *valid_order(const struct msnap_node *n)
{
	unsigned i, nr = msnap_node_nr(n);

	for (i = 1; i < nr; i++)
		if (msnap_key_cmp(msnap_node_key(n, i - 1),
				  msnap_node_key(n, i)) >= 0)
			return "keys out of order";
	return NULL;
}

static const char *valid_inner(const struct msnap_pool *pool,
			       const struct msnap_node *n)
{
	unsigned i, nr = msnap_node_nr(n);

	if (nr == 0 || nr > msnap_node_max(n))
		return "impossible number of entries";
	if (get16(n->heap) != MSNAP_BLOCK_SIZE || get16(n->dead))
		return "an inner node with values";
	for (i = 0; i < nr; i++)
		if (!msnap_blk_valid(pool, msnap_node_child(n, i).blk, 1))
			return "a child outside the pool";
	return valid_order(n);
}

/* Claim bytes @off..@off+@len of the node; false when one was claimed before. */
static bool claim(uint64_t *used, unsigned off, unsigned len)
{
	while (len) {
		unsigned bit = off % 64, n = 64 - bit < len ? 64 - bit : len;
		uint64_t mask = (n == 64 ? ~0ull : (1ull << n) - 1) << bit;

		if (used[off / 64] & mask)
			return false;
		used[off / 64] |= mask;
		off += n;
		len -= n;
	}
	return true;
}

/* Data are mapped by nodes as young as they, or younger. */
static const char *valid_extent_gen(const struct msnap_node *n, const void *val)
{
	const struct msnap_extent *ex = val;

	return get64(ex->gen) > get64(n->gen) ? "an extent of the future" : NULL;
}

/* Values lie in the heap, no byte belongs to two of them, and together with the
 * holes they are the heap. */
static const char *valid_values(const struct msnap_pool *pool,
				const struct msnap_node *n)
{
	uint64_t used[MSNAP_BLOCK_SIZE / 64] = { 0 };
	unsigned i, nr = msnap_node_nr(n), heap = get16(n->heap), sum = 0;

	for (i = 0; i < nr; i++) {
		unsigned off = get16(slot(n, i)->off), len = get16(slot(n, i)->len);
		const char *why;

		if (len > MSNAP_VAL_MAX || off < heap ||
		    off + len > MSNAP_BLOCK_SIZE)
			return "a value outside its node";
		if (!claim(used, off, len))
			return "values overlap";
		sum += len;
		why = msnap_record_valid(pool, n->type, msnap_node_key(n, i),
					 (const uint8_t *)n + off, len);
		if (!why && n->type == MSNAP_TREE_EXTENT)
			why = valid_extent_gen(n, (const uint8_t *)n + off);
		if (why)
			return why;
	}
	return sum + get16(n->dead) == MSNAP_BLOCK_SIZE - heap ?
		       NULL : "values and holes do not add up";
}

/* No extent reaches into the next, and none is younger than the node, so that what
 * was committed never passes for data of the running generation. */
static const char *valid_extents(const struct msnap_node *n)
{
	unsigned i, len, nr = msnap_node_nr(n);
	uint64_t end = 0;

	for (i = 0; i < nr; i++) {
		const struct msnap_extent *ex = msnap_node_val(n, i, &len);
		uint64_t fb = msnap_node_key(n, i).hi;

		if (fb < end)
			return "extents overlap";
		if (get64(ex->gen) > get64(n->gen))
			return "an extent of the future";
		end = fb + get16(ex->nr);
	}
	return NULL;
}

static const char *valid_leaf(const struct msnap_pool *pool,
			      const struct msnap_node *n)
{
	unsigned nr = msnap_node_nr(n), heap = get16(n->heap);
	const char *why;

	if (nr == 0 || nr > sizeof(n->body) / msnap_node_stride(n))
		return "impossible number of records";
	if (heap > MSNAP_BLOCK_SIZE ||
	    heap < MSNAP_NODE_HDR + nr * msnap_node_stride(n))
		return "values reach into the slots";
	why = valid_order(n);
	if (!why)
		why = valid_values(pool, n);
	if (!why && n->type == MSNAP_TREE_EXTENT)
		why = valid_extents(n);
	return why;
}

const char *msnap_node_valid(const struct msnap_pool *pool,
			     const struct msnap_node *n, uint64_t blk, bool csum)
{
	const char *why = valid_header(n, blk);

	if (why)
		return why;
	if (csum && get64(n->csum) != msnap_csum_meta(n, blk))
		return "wrong checksum";
	return n->level ? valid_inner(pool, n) : valid_leaf(pool, n);
}
