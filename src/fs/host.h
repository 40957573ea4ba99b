/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * host.h - the filesystem that the pool's file is on: sharing blocks between files,
 * and telling where they are.
 *
 * What it does not do: it knows no pool, no inode and no request.  Stateless.
 */
#ifndef MSNAP_FS_HOST_H
#define MSNAP_FS_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * @len bytes of @src at @src_off appear in @dst at @dst_off, sharing the blocks
 * (FICLONERANGE).  All multiples of 4096.  -EOPNOTSUPP, -EXDEV, -EINVAL: it cannot.
 */
int msnap_fs_host_share(int src, uint64_t src_off, int dst, uint64_t dst_off,
			uint64_t len);
/* All of @src, at one instant, even when it is being changed (FICLONE). */
int msnap_fs_host_share_all(int src, int dst);

/*
 * Files that are made in directory @dir from now on are of the kind that @file is: btrfs
 * shares blocks only among files that all are NOCOW, or none of them.
 */
void msnap_fs_host_make_alike(int dir, int file);
/* Can files in directory @dir share blocks?  0, or -errno: why not. */
int msnap_fs_host_can_share(int dir);
/* The name of the filesystem that @dir is on, or "this filesystem". */
const char *msnap_fs_host_name(int dir);

/*
 * Has anybody but the caller the file open or mapped?  1, 0, or -errno: it cannot be
 * told.  @fd must be the only descriptor of the caller's.  (By a lease, which is
 * given to the only user of a file: fcntl(2), F_SETLEASE.)
 */
int msnap_fs_host_in_use(int fd);

/*
 * Copy @len bytes between files on it, sharing what can be shared; holes stay holes
 * as far as whole blocks go.  Returns how many: fewer at the end of @src.
 */
ssize_t msnap_fs_host_copy(int src, uint64_t src_off, int dst, uint64_t dst_off,
			   uint64_t len);

/* Where a stretch of a file is. */
struct msnap_fs_where {
	uint64_t off;  /* bytes, in the file */
	uint64_t len;  /* bytes */
	uint64_t phys; /* bytes, on the device */
	bool known;    /* phys says so, and the data are there */
	bool zeros;    /* allocated, never written */
};

struct msnap_fs_wheres {
	struct msnap_fs_where *at;
	size_t nr, cap;
};

/*
 * Append where bytes @off..@off+@len of @fd are, ascending, holes left out (FIEMAP).
 * Dirty pages are given their place first.
 */
int msnap_fs_host_where(int fd, uint64_t off, uint64_t len,
			struct msnap_fs_wheres *out);
/* What of @where is in @from..@to; none: its length is 0. */
void msnap_fs_where_cut(struct msnap_fs_where *where, uint64_t from, uint64_t to);
/* -ENOMEM. */
int msnap_fs_wheres_add(struct msnap_fs_wheres *wheres,
			const struct msnap_fs_where *where);
void msnap_fs_wheres_free(struct msnap_fs_wheres *wheres);

#endif
