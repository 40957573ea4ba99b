/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * idmap.h - a hash map from inode numbers (never 0) to numbers, for walks over
 * directories.  No locking: its owner's.
 */
#ifndef MSNAP_COW_IDMAP_H
#define MSNAP_COW_IDMAP_H

#include <stddef.h>
#include <stdint.h>

struct msnap_idmap {
	struct msnap_idmap_entry {
		uint64_t id; /* 0: unused */
		uint64_t val;
	} *entry;
	size_t nr, cap;
};

/* The value's place, made (with value 0) when there is none.  NULL: no memory.
 * Good until the next call. */
uint64_t *msnap_idmap_at(struct msnap_idmap *map, uint64_t id);
/* The value's place, or NULL. */
uint64_t *msnap_idmap_find(const struct msnap_idmap *map, uint64_t id);
void msnap_idmap_free(struct msnap_idmap *map);

#endif
