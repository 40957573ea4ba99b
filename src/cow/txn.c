/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "txn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "alloc.h"
#include "commit.h"
#include "trim.h"

enum delta_kind { DELTA_GET, DELTA_PUT, DELTA_ALLOC };

struct msnap_delta {
	uint64_t blk;
	uint32_t nr;
	uint32_t kind;
};

struct msnap_image {
	uint64_t blk;
	void *copy; /* 4 KiB */
};

#define MAX_SPARE 64

/* ---- the verified bits -------------------------------------------------- */

bool msnap_ok_test(_Atomic(_Atomic uint64_t *) *map, uint64_t blk)
{
	_Atomic uint64_t *chunk = map[blk / MSNAP_VERIFIED_CHUNK];
	uint64_t bit = blk % MSNAP_VERIFIED_CHUNK;

	return chunk && (atomic_load_explicit(&chunk[bit / 64],
					      memory_order_acquire) >>
			 (bit % 64) & 1);
}

static _Atomic uint64_t *ok_chunk(_Atomic(_Atomic uint64_t *) *map, uint64_t i)
{
	_Atomic uint64_t *chunk = map[i], *expect = NULL;

	if (chunk)
		return chunk;
	chunk = msnap_calloc(MSNAP_VERIFIED_CHUNK / 64, sizeof(*chunk));
	if (chunk && !atomic_compare_exchange_strong(&map[i], &expect, chunk)) {
		free((void *)chunk);
		chunk = expect;
	}
	return chunk;
}

void msnap_ok_set(_Atomic(_Atomic uint64_t *) *map, uint64_t blk, uint64_t nr)
{
	for (; nr; blk++, nr--) {
		_Atomic uint64_t *chunk = ok_chunk(map, blk / MSNAP_VERIFIED_CHUNK);
		uint64_t bit = blk % MSNAP_VERIFIED_CHUNK;

		if (chunk)
			atomic_fetch_or_explicit(&chunk[bit / 64],
						 1ull << (bit % 64),
						 memory_order_release);
	}
}

void msnap_ok_clear(_Atomic(_Atomic uint64_t *) *map, uint64_t blk, uint64_t nr)
{
	for (; nr; blk++, nr--) {
		_Atomic uint64_t *chunk = map[blk / MSNAP_VERIFIED_CHUNK];
		uint64_t bit = blk % MSNAP_VERIFIED_CHUNK;

		if (chunk)
			atomic_fetch_and_explicit(&chunk[bit / 64],
						  ~(1ull << (bit % 64)),
						  memory_order_release);
	}
}

/* ---- begin and end ------------------------------------------------------ */

/* Are there @nr free blocks beyond @keep? */
static bool room_for(struct msnap_pool *pool, uint64_t nr, uint64_t keep)
{
	struct msnap_space_stat stat;

	msnap_space_stat(pool->space, &stat);
	return stat.nr_free >= nr + keep;
}

static bool has_room(struct msnap_pool *pool, unsigned need)
{
	return room_for(pool, need & ~MSNAP_OP_RESERVE,
			need & MSNAP_OP_RESERVE ? 0 : pool->nr_reserve);
}

static void begin(struct msnap_pool *pool, unsigned need)
{
	struct msnap_op *op = &pool->op;

	op->id++;
	op->active = true;
	op->use_reserve = need & MSNAP_OP_RESERVE;
	op->ns = pool->ns.root;
	op->catalog = pool->catalog.root;
	op->next_ino = pool->next_ino;
	op->next_snap = pool->next_snap;
	op->nr_inodes = pool->nr_inodes;
	op->nr_snaps = pool->nr_snaps;
}

int msnap_op_begin(struct msnap_pool *pool, unsigned need)
{
	int err;

	if (pool->read_only)
		return -EROFS;
	if (!has_room(pool, need)) {
		err = msnap_commit_reclaim(pool);
		if (err)
			return err;
		if (!has_room(pool, need))
			return -ENOSPC;
	}
	pthread_rwlock_wrlock(&pool->lock);
	if (pool->read_only) {
		pthread_rwlock_unlock(&pool->lock);
		return -EROFS;
	}
	begin(pool, need);
	return 0;
}

