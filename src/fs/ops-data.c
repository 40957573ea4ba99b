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
#include "direct.h"
#include "flush.h"
#include "gate.h"
#include "host.h"
#include "lost.h"
#include "node.h"
#include "ops.h"
#include "passthrough.h"
#include "reply.h"

/* ---- open ----------------------------------------------------------------- */

static bool is_write_open(uint64_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* The file handle: open(2)'s flags, and above them how it is open. */
#define HOW_SHIFT 32

static enum msnap_fs_how how_of(uint64_t fh)
{
	return (enum msnap_fs_how)(fh >> HOW_SHIFT);
}

int msnap_fs_start_open(struct fs *fs, uint64_t node, struct fuse_file_info *fi,
			int *backing_id)
{
	uint64_t flags = (uint32_t)fi->flags;
	enum msnap_fs_how how;
	int err = msnap_fs_node_open(fs->nodes, node, is_write_open(flags));

	if (err)
		return err;
	err = msnap_fs_direct_open(fs, node, fi->flags, &how, backing_id);
	if (err) {
		if (msnap_fs_node_close(fs->nodes, node, is_write_open(flags)))
			msnap_fs_evict(fs, node);
		return err;
	}
	fi->fh = flags | (uint64_t)how << HOW_SHIFT;
	/* Contents change through this mount only, or the kernel is told; but what
	 * passes through leaves nothing behind, and must find nothing. */
	fi->keep_cache = how == MSNAP_FS_CACHED;
	fi->direct_io = how == MSNAP_FS_PLAIN;
	/* Closing what was only read need not write back what others stored, nor
	 * wait for them. */
	fi->noflush = !is_write_open(flags);
	return 0;
}

void msnap_fs_end_open(struct fs *fs, uint64_t node, uint64_t fh)
{
	msnap_fs_direct_close(fs, node, how_of(fh));
	if (msnap_fs_node_close(fs->nodes, node, is_write_open((uint32_t)fh)))
		msnap_fs_evict(fs, node);
}

/* Open means the inode exists: the engine finds out when it is used. */
void msnap_fs_op_open(fuse_req_t req, fuse_ino_t node,
		      struct fuse_file_info *fi)
{
	struct fs *fs = msnap_fs_of(req);
	int backing_id, err = 0;

	if (!msnap_fs_is_live(node) && is_write_open((uint32_t)fi->flags))
		err = -EROFS;
	if (!err)
		err = msnap_fs_start_open(fs, node, fi, &backing_id);
	if (err)
		msnap_fs_reply(req, err);
	else if (msnap_fs_pass_reply_open(req, fi, backing_id) == -ENOENT)
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
static void read_engine(fuse_req_t req, uint64_t node, size_t size, off_t off)
{
	struct fs *fs = msnap_fs_of(req);
	struct msnap_id id = msnap_fs_id(node);
	struct msnap_read read;
	int err = msnap_read_begin(fs->pool, id, (uint64_t)off, size, &read);

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

static void read_view(fuse_req_t req, int fd, size_t size, off_t off)
{
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);

	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = fd;
	buf.buf[0].pos = off;
	fuse_reply_data(req, &buf, 0);
}

void msnap_fs_op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
		      struct fuse_file_info *fi)
{
	struct fs *fs = msnap_fs_of(req);
	int fd = msnap_fs_direct_lock(fs, node, false);

	(void)fi;
	fs->nr_reads++;
	if (fd < -1) {
		msnap_fs_reply(req, fd);
		return;
	}
	if (fd >= 0)
		read_view(req, fd, size, off);
	else
		read_engine(req, node, size, off);
	msnap_fs_direct_unlock(fs, node, fd);
}

/* ---- write ---------------------------------------------------------------- */

/* Returns how much: less than @size when the host's filesystem is full. */
static ssize_t write_view(int fd, const char *buf, size_t size, off_t off)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pwrite(fd, buf + done, size - done, off + (off_t)done);

		if (n <= 0 && !done)
			return n ? -errno : -EIO;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/*
 * Pages that the kernel writes back.  The end of the file stays where it is: what
 * lies behind it was truncated after the store.
 */
static ssize_t write_back(struct fs *fs, uint64_t ino, const char *buf, size_t size,
			  off_t off)
{
	int err;

	if (!msnap_fs_gate_enter(fs->gate, ino))
		return (ssize_t)size;
	err = msnap_pwrite(fs->pool, ino, buf, size, (uint64_t)off, true);
	msnap_fs_gate_leave(fs->gate);
	if (err) {
		fs->nr_writeback_failed++;
		msnap_fs_lost_add(fs->lost, ino, err);
	}
	return err ? err : (ssize_t)size;
}

static ssize_t write_through(struct fs *fs, uint64_t node, const char *buf,
			     size_t size, off_t off)
{
	int fd = msnap_fs_direct_lock(fs, node, true);
	ssize_t done;

	if (fd < -1)
		return fd;
	if (fd >= 0)
		done = write_view(fd, buf, size, off);
	else
		done = msnap_pwrite(fs->pool, node, buf, size, (uint64_t)off,
				    false) ?: (ssize_t)size;
	msnap_fs_direct_unlock(fs, node, fd);
	return done;
}

void msnap_fs_op_write(fuse_req_t req, fuse_ino_t node, const char *buf,
		       size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = msnap_fs_of(req);
	ssize_t done;

	fs->nr_writes++;
	if (!msnap_fs_is_live(node))
		done = -EROFS;
	else if (fi->writepage)
		done = write_back(fs, node, buf, size, off);
	else
		done = write_through(fs, node, buf, size, off);
	if (done < 0) {
		msnap_fs_reply(req, (int)done);
		return;
	}
	fs->bytes_written += (uint64_t)done;
	fuse_reply_write(req, (size_t)done);
}

/* What is in a view is safe there: see "Crashes" in direct.h. */
static int sync_view(struct fs *fs, uint64_t node)
{
	int err = 0, fd = msnap_fs_direct_lock(fs, node, false);

	if (fd < -1)
		return fd;
	if (fd >= 0 && fsync(fd))
		err = -errno;
	msnap_fs_direct_unlock(fs, node, fd);
	return err;
}

/* Our own threads want the pages, not a commit. */
void msnap_fs_op_fsync(fuse_req_t req, fuse_ino_t node, int datasync,
		       struct fuse_file_info *fi)
{
	struct fs *fs = msnap_fs_of(req);
	int err = 0;

	(void)datasync;
	(void)fi;
	if (!msnap_fs_flush_is_own(fs->flush, req)) {
		err = sync_view(fs, node);
		if (!err)
			err = msnap_commit(fs->pool);
	}
	msnap_fs_reply(req, err);
}

/* ---- space ---------------------------------------------------------------- */

/*
 * What is allocated must find room in the pool, too, when it gets there: it is taken
 * there at once.  Sizes and contents are the view's matter.
 */
static int fallocate_view(struct fs *fs, uint64_t node, int fd, int mode, off_t off,
			  off_t len)
{
	int err = 0;

	if (!(mode & ~FALLOC_FL_KEEP_SIZE))
		err = msnap_fallocate(fs->pool, node, FALLOC_FL_KEEP_SIZE,
				      (uint64_t)off, (uint64_t)len);
	if (!err && fallocate(fd, mode, off, len))
		err = -errno;
	return err;
}

void msnap_fs_op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off,
			   off_t len, struct fuse_file_info *fi)
{
	struct fs *fs = msnap_fs_of(req);
	int fd, err = -EROFS;

	(void)fi;
	if (msnap_fs_is_live(node)) {
		fd = msnap_fs_direct_lock(fs, node, true);
		if (fd >= 0)
			err = fallocate_view(fs, node, fd, mode, off, len);
		else if (fd == -1)
			err = msnap_fallocate(fs->pool, node, mode,
					      (uint64_t)off, (uint64_t)len);
		else
			err = fd;
		if (fd >= -1)
			msnap_fs_direct_unlock(fs, node, fd);
	}
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

	if (msnap_fs_flush_pages(fs, seek->node))
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

/* Of a file that is in a view; false: it is not. */
static bool seek_view(fuse_req_t req, uint64_t node, off_t off, int whence)
{
	int fd = msnap_fs_direct_take(msnap_fs_of(req), node);
	off_t found;

	if (fd == -1)
		return false;
	found = fd < 0 ? fd : lseek(fd, off, whence);
	if (fd >= 0 && found < 0)
		found = -errno;
	if (fd >= 0)
		close(fd);
	if (found < 0)
		msnap_fs_reply(req, (int)found);
	else
		fuse_reply_lseek(req, found);
	return true;
}

void msnap_fs_op_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence,
		       struct fuse_file_info *fi)
{
	struct fs *fs = msnap_fs_of(req);

