/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the space map, against a plain array of counts.  The source is
 * included, so that memory can be made to run out at will, epochs are short, and
 * the invariants of regions and tree can be looked at.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cow/alloc.h"

static bool no_memory;

static void *test_malloc(size_t size)
{
	return no_memory ? NULL : malloc(size);
}

#define msnap_malloc test_malloc
#define SPACE_EPOCH 512u
#include "cow/space-region.c"
#include "cow/space-change.c"
#include "cow/space-tree.c"
#include "cow/space-place.c"
#include "cow/space.c"

#define PENDING MSNAP_COUNT_PENDING
#define NR (5u * REGION_BLKS + 1234)
#define TAIL (NR / CHUNK * CHUNK) /* of a chunk, at the end */

static struct msnap_space *space;
static uint32_t model[NR];
static uint64_t seed;

static uint32_t rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 20) % n;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static void setup(void)
{
	no_memory = false;
	seed = 88172645463325252ull;
	memset(model, 0, sizeof(model));
	ck_assert_int_eq(msnap_space_new(NR, &space), 0);
}

static void teardown(void)
{
	no_memory = false;
	msnap_space_free(space);
}

/* As ck_assert(), which writes a line to a file each time it is passed. */
#define must(cond)                                                             \
	do {                                                                   \
		if (!(cond))                                                   \
			ck_abort_msg("not so: %s", #cond);                     \
	} while (0)

/* ---- the map against the model --------------------------------------------- */

struct each_state {
	uint64_t at; /* all before is compared */
	uint32_t last;
};

static int compare_run(void *arg, uint64_t blk, uint32_t nr, uint32_t count)
{
	struct each_state *st = arg;

	must(nr > 0);
	must(blk >= st->at);
	/* merged: a neighbour must differ */
	must(blk != st->at || count != st->last || blk == 0);
	for (; st->at < blk; st->at++)
		must(model[st->at] == 0);
	for (; st->at < blk + nr; st->at++)
		if (model[st->at] != count)
			ck_abort_msg("block %u: %u, not %u", (unsigned)st->at,
				     count, model[st->at]);
	st->last = count;
	return 0;
}

static void check_stat(void)
{
	uint64_t free_blks = 0, pending = 0, shared = 0, runs = 0;
	struct msnap_space_stat stat;
	uint32_t b;

	for (b = 0; b < NR; b++) {
		free_blks += model[b] == 0;
		pending += model[b] == PENDING;
		shared += model[b] > 1 && model[b] != PENDING;
		runs += b % REGION_BLKS == 0 || model[b] != model[b - 1];
	}
	msnap_space_stat(space, &stat);
	must(stat.nr_blocks == NR);
	must(stat.nr_free == free_blks);
	must(stat.nr_pending == pending);
	must(stat.nr_shared == shared);
	must(stat.nr_runs == runs);
}

/* The numbers that a fresh scan of the model gives. */
static void scan_model(uint64_t idx, struct region *out)
{
	const uint32_t *m = model + idx * REGION_BLKS;
	unsigned size = region_size(space, idx), b, len = 0, in_chunk = 0;

	memset(out, 0, sizeof(*out));
	for (b = 0; b < size; b++) {
		bool last = b + 1 == size || (b + 1) % CHUNK == 0;

		len = m[b] ? 0 : len + 1;
		in_chunk = m[b] ? 0 : b % CHUNK ? in_chunk + 1 : 1;
		if (len == b + 1)
			out->head = (uint16_t)len;
		if (len > out->longest)
			out->longest = (uint16_t)len;
		if (in_chunk == CHUNK)
			out->chunks |= (uint16_t)(1u << b / CHUNK);
		else if ((last || m[b + 1]) && in_chunk > out->frag)
			out->frag = in_chunk & (CHUNK - 1);
	}
	out->tail = (uint16_t)len;
}

static void check_numbers(uint64_t idx)
{
	const struct region *reg = &space->region[idx];
	struct region want;

	if (!reg->nr_runs || reg->stale)
		return;
	scan_model(idx, &want);
	must(reg->head == want.head);
	must(reg->tail == want.tail);
	must(reg->chunks == want.chunks);
	must(reg->longest >= want.longest);
	must(reg->frag >= want.frag);
	if (reg->loose)
		return;
	must(reg->longest == want.longest);
	must(reg->frag == want.frag);
}

static void check_region(uint64_t idx)
{
	struct region *reg = &space->region[idx];
	const struct run *run = runs_of(reg);
	unsigned i;

	check_numbers(idx);
	if (!reg->nr_runs || is_flat(reg))
		return;
	must(reg->nr_runs + debt_of(reg) <= reg->cap);
	must(run[0].start == 0);
	for (i = 1; i < reg->nr_runs; i++) {
		must(run[i].start > run[i - 1].start);
		must(run[i].count != run[i - 1].count);
	}
}

static uint32_t model_longest(void)
{
	uint32_t b, len = 0, longest = 0;

	for (b = 0; b < NR; b++) {
		len = model[b] ? 0 : len + 1;
		longest = len > longest ? len : longest;
	}
	return longest;
}

static void check_all(void)
{
	struct each_state st = { 0, 0 };
	uint64_t idx;

	must(msnap_space_each(space, compare_run, &st) == 0);
	for (; st.at < NR; st.at++)
		must(model[st.at] == 0);
	check_stat();
	for (idx = 0; idx < space->nr_regions; idx++)
		check_region(idx);
	must(msnap_space_fresh_root(space)->longest >= model_longest());
}

/* ---- operations on both ---------------------------------------------------- */

enum kind { ALLOC, GET, PUT };

struct done {
	enum kind kind;
	uint32_t blk;
	uint32_t nr;
};

static void model_add(uint32_t blk, uint32_t nr)
{
	for (; nr--; blk++)
		model[blk] = model[blk] == PENDING ? 1 : model[blk] + 1;
}

static void model_sub(uint32_t blk, uint32_t nr)
{
	for (; nr--; blk++)
		model[blk] = model[blk] == 1 ? PENDING : model[blk] - 1;
}

static uint32_t model_free_from(uint32_t blk, uint32_t max)
{
	uint32_t len = 0;

	while (len < max && blk + len < NR && !model[blk + len])
		len++;
	return len;
}

static bool model_has_chunk(void)
{
	uint32_t c;

	for (c = 0; c + CHUNK <= NR; c += CHUNK)
		if (model_free_from(c, CHUNK) == CHUNK)
			return true;
	return false;
}

static void check_place(const struct msnap_space_want *want, uint32_t blk,
			uint32_t nr)
{
	bool data = want->use == MSNAP_SPACE_DATA;
	bool goal = data && want->goal && want->goal < NR && !model[want->goal];
	bool align = data && want->align && model_has_chunk() &&
		     (!goal || (want->goal ^ want->phase) % CHUNK);

	must(nr >= 1);
	must(nr <= want->nr);
	must(model_free_from(blk, nr) == nr);
	if (goal && !align) {
		must(blk == want->goal);
		must(nr == model_free_from(blk, want->nr));
		return;
	}
	if (align || (data && want->nr >= MSNAP_SPACE_ALIGN_MIN && model_has_chunk())) {
		must(blk % CHUNK == want->phase % CHUNK);
		must(nr == model_free_from(blk, want->nr));
	} else if (nr < want->nr) {
		must(nr == model_longest());
	}
}

static int do_alloc(const struct msnap_space_want *want, struct done *done)
{
	uint64_t blk = 77;
	uint32_t nr = 78;
	int err = msnap_space_alloc(space, want, &blk, &nr);

	if (err) {
		must(blk == 77);
		must(nr == 78);
		return err;
	}
	check_place(want, (uint32_t)blk, nr);
	model_add((uint32_t)blk, nr);
	*done = (struct done){ ALLOC, (uint32_t)blk, nr };
	return 0;
}

static int model_check(uint32_t blk, uint32_t nr)
{
	for (; nr--; blk++)
		if (blk >= NR || model[blk] == 0 || model[blk] == PENDING)
			return -EUCLEAN;
	return 0;
}

static int do_get(uint32_t blk, uint32_t nr, struct done *done)
{
	int err = msnap_space_get(space, blk, nr);

	must(err == model_check(blk, nr));
	if (!err)
		model_add(blk, nr);
	*done = (struct done){ GET, blk, nr };
	return err;
}

struct freed_state {
	uint32_t at, end;
	int fail_in; /* calls until one fails; 0: none does */
};

static int on_freed(void *arg, uint64_t blk, uint32_t nr)
{
	struct freed_state *st = arg;
	uint32_t b;

	if (st->fail_in && !--st->fail_in)
		return -ENOBUFS;
	while (st->at < blk)
		must(model[st->at++] != 1);
	for (b = st->at; b < blk + nr; b++)
		must(model[b] == 1);
	st->at = b;
	must(b == st->end || model[b] != 1);
	return 0;
}

static int do_put(uint32_t blk, uint32_t nr, struct done *done)
{
	struct freed_state st = { blk, blk + nr, rnd(8) ? 0 : 1 + (int)rnd(3) };
	int fails = st.fail_in;
	int err = msnap_space_put(space, blk, nr, on_freed, &st);

	if (model_check(blk, nr)) {
		must(err == -EUCLEAN);
	} else if (err) {
		must(err == -ENOBUFS);
		must(fails && !st.fail_in);
	} else {
		while (st.at < st.end)
			must(model[st.at++] != 1);
		model_sub(blk, nr);
	}
	*done = (struct done){ PUT, blk, nr };
	return err;
}

static void do_release(uint32_t blk, uint32_t nr)
{
	msnap_space_release(space, blk, nr);
	for (; nr--; blk++)
		if (model[blk] == PENDING)
			model[blk] = 0;
}

static void do_undo(const struct done *done)
{
	uint32_t i;

	switch (done->kind) {
	case ALLOC:
		msnap_space_undo_alloc(space, done->blk, done->nr);
		for (i = 0; i < done->nr; i++)
			model[done->blk + i] = 0;
		break;
	case GET:
		msnap_space_undo_get(space, done->blk, done->nr);
		model_sub(done->blk, done->nr);
		break;
	case PUT:
		msnap_space_undo_put(space, done->blk, done->nr);
		model_add(done->blk, done->nr);
		break;
	}
}

/* ---- the random walk ------------------------------------------------------- */

static void random_want(struct msnap_space_want *want)
{
	static const uint32_t most[] = { 1, 1, 4, 15, 40, 600, 3000, 20000 };

	memset(want, 0, sizeof(*want));
	want->use = rnd(3) ? MSNAP_SPACE_DATA : MSNAP_SPACE_NODE;
	want->nr = 1 + rnd(most[rnd(want->use == MSNAP_SPACE_DATA ? 8 : 4)]);
	want->phase = rnd(4) ? rnd(2000) : 0;
	if (rnd(3) == 0)
		want->goal = rnd(NR + 100);
	want->align = want->phase % 5 == 1;
}

/* Mostly small, in a few hot places, so that edges fall together; often across
 * the border of regions. */
static void random_range(uint32_t *blk, uint32_t *nr)
{
	static const uint32_t most[] = { 1, 1, 3, 8, 30, 500, 12000 };
	uint32_t hot = rnd(6) * REGION_BLKS + rnd(2) * 700;

	if (rnd(3) == 0)
		*blk = rnd(NR);
	else
		*blk = hot > 20 ? hot - 20 + rnd(40) : hot + rnd(40);
	*blk = least(*blk, NR - 1);
	*nr = least(1 + rnd(most[rnd(7)]), NR - *blk);
}

/* Of blocks in use, so that most are valid. */
static void random_used_range(uint32_t *blk, uint32_t *nr)
{
	uint32_t tries = 0, len = 0;

	do
		random_range(blk, nr);
	while ((model[*blk] == 0 || model[*blk] == PENDING) && ++tries < 50);
	while (len < *nr && !model_check(*blk + len, 1))
		len++;
	if (len && rnd(10))
		*nr = len;
}

/* One change that can be undone; false when it did not come off. */
static bool random_change(struct done *done, unsigned fill)
{
	struct msnap_space_want want;
	uint32_t blk, nr;
	int err;

	if (rnd(100) < fill) {
		random_want(&want);
		err = do_alloc(&want, done);
		must(!err || (err == -ENOSPC && !model_longest()));
		return !err;
	}
	random_used_range(&blk, &nr);
	return rnd(2) ? !do_get(blk, nr, done) : !do_put(blk, nr, done);
}

#define TX_MAX 200

/*
 * A transaction that is undone, with allocations of others in between, of which
 * some are undone too.  No memory is to be had for it.
 */
static void random_transaction(unsigned fill)
{
	struct done mine[TX_MAX], theirs;
	struct msnap_space_want want = { .use = MSNAP_SPACE_DATA, .nr = 1 };
	unsigned nr = 1 + rnd(rnd(4) ? 12 : TX_MAX), i, n = 0;

	for (i = 0; i < nr; i++) {
		n += random_change(&mine[n], fill);
		want.goal = n ? mine[rnd(n)].blk + rnd(3) : 0;
		want.nr = 1 + rnd(4);
		if (rnd(3) == 0 && !do_alloc(&want, &theirs) && rnd(4) == 0)
			do_undo(&theirs);
	}
	if (rnd(3) == 0)
		return; /* it stays */
	no_memory = true;
	while (n--)
		do_undo(&mine[n]);
	no_memory = false;
}

static void random_step(unsigned fill)
{
	uint32_t blk, nr, len;

	switch (rnd(12)) {
	case 0:
		random_range(&blk, &nr);
		do_release(blk, nr);
		break;
	case 1:
		do_release(0, NR);
		break;
	case 2:
		random_range(&blk, &nr);
		len = model_free_from(blk, nr);
		must(msnap_space_set(space, blk, nr, 3) == (len == nr ? 0 : -EUCLEAN));
		for (len = len == nr ? len : 0; len; len--)
			model[blk++] = 3;
		break;
	case 3:
		random_range(&blk, &nr);
		len = model[blk] == 0 || model[blk] == PENDING;
		must(msnap_space_mark(space, blk, nr) == (int)len);
		model_add(blk, nr);
		break;
	case 4:
		if (rnd(20) == 0)
			msnap_space_settle(space);
		break;
	default:
		random_transaction(fill);
	}
}

/* Give all of a wide range back, so that the map does not fill up for good. */
static void random_drop(void)
{
	uint32_t blk = rnd(NR), end = least(blk + rnd(NR), NR);
	struct done done;

	for (; blk < end; blk++)
		while (!model_check(blk, 1))
			(void)do_put(blk, 1, &done);
	do_release(0, NR);
}

static unsigned nr_flat(void)
{
	unsigned n = 0;
	uint64_t idx;

	for (idx = 0; idx < space->nr_regions; idx++)
		n += is_flat(&space->region[idx]);
	return n;
}

START_TEST(test_random)
{
	unsigned i, came = 0, went = 0, was = 0, now;

	seed += (uint64_t)_i * 0x9e3779b97f4a7c15ull;
	for (i = 0; i < 2500; i++) {
		random_step(_i % 2 ? 30 : 60);
		if (i % 16 == 0)
			check_all();
		if (rnd(200) == 0)
			random_drop();
		now = nr_flat();
		came += now > was;
		went += now < was;
		was = now;
	}
	check_all();
	must(came > 0);
	must(went > 0);
}
END_TEST

/* Single blocks all over: regions are flat most of the time. */
START_TEST(test_random_fragmented)
{
	struct done done[TX_MAX];
	unsigned i, k, n;

	for (i = 0; i < 4 * REGION_BLKS; i++) {
		uint32_t blk = rnd(NR);

		must(msnap_space_mark(space, blk, 1) == !model[blk]);
		model_add(blk, 1);
	}
	check_all();
	must(nr_flat() > 3);
	msnap_space_settle(space);
	for (i = 0; i < 300; i++) {
		for (k = n = 0; k < TX_MAX; k++)
			n += random_change(&done[n], 40);
		no_memory = true;
		while (rnd(2) && n)
			for (k = rnd(n + 1); k; k--)
				do_undo(&done[--n]);
		no_memory = false;
		do_release(rnd(NR / 2), NR / 2);
		if (i % 10 == 0)
			check_all();
	}
	check_all();
}
END_TEST

/* The debt of a flat region only grows, and is no reason to do anything. */
START_TEST(test_flat_debt)
{
	struct region *reg = &space->region[0];
	struct done done;
	uint32_t b;

	for (b = 0; b < REGION_BLKS; b += 2) {
		must(msnap_space_mark(space, b, 1) == 1);
		model_add(b, 1);
	}
	ck_assert(is_flat(reg));
	reg->debt[0] = reg->debt[1] = UINT16_MAX;
	ck_assert_int_eq(do_get(100, 1, &done), 0);
	do_undo(&done);
	ck_assert_uint_eq(reg->debt[0], UINT16_MAX);
	check_all();
}
END_TEST

/* ---- placement ------------------------------------------------------------- */

START_TEST(test_alloc_adjacent)
{
	struct msnap_space_want node = { .use = MSNAP_SPACE_NODE, .nr = 1 };
	struct msnap_space_want data = { .use = MSNAP_SPACE_DATA, .nr = 1 };
	struct done n, d, was_n, was_d;
	unsigned i;

	ck_assert_int_eq(msnap_space_set(space, 0, 17, 1), 0);
	ck_assert_int_eq(msnap_space_set(space, TAIL, NR % CHUNK, 1), 0);
	model_add(0, 17);
	model_add(TAIL, NR % CHUNK);
	ck_assert_int_eq(do_alloc(&node, &was_n), 0);
	ck_assert_int_eq(do_alloc(&data, &was_d), 0);
	ck_assert_uint_ne(was_n.blk / CHUNK, was_d.blk / CHUNK);
	for (i = 0; i < 400; i++) {
		ck_assert_int_eq(do_alloc(&node, &n), 0);
		ck_assert_int_eq(do_alloc(&data, &d), 0);
		ck_assert_uint_eq(n.blk, was_n.blk + 1);
		ck_assert_uint_eq(d.blk, was_d.blk + 1);
		was_n = n;
		was_d = d;
	}
	check_all();
}
END_TEST

START_TEST(test_alloc_until_full)
{
	struct msnap_space_want want = { .use = MSNAP_SPACE_DATA, .nr = 1 };
	struct done done;
	unsigned i;

	for (i = 0; i < NR; i++) {
		want.use = i % 3 ? MSNAP_SPACE_DATA : MSNAP_SPACE_NODE;
		ck_assert_int_eq(do_alloc(&want, &done), 0);
	}
	ck_assert_int_eq(do_alloc(&want, &done), -ENOSPC);
	check_all();
	/* two holes: found wherever they are, and the longer one when wanted */
	ck_assert_int_eq(do_put(9000, 3, &done), 0);
	ck_assert_int_eq(msnap_space_put(space, 30000, 7, NULL, NULL), 0);
	model_sub(30000, 7);
	ck_assert_int_eq(do_alloc(&want, &done), -ENOSPC);
	do_release(0, NR);
	want.nr = 100;
	ck_assert_int_eq(do_alloc(&want, &done), 0);
	ck_assert_uint_eq(done.blk, 30000);
	ck_assert_uint_eq(done.nr, 7);
	ck_assert_int_eq(do_alloc(&want, &done), 0);
	ck_assert_uint_eq(done.nr, 3);
	ck_assert_int_eq(do_alloc(&want, &done), -ENOSPC);
	check_all();
}
END_TEST

/* New files of every phase, each in a chunk of its own while there are any. */
START_TEST(test_alloc_aligned)
{
	struct msnap_space_want want = { .use = MSNAP_SPACE_DATA, .nr = 16 };
	bool used[NR / CHUNK + 1] = { false };
	struct done done;
	unsigned i;

	for (i = 0; i < NR / CHUNK; i++) {
		want.phase = i * 37u % (CHUNK - 16) + CHUNK * rnd(100);
		ck_assert_int_eq(do_alloc(&want, &done), 0);
		ck_assert_uint_eq(done.nr, 16);
		ck_assert_uint_eq(done.blk % CHUNK, want.phase % CHUNK);
		ck_assert(!used[done.blk / CHUNK]);
		used[done.blk / CHUNK] = true;
	}
	check_all();
	ck_assert_int_eq(do_alloc(&want, &done), 0);
	ck_assert_uint_eq(done.nr, 16);
}
END_TEST

START_TEST(test_alloc_large)
{
	struct msnap_space_want want = { MSNAP_SPACE_DATA, 20000, 0, 300, false };
	struct done done, next;

	ck_assert_int_eq(do_alloc(&want, &done), 0);
	ck_assert_uint_eq(done.nr, 20000);
	ck_assert_uint_eq(done.blk % CHUNK, 300);
	want.goal = done.blk + done.nr;
	want.nr = 50;
	ck_assert_int_eq(do_alloc(&want, &next), 0);
	ck_assert_uint_eq(next.blk, want.goal);
	/* goal taken: as without one */
	ck_assert_int_eq(do_alloc(&want, &next), 0);
	ck_assert_uint_eq(next.blk % CHUNK, 300);
	want = (struct msnap_space_want){ .use = MSNAP_SPACE_DATA, .nr = UINT32_MAX };
	while (!do_alloc(&want, &next))
		;
	check_all();
	ck_assert_uint_eq(model_longest(), 0);
}
END_TEST

/* Small files fill used chunks before they open free ones. */
START_TEST(test_alloc_spares_chunks)
{
	struct msnap_space_want want = { .use = MSNAP_SPACE_DATA, .nr = 1 };
	struct done done;
	unsigned c, i;

	for (c = 0; c < NR / CHUNK; c += 2) {
		ck_assert_int_eq(msnap_space_set(space, c * CHUNK, 256, 1), 0);
		model_add(c * CHUNK, 256);
	}
	for (i = 0; i < 30 * 256; i++) {
		ck_assert_int_eq(do_alloc(&want, &done), 0);
		ck_assert_uint_eq(done.blk / CHUNK % 2, 0);
	}
	check_all();
}
END_TEST

/* ---- errors ---------------------------------------------------------------- */

START_TEST(test_bad_ranges)
{
	ck_assert_int_eq(msnap_space_set(space, 8000, 400, 1), 0);
	model_add(8000, 400);
	ck_assert_int_eq(msnap_space_put(space, 8300, 10, NULL, NULL), 0);
	model_sub(8300, 10);
	/* free before, pending within, free behind */
	ck_assert_int_eq(msnap_space_get(space, 7999, 10), -EUCLEAN);
	ck_assert_int_eq(msnap_space_get(space, 8000, 400), -EUCLEAN);
	ck_assert_int_eq(msnap_space_get(space, 8390, 11), -EUCLEAN);
	ck_assert_int_eq(msnap_space_put(space, 8000, 400, NULL, NULL),
			 -EUCLEAN);
	ck_assert_int_eq(msnap_space_get(space, NR, 1), -EUCLEAN);
	ck_assert_int_eq(msnap_space_get(space, UINT64_MAX, 2), -EUCLEAN);
	ck_assert_int_eq(msnap_space_put(space, NR - 1, 2, NULL, NULL),
			 -EUCLEAN);
	ck_assert_int_eq(msnap_space_mark(space, NR, 1), -EUCLEAN);
	ck_assert_int_eq(msnap_space_set(space, NR - 1, 2, 1), -EUCLEAN);
	ck_assert_int_eq(msnap_space_set(space, 7990, 11, 1), -EUCLEAN);
	ck_assert_int_eq(msnap_space_set(space, 0, 1, 0), -EUCLEAN);
	ck_assert_int_eq(msnap_space_set(space, 0, 1, PENDING - 1), -EUCLEAN);
	ck_assert_uint_eq(msnap_space_count(space, NR), 0);
	ck_assert_uint_eq(msnap_space_count(space, 8305), PENDING);
	msnap_space_release(space, NR, 1);
	check_all();
}
END_TEST

START_TEST(test_count_max)
{
	ck_assert_int_eq(msnap_space_set(space, 8190, 2, 5), 0);
	ck_assert_int_eq(msnap_space_set(space, 8192, 2, MSNAP_COUNT_MAX - 1), 0);
	model[8190] = model[8191] = 5;
	model[8192] = model[8193] = MSNAP_COUNT_MAX - 1;
	ck_assert_int_eq(msnap_space_get(space, 8193, 1), 0);
	model[8193]++;
	ck_assert_int_eq(msnap_space_get(space, 8190, 4), -EMLINK);
	ck_assert_int_eq(msnap_space_mark(space, 8190, 4), -EMLINK);
	check_all();
	ck_assert_int_eq(msnap_space_put(space, 8190, 4, NULL, NULL), 0);
	model_sub(8190, 4);
	check_all();
}
END_TEST

START_TEST(test_release_leaves_others)
{
	struct done done;

	ck_assert_int_eq(msnap_space_set(space, 100, 100, 1), 0);
	ck_assert_int_eq(msnap_space_set(space, 200, 100, 2), 0);
	ck_assert_int_eq(msnap_space_set(space, 8100, 200, PENDING), 0);
	model_add(100, 200);
	model_add(200, 100);
	memset(model + 8100, 0xff, 200 * sizeof(*model));
	while (do_put(150, 100, &done))
		;
	do_release(0, 160);
	check_all();
	do_release(120, 8100);
	check_all();
	ck_assert_uint_eq(model[199], 0);
	ck_assert_uint_eq(model[219], 1);
	ck_assert_uint_eq(model[8219], 0);
	ck_assert_uint_eq(model[8220], PENDING);
}
END_TEST

/* ---- no memory ------------------------------------------------------------- */

/* Blocks of one count, every other of another: many runs, all room taken. */
static void comb(uint32_t blk, uint32_t nr)
{
	uint32_t i;

	ck_assert_int_eq(msnap_space_set(space, blk, nr, 1), 0);
	model_add(blk, nr);
	for (i = 1; i < nr; i += 2) {
		ck_assert_int_eq(msnap_space_get(space, blk + i, 1), 0);
		model_add(blk + i, 1);
	}
	msnap_space_settle(space);
}

START_TEST(test_no_memory)
{
	struct msnap_space_want want = { .use = MSNAP_SPACE_NODE, .nr = 1 };
	struct done done;
	uint64_t blk;
	uint32_t nr;

	comb(8192 + 100, 200);
	ck_assert_int_eq(msnap_space_set(space, 8000, 292, 7), 0);
	ck_assert_int_eq(msnap_space_set(space, 8492, 8, 3), 0);
	for (blk = 8000; blk < 8292; blk++)
		model[blk] = 7;
	for (blk = 8492; blk < 8500; blk++)
		model[blk] = 3;
	while (do_put(8300, 1, &done))
		;
	check_all();
	msnap_space_settle(space);
	no_memory = true;
	/* the first region has room, the second has none */
	ck_assert_int_eq(msnap_space_get(space, 8100, 8496 - 8100), -EUCLEAN);
	ck_assert_int_eq(msnap_space_get(space, 8100, 150), -ENOMEM);
	ck_assert_int_eq(msnap_space_put(space, 8100, 150, NULL, NULL), -ENOMEM);
	ck_assert_int_eq(msnap_space_mark(space, 8100, 150), -ENOMEM);
	ck_assert_int_eq(msnap_space_set(space, 9000, 1, 1), -ENOMEM);
	want.use = MSNAP_SPACE_DATA;
	want.goal = 9000;
	ck_assert_int_eq(msnap_space_alloc(space, &want, &blk, &nr), -ENOMEM);
	msnap_space_release(space, 8300, 1);
	check_all();
	no_memory = false;
	do_release(8300, 1);
	ck_assert_int_eq(do_alloc(&want, &done), 0);
	ck_assert_int_eq(do_get(8100, 150, &done), 0);
	check_all();
}
END_TEST

/*
 * Undo after its room was forgotten, and without memory: the others' counts may
 * come out too high, none too low.
 */
START_TEST(test_undo_too_late)
{
	struct done done[60];
	uint32_t over = 0;
	unsigned i;

	comb(1000, 300);
	/* makes it one run of 2 and 300 edges less, in two sorts of steps */
	for (i = 0; i < 60; i++) {
		uint32_t b = 1000 + 4 * i;

		if (i % 2)
			while (do_put(b + 1, 1, &done[i]))
				;
		else
			ck_assert_int_eq(do_get(b, 1, &done[i]), 0);
	}
	msnap_space_settle(space);
	no_memory = true;
	while (i--)
		do_undo(&done[i]);
	no_memory = false;
	for (i = 0; i < NR; i++) {
		uint32_t count = msnap_space_count(space, i);

		ck_assert_uint_ne(count, PENDING);
		ck_assert_uint_ge(count, model[i]);
		over += count - model[i];
		model[i] = count;
	}
	ck_assert_uint_gt(over, 0);
	check_all();
}
END_TEST

START_TEST(test_new_no_memory)
{
	struct msnap_space *other = NULL;

	no_memory = true;
	ck_assert_int_eq(msnap_space_new(NR, &other), -ENOMEM);
	ck_assert_ptr_null(other);
	no_memory = false;
	ck_assert_int_eq(msnap_space_new(0, &other), -EINVAL);
	msnap_space_free(NULL);
}
END_TEST

/* ---- save, load, rebuild --------------------------------------------------- */

static int copy_run(void *arg, uint64_t blk, uint32_t nr, uint32_t count)
{
	return msnap_space_set(arg, blk, nr, count);
}

START_TEST(test_round_trip)
{
	struct msnap_space_stat a, b;
	struct msnap_space *other;
	unsigned i;

	for (i = 0; i < 300; i++)
		random_step(50);
	msnap_space_stat(space, &a);
	ck_assert_uint_gt(a.nr_pending, 0);
	ck_assert_int_eq(msnap_space_new(NR, &other), 0);
	ck_assert_int_eq(msnap_space_each(space, copy_run, other), 0);
	msnap_space_free(space);
	space = other;
	check_all();
	msnap_space_stat(space, &b);
	ck_assert_uint_eq(a.nr_runs, b.nr_runs);
}
END_TEST

struct seen_runs {
	unsigned nr;
	uint64_t blk[4];
	uint32_t len[4];
};

static int see_run(void *arg, uint64_t blk, uint32_t nr, uint32_t count)
{
	struct seen_runs *seen = arg;

	ck_assert_uint_eq(count, 9);
	seen->blk[seen->nr] = blk;
	seen->len[seen->nr] = nr;
	return ++seen->nr == 3 ? 42 : 0;
}

START_TEST(test_each)
{
	struct seen_runs seen = { 0 };

	msnap_space_free(space);
	ck_assert_int_eq(msnap_space_new(1ull << 33, &space), 0);
	ck_assert_int_eq(msnap_space_set(space, 5, 3 * REGION_BLKS, 9), 0);
	ck_assert_int_eq(msnap_space_set(space, 1ull << 32, UINT32_MAX, 9), 0);
	/* stops at what the callback returns; long runs come in pieces */
	ck_assert_int_eq(msnap_space_each(space, see_run, &seen), 42);
	ck_assert_uint_eq(seen.nr, 3);
	ck_assert_uint_eq(seen.blk[0], 5);
	ck_assert_uint_eq(seen.len[0], 3 * REGION_BLKS);
	ck_assert_uint_eq(seen.blk[1], 1ull << 32);
	ck_assert_uint_eq(seen.len[1], 1u << 31);
	ck_assert_uint_eq(seen.blk[2], (1ull << 32) + (1u << 31));
	ck_assert_uint_eq(seen.len[2], (1u << 31) - 1);
}
END_TEST

/* Marking in random order, then packed: the memory comes back. */
START_TEST(test_mark_settle)
{
	struct msnap_space_stat empty, flat, packed;
	uint32_t i, b;

	msnap_space_stat(space, &empty);
	for (i = 0, b = 0; i < NR; i++, b = (b + 26501) % NR) {
		ck_assert_int_eq(msnap_space_mark(space, b, 1), 1);
		ck_assert_int_eq(msnap_space_mark(space, b, 1), 0);
		model_add(b, 1);
		model_add(b, 1);
	}
	msnap_space_stat(space, &flat);
	ck_assert_uint_ge(flat.memory, empty.memory + 5 * 4 * REGION_BLKS);
	msnap_space_settle(space);
	msnap_space_stat(space, &packed);
	ck_assert_uint_eq(packed.memory, empty.memory);
	ck_assert_uint_eq(packed.nr_runs, 6);
	ck_assert_uint_eq(packed.nr_shared, NR);
	check_all();
}
END_TEST

/* A region that was busy and is no more is packed without being told. */
START_TEST(test_memory_comes_back)
{
	struct msnap_space_want want = { .use = MSNAP_SPACE_NODE, .nr = 1 };
	struct msnap_space_stat before, after;
	struct done done;
	unsigned i;

	msnap_space_stat(space, &before);
	for (i = 0; i < 2 * REGION_BLKS; i++)
		ck_assert_int_eq(do_alloc(&want, &done), 0);
	for (i = 0; i < 3 * SPACE_EPOCH; i++)
		do_release(NR - 1, 1);
	msnap_space_stat(space, &after);
	ck_assert_uint_eq(after.memory, before.memory);
	check_all();
}
END_TEST

/* 1 TiB, empty and then full, in a few runs. */
START_TEST(test_large_pool)
{
	struct msnap_space_want want = { .use = MSNAP_SPACE_DATA, .nr = UINT32_MAX };
	struct msnap_space_stat stat;
	uint64_t blk;
	uint32_t nr;

	msnap_space_free(space);
	ck_assert_int_eq(msnap_space_new(1ull << 28, &space), 0);
	msnap_space_stat(space, &stat);
	ck_assert_uint_le(stat.memory, 2u << 20);
	ck_assert_int_eq(msnap_space_alloc(space, &want, &blk, &nr), 0);
	ck_assert_uint_eq(blk, 0);
	ck_assert_uint_eq(nr, 1u << 28);
	ck_assert_int_eq(msnap_space_alloc(space, &want, &blk, &nr), -ENOSPC);
	msnap_space_undo_alloc(space, 0, 1u << 28);
	msnap_space_stat(space, &stat);
	ck_assert_uint_eq(stat.nr_free, 1u << 28);
	ck_assert_uint_le(stat.memory, 2u << 20);
}
END_TEST

/* ---- threads --------------------------------------------------------------- */

#define NR_TAKES 3000

static void give(const uint64_t *blk, const uint32_t *nr, unsigned *n)
{
	--*n;
	msnap_space_undo_alloc(space, blk[*n], nr[*n]);
}

static void *take_and_give(void *arg)
{
	struct msnap_space_want want = { .use = MSNAP_SPACE_DATA, .nr = 3 };
	uint64_t blk[16];
	uint32_t nr[16];
	unsigned i, k, n = 0;

	(void)arg;
	for (i = 0; i < NR_TAKES; i++) {
		if (!msnap_space_alloc(space, &want, &blk[n], &nr[n]))
			n++;
		if (n < 16)
			continue;
		for (k = 0; k < 4; k++)
			if (msnap_space_get(space, blk[k], nr[k]) ||
			    msnap_space_put(space, blk[k], nr[k], NULL, NULL))
				return "get and put";
		while (n)
			give(blk, nr, &n);
	}
	while (n)
		give(blk, nr, &n);
	return NULL;
}

START_TEST(test_threads)
{
	pthread_t thread[4];
	void *said;
	unsigned i;

	for (i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, take_and_give,
						NULL), 0);
	for (i = 0; i < 4; i++) {
		pthread_join(thread[i], &said);
		ck_assert_ptr_null(said);
	}
	check_all();
}
END_TEST

static Suite *space_suite(void)
{
	Suite *suite = suite_create("space");
	TCase *tc = tcase_create("space");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, test_random, 0, 4);
	tcase_add_test(tc, test_random_fragmented);
	tcase_add_test(tc, test_flat_debt);
	tcase_add_test(tc, test_alloc_adjacent);
	tcase_add_test(tc, test_alloc_until_full);
	tcase_add_test(tc, test_alloc_aligned);
	tcase_add_test(tc, test_alloc_large);
	tcase_add_test(tc, test_alloc_spares_chunks);
	tcase_add_test(tc, test_bad_ranges);
	tcase_add_test(tc, test_count_max);
	tcase_add_test(tc, test_release_leaves_others);
	tcase_add_test(tc, test_no_memory);
	tcase_add_test(tc, test_undo_too_late);
	tcase_add_test(tc, test_new_no_memory);
	tcase_add_test(tc, test_round_trip);
	tcase_add_test(tc, test_each);
	tcase_add_test(tc, test_mark_settle);
	tcase_add_test(tc, test_memory_comes_back);
	tcase_add_test(tc, test_large_pool);
	tcase_add_test(tc, test_threads);
	tcase_set_timeout(tc, 120);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(space_suite());
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
