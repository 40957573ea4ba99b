/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "trim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "alloc.h"

#define CHUNK MSNAP_SPACE_CHUNK
#define NONE UINT64_MAX

#define TURN_MS 500 /* commits must not wait */

static_assert(CHUNK * MSNAP_BLOCK_SIZE == MSNAP_MEM_CHUNK,
	      "space comes by the chunks that are allocated from");

struct msnap_trim {
	uint64_t nr_chunks;
	_Atomic uint64_t *freed; /* a bit for each chunk to look at */
	/* Of the thread that runs. */
	uint64_t *small; /* chunks in which small runs were left */
	atomic_bool surveyed;
	pthread_mutex_t lock;
	uint64_t kept; /* chunk; guarded by lock */
};

int msnap_trim_new(struct msnap_pool *pool)
{
	struct msnap_trim *trim;
	size_t words;

	if (!pool->mem->sparse)
		return 0;
	trim = pool->trim = msnap_calloc(1, sizeof(*trim));
	if (!trim)
		return -ENOMEM;
	pthread_mutex_init(&trim->lock, NULL);
	trim->kept = NONE;
	trim->nr_chunks = (pool->nr_blocks + CHUNK - 1) / CHUNK;
	words = (trim->nr_chunks + 63) / 64;
	trim->freed = msnap_calloc(words, sizeof(*trim->freed));
	trim->small = msnap_calloc(words, sizeof(*trim->small));
	return trim->freed && trim->small ? 0 : -ENOMEM;
}

void msnap_trim_free(struct msnap_pool *pool)
{
	if (!pool->trim)
		return;
	free((void *)pool->trim->freed);
	free(pool->trim->small);
	pthread_mutex_destroy(&pool->trim->lock);
	free(pool->trim);
	pool->trim = NULL;
}

void msnap_trim_freed(struct msnap_pool *pool, uint64_t blk, uint64_t nr)
{
	if (!pool->trim || !nr)
		return;
	for (uint64_t c = blk / CHUNK; c <= (blk + nr - 1) / CHUNK; c++)
		atomic_fetch_or(&pool->trim->freed[c / 64], 1ull << (c % 64));
}

/* Else it could make others fail who are after the last free blocks. */
static bool has_room(struct msnap_pool *pool)
{
	struct msnap_space_stat stat;

	msnap_space_stat(pool->space, &stat);
	return stat.nr_free >= pool->nr_reserve + 2 * CHUNK;
}

static int take(struct msnap_pool *pool, uint64_t from, uint64_t end, uint32_t min,
		uint64_t *blk, uint32_t *nr)
{
	return msnap_space_take(pool->space, from, end, min, CHUNK, blk, nr);
}

/*
 * What was taken is punched and given back.  Operations wait while it is a part of a
 * chunk: what they reserved stays whole until they have stored to it.
 */
static int punch(struct msnap_pool *pool, uint64_t blk, uint32_t nr)
{
	int err;

	if (nr < CHUNK)
		pthread_rwlock_rdlock(&pool->lock);
	err = msnap_mem_punch(pool->mem, blk << MSNAP_BLOCK_SHIFT,
			      (uint64_t)nr << MSNAP_BLOCK_SHIFT);
	if (nr < CHUNK)
		pthread_rwlock_unlock(&pool->lock);
	msnap_space_undo_alloc(pool->space, blk, nr);
	return err;
}

static int trim_runs(struct msnap_pool *pool, uint64_t at, uint64_t end, uint32_t min)
{
	uint64_t blk;
	uint32_t nr;
	int err = 0;

	while (!err && at < end) {
		err = take(pool, at, end, min, &blk, &nr);
		if (err)
			return err == -ENOSPC ? 0 : err;
		err = punch(pool, blk, nr);
		at = blk + nr;
	}
	return err;
}

static int trim_chunk(struct msnap_pool *pool, uint64_t chunk, uint32_t min)
{
	uint64_t at = chunk * CHUNK, end = at + CHUNK, blk;
	uint32_t nr;
	int err = take(pool, at, end, CHUNK, &blk, &nr);

	if (!err)
		return punch(pool, blk, nr);
	if (err != -ENOSPC)
		return err;
	if (min > 1)
		pool->trim->small[chunk / 64] |= 1ull << (chunk % 64);
	return trim_runs(pool, at, end, min);
}

/* What is freed meanwhile gets its bit again. */
static int trim_word(struct msnap_pool *pool, uint64_t word, uint32_t min)
{
	struct msnap_trim *trim = pool->trim;
	uint64_t bits = atomic_exchange(&trim->freed[word], 0);
	int err = 0;

	if (min == 1) {
		bits |= trim->small[word];
		trim->small[word] = 0;
	}
	while (bits && has_room(pool)) {
		unsigned bit = (unsigned)__builtin_ctzll(bits);

		err = trim_chunk(pool, word * 64 + bit, min);
		if (err)
			break;
		bits &= bits - 1;
	}
	if (bits)
		atomic_fetch_or(&trim->freed[word], bits);
	return err;
}