	(void)fi;
	if (seek_view(req, node, off, whence))
		return;
	if (!msnap_fs_node_is_written(fs->nodes, node))
		seek_and_reply(req, node, off, whence);
	else if (!msnap_fs_flush_under_lock(fs->flush) ||
		 seek_later(req, node, off, whence))
		seek_without_holes(req, node, off, whence);
}

/* The answer has 32 bits; what is left the caller asks for again. */
#define COPY_MAX 0xfffff000ull

struct copying {
	uint64_t src, src_off;
	uint64_t dst, off;
	uint64_t len;
};

/* Into view @fd, from another or from the engine. */
static ssize_t copy_to_view(struct fs *fs, const struct copying *c, int src, int fd)
{
	if (src >= 0)
		return msnap_fs_host_copy(src, c->src_off, fd, c->off, c->len);
	return msnap_fs_direct_copy_in(fs, msnap_fs_id(c->src), c->src_off, fd,
				       c->off, c->len);
}

/*
 * Lock the target; when it is not in a view, the source's contents are in the engine
 * then.  As in msnap_fs_direct_lock().  The locks of two files are never held
 * together.
 */
static int lock_target(struct fs *fs, const struct copying *c)
{
	int err, fd = msnap_fs_direct_lock(fs, c->dst, true);

	if (fd != -1)
		return fd;
	msnap_fs_direct_unlock(fs, c->dst, fd);
	err = msnap_fs_direct_absorb(fs, c->src);
	return err ? err : msnap_fs_direct_lock(fs, c->dst, true);
}

