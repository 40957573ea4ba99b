/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BLOCK 4096
#define BATCH 256 /* extents asked for at a time */

int msnap_fs_host_share(int src, uint64_t src_off, int dst, uint64_t dst_off,
			uint64_t len)
{
	struct file_clone_range range = { src, src_off, len, dst_off };
	int res;

	do {
		res = ioctl(dst, FICLONERANGE, &range);
	} while (res && errno == EINTR);
	return res ? -errno : 0;
}

int msnap_fs_host_share_all(int src, int dst)
{
	int res;

	do {
		res = ioctl(dst, FICLONE, src);
	} while (res && errno == EINTR);
	return res ? -errno : 0;
}

void msnap_fs_host_make_alike(int dir, int file)
{
	int want, have;

	/* Filesystems without such flags need none. */
	if (ioctl(file, FS_IOC_GETFLAGS, &want) || ioctl(dir, FS_IOC_GETFLAGS, &have) ||
	    !((want ^ have) & FS_NOCOW_FL))
		return;
	have ^= FS_NOCOW_FL;
	ioctl(dir, FS_IOC_SETFLAGS, &have);
}

static int try_share(int a, int b)
{
	static const char block[BLOCK] = { 1 };
	struct msnap_fs_wheres at = { 0 };
	int err;

	if (pwrite(a, block, sizeof(block), 0) != (ssize_t)sizeof(block))
		return errno ? -errno : -EIO;
	err = msnap_fs_host_share(a, 0, b, 0, BLOCK);
	if (!err)
		err = msnap_fs_host_where(b, 0, BLOCK, &at);
	if (!err && (at.nr != 1 || !at.at[0].known))
		err = -EOPNOTSUPP;
	if (!err)
		err = msnap_fs_host_in_use(b);
	msnap_fs_wheres_free(&at);
	return err;
}

int msnap_fs_host_can_share(int dir)
{
	int a = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int b = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int err = a < 0 || b < 0 ? -errno : try_share(a, b);

	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
	return err;
}

const char *msnap_fs_host_name(int dir)
{
	static const struct {
		unsigned magic;
		const char *name;
	} known[] = {
		{ EXT4_SUPER_MAGIC, "ext4" },	     { XFS_SUPER_MAGIC, "this XFS" },
		{ BTRFS_SUPER_MAGIC, "this btrfs" }, { TMPFS_MAGIC, "tmpfs" },
		{ OVERLAYFS_SUPER_MAGIC, "overlayfs" }, { NFS_SUPER_MAGIC, "NFS" },
		{ F2FS_SUPER_MAGIC, "F2FS" },	     { FUSE_SUPER_MAGIC, "FUSE" },
	};
	struct statfs st;

	if (!fstatfs(dir, &st))
		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			if ((unsigned)st.f_type == known[i].magic)
				return known[i].name;
	return "this filesystem";
}

int msnap_fs_host_in_use(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_WRLCK))
		return errno == EAGAIN ? 1 : -errno;
	return fcntl(fd, F_SETLEASE, F_UNLCK) ? -errno : 0;
}

ssize_t msnap_fs_host_copy(int src, uint64_t src_off, int dst, uint64_t dst_off,
			   uint64_t len)
{
	off_t from = (off_t)src_off, to = (off_t)dst_off;
	uint64_t done = 0;
	ssize_t n = 1;

	while (n > 0 && done < len) {
		n = copy_file_range(src, &from, dst, &to, len - done, 0);
		done += n > 0 ? (uint64_t)n : 0;
	}
	return n < 0 && !done ? -errno : (ssize_t)done;
}

int msnap_fs_wheres_add(struct msnap_fs_wheres *out,
			const struct msnap_fs_where *where)
{
	if (out->nr == out->cap) {
		size_t cap = out->cap ? out->cap * 2 : 64;
		void *at = realloc(out->at, cap * sizeof(*out->at));

		if (!at)
			return -ENOMEM;
		out->at = at;
		out->cap = cap;
	}
	out->at[out->nr++] = *where;
	return 0;
}

/* Places that are not the file's blocks on the device. */
#define NO_PLACE (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC | \
		  FIEMAP_EXTENT_ENCODED | FIEMAP_EXTENT_DATA_INLINE | \
		  FIEMAP_EXTENT_DATA_TAIL | FIEMAP_EXTENT_NOT_ALIGNED)

void msnap_fs_where_cut(struct msnap_fs_where *where, uint64_t from, uint64_t to)
{
	uint64_t end = where->off + where->len;

	if (where->off < from) {
		where->phys += from - where->off;
		where->off = from;
	}
	end = end < to ? end : to;
	where->len = end > where->off ? end - where->off : 0;
}

/* Cut to the range; extents may begin before it and end behind it. */
static int add_extent(struct msnap_fs_wheres *out, const struct fiemap_extent *fe,
		      uint64_t off, uint64_t end)
{
	struct msnap_fs_where where = {
		.off = fe->fe_logical,
		.len = fe->fe_length,
		.phys = fe->fe_physical,
		.known = !(fe->fe_flags & (NO_PLACE | FIEMAP_EXTENT_UNWRITTEN)),
		.zeros = fe->fe_flags & FIEMAP_EXTENT_UNWRITTEN,
	};

	msnap_fs_where_cut(&where, off, end);
	return where.len ? msnap_fs_wheres_add(out, &where) : 0;
}

int msnap_fs_host_where(int fd, uint64_t off, uint64_t len,
			struct msnap_fs_wheres *out)
{
	uint64_t pos = off, end = off + len;
	struct fiemap *map = malloc(sizeof(*map) +
				    BATCH * sizeof(struct fiemap_extent));
	bool last = false;
	int err = map ? 0 : -ENOMEM;

	while (!err && !last && pos < end) {
		memset(map, 0, sizeof(*map));
		map->fm_start = pos;
		map->fm_length = end - pos;
		map->fm_flags = FIEMAP_FLAG_SYNC;
		map->fm_extent_count = BATCH;
		if (ioctl(fd, FS_IOC_FIEMAP, map)) {
			err = -errno;
			break;
		}
		last = map->fm_mapped_extents < BATCH;
		for (unsigned i = 0; !err && i < map->fm_mapped_extents; i++) {
			const struct fiemap_extent *fe = &map->fm_extents[i];

			err = add_extent(out, fe, off, end);
			pos = fe->fe_logical + fe->fe_length;
			last |= !!(fe->fe_flags & FIEMAP_EXTENT_LAST);
		}
	}
	free(map);
	return err;
}

void msnap_fs_wheres_free(struct msnap_fs_wheres *wheres)
{
	free(wheres->at);
	*wheres = (struct msnap_fs_wheres){ 0 };
}
