/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * space-region.c - the counts of one region of blocks, and the memory for them.
 *
 * Counts.  The pool is cut into regions of 8192 blocks.  A region that was never
 * touched is free and is all zeros in memory, so that a large empty pool costs
 * address space only.  The others hold sorted runs of equal count, neighbours
 * always merged: up to three inside the region's own struct, more in an array,
 * and when that would pass RUNS_MAX, a flat array with a count for each block.
 */
#include "space-map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"

/* ---- memory ----------------------------------------------------------- */

void *msnap_space_mem_get(struct msnap_space *space, size_t size)
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

int msnap_region_to_flat(struct msnap_space *space, struct region *reg)
{
	uint32_t *flat = msnap_space_mem_get(space, REGION_BLKS * sizeof(*flat));
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
int msnap_region_to_runs(struct msnap_space *space, struct region *reg, unsigned cap,
			 unsigned size)
{
	struct run *run = msnap_space_mem_get(space, cap * sizeof(*run));

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

void msnap_regions_free(struct msnap_space *space)
{
	struct region *reg;

	while ((reg = dequeue(space)))
		if (!is_inline(reg))
			free(reg->run);
}

/* ---- giving memory back ----------------------------------------------- */

/* Forget the debt of epochs before the last. */
void msnap_region_age(struct msnap_space *space, struct region *reg)
{
	uint16_t now = (uint16_t)(space->nr_changes / SPACE_EPOCH);
	uint16_t passed = (uint16_t)(now - reg->epoch);

	if (!passed)
		return;
	reg->debt[1] = passed == 1 ? reg->debt[0] : 0;
	reg->debt[0] = 0;
	reg->epoch = now;
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
		(void)msnap_region_to_runs(space, reg, need + slack, size);
}

/* Look at one region with memory of its own, in turn. */
static void sweep(struct msnap_space *space)
{
	struct region *reg = dequeue(space);

	if (!reg)
		return;
	msnap_region_age(space, reg);
	if (!is_inline(reg))
		shrink(space, reg, false);
	if (!is_inline(reg) && !reg->queued)
		enqueue(space, reg);
}

void msnap_space_count_change(struct msnap_space *space)
{
	if (++space->nr_changes % SWEEP_EVERY == 0)
		sweep(space);
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

/* ---- ranges of equal count -------------------------------------------- */

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
uint64_t msnap_space_equal_from(struct msnap_space *space, uint64_t blk, uint64_t end,
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

uint32_t msnap_space_count_of(struct msnap_space *space, uint64_t blk)
{
	uint32_t count = 0;

	msnap_space_equal_from(space, blk, blk + 1, &count);
	return count;
}

/* Free blocks from @blk on, at most @nr. */
uint32_t msnap_space_free_from(struct msnap_space *space, uint64_t blk, uint32_t nr)
{
	uint32_t count = 0;
	uint64_t len = msnap_space_equal_from(space, blk,
				  min_u64(blk + nr, space->nr_blocks), &count);

	return count ? 0 : (uint32_t)len;
}

/* ---- free runs of one region ------------------------------------------ */

void msnap_scan_begin(struct msnap_space *space, struct scan *scan, uint64_t idx,
		      unsigned pos, unsigned enough)
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
bool msnap_scan_next(struct scan *scan)
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
