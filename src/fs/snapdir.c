/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapdir.c - see snapdir.h. */
#include "snapdir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000ull

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){ ns / NS_PER_S, ns % NS_PER_S };
}

static uint64_t to_ns(const struct timespec *time)
{
	return (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_nsec;
}

int msnap_fs_snapdir_attr(struct fs *fs, uint64_t dir, struct msnap_attr *attr)
{
	struct msnap_attr of;
	int err = msnap_getattr(fs->pool, msnap_live(dir), &of);

	if (err)
		return err;
	if (!S_ISDIR(of.mode))
		return -ENOTDIR;
	/* Not inherited: setgid, which would mark nothing here. */
	of.mode &= S_IFMT | S_ISVTX | 0777;
	of.nlink = 2;
	of.size = 0;
	of.nr_blk = 0;
	of.mtime = to_timespec(fs->snaps_changed_ns);
	of.ctime = of.mtime;
	of.atime = of.mtime;
	*attr = of;
	return 0;
}

void msnap_fs_snapdir_touch(struct fs *fs)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	fs->snaps_changed_ns = to_ns(&now);
}

void msnap_fs_snapdir_init(struct fs *fs)
{
	struct msnap_snap_info info = { 0 };

	while (msnap_snap_next(fs->pool, info.id, &info) == 0)
		fs->snaps_changed_ns = to_ns(&info.time);
}

static int add(struct msnap_fs_snaplist *list, const struct msnap_snap_info *info)
{
	struct msnap_fs_shown *shown;

	if (list->nr == list->max) {
		size_t max = list->max ? list->max * 2 : 32;

		shown = realloc(list->shown, max * sizeof(*shown));
		if (!shown)
			return -ENOMEM;
		list->shown = shown;
		list->max = max;
	}
	shown = &list->shown[list->nr];
	shown->id = info->id;
	shown->hidden = false;
	shown->name = strdup(info->name);
	if (!shown->name)
		return -ENOMEM;
	list->nr++;
	return 0;
}

/* 1, 0 or an error. */
static int holds(struct fs *fs, uint64_t snap, uint64_t dir, const char *file)
{
	struct msnap_attr attr;
	int res = msnap_snap_holds(fs->pool, snap, dir);

	if (res == -ENOENT)
		return 0; /* deleted meanwhile */
	if (res <= 0 || !file)
		return res;
	res = msnap_lookup(fs->pool, (struct msnap_id){ snap, dir }, file,
			   strlen(file), &attr);
	return res == -ENOENT ? 0 : res ? res : 1;
}

static int by_name(const void *a, const void *b)
{
	const struct msnap_fs_shown *x = *(struct msnap_fs_shown *const *)a;
	const struct msnap_fs_shown *y = *(struct msnap_fs_shown *const *)b;

	return strcmp(x->name, y->name);
}

/*
 * Names are unique among those that a directory shows, but for directories that
 * were moved; only for those the engine is asked which one is nearer.
 */
static int hide_same_names(struct fs *fs, uint64_t dir,
			   struct msnap_fs_snaplist *list)
{
	struct msnap_fs_shown **sorted;
	struct msnap_snap_info info = { 0 };
	int err = 0;

	if (list->nr < 2)
		return 0;
	sorted = malloc(list->nr * sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < list->nr; i++)
		sorted[i] = &list->shown[i];
	qsort(sorted, list->nr, sizeof(*sorted), by_name);
	for (size_t i = 1; i < list->nr && !err; i++) {
		if (strcmp(sorted[i - 1]->name, sorted[i]->name) != 0)
			continue;
		err = msnap_snap_find(fs->pool, dir, sorted[i]->name, &info);
		if (err == -ENOENT)
			err = 0;
		sorted[i - 1]->hidden = sorted[i - 1]->id != info.id;
		sorted[i]->hidden = sorted[i]->id != info.id;
	}
	free(sorted);
	return err;
}

int msnap_fs_snaplist_load(struct fs *fs, uint64_t dir, const char *file,
			   struct msnap_fs_snaplist *list)
{
	struct msnap_fs_snaplist new = { 0 };
	struct msnap_snap_info info = { 0 };
	int err;

	while ((err = msnap_snap_next(fs->pool, info.id, &info)) == 0) {
		err = holds(fs, info.id, dir, file);
		if (err > 0)
			err = add(&new, &info);
		if (err)
			break;
	}
	if (err == -ENOENT)
		err = hide_same_names(fs, dir, &new);
	if (err) {
		msnap_fs_snaplist_free(&new);
		return err;
	}
	*list = new;
	return 0;
}

void msnap_fs_snaplist_free(struct msnap_fs_snaplist *list)
{
	for (size_t i = 0; i < list->nr; i++)
		free(list->shown[i].name);
	free(list->shown);
	memset(list, 0, sizeof(*list));
}

int msnap_fs_snapdir_lookup(struct fs *fs, uint64_t dir, const char *name,
			    struct msnap_attr *attr, uint64_t *node)
{
	struct msnap_snap_info info;
	struct msnap_id id = { .ino = dir };
	int err = msnap_snap_find(fs->pool, dir, name, &info);

	if (err)
		return err;
	id.snap = info.id;
	err = msnap_getattr(fs->pool, id, attr);
	if (!err)
		*node = msnap_fs_node(id);
	return err;
}
