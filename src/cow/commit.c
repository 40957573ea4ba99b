/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "commit.h"

#include <errno.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "break.h"
#include "csum.h"
#include "trim.h"
#include "txn.h"

/* Readers copy a few MiB at most: waiting for them is short. */
static void wait_readers(struct msnap_pool *pool, uint64_t gen)
{
	while (atomic_load(&pool->readers[gen % MSNAP_READER_SLOTS]))
		usleep(20);
}

static void fill_root(struct msnap_pool *pool, struct msnap_root *root)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	memset(root, 0, sizeof(*root));
	root->magic = put64(MSNAP_ROOT_MAGIC);
	root->gen = put64(pool->gen);
	memcpy(root->uuid, pool->uuid, sizeof(root->uuid));
	root->time_ns = put64(now.tv_sec * 1000000000ull + now.tv_nsec);
	root->ns = msnap_ptr_store(pool->ns.root);
	root->catalog = msnap_ptr_store(pool->catalog.root);
	root->next_ino = put64(pool->next_ino);
	root->next_snap = put64(pool->next_snap);
	root->nr_inodes = put64(pool->nr_inodes);
}

/* The running generation ends here; the next one begins with empty lists. */
static bool seal(struct msnap_pool *pool, bool force, struct msnap_root *root)
{
	struct msnap_txn empty = pool->sealed;
	bool any;

	/* The slot of the next generation still counts readers of the one four
	 * before it. */
	wait_readers(pool, pool->gen + 1);
	pthread_rwlock_wrlock(&pool->lock);
	any = pool->dirty || force;
	if (any) {
		fill_root(pool, root);
		pool->sealed = pool->txn;
		pool->txn = empty;
		pool->gen++;
		pool->next_drop = 0;
		pool->dirty = false;
	}
	pthread_rwlock_unlock(&pool->lock);
	return any;
}

static void csum_nodes(struct msnap_pool *pool, const struct msnap_runs *nodes)
{
	size_t i;

	for (i = 0; i < nodes->nr; i++) {
		uint64_t blk = nodes->run[i].blk, end = blk + nodes->run[i].nr;

		for (; blk < end; blk++) {
			struct msnap_node *n = msnap_blk_ptr(pool, blk);

			n->csum = put64(msnap_csum_meta(n, blk));
		}
	}
}

static void flush_runs(struct msnap_pool *pool, const struct msnap_runs *runs)
{
	size_t i;

	for (i = 0; i < runs->nr; i++)
		msnap_mem_flush(pool->mem, runs->run[i].blk << MSNAP_BLOCK_SHIFT,
				runs->run[i].nr << MSNAP_BLOCK_SHIFT);
}

static int write_sealed(struct msnap_pool *pool, struct msnap_root *root)
{
	int err;

	/* Until the drain has returned, the new blocks may be on the media in any
	 * part; no root names them. */
	csum_nodes(pool, &pool->sealed.nodes);
	flush_runs(pool, &pool->sealed.nodes);
	flush_runs(pool, &pool->sealed.data);
	MSNAP_CRASH_AT(COMMIT);
	err = MSNAP_BROKEN(FENCE) ? 0 : msnap_mem_drain(pool->mem);
	MSNAP_CRASH_AT(COMMIT_DRAINED);
	return err ? err : msnap_root_write(pool->mem, root);
}

/* After root G: what generation G-1 freed is beyond the reach of G-1's and G's
 * roots; only readers that began before may still look at it. */
static void release_freed(struct msnap_pool *pool, uint64_t gen)
{
	size_t i;

	wait_readers(pool, gen - 1);
	wait_readers(pool, gen - 2);
	for (i = 0; i < pool->last_freed.nr; i++) {
		struct msnap_run *r = &pool->last_freed.run[i];

		msnap_trim_freed(pool, r->blk, r->nr);
		for (; r->nr > UINT32_MAX / 2; r->nr -= UINT32_MAX / 2) {
			msnap_space_release(pool->space, r->blk, UINT32_MAX / 2);
			r->blk += UINT32_MAX / 2;
		}
		msnap_space_release(pool->space, r->blk, r->nr);
	}
	pool->last_freed.nr = 0;
}

