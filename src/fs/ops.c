/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops.c - see ops.h.
 *
 * What is left out on purpose: flush (every write(2) has reached us already),
 * access (default_permissions), getlk, setlk and flock (the kernel locks within
 * this mount, correctly and without a handler that blocks).
 */
#include "ops.h"

#include <sys/ioctl.h>

#include "ctl.h"
#include "passthrough.h"

#define MAX_IO (1u << 20) /* bytes of a READ or WRITE: 257 pieces at most */

/*
 * Wanted: what is faster and harmless.  Not wanted:
 * WRITEBACK_CACHE: snapshots would have to chase every written file, not only
 * mapped ones; AUTO_INVAL_DATA: our own write-back changes mtime, which would
 * drop the cache each time; ATOMIC_O_TRUNC, HANDLE_KILLPRIV: the kernel asks by
 * setattr, which does it right; SPLICE_READ: a pipe more between the kernel and
 * the copy into the pool.
 */
static void init(void *arg, struct fuse_conn_info *conn)
{
	const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
				FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
				FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_IOCTL_DIR |
				FUSE_CAP_CACHE_SYMLINKS |
				FUSE_CAP_EXPLICIT_INVAL_DATA |
				FUSE_CAP_EXPORT_SUPPORT;

	conn->want = conn->capable & wanted;
	if (((struct fs *)arg)->direct)
		msnap_fs_pass_init(arg, conn);
	conn->max_write = MAX_IO;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
}

static void op_ioctl(fuse_req_t req, fuse_ino_t node, unsigned cmd, void *arg,
		     struct fuse_file_info *fi, unsigned flags, const void *in,
		     size_t in_size, size_t out_size)
{
	bool dir = flags & FUSE_IOCTL_DIR;

	(void)arg;
	msnap_fs_ioctl(req, node, cmd, dir, dir ? 0 : (int)fi->fh, in, in_size,
		       out_size);
}

const struct fuse_lowlevel_ops msnap_fs_ops = {
	.init = init,
	.lookup = msnap_fs_op_lookup,
	.forget = msnap_fs_op_forget,
	.forget_multi = msnap_fs_op_forget_multi,
	.getattr = msnap_fs_op_getattr,
	.setattr = msnap_fs_op_setattr,
	.readlink = msnap_fs_op_readlink,
	.mknod = msnap_fs_op_mknod,
	.mkdir = msnap_fs_op_mkdir,
	.unlink = msnap_fs_op_unlink,
	.rmdir = msnap_fs_op_rmdir,
	.symlink = msnap_fs_op_symlink,
	.rename = msnap_fs_op_rename,
	.link = msnap_fs_op_link,
	.open = msnap_fs_op_open,
	.read = msnap_fs_op_read,
	.write = msnap_fs_op_write,
	.release = msnap_fs_op_release,
	.fsync = msnap_fs_op_fsync,
	.opendir = msnap_fs_op_opendir,
	.readdir = msnap_fs_op_readdir,
	.readdirplus = msnap_fs_op_readdirplus,
	.releasedir = msnap_fs_op_releasedir,
	.fsyncdir = msnap_fs_op_fsync,
	.statfs = msnap_fs_op_statfs,
	.setxattr = msnap_fs_op_setxattr,
	.getxattr = msnap_fs_op_getxattr,
	.listxattr = msnap_fs_op_listxattr,
	.removexattr = msnap_fs_op_removexattr,
	.create = msnap_fs_op_create,
	.ioctl = op_ioctl,
	.fallocate = msnap_fs_op_fallocate,
	.copy_file_range = msnap_fs_op_copy_file_range,
	.lseek = msnap_fs_op_lseek,
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	.tmpfile = msnap_fs_op_tmpfile,
#endif
};
