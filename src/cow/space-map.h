/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * space-map.h - the inside of the space map: for space*.c and their test only.
 *
 * What it is: regions of runs (space-region.c), how their counts change and how that
 * is undone (space-change.c), the tree over them in which free blocks are found
 * (space-tree.c), and which of these are taken (space-place.c).  space.c is the
 * interface of space.h over them.
 *
 * Locking: everything here is called with the map's lock held, but for
 * msnap_space_lock_and_undo(), and while the map is made or freed.
 */
#ifndef MSNAP_COW_SPACE_MAP_H
#define MSNAP_COW_SPACE_MAP_H

#include <assert.h>
#include <pthread.h>
#include <stddef.h>

#include "space.h"

#define REGION_SHIFT 13
#define REGION_BLKS (1u << REGION_SHIFT)
#define CHUNK MSNAP_SPACE_CHUNK

#define RUNS_INLINE 3
#define RUNS_MAX 1024  /* more: flat; four times the memory of this array */
#define RUNS_MARK 128  /* the same while marking, where inserts come unsorted */
#define RUNS_FEW 16    /* cheap enough to be scanned anew after any change */
#define CAP_FLAT UINT16_MAX

#ifndef SPACE_EPOCH
#define SPACE_EPOCH (1u << 20) /* changes that an undo may reach back */
#endif
#define SWEEP_EVERY 16 /* changes per region looked at by sweep() */

#define FAN_SHIFT 3
#define FAN (1u << FAN_SHIFT)
#define MAX_LEVELS 10 /* 2^38 blocks need nine above the regions */
#define NR_GROWING 8

#define NONE UINT64_MAX

struct run {
	uint32_t count;
	uint16_t start; /* ends where the next begins */
	uint16_t unused;
};

struct region {
	union {
		struct run inl[RUNS_INLINE]; /* cap == RUNS_INLINE */
		struct run *run;
		uint32_t *flat; /* cap == CAP_FLAT */
	};
	uint16_t nr_runs; /* 0: never touched, wholly free */
	uint16_t cap;
	uint16_t debt[2]; /* of this epoch and the one before */
	uint16_t epoch;
	/* What the tree wants to know, unless stale.  Loose: longest and frag may
	 * be too large. */
	uint16_t head;
	uint16_t tail;
	uint16_t longest;
	uint16_t chunks; /* bit per wholly free chunk */
	uint16_t frag : 10;
	uint16_t stale : 1;
	uint16_t loose : 1;
	uint16_t queued : 1;
	uint32_t next; /* in the sweep's queue: index + 1 */
};
static_assert(sizeof(struct region) == 48, "regions are many");
static_assert(REGION_BLKS / CHUNK == 16, "chunks of a region fit its bits");

/* Of a stretch of blocks; lengths saturate. */
struct node {
	uint32_t head;	  /* free blocks at its start */
	uint32_t tail;	  /* and at its end */
	uint32_t longest; /* longest free run in it */
	uint16_t frag;	  /* longest free piece in a partly used chunk */
	bool chunk;	  /* has a wholly free chunk */
	bool stale;	  /* then all above it are, too */
};

/* A small allocation goes to [next, end), which lies in one chunk. */
struct cursor {
	uint64_t next;
	uint64_t end;
};

struct msnap_space {
	pthread_mutex_t lock; /* guards all below */
	uint64_t nr_blocks;
	uint64_t nr_regions;
	struct region *region;
	struct node *level[MAX_LEVELS]; /* level[0]: parents of regions */
	uint64_t level_nr[MAX_LEVELS];
	unsigned top; /* level[top] is one node */

	uint64_t nr_free;
	uint64_t nr_pending;
	uint64_t nr_shared;
	uint64_t nr_runs;
	uint64_t memory;

	uint64_t nr_changes; /* its quotient by SPACE_EPOCH is the epoch */
	uint32_t queue_head; /* regions with memory of their own: index + 1 */
	uint32_t queue_tail;

