/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops-dir.c - reading directories.
 *
 * The kernel goes on where the last entry's offset says.  In a directory of the
 * engine: 1 behind ".", 2 behind "..", 3 behind ".snap" (listed only with
 * snapdir=visible), 3 + the engine's cookie behind its entries.  In .snap: 1, 2,
 * and 3 + the place in the list that opendir (or a rewind) made.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "node.h"
#include "ops.h"
#include "opts.h"
#include "reply.h"
#include "snapdir.h"

#define OFF_DOT 1
#define OFF_DOTDOT 2
#define OFF_FIRST 3

/* An open .snap; fi->fh of other directories is 0. */
struct snapdir_handle {
	pthread_mutex_t lock;
	struct msnap_fs_snaplist list;
};

void msnap_fs_op_opendir(fuse_req_t req, fuse_ino_t node,
			 struct fuse_file_info *fi)
{
	struct snapdir_handle *handle = NULL;

	if (msnap_fs_is_snapdir(node)) {
		handle = calloc(1, sizeof(*handle));
		if (!handle) {
			msnap_fs_reply(req, -ENOMEM);
			return;
		}
		pthread_mutex_init(&handle->lock, NULL);
	}
	fi->fh = (uintptr_t)handle;
	if (fuse_reply_open(req, fi) == -ENOENT)
		free(handle);
}

void msnap_fs_op_releasedir(fuse_req_t req, fuse_ino_t node,
			    struct fuse_file_info *fi)
{
	struct snapdir_handle *handle = (void *)(uintptr_t)fi->fh;

	(void)node;
	if (handle) {
		msnap_fs_snaplist_free(&handle->list);
		free(handle);
	}
	msnap_fs_reply(req, 0);
}

/* ---- gathering: first the names, then (without locks) their attributes ---- */

struct found {
	uint64_t node;
	off_t next;	 /* offset behind it */
	size_t name;	 /* place of its name in listing->names */
	uint8_t type;
};

struct listing {
	fuse_req_t req;
	uint64_t snap; /* of the directory's entries */
	bool plus;
	size_t size; /* of the kernel's buffer */
	size_t used; /* of it, by what was found */
	struct found *found;
	size_t nr;
	size_t max;
	char *names; /* of @size bytes: entries are larger than their names */
	size_t names_len;
	int err;
};

static size_t entry_size(struct listing *list, const char *name)
{
	return list->plus ? fuse_add_direntry_plus(list->req, NULL, 0, name,
						   NULL, 0)
			  : fuse_add_direntry(list->req, NULL, 0, name, NULL,
					      0);
}

static bool has_room(struct listing *list)
{
	struct found *found;
	size_t max = list->max ? list->max * 2 : 64;

	if (list->nr < list->max)
		return true;
	found = realloc(list->found, max * sizeof(*found));
	if (!found) {
		list->err = -ENOMEM;
		return false;
	}
	list->found = found;
	list->max = max;
	return true;
}

/* False: the buffer is full, or an error is in list->err. */
static bool add(struct listing *list, uint64_t node, const char *name,
		size_t len, uint8_t type, off_t next)
{
	char terminated[256];
	size_t need;

	if (len >= sizeof(terminated)) {
		list->err = -EUCLEAN;
		return false;
	}
	memcpy(terminated, name, len);
	terminated[len] = '\0';
	need = entry_size(list, terminated);
	if (list->used + need > list->size || !has_room(list))
		return false;
	list->found[list->nr++] = (struct found){
		.node = node,
		.next = next,
		.name = list->names_len,
		.type = type,
	};
	memcpy(list->names + list->names_len, terminated, len + 1);
	list->names_len += len + 1;
	list->used += need;
	return true;
}

static bool add_dots(struct listing *list, struct fs *fs, uint64_t node,
		     off_t off)
{
	struct msnap_attr attr;
	uint64_t parent = node;

	if (off < OFF_DOT && !add(list, node, ".", 1, DT_DIR, OFF_DOT))
		return false;
	if (off >= OFF_DOTDOT)
		return true;
	if (msnap_fs_is_snapdir(node)) {
		parent = msnap_fs_ino(node);
	} else if (msnap_fs_attr(fs, node, &attr) == 0 && attr.parent) {
		struct msnap_id id = { list->snap, attr.parent };

		parent = msnap_fs_node(id);
	}
	return add(list, parent, "..", 2, DT_DIR, OFF_DOTDOT);
}

static int add_entry(void *arg, const struct msnap_entry *entry)
{
	struct listing *list = arg;
	struct msnap_id id = { list->snap, entry->ino };

	return !add(list, msnap_fs_node(id), entry->name, entry->len,
		    entry->type, OFF_FIRST + (off_t)entry->cookie);
}

