/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scrub.h - what scrub.c and scrub-name.c share.  The calls themselves are in cow.h.
 *
 * Locking: the functions here take the pool's lock for reading, a bounded number of
 * records at a time; the caller holds no lock.
 */
#ifndef MSNAP_COW_SCRUB_H
#define MSNAP_COW_SCRUB_H

#include "pool.h"

/*
 * A path that leads to the inode, from the top of the filesystem ("/dir/file"), as the
 * names in the namespace of @id are; above what a snapshot holds, as they are
 * now.  What has no name there is "<inode N>".  Of a path that does not fit, the
 * end.  An inode with several names has one of them.  @buf: at least 64 bytes.
 */
void msnap_scrub_name(struct msnap_pool *pool, struct msnap_id id, char *buf,
		      size_t size);

#endif
