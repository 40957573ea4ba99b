/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inject.h - make things fail below a mounted filesystem, for tests.
 *
 * What it is: an ioctl that works on a mount with the option "inject", which --help
 * does not mention, and only for root and the owner of the mount; everywhere else it
 * is ENOTTY.  docs/TESTING.md tells of it, and no installed header.
 *
 * Locking: callable from any thread.
 */
#ifndef MSNAP_FS_INJECT_H
#define MSNAP_FS_INJECT_H

#include <linux/ioctl.h>

#include "fs.h"

/* Beside those of enum msnap_inject: any allocation of this program, in the build that
 * the tests have for it (tests/mount/heap.c). */
#define MSNAP_FS_INJECT_HEAP 100u

/* The nth event from now on fails, 0: none.  POISON: the block. */
struct msnap_fs_inject {
	uint32_t what;	   /* in */
	uint32_t reserved; /* zero */
	uint64_t nth;	   /* in */
	uint64_t seen;	   /* out: events of this kind since the last call */
};

#define MSNAP_FS_IOC_INJECT _IOWR('M', 127, struct msnap_fs_inject)

void msnap_fs_inject_ioctl(fuse_req_t req, const void *in, size_t in_size);

/* Of that build; absent from others. */
unsigned long msnap_fs_heap_fail(unsigned long nth) __attribute__((weak));

#endif
