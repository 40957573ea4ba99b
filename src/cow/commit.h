/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * commit.h - how the running generation becomes durable.
 *
 * A commit seals the generation (a swap of lists under the lock), then, without
 * the lock, checksums its nodes, flushes nodes and data, waits for the media,
 * writes the root record into the next slot of the ring and waits again.
 *
 * What a crash leaves: before the first wait has ended, parts of blocks that no
 * root reaches; before the second, those and perhaps a torn root record, which is
 * none; after it, the new state.  Blocks that generation G freed can be reached
 * from root G-1; they are written again only after root G+1 is durable, so that the
 * newest root and the one before it are whole at any instant.  (After an open, the one
 * before it is the next commit's: what only older roots reach is free then.)
 */
#ifndef MSNAP_COW_COMMIT_H
#define MSNAP_COW_COMMIT_H

#include "pool.h"

/* msnap_commit() is in cow.h. */

/* Commit even when nothing changed. */
int msnap_commit_now(struct msnap_pool *pool);
/* Commit when blocks that the last commit freed would become free; failures are in the
 * log. */
void msnap_commit_idle(struct msnap_pool *pool);
/* Commit until no block is pending, for want of space.  No lock may be held. */
int msnap_commit_reclaim(struct msnap_pool *pool);
/* The commits that a clean end takes: nothing pending, map saved, root CLEAN. */
int msnap_commit_clean(struct msnap_pool *pool);

/* ---- super.c: superblock and root ring ----------------------------------- */

/* Write superblock, backup and an empty first root.  Overwrites what is there. */
int msnap_super_format(struct msnap_mem *mem, const char *name, const char *label,
		       struct msnap_why *why);
/* Find a valid superblock for this memory, the backup when the first is bad. */
int msnap_super_read(struct msnap_mem *mem, const char *name,
		     struct msnap_super *super, struct msnap_why *why);
/* The valid root record with the @nth highest generation (0: newest). */
int msnap_root_read(struct msnap_mem *mem, const uint8_t uuid[16], unsigned nth,
		    struct msnap_root *root);
/* Store @root in its slot and make it durable.  Everything it names must be. */
int msnap_root_write(struct msnap_mem *mem, struct msnap_root *root);
/* Is a block that was read a superblock, or the record of ring slot @slot? */
bool msnap_super_valid(const struct msnap_super *s);
bool msnap_root_valid(const struct msnap_root *r, const uint8_t uuid[16],
		      unsigned slot);
/*
 * Clear slots that hold part of a record.  Before anything else is stored: the next
 * commit writes the same slot, and a crash then could leave just the parts that the
 * torn record lacks - a record of blocks that meanwhile are something else.
 */
int msnap_root_clear_torn(struct msnap_mem *mem, const uint8_t uuid[16]);
/* Is there a memsnapfs superblock magic at all? */
bool msnap_super_present(const uint8_t *block);

/* ---- spacemap.c: the space map on media ----------------------------------- */

/* Save the map as a chain of blocks, durably; fills in root->space_*. */
int msnap_spacemap_save(struct msnap_pool *pool, struct msnap_root *root);
/* Fill the empty map from the saved chain.  -EUCLEAN: not usable; map undefined. */
int msnap_spacemap_load(struct msnap_pool *pool, const struct msnap_root *root);
/* Count all references by walking every tree.  Damaged trees turn the pool
 * read-only and are skipped. */
int msnap_spacemap_rebuild(struct msnap_pool *pool);

#endif
