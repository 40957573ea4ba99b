/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * background.h - the pool's own thread: commits at intervals, takes dropped trees
 * apart, and computes checksums that are missing.
 */
#ifndef MSNAP_COW_BACKGROUND_H
#define MSNAP_COW_BACKGROUND_H

#include "pool.h"

int msnap_bg_start(struct msnap_pool *pool);
void msnap_bg_stop(struct msnap_pool *pool); /* nothing when not running */
/* There may be something to drop. */
void msnap_bg_kick(struct msnap_pool *pool);
/* File @ino has data without checksums.  Without memory it keeps them so. */
void msnap_bg_fill(struct msnap_pool *pool, uint64_t ino);

#endif
