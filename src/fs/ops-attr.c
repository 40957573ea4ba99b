/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops-attr.c - attributes, symbolic links, extended attributes, statfs.
 *
 * Reading a file does not change its atime (as under noatime): it would turn
 * every read into a write, and every snapshot's metadata into a copy.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "direct.h"
#include "ops.h"
#include "reply.h"

#define SYMLINK_MAX 4096

void msnap_fs_op_getattr(fuse_req_t req, fuse_ino_t node,
			 struct fuse_file_info *fi)
{
	struct msnap_attr attr;
	int err = msnap_fs_attr(msnap_fs_of(req), node, &attr);

	(void)fi;
	if (err)
		msnap_fs_reply(req, err);
	else
		msnap_fs_reply_attr(req, node, &attr);
}

static unsigned times_to_set(const struct stat *st, int to_set,
			     struct msnap_attr *attr)
{
	unsigned set = 0;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (to_set & FUSE_SET_ATTR_ATIME) {
		set |= MSNAP_SET_ATIME;
		attr->atime = to_set & FUSE_SET_ATTR_ATIME_NOW ? now
							       : st->st_atim;
	}
	if (to_set & FUSE_SET_ATTR_MTIME) {
		set |= MSNAP_SET_MTIME;
		attr->mtime = to_set & FUSE_SET_ATTR_MTIME_NOW ? now
							       : st->st_mtim;
	}
	if (to_set & FUSE_SET_ATTR_CTIME) {
		set |= MSNAP_SET_CTIME;
		attr->ctime = st->st_ctim;
	}
	return set;
}

/*
 * That chown, truncate and write take setuid and setgid away is seen to by the
 * kernel, which sends the mode along (HANDLE_KILLPRIV is not asked for).
 */
static unsigned attr_to_set(const struct stat *st, int to_set,
			    struct msnap_attr *attr)
{
	unsigned set = times_to_set(st, to_set, attr);

	if (to_set & FUSE_SET_ATTR_MODE) {
		set |= MSNAP_SET_MODE;
		attr->mode = st->st_mode & 07777;
	}
	if (to_set & FUSE_SET_ATTR_UID) {
		set |= MSNAP_SET_UID;
		attr->uid = st->st_uid;
	}
	if (to_set & FUSE_SET_ATTR_GID) {
		set |= MSNAP_SET_GID;
		attr->gid = st->st_gid;
	}
	if (to_set & FUSE_SET_ATTR_SIZE) {
		set |= MSNAP_SET_SIZE;
		attr->size = (uint64_t)st->st_size;
	}
	return set;
}

static int set_view(int fd, const struct msnap_attr *attr, unsigned set)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
				     { .tv_nsec = UTIME_OMIT } };

	if (set & MSNAP_SET_SIZE && ftruncate(fd, (off_t)attr->size))
		return -errno;
	if (set & MSNAP_SET_ATIME)
		times[0] = attr->atime;
	if (set & MSNAP_SET_MTIME)
		times[1] = attr->mtime;
	return futimens(fd, times) ? -errno : 0;
}

/* Size and times are the view's while there is one. */
static int set_contents(struct fs *fs, uint64_t node, const struct msnap_attr *attr,
			unsigned set, struct msnap_attr *after)
{
	int err = 0, fd = msnap_fs_direct_lock(fs, node, set & MSNAP_SET_SIZE);

	if (fd < -1)
		return fd;
	if (fd >= 0) {
		err = set_view(fd, attr, set);
		set &= ~MSNAP_SET_SIZE;
	}
	if (!err)
		err = msnap_setattr(fs->pool, node, attr, set, after);
	msnap_fs_direct_unlock(fs, node, fd);
	return err;
}

void msnap_fs_op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *st,
			 int to_set, struct fuse_file_info *fi)
{
	struct msnap_attr attr = { 0 }, after;
	unsigned set = attr_to_set(st, to_set, &attr);
	int err = -EROFS;

	(void)fi;
	if (msnap_fs_is_live(node) &&
	    set & (MSNAP_SET_SIZE | MSNAP_SET_MTIME | MSNAP_SET_ATIME))
		err = set_contents(msnap_fs_of(req), node, &attr, set, &after);
	else if (msnap_fs_is_live(node))
		err = msnap_setattr(msnap_fs_of(req)->pool, node, &attr, set,
				    &after);
	if (err)
		msnap_fs_reply(req, err);
	else
		msnap_fs_reply_attr(req, node, &after);
}

