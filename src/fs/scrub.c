/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scrub.c - see scrub.h.
 *
 * The engine's scrub is the thread's while it runs; when none runs it is kept, with
 * its place and its marks, so that a cancelled scrub goes on without reading
 * anything twice.  Only what the pool's record has outlives the mount.
 */
#include "scrub.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "reply.h"

#define DEFAULT_RATE (100ull << 20) /* bytes per second */
#define SAVE_EVERY_NS (60 * 1000000000ull)

struct msnap_fs_scrub {
	struct fs *fs;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;  /* of the thread that waits for its turn */
	pthread_cond_t idle;  /* running is false again */
	pthread_t thread;
	bool joinable;
	bool running;
	bool cancel;
	bool stopped; /* for ever */
	bool done;
	int err;
	uint64_t rate;
	struct msnap_scrub *scrub; /* not NULL while running */
	struct msnap_ioc_scrub_entry *found;
	size_t nr_found, max_found;
};

int msnap_fs_scrub_new(struct fs *fs, struct msnap_fs_scrub **out)
{
	struct msnap_fs_scrub *scrub = calloc(1, sizeof(*scrub));
	pthread_condattr_t attr;

	if (!scrub)
		return -ENOMEM;
	scrub->fs = fs;
	scrub->rate = DEFAULT_RATE;
	pthread_mutex_init(&scrub->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&scrub->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&scrub->idle, NULL);
	*out = scrub;
	return 0;
}

void msnap_fs_scrub_free(struct msnap_fs_scrub *scrub)
{
	if (!scrub)
		return;
	msnap_scrub_free(scrub->scrub);
	free(scrub->found);
	pthread_cond_destroy(&scrub->idle);
	pthread_cond_destroy(&scrub->wake);
	pthread_mutex_destroy(&scrub->lock);
	free(scrub);
}

/* ---- the thread ---------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* The end of a path says more than its beginning. */
static void copy_tail(char *to, size_t size, const char *from)
{
	size_t len = strlen(from);

	if (len >= size) {
		from += len - (size - 1);
		len = size - 1;
	}
	memcpy(to, from, len + 1);
}

/* Lock held.  NULL: no memory; the damage is in the log and in the count. */
static struct msnap_ioc_scrub_entry *new_entry(struct msnap_fs_scrub *scrub)
{
	if (scrub->nr_found == scrub->max_found) {
		size_t max = scrub->max_found ? scrub->max_found * 2 : 16;
		void *more = realloc(scrub->found, max * sizeof(*scrub->found));

		if (!more)
			return NULL;
		scrub->found = more;
		scrub->max_found = max;
	}
	return &scrub->found[scrub->nr_found++];
}

static void add_damage(void *arg, const struct msnap_scrub_damage *damage)
{
	struct msnap_fs_scrub *scrub = arg;
	struct msnap_ioc_scrub_entry *entry;

	pthread_mutex_lock(&scrub->lock);
	entry = new_entry(scrub);
	if (entry) {
		memset(entry, 0, sizeof(*entry));
		entry->ino = damage->id.ino;
		entry->snap = damage->id.snap;
		entry->offset = damage->off;
		entry->block = damage->blk;
		entry->meta = damage->meta;
		copy_tail(entry->name, sizeof(entry->name), damage->snap);
		copy_tail(entry->path, sizeof(entry->path), damage->path);
	}
	pthread_mutex_unlock(&scrub->lock);
}

/* Wait until @bytes more may be read; *@next is when.  False: cancelled. */
static bool wait_turn(struct msnap_fs_scrub *scrub, uint64_t bytes, uint64_t *next)
{
	uint64_t now = now_ns();
	struct timespec at;
	bool go_on;

	pthread_mutex_lock(&scrub->lock);
	if (*next < now)
		*next = now; /* time that was lost is not made up for */
	if (scrub->rate != MSNAP_IOC_SCRUB_UNLIMITED)
		*next += (uint64_t)((double)bytes / (double)scrub->rate * 1e9);
	at.tv_sec = (time_t)(*next / 1000000000ull);
	at.tv_nsec = (long)(*next % 1000000000ull);
	/* Woken by another rate, too: it counts from the next step on. */
	if (!scrub->cancel && *next > now)
		pthread_cond_timedwait(&scrub->wake, &scrub->lock, &at);
	if (now_ns() < *next)
		*next = 0;
	go_on = !scrub->cancel;
	pthread_mutex_unlock(&scrub->lock);
	return go_on;
}

