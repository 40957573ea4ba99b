/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkfs.c - making a pool.
 */
#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "blockdev.h"
#include "commit.h"
#include "pool.h"

#define MIN_SIZE (MSNAP_MIN_BLOCKS << MSNAP_BLOCK_SHIFT)
#define MAX_SIZE (MSNAP_MAX_BLOCKS << MSNAP_BLOCK_SHIFT)

static int say(struct msnap_why *why, int err, const char *path, const char *text)
{
	snprintf(why->text, sizeof(why->text), "%s: %s", path, text);
	return err;
}

int msnap_pool_format_mem(struct msnap_mem *mem, const char *name,
			  const char *label, struct msnap_why *why)
{
	if (mem->size < MIN_SIZE || mem->size > MAX_SIZE)
		return say(why, -EINVAL, name,
			   "a pool has at least 4 MiB and at most 1 PiB");
	if (label && strlen(label) > 63)
		return say(why, -EINVAL, name, "a label has at most 63 bytes");
	return msnap_super_format(mem, name, label, why);
}

static int is_pool(const char *path, struct msnap_why *why)
{
	return say(why, -EEXIST, path, "is a memsnapfs pool already; -f makes a new "
		   "one and destroys what is in it");
}

static const char *probed(blkid_probe probe, const char *what)
{
	const char *value;

	return blkid_probe_lookup_value(probe, what, &value, NULL) ? NULL : value;
}

/* What libblkid recognises. */
static int check_probed(blkid_probe probe, const char *path, struct msnap_why *why)
{
	const char *type = probed(probe, "TYPE"), *label = probed(probe, "LABEL");
	const char *table = probed(probe, "PTTYPE");

	if (type && !strcmp(type, "xfs") && label &&
	    !strcmp(label, MSNAP_BLOCKDEV_LABEL))
		return is_pool(path, why);
	if (!type && !table)
		return 0;
	snprintf(why->text, sizeof(why->text), "%s: holds %s%s; -f overwrites it",
		 path, type ? "" : "a partition table, ", type ? type : table);
	return -EEXIST;
}

/* Does the file or device hold something that a person would miss? */
static int check_content(const char *path, struct msnap_why *why)
{
	blkid_probe probe = blkid_new_probe_from_filename(path);
	uint8_t block[MSNAP_BLOCK_SIZE] = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, block, sizeof(block));
	int err = 0;

	if (fd >= 0)
		close(fd);
	if (n == (ssize_t)sizeof(block) && msnap_super_present(block)) {
		blkid_free_probe(probe);
		return is_pool(path, why);
	}
	if (probe && blkid_do_safeprobe(probe) == 0)
		err = check_probed(probe, path, why);
	blkid_free_probe(probe);
	if (err)
		return err;
	for (; n > 0; n--)
		if (block[n - 1])
			return say(why, -EEXIST, path, "has something in it; -f "
				   "overwrites it");
	return 0;
}

/* A file that exists: empty, or ours to overwrite? */
static int check_file(const char *path, const struct stat *st,
		      const struct msnap_create_args *args, struct msnap_why *why)
{
	int err = 0;

	if (S_ISBLK(st->st_mode))
		err = msnap_blockdev_wait(path, args->lock_wait_ms, why);
	else if (!S_ISREG(st->st_mode) && !S_ISCHR(st->st_mode))
		err = say(why, -EINVAL, path, "is neither a file nor a device");
	if (err)
		return err;
	if (args->force || S_ISCHR(st->st_mode) || (S_ISREG(st->st_mode) && !st->st_size))
		return 0;
	return check_content(path, why);
}

/*
 * On btrfs a store to a block that has its place would need another one, which a full
 * filesystem does not have: no commit could be made there.  (Measured: with NOCOW such
 * stores succeed, as on XFS.)  Only empty files take it.  Failure: as it was.
 */
