/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * background.h - the pool's own thread: commits at intervals, and takes dropped
 * trees apart.
 */
#ifndef MSNAP_COW_BACKGROUND_H
#define MSNAP_COW_BACKGROUND_H

#include "pool.h"

int msnap_bg_start(struct msnap_pool *pool);
void msnap_bg_stop(struct msnap_pool *pool); /* nothing when not running */
/* There may be something to drop. */
void msnap_bg_kick(struct msnap_pool *pool);

#endif