static void *spare_get(struct msnap_pool *pool)
{
	if (pool->nr_spare)
		return pool->spare[--pool->nr_spare];
	return msnap_malloc(MSNAP_BLOCK_SIZE);
}

static void spare_put(struct msnap_pool *pool, void *copy)
{
	if (pool->nr_spare < MAX_SPARE)
		pool->spare[pool->nr_spare++] = copy;
	else
		free(copy);
}

static void undo_delta(struct msnap_pool *pool, const struct msnap_delta *d)
{
	switch ((enum delta_kind)d->kind) {
	case DELTA_GET:
		msnap_space_undo_get(pool->space, d->blk, d->nr);
		break;
	case DELTA_PUT:
		msnap_space_undo_put(pool->space, d->blk, d->nr);
		break;
	case DELTA_ALLOC:
		msnap_space_undo_alloc(pool->space, d->blk, d->nr);
		break;
	}
}

static int restore_images(struct msnap_pool *pool)
{
	struct msnap_op *op = &pool->op;
	size_t i;

	for (i = op->nr_image; i > 0; i--)
		memcpy(msnap_blk_ptr(pool, op->image[i - 1].blk),
		       op->image[i - 1].copy, MSNAP_BLOCK_SIZE);
	return 0;
}

/*
 * A node that cannot be stored to: what the running generation has is not known, and no
 * commit may have it.  The last one is whole.
 */
static void cannot_undo(struct msnap_pool *pool)
{
	pool->commit_failed = true;
	pool->read_only = 1;
	msnap_log(pool, LOG_CRIT, "an operation cannot be undone, as its memory cannot be "
		  "written; read-only from now on, what was done since the last commit "
		  "is not durable");
}

static void undo(struct msnap_pool *pool)
{
	struct msnap_op *op = &pool->op;
	size_t i;

	if (MSNAP_GUARD(restore_images(pool)))
		cannot_undo(pool);
	for (i = op->nr_delta; i > 0; i--)
		undo_delta(pool, &op->delta[i - 1]);
	for (i = 0; i < op->nodes.nr; i++)
		msnap_ok_clear(pool->node_ok, op->nodes.run[i].blk,
			       op->nodes.run[i].nr);
	pool->ns.root = op->ns;
	pool->catalog.root = op->catalog;
	pool->next_ino = op->next_ino;
	pool->next_snap = op->next_snap;
	pool->nr_inodes = op->nr_inodes;
	pool->nr_snaps = op->nr_snaps;
	op->nodes.nr = op->data.nr = op->freed.nr = 0;
}

/* Room for what keep() moves, so that it cannot fail. */
int msnap_op_prepare(struct msnap_pool *pool)
{
	struct msnap_op *op = &pool->op;
	int err;

	err = msnap_runs_reserve(&pool->txn.nodes, op->nodes.nr);
	if (!err)
		err = msnap_runs_reserve(&pool->txn.data, op->data.nr);
	if (!err)
		err = msnap_runs_reserve(&pool->txn.freed, op->freed.nr);
	return err;
}

static void keep(struct msnap_pool *pool)
{
	struct msnap_op *op = &pool->op;

	if (op->nr_delta || op->nr_image || op->data.nr)
		pool->dirty = true;
	msnap_runs_move(&pool->txn.nodes, &op->nodes);
	msnap_runs_move(&pool->txn.data, &op->data);
	msnap_runs_move(&pool->txn.freed, &op->freed);
}

long msnap_op_end(struct msnap_pool *pool, long err)
{
	struct msnap_op *op = &pool->op;
	size_t i;

	if (err >= 0) {
		int nomem = msnap_op_prepare(pool);

		if (nomem)
			err = nomem;
	}
	if (err >= 0)
		keep(pool);
	else
		undo(pool);
	for (i = 0; i < op->nr_image; i++)
		spare_put(pool, op->image[i].copy);
	op->nr_image = op->nr_delta = op->nr_touched = 0;
	op->active = false;
	pthread_rwlock_unlock(&pool->lock);
	return err;
}

