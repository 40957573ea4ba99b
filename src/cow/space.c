/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * space.c - the space map: making one, asking it, and the operations on it.
 */
#include "space-map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "format.h"

/* ---- life ------------------------------------------------------------- */

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
	if (!new->region || msnap_space_build_tree(new)) {
		msnap_space_free(new);
		return -ENOMEM;
	}
	*space = new;
	return 0;
}

void msnap_space_free(struct msnap_space *space)
{
	unsigned l;

	if (!space)
		return;
	msnap_regions_free(space);
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
	count = msnap_space_count_of(space, blk);
	pthread_mutex_unlock(&space->lock);
	return count;
}

uint64_t msnap_space_run(struct msnap_space *space, uint64_t blk, uint64_t end,
			 uint32_t *count)
{
	uint64_t nr;

	assert(blk < end && end <= space->nr_blocks);
	pthread_mutex_lock(&space->lock);
	nr = msnap_space_equal_from(space, blk, end, count);
	pthread_mutex_unlock(&space->lock);
	return nr;
}

/* ---- operations ------------------------------------------------------- */

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
		msnap_space_count_change(space);
		at = msnap_space_place(space, want, &got);
		err = msnap_space_reserve_and_change(space, at, got, &how);
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
		uint64_t len = msnap_space_equal_from(space, at, end, &count);

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
		msnap_space_count_change(space);
		got = got < max ? got : max;
		err = msnap_space_reserve_and_change(space, at, got, &how);
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
		uint64_t len = msnap_space_equal_from(space, from, end, &count);

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

	msnap_space_lock_and_undo(space, blk, nr, &how);
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
		at += msnap_space_equal_from(space, at, end, &count);
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
	msnap_space_count_change(space);
	err = check_counted(space, blk, nr, MSNAP_COUNT_MAX - 1);
	if (!err)
		err = msnap_space_reserve_and_change(space, blk, nr, &how);
	pthread_mutex_unlock(&space->lock);
	return err;
}

void msnap_space_undo_get(struct msnap_space *space, uint64_t blk, uint32_t nr)
{
	static const struct how how = { .change = CHANGE_DEC, .undo = true };

	msnap_space_lock_and_undo(space, blk, nr, &how);
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
		len = msnap_space_equal_from(space, at, end, &count);
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
	msnap_space_count_change(space);
	err = check_counted(space, blk, nr, MSNAP_COUNT_MAX);
	if (!err)
		err = msnap_space_reserve(space, blk, nr, how.runs_limit);
	/* Last of all that can fail, so that nothing has to be reverted. */
	if (!err && freed)
		err = tell_freed(space, blk, nr, freed, arg);
	if (!err)
		msnap_space_change(space, blk, nr, &how);
	pthread_mutex_unlock(&space->lock);
	return err;
}

void msnap_space_undo_put(struct msnap_space *space, uint64_t blk, uint32_t nr)
{
	static const struct how how = { .change = CHANGE_INC, .undo = true,
					.widen = true };

	msnap_space_lock_and_undo(space, blk, nr, &how);
}

void msnap_space_release(struct msnap_space *space, uint64_t blk, uint32_t nr)
{
	static const struct how how = { .change = CHANGE_RELEASE };
	struct part part;
	uint64_t at;

	if (!in_range(space, blk, nr))
		return;
	pthread_mutex_lock(&space->lock);
	msnap_space_count_change(space);
	for_each_part(space, &part, at, blk, blk + nr)
		if (!msnap_space_reserve_part(space, &part, RUNS_MAX))
			msnap_space_change_part(space, &part, &how);
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
		len = msnap_space_equal_from(space, at, end, &count);
		if (count == MSNAP_COUNT_MAX)
			return -EMLINK;
		if (at == blk)
			first = count;
	}
	err = msnap_space_reserve_and_change(space, blk, nr, &how);
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
	if (!nr || msnap_space_free_from(space, blk, nr) == nr)
		err = msnap_space_reserve_and_change(space, blk, nr, &how);
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
		len = msnap_space_equal_from(space, at, end, &count);
		if (count)
			err = cb(arg, at, (uint32_t)len, count);
	}
	pthread_mutex_unlock(&space->lock);
	return err;
}
