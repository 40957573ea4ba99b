/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blockdev.h - pools on block devices: a filesystem that can share blocks (XFS with
 * reflink) is made on the device, with the pool as a file in it, so that direct mode
 * works; on persistent memory it is mounted with DAX.
 *
 * The mount is attached nowhere (fsmount(2)): nobody but who holds its descriptor
 * sees it, and it ends with that.
 */
#ifndef MSNAP_COW_BLOCKDEV_H
#define MSNAP_COW_BLOCKDEV_H

#include <stdint.h>

#include "cow.h"

#define MSNAP_BLOCKDEV_PATH 48

/* Make the filesystem; what was on the device is lost.  Needs mkfs.xfs. */
int msnap_blockdev_make(const char *device, struct msnap_why *why);
/*
 * Mount it.  *fd: the mount; file: the pool's path in it, good as long as *fd is
 * open.  -EMEDIUMTYPE: there is no such filesystem.
 */
int msnap_blockdev_mount(const char *device, bool read_only, int *fd,
			 char file[MSNAP_BLOCKDEV_PATH], struct msnap_why *why);
/* Bytes that a pool in it may have. */
uint64_t msnap_blockdev_room(int fd);

#endif
