/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops.h - the request handlers: each checks where the node is, makes one call of
 * the engine and answers.
 *
 * ops-name.c: names; ops-attr.c: attributes and xattrs; ops-dir.c: reading
 * directories; ops-data.c: contents; ops.c: the table, and what is agreed with
 * the kernel.
 *
 * Locking: handlers run in any number of libfuse's threads at once.
 */
#ifndef MSNAP_FS_OPS_H
#define MSNAP_FS_OPS_H

#include "fs.h"

extern const struct fuse_lowlevel_ops msnap_fs_ops;

/* ops-name.c */
void msnap_fs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void msnap_fs_op_forget(fuse_req_t req, fuse_ino_t node, uint64_t nr);
void msnap_fs_op_forget_multi(fuse_req_t req, size_t count,
			      struct fuse_forget_data *forgets);
void msnap_fs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		       mode_t mode, dev_t rdev);
void msnap_fs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		       mode_t mode);
void msnap_fs_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
			 const char *name);
void msnap_fs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name,
			mode_t mode, struct fuse_file_info *fi);
void msnap_fs_op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode,
			 struct fuse_file_info *fi);
void msnap_fs_op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent,
		      const char *name);
void msnap_fs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void msnap_fs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void msnap_fs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
			fuse_ino_t new_parent, const char *new_name,
			unsigned flags);

/* ops-attr.c */
void msnap_fs_op_getattr(fuse_req_t req, fuse_ino_t node,
			 struct fuse_file_info *fi);
void msnap_fs_op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *st,
			 int to_set, struct fuse_file_info *fi);
void msnap_fs_op_readlink(fuse_req_t req, fuse_ino_t node);
void msnap_fs_op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name,
			  const char *value, size_t size, int flags);
void msnap_fs_op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name,
			  size_t size);
void msnap_fs_op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size);
void msnap_fs_op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name);
void msnap_fs_op_statfs(fuse_req_t req, fuse_ino_t node);

/* ops-dir.c */
void msnap_fs_op_opendir(fuse_req_t req, fuse_ino_t node,
			 struct fuse_file_info *fi);
void msnap_fs_op_releasedir(fuse_req_t req, fuse_ino_t node,
			    struct fuse_file_info *fi);
void msnap_fs_op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
			 struct fuse_file_info *fi);
void msnap_fs_op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size,
			     off_t off, struct fuse_file_info *fi);

/* ops-data.c */
/*
 * Count an open and set what the kernel is told of it; @fi->fh gets the flags that
 * the file was opened with, and how (see direct.h).  *backing_id: for the reply.
 */
int msnap_fs_start_open(struct fs *fs, uint64_t node, struct fuse_file_info *fi,
			int *backing_id);
void msnap_fs_end_open(struct fs *fs, uint64_t node, uint64_t fh);
void msnap_fs_op_open(fuse_req_t req, fuse_ino_t node,
		      struct fuse_file_info *fi);
void msnap_fs_op_release(fuse_req_t req, fuse_ino_t node,
			 struct fuse_file_info *fi);
void msnap_fs_op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
		      struct fuse_file_info *fi);
void msnap_fs_op_write(fuse_req_t req, fuse_ino_t node, const char *buf,
		       size_t size, off_t off, struct fuse_file_info *fi);
void msnap_fs_op_fsync(fuse_req_t req, fuse_ino_t node, int datasync,
		       struct fuse_file_info *fi);
void msnap_fs_op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off,
			   off_t len, struct fuse_file_info *fi);
void msnap_fs_op_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence,
		       struct fuse_file_info *fi);
void msnap_fs_op_copy_file_range(fuse_req_t req, fuse_ino_t src, off_t src_off,
				 struct fuse_file_info *src_fi, fuse_ino_t dst,
				 off_t off, struct fuse_file_info *fi,
				 size_t len, int flags);

#endif
