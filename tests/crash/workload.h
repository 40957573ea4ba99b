/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * workload.h - what is done before and between the crashes.
 *
 * Singles: every operation on every kind of argument that the base filesystem offers
 * (a file, a hard link of it, one in another directory, a directory above or below,
 * what exists and what does not, what a snapshot holds).  Pairs: each of them after
 * each, so that the second meets every relation to the first.  Random: sequences.
 */
#ifndef CRASH_WORKLOAD_H
#define CRASH_WORKLOAD_H

#include "op.h"
#include "rng.h"

extern const struct op workload_base[];
extern const unsigned workload_base_nr;

extern const struct op workload_single[];
extern const unsigned workload_single_nr;

/* One operation of a random sequence; the model tells how full it is. */
struct op workload_random(struct rng *rng, const struct model *m);

#endif
