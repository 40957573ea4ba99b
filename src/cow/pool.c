/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "alloc.h"
#include "background.h"
#include "blockdev.h"
#include "commit.h"
#include "inode.h"
#include "tree.h"
#include "trim.h"

#define DEFAULT_COMMIT_MS 5000
#define DEFAULT_SNAP_STEP 1000 /* two milliseconds */
#define NR_SPARE_MAX 64

/* ---- log ------------------------------------------------------------------- */

static void vlog(struct msnap_pool *pool, int level, const char *fmt, va_list ap)
{
	char line[512];

	if (!pool->log)
		return;
	vsnprintf(line, sizeof(line), fmt, ap);
	pool->log(pool->log_arg, level, line);
}

void msnap_log(struct msnap_pool *pool, int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vlog(pool, level, fmt, ap);
	va_end(ap);
}

int msnap_damaged(struct msnap_pool *pool, const char *fmt, ...)
{
	va_list ap;

	if (pool->repairing)
		return -EUCLEAN;
	va_start(ap, fmt);
	vlog(pool, LOG_ERR, fmt, ap);
	va_end(ap);
	if (!atomic_exchange(&pool->read_only, 1))
		msnap_log(pool, LOG_ERR, "the pool is damaged; read-only from now on");
	return -EUCLEAN;
}

/* ---- building and taking down the struct ------------------------------------ */

static void free_ok(_Atomic(_Atomic uint64_t *) *map, uint64_t nr)
{
	uint64_t i;

	for (i = 0; map && i < nr; i++)
		free((void *)map[i]);
	free(map);
}

static void free_txn(struct msnap_txn *txn)
{
	msnap_runs_free(&txn->nodes);
	msnap_runs_free(&txn->data);
	msnap_runs_free(&txn->freed);
}

static void pool_free(struct msnap_pool *pool)
{
	msnap_trim_free(pool);
	msnap_space_free(pool->space);
	free_ok(pool->node_ok, pool->nr_ok_chunks);
	free_ok(pool->data_ok, pool->nr_ok_chunks);
	while (pool->nr_spare)
		free(pool->spare[--pool->nr_spare]);
	free(pool->spare);
	free(pool->op.image);
	free(pool->op.delta);
	free(pool->op.touched);
	msnap_runs_free(&pool->op.nodes);
	msnap_runs_free(&pool->op.data);
	msnap_runs_free(&pool->op.freed);
	free_txn(&pool->txn);
	free_txn(&pool->sealed);
	msnap_runs_free(&pool->last_freed);
	msnap_runs_free(&pool->space_map);
	msnap_runs_free(&pool->fill);
	pthread_cond_destroy(&pool->bg_idle);
	pthread_cond_destroy(&pool->bg_wake);
	pthread_mutex_destroy(&pool->bg_lock);
	pthread_mutex_destroy(&pool->commit_lock);
	pthread_rwlock_destroy(&pool->lock);
	msnap_mem_close(pool->mem);
	if (pool->host >= 0)
		close(pool->host);
	free(pool->file);
	free(pool->path);
	free(pool);
}

static void init_locks(struct msnap_pool *pool)
{
	pthread_rwlockattr_t rw;
	pthread_condattr_t cond;

	pthread_rwlockattr_init(&rw);
	/* Readers must not keep writers out for ever. */
	pthread_rwlockattr_setkind_np(&rw,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&pool->lock, &rw);
	pthread_rwlockattr_destroy(&rw);
	pthread_mutex_init(&pool->commit_lock, NULL);
	pthread_mutex_init(&pool->bg_lock, NULL);
	pthread_condattr_init(&cond);
	pthread_condattr_setclock(&cond, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->bg_wake, &cond);
	pthread_cond_init(&pool->bg_idle, &cond);
	pthread_condattr_destroy(&cond);
}

static int init_memory(struct msnap_pool *pool, const char *name)
{
	int err;

	pool->nr_ok_chunks = pool->nr_blocks / MSNAP_VERIFIED_CHUNK + 1;
	pool->node_ok = msnap_calloc(pool->nr_ok_chunks, sizeof(*pool->node_ok));
	pool->data_ok = msnap_calloc(pool->nr_ok_chunks, sizeof(*pool->data_ok));
	pool->spare = msnap_calloc(NR_SPARE_MAX, sizeof(*pool->spare));
	pool->path = msnap_malloc(strlen(name) + 1);
	if (!pool->node_ok || !pool->data_ok || !pool->spare || !pool->path)
		return -ENOMEM;
	strcpy(pool->path, name);
	err = msnap_space_new(pool->nr_blocks, &pool->space);
	return err ? err : pool->read_only ? 0 : msnap_trim_new(pool);
}

/* One block in 64, between 64 blocks and 64 MiB: enough for the paths that
 * deleting copies, and for two commits of them. */
static uint64_t reserve_of(uint64_t nr_blocks)
{
	uint64_t nr = nr_blocks / 64;

	return nr < 64 ? 64 : nr > 16384 ? 16384 : nr;
}

