/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * view-dir.c - the directory that views are in, and their names.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "host.h"
#include "log.h"
#include "view-int.h"

static int open_dir(const char *path, bool *is_new)
{
	int fd;

	*is_new = mkdir(path, 0700) == 0;
	if (!*is_new && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int refuse(int err, char *why, size_t size, const char *path, int dir)
{
	if (dir >= 0 && (err == -EOPNOTSUPP || err == -EXDEV || err == -EINVAL))
		snprintf(why, size, "files on %s cannot share blocks; a pool on XFS or "
			 "btrfs could be mapped directly", msnap_fs_host_name(dir));
	else
		snprintf(why, size, "files cannot share blocks in %s: %s", path,
			 strerror(-err));
	if (dir >= 0)
		close(dir);
	rmdir(path);
	return err;
}

int msnap_fs_views_new(struct msnap_pool *pool, const char *pool_path, char *why,
		       size_t why_size, struct msnap_fs_views **out)
{
	char path[PATH_MAX];
	struct msnap_fs_views *views;
	bool is_new = true;
	int dir, err;

	if (msnap_pool_fd(pool) < 0) {
		snprintf(why, why_size, "the pool is a device, not a file on a "
			 "filesystem that can share blocks");
		return -EOPNOTSUPP;
	}
	if (snprintf(path, sizeof(path), "%s.views", pool_path) >=
	    (int)sizeof(path))
		return refuse(-ENAMETOOLONG, why, why_size, pool_path, -1);
	dir = open_dir(path, &is_new);
	if (dir >= 0)
		msnap_fs_host_make_alike(dir, msnap_pool_fd(pool));
	err = dir < 0 ? dir : msnap_fs_host_can_share(dir);
	/* Nothing can be tried on a full filesystem.  It went well before. */
	if (err == -ENOSPC && !is_new)
		err = 0;
	if (err)
		return refuse(err, why, why_size, path, dir);
	views = calloc(1, sizeof(*views));
	if (views)
		views->path = strdup(path);
	if (!views || !views->path) {
		free(views);
		return refuse(-ENOMEM, why, why_size, path, dir);
	}
	views->pool = pool;
	views->dir = dir;
	*out = views;
	return 0;
}

void msnap_fs_views_free(struct msnap_fs_views *views)
{
	if (!views)
		return;
	close(views->dir);
	free(views->path);
	free(views);
}

int msnap_fs_views_space(struct msnap_fs_views *views, uint64_t *bytes)
{
	struct statvfs st;

	if (fstatvfs(views->dir, &st))
		return -errno;
	*bytes = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

void msnap_fs_views_clear(struct msnap_fs_views *views, msnap_fs_keep_fn *keep,
			  void *arg)
{
	int fd = openat(views->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	while (dir && (de = readdir(dir)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, "..") &&
		    !keep(arg, de->d_name))
			unlinkat(views->dir, de->d_name, 0);
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

void msnap_fs_views_end(struct msnap_fs_views *views, msnap_fs_keep_fn *keep,
			void *arg)
{
	msnap_fs_views_clear(views, keep, arg);
	if (rmdir(views->path) && errno != ENOTEMPTY && errno != EEXIST)
		msnap_fs_log(LOG_WARNING, "%s cannot be removed: %s", views->path,
			     strerror(errno));
}

struct msnap_fs_view_name msnap_fs_view_of(uint64_t ino)
{
	struct msnap_fs_view_name name;

	snprintf(name.text, sizeof(name.text), "%" PRIu64, ino);
	return name;
}

struct msnap_fs_view_name
msnap_fs_view_of_identity(const struct msnap_identity *identity)
{
	struct msnap_fs_view_name name;

	snprintf(name.text, sizeof(name.text),
		 "s%" PRIu64 "-%" PRIu64 "-%" PRIu64, identity->blk,
		 identity->gen, identity->size);
	return name;
}

int msnap_fs_view_open(struct msnap_fs_views *views,
		       const struct msnap_fs_view_name *name)
{
	int fd = openat(views->dir, name->text, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

void msnap_fs_view_remove(struct msnap_fs_views *views,
			  const struct msnap_fs_view_name *name)
{
	if (unlinkat(views->dir, name->text, 0) && errno != ENOENT)
		msnap_fs_log(LOG_WARNING, "view %s cannot be removed: %s",
			     name->text, strerror(errno));
}
