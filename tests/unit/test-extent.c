/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of extents: cutting, joining and counting, against an array of blocks. */
#include "util.h"

#include "cow/file.h"

#define NR 3000 /* file blocks */

/* What each file block maps: a pool block (0: hole), the extent's flags. */
static struct {
	uint64_t blk;
	unsigned flags;
	uint64_t csum;
} model[NR];

static struct msnap_tree tree = { MSNAP_TREE_EXTENT, 20, { 0, 0 } };

static uint64_t csum_of(uint64_t blk)
{
	return blk * 0x9e3779b97f4a7c15ull;
}

/* ---- comparing ---------------------------------------------------------------------- */

static void compare_ext(const struct msnap_ext *ext)
{
	unsigned i;

	must(ext->nr && msnap_ext_end(ext) <= NR);
	for (i = 0; i < ext->nr; i++) {
		must(model[ext->fb + i].blk == ext->blk + i);
		must(model[ext->fb + i].flags == ext->flags);
		if (!ext->flags)
			must(get64(ext->csum[i]) == model[ext->fb + i].csum);
	}
}

static void compare(void)
{
	struct msnap_cursor cur;
	uint64_t at = 0, nr_blk = 0, counted = 0;
	int err = msnap_ext_seek(pool, &tree, 0, &cur);

	while (!err) {
		struct msnap_ext ext;

		msnap_ext_load(&cur, &ext, true);
		for (; at < ext.fb; at++)
			must(!model[at].blk);
		compare_ext(&ext);
		nr_blk += ext.nr;
		at = msnap_ext_end(&ext);
		err = msnap_cursor_next(&cur);
	}
	must(err == -ENOENT);
	for (; at < NR; at++)
		must(!model[at].blk);
	ok(msnap_tree_count_blk(pool, tree.root, &counted));
	must(counted == nr_blk);
}

static void compare_counts(void)
{
	unsigned i;

	for (i = 0; i < NR; i++)
		if (model[i].blk)
			must(msnap_space_count(pool->space, model[i].blk) >= 1);
}

static void probe(uint64_t fb)
{
	struct msnap_cursor cur;
	struct msnap_ext ext;
	uint64_t want = fb;
	int err = msnap_ext_seek(pool, &tree, fb, &cur);

	while (want < NR && !model[want].blk)
		want++;
	if (want == NR) {
		must(err == -ENOENT);
		return;
	}
	ok(err);
	msnap_ext_load(&cur, &ext, false);
	must(ext.fb <= want && msnap_ext_end(&ext) > want);
}

/* ---- changing ----------------------------------------------------------------------- */

static void punch(uint64_t fb, uint64_t end)
{
	uint64_t nr, want = 0, i;

	for (i = fb; i < end; i++) {
		want += !!model[i].blk;
		model[i].blk = 0;
	}
	ok(msnap_ext_punch(pool, &tree, fb, end, &nr));
	must(nr == want);
}

static void put(uint64_t fb, unsigned nr, unsigned flags)
{
	struct msnap_ext ext = { .fb = fb, .gen = pool->gen, .flags = flags };
	struct msnap_space_want want = { .use = MSNAP_SPACE_DATA, .nr = nr };
	uint32_t got;
	unsigned i;

	if (fb && model[fb - 1].blk && rnd(2))
		want.goal = model[fb - 1].blk + 1;
	ok(msnap_op_data_alloc(pool, &want, &ext.blk, &got));
	ext.nr = got;
	for (i = 0; i < got; i++) {
		model[fb + i].blk = ext.blk + i;
		model[fb + i].flags = flags;
		model[fb + i].csum = csum_of(ext.blk + i);
		if (!flags)
			ext.csum[i] = put64(csum_of(ext.blk + i));
	}
	ok(msnap_ext_put(pool, &tree, &ext));
}

static void random_put(void)
{
	unsigned flags = rnd(3) ? 0 : MSNAP_EXT_UNWRITTEN;
	unsigned most = flags ? 400 : MSNAP_EXT_MAX_CSUM;
	uint64_t fb = rnd(NR), nr = 1 + rnd(rnd(2) ? 4 : most);

	if (fb + nr > NR)
		nr = NR - fb;
	punch(fb, fb + nr);
	put(fb, nr, flags);
}

static void split(uint64_t fb)
{
	struct msnap_cursor cur;
	struct msnap_ext ext;

	ok(msnap_ext_split(pool, &tree, fb));
	if (fb < NR && model[fb].blk) {
		ok(msnap_ext_seek(pool, &tree, fb, &cur));
		msnap_ext_load(&cur, &ext, false);
		must(ext.fb == fb);
	}
}

static void own(uint64_t fb)
{
	struct msnap_ext ext;
	int err = msnap_ext_own(pool, &tree, fb, &ext);

	if (!model[fb].blk) {
		must(err == -ENOENT);
		return;
	}
	ok(err);
	must(ext.fb <= fb && msnap_ext_end(&ext) > fb);
	compare_ext(&ext);
}