static void set_super(struct msnap_pool *pool, const struct msnap_super *super)
{
	pool->base = pool->mem->base;
	pool->nr_blocks = get64(super->nr_blocks);
	pool->nr_reserve = reserve_of(pool->nr_blocks);
	pool->hash_seed = get64(super->hash_seed);
	memcpy(pool->uuid, super->uuid, sizeof(pool->uuid));
	memcpy(pool->label, super->label, sizeof(pool->label));
}

/* @newest: the highest generation in the ring; above the root's own when that is not
 * the newest. */
static void set_root(struct msnap_pool *pool, const struct msnap_root *root,
		     uint64_t newest)
{
	pool->ns = (struct msnap_tree){ MSNAP_TREE_NS, 0, msnap_ptr_load(root->ns) };
	pool->catalog = (struct msnap_tree){ MSNAP_TREE_CATALOG, 0,
					     msnap_ptr_load(root->catalog) };
	pool->open_gen = newest;
	pool->gen = newest + 1;
	pool->durable_gen = newest;
	/* Numbers that nothing may have are not given to anything, whatever the
	 * record says; fsck finds a next one that is in use. */
	pool->next_ino = get64(root->next_ino);
	if (pool->next_ino < MSNAP_FIRST_INO)
		pool->next_ino = MSNAP_FIRST_INO;
	pool->next_snap = get64(root->next_snap);
	if (!pool->next_snap)
		pool->next_snap = 1;
	pool->nr_inodes = get64(root->nr_inodes);
}

/* ---- opening ------------------------------------------------------------------ */

static int load_space(struct msnap_pool *pool, const struct msnap_root *root,
		      unsigned flags)
{
	int err;

	pool->was_clean = get32(root->flags) & MSNAP_ROOT_CLEAN;
	if (pool->was_clean && !(flags & MSNAP_OPEN_REBUILD)) {
		err = msnap_spacemap_load(pool, root);
		if (err != -EUCLEAN && err != -EIO)
			return err;
		msnap_log(pool, LOG_WARNING, "the saved space map is damaged; "
			  "counting anew");
		pool->space_map.nr = 0;
		msnap_space_free(pool->space);
		pool->space = NULL;
		err = msnap_space_new(pool->nr_blocks, &pool->space);
		if (err)
			return err;
	}
	return msnap_spacemap_rebuild(pool);
}

static int count_snaps(struct msnap_pool *pool)
{
	struct msnap_key key = { (uint64_t)MSNAP_CAT_SNAP << 56, 0 };
	struct msnap_cursor cur;
	int err = msnap_cursor_seek(pool, &pool->catalog, key, &cur);

	while (!err && msnap_cursor_key(&cur).hi >> 56 == MSNAP_CAT_SNAP) {
		pool->nr_snaps++;
		err = msnap_cursor_next(&cur);
	}
	return err == -ENOENT ? 0 : err;
}

/* What an earlier run left: orphans, or a new pool's missing root directory. */
static int tidy(struct msnap_pool *pool)
{
	int err = 0;

	if (pool->read_only)
		return 0;
	if (!pool->ns.root.blk)
		err = msnap_make_root_dir(pool);
	return err ? err : msnap_evict_all(pool);
}

static int open_steps(struct msnap_pool *pool, const struct msnap_root *root,
		      uint64_t newest, const struct msnap_open_args *args)
{
	int err;

	set_root(pool, root, newest);
	pool->repairing = args->flags & MSNAP_OPEN_REPAIR;
	if (pool->repairing) {
		pool->was_clean = get32(root->flags) & MSNAP_ROOT_CLEAN;
		return 0;
	}
	err = pool->read_only ? 0 : msnap_root_clear_torn(pool->mem, pool->uuid);
	if (!err)
		err = load_space(pool, root, args->flags);
	/* An older root becomes the newest before any block is used again. */
	if (!err && newest > get64(root->gen) && !pool->read_only)
		err = msnap_commit_now(pool);
	if (!err)
		err = count_snaps(pool);
	if (!err)
		msnap_trim_keep(pool);
	if (!err)
		err = tidy(pool);
	if (!err && !pool->read_only && !(args->flags & MSNAP_OPEN_NO_BACKGROUND))
		err = msnap_bg_start(pool);
	/* Damaged metadata: what can be read is shown, nothing is changed. */
	return err == -EUCLEAN || err == -EIO ? 0 : err;
}

static struct msnap_pool *pool_new(struct msnap_mem *mem,
				   const struct msnap_open_args *args)
{
	struct msnap_pool *pool = msnap_calloc(1, sizeof(*pool));

	if (!pool)
		return NULL;
	init_locks(pool);
	pool->host = -1;
	pool->mem = mem;
	pool->log = args->log;
	pool->log_arg = args->log_arg;
	pool->commit_ms = args->commit_ms ? args->commit_ms : DEFAULT_COMMIT_MS;
	pool->snap_step = args->snap_step ? args->snap_step : DEFAULT_SNAP_STEP;
	pool->read_only = mem->read_only || args->flags & MSNAP_OPEN_RDONLY;
	return pool;
}

