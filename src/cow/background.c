/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "background.h"

#include <errno.h>
#include <string.h>
#include <syslog.h>

#include "commit.h"
#include "fill.h"
#include "tree.h"
#include "trim.h"

static void deadline(struct timespec *at, unsigned ms)
{
	clock_gettime(CLOCK_MONOTONIC, at);
	at->tv_sec += ms / 1000;
	at->tv_nsec += ms % 1000 * 1000000l;
	if (at->tv_nsec >= 1000000000l) {
		at->tv_sec++;
		at->tv_nsec -= 1000000000l;
	}
}

/* Until there is nothing more to drop, or it cannot be done now. */
static void drop_all(struct msnap_pool *pool)
{
	int ret;

	do {
		ret = msnap_drop_step(pool);
	} while (ret > 0 && !pool->bg_stop);
	if (ret < 0 && ret != -EROFS)
		msnap_log(pool, LOG_WARNING, "background deletion: %s",
			  strerror(-ret));
}

static bool next_fill(struct msnap_pool *pool, uint64_t *ino)
{
	bool any;

	pthread_mutex_lock(&pool->bg_lock);
	any = pool->fill.nr;
	if (any)
		*ino = pool->fill.run[--pool->fill.nr].blk;
	pthread_mutex_unlock(&pool->bg_lock);
	return any;
}

static void fill_all(struct msnap_pool *pool)
{
	uint64_t ino, fb;
	int ret;

	while (!pool->bg_stop && next_fill(pool, &ino)) {
		fb = 0;
		do {
			ret = msnap_fill_step(pool, ino, &fb);
		} while (ret > 0 && !pool->bg_stop);
		if (ret < 0 && ret != -EROFS && ret != -ENOENT)
			msnap_log(pool, LOG_WARNING, "checksums of inode %llu: %s",
				  (unsigned long long)ino, strerror(-ret));
	}
}

/* When nothing more happens, what the last commit freed would stay pending. */
static void commit_and_trim(struct msnap_pool *pool)
{
	uint64_t last;

	do {
		last = atomic_load(&pool->durable_gen);
		msnap_commit(pool);
		if (pool->trim && atomic_load(&pool->durable_gen) == last)
			msnap_commit_idle(pool);
	} while (msnap_trim_run(pool) && !pool->bg_stop && !pool->bg_kicked);
}

/* bg_lock held; dropped while working. */
static void work(struct msnap_pool *pool, bool kicked)
{
	pool->bg_kicked = false;
	pool->bg_busy = true;
	pthread_mutex_unlock(&pool->bg_lock);
	if (kicked) {
		drop_all(pool);
		fill_all(pool);
	} else if (!pool->read_only) {
		commit_and_trim(pool);
	}
	pthread_mutex_lock(&pool->bg_lock);
	pool->bg_busy = false;
	if (!pool->bg_kicked)
		pthread_cond_broadcast(&pool->bg_idle);
}

static void *background(void *arg)
{
	struct msnap_pool *pool = arg;
	struct timespec at;
	int err;

	deadline(&at, pool->commit_ms);
	pthread_mutex_lock(&pool->bg_lock);
	while (!pool->bg_stop) {
		err = pool->bg_kicked ? 0 :
			pthread_cond_timedwait(&pool->bg_wake, &pool->bg_lock, &at);
		if (pool->bg_stop)
			break;
		if (pool->bg_kicked)
			work(pool, true);
		if (err == ETIMEDOUT) {
			work(pool, false);
			deadline(&at, pool->commit_ms);
		}
	}
	pthread_mutex_unlock(&pool->bg_lock);
	return NULL;
}

int msnap_bg_start(struct msnap_pool *pool)
{
	int err;

	pool->bg_stop = false;
	pool->bg_kicked = true; /* an earlier run may have left something */
	err = pthread_create(&pool->bg_thread, NULL, background, pool);
	if (err)
		return -err;
	pool->bg_running = true;
	return 0;
}

void msnap_bg_stop(struct msnap_pool *pool)
{
	if (!pool->bg_running)
		return;
	pthread_mutex_lock(&pool->bg_lock);
	pool->bg_stop = true;
	pthread_cond_signal(&pool->bg_wake);
	pthread_mutex_unlock(&pool->bg_lock);
	pthread_join(pool->bg_thread, NULL);
	pool->bg_running = false;
	pthread_cond_broadcast(&pool->bg_idle);
}

void msnap_bg_kick(struct msnap_pool *pool)
{
	pthread_mutex_lock(&pool->bg_lock);
	pool->bg_kicked = true;
	pthread_cond_signal(&pool->bg_wake);
	pthread_mutex_unlock(&pool->bg_lock);
}

void msnap_bg_fill(struct msnap_pool *pool, uint64_t ino)
{
	pthread_mutex_lock(&pool->bg_lock);
	if (!msnap_runs_reserve(&pool->fill, 1))
		pool->fill.run[pool->fill.nr++] = (struct msnap_run){ ino, 0 };
	pthread_mutex_unlock(&pool->bg_lock);
	msnap_bg_kick(pool);
}

int msnap_pool_settle(struct msnap_pool *pool)
{
	int ret = 0;

	if (!pool->bg_running) {
		while ((ret = msnap_drop_step(pool)) > 0)
			;
		fill_all(pool);
		return ret;
	}
	msnap_bg_kick(pool);
	pthread_mutex_lock(&pool->bg_lock);
	while (pool->bg_kicked || pool->bg_busy)
		pthread_cond_wait(&pool->bg_idle, &pool->bg_lock);
	pthread_mutex_unlock(&pool->bg_lock);
	return 0;
}
