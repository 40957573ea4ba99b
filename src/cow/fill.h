/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef MSNAP_COW_FILL_H
#define MSNAP_COW_FILL_H

#include "pool.h"

/*
 * Compute the checksums of the next extent of live file @ino, from file block *@fb
 * on, that has none; *fb moves on.  1: there may be more, 0: none left.
 */
int msnap_fill_step(struct msnap_pool *pool, uint64_t ino, uint64_t *fb);

#endif
