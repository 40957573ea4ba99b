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
/* Wait up to @wait_ms until nobody uses the device.  -EBUSY: somebody does. */
int msnap_blockdev_wait(const char *device, unsigned wait_ms, struct msnap_why *why);
/* The label of the filesystem, for people who look at the device. */
#define MSNAP_BLOCKDEV_LABEL "memsnapfs"
/*
 * Mount it.  *fd: the mount; file: the pool's path in it, good as long as *fd is
 * open.  Waits up to @wait_ms while it is mounted otherwise (read-only and not), as by
 * a daemon that is just ending.  -EBUSY: it still is; -EMEDIUMTYPE: there is no such
 * filesystem.
 */
int msnap_blockdev_mount(const char *device, bool read_only, unsigned wait_ms,
			 int *fd, char file[MSNAP_BLOCKDEV_PATH],
			 struct msnap_why *why);
/* In a message: the device, which a person knows, in place of the file. */
void msnap_blockdev_name(const char *device, const char *file, struct msnap_why *why);
/* Bytes that the device has; 0: that cannot be known. */
uint64_t msnap_blockdev_size(const char *device);
/* Bytes that a pool in it may have. */
uint64_t msnap_blockdev_room(int fd);

#endif
