/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * passthrough.c - see passthrough.h.
 */
#include "passthrough.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/fuse.h>

static atomic_bool works;

bool msnap_fs_pass_works(void)
{
	return works;
}

/* include/uapi/linux/fuse.h since 6.9; older headers lack it. */
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define IOC_BACKING_OPEN _IOW(229, 1, struct backing_map)
#define IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

int msnap_fs_pass_register(struct fs *fs, int fd)
{
	struct backing_map map = { .fd = fd };
	int id = ioctl(fuse_session_fd(fs->se), IOC_BACKING_OPEN, &map);

	return id < 0 ? -errno : id;
}

void msnap_fs_pass_unregister(struct fs *fs, int id)
{
	uint32_t arg = (uint32_t)id;

	/* Opens that use it keep what they need of it. */
	ioctl(fuse_session_fd(fs->se), IOC_BACKING_CLOSE, &arg);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)

int msnap_fs_pass_prepare(struct fs *fs)
{
	(void)fs;
	return 0;
}

void msnap_fs_pass_init(struct fs *fs, struct fuse_conn_info *conn)
{
	(void)fs;
	works = fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH);
}

int msnap_fs_pass_reply_open(fuse_req_t req, struct fuse_file_info *fi, int id)
{
	fi->backing_id = id;
	return fuse_reply_open(req, fi);
}

int msnap_fs_pass_reply_create(fuse_req_t req, const struct fuse_entry_param *entry,
			       struct fuse_file_info *fi, int id)
{
	fi->backing_id = id;
	return fuse_reply_create(req, entry, fi);
}

#else

#define INIT_EXT (1u << 30)	       /* flags2 counts */
#define INIT_PASSTHROUGH (1u << 5)     /* bit 37 of both */
#define INIT_WRITEBACK_CACHE (1u << 16)
#define OPEN_PASSTHROUGH (1u << 7)

static bool wanted;
static uint64_t init_unique; /* of the INIT request; one thread until its reply */
static __thread int reply_id; /* for the OPEN or CREATE reply of this thread */

/* Is INIT in the buffer, and does the kernel offer it? */
static void look_for_init(const char *buf, size_t len)
{
	const struct fuse_in_header *h = (const void *)buf;
	const struct fuse_init_in *in = (const void *)(h + 1);

	if (len < sizeof(*h) || h->opcode != FUSE_INIT)
		return;
	if (len >= sizeof(*h) + offsetof(struct fuse_init_in, flags2) + 4 &&
	    in->flags & INIT_EXT && in->flags2 & INIT_PASSTHROUGH)
		init_unique = h->unique;
}

static ssize_t read_request(int fd, void *buf, size_t len, void *arg)
{
	ssize_t n = read(fd, buf, len);

	(void)arg;
	if (n > 0 && wanted && !works)
		look_for_init(buf, (size_t)n);
	return n;
}

/* struct fuse_init_out as kernels from 6.9 on read it. */
union init_reply {
	struct fuse_init_out out;
	uint8_t bytes[64];
};

static ssize_t write_init(int fd, struct iovec *iov, int count)
{
	union init_reply reply = { .bytes = { 0 } };
	size_t depth = offsetof(struct fuse_init_out, flags2) + 4;
	uint32_t one = 1;

	if (count != 2 || iov[1].iov_len != sizeof(reply))
		return writev(fd, iov, count); /* an old protocol: nothing to amend */
	memcpy(&reply, iov[1].iov_base, sizeof(reply));
	reply.out.flags |= INIT_EXT;
	reply.out.flags &= ~INIT_WRITEBACK_CACHE;
	reply.out.flags2 |= INIT_PASSTHROUGH;
	/* max_stack_depth: backing files on an ordinary filesystem. */
	memcpy(reply.bytes + depth, &one, sizeof(one));
	iov[1].iov_base = &reply;
	works = true;
	return writev(fd, iov, count);
}

/* struct fuse_open_out is the end of both replies. */
static ssize_t write_open(int fd, struct iovec *iov, int count)
{
	struct iovec *last = &iov[count - 1];
	struct fuse_open_out *out;

	if (last->iov_len >= sizeof(*out)) {
		out = (void *)((char *)last->iov_base + last->iov_len -
			       sizeof(*out));
		out->open_flags |= OPEN_PASSTHROUGH;
		/* The field that is backing_id in newer headers. */
		memcpy((char *)out + sizeof(*out) - 4, &reply_id, 4);
	}
	return writev(fd, iov, count);
}

static ssize_t write_reply(int fd, struct iovec *iov, int count, void *arg)
{
	const struct fuse_out_header *h = iov[0].iov_base;

	(void)arg;
	if (init_unique && h->unique == init_unique && !h->error) {
		init_unique = 0;
		return write_init(fd, iov, count);
	}
	if (reply_id && !h->error && count > 1)
		return write_open(fd, iov, count);
	return writev(fd, iov, count);
}

int msnap_fs_pass_prepare(struct fs *fs)
{
	static const struct fuse_custom_io io = {
		.read = read_request,
		.writev = write_reply,
	};

	wanted = true;
	return fuse_session_custom_io(fs->se, &io, fuse_session_fd(fs->se));
}

void msnap_fs_pass_init(struct fs *fs, struct fuse_conn_info *conn)
{
	(void)fs;
	(void)conn;
}

int msnap_fs_pass_reply_open(fuse_req_t req, struct fuse_file_info *fi, int id)
{
	int err;

	reply_id = id;
	err = fuse_reply_open(req, fi);
	reply_id = 0;
	return err;
}

int msnap_fs_pass_reply_create(fuse_req_t req, const struct fuse_entry_param *entry,
			       struct fuse_file_info *fi, int id)
{
	int err;

	reply_id = id;
	err = fuse_reply_create(req, entry, fi);
	reply_id = 0;
	return err;
}

#endif
