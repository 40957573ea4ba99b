/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * passthrough.h - FUSE passthrough: the kernel runs read, write and mmap of an open
 * file on another file, without us (Linux 6.9 and later; CAP_SYS_ADMIN).
 *
 * What it is: the one place that knows how libfuse and the kernel want it.  libfuse
 * has calls for it from 3.17 on.  Below that the replies to INIT, OPEN and CREATE
 * are amended on their way to the kernel: libfuse leaves room for what it does not
 * know.  See fuse_dev_ioctl_backing_open() in the kernel's fs/fuse/backing.c and
 * struct fuse_open_out in its include/uapi/linux/fuse.h.
 *
 * What it does not do: it knows no views and keeps no table; a backing id belongs
 * to whoever registered it.
 *
 * Rules of the kernel: the writeback cache excludes it; all opens of an inode that
 * pass through use the same backing id, and none may be cached meanwhile.
 *
 * Locking: register and unregister from any thread.
 */
#ifndef MSNAP_FS_PASSTHROUGH_H
#define MSNAP_FS_PASSTHROUGH_H

#include "fs.h"

/* After fuse_session_mount(), before the first request.  0 or -errno. */
int msnap_fs_pass_prepare(struct fs *fs);
/* In the init operation. */
void msnap_fs_pass_init(struct fs *fs, struct fuse_conn_info *conn);
/* Has the kernel agreed?  Known once the first request after INIT arrives. */
bool msnap_fs_pass_works(void);

/*
 * Make file @fd, which may be closed afterwards, known to the kernel.  The id (above
 * 0), or -errno: -EPERM without CAP_SYS_ADMIN, -ELOOP for a file on a stacked
 * filesystem.
 */
int msnap_fs_pass_register(struct fs *fs, int fd);
void msnap_fs_pass_unregister(struct fs *fs, int id);

/* As fuse_reply_open() and fuse_reply_create(); @id 0: not passed through. */
int msnap_fs_pass_reply_open(fuse_req_t req, struct fuse_file_info *fi, int id);
int msnap_fs_pass_reply_create(fuse_req_t req, const struct fuse_entry_param *entry,
			       struct fuse_file_info *fi, int id);

#endif