/* ---- inside ------------------------------------------------------------- */

static size_t touched_slot(struct msnap_op *op, uint64_t blk)
{
	size_t mask = op->cap_touched - 1;
	size_t i = (blk * 0x9e3779b97f4a7c15ull >> 32) & mask;

	while (op->touched[i].id == op->id && op->touched[i].blk != blk)
		i = (i + 1) & mask;
	return i;
}

static bool is_touched(struct msnap_op *op, uint64_t blk)
{
	return op->nr_touched &&
	       op->touched[touched_slot(op, blk)].id == op->id;
}

/* At most half full, so that probing ends. */
static int touched_reserve(struct msnap_op *op)
{
	size_t old_cap = op->cap_touched, cap = old_cap ? old_cap * 2 : 256, i;
	__typeof__(op->touched) old = op->touched, new;

	if (2 * (op->nr_touched + 1) <= old_cap)
		return 0;
	new = msnap_calloc(cap, sizeof(*new));
	if (!new)
		return -ENOMEM;
	op->touched = new;
	op->cap_touched = cap;
	for (i = 0; i < old_cap; i++)
		if (old[i].id == op->id)
			new[touched_slot(op, old[i].blk)] = old[i];
	free(old);
	return 0;
}

static void touched_add(struct msnap_op *op, uint64_t blk)
{
	size_t i = touched_slot(op, blk);

	op->touched[i].blk = blk;
	op->touched[i].id = op->id;
	op->nr_touched++;
}

static int delta_reserve(struct msnap_op *op)
{
	size_t cap = op->cap_delta ? op->cap_delta * 2 : 256;
	struct msnap_delta *delta;

	if (op->nr_delta < op->cap_delta)
		return 0;
	delta = msnap_realloc(op->delta, cap * sizeof(*delta));
	if (!delta)
		return -ENOMEM;
	op->delta = delta;
	op->cap_delta = cap;
	return 0;
}

static void delta_add(struct msnap_op *op, enum delta_kind kind, uint64_t blk,
		      uint32_t nr)
{
	op->delta[op->nr_delta++] = (struct msnap_delta){ blk, nr, kind };
}

static int image_reserve(struct msnap_op *op)
{
	size_t cap = op->cap_image ? op->cap_image * 2 : 64;
	struct msnap_image *image;

	if (op->nr_image < op->cap_image)
		return 0;
	image = msnap_realloc(op->image, cap * sizeof(*image));
	if (!image)
		return -ENOMEM;
	op->image = image;
	op->cap_image = cap;
	return 0;
}

int msnap_op_touch(struct msnap_pool *pool, uint64_t blk)
{
	struct msnap_op *op = &pool->op;
	void *copy;
	int err;

	if (is_touched(op, blk))
		return 0;
	err = touched_reserve(op);
	if (!err)
		err = image_reserve(op);
	if (err)
		return err;
	copy = spare_get(pool);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, msnap_blk_ptr(pool, blk), MSNAP_BLOCK_SIZE);
	op->image[op->nr_image++] = (struct msnap_image){ blk, copy };
	touched_add(op, blk);
	return 0;
}

/* Blocks that operations which give space back find when the filesystem below is full. */
#define KEEP_WHOLE 256

/* Are there so many free blocks that have space below? */
static bool has_whole(struct msnap_pool *pool, uint64_t nr)
{
	uint64_t chunk = 0, first, sum = 0;

	while (sum < nr && !msnap_mem_next_whole(pool->mem, chunk, &chunk)) {
		first = chunk++ * MSNAP_SPACE_CHUNK;
		sum += msnap_space_free_in(pool->space, first,
					   first + MSNAP_SPACE_CHUNK);
	}
	return sum >= nr;
}

/*
 * The filesystem below is full, and blocks that are free have no space there: others
 * have.  At most as many as wanted, from one chunk.  -ENOSPC.
 */
