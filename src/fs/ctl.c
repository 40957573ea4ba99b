/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl.c - see ctl.h.
 *
 * An ioctl is checked for its form and either answered at once (those of
 * ctl-info.c, which only look) or copied and queued.
 */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ctl-info.h"
#include "ctl-long.h"
#include "flush.h"
#include "inject.h"
#include "reply.h"
#include "scrub.h"

#define NR_THREADS 2

struct msnap_fs_ctl {
	struct fs *fs;
	pthread_t thread[NR_THREADS];
	unsigned nr_threads;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	struct msnap_fs_job *first;
	struct msnap_fs_job **last;
	bool stop;
};

int msnap_fs_ctl_new(struct fs *fs, struct msnap_fs_ctl **out)
{
	struct msnap_fs_ctl *ctl = calloc(1, sizeof(*ctl));

	if (!ctl)
		return -ENOMEM;
	ctl->fs = fs;
	ctl->last = &ctl->first;
	pthread_mutex_init(&ctl->lock, NULL);
	pthread_cond_init(&ctl->wake, NULL);
	*out = ctl;
	return 0;
}

void msnap_fs_ctl_free(struct msnap_fs_ctl *ctl)
{
	free(ctl);
}

/* NULL: the end, and nothing is left to do. */
static struct msnap_fs_job *next_job(struct msnap_fs_ctl *ctl)
{
	struct msnap_fs_job *job;

	pthread_mutex_lock(&ctl->lock);
	while (!ctl->first && !ctl->stop)
		pthread_cond_wait(&ctl->wake, &ctl->lock);
	job = ctl->first;
	if (job) {
		ctl->first = job->next;
		if (!ctl->first)
			ctl->last = &ctl->first;
	}
	pthread_mutex_unlock(&ctl->lock);
	return job;
}

static void *work(void *arg)
{
	struct msnap_fs_ctl *ctl = arg;
	struct msnap_fs_job *job;

	msnap_fs_flush_register(ctl->fs->flush);
	while ((job = next_job(ctl)))
		job->run(ctl->fs, job);
	return NULL;
}

int msnap_fs_ctl_start(struct msnap_fs_ctl *ctl)
{
	while (ctl->nr_threads < NR_THREADS) {
		int err = pthread_create(&ctl->thread[ctl->nr_threads], NULL,
					 work, ctl);

		if (err)
			return -err;
		ctl->nr_threads++;
	}
	return 0;
}

void msnap_fs_ctl_stop(struct msnap_fs_ctl *ctl)
{
	pthread_mutex_lock(&ctl->lock);
	ctl->stop = true;
	pthread_cond_broadcast(&ctl->wake);
	pthread_mutex_unlock(&ctl->lock);
	while (ctl->nr_threads)
		pthread_join(ctl->thread[--ctl->nr_threads], NULL);
}

int msnap_fs_ctl_submit(struct msnap_fs_ctl *ctl, struct msnap_fs_job *job)
{
	int err = 0;

	job->next = NULL;
	pthread_mutex_lock(&ctl->lock);
	if (ctl->stop) {
		err = -ESHUTDOWN;
	} else {
		*ctl->last = job;
		ctl->last = &job->next;
		pthread_cond_signal(&ctl->wake);
	}
	pthread_mutex_unlock(&ctl->lock);
	return err;
}

int msnap_fs_check_name(const char *name, size_t size, size_t max)
{
	size_t len = strnlen(name, size);

	if (len == size)
		return -EINVAL;
	if (len == 0 || strchr(name, '/') || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return -EINVAL;
	return len > max ? -ENAMETOOLONG : 0;
}

bool msnap_fs_is_zero(const void *mem, size_t len)
{
	const uint8_t *byte = mem;

	for (size_t i = 0; i < len; i++)
		if (byte[i])
			return false;
	return true;
}

int msnap_fs_call_dir(const struct msnap_fs_call *call, uint64_t *dir)
{
	if (!call->dir)
		return -ENOTDIR;
	if (!msnap_fs_is_live(call->node))
		return -EROFS;
	*dir = call->node;
	return 0;
}

/* The calls that are queued, and how large their argument is. */
struct long_call {
	unsigned cmd;
	size_t size;
	void (*run)(struct fs *fs, struct msnap_fs_call *call);
};

static const struct long_call long_call[] = {
	{ MSNAP_IOC_SNAP, sizeof(struct msnap_ioc_snap), msnap_fs_call_snap },
	{ MSNAP_IOC_SNAP_DELETE, sizeof(struct msnap_ioc_snap_delete),
	  msnap_fs_call_snap_delete },
	{ MSNAP_IOC_SNAP_RENAME, sizeof(struct msnap_ioc_snap_rename),
	  msnap_fs_call_snap_rename },
	{ MSNAP_IOC_ROLLBACK, sizeof(struct msnap_ioc_rollback),
	  msnap_fs_call_rollback },
	{ MSNAP_IOC_CLONE, sizeof(struct msnap_ioc_clone),
	  msnap_fs_call_clone },
	{ MSNAP_IOC_SCRUB, sizeof(struct msnap_ioc_scrub), msnap_fs_call_scrub },
	{ MSNAP_IOC_SCRUB_LIST, sizeof(struct msnap_ioc_scrub_list),
	  msnap_fs_call_scrub_list },
};

static const struct long_call *find_long_call(unsigned cmd)
{
	for (size_t i = 0; i < sizeof(long_call) / sizeof(*long_call); i++)
		if (long_call[i].cmd == cmd)
			return &long_call[i];
	return NULL;
}

struct queued {
	struct msnap_fs_call call;
	const struct long_call *what;
};

static void run_queued(struct fs *fs, struct msnap_fs_job *job)
{
	struct queued *queued = (struct queued *)job;
	int err = msnap_fs_caller_get(queued->call.req, &queued->call.caller);

	if (err)
		msnap_fs_reply(queued->call.req, err);
	else
		queued->what->run(fs, &queued->call);
	msnap_fs_caller_put(&queued->call.caller);
	free(queued);
}

static int queue(struct fs *fs, const struct queued *from, const void *in,
		 size_t in_size)
{
	struct queued *queued;
	int err;

	if (in_size != from->what->size)
		return -EINVAL;
	queued = malloc(sizeof(*queued));
	if (!queued)
		return -ENOMEM;
	*queued = *from;
	queued->call.job.run = run_queued;
	memcpy(&queued->call.arg, in, in_size);
	err = msnap_fs_ctl_submit(fs->ctl, &queued->call.job);
	if (err)
		free(queued);
	return err;
}

void msnap_fs_ioctl(fuse_req_t req, uint64_t node, unsigned cmd, bool dir,
		    int file_flags, const void *in, size_t in_size,
		    size_t out_size)
{
	struct fs *fs = msnap_fs_of(req);
	struct queued queued = {
		.call = {
			.req = req,
			.node = node,
			.dir = dir,
			.readable = (file_flags & O_ACCMODE) != O_WRONLY,
		},
		.what = find_long_call(cmd),
	};
	int err;

	if (cmd == MSNAP_FS_IOC_INJECT) {
		msnap_fs_inject_ioctl(req, in, in_size);
		return;
	}
	if (!queued.what) {
		msnap_fs_info_ioctl(req, node, cmd, dir, in, in_size, out_size);
		return;
	}
	err = queue(fs, &queued, in, in_size);
	if (err)
		msnap_fs_reply(req, err);
}
