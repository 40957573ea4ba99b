/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * txn.h - operations: changes that happen as a whole or not at all.
 *
 * An operation holds the pool's lock for writing.  Nodes that the last commit can
 * reach are copied before they change; nodes that were written since are changed
 * in place, after an image of them was put aside.  Whatever goes wrong inside -
 * no space, no memory, a damaged node, memory that cannot be read - the end of the
 * operation puts back images, roots and reference counts, and the running
 * generation is what it was.
 *
 * Nothing here makes anything durable: that is commit.h.
 *
 * Usage:
 *	err = msnap_op_begin(pool, MSNAP_OP_BLOCKS);
 *	if (!err)
 *		err = msnap_op_end(pool, MSNAP_GUARD(do_it(pool, ...)));
 */
#ifndef MSNAP_COW_TXN_H
#define MSNAP_COW_TXN_H

#include "fault.h"
#include "pool.h"

/* Blocks that an ordinary operation may need for nodes: paths in three trees. */
#define MSNAP_OP_BLOCKS 64u
/* Flag: the operation gives space back and may use the reserve. */
#define MSNAP_OP_RESERVE 0x80000000u

/*
 * Wait for the lock and begin.  @need: blocks it may take, or'ed with flags.  When
 * they are not free but blocks are pending, commits first.  -EROFS, -ENOSPC: not
 * begun.
 */
int msnap_op_begin(struct msnap_pool *pool, unsigned need);
/* End it: keep everything when @err >= 0, else undo everything.  Returns @err, or
 * -ENOMEM and has undone everything. */
long msnap_op_end(struct msnap_pool *pool, long err);

/* The rest is for use inside an operation. */

/* Make a node.  Its blk and gen are set, the rest is the caller's. */
int msnap_op_new_node(struct msnap_pool *pool, uint64_t *blk);
/* A node of the running generation is about to change in place. */
int msnap_op_touch(struct msnap_pool *pool, uint64_t blk);
/* References to blocks, taken and given back (see space.h). */
int msnap_op_get(struct msnap_pool *pool, uint64_t blk, uint32_t nr);
int msnap_op_put(struct msnap_pool *pool, uint64_t blk, uint32_t nr);
/* Data in these blocks must be durable with the next commit. */
int msnap_op_wrote(struct msnap_pool *pool, uint64_t blk, uint64_t nr);
/*
 * From here on the end of the operation cannot fail any more, so that what undo does
 * not cover may be stored: data of this generation, in place.
 */
int msnap_op_prepare(struct msnap_pool *pool);
/* Blocks from msnap_data_alloc() now belong to the operation: when it is undone
 * they are free again.  On failure they are still the caller's. */
int msnap_op_adopt(struct msnap_pool *pool, uint64_t blk, uint32_t nr);
/* Take blocks for data and adopt them. */
int msnap_op_data_alloc(struct msnap_pool *pool,
			const struct msnap_space_want *want, uint64_t *blk,
			uint32_t *nr);

/*
 * Outside of operations: take blocks for data, the reserve excepted; commits when
 * that frees some.  They are the caller's: adopted by an operation or given back by
 * msnap_data_unalloc().
 */
int msnap_data_alloc(struct msnap_pool *pool, const struct msnap_space_want *want,
		     uint64_t *blk, uint32_t *nr);
/* The same for blocks that msnap_mem_share() will give their space. */
int msnap_data_alloc_shared(struct msnap_pool *pool,
			    const struct msnap_space_want *want, uint64_t *blk,
			    uint32_t *nr);
void msnap_data_unalloc(struct msnap_pool *pool, uint64_t blk, uint32_t nr);

/*
 * For those who only look: the int expression @call with the lock held for reading.
 * Memory that cannot be read is -EIO, as in MSNAP_GUARD(), whose rules hold.
 */
#define MSNAP_LOOK(pool, call)                            \
	({                                                \
		int looked_;                              \
		pthread_rwlock_rdlock(&(pool)->lock);     \
		looked_ = MSNAP_GUARD(call);              \
		pthread_rwlock_unlock(&(pool)->lock);     \
		looked_;                                  \
	})

/* Verified bits. */
bool msnap_ok_test(_Atomic(_Atomic uint64_t *) *map, uint64_t blk);
/* Best effort: without memory the bit stays clear. */
void msnap_ok_set(_Atomic(_Atomic uint64_t *) *map, uint64_t blk, uint64_t nr);
void msnap_ok_clear(_Atomic(_Atomic uint64_t *) *map, uint64_t blk, uint64_t nr);

#endif