static int alloc_whole(struct msnap_pool *pool, uint32_t want, uint64_t *blk,
		       uint32_t *nr)
{
	uint64_t chunk = 0, first;
	int err = -ENOSPC;

	while (err == -ENOSPC && !msnap_mem_next_whole(pool->mem, chunk, &chunk)) {
		first = chunk++ * MSNAP_SPACE_CHUNK;
		err = msnap_space_take(pool->space, first, first + MSNAP_SPACE_CHUNK,
				       1, want, blk, nr);
	}
	return err;
}

static int alloc_and_reserve(struct msnap_pool *pool,
			     const struct msnap_space_want *want, uint64_t *blk,
			     uint32_t *nr)
{
	int err = msnap_space_alloc(pool->space, want, blk, nr);

	if (err)
		return err;
	err = msnap_mem_reserve(pool->mem, *blk << MSNAP_BLOCK_SHIFT,
				(uint64_t)*nr << MSNAP_BLOCK_SHIFT);
	if (err)
		msnap_space_undo_alloc(pool->space, *blk, *nr);
	return err;
}

/* Blocks that can be stored to.  @last: the last ones, too. */
static int alloc_reserved(struct msnap_pool *pool, const struct msnap_space_want *want,
			  bool last, uint64_t *blk, uint32_t *nr)
{
	int err;

	if (!atomic_load(&pool->mem->full) ||
	    msnap_mem_room(pool->mem) >= MSNAP_MEM_SOME) {
		err = alloc_and_reserve(pool, want, blk, nr);
		if (err != -ENOSPC || !atomic_load(&pool->mem->full))
			return err;
		msnap_trim_survey(pool);
	}
	if (!last && !has_whole(pool, KEEP_WHOLE + want->nr))
		return -ENOSPC;
	err = alloc_whole(pool, want->nr, blk, nr);
	if (err == -ENOSPC && last && msnap_trim_give(pool))
		err = alloc_whole(pool, want->nr, blk, nr);
	return err;
}

/* One block for a node; the reserve only where the operation may. */
static int alloc_node_blk(struct msnap_pool *pool, uint64_t *blk)
{
	static const struct msnap_space_want want = { .use = MSNAP_SPACE_NODE, .nr = 1 };
	uint32_t nr;
	int err;

	if (!room_for(pool, 1, pool->op.use_reserve ? 0 : pool->nr_reserve))
		return -ENOSPC;
	err = alloc_reserved(pool, &want, pool->op.use_reserve, blk, &nr);
	if (err)
		return err;
	/* It is stored to until its commit. */
	err = msnap_mem_hold(pool->mem, *blk << MSNAP_BLOCK_SHIFT);
	/* Without its bit the node would be verified before it has a checksum. */
	if (!err && !ok_chunk(pool->node_ok, *blk / MSNAP_VERIFIED_CHUNK))
		err = -ENOMEM;
	if (err)
		msnap_space_undo_alloc(pool->space, *blk, 1);
	return err;
}

int msnap_op_new_node(struct msnap_pool *pool, uint64_t *blk)
{
	struct msnap_op *op = &pool->op;
	struct msnap_node *node;
	int err;

	err = touched_reserve(op);
	if (!err)
		err = delta_reserve(op);
	if (!err)
		err = msnap_runs_reserve(&op->nodes, 1);
	if (!err)
		err = alloc_node_blk(pool, blk);
	if (err)
		return err;
	delta_add(op, DELTA_ALLOC, *blk, 1);
	touched_add(op, *blk);
	msnap_runs_add(&op->nodes, *blk, 1);
	/* A crash here or later leaves a block that no committed root reaches. */
	node = msnap_blk_ptr(pool, *blk);
	memset(node, 0, MSNAP_NODE_HDR);
	node->magic = put32(MSNAP_NODE_MAGIC);
	node->blk = put64(*blk);
	node->gen = put64(pool->gen);
	msnap_ok_clear(pool->data_ok, *blk, 1);
	msnap_ok_set(pool->node_ok, *blk, 1);
	return 0;
}

