/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node.h - what the kernel holds: references and opens of every inode it knows.
 *
 * What it is: a table from node id to counts.  It tells when an inode without a
 * name has lost its last user, and which files are open for writing (only those
 * can have pages that the kernel has not written back).
 *
 * What it does not do: it never calls the engine; those who are told "evict"
 * do.  It holds no file descriptor and no attribute.
 *
 * Locking: its own; callable from any thread.
 */
#ifndef MSNAP_FS_NODE_H
#define MSNAP_FS_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct msnap_fs_nodes;

/* -ENOMEM. */
int msnap_fs_nodes_new(struct msnap_fs_nodes **nodes);
void msnap_fs_nodes_free(struct msnap_fs_nodes *nodes); /* NULL is fine */

/* The kernel is about to be told of @id: one reference more.  -ENOMEM. */
int msnap_fs_node_ref(struct msnap_fs_nodes *nodes, uint64_t id);

/* @nr references less.  True: the caller must evict the inode. */
bool msnap_fs_node_unref(struct msnap_fs_nodes *nodes, uint64_t id, uint64_t nr);

/* One open more or less.  -ENOMEM; true: as for unref. */
int msnap_fs_node_open(struct msnap_fs_nodes *nodes, uint64_t id, bool write);
bool msnap_fs_node_close(struct msnap_fs_nodes *nodes, uint64_t id, bool write);

/* The inode has no name any more.  True: nobody uses it, evict it now. */
bool msnap_fs_node_orphan(struct msnap_fs_nodes *nodes, uint64_t id);

/*
 * The generation to tell the kernel with a directory that has a name.  The kernel takes
 * one that was removed for dead as long as anything below it is in use; when a rollback
 * brings it back, another generation makes the kernel begin anew (fuse_stale_inode() in
 * its fs/fuse/inode.c).
 */
uint64_t msnap_fs_node_dir_generation(struct msnap_fs_nodes *nodes, uint64_t id);

/* Opens of one inode, and of all files. */
uint64_t msnap_fs_node_nr_open(struct msnap_fs_nodes *nodes, uint64_t id);
uint64_t msnap_fs_nodes_nr_open(struct msnap_fs_nodes *nodes);

/* Does the kernel know it at all?  What it does not know it cannot have cached. */
bool msnap_fs_node_is_known(struct msnap_fs_nodes *nodes, uint64_t id);

bool msnap_fs_node_is_written(struct msnap_fs_nodes *nodes, uint64_t id);

/*
 * The files open for writing, in an array that the caller frees (NULL when there
 * are none).  Constant time then.  -ENOMEM.
 */
int msnap_fs_nodes_written(struct msnap_fs_nodes *nodes, uint64_t **ids,
			   size_t *nr);

/* Call @cb for every orphan still in the table: at the end. */
void msnap_fs_nodes_each_orphan(struct msnap_fs_nodes *nodes,
				void (*cb)(void *arg, uint64_t id), void *arg);

#endif