	struct cursor cursor[2]; /* by enum msnap_space_use */
	uint64_t big;		 /* where to look for a wholly free chunk */
	uint64_t any;		 /* where to look for what found no chunk */
	uint64_t growing[NR_GROWING]; /* chunks where files grew last */
	unsigned growing_at;

	unsigned long nr_allocs, fail_at; /* for tests */
};

/* The part of a range that lies in one region. */
struct part {
	struct region *reg;
	uint64_t idx;
	unsigned from, to; /* in the region */
	unsigned size;	   /* of the region */
};

enum change {
	CHANGE_INC,	/* free and pending: 1 */
	CHANGE_DEC,	/* 1: pending */
	CHANGE_UNALLOC, /* 1: free */
	CHANGE_RELEASE, /* pending: free */
	CHANGE_SET,
};

/* How to change a range. */
struct how {
	enum change change;
	uint32_t value;	     /* for CHANGE_SET */
	bool undo;	     /* room comes out of the debt */
	bool widen;	     /* undo without memory: do too much, not too little */
	unsigned runs_limit; /* more: flat */
};

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- space-region.c: one region, and ranges of blocks -------------------- */

static inline bool is_flat(const struct region *reg)
{
	return reg->cap == CAP_FLAT;
}

static inline bool is_inline(const struct region *reg)
{
	return reg->cap <= RUNS_INLINE;
}

static inline struct run *runs_of(struct region *reg)
{
	return is_inline(reg) ? reg->inl : reg->run;
}

static inline unsigned debt_of(const struct region *reg)
{
	return (unsigned)reg->debt[0] + reg->debt[1];
}

static inline unsigned region_size(const struct msnap_space *space, uint64_t idx)
{
	uint64_t left = space->nr_blocks - (idx << REGION_SHIFT);

	return left < REGION_BLKS ? (unsigned)left : REGION_BLKS;
}

static inline bool in_range(const struct msnap_space *space, uint64_t blk, uint64_t nr)
{
	return blk <= space->nr_blocks && nr <= space->nr_blocks - blk;
}

/* The first part of [blk, end); false when it is empty. */
static inline bool part_of(struct msnap_space *space, uint64_t blk, uint64_t end,
			   struct part *part)
{
	uint64_t base;

	if (blk >= end)
		return false;
	part->idx = blk >> REGION_SHIFT;
	part->reg = &space->region[part->idx];
	part->size = region_size(space, part->idx);
	base = part->idx << REGION_SHIFT;
	part->from = (unsigned)(blk - base);
	part->to = end - base < part->size ? (unsigned)(end - base) : part->size;
	return true;
}

static inline uint64_t part_end(const struct part *part)
{
	return (part->idx << REGION_SHIFT) + part->to;
}

#define for_each_part(space, part, at, blk, end)                               \
	for ((at) = (blk); part_of(space, at, end, part); (at) = part_end(part))

/* Index of the run that holds @pos. */
static inline unsigned find_run(struct region *reg, unsigned pos)
{
	const struct run *run = runs_of(reg);
	unsigned base = 0, nr = reg->nr_runs;

	while (nr > 1) {
		unsigned half = nr / 2;

		base = run[base + half].start <= pos ? base + half : base;
		nr -= half;
	}
	return base;
}

static inline unsigned run_end(struct region *reg, unsigned i, unsigned size)
{
	return i + 1u < reg->nr_runs ? runs_of(reg)[i + 1].start : size;
}

/* Memory, which the map counts as its own.  NULL: there is none. */
void *msnap_space_mem_get(struct msnap_space *space, size_t size);
/* Give back what the regions have. */
void msnap_regions_free(struct msnap_space *space);
/* Make it flat.  -ENOMEM, here and below: the region is as it was. */
int msnap_region_to_flat(struct msnap_space *space, struct region *reg);
/* Make it an array with room for @cap runs. */
int msnap_region_to_runs(struct msnap_space *space, struct region *reg, unsigned cap,
			 unsigned size);