int msnap_op_get(struct msnap_pool *pool, uint64_t blk, uint32_t nr)
{
	int err = delta_reserve(&pool->op);

	if (!err)
		err = msnap_space_get(pool->space, blk, nr);
	if (!err)
		delta_add(&pool->op, DELTA_GET, blk, nr);
	return err == -EUCLEAN ? msnap_damaged(pool, "block %llu is free but in use",
					       (unsigned long long)blk) : err;
}

static int note_freed(void *arg, uint64_t blk, uint32_t nr)
{
	return msnap_runs_add(arg, blk, nr);
}

int msnap_op_put(struct msnap_pool *pool, uint64_t blk, uint32_t nr)
{
	struct msnap_op *op = &pool->op;
	int err = delta_reserve(op);

	if (!err)
		err = msnap_space_put(pool->space, blk, nr, note_freed,
				      &op->freed);
	if (!err)
		delta_add(op, DELTA_PUT, blk, nr);
	return err == -EUCLEAN ? msnap_damaged(pool, "block %llu is free but in use",
					       (unsigned long long)blk) : err;
}

int msnap_op_wrote(struct msnap_pool *pool, uint64_t blk, uint64_t nr)
{
	if (pool->mem->copy_is_durable)
		return 0;
	return msnap_runs_add(&pool->op.data, blk, nr);
}

int msnap_op_adopt(struct msnap_pool *pool, uint64_t blk, uint32_t nr)
{
	int err = delta_reserve(&pool->op);

	if (!err)
		delta_add(&pool->op, DELTA_ALLOC, blk, nr);
	return err;
}

static int data_alloc(struct msnap_pool *pool,
		      const struct msnap_space_want *want, uint64_t keep,
		      bool to_share, uint64_t *blk, uint32_t *nr)
{
	int err;

	if (!room_for(pool, want->nr, keep))
		return -ENOSPC;
	if (to_share)
		err = msnap_space_alloc(pool->space, want, blk, nr);
	else
		err = alloc_reserved(pool, want, false, blk, nr);
	if (err)
		return err;
	msnap_ok_clear(pool->node_ok, *blk, *nr);
	msnap_ok_clear(pool->data_ok, *blk, *nr);
	return 0;
}

int msnap_op_data_alloc(struct msnap_pool *pool,
			const struct msnap_space_want *want, uint64_t *blk,
			uint32_t *nr)
{
	int err = delta_reserve(&pool->op);

	if (!err)
		err = data_alloc(pool, want,
				 pool->op.use_reserve ? 0 : pool->nr_reserve, false,
				 blk, nr);
	if (!err)
		delta_add(&pool->op, DELTA_ALLOC, *blk, *nr);
	return err;
}

static int alloc_outside(struct msnap_pool *pool, const struct msnap_space_want *want,
			 bool to_share, uint64_t *blk, uint32_t *nr)
{
	/* And room for the nodes of the operation that maps them. */
	uint64_t keep = pool->nr_reserve + MSNAP_OP_BLOCKS;
	int err = data_alloc(pool, want, keep, to_share, blk, nr);

	if (err != -ENOSPC)
		return err;
	err = msnap_commit_reclaim(pool);
	return err ? err : data_alloc(pool, want, keep, to_share, blk, nr);
}

int msnap_data_alloc(struct msnap_pool *pool, const struct msnap_space_want *want,
		     uint64_t *blk, uint32_t *nr)
{
	return alloc_outside(pool, want, false, blk, nr);
}

int msnap_data_alloc_shared(struct msnap_pool *pool,
			    const struct msnap_space_want *want, uint64_t *blk,
			    uint32_t *nr)
{
	return alloc_outside(pool, want, true, blk, nr);
}

void msnap_data_unalloc(struct msnap_pool *pool, uint64_t blk, uint32_t nr)
{
	msnap_space_undo_alloc(pool->space, blk, nr);
}