static void note_extent(void *arg, uint64_t off, uint64_t len)
{
	struct msnap_pool *pool = arg;
	uint64_t blk = off >> MSNAP_BLOCK_SHIFT, nr = len >> MSNAP_BLOCK_SHIFT;

	if (blk >= pool->nr_blocks)
		return;
	msnap_trim_freed(pool, blk,
			 nr < pool->nr_blocks - blk ? nr : pool->nr_blocks - blk);
}

void msnap_trim_survey(struct msnap_pool *pool)
{
	int err;

	if (!pool->trim || atomic_exchange(&pool->trim->surveyed, true))
		return;
	err = msnap_mem_survey(pool->mem, note_extent, pool);
	if (err)
		msnap_log(pool, LOG_NOTICE, "the space below blocks that are free "
			  "already is not given back: %s", strerror(-err));
}

/* On a full host: one that is there.  *chunk: taken. */
static int take_whole(struct msnap_pool *pool, uint64_t *chunk)
{
	uint64_t c = 0, blk;
	uint32_t nr;
	int err = -ENOSPC;

	msnap_trim_survey(pool);
	while (err == -ENOSPC && !msnap_mem_next_whole(pool->mem, c, &c)) {
		err = take(pool, c * CHUNK, (c + 1) * CHUNK, CHUNK, &blk, &nr);
		*chunk = c++;
	}
	return err;
}

/* One that gets its space now. */
static int make_whole(struct msnap_pool *pool, uint64_t *chunk)
{
	uint64_t blk, first;
	uint32_t nr;
	int err = msnap_space_take(pool->space, 0, pool->nr_blocks, 2 * CHUNK, 2 * CHUNK,
				   &blk, &nr);

	if (err)
		return err;
	*chunk = (blk + CHUNK - 1) / CHUNK;
	first = *chunk * CHUNK;
	err = msnap_mem_reserve(pool->mem, *chunk * MSNAP_MEM_CHUNK, MSNAP_MEM_CHUNK);
	if (err) {
		msnap_space_undo_alloc(pool->space, blk, nr);
		return err;
	}
	if (first > blk)
		msnap_space_undo_alloc(pool->space, blk, (uint32_t)(first - blk));
	msnap_space_undo_alloc(pool->space, first + CHUNK,
			       (uint32_t)(blk + nr - first - CHUNK));
	return 0;
}

/* An error: another time. */
void msnap_trim_keep(struct msnap_pool *pool)
{
	struct msnap_trim *trim = pool->trim;
	struct msnap_space_stat stat;
	uint64_t room, chunk = 0;

	if (!trim || pool->read_only)
		return;
	room = msnap_mem_room(pool->mem);
	msnap_space_stat(pool->space, &stat);
	if (room >= stat.nr_free << MSNAP_BLOCK_SHIFT || !has_room(pool))
		return;
	pthread_mutex_lock(&trim->lock);
	if (trim->kept == NONE &&
	    !(room < MSNAP_MEM_SOME ? take_whole(pool, &chunk) :
				      make_whole(pool, &chunk)))
		trim->kept = chunk;
	pthread_mutex_unlock(&trim->lock);
}

bool msnap_trim_give(struct msnap_pool *pool)
{
	struct msnap_trim *trim = pool->trim;
	bool any = false;

	if (!trim)
		return false;
	pthread_mutex_lock(&trim->lock);
	if (trim->kept != NONE) {
		msnap_space_undo_alloc(pool->space, trim->kept * CHUNK, CHUNK);
		trim->kept = NONE;
		any = true;
	}
	pthread_mutex_unlock(&trim->lock);
	return any;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* An error (no memory, or no room for the filesystem's own records): another time. */
bool msnap_trim_run(struct msnap_pool *pool)
{
	struct msnap_trim *trim = pool->trim;
	uint64_t until = now_ms() + TURN_MS;
	uint32_t min;
	int err = 0;

	/* The root before the one that was opened with stays whole, too. */
	if (!trim || pool->read_only ||
	    atomic_load(&pool->durable_gen) < pool->open_gen + 2)
		return false;
	msnap_trim_survey(pool);
	msnap_trim_keep(pool);
	min = (uint32_t)(msnap_mem_worth(pool->mem) >> MSNAP_BLOCK_SHIFT);
	for (uint64_t w = 0; !err && w <= (trim->nr_chunks - 1) / 64; w++) {
		if (pool->bg_stop || (w && now_ms() > until))
			return true;
		err = trim_word(pool, w, min);
	}
	return false;
}