static void random_change(void)
{
	uint64_t fb = rnd(NR), nr = rnd(rnd(4) ? 20 : 500);

	switch (rnd(6)) {
	case 0:
		punch(fb, fb + nr < NR ? fb + nr : NR);
		break;
	case 1:
		split(fb);
		break;
	case 2:
		own(fb);
		break;
	default:
		random_put();
	}
}

START_TEST(against_model)
{
	uint64_t nr_free;
	unsigned round;

	rnd_seed(_i);
	pool_make(64);
	nr_free = pool_free_blks();
	for (round = 0; round < 400; round++) {
		unsigned n = 1 + rnd(20);

		ok(msnap_op_begin(pool, 500));
		while (n--)
			random_change();
		ok(msnap_op_end(pool, 0));
		if (rnd(5) == 0)
			ok(msnap_commit(pool));
		compare();
		probe(rnd(NR));
	}
	compare_counts();
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	punch(0, NR);
	must(!tree.root.blk);
	ok(msnap_op_end(pool, 0));
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- particular cases ------------------------------------------------------------------ */

static unsigned nr_extents(void)
{
	struct msnap_cursor cur;
	unsigned nr = 0;
	int err = msnap_ext_seek(pool, &tree, 0, &cur);

	for (; !err; nr++)
		err = msnap_cursor_next(&cur);
	return nr;
}

/* An extent of the blocks that @blk.. says, whoever has them. */
static void put_at(uint64_t fb, uint64_t blk, unsigned nr, unsigned flags,
		   uint64_t gen)
{
	struct msnap_ext ext = { .fb = fb, .blk = blk, .nr = nr, .flags = flags,
				 .gen = gen };

	ok(msnap_ext_put(pool, &tree, &ext));
}

START_TEST(joins_what_continues)
{
	pool_make(8);
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	put_at(10, 100, 4, 0, 1);
	put_at(14, 104, 4, 0, 1);
	must(nr_extents() == 1);
	put_at(18, 108, 4, MSNAP_EXT_UNWRITTEN, 1);
	must(nr_extents() == 2); /* other flags */
	put_at(22, 112, 4, MSNAP_EXT_UNWRITTEN, 2);
	must(nr_extents() == 3); /* another generation */
	put_at(26, 117, 4, MSNAP_EXT_UNWRITTEN, 2);
	must(nr_extents() == 4); /* elsewhere */
	put_at(31, 121, 4, MSNAP_EXT_UNWRITTEN, 2);
	must(nr_extents() == 5); /* a hole between */
	fails(-EINTR, msnap_op_end(pool, -EINTR));
	pool_gone();
}
END_TEST

START_TEST(joins_up_to_the_largest)
{
	pool_make(512);
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	put_at(0, 100, 63, 0, 1);
	put_at(63, 163, 1, 0, 1);
	must(nr_extents() == 1);
	put_at(64, 164, 1, 0, 1);
	must(nr_extents() == 2);
	put_at(1000, 1000, 65000, MSNAP_EXT_UNWRITTEN, 1);
	put_at(66000, 66000, 535, MSNAP_EXT_UNWRITTEN, 1);
	must(nr_extents() == 3);
	put_at(66535, 66535, 1, MSNAP_EXT_UNWRITTEN, 1);
	must(nr_extents() == 4);
	fails(-EINTR, msnap_op_end(pool, -EINTR));
	pool_gone();
}
END_TEST

START_TEST(the_last_block_there_can_be)
{
	const uint64_t last = MSNAP_FILE_MAX >> MSNAP_BLOCK_SHIFT;
	struct msnap_cursor cur;
	uint64_t nr;

	pool_make(8);
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	put_at(last, 100, 1, MSNAP_EXT_UNWRITTEN, 1);
	ok(msnap_ext_seek(pool, &tree, last, &cur));
	ok(msnap_ext_punch(pool, &tree, last - 5, last, &nr));
	must(nr == 0);
	fails(-EINTR, msnap_op_end(pool, -EINTR));
	pool_gone();
}
END_TEST

START_TEST(slices)
{
	struct msnap_ext ext = { .fb = 10, .blk = 100, .nr = 8 };
	unsigned i;

	for (i = 0; i < 8; i++)
		ext.csum[i] = put64(i);
	msnap_ext_slice(&ext, 3, 4);
	must(ext.fb == 13 && ext.blk == 103 && ext.nr == 4);
	for (i = 0; i < 4; i++)
		must(get64(ext.csum[i]) == i + 3);
	ext.flags = MSNAP_EXT_UNWRITTEN;
	ext.nr = 60000;
	msnap_ext_slice(&ext, 50000, 5);
	must(ext.fb == 50013 && ext.blk == 50103 && ext.nr == 5);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("extent");
	TCase *tc = tcase_create("extent");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, against_model, 1, 5);
	tcase_add_test(tc, joins_what_continues);
	tcase_add_test(tc, joins_up_to_the_largest);
	tcase_add_test(tc, the_last_block_there_can_be);
	tcase_add_test(tc, slices);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