void msnap_fs_op_readlink(fuse_req_t req, fuse_ino_t node)
{
	char target[SYMLINK_MAX + 1];
	int len = -EINVAL;

	if (!msnap_fs_is_snapdir(node))
		len = msnap_readlink(msnap_fs_of(req)->pool, msnap_fs_id(node),
				     target, SYMLINK_MAX);
	if (len < 0) {
		msnap_fs_reply(req, len);
		return;
	}
	target[len] = '\0';
	fuse_reply_readlink(req, target);
}

/*
 * Access control lists (system.) would be stored but not obeyed, so they are not
 * taken.  Who may use trusted. and security. the kernel has checked.
 */
static bool is_known_xattr(const char *name)
{
	return strncmp(name, "user.", 5) == 0 ||
	       strncmp(name, "trusted.", 8) == 0 ||
	       strncmp(name, "security.", 9) == 0;
}

void msnap_fs_op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name,
			  const char *value, size_t size, int flags)
{
	int err;

	if (!msnap_fs_is_live(node))
		err = -EROFS;
	else if (!is_known_xattr(name))
		err = -EOPNOTSUPP;
	else
		err = msnap_xattr_set(msnap_fs_of(req)->pool, node, name, value,
				      size, flags);
	msnap_fs_reply(req, err);
}

void msnap_fs_op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
	int err;

	if (!msnap_fs_is_live(node))
		err = -EROFS;
	else if (!is_known_xattr(name))
		err = -EOPNOTSUPP;
	else
		err = msnap_xattr_remove(msnap_fs_of(req)->pool, node, name);
	msnap_fs_reply(req, err);
}

/* @len: what the engine returned; with @size 0 the length itself was wanted. */
static void reply_xattr(fuse_req_t req, const char *buf, size_t size, int len)
{
	if (len < 0)
		msnap_fs_reply(req, len);
	else if (size == 0)
		fuse_reply_xattr(req, (size_t)len);
	else
		fuse_reply_buf(req, buf, (size_t)len);
}

void msnap_fs_op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name,
			  size_t size)
{
	char *buf = size ? malloc(size) : NULL;
	int len;

	if (size && !buf)
		len = -ENOMEM;
	else if (!is_known_xattr(name))
		len = -EOPNOTSUPP;
	else if (msnap_fs_is_snapdir(node))
		len = -ENODATA;
	else
		len = msnap_xattr_get(msnap_fs_of(req)->pool, msnap_fs_id(node),
				      name, buf, size);
	reply_xattr(req, buf, size, len);
	free(buf);
}

void msnap_fs_op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	char *buf = size ? malloc(size) : NULL;
	int len = 0;

	if (size && !buf)
		len = -ENOMEM;
	else if (!msnap_fs_is_snapdir(node))
		len = msnap_xattr_list(msnap_fs_of(req)->pool,
				       msnap_fs_id(node), buf, size);
	reply_xattr(req, buf, size, len);
	free(buf);
}

/* Blocks that can be had: in direct mode the host's filesystem must have them, too. */
static uint64_t nr_available(struct fs *fs, const struct msnap_pool_info *info)
{
	uint64_t host, nr = 0;

	if (info->nr_free > info->nr_reserve)
		nr = info->nr_free - info->nr_reserve;
	if (!msnap_fs_direct_space(fs, &host))
		return nr;
	host /= info->block_size;
	return host < nr ? host : nr;
}

void msnap_fs_op_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct msnap_pool_info info;
	struct statvfs st = { 0 };
	int err = msnap_pool_info(msnap_fs_of(req)->pool, &info);

	(void)node;
	if (err) {
		msnap_fs_reply(req, err);
		return;
	}
	st.f_bsize = info.block_size;
	st.f_frsize = info.block_size;
	st.f_blocks = info.nr_blocks;
	st.f_bfree = info.nr_free;
	st.f_bavail = nr_available(msnap_fs_of(req), &info);
	/* Inodes are made of free blocks as they are needed. */
	st.f_files = info.nr_inodes + st.f_bavail;
	st.f_ffree = st.f_bavail;
	st.f_favail = st.f_bavail;
	st.f_namemax = 255;
	fuse_reply_statfs(req, &st);
}
