/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * space.h - how many references every block of the pool has, and which are free.
 *
 * What it is: a map in DRAM from blocks to counts.  0: free.  1..MAX: the number
 * of tree nodes (and roots) that point at the block.  PENDING: nothing points at
 * it any more, but a root that is still whole on media can reach it, so it must
 * not be written yet.  Kept as runs of equal count in regions of 8192 blocks;
 * a region with many runs turns into a flat array.
 *
 * What it does not do: it stores nothing in the pool and knows nothing of
 * generations or trees.  Who takes a reference and who gives it back is said
 * where that is done.
 *
 * Invariants: nr_free + nr_pending + blocks with a count = nr_blocks.
 * Every function either does all it says or nothing.  msnap_space_undo_*()
 * cannot fail when it reverts, in reverse order, what was done since: nothing
 * shrinks its memory in between.
 *
 * Locking: its own mutex; callable from any thread.
 */
#ifndef MSNAP_COW_SPACE_H
#define MSNAP_COW_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#define MSNAP_COUNT_PENDING UINT32_MAX
#define MSNAP_COUNT_MAX (UINT32_MAX - 16)

struct msnap_space;

/* All blocks free.  -ENOMEM. */
int msnap_space_new(uint64_t nr_blocks, struct msnap_space **space);
void msnap_space_free(struct msnap_space *space); /* NULL is fine */

struct msnap_space_stat {
	uint64_t nr_blocks;
	uint64_t nr_free;
	uint64_t nr_pending;
	uint64_t nr_shared; /* count of 2 and more */
	uint64_t nr_runs;
	uint64_t memory; /* bytes of DRAM */
};
void msnap_space_stat(struct msnap_space *space, struct msnap_space_stat *stat);

/* Count of one block; PENDING is possible.  Out of range: 0. */
uint32_t msnap_space_count(struct msnap_space *space, uint64_t blk);

/* How many blocks from @blk on, at least 1, have the same count, up to @end, which is
 * not beyond the pool's. */
uint64_t msnap_space_run(struct msnap_space *space, uint64_t blk, uint64_t end,
			 uint32_t *count);

/* What an allocation is for decides where it goes. */
enum msnap_space_use {
	MSNAP_SPACE_NODE, /* single blocks, packed together */
	MSNAP_SPACE_DATA,
};

struct msnap_space_want {
	enum msnap_space_use use;
	uint32_t nr; /* blocks wanted, at least 1 */
	/* DATA: the block that would continue what is there; 0: none.  Taken when
	 * it is free, as many blocks as are free from there. */
	uint64_t goal;
	/* DATA without a goal, nr >= MSNAP_SPACE_ALIGN_MIN: file block of the
	 * first block.  Where there is a wholly free 2 MiB chunk (512 blocks,
	 * on a multiple of 512) the place taken is congruent to it modulo 512,
	 * in a chunk that other new files leave alone while there are others. */
	uint64_t phase;
	/* DATA: the same for any nr, and before a goal whose congruence is another:
	 * a file that has grown large in small steps. */
	bool align;
};
#define MSNAP_SPACE_CHUNK 512u
#define MSNAP_SPACE_ALIGN_MIN 16u

/*
 * Take free blocks that lie together, at least 1 and at most want->nr; they get
 * the count 1.  Fewer than wanted only when no free run is as long.  Amortised
 * cost: independent of the size of the pool.  -ENOSPC: none is free; -ENOMEM.
 */
int msnap_space_alloc(struct msnap_space *space,
		      const struct msnap_space_want *want, uint64_t *blk,
		      uint32_t *nr);
/* For tests: the nth allocation from now on finds nothing; 0: each does its best.
 * And how many there were since. */
void msnap_space_fail_alloc(struct msnap_space *space, unsigned long nth);
unsigned long msnap_space_allocs(struct msnap_space *space);
/*
 * The same for a place: the first free run of at least @min blocks in [from, end), at
 * most @max of it.  -ENOSPC: there is none; -ENOMEM.
 */
int msnap_space_take(struct msnap_space *space, uint64_t from, uint64_t end,
		     uint32_t min, uint32_t max, uint64_t *blk, uint32_t *nr);
/* How many blocks in [from, end) are free. */
uint64_t msnap_space_free_in(struct msnap_space *space, uint64_t from, uint64_t end);
/* Give back what these two returned and nobody has seen: free at once. */
void msnap_space_undo_alloc(struct msnap_space *space, uint64_t blk, uint32_t nr);

/*
 * One reference more on each block.  -EUCLEAN: one is free or pending, or out
 * of range; -EMLINK: a count is at its maximum; -ENOMEM.
 */
int msnap_space_get(struct msnap_space *space, uint64_t blk, uint32_t nr);
void msnap_space_undo_get(struct msnap_space *space, uint64_t blk, uint32_t nr);

/*
 * One reference less on each block; those that had one become PENDING, and
 * @freed (may be NULL) is called for each run of them, under the map's mutex.
 * -EUCLEAN as above; -ENOMEM.  When @freed returns an error, all is undone.
 */
int msnap_space_put(struct msnap_space *space, uint64_t blk, uint32_t nr,
		    int (*freed)(void *arg, uint64_t blk, uint32_t nr),
		    void *arg);
/* PENDING blocks get the count 1 again, others one more. */
void msnap_space_undo_put(struct msnap_space *space, uint64_t blk, uint32_t nr);

/*
 * PENDING blocks become free.  Blocks that are not pending are left alone.
 * Cannot fail: a region that cannot get memory for it stays as it is, and
 * the blocks are lost until the pool is next opened.
 */
void msnap_space_release(struct msnap_space *space, uint64_t blk, uint32_t nr);

/*
 * For rebuilding: one reference more on each block, free ones included.
 * Returns 1 when the first block had none before, 0 when it had some, or
 * -EUCLEAN (out of range), -ENOMEM.  Fast for random order: regions are flat
 * until msnap_space_settle() packs them.
 */
int msnap_space_mark(struct msnap_space *space, uint64_t blk, uint32_t nr);
void msnap_space_settle(struct msnap_space *space);

/* For loading a saved map: set the count of blocks that are free.  -EUCLEAN when
 * they are not, or out of range. */
int msnap_space_set(struct msnap_space *space, uint64_t blk, uint32_t nr,
		    uint32_t count);

/*
 * Call @cb for every run of equal count that is not free, ascending, runs
 * merged across regions (nr is at most 2^31).  Holds the mutex.  Stops at the first nonzero
 * result and returns it.
 */
int msnap_space_each(struct msnap_space *space,
		     int (*cb)(void *arg, uint64_t blk, uint32_t nr,
			       uint32_t count),
		     void *arg);

#endif
