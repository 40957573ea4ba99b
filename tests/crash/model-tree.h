/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * model-tree.h - the model's inodes and namespaces as data: no rules of a filesystem
 * here, these are in model.c.
 */
#ifndef CRASH_MODEL_TREE_H
#define CRASH_MODEL_TREE_H

#include "model.h"

/* realloc() that ends the program when there is no memory. */
void *model_alloc(void *old, size_t size);

/* A new inode, all zero, in place @id. */
struct model_inode *tree_add(struct model_tree *t, uint32_t id);
/* A deep copy of @from in place @id, in the place of what was there. */
struct model_inode *tree_put(struct model_tree *t, uint32_t id,
			     const struct model_inode *from);
void tree_remove(struct model_tree *t, uint32_t id);
void tree_copy(struct model_tree *to, const struct model_tree *from);
void tree_free(struct model_tree *t);

/* The inode that the entry names; 0: none, also when @dir is no directory. */
uint32_t tree_lookup(const struct model_tree *t, uint32_t dir, const char *name);
/* Add and remove an entry.  A directory's parent and the parent's link count follow. */
void tree_enter(struct model_tree *t, uint32_t dir, const char *name, uint32_t id);
void tree_leave(struct model_tree *t, uint32_t dir, const char *name);

void inode_resize(struct model_inode *in, size_t size);
void inode_write(struct model_inode *in, size_t off, const void *buf, size_t len);
void inode_set_xattr(struct model_inode *in, const char *name, const void *value,
		     size_t len);
int inode_remove_xattr(struct model_inode *in, const char *name);
void inode_clear_xattrs(struct model_inode *in);

#endif
