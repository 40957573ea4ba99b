/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * space.c - the map from blocks to counts, and the search for free ones.
 *
 * Counts.  The pool is cut into regions of 8192 blocks.  A region that was never
 * touched is free and is all zeros in memory, so that a large empty pool costs
 * address space only.  The others hold sorted runs of equal count, neighbours
 * always merged: up to three inside the region's own struct, more in an array,
 * and when that would pass RUNS_MAX, a flat array with a count for each block.
 *
 * Why undo cannot fail.  Call a place where the count changes an edge.  Every
 * change of [s,e) maps different counts to different counts, or merges, so it
 * makes new edges at s and e only; and at each of these there is an edge before
 * the change or after it.  So an undo needs room only for edges that existed at
 * some time since the change it reverts and went away later, whoever removed
 * them.  Each region counts the edges that went away (its debt) and keeps
 *
 *	nr_runs + debt <= cap
 *
 * A change takes new room for its two edges before it alters anything, and goes
 * flat or fails with -ENOMEM then; an undo takes its room out of the debt.  Debt
 * is forgotten after one to two epochs of SPACE_EPOCH changes to the map, and
 * memory shrinks to what runs and debt need (sweep(), or settle, which forgets
 * all debt).  An undo that reaches further back than an epoch may have to ask
 * for memory.  When there is none, blocks stay counted once too often and are
 * lost until the pool is next opened; never once too few.
 *
 * Finding free blocks.  A tree with eight children a node stands over the
 * regions.  Each node knows the free blocks at its head and tail, the longest
 * free run, whether it has a wholly free chunk, and the longest free piece in
 * chunks that are partly used.  Changes keep the region's own numbers, of which
 * the two longest may become too large (loose), never too small; they mark the
 * way up as stale, and stop where it is stale already.  A search first brings
 * the tree up to date; where a loose number misled it, the region is scanned
 * anew, which the changes that loosened it pay for.  Searches go on from
 * cursors; most small allocations find their cursor's chunk open and need none.
 *
 * Placement.  Small allocations stay in their cursor's chunk, then go to a
 * partly used one, then open a wholly free one.  They leave alone the chunks
 * where files grew last and the chunk of the other cursor, while there are
 * others.  Large ones take a congruent place in a wholly free chunk, and there
 * being congruent comes before being as long as wanted.
 */
#include "space.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "format.h"

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

/* ---- memory -------------------------------------------------------------- */

static void *mem_get(struct msnap_space *space, size_t size)
{
	void *mem = msnap_malloc(size);

	if (mem)
		space->memory += size;
	return mem;
}

static void mem_put(struct msnap_space *space, void *mem, size_t size)
{
	free(mem);
	space->memory -= size;
}

static bool is_flat(const struct region *reg)
{
	return reg->cap == CAP_FLAT;
}

static bool is_inline(const struct region *reg)
{
	return reg->cap <= RUNS_INLINE;
}

static struct run *runs_of(struct region *reg)
{
	return is_inline(reg) ? reg->inl : reg->run;
}

static size_t mem_size(const struct region *reg)
{
	if (is_inline(reg))
		return 0;
	return is_flat(reg) ? REGION_BLKS * sizeof(*reg->flat) :
			      reg->cap * sizeof(*reg->run);
}

static void enqueue(struct msnap_space *space, struct region *reg)
{
	uint32_t id = (uint32_t)(reg - space->region) + 1;

	reg->queued = 1;
	reg->next = 0;
	if (space->queue_tail)
		space->region[space->queue_tail - 1].next = id;
	else
		space->queue_head = id;
	space->queue_tail = id;
}

static struct region *dequeue(struct msnap_space *space)
{
	struct region *reg;

	if (!space->queue_head)
		return NULL;
	reg = &space->region[space->queue_head - 1];
	space->queue_head = reg->next;
	if (!reg->next)
		space->queue_tail = 0;
	reg->queued = 0;
	return reg;
}

/* Exchange the region's memory for @mem, already filled. */
static void adopt(struct msnap_space *space, struct region *reg, void *mem,
		  unsigned cap)
{
	if (!is_inline(reg))
		mem_put(space, reg->run, mem_size(reg));
	reg->run = mem;
	reg->cap = (uint16_t)cap;
	if (!reg->queued)
		enqueue(space, reg);
}

static int to_flat(struct msnap_space *space, struct region *reg)
{
	uint32_t *flat = mem_get(space, REGION_BLKS * sizeof(*flat));
	struct run *run = runs_of(reg);
	unsigned i, b, end;

	if (!flat)
		return -ENOMEM;
	for (i = 0, b = 0; i < reg->nr_runs; i++) {
		end = i + 1u < reg->nr_runs ? run[i + 1].start : REGION_BLKS;
		while (b < end)
			flat[b++] = run[i].count;
	}
	adopt(space, reg, flat, CAP_FLAT);
	return 0;
}

static void copy_runs(struct region *reg, struct run *to, unsigned size)
{
	unsigned b, nr = 0;

	if (!is_flat(reg)) {
		memcpy(to, runs_of(reg), reg->nr_runs * sizeof(*to));
		return;
	}
	for (b = 0; b < size; b++) {
		if (b && reg->flat[b] == reg->flat[b - 1])
			continue;
		to[nr++] = (struct run){ .count = reg->flat[b],
					 .start = (uint16_t)b };
	}
	assert(nr == reg->nr_runs);
}

/* Make it an array with room for @cap runs. */
static int to_runs(struct msnap_space *space, struct region *reg, unsigned cap,
		   unsigned size)
{
	struct run *run = mem_get(space, cap * sizeof(*run));

	if (!run)
		return -ENOMEM;
	copy_runs(reg, run, size);
	adopt(space, reg, run, cap);
	return 0;
}

static void to_inline(struct msnap_space *space, struct region *reg,
		      unsigned size)
{
	struct run inl[RUNS_INLINE];

	memset(inl, 0, sizeof(inl));
	copy_runs(reg, inl, size);
	mem_put(space, reg->run, mem_size(reg));
	memcpy(reg->inl, inl, sizeof(inl));
	reg->cap = RUNS_INLINE;
}

/* ---- debt ---------------------------------------------------------------- */

static unsigned debt_of(const struct region *reg)
{
	return (unsigned)reg->debt[0] + reg->debt[1];
}

/* Forget the debt of epochs before the last. */
static void age(struct msnap_space *space, struct region *reg)
{
	uint16_t now = (uint16_t)(space->nr_changes / SPACE_EPOCH);
	uint16_t passed = (uint16_t)(now - reg->epoch);

	if (!passed)
		return;
	reg->debt[1] = passed == 1 ? reg->debt[0] : 0;
	reg->debt[0] = 0;
	reg->epoch = now;
}

