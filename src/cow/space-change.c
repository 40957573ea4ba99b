/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * space-change.c - changing the counts of a range of blocks, and undoing that.
 *
 * Why undo cannot fail.  Call a place where the count changes an edge.  Every
 * change of [s,e) maps different counts to different counts, or merges, so it
 * makes new edges at s and e only; and at each of these there is an edge before
 * the change or after it.  So an undo needs room only for edges that existed at
 * some time since the change it reverts and went away later, whoever removed
 * them.  Each region counts the edges that went away (its debt) and keeps
 *
 *	nr_runs + debt <= cap
 *
 * A change takes new room for its two edges before it alters anything, and goes
 * flat or fails with -ENOMEM then; an undo takes its room out of the debt.  Debt
 * is forgotten after one to two epochs of SPACE_EPOCH changes to the map, and
 * memory shrinks to what runs and debt need (sweep(), or settle, which forgets
 * all debt).  An undo that reaches further back than an epoch may have to ask
 * for memory.  When there is none, blocks stay counted once too often and are
 * lost until the pool is next opened; never once too few.
 */
#include "space-map.h"

#include <string.h>

/* ---- debt ------------------------------------------------------------- */

/* Flat regions collect debt for the day they are packed: let it saturate. */
static void add_debt(struct region *reg, unsigned nr)
{
	unsigned sum = reg->debt[0] + nr;

	reg->debt[0] = sum > UINT16_MAX ? UINT16_MAX : (uint16_t)sum;
}

/* The older first: what is left is then remembered longer than need be. */
static void pay_debt(struct region *reg)
{
	if (reg->debt[1])
		reg->debt[1]--;
	else if (reg->debt[0])
		reg->debt[0]--;
}

/* ---- changing counts -------------------------------------------------- */

static void touch(struct msnap_space *space, const struct part *part)
{
	struct region *reg = part->reg;

	if (!reg->nr_runs) {
		reg->nr_runs = 1;
		reg->cap = RUNS_INLINE;
		msnap_region_note_all_free(reg, part->size);
	}
	msnap_region_age(space, reg);
}

/* Take the room that a change of the part needs, without changing counts. */
int msnap_space_reserve_part(struct msnap_space *space, const struct part *part,
			     unsigned limit)
{
	struct region *reg = part->reg;
	unsigned need, cap;

	touch(space, part);
	if (is_flat(reg))
		return 0;
	need = reg->nr_runs + debt_of(reg) + (part->from > 0) +
	       (part->to < part->size);
	if (need <= reg->cap)
		return 0;
	if (need > limit)
		return msnap_region_to_flat(space, reg);
	cap = need + need / 2 + 2;
	return msnap_region_to_runs(space, reg, cap < RUNS_MAX ? cap : RUNS_MAX,
				    part->size);
}

int msnap_space_reserve(struct msnap_space *space, uint64_t blk, uint64_t nr,
			unsigned limit)
{
	struct part part;
	uint64_t at;
	int err;

	for_each_part(space, &part, at, blk, blk + nr) {
		err = msnap_space_reserve_part(space, &part, limit);
		if (err)
			return err;
	}
	return 0;
}

static uint32_t changed(const struct how *how, uint32_t count)
{
	switch (how->change) {
	case CHANGE_INC:
		if (count == MSNAP_COUNT_PENDING)
			return 1;
		return count < MSNAP_COUNT_MAX ? count + 1 : count;
	case CHANGE_DEC:
		return count == 1 ? MSNAP_COUNT_PENDING : count - 1;
	case CHANGE_UNALLOC:
		return count == 1 ? 0 : count;
	case CHANGE_RELEASE:
		return count == MSNAP_COUNT_PENDING ? 0 : count;
	case CHANGE_SET:
		break;
	}
	return how->value;
}

static void account(struct msnap_space *space, uint32_t count, int64_t nr)
{
	if (count == 0)
		space->nr_free += (uint64_t)nr;
	else if (count == MSNAP_COUNT_PENDING)
		space->nr_pending += (uint64_t)nr;
	else if (count > 1)
		space->nr_shared += (uint64_t)nr;
}

static uint32_t change_count(struct msnap_space *space, const struct how *how,
			     uint32_t count, unsigned nr)
{
	uint32_t now = changed(how, count);

	account(space, count, -(int64_t)nr);
	account(space, now, nr);
	return now;
}

/* Make a run begin at @pos; returns its index. */
static unsigned split(struct region *reg, unsigned pos, unsigned size, bool undo)
{
	struct run *run = runs_of(reg);
	unsigned i;

	if (pos == size)
		return reg->nr_runs;
	i = find_run(reg, pos);
	if (run[i].start == pos)
		return i;
	assert(reg->nr_runs < reg->cap);
	i++;
	memmove(&run[i + 1], &run[i], (reg->nr_runs - i) * sizeof(*run));
	run[i] = run[i - 1];
	run[i].start = (uint16_t)pos;
	reg->nr_runs++;
	if (undo)
		pay_debt(reg);
	return i;
}

