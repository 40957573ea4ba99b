/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * space-place.c - which free blocks an allocation gets.
 *
 * Placement.  Small allocations stay in their cursor's chunk, then go to a
 * partly used one, then open a wholly free one.  They leave alone the chunks
 * where files grew last and the chunk of the other cursor, while there are
 * others.  Large ones take a congruent place in a wholly free chunk, and there
 * being congruent comes before being as long as wanted.
 */
#include "space-map.h"

/* ---- small allocations ------------------------------------------------ */

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

	msnap_scan_begin(space, &scan, idx, pos, REGION_BLKS);
	while (msnap_scan_next(&scan)) {
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
		idx = msnap_space_find_region(space, space->top + 1, 0, from, nr);
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
			msnap_space_mark_stale(space, idx);
			msnap_space_fresh_root(space);
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
	msnap_scan_begin(space, &scan, base >> REGION_SHIFT,
			 (unsigned)(cursor->next - base), nr);
	while (msnap_scan_next(&scan) && base + scan.start + nr <= cursor->end)
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
		msnap_space_fresh_root(space);
		blk = find_frag(space, use, nr);
		if (blk == NONE)
			blk = msnap_space_find_chunk(space, cursor->end);
		if (blk == NONE)
			return NONE;
		open_chunk(space, use, blk);
	}
	cursor->next = blk + nr;
	return blk;
}

/* ---- others ----------------------------------------------------------- */

/* A wholly free chunk from which @nr blocks are free, or nearly so many. */
static uint64_t chunk_in_long_run(struct msnap_space *space, uint64_t nr)
{
	uint32_t len = (uint32_t)min_u64(nr + CHUNK - 1, UINT32_MAX);
	uint64_t blk = msnap_space_find_longest(space, space->big, &len);

	blk = (blk + CHUNK - 1) / CHUNK * CHUNK;
	return msnap_space_free_from(space, blk, CHUNK) == CHUNK ? blk : NONE;
}

static uint64_t place_large(struct msnap_space *space, uint64_t phase,
			    uint32_t nr)
{
	uint64_t chunk = NONE;

	phase %= CHUNK;
	msnap_space_fresh_root(space);
	if (phase + nr > CHUNK)
		chunk = chunk_in_long_run(space, phase + nr);
	if (chunk == NONE)
		chunk = msnap_space_find_chunk(space, space->big);
	if (chunk == NONE)
		return NONE;
	space->big = chunk + phase + msnap_space_free_from(space, chunk + phase, nr);
	note_growing(space, space->big);
	return chunk + phase;
}

static uint64_t place_anywhere(struct msnap_space *space,
			       enum msnap_space_use use, uint32_t *nr)
{
	uint64_t blk = msnap_space_find_longest(space, space->any, nr);

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
	       msnap_space_count_of(space, want->goal) == 0;
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
uint64_t msnap_space_place(struct msnap_space *space,
			   const struct msnap_space_want *want, uint32_t *nr)
{
	bool goal = want->use == MSNAP_SPACE_DATA && is_free_goal(space, want);
	uint64_t blk = NONE;

	if (wants_large(want, goal))
		blk = place_large(space, want->phase, want->nr);
	if (blk != NONE) {
		*nr = msnap_space_free_from(space, blk, want->nr);
		return blk;
	}
	if (goal) {
		*nr = msnap_space_free_from(space, want->goal, want->nr);
		note_growing(space, want->goal + *nr);
		return want->goal;
	}
	*nr = want->nr;
	if (!wants_large(want, false) && *nr <= CHUNK)
		blk = place_small(space, want->use, *nr);
	return blk != NONE ? blk : place_anywhere(space, want->use, nr);
}