int msnap_pool_open_mem(struct msnap_mem *mem, const char *name,
			const struct msnap_open_args *args,
			struct msnap_pool **out, struct msnap_why *why)
{
	struct msnap_super super;
	struct msnap_root root, newest;
	struct msnap_pool *pool;
	int err = msnap_super_read(mem, name, &super, why);

	if (!err) {
		err = msnap_root_read(mem, super.uuid, 0, &newest);
		if (!err)
			err = msnap_root_read(mem, super.uuid,
					      args->flags & MSNAP_OPEN_PREVIOUS ?
						      1 : 0,
					      &root);
		if (err)
			snprintf(why->text, sizeof(why->text),
				 "%s: no valid root record; the pool is damaged",
				 name);
	}
	pool = err ? NULL : pool_new(mem, args);
	if (!pool) {
		msnap_mem_close(mem);
		if (err)
			return err;
		snprintf(why->text, sizeof(why->text), "%s: out of memory", name);
		return -ENOMEM;
	}
	set_super(pool, &super);
	err = init_memory(pool, name);
	if (!err)
		err = open_steps(pool, &root, get64(newest.gen), args);
	if (err) {
		snprintf(why->text, sizeof(why->text), "%s: %s", name,
			 strerror(-err));
		pool_free(pool);
		return err;
	}
	*out = pool;
	return 0;
}

int msnap_pool_open(const char *path, const struct msnap_open_args *args,
		    struct msnap_pool **pool, struct msnap_why *why)
{
	char file[MSNAP_BLOCKDEV_PATH] = "";
	struct msnap_mem *mem;
	struct stat st;
	int err, host = -1;

	if (!stat(path, &st) && S_ISBLK(st.st_mode)) {
		err = msnap_blockdev_mount(path, args->flags & MSNAP_OPEN_RDONLY,
					   args->lock_wait_ms, &host, file, why);
		if (err)
			return err;
	}
	err = msnap_mem_open(host < 0 ? path : file,
			     args->flags & MSNAP_OPEN_RDONLY, args->lock_wait_ms,
			     &mem, why);
	if (err == -ENOENT && host >= 0)
		snprintf(why->text, sizeof(why->text), "%s: not a memsnapfs pool "
			 "(mkfs.memsnapfs makes one)", path);
	if (!err)
		err = msnap_pool_open_mem(mem, path, args, pool, why);
	if (err) {
		if (host >= 0) {
			msnap_blockdev_name(path, file, why);
			close(host);
		}
		return err;
	}
	(*pool)->host = host;
	(*pool)->file = strdup(host < 0 ? path : file);
	return 0;
}

const char *msnap_pool_file(struct msnap_pool *pool)
{
	return pool->file ? pool->file : pool->path;
}

int msnap_pool_close(struct msnap_pool *pool)
{
	int err;

	msnap_bg_stop(pool);
	err = msnap_commit(pool);
	if (!err && !pool->read_only) {
		/* Without it the next open counts anew: nothing is lost. */
		int clean = msnap_commit_clean(pool);

		if (clean)
			msnap_log(pool, LOG_WARNING, "no clean end: %s",
				  strerror(-clean));
	}
	pool_free(pool);
	return err;
}

void msnap_pool_abandon(struct msnap_pool *pool)
{
	msnap_bg_stop(pool);
	pool_free(pool);
}

/* ---- information ---------------------------------------------------------------- */

int msnap_pool_info(struct msnap_pool *pool, struct msnap_pool_info *info)
{
	struct msnap_space_stat stat;

	memset(info, 0, sizeof(*info));
	snprintf(info->path, sizeof(info->path), "%s", pool->path);
	snprintf(info->granularity, sizeof(info->granularity), "%s",
		 pool->mem->granularity);
	memcpy(info->label, pool->label, sizeof(info->label));
	memcpy(info->uuid, pool->uuid, sizeof(info->uuid));
	info->device = pool->mem->device;
	info->read_only = pool->read_only;
	info->was_clean = pool->was_clean;
	info->size = pool->nr_blocks << MSNAP_BLOCK_SHIFT;
	info->block_size = MSNAP_BLOCK_SIZE;
	info->nr_blocks = pool->nr_blocks;
	msnap_space_stat(pool->space, &stat);
	info->nr_free = stat.nr_free + stat.nr_pending;
	info->nr_reserve = pool->nr_reserve < info->nr_free ? pool->nr_reserve :
							      info->nr_free;
	info->nr_shared = stat.nr_shared;
	info->nr_space_runs = stat.nr_runs;
	info->generation = atomic_load(&pool->durable_gen);
	info->nr_commits = atomic_load(&pool->nr_commits);
	info->nr_background = msnap_drop_waiting(pool);
	pthread_rwlock_rdlock(&pool->lock);
	info->nr_inodes = pool->nr_inodes;
	info->nr_snaps = pool->nr_snaps;
	pthread_rwlock_unlock(&pool->lock);
	return 0;
}
