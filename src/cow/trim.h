/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * trim.h - giving the space below free blocks back to the filesystem that the pool's
 * file is on.
 *
 * What it is: a bit for each chunk of 2 MiB in which blocks have become free, and the
 * background work that punches what is free there out of the file.  Of a chunk that is
 * wholly free everything goes; of others what is free when the filesystem is nearly full
 * (msnap_mem_worth()).
 *
 * What it does not do: devices have nothing to give back; pools on them have no trim.
 * What is freed by a clean unmount is found by the next mount.
 *
 * Invariants: what is punched is free in the space map, so neither of the last two
 * roots reaches it, and taken out of it meanwhile, so that nobody is given it.  A crash
 * leaves holes below free blocks.
 *
 * Where the filesystem below has less room than the pool, a chunk that has its space is
 * kept out of the map, for operations that give space back when all else is used up:
 * they need blocks for their nodes first.
 *
 * Locking: run() from one thread at a time, without locks; the rest from any.
 */
#ifndef MSNAP_COW_TRIM_H
#define MSNAP_COW_TRIM_H

#include "pool.h"

/* Of a pool on a sparse file, else nothing is done.  -ENOMEM. */
int msnap_trim_new(struct msnap_pool *pool);
void msnap_trim_free(struct msnap_pool *pool);

/* These blocks are free now, and may have space below. */
void msnap_trim_freed(struct msnap_pool *pool, uint64_t blk, uint64_t nr);
/* Keep a chunk, if that is called for.  Once the map is there, and now and then. */
void msnap_trim_keep(struct msnap_pool *pool);
/* What is kept may be used now.  False: there was nothing. */
bool msnap_trim_give(struct msnap_pool *pool);
/* Find out what has space below; once. */
void msnap_trim_survey(struct msnap_pool *pool);
/* After a commit: punch, for half a second or so.  Is more left? */
bool msnap_trim_run(struct msnap_pool *pool);

#endif