/* Flat regions collect debt for the day they are packed: let it saturate. */
static void add_debt(struct region *reg, unsigned nr)
{
	unsigned sum = reg->debt[0] + nr;

	reg->debt[0] = sum > UINT16_MAX ? UINT16_MAX : (uint16_t)sum;
}

/* The older first: what is left is then remembered longer than need be. */
static void pay_debt(struct region *reg)
{
	if (reg->debt[1])
		reg->debt[1]--;
	else if (reg->debt[0])
		reg->debt[0]--;
}

static unsigned region_size(const struct msnap_space *space, uint64_t idx)
{
	uint64_t left = space->nr_blocks - (idx << REGION_SHIFT);

	return left < REGION_BLKS ? (unsigned)left : REGION_BLKS;
}

/* Give back memory that runs and debt do not need.  Without memory: not. */
static void shrink(struct msnap_space *space, struct region *reg, bool eager)
{
	unsigned size = region_size(space, (uint64_t)(reg - space->region));
	unsigned need = reg->nr_runs + debt_of(reg);
	unsigned slack = eager ? 0 : need / 4 + 2;
	unsigned limit = is_flat(reg) ? (eager ? RUNS_MAX : RUNS_MAX / 2) :
					(eager ? reg->cap - 1u : reg->cap / 4u);

	if (need <= RUNS_INLINE)
		to_inline(space, reg, size);
	else if (need <= limit)
		(void)to_runs(space, reg, need + slack, size);
}

/* Look at one region with memory of its own, in turn. */
static void sweep(struct msnap_space *space)
{
	struct region *reg = dequeue(space);

	if (!reg)
		return;
	age(space, reg);
	if (!is_inline(reg))
		shrink(space, reg, false);
	if (!is_inline(reg) && !reg->queued)
		enqueue(space, reg);
}

static void count_change(struct msnap_space *space)
{
	if (++space->nr_changes % SWEEP_EVERY == 0)
		sweep(space);
}

/* ---- parts of ranges ----------------------------------------------------- */

static bool in_range(const struct msnap_space *space, uint64_t blk, uint64_t nr)
{
	return blk <= space->nr_blocks && nr <= space->nr_blocks - blk;
}

