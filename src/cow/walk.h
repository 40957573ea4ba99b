/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * walk.h - everything below a directory, for whole-directory snapshots, clones and
 * rollbacks.  Lock held.  The memory a walk takes grows with the directories that
 * are waiting, not with the files.
 */
#ifndef MSNAP_COW_WALK_H
#define MSNAP_COW_WALK_H

#include "inode.h"

struct msnap_walk_entry {
	uint64_t dir;
	uint64_t ino;
	uint8_t type; /* DT_* */
	const struct msnap_dirent *de;
	struct msnap_key key;
};

/*
 * Call @cb for every entry below directory @top of @ns, a directory's entries
 * together, each directory before what is in it.  @cb may change other trees than
 * @ns.  Stops at the first nonzero result and returns it.
 */
int msnap_walk(struct msnap_pool *pool, const struct msnap_tree *ns, uint64_t top,
	       int (*cb)(void *arg, const struct msnap_walk_entry *entry),
	       void *arg);

/* Call @cb for every record of one inode, from the first of @kind on. */
int msnap_inode_records(struct msnap_pool *pool, const struct msnap_tree *ns,
			uint64_t ino, unsigned kind,
			int (*cb)(void *arg, struct msnap_key key,
				  const void *val, unsigned len),
			void *arg);

#endif
