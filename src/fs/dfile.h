/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dfile.h - one file in direct mode: how it is open, and its view.  For direct*.c
 * only; everybody else includes direct.h.
 *
 * What it is: a table of the files that are open or whose view is kept, and what is
 * done with the view of one of them: make, register, list, absorb, drop.
 *
 * What it does not do: it does not decide how a file is opened, nor when its view
 * goes.
 *
 * Invariants: a view that somebody can store to is on the pool's list, durably
 * (listed).  A view that was listed is unlinked only after a commit that has both
 * its contents and its leaving the list.
 *
 * Locking: enter() before and leave() after everything with a dfile; it is a mutex
 * for every so many nodes.  Inside it only the table's own lock is taken, so the
 * mutexes of two nodes are never held together.  shut() waits until nobody is in and
 * keeps all out, for a rollback; its holder must not wait for the kernel.
 */
#ifndef MSNAP_FS_DFILE_H
#define MSNAP_FS_DFILE_H

#include <pthread.h>

#include "fs.h"
#include "view.h"

#define MSNAP_FS_DFILE_LOCKS 256
#define MSNAP_FS_DFILE_BUCKETS 4096

struct msnap_fs_dfile {
	struct msnap_fs_dfile *next;
	uint64_t node;
	unsigned nr_pass, nr_cached, nr_plain;
	uint64_t plain_ns; /* of the last PLAIN open, CLOCK_MONOTONIC */
	bool pass_waits;   /* a PASS open waits for PLAIN ones to be noted: no more of
			      these */
	int backing_id; /* 0: none registered */
	struct msnap_fs_view_name name;
	bool has_view; /* its view is there and was complete when last looked at */
	bool listed;   /* on the pool's list */
	bool newer;    /* the view may be newer than the engine */
	bool mapped;   /* after the last close it was in use still: look again */
	struct timespec same; /* the view's ctime when it and the engine had the same
				 contents; 0: not known */
	bool kept;     /* closed, and counted in nr_kept; guarded by direct->lock */
	uint64_t stamp; /* of when it was kept; the same */
};

struct msnap_fs_direct {
	struct msnap_fs_views *views;
	pthread_rwlock_t door; /* outermost */
	pthread_mutex_t node_lock[MSNAP_FS_DFILE_LOCKS]; /* guards dfile's fields */
	pthread_mutex_t lock; /* innermost; guards the table and what follows */
	struct msnap_fs_dfile *bucket[MSNAP_FS_DFILE_BUCKETS];
	uint64_t nr_kept;
	uint64_t stamp;
};

void msnap_fs_dfile_enter(struct msnap_fs_direct *direct, uint64_t node);
void msnap_fs_dfile_leave(struct msnap_fs_direct *direct, uint64_t node);
void msnap_fs_dfile_shut(struct msnap_fs_direct *direct);
void msnap_fs_dfile_open_up(struct msnap_fs_direct *direct);

/* NULL: not there. */
struct msnap_fs_dfile *msnap_fs_dfile_find(struct msnap_fs_direct *direct,
					   uint64_t node);
/* NULL: no memory. */
struct msnap_fs_dfile *msnap_fs_dfile_find_or_add(struct msnap_fs_direct *direct,
						  uint64_t node);
/* It leaves the table and is freed. */
void msnap_fs_dfile_remove(struct msnap_fs_direct *direct,
			   struct msnap_fs_dfile *file);
/* All live nodes in the table, which the caller frees.  -ENOMEM. */
int msnap_fs_dfile_nodes(struct msnap_fs_direct *direct, uint64_t **nodes,
			 size_t *nr);
/* The kept one that has been for longest; 0: no more than @max are. */
uint64_t msnap_fs_dfile_oldest(struct msnap_fs_direct *direct, uint64_t max);
void msnap_fs_dfile_keep(struct msnap_fs_direct *direct,
			 struct msnap_fs_dfile *file, bool keep);

static inline bool msnap_fs_dfile_is_open(const struct msnap_fs_dfile *file)
{
	return file->nr_pass || file->nr_cached || file->nr_plain;
}

/*
 * May somebody read or store through the view?  A mapping outlives the close of what
 * it was made of: the kernel then lets go of our file, but not of the view.
 */
bool msnap_fs_dfile_in_use(struct fs *fs, struct msnap_fs_dfile *file);
/* Is the view what the file contains? */
bool msnap_fs_dfile_in_view(struct fs *fs, struct msnap_fs_dfile *file);

/* A file descriptor, which the caller closes. */
int msnap_fs_dfile_open_view(struct fs *fs, const struct msnap_fs_dfile *file);
/* Make the view if it is not there, and register it if it is not yet.  -E2BIG: the
 * file is in too many pieces. */
int msnap_fs_dfile_make_view(struct fs *fs, struct msnap_fs_dfile *file);
void msnap_fs_dfile_unregister(struct fs *fs, struct msnap_fs_dfile *file);

/* Before anybody can store to the view: durably. */
int msnap_fs_dfile_list(struct fs *fs, struct msnap_fs_dfile *file);
/* The view's contents into the engine, if they may be newer. */
int msnap_fs_dfile_absorb(struct fs *fs, struct msnap_fs_dfile *file);
/* The view is of no use any more.  @deleted: nor are its contents. */
int msnap_fs_dfile_drop_view(struct fs *fs, struct msnap_fs_dfile *file,
			     bool deleted);

#endif
