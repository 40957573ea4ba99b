/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * super.c - superblock and root ring: the fixed places of a pool.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uuid/uuid.h>

#include "commit.h"
#include "csum.h"
#include "fault.h"

static void store_block(struct msnap_mem *mem, uint64_t blk, const void *block)
{
	memcpy(mem->base + (blk << MSNAP_BLOCK_SHIFT), block, MSNAP_BLOCK_SIZE);
	msnap_mem_flush(mem, blk << MSNAP_BLOCK_SHIFT, MSNAP_BLOCK_SIZE);
}

bool msnap_super_present(const uint8_t *block)
{
	return get64(((const struct msnap_super *)block)->magic) ==
	       MSNAP_SUPER_MAGIC;
}

static void fill_super(struct msnap_super *s, uint64_t nr_blocks,
		       const char *label)
{
	memset(s, 0, sizeof(*s));
	s->magic = put64(MSNAP_SUPER_MAGIC);
	s->version = put32(MSNAP_FORMAT_VERSION);
	s->block_size = put32(MSNAP_BLOCK_SIZE);
	s->nr_blocks = put64(nr_blocks);
	uuid_generate(s->uuid);
	if (label)
		strncpy(s->label, label, sizeof(s->label) - 1);
	s->ctime = put64(time(NULL));
	s->hash_seed = put64(XXH3_64bits(s->uuid, sizeof(s->uuid)));
	s->csum = put64(msnap_csum_meta(s, 0));
}

static int format(struct msnap_mem *mem, const char *label)
{
	uint64_t nr = mem->size >> MSNAP_BLOCK_SHIFT, i;
	static const uint8_t zero[MSNAP_BLOCK_SIZE];
	struct msnap_super super;
	struct msnap_root root = { 0 };
	int err;

	err = msnap_mem_reserve(mem, 0, (uint64_t)MSNAP_FIRST_BLK
						<< MSNAP_BLOCK_SHIFT);
	if (!err)
		err = msnap_mem_reserve(mem, (nr - 1) << MSNAP_BLOCK_SHIFT,
					MSNAP_BLOCK_SIZE);
	if (err)
		return err;
	/* A crash in here leaves no superblock, or the old one, or the new one
	 * without a root: none of these opens as a pool with something in it. */
	store_block(mem, MSNAP_SUPER_BLK, zero);
	store_block(mem, nr - 1, zero);
	err = msnap_mem_drain(mem);
	if (err)
		return err;
	for (i = MSNAP_RING_BLK; i < MSNAP_FIRST_BLK; i++)
		store_block(mem, i, zero);
	err = msnap_mem_drain(mem);
	if (err)
		return err;
	fill_super(&super, nr, label);
	root.magic = put64(MSNAP_ROOT_MAGIC);
	root.gen = put64(1);
	memcpy(root.uuid, super.uuid, sizeof(root.uuid));
	root.next_ino = put64(MSNAP_FIRST_INO);
	root.next_snap = put64(1);
	err = msnap_root_write(mem, &root);
	if (err)
		return err;
	store_block(mem, nr - 1, &super);
	store_block(mem, MSNAP_SUPER_BLK, &super);
	return msnap_mem_drain(mem);
}

int msnap_super_format(struct msnap_mem *mem, const char *name, const char *label,
		       struct msnap_why *why)
{
	int err = MSNAP_GUARD(format(mem, label));

	if (err)
		snprintf(why->text, sizeof(why->text), "%s: cannot be written: %s",
			 name, strerror(-err));
	return err;
}

bool msnap_super_valid(const struct msnap_super *s)
{
	return get64(s->magic) == MSNAP_SUPER_MAGIC &&
	       get64(s->csum) == msnap_csum_meta(s, 0) &&
	       memchr(s->label, 0, sizeof(s->label));
}

static int copy_block(const struct msnap_mem *mem, uint64_t blk, void *out)
{
	memcpy(out, mem->base + (blk << MSNAP_BLOCK_SHIFT), MSNAP_BLOCK_SIZE);
	return 0;
}

static int check_features(const struct msnap_super *s, const char *name,
			  bool read_only, struct msnap_why *why)
{
	if (get32(s->version) > MSNAP_FORMAT_VERSION ||
	    get64(s->incompat) & ~MSNAP_INCOMPAT_KNOWN) {
		snprintf(why->text, sizeof(why->text),
			 "%s: the pool was made by a newer version of memsnapfs "
			 "(format %u, features %#llx); upgrade memsnapfs to open it",
			 name, get32(s->version),
			 (unsigned long long)get64(s->incompat));
		return -ENOTSUP;
	}
	if (get64(s->ro_compat) & ~MSNAP_RO_COMPAT_KNOWN && !read_only) {
		snprintf(why->text, sizeof(why->text),
			 "%s: the pool has features of a newer version of memsnapfs "
			 "that allow reading only; mount it with -o ro",
			 name);
		return -ENOTSUP;
	}
	return 0;
}

