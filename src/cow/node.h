/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node.h - the inside of one tree node: slots, entries, values.
 *
 * What it does not do: it follows no pointer, takes no reference and asks for no
 * memory.  A node it works on was made by us or passed msnap_node_valid(), and
 * so every offset in it can be trusted.
 */
#ifndef MSNAP_COW_NODE_H
#define MSNAP_COW_NODE_H

#include <stdbool.h>

#include "pool.h"

static inline unsigned msnap_key_size(unsigned type)
{
	return type == MSNAP_TREE_EXTENT ? 8 : 16;
}

static inline int msnap_key_cmp(struct msnap_key a, struct msnap_key b)
{
	if (a.hi != b.hi)
		return a.hi < b.hi ? -1 : 1;
	return a.lo < b.lo ? -1 : a.lo > b.lo;
}

static inline unsigned msnap_node_nr(const struct msnap_node *n)
{
	return get16(n->nr);
}

/* Bytes of a leaf slot or an inner entry. */
static inline unsigned msnap_node_stride(const struct msnap_node *n)
{
	return msnap_key_size(n->type) +
	       (n->level ? sizeof(struct msnap_ref) : sizeof(struct msnap_slot));
}

/* How many entries an inner node can hold. */
static inline unsigned msnap_node_max(const struct msnap_node *n)
{
	return sizeof(n->body) / msnap_node_stride(n);
}

struct msnap_key msnap_node_key(const struct msnap_node *n, unsigned i);
struct msnap_ptr msnap_node_child(const struct msnap_node *n, unsigned i);
void msnap_node_set_child(struct msnap_node *n, unsigned i, struct msnap_ptr p);
void msnap_node_set_key(struct msnap_node *n, unsigned i, struct msnap_key key);
/* The value of leaf slot @i, inside the node. */
void *msnap_node_val(const struct msnap_node *n, unsigned i, unsigned *len);

/* First index whose key is >= @key; *found: it is equal. */
unsigned msnap_node_search(const struct msnap_node *n, struct msnap_key key,
			   bool *found);
/* Inner: the child that @key belongs to. */
unsigned msnap_node_route(const struct msnap_node *n, struct msnap_key key);

/* Set up the header of an empty node; blk, gen and magic are set already. */
void msnap_node_init(struct msnap_node *n, unsigned type, unsigned level,
		     uint64_t owner);

/* Inner: insert an entry at @i; there must be room. */
void msnap_inner_insert(struct msnap_node *n, unsigned i, struct msnap_key key,
			struct msnap_ptr child);
void msnap_inner_remove(struct msnap_node *n, unsigned i, unsigned nr);

/* Leaf: bytes free for one slot and its value, holes counted. */
unsigned msnap_leaf_room(const struct msnap_node *n);
/* Bytes in use by slots and values. */
unsigned msnap_leaf_used(const struct msnap_node *n);
/* Insert at @i; room was checked.  May move values (packs the holes). */
void msnap_leaf_insert(struct msnap_node *n, unsigned i, struct msnap_key key,
		       const void *val, unsigned len);
/* Replace the value at @i; room was checked when it grows. */
void msnap_leaf_replace(struct msnap_node *n, unsigned i, const void *val,
			unsigned len);
void msnap_leaf_remove(struct msnap_node *n, unsigned i, unsigned nr);

/*
 * Is everything inside the node as the format says?  Checks the header against
 * @blk, the checksum when @csum, bounds, order, and each record.  NULL: valid; else
 * what is wrong, a static string.
 */
const char *msnap_node_valid(const struct msnap_pool *pool,
			     const struct msnap_node *n, uint64_t blk, bool csum);

/* record.c: is a leaf record what the format says?  NULL or what is wrong. */
const char *msnap_record_valid(const struct msnap_pool *pool, unsigned type,
			       struct msnap_key key, const void *val, unsigned len);

#endif
