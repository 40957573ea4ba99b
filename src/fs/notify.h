/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * notify.h - tell the kernel what changed behind its back.
 *
 * What it is: a list of inodes and names that an engine call changed, collected
 * while it runs, and told to the kernel afterwards.
 *
 * What it does not do: changes that a request of the kernel's own made; the
 * kernel knows those.
 *
 * Locking: a list belongs to one thread.  Telling waits for the kernel's locks
 * and for WRITEs, so only control threads do it, without locks.
 */
#ifndef MSNAP_FS_NOTIFY_H
#define MSNAP_FS_NOTIFY_H

#include "fs.h"

struct msnap_fs_changes {
	uint64_t *ino; /* inodes, ascending after msnap_fs_changes_sort() */
	size_t nr_ino;
	size_t max_ino;
	char *entry; /* directory (8 bytes), length (2 bytes), name; repeated */
	size_t entry_len;
	size_t max_entry;
	bool lost; /* no memory: some are missing */
};

/* A msnap_changed_fn; @arg is the list. */
void msnap_fs_changes_add(void *arg, uint64_t ino, const char *name, size_t len);
/* Each inode once, ascending. */
void msnap_fs_changes_sort(struct msnap_fs_changes *changes);
void msnap_fs_changes_free(struct msnap_fs_changes *changes);

/* The kernel forgets the names in the list. */
void msnap_fs_notify_entries(struct fs *fs,
			     const struct msnap_fs_changes *changes);

/* The kernel forgets contents and attributes; dirty pages are written first. */
void msnap_fs_notify_contents(struct fs *fs, uint64_t node);
/* Attributes only; never waits for WRITEs. */
void msnap_fs_notify_attr(struct fs *fs, uint64_t node);
/* One name in a directory; the directory's attributes too. */
void msnap_fs_notify_name(struct fs *fs, uint64_t dir, const char *name);

#endif
