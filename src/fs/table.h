/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * table.h - what one ioctl leaves for a later one: references and groups.
 *
 * What it is: references (a token stands for an open directory) and groups (the
 * directories and files of a restore point that is taken with several calls).
 * Both are forgotten after 60 seconds; when there are too many, the oldest go.
 *
 * Locking: its own; callable from any thread.
 */
#ifndef MSNAP_FS_TABLE_H
#define MSNAP_FS_TABLE_H

#include "control.h"
#include "fs.h"

#define MSNAP_FS_GROUP_MAX 4096

int msnap_fs_table_new(struct msnap_fs_table **table); /* -ENOMEM */
void msnap_fs_table_free(struct msnap_fs_table *table); /* NULL is fine */

/* A new token that stands for @node.  What getrandom() gave. */
int msnap_fs_ref_make(struct msnap_fs_table *table, uint64_t node,
		      struct msnap_ioc_ref *ref);
/* -ESTALE: none such, or too old. */
int msnap_fs_ref_find(struct msnap_fs_table *table,
		      const struct msnap_ioc_ref *ref, uint64_t *node);

struct msnap_fs_item {
	uint64_t dir;
	char name[256]; /* empty: the directory */
};

/*
 * Add an item to the group *@group of process @pid; 0 makes a new one and stores
 * its number.  -ESTALE: none such of that process, or too old; -E2BIG: full.
 */
int msnap_fs_group_add(struct msnap_fs_table *table, pid_t pid,
		       const struct msnap_fs_item *item, uint64_t *group);
/* Take the group out of the table: the caller frees *@item.  -ESTALE as above. */
int msnap_fs_group_take(struct msnap_fs_table *table, pid_t pid, uint64_t group,
			struct msnap_fs_item **item, unsigned *nr);

#endif
