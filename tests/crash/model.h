/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * model.h - what a memsnapfs filesystem is, in the plainest way: inodes in an array,
 * contents as bytes, snapshots as deep copies.
 *
 * It is what the crash tests compare pools with, so it shares no code and no idea
 * with the engine: nothing is shared, counted or ordered here.  It knows no times,
 * no inode numbers of the pool and no lack of space.
 *
 * Paths have no leading slash; "" is the top directory.  Functions return what the
 * engine's function of that name should: 0 (or a count) or a negative errno; on
 * failure the model is not to be used any more (work on a copy).  Running out of
 * memory ends the program.
 */
#ifndef CRASH_MODEL_H
#define CRASH_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define MODEL_NAME_MAX 31
#define MODEL_ROOT 1u

struct model_entry {
	char name[MODEL_NAME_MAX + 1];
	uint32_t id;
};

struct model_xattr {
	char name[MODEL_NAME_MAX + 1];
	uint8_t *value;
	size_t len;
};

struct model_inode {
	uint32_t mode; /* as st_mode */
	uint32_t nlink;
	uint32_t uid;
	uint32_t parent; /* of a directory */
	bool frame;	 /* a directory in a snapshot of some of its files */
	uint8_t *data;	 /* contents, or the target of a symlink */
	size_t size;
	struct model_entry *entry; /* of a directory; in no order */
	size_t nr_entry;
	struct model_xattr *xattr;
	size_t nr_xattr;
};

/* A namespace: inode[id], NULL where there is none.  id 0 is never used. */
struct model_tree {
	struct model_inode **inode;
	size_t nr;
};

struct model_snap {
	char name[MODEL_NAME_MAX + 1];
	struct model_tree tree;
	uint32_t scope;
	bool partial;
};

struct model {
	struct model_tree live;
	struct model_snap *snap; /* oldest first */
	size_t nr_snap;
	uint32_t next_id; /* never used before */
};

struct model *model_new(void); /* an empty top directory */
struct model *model_copy(const struct model *m);
void model_free(struct model *m);

static inline struct model_inode *model_inode(const struct model_tree *t, uint32_t id)
{
	return id < t->nr ? t->inode[id] : NULL;
}

/* The oldest snapshot of that name, or NULL. */
struct model_snap *model_find_snap(const struct model *m, const char *name);

int model_create(struct model *m, const char *path, uint32_t mode,
		 const char *target);
int model_write(struct model *m, const char *path, const void *buf, size_t len,
		size_t off);
/* As through a mapping: what lies behind the end is lost. */
int model_store(struct model *m, const char *path, const void *buf, size_t len,
		size_t off);
int model_truncate(struct model *m, const char *path, size_t size);
/* @mode as for fallocate(2): KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE. */
int model_fallocate(struct model *m, const char *path, int mode, size_t off,
		    size_t len);
int model_link(struct model *m, const char *path, const char *to);
int model_unlink(struct model *m, const char *path, bool rmdir);
/* @flags: MSNAP_RENAME_* */
int model_rename(struct model *m, const char *path, const char *to, unsigned flags);
int model_chmod(struct model *m, const char *path, uint32_t mode, uint32_t uid);
int model_xattr_set(struct model *m, const char *path, const char *name,
		    const void *value, size_t len);
int model_xattr_remove(struct model *m, const char *path, const char *name);

/* @snap: NULL for the live tree; paths in a snapshot begin at its scope. */
int model_clone(struct model *m, const char *snap, const char *path, const char *to,
		bool replace);
ssize_t model_copy_range(struct model *m, const char *snap, const char *path,
			 size_t off, const char *to, size_t to_off, size_t len);

/* Of directory @dir; or of the files @file, @file2 in it (NULL: not given). */
int model_snap_create(struct model *m, const char *name, const char *dir,
		      const char *file, const char *file2);
int model_snap_delete(struct model *m, const char *name);
int model_snap_rename(struct model *m, const char *name, const char *to);
/* Directory @dir, or its entry @file. */
int model_rollback(struct model *m, const char *snap, const char *dir,
		   const char *file);

#endif
