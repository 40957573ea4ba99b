/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the copy-on-write tree against sorted arrays.
 *
 * The records are pieces of symbolic links of inodes that do not exist: they may
 * have any bytes, refer to nothing, and msnap_check() has nothing against them.
 * They live in the live namespace, so that snapshots share them.
 */
#include "util.h"

#include "cow/inode.h"

#define NR_KEYS 6000
#define PER_INO 50
#define FIRST 1000 /* inode */
#define NEXT 100000 /* above all of them */
#define NR_SNAPS 4

/* What a tree must hold: a value is its length (0: no record) and a seed. */
struct model {
	uint16_t len[NR_KEYS];
	uint16_t seed[NR_KEYS];
};

static struct model live, before, of_snap[NR_SNAPS];
static uint64_t snaps[NR_SNAPS];

static struct msnap_key key_of(unsigned k)
{
	return msnap_ns_key(FIRST + k / PER_INO, MSNAP_NS_SYMLINK, k % PER_INO);
}

static void value(unsigned k, unsigned seed, unsigned len, uint8_t *val)
{
	fill_bytes(val, k, len, seed);
}

static unsigned any_len(void)
{
	switch (rnd(8)) {
	case 0:
		return 1 + rnd(MSNAP_CHUNK);
	case 1:
		return MSNAP_CHUNK;
	case 2:
		return 1;
	default:
		return 1 + rnd(60);
	}
}

/* ---- comparing ------------------------------------------------------------------ */

static void compare_at(const struct msnap_cursor *cur, const struct model *m,
		       unsigned k)
{
	uint8_t want[MSNAP_VAL_MAX];
	unsigned len;
	const void *val = msnap_cursor_val(cur, &len);

	must(!msnap_key_cmp(msnap_cursor_key(cur), key_of(k)));
	must(len == m->len[k]);
	value(k, m->seed[k], len, want);
	must(!memcmp(val, want, len));
}

/* All records from the first of ours on, in order. */
static void compare(const struct msnap_tree *tree, const struct model *m)
{
	struct msnap_cursor cur;
	int err = msnap_cursor_seek(pool, tree, key_of(0), &cur);
	unsigned k;

	for (k = 0; k < NR_KEYS; k++) {
		if (!m->len[k])
			continue;
		ok(err);
		compare_at(&cur, m, k);
		err = msnap_cursor_next(&cur);
	}
	must(err == -ENOENT);
}

/* Lookups of one key, exact and by neighbour. */
static void probe(const struct msnap_tree *tree, const struct model *m, unsigned k)
{
	struct msnap_cursor cur;
	const void *val;
	unsigned len;
	int err = msnap_tree_get(pool, tree, key_of(k), &val, &len);
	int at;

	must(err == (m->len[k] ? 0 : -ENOENT));
	for (at = k; at >= 0 && !m->len[at]; at--)
		;
	err = msnap_cursor_seek_le(pool, tree, key_of(k), &cur);
	if (at >= 0)
		compare_at(&cur, m, at);
	else /* the root directory's inode, or nothing */
		must(err || msnap_cursor_key(&cur).hi < FIRST);
	for (at = k; at < NR_KEYS && !m->len[at]; at++)
		;
	err = msnap_cursor_seek(pool, tree, key_of(k), &cur);
	if (at < NR_KEYS)
		compare_at(&cur, m, at);
	else
		must(err == -ENOENT);
}

static void compare_all(void)
{
	unsigned i;

	compare(&pool->ns, &live);
	for (i = 0; i < 100; i++)
		probe(&pool->ns, &live, rnd(NR_KEYS));
	for (i = 0; i < NR_SNAPS; i++) {
		struct msnap_tree ns;

		if (!snaps[i])
			continue;
		ok(msnap_ns_of(pool, snaps[i], &ns));
		compare(&ns, &of_snap[i]);
	}
}

/* ---- changing ------------------------------------------------------------------- */

static void put(unsigned k, unsigned len, enum msnap_put_how how)
{
	uint8_t val[MSNAP_VAL_MAX];
	unsigned seed = rnd(65536);
	int err;

	value(k, seed, len, val);
	err = msnap_tree_put(pool, &pool->ns, key_of(k), val, len, how);
	if (how == MSNAP_PUT_NEW && live.len[k]) {
		must(err == -EEXIST);
	} else if (how == MSNAP_PUT_OLD && !live.len[k]) {
		must(err == -ENOENT);
	} else {
		ok(err);
		live.len[k] = len;
		live.seed[k] = seed;
	}
}

static void take(unsigned k)
{
	int err = msnap_tree_take(pool, &pool->ns, key_of(k));

	must(err == (live.len[k] ? 0 : -ENOENT));
	live.len[k] = 0;
}

