/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rig.h - a pool on simulated memory, the model beside it, and crashes at chosen
 * points of what is done to both.
 *
 * At a point the run stands still while images of what a crash there may leave are
 * made and judged, one after the other, in memory of their own.  Points are: every
 * drain; the return of every operation that promises durability; some of the engine's
 * stores, flushes and allocations between drains; some returns of other operations.
 *
 * Invariant: the media show rig->durable, or rig->writing once its root record may
 * have reached them.
 */
#ifndef CRASH_RIG_H
#define CRASH_RIG_H

#include "images.h"
#include "judge.h"

struct rig_plan {
	unsigned at_drain; /* images at a drain, at most */
	unsigned between; /* at other points */
	unsigned one_store_in; /* of so many, one is a point; 0: none */
	unsigned one_op_in; /* the same for ends of operations */
	unsigned few; /* where no more units than this differ, all subsets; */
	unsigned one_all_in; /* elsewhere, of so many such points of 10 units */
	unsigned one_nested_in; /* images whose recovery is crashed in turn, */
	unsigned one_torn_in; /* and points where a record of a few units is torn */
};

struct rig_count {
	uint64_t images, nested, points, states, full, ops, no_space;
};

struct rig {
	struct msnap_mem *mem; /* simulated */
	const struct msnap_mem_ops *inner; /* its own operations */
	struct msnap_mem_ops ops; /* ours around them */
	enum msnap_sim_kind kind;
	uint8_t *origin; /* the image that the run began with */
	struct blockset touched; /* blocks that may differ from origin */
	struct scratch *scratch;
	struct diff diff;
	struct judge judge;
	struct dump dump;

	struct msnap_pool *pool;
	struct model *model;
	struct state *before, *after; /* the operation that is running */
	struct state *previous, *durable, *writing; /* as in struct verdict */
	uint64_t durable_gen;

	struct rig_plan plan;
	struct rng rng;
	struct rig *nested; /* for crashes in recoveries; NULL: this is it */
	struct rig_count count;
	unsigned point; /* of this run */
	enum { NOT_FORMATTING, MAKING, MADE } formatting; /* mkfs runs */
	bool busy;  /* at a point: nothing in it is one */
	bool failed;
	bool trace; /* print the operations */
	const struct op *op;
	char context[600]; /* which run this is, for the report */
};

struct rig *rig_new(uint64_t size, enum msnap_sim_kind kind, bool nested);
void rig_free(struct rig *rig);

/* What a run begins with: an image and the state that it shows. */
struct rig_base {
	uint8_t *image;
	struct state *state;
};

/* Open the pool in @base's image (the rig has it already, when it is the same as last
 * time).  -1: rig->failed. */
int rig_begin(struct rig *rig, const struct rig_base *base, bool same);
/* One operation on both; compares what they return and what they show then. */
int rig_op(struct rig *rig, const struct op *op);
/* Instead of operations: leave the pool as it is on the media, and make a new one in
 * its place. */
int rig_format(struct rig *rig);
/* Commit, check and leave it; @close: by a clean end, with its crashes. */
int rig_end(struct rig *rig, bool close);

/* Make the pool of @base: format, run the operations, end cleanly or not. */
int rig_make_base(struct rig *rig, const struct op *op, unsigned nr, bool clean,
		  struct rig_base *base);
void rig_free_base(struct rig_base *base, uint64_t size);

#endif
