/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * diff.h - what differs between two trees of one type, in time proportional to the
 * difference: subtrees that both share are skipped.  Lock held.
 */
#ifndef MSNAP_COW_DIFF_H
#define MSNAP_COW_DIFF_H

#include "tree.h"

/*
 * Call @cb for every key whose record is not the same in both: @a or @b is NULL
 * where the tree has none.  Neither tree may change meanwhile.  Stops at the first
 * nonzero result and returns it.
 */
int msnap_tree_diff(struct msnap_pool *pool, const struct msnap_tree *a,
		    const struct msnap_tree *b,
		    int (*cb)(void *arg, struct msnap_key key, const void *a,
			      unsigned a_len, const void *b, unsigned b_len),
		    void *arg);

#endif
