/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * csum.h - the checksums of everything on media: XXH3-64 (Yann Collet, xxHash).
 *
 * The seed of a block's checksum is its block number, so that a good block in the
 * wrong place is a bad block.  The superblock and the root records have seed 0.
 */
#ifndef MSNAP_COW_CSUM_H
#define MSNAP_COW_CSUM_H

#include <xxhash.h>

#include "format.h"

/* Of one block of file data. */
static inline uint64_t msnap_csum_data(const void *data, uint64_t blk)
{
	return XXH3_64bits_withSeed(data, MSNAP_BLOCK_SIZE, blk);
}

/* Of a block whose first 8 bytes are the checksum itself. */
static inline uint64_t msnap_csum_meta(const void *block, uint64_t seed)
{
	return XXH3_64bits_withSeed((const uint8_t *)block + 8,
				    MSNAP_BLOCK_SIZE - 8, seed);
}

/* Of a name, for the keys of directories and extended attributes. */
static inline uint64_t msnap_hash_name(const char *name, size_t len,
				       uint64_t seed)
{
	return XXH3_64bits_withSeed(name, len, seed);
}

#endif
