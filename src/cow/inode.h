/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inode.h - inode records, and what inode.c, dir.c, xattr.c, file.c, clone.c and
 * rollback.c share about them.
 *
 * Everything here is used with the pool's lock held; functions that take a tree
 * to change, inside an operation.
 */
#ifndef MSNAP_COW_INODE_H
#define MSNAP_COW_INODE_H

#include "tree.h"

static inline struct msnap_key msnap_ns_key(uint64_t ino, unsigned kind,
					    uint64_t rest)
{
	return (struct msnap_key){ ino, (uint64_t)kind << 56 | rest };
}

/* A copy of the record.  -ENOENT. */
int msnap_inode_get(struct msnap_pool *pool, const struct msnap_tree *ns,
		    uint64_t ino, struct msnap_inode *in);
/*
 * The same in the live namespace, before the inode's extents change: every node on the
 * way becomes ours alone, so that the count of the extent root tells who else has it.
 * (Counts are lazy: as long as a snapshot shares the leaf, it is 1 for both.)
 */
int msnap_inode_own(struct msnap_pool *pool, uint64_t ino, struct msnap_inode *in);
int msnap_inode_put(struct msnap_pool *pool, struct msnap_tree *ns, uint64_t ino,
		    const struct msnap_inode *in, enum msnap_put_how how);
/* The record of @id, live or in a snapshot. */
int msnap_inode_find(struct msnap_pool *pool, struct msnap_id id,
		     struct msnap_inode *in);
void msnap_inode_attr(uint64_t ino, const struct msnap_inode *in,
		      struct msnap_attr *attr);

struct msnap_time msnap_time_now(void);

/* One change more: version, and ctime now. */
void msnap_inode_changed(struct msnap_inode *in);

static inline struct msnap_tree msnap_ext_tree(uint64_t ino,
					       const struct msnap_inode *in)
{
	return (struct msnap_tree){ MSNAP_TREE_EXTENT, ino,
				    msnap_ptr_load(in->ext) };
}

/* Remove every record of the inode from the tree, and what only it had. */
int msnap_inode_erase(struct msnap_pool *pool, struct msnap_tree *ns,
		      uint64_t ino);

/* Copy xattrs and symlink target (not the inode record, not entries). */
int msnap_inode_copy_parts(struct msnap_pool *pool, const struct msnap_tree *from,
			   uint64_t ino, struct msnap_tree *to, uint64_t new_ino);

/* Orphans: inodes without a name that may still be open. */
int msnap_orphan_add(struct msnap_pool *pool, uint64_t ino);
int msnap_orphan_remove(struct msnap_pool *pool, uint64_t ino);

int msnap_evict_all(struct msnap_pool *pool);
int msnap_make_root_dir(struct msnap_pool *pool);

/* ---- dir.c ------------------------------------------------------------------ */

int msnap_name_check(const char *name, size_t len);
/* Find an entry: its key and inode.  -ENOENT. */
int msnap_dirent_find(struct msnap_pool *pool, const struct msnap_tree *ns,
		      uint64_t dir, const char *name, size_t len,
		      struct msnap_key *key, uint64_t *ino, uint8_t *type);
/* -EEXIST.  Does not touch the directory's inode. */
int msnap_dirent_add(struct msnap_pool *pool, struct msnap_tree *ns, uint64_t dir,
		     const char *name, size_t len, uint64_t ino, uint8_t type);
/* Name a new inode of type @mode in the live directory @dir, and count it there. */
int msnap_dirent_new(struct msnap_pool *pool, uint64_t dir, const char *name,
		     size_t len, uint64_t ino, uint32_t mode);
/* Remove the entry @key of the live directory @dir, which names @ino, and count that
 * in both; @in and @gone: the inode afterwards, an orphan without other links. */
int msnap_dirent_drop(struct msnap_pool *pool, uint64_t dir, struct msnap_key key,
		      uint64_t ino, struct msnap_inode *in,
		      struct msnap_attr *gone);

/* Is there any entry? 1, 0, or an error. */
int msnap_dir_used(struct msnap_pool *pool, const struct msnap_tree *ns,
		   uint64_t dir);

#endif
