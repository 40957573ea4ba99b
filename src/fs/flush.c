/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flush.c - see flush.h.
 *
 * Why two calls: from 6.16 on, a page of a FUSE file is under write-back until
 * the WRITE has been answered, so sync_file_range() waits for it, and takes no
 * lock that a large write(2) could hold for long.  Before, pages were copied and
 * declared written at once; there only fsync() waits for the WRITEs.
 *
 * The name must not stay in the kernel's cache: it would hold a reference, and a
 * deleted file would never be forgotten.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "flush.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "direct.h"
#include "log.h"
#include "lost.h"
#include "node.h"

#define PREFIX ".msnapfs-inode-"
#define MAX_OWN 16

struct msnap_fs_flush {
	char *mountpoint;
	char secret[33];
	bool range_waits; /* sync_file_range() does */
	_Atomic pid_t own[MAX_OWN]; /* thread ids */
	_Atomic unsigned nr_own;
};

static bool kernel_is(unsigned want_major, unsigned want_minor)
{
	struct utsname name;
	unsigned major, minor;

	if (uname(&name) || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		return false;
	return major > want_major ||
	       (major == want_major && minor >= want_minor);
}

int msnap_fs_flush_new(const char *mountpoint, struct msnap_fs_flush **out)
{
	struct msnap_fs_flush *flush;
	uint64_t random[2];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -errno;
	flush = calloc(1, sizeof(*flush));
	if (!flush)
		return -ENOMEM;
	flush->mountpoint = strdup(mountpoint);
	if (!flush->mountpoint) {
		free(flush);
		return -ENOMEM;
	}
	snprintf(flush->secret, sizeof(flush->secret), "%016" PRIx64 "%016" PRIx64,
		 random[0], random[1]);
	flush->range_waits = kernel_is(6, 16);
	*out = flush;
	return 0;
}

void msnap_fs_flush_free(struct msnap_fs_flush *flush)
{
	if (flush)
		free(flush->mountpoint);
	free(flush);
}

void msnap_fs_flush_register(struct msnap_fs_flush *flush)
{
	unsigned i = flush->nr_own++;

	if (i < MAX_OWN)
		flush->own[i] = gettid();
}

bool msnap_fs_flush_is_own(const struct msnap_fs_flush *flush, fuse_req_t req)
{
	pid_t pid = fuse_req_ctx(req)->pid;

	for (unsigned i = 0; i < MAX_OWN && pid; i++)
		if (flush->own[i] == pid)
			return true;
	return false;
}

static void secret_name(const struct msnap_fs_flush *flush, uint64_t ino,
			char *name, size_t size)
{
	snprintf(name, size, PREFIX "%" PRIx64 "-%s", ino, flush->secret);
}

uint64_t msnap_fs_flush_parse(const struct msnap_fs_flush *flush,
			      const char *name)
{
	uint64_t ino;
	char *end;

	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
		return 0;
	ino = strtoull(name + strlen(PREFIX), &end, 16);
	if (*end != '-' || strcmp(end + 1, flush->secret) != 0)
		return 0;
	return msnap_fs_is_live(ino) ? ino : 0;
}

bool msnap_fs_flush_under_lock(const struct msnap_fs_flush *flush)
{
	return flush->range_waits;
}

static void forget_name(struct fs *fs, const char *name)
{
	/* -ENOENT: the kernel had not kept it. */
	fuse_lowlevel_notify_inval_entry(fs->se, FUSE_ROOT_ID, name,
					 strlen(name));
}

/*
 * The mount point is opened for the moment only: kept open it would keep the
 * mount busy.
 */
static int open_mount(const struct msnap_fs_flush *flush)
{
	int fd = open(flush->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Negative errno: it could not be tried. */
static int open_file(struct fs *fs, int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		fd = -errno;
	forget_name(fs, name);
	return fd;
}

static int sync_fd(const struct msnap_fs_flush *flush, int fd)
{
	const unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE |
			     SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
	int res = flush->range_waits ? sync_file_range(fd, 0, 0, all)
				     : fsync(fd);

	return res ? -errno : 0;
}

static int write_back_by_dropping(struct fs *fs, uint64_t ino)
{
	uint64_t nr_failed = fs->nr_writeback_failed;
	int err = fuse_lowlevel_notify_inval_inode(fs->se, ino, 0, 0);

	if (err == -ENOENT)
		return 0; /* the kernel has nothing of it */
	if (err)
		return err;
	return fs->nr_writeback_failed == nr_failed ? 0 : -EIO;
}

/* @dir: negative when the mount point could not be opened. */
static int flush_one(struct fs *fs, int dir, uint64_t ino)
{
	char name[80];
	int fd, err;

	secret_name(fs->flush, ino, name, sizeof(name));
	fd = dir < 0 ? dir : open_file(fs, dir, name);
	if (fd < 0)
		return write_back_by_dropping(fs, ino);
	err = sync_fd(fs->flush, fd);
	close(fd);
	if (err)
		msnap_fs_log(LOG_ERR, "inode %" PRIu64
			     ": what was stored in mappings could not be written"
			     " back: %s", ino, strerror(-err));
	return err;
}

int msnap_fs_flush_pages(struct fs *fs, uint64_t ino)
{
	int dir, err = msnap_fs_direct_absorb(fs, ino);

	/* What is in a view the kernel has no pages of. */
	if (err || !msnap_fs_node_is_written(fs->nodes, ino) ||
	    !msnap_fs_direct_is_cached(fs, ino))
		return err;
	dir = open_mount(fs->flush);
	err = flush_one(fs, dir, ino);
	if (dir >= 0)
		close(dir);
	return err;
}

/* Now, and before: what failed then is told to this caller, and to no other. */
static int or_lost(struct fs *fs, int err, uint64_t ino)
{
	int lost = msnap_fs_lost_take(fs->lost, fs->pool, ino);

	return err ? err : lost;
}

int msnap_fs_flush_file(struct fs *fs, uint64_t ino)
{
	return or_lost(fs, msnap_fs_flush_pages(fs, ino), ino);
}

/* The first error counts, but all are tried. */
int msnap_fs_flush_all(struct fs *fs)
{
	uint64_t *ino;
	size_t nr;
	int dir, err = msnap_fs_direct_absorb(fs, 0);

	if (!err)
		err = msnap_fs_nodes_written(fs->nodes, &ino, &nr);
	if (err)
		return err;
	if (!nr)
		return or_lost(fs, 0, 0);
	dir = open_mount(fs->flush);
	for (size_t i = 0; i < nr; i++) {
		int res = 0;

		if (msnap_fs_direct_is_cached(fs, ino[i]))
			res = flush_one(fs, dir, ino[i]);

		err = err ? err : res;
	}
	if (dir >= 0)
		close(dir);
	free(ino);
	return or_lost(fs, err, 0);
}

void msnap_fs_flush_refresh(struct fs *fs, uint64_t ino)
{
	char name[80];
	struct stat st;
	int dir = open_mount(fs->flush);

	if (dir < 0)
		return;
	secret_name(fs->flush, ino, name, sizeof(name));
	/* The answer to the lookup carries the attributes. */
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		forget_name(fs, name);
	close(dir);
}