/* Forget the debt of epochs before the last. */
void msnap_region_age(struct msnap_space *space, struct region *reg);
/* The map is about to change: now and then, look at a region for memory to spare. */
void msnap_space_count_change(struct msnap_space *space);

/* Blocks of [blk, end) that have the count of the first, which is stored. */
uint64_t msnap_space_equal_from(struct msnap_space *space, uint64_t blk, uint64_t end,
				uint32_t *count);
uint32_t msnap_space_count_of(struct msnap_space *space, uint64_t blk);
/* Free blocks from @blk on, at most @nr. */
uint32_t msnap_space_free_from(struct msnap_space *space, uint64_t blk, uint32_t nr);

/* The free runs of a region. */
struct scan {
	struct region *reg;
	unsigned size;
	unsigned pos;
	unsigned enough; /* a longer free run may be reported in pieces */
	unsigned i; /* run that holds pos */
	unsigned start, end; /* what msnap_scan_next() found */
};

void msnap_scan_begin(struct msnap_space *space, struct scan *scan, uint64_t idx,
		      unsigned pos, unsigned enough);
/* The next free run at or behind pos; one that holds pos counts from there. */
bool msnap_scan_next(struct scan *scan);

/* ---- space-change.c ------------------------------------------------------- */

/* Take the room that a change of the part needs, without changing counts. */
int msnap_space_reserve_part(struct msnap_space *space, const struct part *part,
			     unsigned limit);
/* The same for a range. */
int msnap_space_reserve(struct msnap_space *space, uint64_t blk, uint64_t nr,
			unsigned limit);
/* Needs the room that msnap_space_reserve() or the debt gives; then it cannot fail. */
void msnap_space_change_part(struct msnap_space *space, const struct part *part,
			     const struct how *how);
/* The same for a range. */
void msnap_space_change(struct msnap_space *space, uint64_t blk, uint64_t nr,
			const struct how *how);
/* All of it, or an error and nothing. */
int msnap_space_reserve_and_change(struct msnap_space *space, uint64_t blk, uint64_t nr,
				   const struct how *how);
/* Revert an earlier change.  space-change.c says why that cannot fail. */
void msnap_space_lock_and_undo(struct msnap_space *space, uint64_t blk, uint32_t nr,
			       const struct how *how);

/* ---- space-tree.c --------------------------------------------------------- */

/* Of a map whose blocks are all free.  -ENOMEM: what is there is the map's to free. */
int msnap_space_build_tree(struct msnap_space *space);
/* The region's numbers, when it is touched first and all of it is free. */
void msnap_region_note_all_free(struct region *reg, unsigned size);
/* The region's number of free blocks changed by @nr. */
void msnap_space_note_change(struct msnap_space *space, const struct part *part,
			     int64_t nr);
/* The region's numbers are not to be believed. */
void msnap_space_mark_stale(struct msnap_space *space, uint64_t idx);
/* The root, after everything below it was brought up to date. */
const struct node *msnap_space_fresh_root(struct msnap_space *space);

/* Searches: the tree must be fresh. */

/*
 * Where @nr blocks are free; when no free run is so long, @nr becomes what the
 * longest has.  Some block is free.  Every turn but the last tightens a number
 * that was loose.
 */
uint64_t msnap_space_find_longest(struct msnap_space *space, uint64_t blk,
				  uint32_t *nr);
/*
 * First region from @from on with a wholly free chunk (@frag 0), or with a free
 * piece of @frag blocks in a partly used chunk.
 */
uint64_t msnap_space_find_region(struct msnap_space *space, unsigned level,
				 uint64_t idx, uint64_t from, unsigned frag);
/* First wholly free chunk at or behind @blk, then from the start. */
uint64_t msnap_space_find_chunk(struct msnap_space *space, uint64_t blk);

/* ---- space-place.c -------------------------------------------------------- */

/* At least one block is free.  @nr: wanted in, found out. */
uint64_t msnap_space_place(struct msnap_space *space,
			   const struct msnap_space_want *want, uint32_t *nr);

#endif