static int gather(struct listing *list, struct fs *fs, uint64_t node, off_t off)
{
	struct msnap_id id = msnap_fs_id(node);
	bool visible = fs->opts->snapdir_visible && msnap_fs_is_live(node);
	int err;

	list->snap = id.snap;
	if (!add_dots(list, fs, node, off))
		return list->err;
	if (off < OFF_FIRST && visible &&
	    !add(list, node | MSNAP_FS_SNAPDIR, MSNAP_FS_SNAPDIR_NAME,
		 strlen(MSNAP_FS_SNAPDIR_NAME), DT_DIR, OFF_FIRST))
		return list->err;
	err = msnap_readdir(fs->pool, id,
			    off > OFF_FIRST ? (uint64_t)off - OFF_FIRST : 0,
			    add_entry, list);
	return err < 0 ? err : list->err;
}

/* From the start the list is made anew: that is what a rewind is for. */
static int gather_snaps(struct listing *list, struct fs *fs, uint64_t node,
			struct snapdir_handle *handle, off_t off)
{
	struct msnap_fs_snaplist *snaps = &handle->list;
	size_t i = off > OFF_FIRST ? (size_t)(off - OFF_FIRST) : 0;

	if (off == 0) {
		struct msnap_fs_snaplist fresh;
		int err = msnap_fs_snaplist_load(fs, msnap_fs_ino(node), NULL,
						 &fresh);

		if (err)
			return err;
		msnap_fs_snaplist_free(snaps);
		*snaps = fresh;
	}
	if (!add_dots(list, fs, node, off))
		return list->err;
	for (; i < snaps->nr; i++) {
		const struct msnap_fs_shown *shown = &snaps->shown[i];
		struct msnap_id id = { shown->id, msnap_fs_ino(node) };

		if (!shown->hidden &&
		    !add(list, msnap_fs_node(id), shown->name,
			 strlen(shown->name), DT_DIR, OFF_FIRST + (off_t)i + 1))
			break;
	}
	return list->err;
}

/* ---- answering ------------------------------------------------------------ */

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static size_t put_plain(struct listing *list, const struct found *found,
			const char *name, char *to, size_t room)
{
	struct stat st = {
		.st_ino = found->node,
		.st_mode = DTTOIF(found->type),
	};

	return fuse_add_direntry(list->req, to, room, name, &st, found->next);
}

/*
 * With attributes, and a reference that the kernel takes.  "." and "..", and what
 * vanished meanwhile or cannot be read, go without: node id 0.
 */
static size_t put_plus(struct listing *list, struct fs *fs, double timeout,
		       const struct found *found, const char *name, char *to,
		       size_t room)
{
	struct fuse_entry_param entry;
	struct msnap_attr attr;

	if (is_dots(name) || msnap_fs_attr(fs, found->node, &attr) ||
	    msnap_fs_node_ref(fs->nodes, found->node)) {
		memset(&entry, 0, sizeof(entry));
		entry.attr.st_ino = found->node;
		entry.attr.st_mode = DTTOIF(found->type);
	} else {
		msnap_fs_fill_entry(fs, found->node, &attr, timeout, &entry);
	}
	return fuse_add_direntry_plus(list->req, to, room, name, &entry,
				      found->next);
}

static void reply_found(struct listing *list, struct fs *fs, double timeout)
{
	char *buf = malloc(list->used ? list->used : 1);
	size_t len = 0;

	if (!buf) {
		msnap_fs_reply(list->req, -ENOMEM);
		return;
	}
	for (size_t i = 0; i < list->nr; i++) {
		const struct found *found = &list->found[i];
		const char *name = list->names + found->name;

		len += list->plus ? put_plus(list, fs, timeout, found, name,
					     buf + len, list->used - len)
				  : put_plain(list, found, name, buf + len,
					      list->used - len);
	}
	fuse_reply_buf(list->req, buf, len);
	free(buf);
}

static void read_directory(fuse_req_t req, uint64_t node, size_t size,
			   off_t off, struct fuse_file_info *fi, bool plus)
{
	struct snapdir_handle *handle = (void *)(uintptr_t)fi->fh;
	struct fs *fs = msnap_fs_of(req);
	struct listing list = { .req = req, .plus = plus, .size = size };
	int err = -ENOMEM;

	list.names = malloc(size + 1);
	if (list.names && handle) {
		pthread_mutex_lock(&handle->lock);
		err = gather_snaps(&list, fs, node, handle, off);
		pthread_mutex_unlock(&handle->lock);
	} else if (list.names) {
		err = gather(&list, fs, node, off);
	}
	/* What was found before an error is shown; the error comes next time. */
	if (err && !list.nr)
		msnap_fs_reply(req, err);
	else
		reply_found(&list, fs, handle ? 0 : MSNAP_FS_TIMEOUT);
	free(list.found);
	free(list.names);
}

void msnap_fs_op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
			 struct fuse_file_info *fi)
{
	read_directory(req, node, size, off, fi, false);
}

void msnap_fs_op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size,
			     off_t off, struct fuse_file_info *fi)
{
	read_directory(req, node, size, off, fi, true);
}