/* Merge equal neighbours among the runs from - 1 .. to. */
static void join(struct region *reg, unsigned from, unsigned to)
{
	struct run *run = runs_of(reg);
	unsigned out = from ? from : 1, i;

	for (i = out; i <= to && i < reg->nr_runs; i++)
		if (run[i].count != run[out - 1].count)
			run[out++] = run[i];
	if (out >= i)
		return;
	memmove(&run[out], &run[i], (reg->nr_runs - i) * sizeof(*run));
	reg->nr_runs = (uint16_t)(reg->nr_runs - (i - out));
	add_debt(reg, i - out);
}

static void change_runs(struct msnap_space *space, const struct part *part,
			const struct how *how)
{
	struct region *reg = part->reg;
	unsigned first = split(reg, part->from, part->size, how->undo);
	unsigned past = split(reg, part->to, part->size, how->undo);
	struct run *run = runs_of(reg);
	unsigned i;

	for (i = first; i < past; i++)
		run[i].count = change_count(space, how, run[i].count,
					    run_end(reg, i, part->size) -
						    run[i].start);
	join(reg, first, past);
}

static unsigned edge_at(const struct part *part, unsigned pos)
{
	const uint32_t *flat = part->reg->flat;

	return pos && pos < part->size && flat[pos - 1] != flat[pos];
}

static void change_flat(struct msnap_space *space, const struct part *part,
			const struct how *how)
{
	struct region *reg = part->reg;
	unsigned was_from = edge_at(part, part->from);
	unsigned was_to = edge_at(part, part->to);
	unsigned b = part->from, gone = 0, come = 0;
	uint32_t last = 0;

	while (b < part->to) {
		uint32_t count = reg->flat[b], now;
		unsigned end = b + 1;

		while (end < part->to && reg->flat[end] == count)
			end++;
		now = change_count(space, how, count, end - b);
		gone += b > part->from && now == last;
		while (b < end)
			reg->flat[b++] = now;
		last = now;
	}
	gone += was_from > edge_at(part, part->from);
	gone += was_to > edge_at(part, part->to);
	come += was_from < edge_at(part, part->from);
	come += was_to < edge_at(part, part->to);
	reg->nr_runs = (uint16_t)(reg->nr_runs + come - gone);
	add_debt(reg, gone);
}

/* Needs the room that msnap_space_reserve() or the debt gives; then it cannot fail. */
void msnap_space_change_part(struct msnap_space *space, const struct part *part,
			     const struct how *how)
{
	struct region *reg = part->reg;
	uint64_t nr_free = space->nr_free;

	space->nr_runs -= reg->nr_runs ? reg->nr_runs : 1;
	touch(space, part);
	if (is_flat(reg))
		change_flat(space, part, how);
	else
		change_runs(space, part, how);
	space->nr_runs += reg->nr_runs;
	if (space->nr_free != nr_free)
		msnap_space_note_change(space, part, (int64_t)(space->nr_free - nr_free));
}

void msnap_space_change(struct msnap_space *space, uint64_t blk, uint64_t nr,
			const struct how *how)
{
	struct part part;
	uint64_t at;

	for_each_part(space, &part, at, blk, blk + nr)
		msnap_space_change_part(space, &part, how);
}

/* All of it, or an error and nothing. */
int msnap_space_reserve_and_change(struct msnap_space *space, uint64_t blk, uint64_t nr,
				   const struct how *how)
{
	int err = msnap_space_reserve(space, blk, nr, how->runs_limit);

	if (!err)
		msnap_space_change(space, blk, nr, how);
	return err;
}

/* ---- undo ------------------------------------------------------------- */

static bool run_begins(struct region *reg, unsigned pos, unsigned size)
{
	return pos == size || runs_of(reg)[find_run(reg, pos)].start == pos;
}

/* True, without asking for memory, for all that is no older than an epoch. */
static bool undo_has_room(struct msnap_space *space, const struct part *part)
{
	struct region *reg = part->reg;
	unsigned missing;

	if (is_flat(reg))
		return true;
	missing = !run_begins(reg, part->from, part->size) +
		  !run_begins(reg, part->to, part->size);
	if (reg->nr_runs + missing <= reg->cap)
		return true;
	return !msnap_space_reserve_part(space, part, RUNS_MAX);
}

/* Move the part's ends to where runs begin already: outward or inward. */
static void round_part(struct part *part, bool widen)
{
	struct region *reg = part->reg;
	const struct run *run = runs_of(reg);
	unsigned i = find_run(reg, part->from);

	if (run[i].start != part->from)
		part->from = widen ? run[i].start : run_end(reg, i, part->size);
	if (run_begins(reg, part->to, part->size))
		return;
	i = find_run(reg, part->to);
	part->to = widen ? run_end(reg, i, part->size) : run[i].start;
}

static void undo(struct msnap_space *space, uint64_t blk, uint64_t nr,
		 const struct how *how)
{
	struct part part, here;
	uint64_t at;

	assert(in_range(space, blk, nr));
	for_each_part(space, &part, at, blk, blk + nr) {
		here = part;
		touch(space, &here);
		if (!undo_has_room(space, &here))
			round_part(&here, how->widen);
		if (here.from < here.to)
			msnap_space_change_part(space, &here, how);
	}
}

void msnap_space_lock_and_undo(struct msnap_space *space, uint64_t blk, uint32_t nr,
			       const struct how *how)
{
	pthread_mutex_lock(&space->lock);
	undo(space, blk, nr, how);
	pthread_mutex_unlock(&space->lock);
}