/* The first part of [blk, end); false when it is empty. */
static bool part_of(struct msnap_space *space, uint64_t blk, uint64_t end,
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

static uint64_t part_end(const struct part *part)
{
	return (part->idx << REGION_SHIFT) + part->to;
}

#define for_each_part(space, part, at, blk, end)                               \
	for ((at) = (blk); part_of(space, at, end, part); (at) = part_end(part))

/* Index of the run that holds @pos. */
static unsigned find_run(struct region *reg, unsigned pos)
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

static unsigned run_end(struct region *reg, unsigned i, unsigned size)
{
	return i + 1u < reg->nr_runs ? runs_of(reg)[i + 1].start : size;
}

/* Count of the part's first block; @to: how far the part goes on with it. */
static uint32_t part_count(const struct part *part, unsigned *to)
{
	struct region *reg = part->reg;
	unsigned b = part->from, i;

	if (!reg->nr_runs) {
		*to = part->to;
		return 0;
	}
	if (is_flat(reg)) {
		while (b < part->to && reg->flat[b] == reg->flat[part->from])
			b++;
		*to = b;
		return reg->flat[part->from];
	}
	i = find_run(reg, b);
	b = run_end(reg, i, part->size);
	*to = b < part->to ? b : part->to;
	return runs_of(reg)[i].count;
}

/* Blocks of [blk, end) that have the count of the first, which is stored. */
static uint64_t equal_from(struct msnap_space *space, uint64_t blk, uint64_t end,
			   uint32_t *count)
{
	struct part part;
	uint64_t at;
	unsigned to;

	for_each_part(space, &part, at, blk, end) {
		uint32_t here = part_count(&part, &to);

		if (at == blk)
			*count = here;
		else if (here != *count)
			break;
		if (to < part.to)
			return at - blk + (to - part.from);
	}
	return at - blk;
}

static uint32_t count_of(struct msnap_space *space, uint64_t blk)
{
	uint32_t count = 0;

	equal_from(space, blk, blk + 1, &count);
	return count;
}

/* ---- free runs of one region --------------------------------------------- */

struct scan {
	struct region *reg;
	unsigned size;
	unsigned pos;
	unsigned enough; /* a longer free run may be reported in pieces */
	unsigned i; /* run that holds pos */
	unsigned start, end; /* what scan_next() found */
};

static void scan_begin(struct msnap_space *space, struct scan *scan,
		       uint64_t idx, unsigned pos, unsigned enough)
{
	memset(scan, 0, sizeof(*scan));
	scan->reg = &space->region[idx];
	scan->size = region_size(space, idx);
	scan->pos = pos;
	scan->enough = enough;
	if (scan->reg->nr_runs && !is_flat(scan->reg) && pos < scan->size)
		scan->i = find_run(scan->reg, pos);
}

static bool scan_next_run(struct scan *scan)
{
	const struct run *run = runs_of(scan->reg);
	unsigned i = scan->i;

	while (i < scan->reg->nr_runs && run[i].count)
		i++;
	scan->i = i + 1;
	if (i == scan->reg->nr_runs)
		return false;
	scan->start = run[i].start > scan->pos ? run[i].start : scan->pos;
	scan->end = run_end(scan->reg, i, scan->size);
	return true;
}

static bool scan_next_flat(struct scan *scan)
{
	const uint32_t *flat = scan->reg->flat;
	unsigned b = scan->pos, past;

	while (b < scan->size && flat[b])
		b++;
	scan->start = b;
	past = scan->size - b < scan->enough ? scan->size : b + scan->enough;
	while (b < past && !flat[b])
		b++;
	scan->end = b;
	return scan->start < b;
}

/* The next free run at or behind pos; one that holds pos counts from there. */
static bool scan_next(struct scan *scan)
{
	bool found;

	if (scan->pos >= scan->size)
		return false;
	if (!scan->reg->nr_runs) {
		scan->start = scan->pos;
		scan->end = scan->size;
		found = true;
	} else if (is_flat(scan->reg)) {
		found = scan_next_flat(scan);
	} else {
		found = scan_next_run(scan);
	}
	scan->pos = found ? scan->end : scan->size;
	return found;
}

/* ---- a region's numbers for the tree ------------------------------------- */

/* A partly used chunk has a free piece of @nr blocks. */
static void note_frag(struct region *reg, unsigned nr)
{
	if (nr > reg->frag)
		reg->frag = nr & (CHUNK - 1);
}

/* There is a free run [start, end), and no block beside it is free. */
static void note_free_run(struct region *reg, unsigned size, unsigned start,
			  unsigned end)
{
	unsigned first = (start + CHUNK - 1) / CHUNK, past = end / CHUNK;

	if (start == 0)
		reg->head = (uint16_t)end;
	if (end == size)
		reg->tail = (uint16_t)(end - start);
	if (end - start > reg->longest)
		reg->longest = (uint16_t)(end - start);
	if (first > past) {
		note_frag(reg, end - start);
		return;
	}
	note_frag(reg, first * CHUNK - start);
	note_frag(reg, end - past * CHUNK);
	reg->chunks |= (uint16_t)((1u << past) - (1u << first));
}

static void clear_numbers(struct region *reg)
{
	reg->head = reg->tail = reg->longest = 0;
	reg->chunks = 0;
	reg->frag = 0;
	reg->stale = reg->loose = 0;
}

static void refresh_region(struct msnap_space *space, uint64_t idx)
{
	struct region *reg = &space->region[idx];
	struct scan scan;

	clear_numbers(reg);
	scan_begin(space, &scan, idx, 0, REGION_BLKS);
	while (scan_next(&scan))
		note_free_run(reg, scan.size, scan.start, scan.end);
}

/* The part was free and is not any more. */
static void note_used(const struct part *part)
{
	struct region *reg = part->reg;
	unsigned c;

	if (part->from < reg->head)
		reg->head = (uint16_t)part->from;
	if (part->to > part->size - reg->tail)
		reg->tail = (uint16_t)(part->size - part->to);
	for (c = part->from / CHUNK; c <= (part->to - 1) / CHUNK; c++) {
		if (!(reg->chunks & 1u << c))
			continue;
		reg->chunks &= (uint16_t)~(1u << c);
		if (part->from > c * CHUNK)
			note_frag(reg, part->from - c * CHUNK);
		if (part->to < (c + 1) * CHUNK)
			note_frag(reg, (c + 1) * CHUNK - part->to);
	}
}

/* Some of the part became free. */
static void note_freed(struct msnap_space *space, const struct part *part)
{
	struct region *reg = part->reg;
	unsigned start = part->from;
	struct scan scan;

	if (is_flat(reg))
		while (start && !reg->flat[start] && !reg->flat[start - 1])
			start--;
	else if (!runs_of(reg)[find_run(reg, start)].count)
		start = runs_of(reg)[find_run(reg, start)].start;
	scan_begin(space, &scan, part->idx, start, REGION_BLKS);
	while (scan.pos < part->to && scan_next(&scan))
		note_free_run(reg, scan.size, scan.start, scan.end);
}

/* Tell the tree that the region's numbers changed. */
static void mark_up(struct msnap_space *space, uint64_t idx)
{
	unsigned l;

	for (l = 0; l <= space->top; l++) {
		struct node *node = &space->level[l][idx >>= FAN_SHIFT];

		if (node->stale)
			return;
		node->stale = true;
	}
}

static void mark_stale(struct msnap_space *space, uint64_t idx)
{
	space->region[idx].stale = 1;
	mark_up(space, idx);
}

/* The region's number of free blocks changed by @nr. */
static void note_change(struct msnap_space *space, const struct part *part,
			int64_t nr)
{
	struct region *reg = part->reg;

	mark_up(space, part->idx);
	if (!is_flat(reg) && reg->nr_runs <= RUNS_FEW)
		reg->stale = 1;
	if (reg->stale)
		return;
	reg->loose = 1;
	if (nr > 0)
		note_freed(space, part);
	else if (part->to - part->from == (uint64_t)-nr)
		note_used(part);
	else
		reg->stale = 1;
}

/* ---- changing counts ----------------------------------------------------- */

static void touch(struct msnap_space *space, const struct part *part)
{
	struct region *reg = part->reg;

	if (!reg->nr_runs) {
		reg->nr_runs = 1;
		reg->cap = RUNS_INLINE;
		clear_numbers(reg);
		note_free_run(reg, part->size, 0, part->size);
	}
	age(space, reg);
}

/* Take the room that a change of the part needs, without changing counts. */
static int reserve_part(struct msnap_space *space, const struct part *part,
			unsigned limit)
{
	struct region *reg = part->reg;
	unsigned need, cap;

	touch(space, part);
	if (is_flat(reg))
		return 0;
	need = reg->nr_runs + debt_of(reg) + (part->from > 0) +
	       (part->to < part->size);
	if (need <= reg->cap)
		return 0;
	if (need > limit)
		return to_flat(space, reg);
	cap = need + need / 2 + 2;
	return to_runs(space, reg, cap < RUNS_MAX ? cap : RUNS_MAX, part->size);
}

static int reserve(struct msnap_space *space, uint64_t blk, uint64_t nr,
		   unsigned limit)
{
	struct part part;
	uint64_t at;
	int err;

	for_each_part(space, &part, at, blk, blk + nr) {
		err = reserve_part(space, &part, limit);
		if (err)
			return err;
	}
	return 0;
}

static uint32_t changed(const struct how *how, uint32_t count)
{
	switch (how->change) {
	case CHANGE_INC:
		if (count == MSNAP_COUNT_PENDING)
			return 1;
		return count < MSNAP_COUNT_MAX ? count + 1 : count;
	case CHANGE_DEC:
		return count == 1 ? MSNAP_COUNT_PENDING : count - 1;
	case CHANGE_UNALLOC:
		return count == 1 ? 0 : count;
	case CHANGE_RELEASE:
		return count == MSNAP_COUNT_PENDING ? 0 : count;
	case CHANGE_SET:
		break;
	}
	return how->value;
}

static void account(struct msnap_space *space, uint32_t count, int64_t nr)
{
	if (count == 0)
		space->nr_free += (uint64_t)nr;
	else if (count == MSNAP_COUNT_PENDING)
		space->nr_pending += (uint64_t)nr;
	else if (count > 1)
		space->nr_shared += (uint64_t)nr;
}

static uint32_t change_count(struct msnap_space *space, const struct how *how,
			     uint32_t count, unsigned nr)
{
	uint32_t now = changed(how, count);

	account(space, count, -(int64_t)nr);
	account(space, now, nr);
	return now;
}

/* Make a run begin at @pos; returns its index. */
static unsigned split(struct region *reg, unsigned pos, unsigned size, bool undo)
{
	struct run *run = runs_of(reg);
	unsigned i;

	if (pos == size)
		return reg->nr_runs;
	i = find_run(reg, pos);
	if (run[i].start == pos)
		return i;
	assert(reg->nr_runs < reg->cap);
	i++;
	memmove(&run[i + 1], &run[i], (reg->nr_runs - i) * sizeof(*run));
	run[i] = run[i - 1];
	run[i].start = (uint16_t)pos;
	reg->nr_runs++;
	if (undo)
		pay_debt(reg);
	return i;
}

/* Merge equal neighbours among the runs from - 1 .. to. */
static void join(struct region *reg, unsigned from, unsigned to)
{
	struct run *run = runs_of(reg);
	unsigned out = from ? from : 1, i;

	for (i = out; i <= to && i < reg->nr_runs; i++)
		if (run[i].count != run[out - 1].count)
			run[out++] = run[i];
	if (out >= i)
		return;
	memmove(&run[out], &run[i], (reg->nr_runs - i) * sizeof(*run));
	reg->nr_runs = (uint16_t)(reg->nr_runs - (i - out));
	add_debt(reg, i - out);
}

static void change_runs(struct msnap_space *space, const struct part *part,
			const struct how *how)
{
	struct region *reg = part->reg;
	unsigned first = split(reg, part->from, part->size, how->undo);
	unsigned past = split(reg, part->to, part->size, how->undo);
	struct run *run = runs_of(reg);
	unsigned i;

	for (i = first; i < past; i++)
		run[i].count = change_count(space, how, run[i].count,
					    run_end(reg, i, part->size) -
						    run[i].start);
	join(reg, first, past);
}

static unsigned edge_at(const struct part *part, unsigned pos)
{
	const uint32_t *flat = part->reg->flat;

	return pos && pos < part->size && flat[pos - 1] != flat[pos];
}

static void change_flat(struct msnap_space *space, const struct part *part,
			const struct how *how)
{
	struct region *reg = part->reg;
	unsigned was_from = edge_at(part, part->from);
	unsigned was_to = edge_at(part, part->to);
	unsigned b = part->from, gone = 0, come = 0;
	uint32_t last = 0;

	while (b < part->to) {
		uint32_t count = reg->flat[b], now;
		unsigned end = b + 1;

		while (end < part->to && reg->flat[end] == count)
			end++;
		now = change_count(space, how, count, end - b);
		gone += b > part->from && now == last;
		while (b < end)
			reg->flat[b++] = now;
		last = now;
	}
	gone += was_from > edge_at(part, part->from);
	gone += was_to > edge_at(part, part->to);
	come += was_from < edge_at(part, part->from);
	come += was_to < edge_at(part, part->to);
	reg->nr_runs = (uint16_t)(reg->nr_runs + come - gone);
	add_debt(reg, gone);
}

/* Needs the room that reserve() or the debt gives; then it cannot fail. */
static void change_part(struct msnap_space *space, const struct part *part,
			const struct how *how)
{
	struct region *reg = part->reg;
	uint64_t nr_free = space->nr_free;

	space->nr_runs -= reg->nr_runs ? reg->nr_runs : 1;
	touch(space, part);
	if (is_flat(reg))
		change_flat(space, part, how);
	else
		change_runs(space, part, how);
	space->nr_runs += reg->nr_runs;
	if (space->nr_free != nr_free)
		note_change(space, part, (int64_t)(space->nr_free - nr_free));
}

static void change(struct msnap_space *space, uint64_t blk, uint64_t nr,
		   const struct how *how)
{
	struct part part;
	uint64_t at;

	for_each_part(space, &part, at, blk, blk + nr)
		change_part(space, &part, how);
}

/* All of it, or an error and nothing. */
static int reserve_and_change(struct msnap_space *space, uint64_t blk,
			      uint64_t nr, const struct how *how)
{
	int err = reserve(space, blk, nr, how->runs_limit);

	if (!err)
		change(space, blk, nr, how);
	return err;
}

/* ---- undo ---------------------------------------------------------------- */

static bool run_begins(struct region *reg, unsigned pos, unsigned size)
{
	return pos == size || runs_of(reg)[find_run(reg, pos)].start == pos;
}

/* True, without asking for memory, for all that is no older than an epoch. */
static bool undo_has_room(struct msnap_space *space, const struct part *part)
{
	struct region *reg = part->reg;
	unsigned missing;

	if (is_flat(reg))
		return true;
	missing = !run_begins(reg, part->from, part->size) +
		  !run_begins(reg, part->to, part->size);
	if (reg->nr_runs + missing <= reg->cap)
		return true;
	return !reserve_part(space, part, RUNS_MAX);
}

/* Move the part's ends to where runs begin already: outward or inward. */
static void round_part(struct part *part, bool widen)
{
	struct region *reg = part->reg;
	const struct run *run = runs_of(reg);
	unsigned i = find_run(reg, part->from);

	if (run[i].start != part->from)
		part->from = widen ? run[i].start : run_end(reg, i, part->size);
	if (run_begins(reg, part->to, part->size))
		return;
	i = find_run(reg, part->to);
	part->to = widen ? run_end(reg, i, part->size) : run[i].start;
}

static void undo(struct msnap_space *space, uint64_t blk, uint64_t nr,
		 const struct how *how)
{
	struct part part, here;
	uint64_t at;

	assert(in_range(space, blk, nr));
	for_each_part(space, &part, at, blk, blk + nr) {
		here = part;
		touch(space, &here);
		if (!undo_has_room(space, &here))
			round_part(&here, how->widen);
		if (here.from < here.to)
			change_part(space, &here, how);
	}
}

static void lock_and_undo(struct msnap_space *space, uint64_t blk, uint32_t nr,
			  const struct how *how)
{
	pthread_mutex_lock(&space->lock);
	undo(space, blk, nr, how);
	pthread_mutex_unlock(&space->lock);
}

/* ---- the tree ------------------------------------------------------------ */

static uint32_t sat_add(uint32_t a, uint32_t b)
{
	return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* First block of a node, and past its last.  Level 0 are the regions here. */
static uint64_t node_blk(const struct msnap_space *space, unsigned level,
			 uint64_t idx)
{
	return min_u64(idx << (REGION_SHIFT + FAN_SHIFT * level),
		       space->nr_blocks);
}

static uint32_t node_span(const struct msnap_space *space, unsigned level,
			  uint64_t idx)
{
	return (uint32_t)min_u64(node_blk(space, level, idx + 1) -
					 node_blk(space, level, idx),
				 UINT32_MAX);
}

static struct node all_free(uint32_t span, bool chunk, unsigned frag)
{
	return (struct node){ .head = span, .tail = span, .longest = span,
			      .frag = (uint16_t)frag, .chunk = chunk };
}

static struct node free_node(const struct msnap_space *space, unsigned level,
			     uint64_t idx)
{
	uint64_t nr = node_blk(space, level, idx + 1) -
		      node_blk(space, level, idx);

	return all_free((uint32_t)min_u64(nr, UINT32_MAX), nr >= CHUNK,
			(unsigned)(nr % CHUNK));
}

static struct node node_of(const struct msnap_space *space, unsigned level,
			   uint64_t idx)
{
	const struct region *reg;

	if (level)
		return space->level[level - 1][idx];
	reg = &space->region[idx];
	if (!reg->nr_runs)
		return free_node(space, 0, idx);
	return (struct node){ .head = reg->head, .tail = reg->tail,
			      .longest = reg->longest, .frag = reg->frag,
			      .chunk = reg->chunks };
}

static uint64_t nodes_at(const struct msnap_space *space, unsigned level)
{
	return level ? space->level_nr[level - 1] : space->nr_regions;
}

static unsigned chunks_of(const struct msnap_space *space, uint64_t idx)
{
	if (space->region[idx].nr_runs)
		return space->region[idx].chunks;
	return (1u << (region_size(space, idx) / CHUNK)) - 1;
}

/* @sum, of all before it, takes in the next child. */
static void add_child(struct node *sum, uint32_t sum_span,
		      const struct node *child, uint32_t child_span)
{
	uint32_t across = sat_add(sum->tail, child->head);

	sum->longest = max_u32(sum->longest, max_u32(child->longest, across));
	if (sum->head == sum_span)
		sum->head = across;
	sum->tail = child->tail == child_span ? across : child->tail;
	sum->frag = (uint16_t)max_u32(sum->frag, child->frag);
	sum->chunk |= child->chunk;
}

/* Bring a node, and all below it, up to date. */
static void refresh(struct msnap_space *space, unsigned level, uint64_t idx)
{
	struct node sum = { 0 }, child;
	uint64_t i, past;
	uint32_t span = 0;

	if (level == 0) {
		if (space->region[idx].stale)
			refresh_region(space, idx);
		return;
	}
	if (!space->level[level - 1][idx].stale)
		return;
	past = min_u64((idx + 1) << FAN_SHIFT, nodes_at(space, level - 1));
	for (i = idx << FAN_SHIFT; i < past; i++) {
		refresh(space, level - 1, i);
		child = node_of(space, level - 1, i);
		add_child(&sum, span, &child, node_span(space, level - 1, i));
		span = sat_add(span, node_span(space, level - 1, i));
	}
	space->level[level - 1][idx] = sum;
}

static const struct node *fresh_root(struct msnap_space *space)
{
	refresh(space, space->top + 1, 0);
	return &space->level[space->top][0];
}

/* ---- searching: the tree must be fresh ----------------------------------- */

/* First place in the region, at @pos or behind, where @nr blocks are free. */
static uint64_t find_in_region(struct msnap_space *space, uint64_t idx,
			       unsigned pos, unsigned nr)
{
	struct scan scan;

	scan_begin(space, &scan, idx, pos, nr);
	while (scan_next(&scan))
		if (scan.end - scan.start >= nr)
			return (idx << REGION_SHIFT) + scan.start;
	return NONE;
}

/*
 * First free run of @nr blocks in the regions of the node from @from on.
 * @before: free blocks right before the node; it moves on behind the node.
 */
static uint64_t find_run_in(struct msnap_space *space, unsigned level,
			    uint64_t idx, uint64_t from, uint32_t nr,
			    uint32_t *before)
{
	struct node node = node_of(space, level, idx);
	uint64_t i, past, found;

	if ((idx + 1) << (FAN_SHIFT * level) <= from)
		return NONE;
	if (idx << (FAN_SHIFT * level) >= from) {
		if (sat_add(*before, node.head) >= nr)
			return node_blk(space, level, idx) - *before;
		if (level == 0 && node.longest >= nr) {
			found = find_in_region(space, idx, 0, nr);
			if (found != NONE)
				return found;
			mark_stale(space, idx); /* it was loose */
		}
		if (level == 0 || node.longest < nr) {
			*before = node.head == node_span(space, level, idx) ?
					  sat_add(*before, node.head) :
					  node.tail;
			return NONE;
		}
	} else if (level == 0) {
		return NONE;
	}
	past = min_u64((idx + 1) << FAN_SHIFT, nodes_at(space, level - 1));
	for (i = idx << FAN_SHIFT; i < past; i++) {
		found = find_run_in(space, level - 1, i, from, nr, before);
		if (found != NONE)
			return found;
	}
	return NONE;
}

/* The same for the whole map, from @blk on, then from the start. */
static uint64_t find_free(struct msnap_space *space, uint64_t blk, uint32_t nr)
{
	uint64_t idx = blk >> REGION_SHIFT, found;
	uint32_t before = 0;

	if (idx < space->nr_regions && node_of(space, 0, idx).longest >= nr) {
		found = find_in_region(space, idx, blk % REGION_BLKS, nr);
		if (found != NONE)
			return found;
	}
	found = find_run_in(space, space->top + 1, 0, idx, nr, &before);
	if (found != NONE)
		return found;
	before = 0;
	return find_run_in(space, space->top + 1, 0, 0, nr, &before);
}

/*
 * Where @nr blocks are free; when no free run is so long, @nr becomes what the
 * longest has.  Some block is free.  Every turn but the last tightens a number
 * that was loose.
 */
static uint64_t find_longest(struct msnap_space *space, uint64_t blk,
			     uint32_t *nr)
{
	uint64_t found;

	do {
		*nr = (uint32_t)min_u64(*nr, fresh_root(space)->longest);
		found = find_free(space, blk, *nr);
	} while (found == NONE);
	return found;
}

/*
 * First region from @from on with a wholly free chunk (@frag 0), or with a free
 * piece of @frag blocks in a partly used chunk.
 */
static uint64_t find_region(struct msnap_space *space, unsigned level,
			    uint64_t idx, uint64_t from, unsigned frag)
{
	struct node node;
	uint64_t i, past, found;

	if ((idx + 1) << (FAN_SHIFT * level) <= from)
		return NONE;
	node = node_of(space, level, idx);
	if (frag ? node.frag < frag : !node.chunk)
		return NONE;
	if (level == 0)
		return idx;
	past = min_u64((idx + 1) << FAN_SHIFT, nodes_at(space, level - 1));
	for (i = idx << FAN_SHIFT; i < past; i++) {
		found = find_region(space, level - 1, i, from, frag);
		if (found != NONE)
			return found;
	}
	return NONE;
}

/* First wholly free chunk of the region, leaving out the first @skip. */
static uint64_t chunk_in_region(const struct msnap_space *space, uint64_t idx,
				unsigned skip)
{
	unsigned bits = chunks_of(space, idx) & ~0u << skip;

	return bits ? (idx << REGION_SHIFT) +
			      (unsigned)__builtin_ctz(bits) * CHUNK : NONE;
}

/* First wholly free chunk at or behind @blk, then from the start. */
static uint64_t find_chunk(struct msnap_space *space, uint64_t blk)
{
	uint64_t from = blk >> REGION_SHIFT, idx, found;
	unsigned root = space->top + 1;

	if (from < space->nr_regions) {
		found = chunk_in_region(space, from, (unsigned)
				(blk % REGION_BLKS + CHUNK - 1) / CHUNK);
		if (found != NONE)
			return found;
	}
	idx = find_region(space, root, 0, from + 1, 0);
	if (idx == NONE)
		idx = find_region(space, root, 0, 0, 0);
	return idx == NONE ? NONE : chunk_in_region(space, idx, 0);
}

/* ---- placing small allocations ------------------------------------------- */

static void note_growing(struct msnap_space *space, uint64_t blk)
{
	uint64_t chunk = blk / CHUNK;
	unsigned i;

	for (i = 0; i < NR_GROWING; i++)
		if (space->growing[i] == chunk)
			return;
	space->growing[space->growing_at++ % NR_GROWING] = chunk;
}

/* Is the chunk somebody else's? */
static bool avoided(const struct msnap_space *space, enum msnap_space_use use,
		    uint64_t blk)
{
	uint64_t chunk = blk / CHUNK;
	unsigned i;

	if ((space->cursor[!use].end - 1) / CHUNK == chunk)
		return true;
	for (i = 0; i < NR_GROWING; i++)
		if (space->growing[i] == chunk)
			return true;
	return false;
}

/* A free piece of @nr blocks in a partly used chunk, at @pos or behind. */
static uint64_t frag_in_region(struct msnap_space *space,
			       enum msnap_space_use use, uint64_t idx,
			       unsigned pos, unsigned nr)
{
	struct scan scan;

	scan_begin(space, &scan, idx, pos, REGION_BLKS);
	while (scan_next(&scan)) {
		unsigned b = scan.start, end;

		for (; b < scan.end; b = end) {
			uint64_t blk = (idx << REGION_SHIFT) + b;

			end = (b / CHUNK + 1) * CHUNK;
			end = end < scan.end ? end : scan.end;
			if (end - b >= nr && end - b < CHUNK &&
			    !avoided(space, use, blk))
				return blk;
		}
	}
	return NONE;
}

/*
 * The same in the whole map, from the cursor on.  A region that promises a piece
 * and has none is loose, or holds an avoided chunk, and these are few.
 */
static uint64_t find_frag(struct msnap_space *space, enum msnap_space_use use,
			  unsigned nr)
{
	uint64_t end = space->cursor[use].end, from = end >> REGION_SHIFT;
	uint64_t idx, found;
	unsigned pos = (unsigned)(end % REGION_BLKS), tries = 0;
	bool wrapped = false;

	while (tries < 2 * NR_GROWING) {
		idx = find_region(space, space->top + 1, 0, from, nr);
		if (idx == NONE && wrapped)
			return NONE;
		if (idx == NONE) {
			wrapped = true;
			from = 0;
			pos = 0;
			continue;
		}
		found = frag_in_region(space, use, idx,
				       idx == from ? pos : 0, nr);
		if (found != NONE)
			return found;
		if (space->region[idx].loose) {
			mark_stale(space, idx);
			fresh_root(space);
		} else {
			tries++;
		}
		from = idx + 1;
		pos = 0;
	}
	return NONE;
}

static uint64_t find_at_cursor(struct msnap_space *space,
			       const struct cursor *cursor, unsigned nr)
{
	uint64_t base = cursor->next & ~(uint64_t)(REGION_BLKS - 1);
	struct scan scan;

	if (cursor->end - cursor->next < nr)
		return NONE;
	scan_begin(space, &scan, base >> REGION_SHIFT,
		   (unsigned)(cursor->next - base), nr);
	while (scan_next(&scan) && base + scan.start + nr <= cursor->end)
		if (scan.end - scan.start >= nr)
			return base + scan.start;
	return NONE;
}

static void open_chunk(struct msnap_space *space, enum msnap_space_use use,
		       uint64_t blk)
{
	struct cursor *cursor = &space->cursor[use];

	cursor->next = blk;
	cursor->end = min_u64((blk / CHUNK + 1) * CHUNK, space->nr_blocks);
}

static uint64_t place_small(struct msnap_space *space, enum msnap_space_use use,
			    unsigned nr)
{
	struct cursor *cursor = &space->cursor[use];
	uint64_t blk = find_at_cursor(space, cursor, nr);

	if (blk == NONE) {
		fresh_root(space);
		blk = find_frag(space, use, nr);
		if (blk == NONE)
			blk = find_chunk(space, cursor->end);
		if (blk == NONE)
			return NONE;
		open_chunk(space, use, blk);
	}
	cursor->next = blk + nr;
	return blk;
}

/* ---- placing others ------------------------------------------------------ */

/* Free blocks from @blk on, at most @nr. */
static uint32_t free_from(struct msnap_space *space, uint64_t blk, uint32_t nr)
{
	uint32_t count = 0;
	uint64_t len = equal_from(space, blk,
				  min_u64(blk + nr, space->nr_blocks), &count);

	return count ? 0 : (uint32_t)len;
}

/* A wholly free chunk from which @nr blocks are free, or nearly so many. */
static uint64_t chunk_in_long_run(struct msnap_space *space, uint64_t nr)
{
	uint32_t len = (uint32_t)min_u64(nr + CHUNK - 1, UINT32_MAX);
	uint64_t blk = find_longest(space, space->big, &len);

	blk = (blk + CHUNK - 1) / CHUNK * CHUNK;
	return free_from(space, blk, CHUNK) == CHUNK ? blk : NONE;
}

static uint64_t place_large(struct msnap_space *space, uint64_t phase,
			    uint32_t nr)
{
	uint64_t chunk = NONE;

	phase %= CHUNK;
	fresh_root(space);
	if (phase + nr > CHUNK)
		chunk = chunk_in_long_run(space, phase + nr);
	if (chunk == NONE)
		chunk = find_chunk(space, space->big);
	if (chunk == NONE)
		return NONE;
	space->big = chunk + phase + free_from(space, chunk + phase, nr);
	note_growing(space, space->big);
	return chunk + phase;
}

static uint64_t place_anywhere(struct msnap_space *space,
			       enum msnap_space_use use, uint32_t *nr)
{
	uint64_t blk = find_longest(space, space->any, nr);

	space->any = blk + *nr;
	if (*nr < MSNAP_SPACE_ALIGN_MIN) {
		open_chunk(space, use, blk);
		space->cursor[use].next = min_u64(blk + *nr,
						  space->cursor[use].end);
	}
	return blk;
}

static bool is_free_goal(struct msnap_space *space,
			 const struct msnap_space_want *want)
{
	return want->goal && want->goal < space->nr_blocks &&
	       count_of(space, want->goal) == 0;
}

/* Is the goal no reason against an aligned place? */
static bool wants_large(const struct msnap_space_want *want, bool goal)
{
	if (want->use != MSNAP_SPACE_DATA)
		return false;
	if (goal)
		return want->align && (want->goal ^ want->phase) % CHUNK;
	return want->align || want->nr >= MSNAP_SPACE_ALIGN_MIN;
}

/* At least one block is free.  @nr: wanted in, found out. */
static uint64_t place(struct msnap_space *space,
		      const struct msnap_space_want *want, uint32_t *nr)
{
	bool goal = want->use == MSNAP_SPACE_DATA && is_free_goal(space, want);
	uint64_t blk = NONE;

	if (wants_large(want, goal))
		blk = place_large(space, want->phase, want->nr);
	if (blk != NONE) {
		*nr = free_from(space, blk, want->nr);
		return blk;
	}
	if (goal) {
		*nr = free_from(space, want->goal, want->nr);
		note_growing(space, want->goal + *nr);
		return want->goal;
	}
	*nr = want->nr;
	if (!wants_large(want, false) && *nr <= CHUNK)
		blk = place_small(space, want->use, *nr);
	return blk != NONE ? blk : place_anywhere(space, want->use, nr);
}

/* ---- life ---------------------------------------------------------------- */

static int build_tree(struct msnap_space *space)
{
	uint64_t nr = space->nr_regions, i;
	unsigned l = 0;

	do {
		nr = (nr + FAN - 1) >> FAN_SHIFT;
		space->level[l] = mem_get(space, nr * sizeof(struct node));
		if (!space->level[l])
			return -ENOMEM;
		space->level_nr[l] = nr;
		for (i = 0; i < nr; i++)
			space->level[l][i] = free_node(space, l + 1, i);
		space->top = l++;
	} while (nr > 1);
	return 0;
}

int msnap_space_new(uint64_t nr_blocks, struct msnap_space **space)
{
	struct msnap_space *new;

	if (!nr_blocks || nr_blocks > MSNAP_MAX_BLOCKS)
		return -EINVAL;
	new = msnap_calloc(1, sizeof(*new));
	if (!new)
		return -ENOMEM;
	pthread_mutex_init(&new->lock, NULL);
	new->nr_blocks = new->nr_free = nr_blocks;
	new->nr_regions = (nr_blocks + REGION_BLKS - 1) >> REGION_SHIFT;
	new->nr_runs = new->nr_regions;
	memset(new->growing, 0xff, sizeof(new->growing));
	new->memory = sizeof(*new) + new->nr_regions * sizeof(struct region);
	/* Fresh zeros: pages of regions that are never touched cost nothing. */
	new->region = msnap_calloc(new->nr_regions, sizeof(struct region));
	if (!new->region || build_tree(new)) {
		msnap_space_free(new);
		return -ENOMEM;
	}
	*space = new;
	return 0;
}

void msnap_space_free(struct msnap_space *space)
{
	struct region *reg;
	unsigned l;

	if (!space)
		return;
	while ((reg = dequeue(space)))
		if (!is_inline(reg))
			free(reg->run);
	for (l = 0; l < MAX_LEVELS; l++)
		free(space->level[l]);
	free(space->region);
	pthread_mutex_destroy(&space->lock);
	free(space);
}

void msnap_space_stat(struct msnap_space *space, struct msnap_space_stat *stat)
{
	pthread_mutex_lock(&space->lock);
	stat->nr_blocks = space->nr_blocks;
	stat->nr_free = space->nr_free;
	stat->nr_pending = space->nr_pending;
	stat->nr_shared = space->nr_shared;
	stat->nr_runs = space->nr_runs;
	stat->memory = space->memory;
	pthread_mutex_unlock(&space->lock);
}

uint32_t msnap_space_count(struct msnap_space *space, uint64_t blk)
{
	uint32_t count;

	if (blk >= space->nr_blocks)
		return 0;
	pthread_mutex_lock(&space->lock);
	count = count_of(space, blk);
	pthread_mutex_unlock(&space->lock);
	return count;
}

uint64_t msnap_space_run(struct msnap_space *space, uint64_t blk, uint64_t end,
			 uint32_t *count)
{
	uint64_t nr;

	assert(blk < end && end <= space->nr_blocks);
	pthread_mutex_lock(&space->lock);
	nr = equal_from(space, blk, end, count);
	pthread_mutex_unlock(&space->lock);
	return nr;
}

/* ---- operations ---------------------------------------------------------- */

int msnap_space_alloc(struct msnap_space *space,
		      const struct msnap_space_want *want, uint64_t *blk,
		      uint32_t *nr)
{
	static const struct how how = { .change = CHANGE_INC,
					.runs_limit = RUNS_MAX };
	uint64_t at;
	uint32_t got;
	int err = -ENOSPC;

	assert(want->nr);
	pthread_mutex_lock(&space->lock);
	if (++space->nr_allocs != space->fail_at && space->nr_free) {
		count_change(space);
		at = place(space, want, &got);
		err = reserve_and_change(space, at, got, &how);
	}
	pthread_mutex_unlock(&space->lock);
	if (err)
		return err;
	*blk = at;
	*nr = got;
	return 0;
}

/* Where the first free run of @min blocks in [at, end) begins; NONE. */
static uint64_t first_free(struct msnap_space *space, uint64_t at, uint64_t end,
			   uint32_t min, uint32_t *nr)
{
	while (at < end) {
		uint32_t count = 0;
		uint64_t len = equal_from(space, at, end, &count);

		if (!count && len >= min) {
			*nr = (uint32_t)min_u64(len, UINT32_MAX / 2);
			return at;
		}
		at += len;
	}
	return NONE;
}

int msnap_space_take(struct msnap_space *space, uint64_t from, uint64_t end,
		     uint32_t min, uint32_t max, uint64_t *blk, uint32_t *nr)
{
	static const struct how how = { .change = CHANGE_INC,
					.runs_limit = RUNS_MAX };
	uint64_t at;
	uint32_t got;
	int err = -ENOSPC;

	assert(min && max >= min);
	pthread_mutex_lock(&space->lock);
	at = first_free(space, from, min_u64(end, space->nr_blocks), min, &got);
	if (at != NONE) {
		count_change(space);
		got = got < max ? got : max;
		err = reserve_and_change(space, at, got, &how);
	}
	pthread_mutex_unlock(&space->lock);
	if (err)
		return err;
	*blk = at;
	*nr = got;
	return 0;
}

uint64_t msnap_space_free_in(struct msnap_space *space, uint64_t from, uint64_t end)
{
	uint64_t nr = 0;

	pthread_mutex_lock(&space->lock);
	end = min_u64(end, space->nr_blocks);
	while (from < end) {
		uint32_t count = 0;
		uint64_t len = equal_from(space, from, end, &count);

		nr += count ? 0 : len;
		from += len;
	}
	pthread_mutex_unlock(&space->lock);
	return nr;
}

void msnap_space_fail_alloc(struct msnap_space *space, unsigned long nth)
{
	pthread_mutex_lock(&space->lock);
	space->nr_allocs = 0;
	space->fail_at = nth;
	pthread_mutex_unlock(&space->lock);
}

unsigned long msnap_space_allocs(struct msnap_space *space)
{
	unsigned long nr;

	pthread_mutex_lock(&space->lock);
	nr = space->nr_allocs;
	pthread_mutex_unlock(&space->lock);
	return nr;
}

void msnap_space_undo_alloc(struct msnap_space *space, uint64_t blk, uint32_t nr)
{
	static const struct how how = { .change = CHANGE_UNALLOC, .undo = true };

	lock_and_undo(space, blk, nr, &how);
}

/* May each block be changed?  @max: the highest count that may. */
static int check_counted(struct msnap_space *space, uint64_t blk, uint64_t nr,
			 uint32_t max)
{
	uint64_t at = blk, end = blk + nr;
	uint32_t count = 0;

	if (!in_range(space, blk, nr))
		return -EUCLEAN;
	while (at < end) {
		at += equal_from(space, at, end, &count);
		if (count == 0 || count == MSNAP_COUNT_PENDING)
			return -EUCLEAN;
		if (count > max)
			return -EMLINK;
	}
	return 0;
}

int msnap_space_get(struct msnap_space *space, uint64_t blk, uint32_t nr)
{
	static const struct how how = { .change = CHANGE_INC,
					.runs_limit = RUNS_MAX };
	int err;

	pthread_mutex_lock(&space->lock);
	count_change(space);
	err = check_counted(space, blk, nr, MSNAP_COUNT_MAX - 1);
	if (!err)
		err = reserve_and_change(space, blk, nr, &how);
	pthread_mutex_unlock(&space->lock);
	return err;
}

void msnap_space_undo_get(struct msnap_space *space, uint64_t blk, uint32_t nr)
{
	static const struct how how = { .change = CHANGE_DEC, .undo = true };

	lock_and_undo(space, blk, nr, &how);
}

/* Tell @freed of the blocks that are about to become pending. */
static int tell_freed(struct msnap_space *space, uint64_t blk, uint32_t nr,
		      int (*freed)(void *arg, uint64_t blk, uint32_t nr),
		      void *arg)
{
	uint64_t at = blk, end = blk + nr, len;
	uint32_t count = 0;
	int err;

	for (; at < end; at += len) {
		len = equal_from(space, at, end, &count);
		err = count == 1 ? freed(arg, at, (uint32_t)len) : 0;
		if (err)
			return err;
	}
	return 0;
}

int msnap_space_put(struct msnap_space *space, uint64_t blk, uint32_t nr,
		    int (*freed)(void *arg, uint64_t blk, uint32_t nr),
		    void *arg)
{
	static const struct how how = { .change = CHANGE_DEC,
					.runs_limit = RUNS_MAX };
	int err;

	pthread_mutex_lock(&space->lock);
	count_change(space);
	err = check_counted(space, blk, nr, MSNAP_COUNT_MAX);
	if (!err)
		err = reserve(space, blk, nr, how.runs_limit);
	/* Last of all that can fail, so that nothing has to be reverted. */
	if (!err && freed)
		err = tell_freed(space, blk, nr, freed, arg);
	if (!err)
		change(space, blk, nr, &how);
	pthread_mutex_unlock(&space->lock);
	return err;
}

void msnap_space_undo_put(struct msnap_space *space, uint64_t blk, uint32_t nr)
{
	static const struct how how = { .change = CHANGE_INC, .undo = true,
					.widen = true };

	lock_and_undo(space, blk, nr, &how);
}

void msnap_space_release(struct msnap_space *space, uint64_t blk, uint32_t nr)
{
	static const struct how how = { .change = CHANGE_RELEASE };
	struct part part;
	uint64_t at;

	if (!in_range(space, blk, nr))
		return;
	pthread_mutex_lock(&space->lock);
	count_change(space);
	for_each_part(space, &part, at, blk, blk + nr)
		if (!reserve_part(space, &part, RUNS_MAX))
			change_part(space, &part, &how);
	pthread_mutex_unlock(&space->lock);
}

static int mark(struct msnap_space *space, uint64_t blk, uint64_t nr)
{
	static const struct how how = { .change = CHANGE_INC,
					.runs_limit = RUNS_MARK };
	uint64_t at = blk, end = blk + nr, len;
	uint32_t count = 0, first = 0;
	int err;

	for (; at < end; at += len) {
		len = equal_from(space, at, end, &count);
		if (count == MSNAP_COUNT_MAX)
			return -EMLINK;
		if (at == blk)
			first = count;
	}
	err = reserve_and_change(space, blk, nr, &how);
	if (err)
		return err;
	return first == 0 || first == MSNAP_COUNT_PENDING;
}

int msnap_space_mark(struct msnap_space *space, uint64_t blk, uint32_t nr)
{
	int ret = -EUCLEAN;

	pthread_mutex_lock(&space->lock);
	if (in_range(space, blk, nr))
		ret = mark(space, blk, nr);
	pthread_mutex_unlock(&space->lock);
	return ret;
}

void msnap_space_settle(struct msnap_space *space)
{
	struct region *reg;
	uint32_t last;
	bool done = false;

	pthread_mutex_lock(&space->lock);
	last = space->queue_tail;
	while (!done && (reg = dequeue(space))) {
		done = reg == &space->region[last - 1];
		memset(reg->debt, 0, sizeof(reg->debt));
		if (!is_inline(reg))
			shrink(space, reg, true);
		if (!is_inline(reg) && !reg->queued)
			enqueue(space, reg);
	}
	pthread_mutex_unlock(&space->lock);
}

int msnap_space_set(struct msnap_space *space, uint64_t blk, uint32_t nr,
		    uint32_t count)
{
	struct how how = { .change = CHANGE_SET, .value = count,
			   .runs_limit = RUNS_MAX };
	int err = -EUCLEAN;

	if (!in_range(space, blk, nr) || !count ||
	    (count > MSNAP_COUNT_MAX && count != MSNAP_COUNT_PENDING))
		return -EUCLEAN;
	pthread_mutex_lock(&space->lock);
	if (!nr || free_from(space, blk, nr) == nr)
		err = reserve_and_change(space, blk, nr, &how);
	pthread_mutex_unlock(&space->lock);
	return err;
}

int msnap_space_each(struct msnap_space *space,
		     int (*cb)(void *arg, uint64_t blk, uint32_t nr,
			       uint32_t count),
		     void *arg)
{
	uint64_t at, len, end;
	uint32_t count = 0;
	int err = 0;

	pthread_mutex_lock(&space->lock);
	for (at = 0; at < space->nr_blocks && !err; at += len) {
		end = min_u64(at + (1ull << 31), space->nr_blocks);
		len = equal_from(space, at, end, &count);
		if (count)
			err = cb(arg, at, (uint32_t)len, count);
	}
	pthread_mutex_unlock(&space->lock);
	return err;
}
