/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flush.h - have the kernel write back what applications stored in mappings.
 *
 * Every write(2) reaches us before it returns.  A store through a shared mapping
 * stays in the kernel's page cache until the page is written back, at msync,
 * munmap or by and by.  Only a file that is open for writing can have such pages.
 *
 * What it is: after a call, every store made before the call, to the files
 * concerned, by any process, has arrived in the engine.  The pages stay in the
 * cache and mapped.
 *
 * How: a control thread opens the file through the mount, by a name that only
 * this daemon knows and that is answered to its own threads only, and calls
 * fsync() (or sync_file_range(), where that waits).  Where this cannot be done (no
 * permission, the mount point is covered by another mount), the kernel is told to
 * drop the pages, which writes them back as well; that is slower.
 *
 * Locking: to be called from control threads only, without locks: it waits for
 * WRITEs, which the request handlers answer.
 */
#ifndef MSNAP_FS_FLUSH_H
#define MSNAP_FS_FLUSH_H

#include "fs.h"

/* @mountpoint is copied.  -ENOMEM, or what getrandom() gave. */
int msnap_fs_flush_new(const char *mountpoint, struct msnap_fs_flush **flush);
void msnap_fs_flush_free(struct msnap_fs_flush *flush); /* NULL is fine */

/* The calling thread is one that opens files by their secret names. */
void msnap_fs_flush_register(struct msnap_fs_flush *flush);

/* Did one of those threads send the request? */
bool msnap_fs_flush_is_own(const struct msnap_fs_flush *flush, fuse_req_t req);

/* Is it the secret name of a live inode?  Then its number, otherwise 0. */
uint64_t msnap_fs_flush_parse(const struct msnap_fs_flush *flush,
			      const char *name);

/*
 * One live file, or all of them.  Negative errno: some stores may not have
 * arrived (a WRITE failed), now or since the last call (lost.h).
 */
int msnap_fs_flush_file(struct fs *fs, uint64_t ino);
int msnap_fs_flush_all(struct fs *fs);
/* The same of one file, without asking what was lost before. */
int msnap_fs_flush_pages(struct fs *fs, uint64_t ino);

/*
 * May a request that holds the kernel's lock of the inode (lseek) be answered
 * after msnap_fs_flush_file()?  Before Linux 6.16 that could wait for the lock.
 */
bool msnap_fs_flush_under_lock(const struct msnap_fs_flush *flush);

/*
 * Make the kernel fetch the attributes of the inode now, so that an open mapping
 * learns of a new size.  Best effort.
 */
void msnap_fs_flush_refresh(struct fs *fs, uint64_t ino);

#endif
