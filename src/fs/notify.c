/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * notify.c - see notify.h.
 *
 * That the kernel does not know the thing (-ENOENT) is the normal case.  Other
 * failures mean that the connection is gone, and with it the cache.
 */
#include "notify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node.h"

/* Room for @need more behind @used; false: no memory. */
static bool reserve(void **array, size_t *max, size_t used, size_t need)
{
	size_t new_max = *max ? *max * 2 : 1024;
	void *new;

	if (used + need <= *max)
		return true;
	while (new_max < used + need)
		new_max *= 2;
	new = realloc(*array, new_max);
	if (!new)
		return false;
	*array = new;
	*max = new_max;
	return true;
}

static bool add_inode(struct msnap_fs_changes *changes, uint64_t ino)
{
	if (!reserve((void **)&changes->ino, &changes->max_ino,
		     changes->nr_ino * sizeof(ino), sizeof(ino)))
		return false;
	changes->ino[changes->nr_ino++] = ino;
	return true;
}

static bool add_entry(struct msnap_fs_changes *changes, uint64_t dir,
		      const char *name, size_t len)
{
	uint16_t len16 = (uint16_t)len;
	char *at;

	if (!reserve((void **)&changes->entry, &changes->max_entry,
		     changes->entry_len, sizeof(dir) + sizeof(len16) + len))
		return false;
	at = changes->entry + changes->entry_len;
	memcpy(at, &dir, sizeof(dir));
	memcpy(at + sizeof(dir), &len16, sizeof(len16));
	memcpy(at + sizeof(dir) + sizeof(len16), name, len);
	changes->entry_len += sizeof(dir) + sizeof(len16) + len;
	return true;
}

void msnap_fs_changes_add(void *arg, uint64_t ino, const char *name, size_t len)
{
	struct msnap_fs_changes *changes = arg;
	bool ok = name ? add_entry(changes, ino, name, len)
		       : add_inode(changes, ino);

	if (!ok)
		changes->lost = true;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void msnap_fs_changes_sort(struct msnap_fs_changes *changes)
{
	size_t nr = 0;

	if (!changes->nr_ino)
		return;
	qsort(changes->ino, changes->nr_ino, sizeof(*changes->ino), compare);
	for (size_t i = 0; i < changes->nr_ino; i++)
		if (!nr || changes->ino[nr - 1] != changes->ino[i])
			changes->ino[nr++] = changes->ino[i];
	changes->nr_ino = nr;
}

void msnap_fs_changes_free(struct msnap_fs_changes *changes)
{
	free(changes->ino);
	free(changes->entry);
	memset(changes, 0, sizeof(*changes));
}

void msnap_fs_notify_entries(struct fs *fs,
			     const struct msnap_fs_changes *changes)
{
	for (size_t i = 0; i < changes->entry_len;) {
		uint64_t dir;
		uint16_t len;

		memcpy(&dir, changes->entry + i, sizeof(dir));
		i += sizeof(dir);
		memcpy(&len, changes->entry + i, sizeof(len));
		i += sizeof(len);
		if (dir == FUSE_ROOT_ID || msnap_fs_node_is_known(fs->nodes, dir))
			fuse_lowlevel_notify_inval_entry(
				fs->se, dir, changes->entry + i, len);
		i += len;
	}
}

void msnap_fs_notify_contents(struct fs *fs, uint64_t node)
{
	fuse_lowlevel_notify_inval_inode(fs->se, node, 0, 0);
}

void msnap_fs_notify_attr(struct fs *fs, uint64_t node)
{
	fuse_lowlevel_notify_inval_inode(fs->se, node, -1, 0);
}

void msnap_fs_notify_name(struct fs *fs, uint64_t dir, const char *name)
{
	fuse_lowlevel_notify_inval_entry(fs->se, dir, name, strlen(name));
}
