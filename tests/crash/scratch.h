/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scratch.h - memory in which one crash image after the other is opened.
 *
 * It is a copy of an image (the source) and knows which blocks may differ from it:
 * the engine reserves, copies into or flushes every block that it stores to.  So
 * going back costs what was changed, not the size of the pool.  That the engine
 * keeps to this rule is checked now and then by comparing everything.
 */
#ifndef CRASH_SCRATCH_H
#define CRASH_SCRATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "cow/persist.h"

#define CRASH_BLOCK 4096u
#define CRASH_MAX_BLOCKS 2048u

struct blockset {
	uint64_t bit[CRASH_MAX_BLOCKS / 64];
	uint32_t blk[CRASH_MAX_BLOCKS];
	unsigned nr;
};

static inline bool blockset_has(const struct blockset *s, uint64_t blk)
{
	return s->bit[blk / 64] >> (blk % 64) & 1;
}

/* Blocks that the bytes touch. */
void blockset_add(struct blockset *s, uint64_t off, uint64_t len);
void blockset_clear(struct blockset *s);

struct scratch {
	struct msnap_mem mem;
	const uint8_t *source;
	struct blockset changed;
};

/* @source is looked at whenever a block goes back; who changes it says so. */
struct scratch *scratch_new(uint64_t size, const uint8_t *source);
void scratch_free(struct scratch *s);
/* Everything is as in the source again. */
void scratch_restore(struct scratch *s);
/* The source has changed there. */
void scratch_source_changed(struct scratch *s, const struct blockset *blocks);
void scratch_source_changed_all(struct scratch *s);
/* Store as a crash image has it. */
void scratch_store(struct scratch *s, uint64_t off, const void *src, uint64_t len);
/* First byte that differs from the source without our knowing; -1: none. */
int64_t scratch_stray(const struct scratch *s);

/* First byte outside of @known where the images differ; -1: none. */
int64_t image_stray(const uint8_t *a, const uint8_t *b, uint64_t size,
		    const struct blockset *known);

#endif
