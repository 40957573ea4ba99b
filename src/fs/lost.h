/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lost.h - files of which the kernel could not write back what was stored in mappings.
 *
 * The kernel tells the next fsync() of such a failure, and forgets the pages.  Who
 * never calls that would find a restore point that was taken without a word, and
 * without those stores; so it is remembered here until a restore point, a clone or a
 * rollback has been told.
 *
 * Locking: its own; callable from any thread.
 */
#ifndef MSNAP_FS_LOST_H
#define MSNAP_FS_LOST_H

#include <stdint.h>

struct msnap_pool;
struct msnap_fs_lost;

int msnap_fs_lost_new(struct msnap_fs_lost **lost); /* -ENOMEM */
void msnap_fs_lost_free(struct msnap_fs_lost *lost); /* NULL is fine */

/* Pages of @ino could not be written: @err, negative. */
void msnap_fs_lost_add(struct msnap_fs_lost *lost, uint64_t ino, int err);

/*
 * Was anything of @ino (0: of any file that is still there) lost since the last call?
 * 0, or the error of one of them; it is told once.
 */
int msnap_fs_lost_take(struct msnap_fs_lost *lost, struct msnap_pool *pool,
		       uint64_t ino);

#endif