static void set_no_cow(int fd)
{
	struct statfs fs;
	int flags;

	if (fstatfs(fd, &fs) || fs.f_type != BTRFS_SUPER_MAGIC ||
	    ioctl(fd, FS_IOC_GETFLAGS, &flags))
		return;
	flags |= FS_NOCOW_FL;
	ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

/* Give a regular file its size, without what was in it before. */
static int size_file(const char *path, uint64_t size, struct msnap_why *why)
{
	int fd = open(path, O_RDWR | O_CLOEXEC), err = 0;

	if (fd < 0)
		return say(why, -errno, path, strerror(errno));
	if (ftruncate(fd, 0))
		err = say(why, -errno, path, strerror(errno));
	set_no_cow(fd);
	if (!err && ftruncate(fd, size))
		err = say(why, -errno, path, strerror(errno));
	close(fd);
	return err;
}

/* In use by a daemon?  Asked before anything is changed. */
static int check_lock(const char *path, unsigned wait_ms, struct msnap_why *why)
{
	struct msnap_mem *mem;
	int err = msnap_mem_open(path, false, wait_ms, &mem, why);

	if (!err)
		msnap_mem_close(mem);
	return err == -EBUSY ? err : 0;
}

static int format(const char *path, const char *label, struct msnap_why *why)
{
	static const struct msnap_open_args args = {
		.flags = MSNAP_OPEN_NO_BACKGROUND
	};
	struct msnap_pool *pool;
	struct msnap_mem *mem;
	int err = msnap_mem_open(path, false, 0, &mem, why);

	if (err)
		return err;
	err = msnap_pool_format_mem(mem, path, label, why);
	if (err) {
		msnap_mem_close(mem);
		return err;
	}
	err = msnap_pool_open_mem(mem, path, &args, &pool, why);
	if (err)
		return err;
	err = msnap_pool_close(pool);
	return err ? say(why, err, path, strerror(-err)) : 0;
}

static int create_file(const char *path, uint64_t size, struct msnap_why *why)
{
	int fd;

	if (!size)
		return say(why, -EINVAL, path,
			   "there is no such file; give its size with -s");
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return say(why, -errno, path, strerror(errno));
	close(fd);
	return 0;
}

static uint64_t round_down(uint64_t size)
{
	return size & ~(uint64_t)(MSNAP_BLOCK_SIZE - 1);
}

/* Before anything is changed. */
static int check_args(const char *path, const struct msnap_create_args *args,
		      struct msnap_why *why)
{
	uint64_t size = round_down(args->size);

	if (args->size && (size < MIN_SIZE || size > MAX_SIZE))
		return say(why, -EINVAL, path,
			   "a pool has at least 4 MiB and at most 1 PiB");
	if (args->label && strlen(args->label) > 63)
		return say(why, -EINVAL, path, "a label has at most 63 bytes");
	return 0;
}

static int create(const char *path, const struct msnap_create_args *args,
		  struct msnap_why *why)
{
	uint64_t size = round_down(args->size);
	struct stat st;
	bool made = false;
	int err = 0;

	if (stat(path, &st)) {
		if (errno != ENOENT)
			return say(why, -errno, path, strerror(errno));
		err = create_file(path, size, why);
		made = !err;
	} else {
		err = check_file(path, &st, args, why);
		if (!err && st.st_size)
			err = check_lock(path, args->lock_wait_ms, why);
		if (!err && !size && S_ISREG(st.st_mode))
			size = round_down(st.st_size);
		if (!err && S_ISREG(st.st_mode) && size < MIN_SIZE)
			err = say(why, -EINVAL, path, "is smaller than 4 MiB; give a "
				  "size with -s");
	}
	if (!err && size && (made || S_ISREG(st.st_mode)))
		err = size_file(path, size, why);
	if (!err)
		err = format(path, args->label, why);
	if (err && made)
		unlink(path);
	return err;
}

static int create_on_device(const char *path, const struct msnap_create_args *args,
			    struct msnap_why *why)
{
	struct msnap_create_args inner = *args;
	char file[MSNAP_BLOCKDEV_PATH];
	int fd, err = 0;

	if (args->size > msnap_blockdev_size(path))
		err = say(why, -EINVAL, path, "is smaller than the size that is asked "
			  "for");
	if (!err)
		err = msnap_blockdev_make(path, why);
	if (!err)
		err = msnap_blockdev_mount(path, false, args->lock_wait_ms, &fd, file,
					   why);
	if (err)
		return err;
	if (!inner.size)
		inner.size = msnap_blockdev_room(fd);
	err = create(file, &inner, why);
	msnap_blockdev_name(path, file, why);
	close(fd);
	return err;
}

int msnap_pool_create(const char *path, const struct msnap_create_args *args,
		      struct msnap_why *why)
{
	struct stat st;
	int err = check_args(path, args, why);

	if (err)
		return err;
	if (stat(path, &st) || !S_ISBLK(st.st_mode))
		return create(path, args, why);
	err = check_file(path, &st, args, why);
	return err ? err : create_on_device(path, args, why);
}