/* A pool that cannot be written can be scrubbed, but does not remember it. */
static void save(struct msnap_fs_scrub *scrub, bool done)
{
	int err = msnap_scrub_save(scrub->scrub, done);

	if (err && err != -EROFS)
		msnap_fs_log(LOG_WARNING, "the scrub's progress could not be "
			     "recorded: %s", strerror(-err));
}

/* 0: all was looked at; 1: cancelled; or an error. */
static int steps(struct msnap_fs_scrub *scrub)
{
	uint64_t next = 0, saved = now_ns(), bytes;
	int ret;

	for (;;) {
		ret = msnap_scrub_step(scrub->scrub, add_damage, scrub, &bytes);
		if (ret <= 0)
			return ret;
		if (!wait_turn(scrub, bytes, &next))
			return 1;
		if (now_ns() - saved > SAVE_EVERY_NS) {
			save(scrub, false);
			saved = now_ns();
		}
	}
}

static void log_end(struct msnap_fs_scrub *scrub, int ret)
{
	struct msnap_scrub_stat stat;

	msnap_scrub_stat(scrub->scrub, &stat);
	if (ret < 0)
		msnap_fs_log(LOG_ERR, "scrub: cannot go on: %s", strerror(-ret));
	else
		msnap_fs_log(stat.nr_damaged ? LOG_ERR : LOG_INFO,
			     "scrub: %s, %llu tree nodes and %llu blocks of data "
			     "verified, %llu damaged",
			     ret ? "stopped" : "finished",
			     (unsigned long long)stat.nr_nodes,
			     (unsigned long long)stat.nr_blocks,
			     (unsigned long long)stat.nr_damaged);
}

static void *work(void *arg)
{
	struct msnap_fs_scrub *scrub = arg;
	int ret;

	save(scrub, false);
	ret = steps(scrub);
	save(scrub, ret == 0);
	log_end(scrub, ret);
	pthread_mutex_lock(&scrub->lock);
	scrub->done = ret == 0;
	scrub->err = ret < 0 ? ret : 0;
	scrub->running = false;
	pthread_cond_broadcast(&scrub->idle);
	pthread_mutex_unlock(&scrub->lock);
	return NULL;
}

/* ---- starting and stopping ----------------------------------------------- */

/* Lock held, none running.  One that was cancelled goes on. */
static int prepare(struct msnap_fs_scrub *scrub, bool restart)
{
	struct msnap_scrub *fresh;
	int err;

	if (scrub->scrub && !scrub->done && !restart)
		return 0;
	err = msnap_scrub_begin(scrub->fs->pool, restart, &fresh);
	if (err)
		return err;
	msnap_scrub_free(scrub->scrub);
	scrub->scrub = fresh;
	scrub->done = false;
	scrub->nr_found = 0;
	return 0;
}

static int launch(struct msnap_fs_scrub *scrub, bool restart)
{
	int err;

	if (scrub->stopped)
		return -ESHUTDOWN;
	if (scrub->joinable)
		pthread_join(scrub->thread, NULL);
	scrub->joinable = false;
	err = prepare(scrub, restart);
	if (err)
		return err;
	scrub->cancel = false;
	scrub->err = 0;
	scrub->running = true;
	err = -pthread_create(&scrub->thread, NULL, work, scrub);
	scrub->running = scrub->joinable = !err;
	return err;
}

/* Lock held. */
static int start(struct msnap_fs_scrub *scrub, const struct msnap_ioc_scrub *arg)
{
	bool restart = arg->flags & MSNAP_IOC_SCRUB_RESTART;

	if (scrub->running && restart)
		return -EBUSY;
	if (arg->rate || !scrub->running)
		scrub->rate = arg->rate ? arg->rate : DEFAULT_RATE;
	if (!scrub->running)
		return launch(scrub, restart);
	pthread_cond_signal(&scrub->wake);
	return 0;
}

/* Lock held; given up while waiting. */
static void cancel(struct msnap_fs_scrub *scrub)
{
	scrub->cancel = true;
	pthread_cond_signal(&scrub->wake);
	while (scrub->running)
		pthread_cond_wait(&scrub->idle, &scrub->lock);
}

void msnap_fs_scrub_stop(struct msnap_fs_scrub *scrub)
{
	pthread_mutex_lock(&scrub->lock);
	scrub->stopped = true;
	cancel(scrub);
	pthread_mutex_unlock(&scrub->lock);
	if (scrub->joinable)
		pthread_join(scrub->thread, NULL);
	scrub->joinable = false;
}

/* ---- the ioctls ---------------------------------------------------------- */

/* Its names are for those who may see every file. */
static int check_rights(const struct msnap_fs_call *call)
{
	uid_t uid = call->caller.uid;

	return uid == 0 || uid == geteuid() ? 0 : -EPERM;
}