/* commit_lock held. */
static int commit_run(struct msnap_pool *pool, bool force)
{
	struct msnap_root root;
	struct msnap_runs tmp;
	int err;

	if (pool->commit_failed)
		return -EIO;
	if (!seal(pool, force, &root))
		return 0;
	err = MSNAP_GUARD(write_sealed(pool, &root));
	if (err) {
		/* What the media have is not known: only the last root counts. */
		pool->commit_failed = true;
		pool->read_only = 1;
		msnap_log(pool, LOG_CRIT, "the pool cannot be written (%s); "
			  "read-only from now on, what was done since the last "
			  "commit is not durable", strerror(-err));
		return err;
	}
	MSNAP_CRASH_AT(COMMITTED);
	atomic_store(&pool->durable_gen, get64(root.gen));
	atomic_fetch_add(&pool->nr_commits, 1);
	if (!MSNAP_BROKEN(EARLY_REUSE))
		release_freed(pool, get64(root.gen));
	tmp = pool->last_freed;
	pool->last_freed = pool->sealed.freed;
	pool->sealed.freed = tmp;
	if (MSNAP_BROKEN(EARLY_REUSE))
		release_freed(pool, get64(root.gen));
	pool->sealed.nodes.nr = pool->sealed.data.nr = 0;
	return 0;
}

/* The generation that must be durable for all that was done up to now. */
static uint64_t needed_gen(struct msnap_pool *pool)
{
	uint64_t gen;

	pthread_rwlock_rdlock(&pool->lock);
	gen = pool->dirty ? pool->gen : pool->gen - 1;
	pthread_rwlock_unlock(&pool->lock);
	return gen;
}

int msnap_commit(struct msnap_pool *pool)
{
	uint64_t gen;
	int err = 0;

	if (pool->mem->read_only || MSNAP_BROKEN(FSYNC))
		return 0;
	gen = needed_gen(pool);
	if (atomic_load(&pool->durable_gen) >= gen)
		return 0;
	pthread_mutex_lock(&pool->commit_lock);
	/* Somebody else's commit may have taken ours along. */
	if (atomic_load(&pool->durable_gen) < gen)
		err = commit_run(pool, false);
	/* An earlier commit failed: what it had is not durable. */
	if (!err && atomic_load(&pool->durable_gen) < gen)
		err = -EIO;
	pthread_mutex_unlock(&pool->commit_lock);
	return err;
}

int msnap_commit_now(struct msnap_pool *pool)
{
	int err;

	pthread_mutex_lock(&pool->commit_lock);
	err = commit_run(pool, true);
	pthread_mutex_unlock(&pool->commit_lock);
	return err;
}

void msnap_commit_idle(struct msnap_pool *pool)
{
	bool any;

	pthread_mutex_lock(&pool->commit_lock);
	any = pool->last_freed.nr && !pool->read_only;
	/* An error is in the log. */
	if (any)
		commit_run(pool, true);
	pthread_mutex_unlock(&pool->commit_lock);
}

int msnap_commit_reclaim(struct msnap_pool *pool)
{
	struct msnap_space_stat stat;
	int err = 0, i;

	msnap_trim_give(pool);
	for (i = 0; !err && i < 2; i++) {
		msnap_space_stat(pool->space, &stat);
		if (!stat.nr_pending)
			break;
		pthread_mutex_lock(&pool->commit_lock);
		err = pool->read_only ? -EROFS : commit_run(pool, true);
		pthread_mutex_unlock(&pool->commit_lock);
	}
	return err;
}

/* The blocks of the map that we opened with belong to nobody any more. */
static int give_back_old_map(struct msnap_pool *pool)
{
	size_t i;
	int err = 0;

	for (i = 0; !err && i < pool->space_map.nr; i++)
		err = msnap_op_put(pool, pool->space_map.run[i].blk,
				   pool->space_map.run[i].nr);
	return err;
}

int msnap_commit_clean(struct msnap_pool *pool)
{
	struct msnap_root root;
	int err, i;

	msnap_trim_give(pool); /* the map says free */
	err = msnap_op_begin(pool, MSNAP_OP_RESERVE);
	if (!err)
		err = msnap_op_end(pool, give_back_old_map(pool));
	pthread_mutex_lock(&pool->commit_lock);
	pool->space_map.nr = 0;
	for (i = 0; !err && i < 2; i++)
		err = commit_run(pool, true);
	if (!err) {
		fill_root(pool, &root);
		err = msnap_spacemap_save(pool, &root);
	}
	if (!err)
		err = msnap_root_write(pool->mem, &root);
	pthread_mutex_unlock(&pool->commit_lock);
	return err;
}