static void cut(unsigned from, unsigned to)
{
	ok(msnap_tree_cut(pool, &pool->ns, key_of(from), key_of(to), NULL));
	memset(&live.len[from], 0, (to - from + 1) * sizeof(*live.len));
}

static void random_cut(void)
{
	unsigned from = rnd(NR_KEYS);
	unsigned nr = rnd(10) ? rnd(30) : rnd(100) ? rnd(1000) : NR_KEYS;

	cut(from, from + nr < NR_KEYS ? from + nr : NR_KEYS - 1);
}

static void random_change(unsigned grow)
{
	unsigned k = rnd(NR_KEYS);

	if (rnd(100) < grow)
		put(k, any_len(), rnd(3));
	else if (rnd(8))
		take(k);
	else
		random_cut();
}

static void begin(void)
{
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
}

static void random_op(unsigned grow)
{
	bool abort = rnd(6) == 0;
	unsigned n = 1 + rnd(rnd(4) ? 8 : 300);
	uint64_t raw = 0;

	if (abort) {
		before = live;
		raw = pool_raw();
	}
	begin();
	while (n--)
		random_change(grow);
	if (!abort) {
		ok(msnap_op_end(pool, 0));
		return;
	}
	fails(-EINTR, msnap_op_end(pool, -EINTR));
	live = before;
	must(pool_raw() == raw);
}

static void random_snap(void)
{
	unsigned i = rnd(NR_SNAPS);
	char name[8];

	if (snaps[i]) {
		ok(msnap_snap_delete(pool, snaps[i]));
		snaps[i] = 0;
		return;
	}
	snprintf(name, sizeof(name), "s%u", i);
	snaps[i] = snap_dir(name, ROOT);
	of_snap[i] = live;
}

static void random_run(uint64_t seed, unsigned rounds, unsigned grow)
{
	unsigned round;

	rnd_seed(seed);
	for (round = 0; round < rounds; round++) {
		random_op(round / 150 % 2 ? 100 - grow : grow);
		if (rnd(12) == 0)
			ok(msnap_commit(pool));
		if (rnd(25) == 0)
			random_snap();
		if (rnd(40) == 0)
			ok(msnap_pool_settle(pool));
		if (rnd(20) == 0)
			compare_all();
		if (rnd(60) == 0)
			pool_ok();
	}
	compare_all();
	pool_settled_ok();
}

/* All goes, and so must all space. */
static void empty_again(uint64_t free_before)
{
	unsigned i;

	begin();
	cut(0, NR_KEYS - 1);
	ok(msnap_op_end(pool, 0));
	for (i = 0; i < NR_SNAPS; i++)
		if (snaps[i])
			ok(msnap_snap_delete(pool, snaps[i]));
	must(pool_free_blks() == free_before);
	pool_ok();
}

static void against_model(uint64_t seed, unsigned grow)
{
	uint64_t nr_free;

	pool_make(64);
	pool->next_ino = NEXT;
	nr_free = pool_free_blks();
	random_run(seed, 1000, grow);
	pool_reopen(0); /* every node is verified anew */
	compare_all();
	pool_crash(MSNAP_OPEN_REBUILD);
	compare_all();
	random_run(seed + 100, 200, grow);
	empty_again(nr_free);
	pool_gone();
}

START_TEST(random_balanced)
{
	against_model(1 + _i, 55);
}
END_TEST

START_TEST(random_growing)
{
	against_model(50 + _i, 85);
}
END_TEST

/* ---- particular shapes ------------------------------------------------------------ */

/* A tree of its own, which no root names: values of any size and content. */
static struct msnap_tree own = { MSNAP_TREE_NS, 0, { 0, 0 } };

static void put_own(uint64_t hi, unsigned len)
{
	uint8_t val[MSNAP_VAL_MAX];

	fill_bytes(val, hi, len, 1);
	ok(msnap_tree_put(pool, &own, (struct msnap_key){ hi, 5ull << 56 }, val,
			  len, MSNAP_PUT_ANY));
}

static void check_own(uint64_t hi, unsigned len)
{
	uint8_t want[MSNAP_VAL_MAX];
	const void *val;
	unsigned got;

	ok(msnap_tree_get(pool, &own, (struct msnap_key){ hi, 5ull << 56 }, &val,
			  &got));
	fill_bytes(want, hi, len, 1);
	must(got == len && !memcmp(val, want, len));
}

static unsigned len_for(unsigned kind, uint64_t i)
{
	switch (kind) {
	case 0:
		return MSNAP_VAL_MAX;
	case 1:
		return i % 2 ? MSNAP_VAL_MAX : 0;
	case 2:
		return i * 7919 % (MSNAP_VAL_MAX + 1);
	default:
		return 0;
	}
}

