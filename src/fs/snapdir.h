/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapdir.h - .snap: the restore points of a directory as a directory.
 *
 * What it is: attributes and contents of the virtual directory .snap that every
 * live directory has, and the list of restore points that a directory shows.  Of
 * two that have the same name, the one taken of the nearer directory shows.
 *
 * What it does not do: it takes, deletes and renames nothing (ctl-snap.h does).
 *
 * Locking: none of its own; a list belongs to its maker.
 */
#ifndef MSNAP_FS_SNAPDIR_H
#define MSNAP_FS_SNAPDIR_H

#include "fs.h"

/*
 * Attributes of .snap of live directory @dir: who may read, search or change
 * the directory may read, search or change its restore points.
 */
int msnap_fs_snapdir_attr(struct fs *fs, uint64_t dir, struct msnap_attr *attr);

/* Something was done to the set of restore points: .snap changes its times. */
void msnap_fs_snapdir_touch(struct fs *fs);
/* The same at start: the times of the newest one there is. */
void msnap_fs_snapdir_init(struct fs *fs);

struct msnap_fs_shown {
	uint64_t id;
	char *name;
	bool hidden; /* by another one of the same name */
};

struct msnap_fs_snaplist {
	size_t nr;
	size_t max;
	struct msnap_fs_shown *shown; /* oldest first */
};

/*
 * The restore points that directory @dir (live) shows; with @file, those that
 * hold an entry of that name.  The caller frees it.
 */
int msnap_fs_snaplist_load(struct fs *fs, uint64_t dir, const char *file,
			   struct msnap_fs_snaplist *list);
void msnap_fs_snaplist_free(struct msnap_fs_snaplist *list);

/* Lookup in .snap: the restore point called @name. */
int msnap_fs_snapdir_lookup(struct fs *fs, uint64_t dir, const char *name,
			    struct msnap_attr *attr, uint64_t *node);

#endif