static int check_geometry(const struct msnap_super *s,
			  const struct msnap_mem *mem, const char *name,
			  struct msnap_why *why)
{
	uint64_t have = mem->size >> MSNAP_BLOCK_SHIFT;

	if (get32(s->block_size) != MSNAP_BLOCK_SIZE ||
	    get64(s->nr_blocks) < MSNAP_MIN_BLOCKS ||
	    get64(s->nr_blocks) > MSNAP_MAX_BLOCKS) {
		snprintf(why->text, sizeof(why->text),
			 "%s: the superblock makes no sense; the pool is damaged",
			 name);
		return -EUCLEAN;
	}
	if (get64(s->nr_blocks) <= have)
		return 0;
	snprintf(why->text, sizeof(why->text),
		 "%s: the pool is truncated: %llu of its %llu bytes are there; "
		 "bring the whole file back",
		 name, (unsigned long long)mem->size,
		 (unsigned long long)get64(s->nr_blocks) << MSNAP_BLOCK_SHIFT);
	return -EUCLEAN;
}

int msnap_super_read(struct msnap_mem *mem, const char *name,
		     struct msnap_super *super, struct msnap_why *why)
{
	uint64_t last = (mem->size >> MSNAP_BLOCK_SHIFT) - 1;
	bool magic;
	int err;

	err = MSNAP_GUARD(copy_block(mem, MSNAP_SUPER_BLK, super));
	magic = !err && get64(super->magic) == MSNAP_SUPER_MAGIC;
	if (err || !msnap_super_valid(super)) {
		err = MSNAP_GUARD(copy_block(mem, last, super));
		if (err || !msnap_super_valid(super)) {
			snprintf(why->text, sizeof(why->text),
				 magic ? "%s: the superblock and its backup are "
					 "damaged" :
					 "%s: not a memsnapfs pool (mkfs.memsnapfs "
					 "makes one)",
				 name);
			return magic ? -EUCLEAN : -EMEDIUMTYPE;
		}
	}
	err = check_features(super, name, mem->read_only, why);
	return err ? err : check_geometry(super, mem, name, why);
}

/* ---- root ring ----------------------------------------------------------- */

bool msnap_root_valid(const struct msnap_root *r, const uint8_t uuid[16],
		      unsigned slot)
{
	return get64(r->magic) == MSNAP_ROOT_MAGIC && get64(r->gen) > 0 &&
	       get64(r->gen) < MSNAP_MAX_GEN &&
	       get64(r->gen) % MSNAP_RING_SLOTS == slot &&
	       memcmp(r->uuid, uuid, 16) == 0 &&
	       get64(r->csum) == msnap_csum_meta(r, 0);
}

static int root_scan(struct msnap_mem *mem, const uint8_t uuid[16],
		     uint64_t below, struct msnap_root *best)
{
	uint64_t best_gen = 0;
	unsigned i;

	for (i = 0; i < MSNAP_RING_SLOTS; i++) {
		struct msnap_root r;
		int err = MSNAP_GUARD(copy_block(mem, MSNAP_RING_BLK + i, &r));

		if (err || !msnap_root_valid(&r, uuid, i))
			continue;
		if (get64(r.gen) > best_gen && get64(r.gen) < below) {
			best_gen = get64(r.gen);
			*best = r;
		}
	}
	return best_gen ? 0 : -EUCLEAN;
}

int msnap_root_read(struct msnap_mem *mem, const uint8_t uuid[16], unsigned nth,
		    struct msnap_root *root)
{
	uint64_t below = UINT64_MAX;
	int err;

	for (;;) {
		err = root_scan(mem, uuid, below, root);
		if (err || nth-- == 0)
			return err;
		below = get64(root->gen);
	}
}

int msnap_root_write(struct msnap_mem *mem, struct msnap_root *root)
{
	uint64_t blk = MSNAP_RING_BLK + get64(root->gen) % MSNAP_RING_SLOTS;

	root->csum = put64(msnap_csum_meta(root, 0));
	/* A crash in here leaves the slot old, new or torn.  Old and torn: the root
	 * before is the newest.  New: everything it names was durable before. */
	store_block(mem, blk, root);
	return msnap_mem_drain(mem);
}

static int clear_torn(struct msnap_mem *mem, const uint8_t uuid[16])
{
	static const uint8_t zero[MSNAP_BLOCK_SIZE];
	bool any = false;
	unsigned i;

	for (i = 0; i < MSNAP_RING_SLOTS; i++) {
		struct msnap_root r;

		copy_block(mem, MSNAP_RING_BLK + i, &r);
		if (msnap_root_valid(&r, uuid, i) || !memcmp(&r, zero, sizeof(r)))
			continue;
		store_block(mem, MSNAP_RING_BLK + i, zero);
		any = true;
	}
	/* A crash in here can only complete the torn record, and everything that it
	 * names is still as it was. */
	return any ? msnap_mem_drain(mem) : 0;
}

int msnap_root_clear_torn(struct msnap_mem *mem, const uint8_t uuid[16])
{
	return MSNAP_GUARD(clear_torn(mem, uuid));
}
