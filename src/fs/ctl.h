/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl.h - the ioctls of control.h, and the threads that do the long ones.
 *
 * What it is: a queue with a few threads behind it.  What has to wait for the
 * kernel (to write back pages, to drop them) is done there, never in a request
 * handler; see fs.h.
 *
 * Locking: its own; callable from any thread.
 */
#ifndef MSNAP_FS_CTL_H
#define MSNAP_FS_CTL_H

#include "access.h"
#include "control.h"
#include "fs.h"

/* Embedded at the start of what is queued; run() frees it. */
struct msnap_fs_job {
	struct msnap_fs_job *next;
	void (*run)(struct fs *fs, struct msnap_fs_job *job);
};

/* -ENOMEM; no threads yet. */
int msnap_fs_ctl_new(struct fs *fs, struct msnap_fs_ctl **ctl);
/* After daemonising.  Negative errno of pthread_create(). */
int msnap_fs_ctl_start(struct msnap_fs_ctl *ctl);
/* Do what is queued and end the threads; jobs that come later are refused. */
void msnap_fs_ctl_stop(struct msnap_fs_ctl *ctl);
void msnap_fs_ctl_free(struct msnap_fs_ctl *ctl); /* NULL is fine */

/* -ESHUTDOWN: ending; the job is still the caller's. */
int msnap_fs_ctl_submit(struct msnap_fs_ctl *ctl, struct msnap_fs_job *job);

/* One ioctl on its way: a copy of what the handler got. */
struct msnap_fs_call {
	struct msnap_fs_job job;
	fuse_req_t req;
	uint64_t node;
	bool dir;	 /* made on a directory */
	bool readable;	 /* the file is open for reading */
	struct msnap_fs_caller caller;
	union {
		struct msnap_ioc_snap snap;
		struct msnap_ioc_snap_delete del;
		struct msnap_ioc_snap_rename rename;
		struct msnap_ioc_rollback rollback;
		struct msnap_ioc_clone clone;
		struct msnap_ioc_scrub scrub;
		struct msnap_ioc_scrub_list scrub_list;
	} arg;
};

/*
 * The ioctl of fuse_lowlevel_ops.  @file_flags: those of open(), 0 for
 * directories.
 */
void msnap_fs_ioctl(fuse_req_t req, uint64_t node, unsigned cmd, bool dir,
		    int file_flags, const void *in, size_t in_size,
		    size_t out_size);

/* Is it terminated, not empty, no path, and at most @max bytes? */
int msnap_fs_check_name(const char *name, size_t size, size_t max);
/* Is every byte zero? */
bool msnap_fs_is_zero(const void *mem, size_t len);
/*
 * The live directory that a call was made on.  -ENOTDIR; -EROFS: it is in .snap,
 * or .snap itself.
 */
int msnap_fs_call_dir(const struct msnap_fs_call *call, uint64_t *dir);

#endif
