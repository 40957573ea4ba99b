/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops-data.c - contents: open, read, write, fallocate, lseek, copy.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctl.h"
#include "flush.h"
#include "gate.h"
#include "node.h"
#include "ops.h"
#include "reply.h"

/* ---- open ----------------------------------------------------------------- */

static bool is_write_open(uint64_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

int msnap_fs_start_open(struct fs *fs, uint64_t node, struct fuse_file_info *fi)
{
	uint64_t flags = (uint32_t)fi->flags;
	int err = msnap_fs_node_open(fs->nodes, node, is_write_open(flags));

	if (err)
		return err;
	fi->fh = flags;
	/* Contents change through this mount only, or the kernel is told. */
	fi->keep_cache = 1;
	/* Closing what was only read need not write back what others stored, nor
	 * wait for them. */
	fi->noflush = !is_write_open(flags);
	return 0;
}

void msnap_fs_end_open(struct fs *fs, uint64_t node, uint64_t fh)
{
	if (msnap_fs_node_close(fs->nodes, node, is_write_open(fh)))
		msnap_fs_evict(fs, node);
}

/* Open means the inode exists: the engine finds out when it is used. */
void msnap_fs_op_open(fuse_req_t req, fuse_ino_t node,
		      struct fuse_file_info *fi)
{
	struct fs *fs = msnap_fs_of(req);
	int err = 0;

	if (!msnap_fs_is_live(node) && is_write_open((uint32_t)fi->flags))
		err = -EROFS;
	if (!err)
		err = msnap_fs_start_open(fs, node, fi);
	if (err)
		msnap_fs_reply(req, err);
	else if (fuse_reply_open(req, fi) == -ENOENT)
		msnap_fs_end_open(fs, node, fi->fh);
}

void msnap_fs_op_release(fuse_req_t req, fuse_ino_t node,
			 struct fuse_file_info *fi)
{
	msnap_fs_end_open(msnap_fs_of(req), node, fi->fh);
	msnap_fs_reply(req, 0);
}

/* ---- read ----------------------------------------------------------------- */

/*
 * Through a buffer: when the pieces are too many for one vector.  A short answer
 * would tell the kernel that the file ends there.
 */
static void read_copied(fuse_req_t req, struct msnap_id id, size_t size,
			off_t off)
{
	struct fs *fs = msnap_fs_of(req);
	char *buf = malloc(size);
	size_t done = 0;
	ssize_t len = buf ? 1 : -ENOMEM;

	while (len > 0 && done < size) {
		len = msnap_pread(fs->pool, id, buf + done, size - done,
				  (uint64_t)off + done);
		if (len > 0)
			done += (size_t)len;
	}
	if (len < 0)
		msnap_fs_reply(req, (int)len);
	else
		fuse_reply_buf(req, buf, done);
	fs->bytes_read += done;
	free(buf);
}

/*
 * Straight from the pool's memory.  Where that cannot be read the kernel finds
 * out while it copies, and answers EIO itself.
 */
void msnap_fs_op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
		      struct fuse_file_info *fi)
{
	struct fs *fs = msnap_fs_of(req);
	struct msnap_id id = msnap_fs_id(node);
	struct msnap_read read;
	int err = msnap_read_begin(fs->pool, id, (uint64_t)off, size, &read);

	(void)fi;
	fs->nr_reads++;
	if (err) {
		msnap_fs_reply(req, err);
		return;
	}
	if (read.len < size && read.nr == MSNAP_READ_IOV) {
		msnap_read_end(fs->pool, &read);
		read_copied(req, id, size, off);
		return;
	}
	fs->bytes_read += read.len;
	fuse_reply_iov(req, read.iov, (int)read.nr);
	msnap_read_end(fs->pool, &read);
}

/* ---- write ---------------------------------------------------------------- */

/*
 * Pages that the kernel writes back.  The end of the file stays where it is: what
 * lies behind it was truncated after the store.
 */
static int write_back(struct fs *fs, uint64_t ino, const char *buf, size_t size,
		      off_t off)
{
	int err;

	if (!msnap_fs_gate_enter(fs->gate, ino))
		return 0;
	err = msnap_pwrite(fs->pool, ino, buf, size, (uint64_t)off, true);
	msnap_fs_gate_leave(fs->gate);
	if (err)
		fs->nr_writeback_failed++;
	return err;
}