static uint64_t place_for(unsigned order, uint64_t i, uint64_t nr)
{
	switch (order) {
	case 0:
		return i;
	case 1:
		return nr - 1 - i;
	default:
		return i * 7919 % nr;
	}
}

static void every_shape(unsigned kind, unsigned order)
{
	const uint64_t nr = 3001;
	uint64_t i;

	own.root = (struct msnap_ptr){ 0, 0 };
	begin();
	for (i = 0; i < nr; i++)
		put_own(place_for(order, i, nr), len_for(kind, i));
	for (i = 0; i < nr; i++)
		check_own(place_for(order, i, nr), len_for(kind, i));
	/* Each value takes another size. */
	for (i = 0; i < nr; i++)
		put_own(place_for(order, i, nr), len_for(kind, i + 1));
	for (i = 0; i < nr; i++)
		check_own(place_for(order, i, nr), len_for(kind, i + 1));
	for (i = 0; i < nr; i++)
		ok(msnap_tree_take(pool, &own,
				   (struct msnap_key){ place_for(order, i, nr),
						       5ull << 56 }));
	must(!own.root.blk);
	ok(msnap_op_end(pool, 0));
}

START_TEST(sizes_and_orders)
{
	uint64_t nr_free;
	unsigned kind, order;

	pool_make(64);
	nr_free = pool_free_blks();
	for (kind = 0; kind < 4; kind++)
		for (order = 0; order < 3; order++)
			every_shape(kind, order);
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

/* Keys in order leave full leaves behind them. */
START_TEST(appending_fills_leaves)
{
	struct msnap_space_stat was, now;
	uint64_t i;

	pool_make(16);
	msnap_space_stat(pool->space, &was);
	begin();
	for (i = 0; i < 20000; i++)
		put_own(i, 20);
	ok(msnap_op_end(pool, 0));
	msnap_space_stat(pool->space, &now);
	/* 40 bytes each, 101 in a leaf. */
	ck_assert_uint_lt(was.nr_free - now.nr_free, 20000 / 101 * 21 / 20);
	pool_gone();
}
END_TEST

/* Removing leaves no leaf nearly empty. */
START_TEST(removing_merges_leaves)
{
	struct msnap_space_stat was, now;
	uint64_t i;

	pool_make(16);
	begin();
	for (i = 0; i < 20000; i++)
		put_own(i, 20);
	ok(msnap_op_end(pool, 0));
	begin();
	for (i = 0; i < 20000; i++)
		if (i % 20)
			ok(msnap_tree_take(pool, &own,
					   (struct msnap_key){ i, 5ull << 56 }));
	ok(msnap_op_end(pool, 0));
	for (i = 0; i < 20000; i += 20)
		check_own(i, 20);
	ok(msnap_commit(pool));
	ok(msnap_commit(pool));
	msnap_space_stat(pool->space, &now);
	/* Nothing of it is left, with the pool as it was made to compare with. */
	begin();
	ok(msnap_tree_cut(pool, &own, (struct msnap_key){ 0, 0 },
			  (struct msnap_key){ 1ull << 40, 0 }, NULL));
	ok(msnap_op_end(pool, 0));
	pool_free_blks();
	msnap_space_stat(pool->space, &was);
	ck_assert_uint_lt(was.nr_free - now.nr_free - now.nr_pending, 60);
	pool_gone();
}
END_TEST

START_TEST(an_empty_tree)
{
	struct msnap_cursor cur;
	const void *val;
	unsigned len;
	struct msnap_key key = { 1, 5ull << 56 };

	pool_make(4);
	begin();
	fails(-ENOENT, msnap_tree_get(pool, &own, key, &val, &len));
	fails(-ENOENT, msnap_cursor_seek(pool, &own, key, &cur));
	fails(-ENOENT, msnap_cursor_seek_le(pool, &own, key, &cur));
	fails(-ENOENT, msnap_tree_take(pool, &own, key));
	fails(-ENOENT, msnap_tree_put(pool, &own, key, "x", 1, MSNAP_PUT_OLD));
	ok(msnap_tree_cut(pool, &own, key, key, NULL));
	ok(msnap_tree_drop(pool, MSNAP_TREE_NS, own.root));
	must(!own.root.blk);
	ok(msnap_tree_put(pool, &own, key, "x", 1, MSNAP_PUT_NEW));
	ok(msnap_tree_take(pool, &own, key));
	must(!own.root.blk);
	ok(msnap_op_end(pool, 0));
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- sharing ------------------------------------------------------------------------ */

/* Two roots of one tree go their own ways. */
START_TEST(shared_roots_stay_apart)
{
	struct msnap_tree other;
	const void *val;
	unsigned len;
	uint64_t i, nr_free;

	pool_make(16);
	nr_free = pool_free_blks();
	begin();
	for (i = 0; i < 5000; i++)
		put_own(i, 30);
	ok(msnap_op_get(pool, own.root.blk, 1));
	other = own;
	for (i = 0; i < 5000; i += 3)
		ok(msnap_tree_take(pool, &own,
				   (struct msnap_key){ i, 5ull << 56 }));
	ok(msnap_op_end(pool, 0));
	for (i = 0; i < 5000; i++) {
		struct msnap_key key = { i, 5ull << 56 };

		ok(msnap_tree_get(pool, &other, key, &val, &len));
		must(msnap_tree_get(pool, &own, key, &val, &len) ==
		     (i % 3 ? 0 : -ENOENT));
	}
	begin();
	ok(msnap_tree_drop(pool, MSNAP_TREE_NS, other.root));
	ok(msnap_op_end(pool, 0));
	ok(msnap_pool_settle(pool));
	for (i = 1; i < 5000; i += 3)
		check_own(i, 30);
	begin();
	ok(msnap_tree_drop(pool, MSNAP_TREE_NS, own.root));
	ok(msnap_op_end(pool, 0));
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

/* One write into a shared tree copies one path and no more. */
START_TEST(a_write_copies_a_path)
{
	struct msnap_tree other;
	struct msnap_space_stat was, now;
	uint64_t i;

	pool_make(64);
	begin();
	for (i = 0; i < 100000; i++)
		put_own(i, 30);
	ok(msnap_op_get(pool, own.root.blk, 1));
	other = own;
	ok(msnap_op_end(pool, 0));
	msnap_space_stat(pool->space, &was);
	begin();
	put_own(50000, 30);
	ok(msnap_op_end(pool, 0));
	msnap_space_stat(pool->space, &now);
	must(was.nr_free - now.nr_free <= 4);
	must(own.root.blk != other.root.blk);
	pool_gone();
}
END_TEST

/* The second write of a generation changes in place. */
START_TEST(a_path_is_copied_once_a_generation)
{
	struct msnap_space_stat was, now;
	uint64_t i;

	pool_make(16);
	begin();
	for (i = 0; i < 20000; i++)
		put_own(i, 30);
	ok(msnap_op_end(pool, 0));
	ok(msnap_commit(pool));
	begin();
	put_own(777, 30);
	ok(msnap_op_end(pool, 0));
	msnap_space_stat(pool->space, &was);
	for (i = 0; i < 100; i++) {
		begin();
		put_own(777, 1 + i % 30);
		ok(msnap_op_end(pool, 0));
	}
	msnap_space_stat(pool->space, &now);
	must(was.nr_free == now.nr_free && was.nr_pending == now.nr_pending);
	pool_gone();
}
END_TEST

/* ---- damage --------------------------------------------------------------------------- */

START_TEST(a_pointer_to_the_wrong_node)
{
	const struct msnap_node *n;
	struct msnap_ptr p;

	pool_make(4);
	p = pool->ns.root;
	ok(msnap_node_read(pool, p, MSNAP_TREE_NS, -1, &n));
	ok(msnap_node_read(pool, p, MSNAP_TREE_NS, 0, &n));
	fails(-EUCLEAN, msnap_node_read(pool, p, MSNAP_TREE_NS, 1, &n));
	must(pool->read_only);
	fails(-EUCLEAN, msnap_node_read(pool, p, MSNAP_TREE_EXTENT, 0, &n));
	p.gen++;
	fails(-EUCLEAN, msnap_node_read(pool, p, MSNAP_TREE_NS, 0, &n));
	p.blk = pool->nr_blocks;
	fails(-EUCLEAN, msnap_node_read(pool, p, MSNAP_TREE_NS, 0, &n));
	p.blk = 3;
	fails(-EUCLEAN, msnap_node_read(pool, p, MSNAP_TREE_NS, 0, &n));
	p.blk = 500;
	fails(-EUCLEAN, msnap_node_read(pool, p, MSNAP_TREE_NS, 0, &n));
	pool_gone();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree");
	TCase *tc = tcase_create("tree");

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, random_balanced, 0, 3);
	tcase_add_loop_test(tc, random_growing, 0, 2);
	tcase_add_test(tc, sizes_and_orders);
	tcase_add_test(tc, appending_fills_leaves);
	tcase_add_test(tc, removing_merges_leaves);
	tcase_add_test(tc, an_empty_tree);
	tcase_add_test(tc, shared_roots_stay_apart);
	tcase_add_test(tc, a_write_copies_a_path);
	tcase_add_test(tc, a_path_is_copied_once_a_generation);
	tcase_add_test(tc, a_pointer_to_the_wrong_node);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
