/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * trim.h - giving the space below free blocks back to the filesystem that the pool's
 * file is on.
 *
 * What it is: a bit for each chunk of 2 MiB in which blocks have become free, and the
 * background work that punches what is free there out of the file.  Of a chunk that is
 * wholly free everything goes.  Of others only runs of 64 KiB and more go while the
 * filesystem has room: a hole costs as much as a chunk, and the next allocation in its
 * chunk fills it again (msnap_mem_reserve()).  When it is nearly full, every block goes.
 *
 * What it does not do: devices have nothing to give back; pools on them have no trim.
 * What is freed by a clean unmount is found by the next mount.
 *
 * Invariants: what is punched is free in the space map, so neither of the last two
 * roots reaches it, and taken out of it meanwhile, so that nobody is given it.  A crash
 * leaves holes below free blocks.  Some chunks that are free stay whole: with them a
 * deletion finds room for its nodes when the filesystem below is full.
 *
 * Locking: freed() from any thread; run() from one at a time, without locks.
 */
#ifndef MSNAP_COW_TRIM_H
#define MSNAP_COW_TRIM_H

#include "pool.h"

/* Of a pool on a sparse file, else nothing is done.  -ENOMEM. */
int msnap_trim_new(struct msnap_pool *pool);
void msnap_trim_free(struct msnap_pool *pool);

/* These blocks are free now, and may have space below. */
void msnap_trim_freed(struct msnap_pool *pool, uint64_t blk, uint64_t nr);
/* After a commit: punch, for half a second or so.  Is more left? */
bool msnap_trim_run(struct msnap_pool *pool);

#endif