void msnap_fs_op_write(fuse_req_t req, fuse_ino_t node, const char *buf,
		       size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = msnap_fs_of(req);
	int err;

	fs->nr_writes++;
	if (!msnap_fs_is_live(node))
		err = -EROFS;
	else if (fi->writepage)
		err = write_back(fs, node, buf, size, off);
	else
		err = msnap_pwrite(fs->pool, node, buf, size, (uint64_t)off,
				   false);
	if (err) {
		msnap_fs_reply(req, err);
		return;
	}
	fs->bytes_written += size;
	fuse_reply_write(req, size);
}

/* Our own threads want the pages, not a commit. */
void msnap_fs_op_fsync(fuse_req_t req, fuse_ino_t node, int datasync,
		       struct fuse_file_info *fi)
{
	struct fs *fs = msnap_fs_of(req);
	int err = 0;

	(void)node;
	(void)datasync;
	(void)fi;
	if (!msnap_fs_flush_is_own(fs->flush, req))
		err = msnap_commit(fs->pool);
	msnap_fs_reply(req, err);
}

/* ---- space ---------------------------------------------------------------- */

void msnap_fs_op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off,
			   off_t len, struct fuse_file_info *fi)
{
	int err = -EROFS;

	(void)fi;
	if (msnap_fs_is_live(node))
		err = msnap_fallocate(msnap_fs_of(req)->pool, node, mode,
				      (uint64_t)off, (uint64_t)len);
	msnap_fs_reply(req, err);
}

static void seek_and_reply(fuse_req_t req, uint64_t node, off_t off, int whence)
{
	uint64_t found;
	int err = msnap_seek(msnap_fs_of(req)->pool, msnap_fs_id(node),
			     (uint64_t)off, whence, &found);

	if (err)
		msnap_fs_reply(req, err);
	else
		fuse_reply_lseek(req, (off_t)found);
}

/* Data up to the end: always a true answer, if not the best. */
static void seek_without_holes(fuse_req_t req, uint64_t node, off_t off,
			       int whence)
{
	struct msnap_attr attr;
	int err = msnap_fs_attr(msnap_fs_of(req), node, &attr);

	if (!err && (uint64_t)off >= attr.size)
		err = -ENXIO;
	if (err)
		msnap_fs_reply(req, err);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? off
							  : (off_t)attr.size);
}

struct seek_job {
	struct msnap_fs_job job;
	fuse_req_t req;
	uint64_t node;
	off_t off;
	int whence;
};

static void run_seek(struct fs *fs, struct msnap_fs_job *job)
{
	struct seek_job *seek = (struct seek_job *)job;

	if (msnap_fs_flush_file(fs, seek->node))
		seek_without_holes(seek->req, seek->node, seek->off,
				   seek->whence);
	else
		seek_and_reply(seek->req, seek->node, seek->off, seek->whence);
	free(seek);
}

/*
 * What was stored in mappings and not written back yet is data to its owner, and
 * a hole to the engine: a copy would miss it.  So write back before looking.
 */
static int seek_later(fuse_req_t req, uint64_t node, off_t off, int whence)
{
	struct fs *fs = msnap_fs_of(req);
	struct seek_job *seek = malloc(sizeof(*seek));
	int err;

	if (!seek)
		return -ENOMEM;
	*seek = (struct seek_job){
		.job.run = run_seek,
		.req = req,
		.node = node,
		.off = off,
		.whence = whence,
	};
	err = msnap_fs_ctl_submit(fs->ctl, &seek->job);
	if (err)
		free(seek);
	return err;
}

void msnap_fs_op_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence,
		       struct fuse_file_info *fi)
{
	struct fs *fs = msnap_fs_of(req);

	(void)fi;
	if (!msnap_fs_node_is_written(fs->nodes, node))
		seek_and_reply(req, node, off, whence);
	else if (!msnap_fs_flush_under_lock(fs->flush) ||
		 seek_later(req, node, off, whence))
		seek_without_holes(req, node, off, whence);
}

/* The answer has 32 bits; what is left the caller asks for again. */
#define COPY_MAX 0xfffff000ull

void msnap_fs_op_copy_file_range(fuse_req_t req, fuse_ino_t src, off_t src_off,
				 struct fuse_file_info *src_fi, fuse_ino_t dst,
				 off_t off, struct fuse_file_info *fi,
				 size_t len, int flags)
{
	ssize_t done = -EROFS;

	(void)src_fi;
	(void)fi;
	if (flags)
		done = -EINVAL;
	else if (msnap_fs_is_live(dst))
		done = msnap_copy_range(msnap_fs_of(req)->pool,
					msnap_fs_id(src), (uint64_t)src_off,
					dst, (uint64_t)off,
					len < COPY_MAX ? len : COPY_MAX);
	if (done < 0)
		msnap_fs_reply(req, (int)done);
	else
		fuse_reply_write(req, (size_t)done);
}
