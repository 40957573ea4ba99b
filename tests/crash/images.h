/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * images.h - what a crash may leave: subsets of what differs between the CPU's image
 * and the media's.
 *
 * Byte-addressable memory: groups are 64-byte lines, units the 8 bytes that are
 * stored at once.  Pages: groups are pages of 4 KiB, units sectors of 512 bytes.  A
 * unit has survived or not; its content is the latest (values in between, of a unit
 * stored twice, are not made).
 */
#ifndef CRASH_IMAGES_H
#define CRASH_IMAGES_H

#include "rng.h"
#include "scratch.h"

struct diff {
	unsigned unit; /* bytes of a unit */
	unsigned group; /* bytes of a group */
	uint32_t *at; /* units that differ: offset / unit, ascending in a block */
	uint32_t *of; /* which group each belongs to, from 0 */
	unsigned nr, cap, nr_group;
};

enum choice_how {
	CHOICE_NONE,
	CHOICE_ALL,
	CHOICE_ALONE, /* group n */
	CHOICE_MISSING, /* all but group n */
	CHOICE_TORN, /* all, but of group n only some units */
	CHOICE_GROUPS, /* each group with probability n/8 */
	CHOICE_UNITS, /* each unit with probability n/8 */
	CHOICE_UNIT_SET, /* unit i when bit i of n is set */
	CHOICE_GROUP_SET, /* group i when bit i of n is set */
};

struct choice {
	enum choice_how how;
	uint32_t n;
	uint64_t seed; /* of what is random */
};

void diff_build(struct diff *d, enum msnap_sim_kind kind, const uint8_t *cpu,
		const uint8_t *media, const struct blockset *blocks);
void diff_free(struct diff *d);

#define CHOICE_MAX 2048
#define CHOICE_FEW 10 /* units or groups of which all subsets are made */

/* Which images to look at, at most @cap (of CHOICE_MAX): all subsets where the choices
 * are few, else a selection.  Returns how many. */
unsigned choices_make(const struct diff *d, struct rng *rng, unsigned cap,
		      struct choice *out);
/* Store the units that survived. */
void choice_apply(const struct diff *d, const struct choice *c, const uint8_t *cpu,
		  struct scratch *s);
void choice_print(const struct diff *d, const struct choice *c, char *buf,
		  size_t size);

#endif
