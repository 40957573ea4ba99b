/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * runs.h - a growing list of runs of blocks.  No locking: its owner's.
 *
 * A caller that must not fail later calls msnap_runs_reserve() first; add then
 * finds room.
 */
#ifndef MSNAP_COW_RUNS_H
#define MSNAP_COW_RUNS_H

#include <stddef.h>
#include <stdint.h>

struct msnap_run {
	uint64_t blk;
	uint64_t nr;
};

struct msnap_runs {
	struct msnap_run *run;
	size_t nr;
	size_t cap;
};

/* Room for @more runs beyond those there are.  -ENOMEM. */
int msnap_runs_reserve(struct msnap_runs *runs, size_t more);
/* Merges with the last run where it continues it.  -ENOMEM. */
int msnap_runs_add(struct msnap_runs *runs, uint64_t blk, uint64_t nr);
/* Append all of @from and empty it; room must have been reserved. */
void msnap_runs_move(struct msnap_runs *to, struct msnap_runs *from);
void msnap_runs_free(struct msnap_runs *runs);

#endif