static int check_form(const struct msnap_ioc_scrub *arg)
{
	if (arg->op > MSNAP_IOC_SCRUB_CANCEL ||
	    arg->flags & ~MSNAP_IOC_SCRUB_RESTART ||
	    !msnap_fs_is_zero(arg->reserved, sizeof(arg->reserved)))
		return -EINVAL;
	if (arg->op != MSNAP_IOC_SCRUB_START && (arg->flags || arg->rate))
		return -EINVAL;
	return 0;
}

static uint32_t state_of(const struct msnap_fs_scrub *scrub,
			 const struct msnap_scrub_stat *stat)
{
	if (scrub->running)
		return MSNAP_IOC_SCRUB_RUNNING;
	if (scrub->err)
		return MSNAP_IOC_SCRUB_FAILED;
	/* What this mount did counts, even when it could not be recorded. */
	return (scrub->scrub ? scrub->done : stat->state == MSNAP_SCRUB_DONE) ?
		       MSNAP_IOC_SCRUB_DONE : MSNAP_IOC_SCRUB_STOPPED;
}

static void fill(struct msnap_ioc_scrub *out, const struct msnap_scrub_stat *stat)
{
	const uint64_t bs = 4096;

	out->begin_ns = stat->begin_ns;
	out->end_ns = stat->end_ns;
	out->done = stat->nr_passed * bs;
	out->total = stat->nr_total * bs;
	out->nr_nodes = stat->nr_nodes;
	out->data = stat->nr_blocks * bs;
	out->filled = stat->nr_filled * bs;
	out->unchecked = stat->nr_unchecked * bs;
	out->nr_damaged = stat->nr_damaged;
}

/* Lock held. */
static int status(struct msnap_fs_scrub *scrub, struct msnap_ioc_scrub *out)
{
	struct msnap_scrub_stat stat = { 0 };
	int err = 0;

	if (scrub->scrub)
		msnap_scrub_stat(scrub->scrub, &stat);
	else
		err = msnap_scrub_last(scrub->fs->pool, &stat);
	if (err && err != -ENOENT)
		return err;
	out->state = err ? MSNAP_IOC_SCRUB_NONE : state_of(scrub, &stat);
	out->error = -scrub->err;
	out->rate = scrub->rate;
	out->nr_listed = scrub->nr_found;
	fill(out, &stat);
	return 0;
}

static int act(struct msnap_fs_scrub *scrub, struct msnap_fs_call *call)
{
	struct msnap_ioc_scrub *arg = &call->arg.scrub;
	int err = check_form(arg);

	if (!err && arg->op != MSNAP_IOC_SCRUB_STATUS)
		err = check_rights(call);
	if (err)
		return err;
	pthread_mutex_lock(&scrub->lock);
	if (arg->op == MSNAP_IOC_SCRUB_START)
		err = start(scrub, arg);
	else if (arg->op == MSNAP_IOC_SCRUB_CANCEL)
		cancel(scrub);
	if (!err)
		err = status(scrub, arg);
	pthread_mutex_unlock(&scrub->lock);
	return err;
}

void msnap_fs_call_scrub(struct fs *fs, struct msnap_fs_call *call)
{
	int err = act(fs->scrub, call);

	if (err)
		msnap_fs_reply(call->req, err);
	else
		fuse_reply_ioctl(call->req, 0, &call->arg.scrub,
				 sizeof(call->arg.scrub));
}

static int list(struct msnap_fs_scrub *scrub, const struct msnap_fs_call *call,
		struct msnap_ioc_scrub_list *out)
{
	const struct msnap_ioc_scrub_list *arg = &call->arg.scrub_list;
	int err = check_rights(call);
	uint64_t i;

	if (!err && arg->reserved)
		err = -EINVAL;
	if (err)
		return err;
	out->first = arg->first;
	pthread_mutex_lock(&scrub->lock);
	for (i = arg->first; i < scrub->nr_found && out->nr < MSNAP_IOC_SCRUB_LIST_MAX;
	     i++)
		out->entry[out->nr++] = scrub->found[i];
	pthread_mutex_unlock(&scrub->lock);
	return 0;
}

void msnap_fs_call_scrub_list(struct fs *fs, struct msnap_fs_call *call)
{
	struct msnap_ioc_scrub_list *out = calloc(1, sizeof(*out));
	int err = out ? list(fs->scrub, call, out) : -ENOMEM;

	if (err)
		msnap_fs_reply(call->req, err);
	else
		fuse_reply_ioctl(call->req, 0, out, sizeof(*out));
	free(out);
}