static ssize_t copy_range(struct fs *fs, const struct copying *c)
{
	int fd, src = msnap_fs_direct_take(fs, c->src);
	ssize_t done;

	if (src < -1)
		return src;
	fd = lock_target(fs, c);
	if (fd >= 0)
		done = copy_to_view(fs, c, src, fd);
	else if (fd == -1)
		done = msnap_copy_range(fs->pool, msnap_fs_id(c->src), c->src_off,
					c->dst, c->off, c->len);
	else
		done = fd;
	if (fd >= -1)
		msnap_fs_direct_unlock(fs, c->dst, fd);
	if (src >= 0)
		close(src);
	return done;
}

void msnap_fs_op_copy_file_range(fuse_req_t req, fuse_ino_t src, off_t src_off,
				 struct fuse_file_info *src_fi, fuse_ino_t dst,
				 off_t off, struct fuse_file_info *fi,
				 size_t len, int flags)
{
	const struct copying c = {
		.src = src,
		.src_off = (uint64_t)src_off,
		.dst = dst,
		.off = (uint64_t)off,
		.len = len < COPY_MAX ? len : COPY_MAX,
	};
	ssize_t done = -EROFS;

	(void)src_fi;
	(void)fi;
	if (flags)
		done = -EINVAL;
	else if (msnap_fs_is_live(dst))
		done = copy_range(msnap_fs_of(req), &c);
	if (done < 0)
		msnap_fs_reply(req, (int)done);
	else
		fuse_reply_write(req, (size_t)done);
}
