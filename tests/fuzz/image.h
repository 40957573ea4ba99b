/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image.h - small pools for the fuzzer, and what an input does to them.
 *
 * What it is: a few base images of 4 MiB, made once by the engine itself, with
 * something of everything in them; a memory that shows a private copy of one of
 * them; and mutations that know the format: they pick a node, a record, a field,
 * and set, flip, copy or move it.  Checksums are right again afterwards, unless
 * the input wants one wrong, so that the fuzzer gets past them.
 *
 * Places are named by their order in a walk of the trees, not by block numbers, so
 * that a kept input means much the same when the allocator changes its mind.
 *
 * Locking: none; one image at a time.
 */
#ifndef TESTS_FUZZ_IMAGE_H
#define TESTS_FUZZ_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cow/persist.h"

/* What is left of the input; zeros behind its end. */
struct fuzz_input {
	const uint8_t *p;
	size_t left;
};

uint8_t fuzz_u8(struct fuzz_input *in);
uint16_t fuzz_u16(struct fuzz_input *in);
uint64_t fuzz_u64(struct fuzz_input *in);

#define FUZZ_BLOCKS 1024u

enum fuzz_base {
	FUZZ_CRASHED, /* everything in it, no clean end: drops and orphans wait */
	FUZZ_CLEAN,   /* the same after a clean end: with a saved space map */
	FUZZ_EMPTY,   /* as mkfs leaves it at first */
	/* As the first two, with less of each; inputs for these are over sooner. */
	FUZZ_LEAN_CRASHED,
	FUZZ_LEAN_CLEAN,
	FUZZ_NR_BASES,
};

/* Make the base images.  Ends the program when it cannot. */
void fuzz_image_init(void);

/*
 * The memory, with a pristine copy of @base in it.  It stays the fuzzer's: closing
 * it does nothing, and the next call starts anew.
 */
struct msnap_mem *fuzz_image_get(enum fuzz_base base);

/* Take one mutation from the input and apply it. */
void fuzz_image_mutate(struct fuzz_input *in);

/* Make the checksums of all blocks that were mutated right. */
void fuzz_image_seal(void);

#endif
