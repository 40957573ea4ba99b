/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * space-tree.c - the tree over the regions, in which free blocks are found.
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
 */
#include "space-map.h"

#include <errno.h>

/* ---- a region's numbers ----------------------------------------------- */

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

void msnap_region_note_all_free(struct region *reg, unsigned size)
{
	clear_numbers(reg);
	note_free_run(reg, size, 0, size);
}

static void refresh_region(struct msnap_space *space, uint64_t idx)
{
	struct region *reg = &space->region[idx];
	struct scan scan;

	clear_numbers(reg);
	msnap_scan_begin(space, &scan, idx, 0, REGION_BLKS);
	while (msnap_scan_next(&scan))
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
	msnap_scan_begin(space, &scan, part->idx, start, REGION_BLKS);
	while (scan.pos < part->to && msnap_scan_next(&scan))
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

void msnap_space_mark_stale(struct msnap_space *space, uint64_t idx)
{
	space->region[idx].stale = 1;
	mark_up(space, idx);
}

/* The region's number of free blocks changed by @nr. */
void msnap_space_note_change(struct msnap_space *space, const struct part *part,
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

/* ---- the tree --------------------------------------------------------- */

static uint32_t sat_add(uint32_t a, uint32_t b)
{
	return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
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

const struct node *msnap_space_fresh_root(struct msnap_space *space)
{
	refresh(space, space->top + 1, 0);
	return &space->level[space->top][0];
}

int msnap_space_build_tree(struct msnap_space *space)
{
	uint64_t nr = space->nr_regions, i;
	unsigned l = 0;

	do {
		nr = (nr + FAN - 1) >> FAN_SHIFT;
		space->level[l] = msnap_space_mem_get(space, nr * sizeof(struct node));
		if (!space->level[l])
			return -ENOMEM;
		space->level_nr[l] = nr;
		for (i = 0; i < nr; i++)
			space->level[l][i] = free_node(space, l + 1, i);
		space->top = l++;
	} while (nr > 1);
	return 0;
}

/* ---- searching: the tree must be fresh -------------------------------- */

/* First place in the region, at @pos or behind, where @nr blocks are free. */
static uint64_t find_in_region(struct msnap_space *space, uint64_t idx,
			       unsigned pos, unsigned nr)
{
	struct scan scan;

	msnap_scan_begin(space, &scan, idx, pos, nr);
	while (msnap_scan_next(&scan))
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
			msnap_space_mark_stale(space, idx); /* it was loose */
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
uint64_t msnap_space_find_longest(struct msnap_space *space, uint64_t blk, uint32_t *nr)
{
	uint64_t found;

	do {
		*nr = (uint32_t)min_u64(*nr, msnap_space_fresh_root(space)->longest);
		found = find_free(space, blk, *nr);
	} while (found == NONE);
	return found;
}

/*
 * First region from @from on with a wholly free chunk (@frag 0), or with a free
 * piece of @frag blocks in a partly used chunk.
 */
uint64_t msnap_space_find_region(struct msnap_space *space, unsigned level,
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
		found = msnap_space_find_region(space, level - 1, i, from, frag);
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
uint64_t msnap_space_find_chunk(struct msnap_space *space, uint64_t blk)
{
	uint64_t from = blk >> REGION_SHIFT, idx, found;
	unsigned root = space->top + 1;

	if (from < space->nr_regions) {
		found = chunk_in_region(space, from, (unsigned)
				(blk % REGION_BLKS + CHUNK - 1) / CHUNK);
		if (found != NONE)
			return found;
	}
	idx = msnap_space_find_region(space, root, 0, from + 1, 0);
	if (idx == NONE)
		idx = msnap_space_find_region(space, root, 0, 0, 0);
	return idx == NONE ? NONE : chunk_in_region(space, idx, 0);
}
