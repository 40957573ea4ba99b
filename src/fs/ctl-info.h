/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl-info.h - the ioctls that only look: INFO, FILE, SNAP_LIST, REF.
 *
 * Answered by the request handler itself.  -ENOTTY for all that is not ours.
 */
#ifndef MSNAP_FS_CTL_INFO_H
#define MSNAP_FS_CTL_INFO_H

#include "fs.h"

void msnap_fs_info_ioctl(fuse_req_t req, uint64_t node, unsigned cmd, bool dir,
			 const void *in, size_t in_size, size_t out_size);

#endif
