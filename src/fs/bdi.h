/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bdi.h - the kernel's limits for this mount's cache.
 *
 * What it is: a FUSE mount starts with a small read-ahead and a strict limit for
 * dirty pages, made for servers that cannot be trusted; programs that write
 * through mappings stall at it.  Root may raise both.
 */
#ifndef MSNAP_FS_BDI_H
#define MSNAP_FS_BDI_H

#include <sys/types.h>

/* @dev: st_dev of the mount.  Best effort: says nothing when it may not. */
void msnap_fs_bdi_tune(dev_t dev);

#endif
